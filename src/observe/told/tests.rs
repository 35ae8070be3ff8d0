//! A standard error that is read, and one that is not.

use std::sync::mpsc::{Sender, channel};

use super::*;

/// Passes on what is written, and blocks before each write until it is released.
struct Pipe {
    written: Sender<Vec<u8>>,
    room: Receiver<()>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.room.recv();
        let _ = self.written.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pipe() -> (Pipe, Sender<()>, Receiver<Vec<u8>>) {
    let ((written, read), (go, room)) = (channel(), channel());
    (Pipe { written, room }, go, read)
}

#[test]
fn lines_are_written_in_order_and_a_flush_waits_for_them() {
    let (pipe, go, read) = pipe();
    drop(go);
    let queue = Queue::start(pipe);
    for line in ["one\n", "two\n", "three\n"] {
        queue.push(line.as_bytes());
    }
    queue.flush(Duration::from_secs(60));
    assert_eq!(read.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\nthree\n");
    assert_eq!(queue.state.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn who_tells_never_waits_and_what_waits_is_bounded() {
    let (pipe, _go, _read) = pipe();
    let queue = Queue::start(pipe);
    let line = vec![b'x'; TOLD_BYTES / 8];
    for _ in 0..100 {
        queue.push(&line);
    }
    assert!(queue.state.bytes.load(Ordering::Relaxed) <= TOLD_BYTES);
    assert!(queue.state.dropped.load(Ordering::Relaxed) >= 92);
    for _ in 0..10 * TOLD_LINES {
        queue.push(b"");
    }
    assert!(queue.state.dropped.load(Ordering::Relaxed) as usize > 9 * TOLD_LINES);
    // Nor does the end of the process wait for long.
    queue.flush(Duration::from_millis(1));
}
