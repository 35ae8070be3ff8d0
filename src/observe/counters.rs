//! The numbers of one data core. Plain cells: only the core itself adds, others get copies by letter.

use std::cell::Cell;

/// A number that grows, or goes up and down.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// For gauges: takes off what was added.
    pub fn sub(&self, less: u64) {
        debug_assert!(self.0.get() >= less, "a gauge went below zero");
        self.0.set(self.0.get().saturating_sub(less));
    }

    /// For gauges: counts one until the guard is dropped, also by a panic.
    pub fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }

    pub fn get(&self) -> u64 {
        self.0.get()
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
    /// Letters that a stalled core could not take.
    pub letters_dropped: Counter,
    /// Access log that the I/O core could not take.
    pub log_bytes_dropped: Counter,
}
