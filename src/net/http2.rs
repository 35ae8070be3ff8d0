//! HTTP/2 to a backend: one connection, many streams, each of which reads like an HTTP/1.1 connection of its own.
//! A [`Driver`] owns the transport and everything that is the connection's; [`Connection`] opens streams on it, and a
//! [`Stream`] is one request and its answer. Never holds back one stream for another, never makes a cut answer look
//! complete, never calls a request unprocessed that may have been processed.

mod driver; // moves frames, notices what the peer announces, buries a peer that went silent
mod fault; // why a stream or a connection ended
mod stream; // the answer as HTTP/1.1 text, then its bytes

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
use driver::Heard;

/// Bounds and times of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2Settings {
    /// Most streams at a time, whatever the peer allows.
    pub streams_max: usize,
    /// What a peer may send on one stream before any of it was read: memory a slow client can hold. Over a round interrupt
    /// of 100 ms it still lets 2.5 MB/s through, a thousand times the speed of a written answer.
    pub stream_window_bytes: u32,
    /// The same over all streams. With as much as all of them together may hold, a stream nobody reads never stops the
    /// others.
    pub connection_window_bytes: u32,
    /// Silence of the peer, after which it is asked for a sign of life while it owes answers: on a connection that had
    /// rested for longer, with the first request.
    pub ping_after_ms: u64,
    /// How long that sign may take; then the connection is lost.
    pub ping_timeout_ms: u64,
    /// How long the last frames of a connection that ends may take to leave.
    pub close_timeout_ms: u64,
}

/// Largest window there is (RFC 9113 6.9.1).
const WINDOW_MAX_BYTES: u32 = (1 << 31) - 1;

impl Http2Settings {
    /// The usual settings for so many streams.
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

/// What the framing of unread small DATA frames may cost on one connection. The library counts 256 bytes a frame less its
/// payload, and ends the connection when the budget is spent. Events of a token each come in such frames by the thousand
/// wherever a client reads slowly, so its default (half the connection's window) would let a few slow clients cut off
/// all the others. A backend is not a stranger: this bound is for one gone mad.
const FRAMING_BUDGET_BYTES: usize = 64 << 20;

/// What can be done with a connection, worse and worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Open,
    /// The peer takes no new streams (GOAWAY), or there are no stream numbers left; streams that run may finish.
    Retiring,
    Dead,
}

/// What the pool wants to hear of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// How many streams it takes at a time from now on.
    StreamsLimit(usize),
    Retiring,
    Dead,
}

/// What the driver and the handles share.
struct State {
    condition: Cell<Condition>,
    streams_limit: Cell<usize>,
    streams_open: Cell<usize>,
    heard_ms: Cell<u64>,
    /// What the transport said last, which the library only quotes.
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

    /// Things only get worse; whoever looks out is woken.
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

/// Opens streams. When the last clone is gone and the last stream has ended, the driver says goodbye and ends.
#[derive(Clone)]
pub struct Connection {
    // One reference of the library's for all clones: it counts them to know when to close.
    requests: Rc<SendRequest<Bytes>>,
    state: Rc<State>,
}

/// Begins HTTP/2 on a connection that is open, by ALPN or by prior knowledge, and waits for the peer's SETTINGS: then it is
/// known to speak HTTP/2, before any request was risked, and how many streams it takes. The caller spawns the driver, and
/// bounds the wait by the transport's own deadline.
///
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
        // None until the SETTINGS have come, which is how their coming is noticed.
        .initial_max_send_streams(0)
        .handshake(Heard::new(io, state.clone()))
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
    /// Sends the head of a request and lets its body follow as the peer makes room. Nothing waits here: a stream above the
    /// peer's limit stays in line until it may open, and reading it waits for that too, under the stream's watch.
    ///
    /// `request` has a whole URI (scheme, authority, path), and no field of a single connection.
    /// Errors: `Refused` if the connection takes no more streams; `Protocol` if the request cannot be said in HTTP/2.
    pub fn send(&self, request: http::Request<()>, body: Bytes) -> Result<Stream, Http2Fault> {
        // A clone of its own, for the library's handle remembers the last stream that had to wait.
        let mut requests = SendRequest::clone(&self.requests);
        let sent = requests.send_request(request, body.is_empty());
        let (response, mut upload) = sent.map_err(|error| self.not_sent(error))?;
        if !body.is_empty() {
            // It waits in the library, which frames and sends it with the peer's windows whoever reads the answer.
            upload.send_data(body, true).map_err(|error| fault::of(&error))?;
        }
        Ok(Stream::new(response, upload, self.state.clone()))
    }

    fn not_sent(&self, error: h2::Error) -> Http2Fault {
        let ready = SendRequest::clone(&self.requests).poll_ready(&mut Context::from_waker(Waker::noop()));
        if matches!(ready, Poll::Ready(Err(_))) {
            // GOAWAY, a broken transport, or out of stream numbers: whatever it is, nothing was sent.
            self.state.worsen(Condition::Retiring);
            return Http2Fault::Refused;
        }
        fault::of(&error)
    }

    /// How many streams may be open at a time: the peer's word or our own bound. It may change, and may be 0.
    pub fn streams_limit(&self) -> usize {
        self.state.streams_limit.get()
    }

    /// How many streams there are.
    pub fn streams_open(&self) -> usize {
        self.state.streams_open.get()
    }

    /// Whether it takes new streams.
    pub fn is_open(&self) -> bool {
        self.condition() == Condition::Open
    }

    pub fn condition(&self) -> Condition {
        self.state.condition.get()
    }

    /// Tells of changes from now on. It does not keep the connection open.
    pub fn lookout(&self) -> Lookout {
        Lookout { state: self.state.clone(), limit: self.streams_limit(), condition: Condition::Open }
    }
}

/// Waits for news of a connection.
pub struct Lookout {
    state: Rc<State>,
    limit: usize,
    condition: Condition,
}

impl Lookout {
    /// The next change that was not told yet; once dead, always that.
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
