//! What the metrics get of attempts, upstream calls and requests, and the gauges that are set once a tick. Only adds and
//! stores on the core's own block; never waits.

use shards::{EventFault, Fault};

use super::generation::Generation;
use super::notes::{Notes, status_of};
use super::upstream_request::UpstreamRequest;
use crate::dialect::facts::{Form, TokenUsage};
use crate::net::now_us;
use crate::observe::counters::{AttemptResult, BackendCounters};

/// An attempt that has begun. Dropped before its end, it was cancelled.
pub struct Attempted<'a> {
    counters: &'a BackendCounters,
    result: AttemptResult,
    status: Option<u16>,
    /// Where it is noted, at which place, and since when it goes on.
    note: Option<(&'a Notes, usize, u64)>,
}

impl<'a> Attempted<'a> {
    pub fn begin(generation: &'a Generation, upstream: &'a UpstreamRequest, backend: usize) -> Attempted<'a> {
        let counters = &generation.upstreams.backends[backend].counters();
        counters.attempts.add(1);
        let note = upstream.notes.as_deref();
        let note = note.map(|notes| (notes, notes.begin(generation.upstreams.backends[backend].name()), now_us()));
        Attempted { counters, result: AttemptResult::Cancelled, status: None, note }
    }

    /// It came to its first content, or to a fault.
    pub fn end(mut self, fault: Option<Fault>) {
        self.result = fault.map_or(AttemptResult::Success, result);
        self.status = fault.and_then(status_of);
    }
}

impl Drop for Attempted<'_> {
    fn drop(&mut self) {
        self.counters.result(self.result).add(1);
        if let Some((notes, place, since_us)) = self.note {
            notes.end(place, self.result, self.status, now_us().saturating_sub(since_us));
        }
    }
}

/// What a fault counts as.
pub fn result(fault: Fault) -> AttemptResult {
    match fault {
        Fault::Connect => AttemptResult::Connect,
        Fault::Handshake => AttemptResult::Handshake,
        Fault::Closed | Fault::Truncated | Fault::Refused => AttemptResult::Closed,
        Fault::Garbage => AttemptResult::Invalid,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => AttemptResult::Timeout,
        Fault::Status(429) | Fault::Quota | Fault::FirstEvent(EventFault::RateLimited) => AttemptResult::RateLimited,
        Fault::Status(500..) => AttemptResult::ServerError,
        Fault::Status(_) | Fault::ContextWindow => AttemptResult::ClientError,
        Fault::FirstEvent(_) => AttemptResult::ErrorEvent,
        Fault::NoBackend | Fault::Cancelled | Fault::Untranslatable => AttemptResult::Cancelled,
        Fault::QueueFull | Fault::QueueTimeout | Fault::TooLate { .. } => AttemptResult::Cancelled,
    }
}

/// An upstream call that goes on.
#[derive(Clone, Copy)]
pub struct CallTimes {
    begun_us: u64,
    opened_us: Option<u64>,
}

impl CallTimes {
    pub fn begin() -> CallTimes {
        CallTimes { begun_us: now_us(), opened_us: None }
    }

    /// Its first content was there at `us`.
    pub fn open(&mut self, us: u64) {
        self.opened_us = Some(us);
    }

    /// It has ended, with the usage it told of.
    pub fn end(self, generation: &Generation, upstream: &UpstreamRequest, tokens: Option<TokenUsage>) {
        let Some(operation) =
            generation.upstreams.models[upstream.model].counters().operation(upstream.endpoint as usize)
        else {
            return;
        };
        let now = now_us();
        operation.call.record(now.saturating_sub(self.begun_us));
        let (Some(opened_us), Form::Streaming) = (self.opened_us, upstream.form) else { return };
        operation.first_chunk.record(opened_us.saturating_sub(self.begun_us));
        if let Some(gaps) = tokens.map(|tokens| tokens.completion.saturating_sub(1)).filter(|gaps| *gaps > 0) {
            operation.inter_token.record(now.saturating_sub(opened_us) / gaps);
        }
    }
}
