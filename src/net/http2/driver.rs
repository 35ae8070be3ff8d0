//! Drives one connection: moves its frames, passes what the peer announces to the handles, and detects a peer that is
//! silent while it owes answers. Owns the transport and ends with it. It never wakes itself: it waits for the
//! transport, for a handle that has something to send, or for its timer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Condition, Http2Fault, Http2Settings, State, fault};
use crate::net::{now_ms, sleep_ms};

/// The transport, and when the peer was last heard.
pub(super) struct ObservedIo<T> {
    io: T,
    state: Rc<State>,
}

impl<T> ObservedIo<T> {
    pub(super) fn new(io: T, state: Rc<State>) -> ObservedIo<T> {
        ObservedIo { io, state }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ObservedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        self.state.heard_ms.set(now_ms());
        Poll::Ready(result.map_err(|error| {
            let kind = error.kind();
            self.state.broken.replace(Some(error));
            kind.into()
        }))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ObservedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// What the timer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// No answer is owed.
    Off,
    /// Answers are owed.
    Silence,
    /// A PING was sent; the peer had last been heard at this time.
    Pong { heard_ms: u64 },
    /// The last frames have to be sent.
    Closing,
}

/// The future that drives a connection; it resolves to the reason when the connection is closed. Dropping it closes the
/// connection abruptly.
#[must_use = "a connection does nothing unless its driver runs"]
pub struct Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    connection: client::Connection<ObservedIo<T>, Bytes>,
    /// To detect GOAWAY; gone with the last handle.
    requests: Weak<SendRequest<Bytes>>,
    pings: Option<PingPong>,
    state: Rc<State>,
    settings: Http2Settings,
    clock: Clock,
    timer: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<T> Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(
        mut connection: client::Connection<ObservedIo<T>, Bytes>,
        requests: Weak<SendRequest<Bytes>>,
        state: Rc<State>,
        settings: Http2Settings,
    ) -> Driver<T> {
        let pings = connection.ping_pong();
        let driver = Driver { connection, requests, pings, state, settings, clock: Clock::Off, timer: None };
        driver.notice();
        driver
    }

    /// Applies what the frames just received have changed.
    fn notice(&self) {
        let allowed = self.connection.max_concurrent_send_streams();
        self.state.set_streams_limit(allowed.min(self.settings.streams_max));
        if self.state.condition.get() == Condition::Open
            && let Some(requests) = self.requests.upgrade()
        {
            // A clone that has sent nothing is ready at once, or refused permanently.
            let ready = SendRequest::clone(&requests).poll_ready(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Err(_)) = ready {
                self.state.worsen(Condition::Retiring);
            }
        }
    }

    fn is_leaving(&self) -> bool {
        self.requests.strong_count() == 0 || self.state.condition.get() != Condition::Open
    }

    fn start(&mut self, clock: Clock, ms: u64) {
        self.clock = clock;
        self.timer = Some(Box::pin(sleep_ms(ms.max(1))));
    }

    /// Ready when the peer is considered dead.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let owed = self.state.streams_open.get() > 0;
            match self.clock {
                Clock::Off | Clock::Closing if owed => self.listen(),
                Clock::Off | Clock::Silence | Clock::Pong { .. } if !owed && self.is_leaving() => {
                    self.start(Clock::Closing, self.settings.close_timeout_ms);
                }
                // Any frame is a sign of life: the PONG may be queued behind an answer.
                Clock::Pong { heard_ms } if owed && heard_ms != self.state.heard_ms.get() => self.listen(),
                _ => {}
            }
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(context));
            self.timer = None;
            match self.clock {
                Clock::Off => {}
                Clock::Silence | Clock::Pong { .. } if !owed => self.clock = Clock::Off,
                Clock::Silence => self.listen(),
                Clock::Pong { .. } | Clock::Closing => return Poll::Ready(()),
            }
        }
    }

    /// Waits until the peer has been silent for long enough, and then sends a PING.
    fn listen(&mut self) {
        let due_ms = self.state.heard_ms.get().saturating_add(self.settings.ping_after_ms);
        match due_ms.saturating_sub(now_ms()) {
            0 => self.ping(),
            left_ms => self.start(Clock::Silence, left_ms),
        }
    }

    fn ping(&mut self) {
        if let Some(pings) = &mut self.pings {
            // The PONG of the previous PING is consumed here, where it first matters; without it no new PING can be
            // sent, and none is needed.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = pings.send_ping(Ping::opaque());
        }
        self.start(Clock::Pong { heard_ms: self.state.heard_ms.get() }, self.settings.ping_timeout_ms);
    }
}

impl<T> Future for Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Errors: `ConnectionLost` (the transport failed, or the peer is silent) or `Protocol`.
    type Output = Result<(), Http2Fault>;

    // The library wakes its own task in three cases: a frame just read gives it something to send, the last handle and
    // stream are found dropped, or a ping was requested. Each costs one extra poll that finds nothing and wakes
    // nothing, so the ring is polled for completions after at most two polls per input. It never yields by itself.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Http2Fault>> {
        let driver = &mut *self;
        let ended = match Pin::new(&mut driver.connection).poll(context) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(match fault::of(&error) {
                // The peer sent GOAWAY with a reason of its own.
                Http2Fault::Refused | Http2Fault::Reset(_) => Http2Fault::ConnectionLost,
                fault => fault,
            }),
            Poll::Pending => {
                driver.notice();
                match driver.poll_clock(context) {
                    Poll::Ready(()) if driver.clock == Clock::Closing => Ok(()),
                    Poll::Ready(()) => Err(Http2Fault::ConnectionLost),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        driver.state.worsen(Condition::Dead);
        Poll::Ready(ended)
    }
}

impl<T> Drop for Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        self.state.worsen(Condition::Dead); // the library then wakes the streams with the end of the transport
    }
}
