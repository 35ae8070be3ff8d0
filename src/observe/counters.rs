//! The counters of one data core, which the background core reads in place. Only the core itself writes, so a load and
//! a store suffice; nothing here waits, and the request path allocates only at the first request of a kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::histogram::{CONNECT_US, Histogram, OWN_TIME_US, REQUEST_US, TOKEN_US};
use super::series::{SeriesTable, TemplateKey, UsageKey};

/// A counter or gauge. One thread writes, any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        // Not a read-modify-write: there is one writer, and no other data is published through it.
        self.set(self.get().wrapping_add(more));
    }

    /// For gauges: subtracts.
    pub fn sub(&self, less: u64) {
        debug_assert!(self.get() >= less, "a gauge went below zero");
        self.set(self.get().saturating_sub(less));
    }

    /// For gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// As `hold`, for what is counted already.
    pub fn held(&self) -> Held<'_> {
        Held(self)
    }

    /// For gauges: adds one until the guard is dropped, also by a panic.
    pub fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See [`Counter::hold`].
pub struct Held<'a>(&'a Counter);

impl Held<'_> {
    /// Goes on to count: somebody else subtracts it.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// One field per number.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open client connections.
    pub connections: Counter,
    /// Exchanges in progress.
    pub exchanges: Counter,
    /// Upstream calls in progress.
    pub flights: Counter,
    /// Permits held.
    pub permits: Counter,
    /// Requests with a valid head.
    pub requests: Counter,
    pub hits: Counter,
    pub misses: Counter,
    /// Not looked up in the cache, because the answer may not be shared.
    pub bypasses: Counter,
    /// Answered from an expired entry, because every backend failed.
    pub stale: Counter,
    pub second: SecondCounters,
    /// Stored answers removed by purges.
    pub purged: Counter,
    /// Answered by another request's upstream call.
    pub joined: Counter,
    /// Exchanges that ended in an error, whoever is to blame.
    pub failures: Counter,
    /// Upstream calls started.
    pub calls: Counter,
    /// Upstream calls that went on for nobody.
    pub drained: DrainedCounters,
    /// Requests that went upstream together with others.
    pub combined: Counter,
    /// Requests sent again because a kept-alive connection was stale.
    pub stale_retries: Counter,
    /// Attempts after the first one at a model.
    pub retries: Counter,
    /// Requests passed on to a fallback model.
    pub fallbacks: Counter,
    /// Hedged attempts, and those of them that won.
    pub hedges: Counter,
    pub hedge_wins: Counter,
    /// Requests rejected because the queue was full, or the wait in it too long.
    pub queue_full: Counter,
    pub queue_timeouts: Counter,
    /// The same because of the deadline of a request: at once, or when it had passed.
    pub queue_sheds: Counter,
    pub queue_expired: Counter,
    /// How often this core's own requests took backends out of service and put them back.
    pub trips: Counter,
    pub restorations: Counter,
    pub connect_errors: Counter,
    /// Idle connections closed because their backend moved to other addresses.
    pub connections_outdated: Counter,
    pub accept_errors: Counter,
    /// Connections of clients that came from other cores.
    pub connections_moved: Counter,
    /// Connections that did not begin with the PROXY header that they must have.
    pub proxy_errors: Counter,
    /// Open WebSockets, and what was relayed on them from clients and from backends.
    pub websockets: Counter,
    pub websocket_bytes_up: Counter,
    pub websocket_bytes_down: Counter,
    /// Connections of clients that were closed at once.
    connections_refused: [Counter; RefusedConnection::ALL.len()],
    /// TLS handshakes with clients.
    handshakes: [Counter; HandshakeResult::ALL.len()],
    /// Messages received from other cores.
    pub messages: Counter,
    /// Messages dropped because the receiving core was stalled.
    pub messages_dropped: Counter,
    /// Access log lines that were not written, because the disk was full, or the disk or the reader too slow; and their bytes.
    pub log_lines_dropped: Counter,
    pub log_bytes_dropped: Counter,
    /// Spans dropped because the background core was stalled.
    pub spans_dropped: Counter,

    /// Size of this core's part of the cache, as of the last tick.
    pub cache_bytes: Counter,
    pub cache_entries: Counter,
    pub memory: MemoryGauges,
    /// The kernel's id of the core's thread.
    pub thread: Counter,

    /// The gateway's own time: the whole time of a cache hit, and the time added to an answer of a backend.
    pub own_time_hit: OwnTime,
    pub own_time_miss: OwnTime,
    pub series: SeriesTable,
    pub usage: SeriesTable<UsageKey>,
    /// Requests by the prompt template that they were rendered from.
    pub templates: SeriesTable<TemplateKey>,
    /// Of requests without a model.
    pub without_model: ModelCounters,
}

