//! Where the frames and field blocks of a client's connection end, by the headers of its frames alone: the library does not tell
//! that it waits for the rest of a head. Pure.

/// RFC 9113 4.1.
const HEADER_BYTES: usize = 9;
/// RFC 9113 6.2 and 6.10.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Position within the frames.
pub(super) struct Blocks {
    /// Bytes to pass over: the preface, or the rest of a payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    /// The frame in hand is of a field block, and whether it is the block's last.
    is_of_block: bool,
    ends_block: bool,
    /// A block has begun and not ended.
    is_open: bool,
}

impl Blocks {
    /// `skip` bytes come before the first frame.
    pub fn new(skip: usize) -> Blocks {
        Blocks { skip, header: [0; HEADER_BYTES], have: 0, is_of_block: false, ends_block: false, is_open: false }
    }

    /// Passes over `bytes`. Whether a field block has begun and not ended.
    pub fn advance(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                (self.skip, bytes) = (self.skip - step, &bytes[step..]);
            } else {
                let step = (HEADER_BYTES - self.have).min(bytes.len());
                self.header[self.have..self.have + step].copy_from_slice(&bytes[..step]);
                (self.have, bytes) = (self.have + step, &bytes[step..]);
                if self.have < HEADER_BYTES {
                    break;
                }
                let [high, middle, low, kind, flags, ..] = self.header;
                (self.have, self.skip) = (0, u32::from_be_bytes([0, high, middle, low]) as usize);
                self.is_of_block = matches!(kind, HEADERS | CONTINUATION);
                self.ends_block = self.is_of_block && flags & END_HEADERS != 0;
                self.is_open |= self.is_of_block;
            }
            if self.skip == 0 && self.ends_block {
                (self.is_open, self.ends_block) = (false, false);
            }
        }
        self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = (payload as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, 0);
        frame
    }

    #[test]
    fn a_block_is_open_from_its_first_frame_to_the_end_of_its_last_wherever_the_bytes_are_split() {
        let (settings, data) = (frame(4, 0, 30), frame(0, 0, 300));
        let whole = frame(HEADERS, END_HEADERS | 1, 20);
        let empty = frame(CONTINUATION, END_HEADERS, 0);
        let parts = [frame(HEADERS, 0, 20), frame(CONTINUATION, 0, 70), frame(CONTINUATION, 0, 0), empty];
        let all = [&b"preface"[..], &settings, &data, &whole, &data, &parts.concat(), &data, &whole[..15]].concat();
        // By the position behind each byte.
        let mut blocks = Blocks::new(7);
        let open: Vec<bool> = all.iter().map(|byte| blocks.advance(&[*byte])).collect();
        let first = 7 + settings.len() + data.len();
        let second = first + whole.len() + data.len();
        let third = second + parts.concat().len() + data.len();
        for (place, is_open) in open.iter().enumerate() {
            let within = |from: usize, length: usize| (from + HEADER_BYTES - 1..from + length - 1).contains(&place);
            let expected =
                within(first, whole.len()) || within(second, parts.concat().len()) || within(third, whole.len());
            assert_eq!(*is_open, expected, "behind byte {place}");
        }
        for step in [2, 3, 9, 10, 100, 1000] {
            let mut blocks = Blocks::new(7);
            let mut at = 0;
            for part in all.chunks(step) {
                at += part.len();
                assert_eq!(blocks.advance(part), open[at - 1], "{step} at {at}");
            }
        }
    }
}
