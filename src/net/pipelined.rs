//! The answer to a request that was pipelined, while an earlier answer of its connection is still being sent: a bounded buffer
//! between the exchange, which writes a [`Pipelined`] like a connection with one request, and the connection's task, which has
//! the [`Answer`]. What is full holds its writer back. Never looks whole when it is not.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::watch::{Alarm, Interrupt, Watch};
use crate::limits::PIPELINED_ANSWER_BYTES;

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next answer follows.
    KeepAlive,
    /// It ends in order: the answer is whole, or its framing shows that it is not.
    Close,
    /// It ends by a reset: nothing else would show that the answer is not whole.
    Reset,
}

/// The writing end. Dropped before its end was said, the answer ends with [`After::Reset`].
pub struct Pipelined {
    shared: Rc<RefCell<Shared>>,
    watch: Watch,
}

/// The reading end. Dropped before the answer has ended, it ends the exchange behind the other one.
pub struct Answer {
    shared: Rc<RefCell<Shared>>,
    alarm: Alarm,
}

/// Writes for another task of the same core while the owner of the writing end does not write itself.
pub struct DirectWriter(Rc<RefCell<Shared>>);

#[derive(Default)]
struct Shared {
    bytes: Vec<u8>,
    end: Option<After>,
    /// The reading end is dropped.
    is_abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both ends of a new answer.
pub fn answer() -> (Pipelined, Answer) {
    let (shared, watch) = (Rc::new(RefCell::new(Shared::default())), Watch::detached());
    let alarm = watch.alarm();
    (Pipelined { shared: shared.clone(), watch }, Answer { shared, alarm })
}

impl Shared {
    /// Appends as much of `bytes` as there is room for; its length.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(PIPELINED_ANSWER_BYTES.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Writes all of `bytes` if there is room for them. `None`: nothing was written.
fn post(shared: &RefCell<Shared>, bytes: &[u8]) -> Option<io::Result<()>> {
    let reader = {
        let mut shared = shared.borrow_mut();
        if shared.is_abandoned {
            return Some(Err(gone()));
        }
        if shared.bytes.len() + bytes.len() > PIPELINED_ANSWER_BYTES {
            return None;
        }
        shared.append(bytes);
        shared.reader.take()
    };
    wake(reader);
    Some(Ok(()))
}

impl DirectWriter {
    /// False: nothing was written, and the owner has to handle it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        matches!(post(&self.0, bytes), Some(Ok(())))
    }
}

impl Pipelined {
    /// Its deadlines and alarms end writes as for a socket.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    pub fn direct_writer(&self) -> DirectWriter {
        DirectWriter(self.shared.clone())
    }

    /// See [`super::Socket::post`].
    pub fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        post(&self.shared, bytes)
    }

    /// Writes all of `bytes`.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|context| self.poll_write_part(bytes, context)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes a part of `bytes`, once there is room; its length.
    pub fn poll_write_part(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (count, reader) = {
            let mut shared = self.shared.borrow_mut();
            if shared.is_abandoned {
                return Poll::Ready(Err(gone()));
            }
            let count = shared.append(bytes);
            if count == 0 {
                shared.writer = Some(context.waker().clone());
                return match self.watch.poll_down(context.waker()) {
                    None => Poll::Pending,
                    Some(_) => Poll::Ready(Err(gone())),
                };
            }
            (count, shared.reader.take())
        };
        wake(reader);
        Poll::Ready(Ok(count))
    }

    /// Ends the answer behind what was written.
    pub fn end(&mut self, after: After) {
        let reader = {
            let mut shared = self.shared.borrow_mut();
            shared.end.get_or_insert(after);
            shared.reader.take()
        };
        wake(reader);
    }
}

impl Drop for Pipelined {
    fn drop(&mut self) {
        self.end(After::Reset);
    }
}

impl Answer {
    /// Moves what is there to the end of `out`. What becomes of the connection, once nothing is left of the answer.
    pub fn take(&mut self, out: &mut Vec<u8>) -> Option<After> {
        let (writer, end) = {
            let mut shared = self.shared.borrow_mut();
            out.extend_from_slice(&shared.bytes);
            shared.bytes.clear();
            (shared.writer.take(), shared.end)
        };
        wake(writer);
        end
    }

    /// Waits until there is something to take.
    pub fn poll_some(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        if !shared.bytes.is_empty() || shared.end.is_some() {
            return Poll::Ready(());
        }
        shared.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Tells the exchange that its client has ended its direction.
    pub fn half_closed(&self) {
        self.alarm.tell(Interrupt::HalfClosed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let (writer, has_ended) = {
            let mut shared = self.shared.borrow_mut();
            shared.is_abandoned = true;
            shared.bytes = Vec::new();
            (shared.writer.take(), shared.end.is_some())
        };
        wake(writer);
        if !has_ended {
            self.alarm.interrupt();
        }
    }
}

#[cfg(all(test, not(sim)))]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::{After, answer};
    use crate::limits::PIPELINED_ANSWER_BYTES;
    use crate::net::runtime::run_data_core;

    fn with(test: impl FnOnce(&mut Context<'_>)) {
        run_data_core(async { test(&mut Context::from_waker(Waker::noop())) }).expect("a ring");
    }

    #[test]
    fn a_full_buffer_holds_its_writer_back_until_it_is_taken() {
        with(|context| {
            let (mut writer, mut reader) = answer();
            let large = vec![b'x'; PIPELINED_ANSWER_BYTES + 10];
            assert!(writer.post(&large).is_none(), "more than there is room for");
            let Poll::Ready(Ok(count)) = writer.poll_write_part(&large, context) else { panic!("there is room") };
            assert_eq!(count, PIPELINED_ANSWER_BYTES);
            assert!(writer.poll_write_part(&large[count..], context).is_pending());
            assert!(writer.post(b"").is_some() && writer.post(b"y").is_none());
            let mut out = b"front".to_vec();
            assert_eq!(reader.take(&mut out), None);
            assert_eq!(out.len(), 5 + PIPELINED_ANSWER_BYTES);
            assert!(matches!(writer.poll_write_part(&large[count..], context), Poll::Ready(Ok(10))));
            writer.end(After::Close);
            assert!(reader.poll_some(context).is_ready());
            out.clear();
            assert_eq!((reader.take(&mut out), out.len()), (Some(After::Close), 10));
        });
    }

    #[test]
    fn an_answer_without_an_end_ends_with_a_reset_and_one_that_nobody_reads_is_interrupted() {
        with(|context| {
            let (mut writer, mut reader) = answer();
            assert!(writer.post(b"half").is_some());
            drop(writer);
            assert_eq!(reader.take(&mut Vec::new()), Some(After::Reset));
            let (mut writer, reader) = answer();
            drop(reader);
            assert!(writer.watch().take_interrupt().is_some());
            assert!(matches!(writer.post(b"x"), Some(Err(_))));
            assert!(matches!(writer.poll_write_part(b"x", context), Poll::Ready(Err(_))));
            let (writer, reader) = answer();
            reader.half_closed();
            assert_eq!(writer.watch().take_interrupt(), Some(crate::net::watch::Interrupt::HalfClosed));
        });
    }
}
