//! One attempt to get an answer from one backend: a connection, the request, and the answer up to its first content.
//! Until then nothing has reached a client, so that a failed attempt is followed by another one unseen.

use std::rc::Rc;

use shards::breaker::Outcome;
use shards::{Fault, Rules};

use super::attempt_span::AttemptSpan;
use super::failed_attempt::FailedAttempt;
use super::flight::{Flight, Lane};
use super::generation::Generation;
use super::meter::{self, Attempted};
use super::notes::status_of;
use super::relay::PendingResponse;
use super::send::{self, SendFault};
use super::translation;
use super::upstream_request::UpstreamRequest;
use crate::config::snapshot::{Model, OnClientDisconnect};
use crate::net::now_us;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::{self, Wanted};
use crate::upstream::outcome::{is_overload, outcome};
use crate::upstream::queue::{self, Felt};
use crate::upstream::route::Plan;
use crate::upstream::suspects::Suspects;

/// How often an attempt sends its request once more after its stream was refused.
const REFUSALS_MAX: u32 = 2;

/// An account without quota is left alone for so long, where its provider says nothing: topping it up takes a human.
const QUOTA_COOL_MS: u64 = 60_000;
/// A backend that asks to be left alone for longer is asked again all the same: clocks are wrong, limits are lifted.
pub const COOL_MAX_MS: u64 = 60_000;
/// Longest first wait between two attempts at one backend; each one more doubles it.
const BACKOFF_MS: u64 = 150;
const BACKOFF_MAX_MS: u64 = 2_000;

/// How attempts at `model` follow each other.
pub fn rules(model: &Model) -> Rules {
    Rules {
        retries: model.retries,
        backoff_ms: BACKOFF_MS,
        backoff_max_ms: BACKOFF_MAX_MS,
        hint_max_ms: model.retry_after_max_ms,
    }
}

/// Makes the attempt that `plan` says. The answer it brings may be one that is better not given: see [`PendingResponse::miss`].
pub async fn attempt<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    mut plan: Plan,
    since_ms: u64,
    lane: Lane,
    flight: &'a Flight,
    suspects: &Suspects,
) -> Result<Box<PendingResponse<'a>>, FailedAttempt> {
    let translated = match translation::of(generation, upstream, plan.backend) {
        Ok(translated) => translated,
        Err(fault) => {
            plan.end_with(fault);
            return Err(fault.into());
        }
    };
    let backend = &generation.snapshot.backends[plan.backend];
    let mut deadlines = Deadlines::begin(backend, upstream.form, since_ms);
    let watched = generation.upstreams.times_first_content(plan.model);
    let started_us = if watched { now_us() } else { 0 };
    let adapts = generation.upstreams.backends[plan.backend].concurrency.is_some();
    let counted = Attempted::begin(generation, upstream, plan.backend);
    let mut span = AttemptSpan::begin(generation, upstream, &plan);
    plan.span = span.as_ref().and_then(|span| span.id());
    let (mut wanted, mut refusals) = (Wanted::Any, 0);
    let refuses_usage = &generation.upstreams.backends[plan.backend].refuses_usage;
    // In one function: one that is waited for is copied before it begins.
    let result = loop {
        let leased = match lease::connection_now(&generation.upstreams, &plan, wanted) {
            Ok(None) => {
                let asked_us = now_us();
                let leasing = Box::pin(lease::connection(&generation.upstreams, &plan, wanted, deadlines));
                let leased = flight.unless_abandoned(leasing).await;
                upstream.connected_since(asked_us);
                leased.unwrap_or(Err(Fault::Cancelled))
            }
            Ok(Some(lease)) => Ok(lease),
            Err(fault) => Err(fault),
        };
        let mut lease = match leased {
            Ok(lease) => lease,
            Err(fault) => break Err(fault),
        };
        upstream.was_sent.set(true);
        if upstream.when_left == OnClientDisconnect::Drain {
            flight.set_when_left(OnClientDisconnect::Drain);
        }
        let translation = translated.as_deref();
        match send::request(generation, upstream, translation, &plan, &mut lease, &mut deadlines, lane, flight).await {
            Ok(answer) => {
                let direction = translated.as_ref().map(|translated| translated.direction);
                let mut pending =
                    PendingResponse::new(generation, upstream, &plan, lease, answer, direction, deadlines, flight);
                let first = pending.begin(generation, upstream.endpoint).await;
                pending.first_us = upstream.waited_since(pending.first_us);
                match first {
                    Ok(()) if pending.refuses_usage() && !refuses_usage.replace(true) => pending.break_off(generation),
                    Ok(()) => break Ok(pending),
                    Err(fault) => {
                        pending.break_off(generation);
                        break Err(fault);
                    }
                }
            }
            // RFC 9113 8.7: what was refused was not processed. Streams are, when they are opened before the peer has told
            // how many it allows: by now it has.
            Err(SendFault::Failed(Fault::Refused)) if refusals < REFUSALS_MAX && !upstream.has_flowed() => {
                refusals += 1;
                lease.break_off();
            }
            Err(SendFault::Failed(fault)) => {
                lease.break_off();
                break Err(fault);
            }
            Err(SendFault::Stale) => {
                generation.counters.stale_retries.add(1);
                wanted = Wanted::Fresh;
            }
        }
    };
    let fault = match &result {
        Ok(pending) => pending.miss.map(|miss| miss.fault),
        Err(fault) => Some(*fault),
    };
    counted.end(fault);
    if adapts {
        let felt = |felt| queue::felt(&generation.upstreams, plan.backend, felt);
        match (&result, fault) {
            (Ok(pending), None) => {
                // Without the wait in our own queue.
                let us = pending.first_us.saturating_sub(pending.sent_us);
                felt(Felt::Answered { kind: upstream.form as usize, us });
            }
            (_, Some(fault)) if is_overload(fault) => felt(Felt::Overloaded),
            _ => {}
        }
    }
    if let (Some(mut span), Some(fault)) = (span.take_if(|_| fault.is_some()), fault) {
        span.fail(meter::result(fault), status_of(fault));
    }
    match result {
        Ok(mut pending) => {
            if watched {
                let us = pending.first_us.saturating_sub(started_us);
                match pending.miss {
                    None => plan.note_first_content(upstream.form, us),
                    Some(miss) => plan.note_fault(miss.fault, us),
                }
            }
            match pending.miss {
                None => plan.end(Outcome::Good),
                Some(FailedAttempt { fault: Fault::Status(500), .. }) => suspects.note(&plan),
                Some(miss) => plan.end(outcome(miss.fault)),
            }
            match pending.miss {
                Some(FailedAttempt { hint_ms: Some(hint_ms), .. }) => plan.cool(hint_ms.min(COOL_MAX_MS)),
                Some(FailedAttempt { fault: Fault::Quota, .. }) => plan.cool(QUOTA_COOL_MS),
                _ => {}
            }
            pending.plan = Some(plan);
            pending.trace(span);
            Ok(pending)
        }
        Err(fault) => {
            if watched {
                plan.note_fault(fault, now_us().saturating_sub(started_us));
            }
            plan.end_with(fault);
            Err(fault.into())
        }
    }
}
