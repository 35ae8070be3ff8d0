//! The numbers of one data core, in memory that the background core reads in place. Only the core itself adds, so that a
//! load and a store do; nothing here waits, and nothing on the request path allocates but the first request of a kind.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{CONNECT_US, Histogram, OWN_TIME_US, REQUEST_US, TOKEN_US};
use super::series::SeriesTable;

/// A number that grows, or goes up and down. One thread writes, any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        // Not a read-modify-write: there is one writer, and nothing else is published by it.
        self.set(self.get().wrapping_add(more));
    }

    /// For gauges: takes off what was added.
    pub fn sub(&self, less: u64) {
        debug_assert!(self.get() >= less, "a gauge went below zero");
        self.set(self.get().saturating_sub(less));
    }

    /// For gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// For gauges: counts one until the guard is dropped, also by a panic.
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

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// One row a number.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client connections open now.
    pub connections: Counter,
    /// Exchanges that have begun and not ended.
    pub exchanges: Counter,
    /// Upstream calls running now.
    pub flights: Counter,
    /// Permits held now.
    pub permits: Counter,
    /// Requests whose head was understood.
    pub requests: Counter,
    pub hits: Counter,
    pub misses: Counter,
    /// Not looked for in the cache: the answer may not be shared.
    pub bypasses: Counter,
    /// Answered by an expired entry, since every backend failed.
    pub stale: Counter,
    /// Answered by another request's upstream call.
    pub joined: Counter,
    /// Exchanges that ended in an error of any blame.
    pub failures: Counter,
    /// Upstream calls begun.
    pub calls: Counter,
    /// Requests sent again because a kept-alive connection had gone stale.
    pub stale_retries: Counter,
    /// Attempts after the first one at a model.
    pub retries: Counter,
    /// Requests that went on to a fallback model.
    pub fallbacks: Counter,
    /// Second attempts beside a slow one, and those of them that won.
    pub hedges: Counter,
    pub hedge_wins: Counter,
    /// Requests turned away because their queue was full, or waited too long in it.
    pub queue_full: Counter,
    pub queue_timeouts: Counter,
    /// Backends taken out of service and put back by this core's own requests.
    pub trips: Counter,
    pub restorations: Counter,
    pub connect_errors: Counter,
    /// Connections that lay idle when their backend moved to other addresses, and were closed.
    pub connections_outdated: Counter,
    pub accept_errors: Counter,
    /// Messages taken from other cores.
    pub messages: Counter,
    /// Messages that a stalled core could not take.
    pub messages_dropped: Counter,
    /// Lines of the access log that were not written, as the disk or the reader was too slow.
    pub log_lines_dropped: Counter,

    /// Of this core's part of the cache, as of the last tick.
    pub cache_bytes: Counter,
    pub cache_entries: Counter,
    /// The kernel's number of the core's thread.
    pub thread: Counter,

    /// The gateway's own time: of answers from the cache, and what it added to those from a backend.
    pub own_time_hit: OwnTime,
    pub own_time_miss: OwnTime,
    pub backends: Box<[BackendCounters]>,
    pub models: Box<[ModelCounters]>,
    pub series: SeriesTable,
    /// By endpoint and model, with a row behind for requests without one.
    operations: Box<[OnceLock<Box<Operation>>]>,
}

/// A histogram of the gateway's own time.
#[derive(Debug)]
pub struct OwnTime(pub Histogram);

impl Default for OwnTime {
    fn default() -> Self {
        OwnTime(Histogram::new(OWN_TIME_US))
    }
}

/// What an attempt at a backend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Success,
    /// A status of 400 to 499 other than the next.
    ClientError,
    RateLimited,
    /// A status of 500 and above.
    ServerError,
    /// An error where a stream's first content was to be.
    ErrorEvent,
    Connect,
    Handshake,
    /// Closed, cut short, or refused before it was looked at.
    Closed,
    /// Not HTTP.
    Invalid,
    Timeout,
    /// Given up: the client left, another attempt won, or the wait for a connection was too long.
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

/// Of one backend, as this core sees it. The gauges are those of the last tick.
#[derive(Debug)]
pub struct BackendCounters {
    pub attempts: Counter,
    results: [Counter; AttemptResult::ALL.len()],
    /// From the beginning of a dial to a connection that can be used, TLS included.
    pub connect: Histogram,
    /// 0 serving, 1 probing, 2 tripped.
    pub state: Counter,
    /// Why the state changed last, as a number above 0; 0 for never.
    pub reason: Counter,
    /// When that was, in milliseconds since 1970.
    pub changed_unix_ms: Counter,
    pub in_flight: Counter,
    pub connections_idle: Counter,
    pub connections_busy: Counter,
    pub http2_connections: Counter,
    pub http2_streams: Counter,
}

impl Default for BackendCounters {
    fn default() -> Self {
        BackendCounters {
            attempts: Counter::default(),
            results: Default::default(),
            connect: Histogram::new(CONNECT_US),
            state: Counter::default(),
            reason: Counter::default(),
            changed_unix_ms: Counter::default(),
            in_flight: Counter::default(),
            connections_idle: Counter::default(),
            connections_busy: Counter::default(),
            http2_connections: Counter::default(),
            http2_streams: Counter::default(),
        }
    }
}

impl BackendCounters {
    pub fn result(&self, result: AttemptResult) -> &Counter {
        &self.results[result as usize]
    }
}

/// Of one model, as this core sees it.
#[derive(Debug, Default)]
pub struct ModelCounters {
    /// Requests that wait for their turn now.
    pub queue_depth: Counter,
}

/// Requests of one endpoint for one model.
#[derive(Debug)]
pub struct Operation {
    /// From a request's head to the end of its answer.
    pub duration: Histogram,
    /// To the first byte of a streamed answer that a backend gave.
    pub first_token: Histogram,
    /// Between two tokens of such a stream, on average over it.
    pub inter_token: Histogram,
    /// Upstream calls, all attempts included.
    pub call: Histogram,
    /// From the beginning of an upstream call to its stream's first content.
    pub first_chunk: Histogram,
}

impl Default for Operation {
    fn default() -> Self {
        let [duration, first_token, call, first_chunk] = [(); 4].map(|()| Histogram::new(REQUEST_US));
        Operation { duration, first_token, inter_token: Histogram::new(TOKEN_US), call, first_chunk }
    }
}

impl Counters {
    /// For so many endpoints, models and backends.
    pub fn new(endpoints: usize, models: usize, backends: usize) -> Counters {
        Counters {
            backends: (0..backends).map(|_| BackendCounters::default()).collect(),
            models: (0..models).map(|_| ModelCounters::default()).collect(),
            operations: (0..endpoints * (models + 1)).map(|_| OnceLock::new()).collect(),
            ..Counters::default()
        }
    }

    /// Of an endpoint and a model, to count. Its memory is taken when it is first asked for.
    pub fn operation(&self, endpoint: usize, model: Option<usize>) -> Option<&Operation> {
        let place = self.operations.get(self.place(endpoint, model))?;
        Some(place.get_or_init(Box::default))
    }

    /// As [`Counters::operation`], if it has ever counted.
    pub fn counted_operation(&self, endpoint: usize, model: Option<usize>) -> Option<&Operation> {
        self.operations.get(self.place(endpoint, model))?.get().map(Box::as_ref)
    }

    fn place(&self, endpoint: usize, model: Option<usize>) -> usize {
        endpoint * (self.models.len() + 1) + model.unwrap_or(self.models.len())
    }
}
