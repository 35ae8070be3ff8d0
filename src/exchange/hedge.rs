//! A second attempt beside one that is slower than most.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use shards::Fault;

use super::attempt::attempt;
use super::failed_attempt::FailedAttempt;
use super::flight::{Flight, Lane};
use super::generation::Generation;
use super::relay::PendingResponse;
use super::upstream_request::UpstreamRequest;
use crate::net::within;
use crate::upstream::route::{self, Plan, Tried};
use crate::upstream::suspects::Suspects;

/// A request that waits for a hedge asks for one this often, at most.
const HEDGE_AGAIN_MS: u64 = 100;

/// One attempt, and a second one beside it if it is slower than most: the first content wins.
pub async fn hedged<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    plan: Plan,
    tried: &mut Tried,
    since_ms: u64,
    flight: &'a Flight,
    suspects: &Suspects,
) -> Result<Box<PendingResponse<'a>>, FailedAttempt> {
    let model = plan.model;
    let slow_us = {
        let mut spread = generation.upstreams.models[model].spread.borrow_mut();
        spread.hedges.deposit();
        spread.first_content[upstream.form as usize].p95()
    };
    let mut first = Box::pin(attempt(generation, upstream, plan, since_ms, Lane::First, flight, suspects));
    let Some(slow_us) = slow_us.filter(|_| upstream.is_repeatable()) else { return first.await };
    let slow_ms = slow_us.div_ceil(1000);
    let mut after_ms = slow_ms;
    let plan = loop {
        if let Some(result) = within(first.as_mut(), after_ms).await {
            return result;
        }
        // Not only once: the budget fills while this one waits, and backends come back.
        if route::has_others(&generation.upstreams, model, tried)
            && generation.upstreams.models[model].spread.borrow_mut().hedges.withdraw()
            && let Ok(plan) =
                route::plan(&generation.upstreams, model, upstream.claim, tried, |balance| upstream.affinity(balance))
        {
            break plan;
        }
        after_ms = slow_ms.max(HEDGE_AGAIN_MS);
    };
    tried.add(plan.target);
    generation.counters.hedges.add(1);
    let mut second = Box::pin(attempt(generation, upstream, plan, since_ms, Lane::Hedge, flight, suspects));
    let mut misses = (None, None);
    // An error wins nothing: the other one is waited for.
    poll_fn(|context| {
        if misses.0.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(context)
        {
            match result {
                Ok(pending) if pending.miss.is_none() => return Poll::Ready(Ok(pending)),
                missed => misses.0 = Some(missed),
            }
        }
        if misses.1.is_none()
            && let Poll::Ready(result) = second.as_mut().poll(context)
        {
            match result {
                Ok(pending) if pending.miss.is_none() => {
                    generation.counters.hedge_wins.add(1);
                    return Poll::Ready(Ok(pending));
                }
                missed => misses.1 = Some(missed),
            }
        }
        match (&misses.0, &misses.1) {
            (Some(_), Some(_)) => Poll::Ready(misses.0.take().unwrap_or(Err(Fault::NoBackend.into()))),
            _ => Poll::Pending,
        }
    })
    .await
}
