//! The sending side of an HTTP/2 connection: what its streams send in a round is gathered and leaves at once, by one send and
//! under TLS in one record. The library would send each larger frame by itself. Owned by the connection's task and the
//! library's half of it; never keeps more than is sent at once.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Duplex;

/// Most that is gathered: with what TLS adds it is one record, and one posted send.
const GATHERED_BYTES: usize = 15 << 10;

/// Sends without waiting.
pub trait Post {
    /// See [`crate::net::Socket::post`].
    fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>>;
}

impl Post for Duplex {
    fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        Duplex::post(self, bytes)
    }
}

/// The library's half. Flushing it does nothing but make room.
pub(super) struct Gathered<T>(Rc<RefCell<Shared<T>>>);

/// The task's half: sends what was gathered.
pub(super) struct Outgoing<T>(Rc<RefCell<Shared<T>>>);

struct Shared<T> {
    io: T,
    bytes: Vec<u8>,
    /// Those before it are sent.
    at: usize,
    /// How many bytes the transport has taken of all that did not leave at once.
    taken: u64,
    is_stuck: bool,
}

pub(super) fn gather<T>(io: T) -> (Gathered<T>, Outgoing<T>) {
    let shared = Rc::new(RefCell::new(Shared { io, bytes: Vec::new(), at: 0, taken: 0, is_stuck: false }));
    (Gathered(shared.clone()), Outgoing(shared))
}

impl<T: AsyncWrite + Post + Unpin> Outgoing<T> {
    /// Sends what was gathered. Without room for it the task is woken once there is.
    /// Errors: of the transport. The library finds them again.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(context)
    }

    /// How many bytes the transport has taken, if it takes no more.
    pub fn stuck_at(&self) -> Option<u64> {
        let shared = self.0.borrow();
        shared.is_stuck.then_some(shared.taken)
    }
}

impl<T: AsyncRead + Unpin> Outgoing<T> {
    /// Reads on and drops what comes, until the peer ends its direction, or `left` bytes have come.
    pub fn poll_drain(&self, left: &mut usize, context: &mut Context<'_>) -> Poll<()> {
        let mut room = [MaybeUninit::uninit(); 1024];
        while *left > 0 {
            let mut buffer = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut self.0.borrow_mut().io).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncWrite + Post + Unpin> Shared<T> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() && !self.is_stuck {
            return Poll::Ready(Ok(()));
        }
        let sent = self.poll_send_all(context);
        self.is_stuck = sent.is_pending();
        sent
    }

    fn poll_send_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.at == 0
            && !self.is_stuck
            && let Some(posted) = self.io.post(&self.bytes)
        {
            self.bytes.clear();
            return Poll::Ready(posted);
        }
        while self.at < self.bytes.len() {
            match ready!(Pin::new(&mut self.io).poll_write(context, &self.bytes[self.at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => (self.at, self.taken) = (self.at + count, self.taken + count as u64),
            }
        }
        self.bytes.clear();
        self.at = 0;
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Gathers as much of `parts` as there is room for, at least one byte.
    fn poll_gather(&mut self, parts: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.len() == GATHERED_BYTES {
            ready!(self.poll_send(context))?;
        }
        let before = self.bytes.len();
        for part in parts {
            let room = GATHERED_BYTES - self.bytes.len();
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        Poll::Ready(Ok(self.bytes.len() - before))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Post + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_gather(parts, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        ready!(shared.poll_send(context))?;
        Pin::new(&mut shared.io).poll_shutdown(context)
    }
}