/// The counters of one item on every core: each core writes its own, on cache lines of their own.
pub type PerCore<T> = Arc<[T]>;

/// Where memory of a core is beside its part of the cache, in bytes as of the last tick.
#[derive(Debug, Default)]
pub struct MemoryGauges {
    /// Reserved for bodies of requests.
    pub requests: Counter,
    /// Events of streams that have not come whole.
    pub events: Counter,
    /// Buffers that wait for their next use.
    pub buffers: Counter,
    /// Lines of the access log that are not written yet.
    pub log: Counter,
}

/// How upstream calls ended that went on for nobody, or why one did not.
#[derive(Debug, Default)]
pub struct DrainedCounters {
    pub finished: Counter,
    pub failed: Counter,
    /// Somebody asked the same meanwhile.
    pub joined: Counter,
    pub cut: Counter,
    pub refused: Counter,
}

/// What became of look-ups in, and writes to, the second level of the cache.
#[derive(Debug, Default)]
pub struct SecondCounters {
    pub hits: Counter,
    pub misses: Counter,
    /// Foreign values, and those that are not whole.
    pub damaged: Counter,
    /// No reply in time.
    pub late: Counter,
    /// An error, or the end of the connection.
    pub failed: Counter,
    /// Not asked, because there was no connection or look-ups had failed; or to no use, because Redis lacks purges.
    pub skipped: Counter,
    pub writes: Counter,
    pub writes_dropped: Counter,
    /// Connections that ended or could not be made.
    pub disconnects: Counter,
}

/// A histogram of the gateway's own time.
#[derive(Debug)]
pub struct OwnTime(pub Histogram);

impl Default for OwnTime {
    fn default() -> Self {
        OwnTime(Histogram::new(OWN_TIME_US))
    }
}

/// Why a connection of a client was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedConnection {
    /// The node has `server.max_connections`.
    Node,
    /// The client has `server.max_connections_per_client`.
    Client,
}

impl RefusedConnection {
    pub const ALL: [RefusedConnection; 2] = [RefusedConnection::Node, RefusedConnection::Client];

    pub fn label(self) -> &'static str {
        match self {
            RefusedConnection::Node => "node",
            RefusedConnection::Client => "client",
        }
    }
}

/// The result of a TLS handshake with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    Full,
    /// Of an earlier session, by its ticket.
    Resumed,
    /// The client's certificate is not valid here.
    BadCertificate,
    /// A client certificate is required, and there was none.
    NoCertificate,
    /// No HTTP version in common (ALPN).
    NoProtocol,
    /// No TLS version or cipher in common.
    Incompatible,
    /// The client refused, with an alert.
    Alert,
    /// The first bytes were not TLS.
    NotTls,
    /// Broken TLS.
    Protocol,
    Timeout,
    /// The client left.
    Closed,
}

impl HandshakeResult {
    pub const ALL: [HandshakeResult; 11] = [
        HandshakeResult::Full,
        HandshakeResult::Resumed,
        HandshakeResult::BadCertificate,
        HandshakeResult::NoCertificate,
        HandshakeResult::NoProtocol,
        HandshakeResult::Incompatible,
        HandshakeResult::Alert,
        HandshakeResult::NotTls,
        HandshakeResult::Protocol,
        HandshakeResult::Timeout,
        HandshakeResult::Closed,
    ];

    pub fn label(self) -> &'static str {
        match self {
            HandshakeResult::Full => "full",
            HandshakeResult::Resumed => "resumed",
            HandshakeResult::BadCertificate => "bad_certificate",
            HandshakeResult::NoCertificate => "no_certificate",
            HandshakeResult::NoProtocol => "no_protocol",
            HandshakeResult::Incompatible => "incompatible",
            HandshakeResult::Alert => "alert",
            HandshakeResult::NotTls => "not_tls",
            HandshakeResult::Protocol => "protocol",
            HandshakeResult::Timeout => "timeout",
            HandshakeResult::Closed => "closed",
        }
    }
}

impl Counters {
    /// How many connections were closed for this reason.
    pub fn connections_refused(&self, reason: RefusedConnection) -> &Counter {
        &self.connections_refused[reason as usize]
    }

    /// How many handshakes ended like this.
    pub fn handshakes(&self, result: HandshakeResult) -> &Counter {
        &self.handshakes[result as usize]
    }
}

