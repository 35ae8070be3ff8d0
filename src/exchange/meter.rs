//! What the metrics get of attempts, upstream calls and requests, and the gauges that are set once a tick. Only adds and
//! stores on the core's own block; never waits.

use shards::{EventFault, Fault};

use super::generation::Generation;
use super::record::{CacheMark, RequestRecord};
use super::upstream_request::UpstreamRequest;
use crate::config::snapshot::Access;
use crate::dialect::facts::{Form, TokenUsage};
use crate::net::now_us;
use crate::observe::counters::{AttemptResult, BackendCounters};
use crate::observe::series::{Amounts, Key, OTHER, UsageKey};

/// An attempt that has begun. Dropped before its end, it was cancelled.
pub struct Attempted<'a> {
    counters: &'a BackendCounters,
    result: AttemptResult,
}

impl<'a> Attempted<'a> {
    pub fn begin(core: &'a Generation, backend: usize) -> Attempted<'a> {
        let counters = &core.upstreams.backends[backend].counters();
        counters.attempts.add(1);
        Attempted { counters, result: AttemptResult::Cancelled }
    }

    /// It came to its first content, or to a fault.
    pub fn end(mut self, fault: Option<Fault>) {
        self.result = fault.map_or(AttemptResult::Success, result);
    }
}

impl Drop for Attempted<'_> {
    fn drop(&mut self) {
        self.counters.result(self.result).add(1);
    }
}

fn result(fault: Fault) -> AttemptResult {
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
        Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout | Fault::Cancelled => AttemptResult::Cancelled,
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

    /// Its first content is there.
    pub fn open(&mut self) {
        self.opened_us = Some(now_us());
    }

    /// It has ended, with the usage it told of.
    pub fn end(self, core: &Generation, upstream: &UpstreamRequest, tokens: Option<TokenUsage>) {
        let Some(operation) = core.upstreams.models[upstream.model].counters().operation(upstream.endpoint as usize)
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

/// A request has ended.
pub fn count(core: &Generation, record: &RequestRecord, now_us: u64) {
    let counters = &core.counters;
    let (mut saves, mut from_cache) = (false, false);
    match record.cache {
        CacheMark::Hit { .. } => {
            counters.hits.add(1);
            (saves, from_cache) = (true, true);
        }
        CacheMark::Miss | CacheMark::Refused | CacheMark::TooOld => counters.misses.add(1),
        CacheMark::Joined => {
            counters.joined.add(1);
            saves = true;
        }
        CacheMark::Stale { .. } => {
            counters.stale.add(1);
            (saves, from_cache) = (true, true);
        }
        CacheMark::Bypass => counters.bypasses.add(1),
    }
    if record.failure.is_some() {
        counters.failures.add(1);
    }
    let tokens = record.tokens.unwrap_or_default();
    let billionths = cost(core, record) / 1000;
    let amounts = match saves {
        true => Amounts {
            requests: 1,
            saved_requests: 1,
            saved_prompt_tokens: tokens.prompt,
            saved_completion_tokens: tokens.completion,
            saved_cost: billionths,
            ..Amounts::default()
        },
        false => Amounts {
            requests: 1,
            prompt_tokens: tokens.prompt,
            cached_tokens: tokens.cached,
            completion_tokens: tokens.completion,
            reasoning_tokens: tokens.reasoning,
            cost: billionths,
            ..Amounts::default()
        },
    };
    let model = record.model.map_or(OTHER, |model| core.upstreams.models[model].series());
    let tenant = record.tenant.map_or(OTHER, |tenant| core.tenant_series(tenant));
    let key = Key { endpoint: record.endpoint as u8, model, tenant, status: record.status };
    core.series.borrow_mut().add(&counters.series, key, amounts);
    // Whoever is refused has used nothing.
    if record.model.is_some() && (record.tenant.is_some() || core.snapshot.access == Access::Open) {
        let credential = record.credential.map_or(0, u64::from_be_bytes);
        core.usage.borrow_mut().add(&counters.usage, UsageKey { tenant, credential, model }, amounts);
    }
    let of_model = record.model.map_or(&counters.without_model, |model| core.upstreams.models[model].counters());
    let Some(operation) = of_model.operation(record.endpoint as usize) else { return };
    operation.duration.record(now_us.saturating_sub(record.started_us));
    let Some(first_us) = record.first_byte_us.map(|at| at.saturating_sub(record.started_us)) else { return };
    if record.failure.is_some() || record.status != 200 {
        return;
    }
    match record.waited_us {
        Some(waited_us) => counters.own_time_miss.0.record(first_us.saturating_sub(waited_us)),
        None if matches!(record.cache, CacheMark::Hit { .. }) => counters.own_time_hit.0.record(first_us),
        None => {}
    }
    if record.form == Form::Streaming && !from_cache {
        operation.first_token.record(first_us);
    }
}

/// What the answer of `record` costs, or would have, in 10^-12 of the unit of money.
pub fn cost(core: &Generation, record: &RequestRecord) -> u64 {
    let Some(tokens) = record.tokens else { return 0 };
    let asked = || record.model.map(|model| core.snapshot.models[model].price);
    record.price.or_else(asked).map_or(0, |price| price.of(tokens.prompt, tokens.completion))
}

/// Sets the gauges.
pub fn publish(core: &Generation) {
    let counters = &core.counters;
    let shard = core.shard.borrow();
    let near = core.near.borrow();
    counters.cache_bytes.set(shard.cache().used_bytes() + near.used_bytes());
    counters.cache_entries.set(shard.cache().len() as u64);
    core.upstreams.backends.iter().for_each(|backend| backend.publish());
    for model in &core.upstreams.models {
        model.counters().queue_depth.set(model.queue.waiting.borrow().waiting() as u64);
    }
}
