//! A stream of events that means nothing here, on its way into a flight's log: every byte as it came, cut at the ends of
//! events alone, so that an event of this gateway's own can follow wherever the stream breaks off. Owns the part of an
//! event that has not come whole.

use crate::wire::sse::Splitter;

#[derive(Default)]
pub struct Blocks {
    splitter: Splitter,
    pending: Vec<u8>,
    /// An event is longer than is held back: from there on bytes go as they come.
    is_raw: bool,
}

impl Blocks {
    /// Appends the whole events that have come with `bytes` to `log`.
    pub fn take_in(&mut self, bytes: &[u8], log: &mut Vec<u8>) {
        if self.is_raw {
            return log.extend_from_slice(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut end = 0;
        loop {
            match self.splitter.next(&self.pending) {
                Ok(Some(event)) => end = event.whole.end as usize,
                Ok(None) => break,
                Err(_) => {
                    self.is_raw = true;
                    return log.append(&mut self.pending);
                }
            }
        }
        let released = self.splitter.release();
        debug_assert_eq!(end, released);
        log.extend_from_slice(&self.pending[..released]);
        self.pending.drain(..released);
    }

    /// Appends what is left: the stream has ended properly.
    pub fn end(&mut self, log: &mut Vec<u8>) {
        log.append(&mut self.pending);
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn bytes_are_passed_on_up_to_the_end_of_an_event() {
        let stream = b"event: a\ndata: 1\n\n: ping\r\n\r\ndata: x\ndata: y\n\nid: 7\n\ndata: cut";
        for step in 1..stream.len() {
            let (mut blocks, mut log) = (Blocks::default(), Vec::new());
            for part in stream.chunks(step) {
                blocks.take_in(part, &mut log);
                // A line feed may belong to the line end before it.
                let ends: [&[u8]; 3] = [b"\n\n", b"\r\n\r", b"\r\n\r\n"];
                assert!(log.is_empty() || ends.iter().any(|end| log.ends_with(end)), "{log:?}");
                assert!(stream.starts_with(&log));
            }
            assert!(stream.starts_with(&log) && log.ends_with(b"id: 7\n\n"));
            blocks.end(&mut log);
            assert_eq!(log, stream);
        }
    }
}