/// The result of an attempt at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Success,
    /// A status of 400 to 499 other than the next.
    ClientError,
    RateLimited,
    /// A status of 500 and above.
    ServerError,
    /// An error event in place of a stream's first content.
    ErrorEvent,
    Connect,
    Handshake,
    /// Closed, truncated, or refused before it was processed.
    Closed,
    /// Not HTTP.
    Invalid,
    Timeout,
    /// Abandoned: the client left, another attempt won, or the wait for a connection was too long.
    Cancelled,
}

impl AttemptResult {
    pub const ALL: [AttemptResult; 11] = [
        AttemptResult::Success,
        AttemptResult::ClientError,
        AttemptResult::RateLimited,
        AttemptResult::ServerError,
        AttemptResult::ErrorEvent,
        AttemptResult::Connect,
        AttemptResult::Handshake,
        AttemptResult::Closed,
        AttemptResult::Invalid,
        AttemptResult::Timeout,
        AttemptResult::Cancelled,
    ];

    pub fn label(self) -> &'static str {
        match self {
            AttemptResult::Success => "success",
            AttemptResult::ClientError => "client_error",
            AttemptResult::RateLimited => "rate_limited",
            AttemptResult::ServerError => "server_error",
            AttemptResult::ErrorEvent => "error_event",
            AttemptResult::Connect => "connect",
            AttemptResult::Handshake => "handshake",
            AttemptResult::Closed => "closed",
            AttemptResult::Invalid => "invalid",
            AttemptResult::Timeout => "timeout",
            AttemptResult::Cancelled => "cancelled",
        }
    }
}

/// The counters of one backend on one core. The gauges are those of the last tick.
#[derive(Debug)]
#[repr(align(64))]
pub struct BackendCounters {
    pub attempts: Counter,
    results: [Counter; AttemptResult::ALL.len()],
    /// From the start of a dial to a usable connection, TLS included.
    pub connect: Histogram,
    /// 0 serving, 1 probing, 2 tripped.
    pub state: Counter,
    /// Requests in flight, at any time.
    pub in_flight: Counter,
    pub connections_idle: Counter,
    pub connections_busy: Counter,
    pub http2_connections: Counter,
    pub http2_streams: Counter,
    /// How many requests it gets at a time, where that is found from how long it takes; else 0.
    pub concurrency_limit: Counter,
}

impl Default for BackendCounters {
    fn default() -> Self {
        BackendCounters {
            attempts: Counter::default(),
            results: Default::default(),
            connect: Histogram::new(CONNECT_US),
            state: Counter::default(),
            in_flight: Counter::default(),
            connections_idle: Counter::default(),
            connections_busy: Counter::default(),
            http2_connections: Counter::default(),
            http2_streams: Counter::default(),
            concurrency_limit: Counter::default(),
        }
    }
}

impl BackendCounters {
    pub fn result(&self, result: AttemptResult) -> &Counter {
        &self.results[result as usize]
    }
}

/// The counters of one model on one core.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ModelCounters {
    /// Queued requests.
    pub queue_depth: Counter,
    /// By endpoint.
    operations: Box<[OnceLock<Box<Operation>>]>,
}

impl ModelCounters {
    /// For this many endpoints.
    pub fn new(endpoints: usize) -> ModelCounters {
        let operations = (0..endpoints).map(|_| OnceLock::new()).collect();
        ModelCounters { queue_depth: Counter::default(), operations }
    }

    /// The histograms of an endpoint, for recording. Allocated on first use.
    pub fn operation(&self, endpoint: usize) -> Option<&Operation> {
        Some(self.operations.get(endpoint)?.get_or_init(Box::default))
    }

    /// As [`ModelCounters::operation`], but `None` if nothing was recorded yet.
    pub fn counted_operation(&self, endpoint: usize) -> Option<&Operation> {
        self.operations.get(endpoint)?.get().map(Box::as_ref)
    }
}

/// The histograms of one endpoint and model.
#[derive(Debug)]
pub struct Operation {
    /// From a request's head to the end of its answer.
    pub duration: Histogram,
    /// To the first byte of a streamed answer from a backend.
    pub first_token: Histogram,
    /// Between two tokens of such a stream, averaged over it.
    pub inter_token: Histogram,
    /// Upstream calls, all attempts included.
    pub call: Histogram,
    /// From the start of an upstream call to its stream's first content.
    pub first_chunk: Histogram,
}

impl Default for Operation {
    fn default() -> Self {
        let [duration, first_token, call, first_chunk] = [(); 4].map(|()| Histogram::new(REQUEST_US));
        Operation { duration, first_token, inter_token: Histogram::new(TOKEN_US), call, first_chunk }
    }
}

impl Counters {
    /// For this many endpoints.
    pub fn new(endpoints: usize) -> Counters {
        Counters { without_model: ModelCounters::new(endpoints), ..Counters::default() }
    }
}
