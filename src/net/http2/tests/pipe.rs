//! Two ends of an in-memory connection, with limited buffer space in each direction.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One direction.
#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    room: usize,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Lane {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.wakers.push(context.waker().clone());
        Poll::Pending
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

pub struct End {
    incoming: Rc<RefCell<Lane>>,
    outgoing: Rc<RefCell<Lane>>,
}

pub fn pipe(room: usize) -> (End, End) {
    let lane = || Rc::new(RefCell::new(Lane { room, ..Lane::default() }));
    let (left, right) = (lane(), lane());
    (End { incoming: left.clone(), outgoing: right.clone() }, End { incoming: right, outgoing: left })
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lane = self.incoming.borrow_mut();
        if lane.bytes.is_empty() && !lane.closed {
            return lane.wait(context);
        }
        let count = lane.bytes.len().min(buffer.remaining());
        let bytes: Vec<u8> = lane.bytes.drain(..count).collect();
        buffer.put_slice(&bytes);
        lane.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lane = self.outgoing.borrow_mut();
        if lane.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(lane.room - lane.bytes.len());
        if count == 0 {
            return lane.wait(context);
        }
        lane.bytes.extend(&bytes[..count]);
        lane.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lane = self.outgoing.borrow_mut();
        lane.closed = true;
        lane.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for lane in [&self.incoming, &self.outgoing] {
            let mut lane = lane.borrow_mut();
            lane.closed = true;
            lane.wake();
        }
    }
}
