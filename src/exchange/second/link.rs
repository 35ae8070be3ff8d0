//! One core's connection to Redis: commands go out in order, replies come back in order, and nobody waits for a command that is
//! only to be done. What waits when the connection ends gets no reply. Owned by the core; one task moves the bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::limits::{REDIS_PENDING_BYTES, REDIS_REPLY_BYTES};
use crate::net::{Duplex, now_ms};
use crate::wire::resp::{self, Reply};

/// A connection whose oldest command has no reply after so long is given up.
const STALLED_MS: u64 = 2_000;
/// A larger buffer is not kept.
const KEPT_BYTES: usize = 64 << 10;

/// What a command waits for.
enum Waiting {
    /// For nothing.
    Nobody,
    Somebody(Rc<Answer>),
}

/// The reply to one command, with its text.
#[derive(Default)]
pub struct Answer {
    state: RefCell<AnswerState>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
enum AnswerState {
    #[default]
    Pending,
    Here(Reply, Vec<u8>),
    /// The connection ended, or the reply was taken.
    Gone,
}

impl Answer {
    fn set(&self, state: AnswerState) {
        self.state.replace(state);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether there is no reply yet.
    pub fn is_pending(&self) -> bool {
        matches!(*self.state.borrow(), AnswerState::Pending)
    }

    /// Waits for the reply; none if the connection ends first.
    pub async fn wait(&self) -> Option<(Reply, Vec<u8>)> {
        poll_fn(|context| {
            if let AnswerState::Pending = *self.state.borrow() {
                self.waker.replace(Some(context.waker().clone()));
                return Poll::Pending;
            }
            match self.state.replace(AnswerState::Gone) {
                AnswerState::Here(reply, text) => Poll::Ready(Some((reply, text))),
                AnswerState::Pending | AnswerState::Gone => Poll::Ready(None),
            }
        })
        .await
    }
}

/// See the module.
#[derive(Default)]
pub struct Link {
    is_open: Cell<bool>,
    out: RefCell<Vec<u8>>,
    waiting: RefCell<VecDeque<(Waiting, u64)>>,
    task: RefCell<Option<Waker>>,
    /// The last error in reply to a command whose reply nobody wants; of interest if it says that the server is not the right one.
    refusal: RefCell<Option<Vec<u8>>>,
}

impl Link {
    /// Whether commands may be sent.
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Sends a command whose reply is wanted. None: there is no connection, or too much waits to be sent.
    pub fn ask(&self, parts: &[&[u8]]) -> Option<Rc<Answer>> {
        let answer = Rc::<Answer>::default();
        self.send(parts, Waiting::Somebody(answer.clone())).then_some(answer)
    }

    /// Sends a command whose reply is not wanted. False: it was not sent.
    pub fn tell(&self, parts: &[&[u8]]) -> bool {
        self.send(parts, Waiting::Nobody)
    }

    /// What was refused since it was last asked.
    pub fn take_refusal(&self) -> Option<Vec<u8>> {
        self.refusal.borrow_mut().take()
    }

    fn send(&self, parts: &[&[u8]], waiting: Waiting) -> bool {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = self.out.borrow_mut();
        if !self.is_open.get() || out.len() + bytes > REDIS_PENDING_BYTES {
            return false;
        }
        resp::command(parts, &mut out);
        self.waiting.borrow_mut().push_back((waiting, now_ms()));
        if let Some(task) = self.task.take() {
            task.wake();
        }
        true
    }

    /// Gives up a connection that has been silent for too long. For a timer.
    pub fn tick(&self) {
        let is_stalled = self.waiting.borrow().front().is_some_and(|(_, since)| now_ms() >= since + STALLED_MS);
        if is_stalled {
            self.close();
        }
    }

    /// Gives up the connection.
    pub fn close(&self) {
        self.is_open.set(false);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Serves commands on `stream` until it ends. Errors: why it ended.
    pub async fn serve(&self, stream: &mut Duplex) -> io::Error {
        self.is_open.set(true);
        let _open = Open(self);
        let mut input = Vec::new();
        poll_fn(|context| self.poll(stream, &mut input, context)).await
    }

    fn poll(&self, stream: &mut Duplex, input: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Error> {
        self.task.replace(Some(context.waker().clone()));
        if !self.is_open.get() {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        loop {
            let mut out = self.out.borrow_mut();
            if out.is_empty() {
                break;
            }
            match stream.poll_write_part(&out, context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => _ = out.drain(..written),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(error)) = stream.poll_pass_on(context) {
            return Poll::Ready(error);
        }
        loop {
            match stream.poll_read_all(input, context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            }
            if let Err(error) = self.take(input) {
                return Poll::Ready(error);
            }
        }
    }

    /// Hands on the replies that are here whole.
    fn take(&self, input: &mut Vec<u8>) -> io::Result<()> {
        let malformed = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut at = 0;
        while let Some((reply, length)) =
            resp::reply(&input[at..], REDIS_REPLY_BYTES).map_err(|fault| malformed(fault.to_string()))?
        {
            let Some((waiting, _)) = self.waiting.borrow_mut().pop_front() else {
                return Err(malformed("a reply that nobody asked for".to_owned()));
            };
            match (waiting, reply) {
                (Waiting::Somebody(answer), reply) if Rc::strong_count(&answer) > 1 => {
                    answer.set(AnswerState::Here(reply, input[at..at + length].to_vec()));
                }
                (Waiting::Nobody, Reply::Error(span)) => {
                    self.refusal.replace(Some(span.of(&input[at..]).to_vec()));
                }
                _ => {}
            }
            at += length;
        }
        input.drain(..at);
        if input.is_empty() {
            input.shrink_to(KEPT_BYTES);
        }
        Ok(())
    }
}

/// An open connection. Dropped, nothing is sent and nobody waits any more.
struct Open<'a>(&'a Link);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.is_open.set(false);
        self.0.out.borrow_mut().clear();
        for (waiting, _) in self.0.waiting.take() {
            if let Waiting::Somebody(answer) = waiting {
                answer.set(AnswerState::Gone);
            }
        }
    }
}
