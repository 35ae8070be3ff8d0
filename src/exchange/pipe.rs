//! A body on its way from a client to a backend, that is never whole in memory: what the client's task has read and the call has
//! not sent. Of one core. Either side learns when the other one ends, and a body that broke off never looks complete.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Most bytes that wait, and a piece more.
const ROOM_BYTES: usize = 64 << 10;

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How the client's side ended.
    end: Option<Result<(), BrokenOff>>,
    /// The call takes no more.
    is_closed: bool,
    /// Something was taken: the body cannot be sent to another backend.
    is_begun: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The client's side ended within the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenOff;

/// The call takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The client's side. Dropped before its end, the body has broken off.
pub struct PipeWriter(Rc<RefCell<State>>);

/// The call's side. Dropped, nothing more is taken.
pub struct PipeReader(Rc<RefCell<State>>);

/// What a call gets of a body beside its first part.
pub struct UploadRest {
    pub pipe: PipeReader,
    /// Its length, if the client said it.
    pub length: Option<u64>,
}

pub fn pipe() -> (PipeWriter, PipeReader) {
    let state = Rc::new(RefCell::new(State::default()));
    (PipeWriter(state.clone()), PipeReader(state))
}

impl State {
    fn end(&mut self, end: Result<(), BrokenOff>) {
        self.end.get_or_insert(end);
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl PipeWriter {
    /// Waits until there is room.
    pub async fn room(&self) -> Result<(), Closed> {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.is_closed {
                return Poll::Ready(Err(Closed));
            }
            if state.bytes.len() < ROOM_BYTES {
                return Poll::Ready(Ok(()));
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for `work`, and drops it when the call takes no more.
    pub async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Result<T, Closed> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.0.borrow().is_closed {
                return Poll::Ready(Err(Closed));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            self.0.borrow_mut().writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        state.bytes.extend_from_slice(bytes);
        state.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The body is whole.
    pub fn finish(self) {
        self.0.borrow_mut().end(Ok(()));
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.borrow_mut().end(Err(BrokenOff));
    }
}

impl PipeReader {
    /// Puts what comes next in the place of what is in `bytes`. False: the body is whole.
    pub async fn next(&self, bytes: &mut Vec<u8>) -> Result<bool, BrokenOff> {
        bytes.clear();
        poll_fn(|context| self.poll_next(bytes, context)).await
    }

    fn poll_next(&self, bytes: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<Result<bool, BrokenOff>> {
        let mut state = self.0.borrow_mut();
        if state.end == Some(Err(BrokenOff)) {
            return Poll::Ready(Err(BrokenOff));
        }
        if !state.bytes.is_empty() {
            std::mem::swap(bytes, &mut state.bytes);
            state.is_begun = true;
            state.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(true));
        }
        if state.end.is_some() {
            return Poll::Ready(Ok(false));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether something was taken.
    pub fn is_begun(&self) -> bool {
        self.0.borrow().is_begun
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.is_closed = true;
        state.writer.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_body_goes_through_piece_by_piece_and_within_its_bound() {
        let (writer, reader) = pipe();
        let mut bytes = b"before".to_vec();
        assert_eq!(now(reader.next(&mut bytes)), None);
        writer.push(b"one");
        writer.push(b" two");
        assert!(!reader.is_begun());
        assert_eq!((now(reader.next(&mut bytes)), &bytes[..]), (Some(Ok(true)), &b"one two"[..]));
        assert!(reader.is_begun());
        writer.push(&vec![0; ROOM_BYTES]);
        assert_eq!(now(writer.room()), None);
        assert_eq!(now(reader.next(&mut bytes)), Some(Ok(true)));
        assert_eq!(now(writer.room()), Some(Ok(())));
        writer.push(b"last");
        writer.finish();
        assert_eq!((now(reader.next(&mut bytes)), &bytes[..]), (Some(Ok(true)), &b"last"[..]));
        assert_eq!(now(reader.next(&mut bytes)), Some(Ok(false)));
    }

    #[test]
    fn either_side_learns_that_the_other_has_ended() {
        let (writer, reader) = pipe();
        writer.push(b"a part");
        drop(writer);
        assert_eq!(
            now(reader.next(&mut Vec::new())),
            Some(Err(BrokenOff)),
            "a part is not sent as if it were the rest"
        );
        let (writer, reader) = pipe();
        assert_eq!(now(writer.unless_closed(std::future::pending::<()>())), None);
        drop(reader);
        assert_eq!(now(writer.room()), Some(Err(Closed)));
        assert_eq!(now(writer.unless_closed(std::future::pending::<()>())), Some(Err(Closed)));
    }
}
