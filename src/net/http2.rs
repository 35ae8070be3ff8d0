//! HTTP/2 to a backend (from clients: `server`): one connection with many streams, each of which reads like an HTTP/1.1 connection. A [`Driver`]
//! owns the transport and all connection state; a [`Connection`] opens streams; a [`Stream`] is one request and its
//! answer. One stream never blocks another, a truncated answer never looks complete, and a request that may have been
//! processed is never reported as unprocessed.

mod driver; // moves frames, tracks SETTINGS and GOAWAY, detects a dead peer
mod fault; // why a stream or a connection ended
mod gathered; // what a connection sends in a round
pub mod server; // HTTP/2 from clients
mod stream; // the answer as HTTP/1.1 text, then its bytes
mod text; // header fields as text

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{driver::Driver, fault::Http2Fault, stream::Stream};
use crate::limits;
use driver::ObservedIo;

/// Bounds and timeouts of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2Settings {
    /// Most concurrent streams, even if the peer allows more.
    pub streams_max: usize,
    /// What a peer may send on one stream before any of it is read: the memory that a slow client can pin. With a
    /// round-trip time of 100 ms it still allows 2.5 MB/s, a thousand times the rate of a generated answer.
    pub stream_window_bytes: u32,
    /// The same over all streams. It equals the sum of the stream windows, so that an unread stream never blocks the
    /// others.
    pub connection_window_bytes: u32,
    /// How long the peer may be silent while it owes answers before a PING is sent. On a connection that was idle for
    /// longer, the first request sends one at once.
    pub ping_after_ms: u64,
    /// How long the peer may take to respond to the PING before the connection is dropped.
    pub ping_timeout_ms: u64,
    /// How long the last frames of a closing connection may take to be sent.
    pub close_timeout_ms: u64,
}

/// Largest window (RFC 9113 6.9.1).
const WINDOW_MAX_BYTES: u32 = (1 << 31) - 1;

impl Http2Settings {
    /// Default settings for a number of streams.
    pub fn for_streams(streams_max: usize) -> Http2Settings {
        let stream_window_bytes: u32 = 256 << 10;
        let all = stream_window_bytes.saturating_mul(u32::try_from(streams_max).unwrap_or(u32::MAX));
        Http2Settings {
            streams_max,
            stream_window_bytes,
            connection_window_bytes: all.clamp(stream_window_bytes, WINDOW_MAX_BYTES),
            ping_after_ms: 30_000,
            ping_timeout_ms: 10_000,
            close_timeout_ms: 5_000,
        }
    }
}

impl Default for Http2Settings {
    fn default() -> Http2Settings {
        Http2Settings::for_streams(100)
    }
}

/// Budget for the framing overhead of unread small DATA frames on one connection. The library counts 256 bytes per
/// frame, less its payload, and ends the connection when the budget is spent. Streams send one such frame per token,
/// thousands of them when a client reads slowly, so the library's default (half the connection's window) would let a
/// few slow clients break all other streams. A backend is trusted; this bound is for a malfunctioning one.
const FRAMING_BUDGET_BYTES: usize = 64 << 20;

/// State of a connection, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Open,
    /// No new streams: the peer sent GOAWAY, or the stream ids are used up. Running streams may finish.
    Retiring,
    Dead,
}

/// A change of a connection that its pool must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The number of concurrent streams that it allows from now on.
    StreamsLimit(usize),
    Retiring,
    Dead,
}

/// State shared by the driver and the handles.
struct State {
    condition: Cell<Condition>,
    streams_limit: Cell<usize>,
    streams_open: Cell<usize>,
    heard_ms: Cell<u64>,
    /// The transport's last error; the library only passes on its text.
    broken: RefCell<Option<io::Error>>,
    waiting: RefCell<Vec<Waker>>,
}

impl State {
    fn new() -> State {
        State {
            condition: Cell::new(Condition::Open),
            streams_limit: Cell::new(0),
            streams_open: Cell::new(0),
            heard_ms: Cell::new(super::now_ms()),
            broken: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// Sets the condition, which only gets worse, and wakes the waiting lookout.
    fn worsen(&self, condition: Condition) {
        if condition > self.condition.get() {
            self.condition.set(condition);
            self.tell();
        }
    }

    fn set_streams_limit(&self, limit: usize) {
        if self.streams_limit.replace(limit) != limit {
            self.tell();
        }
    }

    fn tell(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// What follows the part of a body that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    Nothing,
    More,
}

/// Opens streams. Once the last clone is dropped and the last stream has ended, the driver sends GOAWAY and ends.
#[derive(Clone)]
pub struct Connection {
    // All clones share one library handle: the library counts its handles to know when to close.
    requests: Rc<SendRequest<Bytes>>,
    state: Rc<State>,
}

/// Starts HTTP/2 on an open connection, after ALPN or with prior knowledge, and waits for the peer's SETTINGS. They
/// prove that it speaks HTTP/2 before a request is sent, and say how many streams it allows. The caller spawns the
/// driver, and bounds the wait by the transport's own deadline.
/// Errors: the transport's; `InvalidData` if the peer does not speak HTTP/2; `UnexpectedEof` if it closes.
pub async fn handshake<T>(io: T, settings: Http2Settings) -> io::Result<(Connection, Driver<T>)>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let state = Rc::new(State::new());
    let (requests, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(settings.stream_window_bytes.min(WINDOW_MAX_BYTES))
        .initial_connection_window_size(settings.connection_window_bytes.min(WINDOW_MAX_BYTES))
        .max_header_list_size(limits::HEAD_BYTES as u32)
        .data_frame_budget(FRAMING_BUDGET_BYTES)
        // 0 until the SETTINGS arrive, so that their arrival can be detected.
        .initial_max_send_streams(0)
        .handshake(ObservedIo::new(io, state.clone()))
        .await
        .map_err(fault::io_error)?;
    poll_fn(|context| match Pin::new(&mut connection).poll(context) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(state.broken.take().unwrap_or_else(|| fault::io_error(error)))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let requests = Rc::new(requests);
    let driver = Driver::new(connection, Rc::downgrade(&requests), state.clone(), settings);
    Ok((Connection { requests, state }, driver))
}

impl Connection {
    /// Sends a request head; the body follows as the peer's window allows. Does not wait: a stream above the peer's
    /// limit is queued until it may open, and reading it includes that wait, under the stream's watch.
    /// `request` has an absolute URI (scheme, authority, path) and no connection-specific fields. Errors: `Refused` if
    /// the connection takes no more streams; `Protocol` if the request cannot be expressed in HTTP/2.
    pub fn send(&self, request: http::Request<()>, body: Bytes) -> Result<Stream, Http2Fault> {
        self.send_pieces(request, &[body], Follows::Nothing)
    }

    /// As `send`, with a body in pieces, of which more may follow by [`Stream::send_rest`].
    pub fn send_pieces(
        &self,
        request: http::Request<()>,
        body: &[Bytes],
        follows: Follows,
    ) -> Result<Stream, Http2Fault> {
        let is_whole = follows == Follows::Nothing;
        // A separate clone, because the library's handle remembers the last stream that had to wait.
        let mut requests = SendRequest::clone(&self.requests);
        let mut pieces = body.iter().filter(|piece| !piece.is_empty()).peekable();
        let sent = requests.send_request(request, is_whole && pieces.peek().is_none());
        let (response, mut upload) = sent.map_err(|error| self.not_sent(error))?;
        while let Some(piece) = pieces.next() {
            // The library queues the body and sends it as the peer's windows allow, whichever task polls.
            let is_last = is_whole && pieces.peek().is_none();
            upload.send_data(piece.clone(), is_last).map_err(|error| fault::of(&error))?;
        }
        Ok(Stream::new(response, upload, self.state.clone()))
    }

    fn not_sent(&self, error: h2::Error) -> Http2Fault {
        let ready = SendRequest::clone(&self.requests).poll_ready(&mut Context::from_waker(Waker::noop()));
        if matches!(ready, Poll::Ready(Err(_))) {
            // GOAWAY, a broken transport, or no stream ids left: in each case nothing was sent.
            self.state.worsen(Condition::Retiring);
            return Http2Fault::Refused;
        }
        fault::of(&error)
    }

    /// How many streams may be open at a time: the peer's limit or our own. May change, and may be 0.
    pub fn streams_limit(&self) -> usize {
        self.state.streams_limit.get()
    }

    /// How many streams are open.
    pub fn streams_open(&self) -> usize {
        self.state.streams_open.get()
    }

    /// Whether it accepts new streams.
    pub fn is_open(&self) -> bool {
        self.condition() == Condition::Open
    }

    pub fn condition(&self) -> Condition {
        self.state.condition.get()
    }

    /// Reports changes from now on. Does not keep the connection open.
    pub fn lookout(&self) -> Lookout {
        Lookout { state: self.state.clone(), limit: self.streams_limit(), condition: Condition::Open }
    }
}

/// Waits for changes of a connection.
pub struct Lookout {
    state: Rc<State>,
    limit: usize,
    condition: Condition,
}

impl Lookout {
    /// The next change that was not reported yet; once the connection is dead, always that.
    pub async fn news(&mut self) -> News {
        poll_fn(|context| match self.state.condition.get() {
            Condition::Dead => Poll::Ready(News::Dead),
            Condition::Retiring if self.condition == Condition::Open => {
                self.condition = Condition::Retiring;
                Poll::Ready(News::Retiring)
            }
            Condition::Open if self.limit != self.state.streams_limit.get() => {
                self.limit = self.state.streams_limit.get();
                Poll::Ready(News::StreamsLimit(self.limit))
            }
            Condition::Open | Condition::Retiring => {
                let mut waiting = self.state.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}
