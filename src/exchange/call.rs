//! The sequence of the backend's side: one upstream call, from the routing decision to the settled flight. Attempts at one
//! model follow each other, then those at its fallbacks, until an answer's first content; from there on there is one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use shards::{Attempts, Fault, Others, Step};

use super::answer::{AnswerHead, End};
use super::attempt::{attempt, rules};
use super::batch::Batch;
use super::combine::{join, split, take_part};
use super::entry::Entry;
use super::failed_attempt::{failure, untranslatable};
use super::flight::subscriber::Subscriber;
use super::flight::{Abandoned, Flight, Lane};
use super::generation::Generation;
use super::hedge::hedged;
use super::meter::CallTimes;
use super::relay::{Captured, PendingResponse};
use super::store::CompletionGuard;
use super::upstream_request::UpstreamRequest;
use super::used::Seen;
use super::window::{Combinable, Entered, Part, Share, Window};
use crate::config::snapshot::{Balance, OnClientDisconnect};
use crate::dialect::facts::NotStored;
use crate::error::Failure;
use crate::net::{now_ms, now_us, random_u64, sleep_ms, spawn, within};
use crate::upstream::queue::{self, At, QueuePermit};
use crate::upstream::route::{self, Tried};
use crate::upstream::suspects::{Ended, Suspects};
use crate::wire::Span;

/// While an attempt is waited for, those who follow hear this often that somebody is at work.
const PAUSE_STEP_MS: u64 = 2_000;

/// What an upstream call begins with.
pub struct Call {
    pub core: Rc<Generation>,
    pub upstream: UpstreamRequest,
    pub flight: Rc<Flight>,
    pub guard: CompletionGuard,
}

/// One upstream call, from the routing decision to the settled flight.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function keeps what it is given twice, and its task is copied; so does a pattern"
)]
pub fn run_call(mut call: Call) -> impl Future<Output = ()> {
    async move {
        if call.guard.looks() && Box::pin(call.guard.look()).await {
            call.upstream.release(&call.core);
            return;
        }
        let batch = call.upstream.batch.take();
        if let Some(batch) = &batch {
            let by_input = Box::pin(by_input(&call.core, &call.upstream, &call.flight, &mut call.guard, batch)).await;
            let is_served = match by_input {
                ByInput::Known(entry) => call.guard.found_by_input(*entry, batch.request()),
                ByInput::Fetched(captured) => {
                    call.guard.settle(&call.upstream, captured);
                    return call.upstream.release(&call.core);
                }
                ByInput::Whole => false,
            };
            if is_served {
                return call.upstream.release(&call.core);
            }
        }
        if let Some(combinable) = call.upstream.combinable.take() {
            match Box::pin(combined(&call.core, &call.upstream, &call.flight, &combinable)).await {
                Share::Alone => {}
                Share::Failed(failure) => {
                    call.guard.settle(&call.upstream, Err(failure));
                    return call.upstream.release(&call.core);
                }
                Share::Part(part) => {
                    take_part(&call.core, &call.upstream, &call.flight, call.guard, batch.as_deref(), *part);
                    return call.upstream.release(&call.core);
                }
            }
        }
        call.core.counters.calls.add(1);
        let mut times = CallTimes::begin();
        let (closed, permit) = match answer(&call.core, &call.upstream, &call.flight).await {
            Ok(Found { mut pending, model, permit }) => {
                pending.open(&call.core, call.upstream.waited_us.get());
                times.open(pending.first_us);
                let is_error = pending.is_error();
                let flowed = {
                    // Copied into the closure, so that it need not look for them in the rest of the task.
                    let (pending, core) = (&mut *pending, &*call.core);
                    poll_fn(move |context| pending.poll_flow(core, context)).await
                };
                if pending.is_large(call.upstream.endpoint) && flowed.is_ok() {
                    Box::pin(pending.read_in_slices(call.upstream.endpoint)).await;
                }
                let seen = pending.seen();
                let span = pending.span.take();
                let mut closed = pending.close(&call.core, &call.upstream, flowed);
                if let Some(mut span) = span {
                    call.flight.look_at_whole(|answer| span.tell_of(answer));
                    span.close(closed.as_ref().map(|(captured, _)| captured.tokens));
                }
                match &closed {
                    Ok((captured, _)) if captured.stored == Err(NotStored::Status) => {}
                    Ok((captured, _)) => call.guard.spend(&call.upstream, model, captured.tokens, seen),
                    Err(_) if is_error => {}
                    Err(_) => call.guard.spend(&call.upstream, model, None, seen),
                }
                // One of a fallback is not kept: the model that was asked for will be back.
                if let Ok((captured, _)) = &mut closed
                    && model != call.upstream.model
                    && captured.stored.is_ok()
                {
                    captured.stored = Err(NotStored::OtherModel);
                }
                (closed, Some(permit))
            }
            Err(failure) => (Err(failure), None),
        };
        let (captured, tail) = match closed {
            Ok((captured, tail)) => (Ok(captured), tail),
            Err(failure) => (Err(failure), None),
        };
        if let (Some(batch), Ok(Captured { stored: Ok(()), .. })) = (&batch, &captured) {
            let ttl_ms = call.core.snapshot.models[call.upstream.model].cache_ttl_ms;
            call.flight.look_at_whole(|answer| batch.complete(&call.core, &batch.nothing(), answer, ttl_ms));
        }
        times.end(&call.core, &call.upstream, captured.as_ref().ok().and_then(|captured| captured.tokens));
        call.guard.settle(&call.upstream, captured);
        drop(permit);
        call.upstream.release(&call.core);
        // Nobody waits for this.
        if let Some(tail) = tail {
            Box::pin(tail.release(&call.core)).await;
        }
    }
}

/// What became of a request for several embeddings.
enum ByInput {
    /// All of them are known.
    Known(Box<Entry>),
    /// A backend was asked for some. The answer to all is in the flight; or it failed.
    Fetched(Result<Captured, Failure>),
    /// None is known, or the answer for some is no use: it is to be asked for all.
    Whole,
}

async fn by_input(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &Flight,
    guard: &mut CompletionGuard,
    batch: &Batch,
) -> ByInput {
    let known = batch.look_up(generation.core()).await;
    match known.iter().flatten().count() {
        0 => return ByInput::Whole,
        count if count == known.len() => {
            let entry = batch.known_answer(generation, &known);
            return entry.map_or(ByInput::Whole, |entry| ByInput::Known(Box::new(entry)));
        }
        _ => {}
    }
    let rest = upstream.with_body(batch.rest(upstream.body(), &known));
    let own = Flight::private(generation, None);
    let mut reader = own.subscriber(generation.core());
    reader.wants_until(upstream.deadline_ms);
    generation.counters.calls.add(1);
    let fetched = flight.unless_abandoned(fetch(generation, &rest, &own, &mut reader)).await;
    rest.release(generation);
    let Fetched { captured, model, seen } = match fetched {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(failure)) => return ByInput::Fetched(Err(failure)),
        Err(Abandoned) => return ByInput::Fetched(Err(Failure::ClientGone)),
    };
    let fetched = own.freeze();
    // The connection is somebody else's by now: nobody's leaving concerns it.
    own.finish(generation, End::Failed(Failure::FlightLost));
    let is_usable = captured.stored.is_ok() && model == upstream.model;
    let ttl_ms = generation.snapshot.models[upstream.model].cache_ttl_ms;
    let whole = fetched.filter(|_| is_usable).and_then(|rest| batch.complete(generation, &known, &rest, ttl_ms));
    let Some(((body, tokens), head)) = whole.zip(reader.answer_head(AnswerHead::clone)) else { return ByInput::Whole };
    guard.spend(upstream, model, captured.tokens, seen);
    let length = Some(body.len() as u64);
    flight.open(generation, AnswerHead { length, ..head }, body.to_vec());
    ByInput::Fetched(Ok(Captured { tokens: Some(tokens), ..captured }))
}

/// Waits for others that ask the same of other inputs, and for its part of the common answer.
async fn combined(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &Flight,
    combinable: &Combinable,
) -> Share {
    let settings = &generation.snapshot.models[upstream.model];
    let waiter = match generation.windows.enter(combinable, upstream.body(), settings.batch_max_inputs) {
        Entered::Joined(waiter) => waiter,
        Entered::Opened(waiter, window) => {
            let request = upstream.with_body(upstream.body().to_vec());
            // A task of its own: the client that opened the window may leave before the others.
            let serving = serve_window(generation.clone(), request, combinable.inputs.array, window);
            spawn(&generation.panics.clone(), serving);
            waiter
        }
    };
    let waiting = async {
        loop {
            if let Some(share) = within(waiter.share(), PAUSE_STEP_MS).await {
                return share;
            }
            flight.alive(generation);
        }
    };
    let until_ms = upstream.deadline_ms.unwrap_or(u64::MAX);
    let share = while_wanted(flight, until_ms, flight.unless_abandoned(waiting)).await;
    let share = share.unwrap_or(Ok(Share::Failed(Failure::DeadlineExceeded)));
    share.unwrap_or(Share::Failed(Failure::ClientGone))
}

/// Asks a backend for all requests of a window once it is over. `request` is that of its first one, and `inputs` where its inputs
/// stand.
async fn serve_window(generation: Rc<Generation>, mut request: UpstreamRequest, inputs: Span, window: Rc<Window>) {
    let settings = &generation.snapshot.models[request.model];
    let members = generation.windows.wait(&window, settings.batch_window_ms).await;
    let joined =
        (members.len() > 1).then(|| join(&generation, request.endpoint, request.body(), inputs, &members)).flatten();
    let Some((body, facts)) = joined else {
        members.give(|_| Share::Alone);
        return request.release(&generation);
    };
    request.replace_body(body, facts);
    let own = Flight::private(&generation, None);
    let mut reader = own.subscriber(generation.core());
    generation.counters.calls.add(1);
    generation.counters.combined.add(members.len() as u64);
    let fetched = window.unless_deserted(fetch(&generation, &request, &own, &mut reader)).await;
    let endpoint = request.endpoint;
    request.release(&generation);
    let answer = match fetched {
        // Nobody is left.
        None => None,
        Some(Err(failure)) => {
            members.give(|_| Share::Failed(failure.clone()));
            return own.finish(&generation, End::Failed(failure));
        }
        Some(Ok(fetched)) => own.freeze().zip(reader.answer_head(AnswerHead::clone)).zip(Some(fetched)),
    };
    // The connection is somebody else's by now: nobody's leaving concerns it.
    own.finish(&generation, End::Failed(Failure::FlightLost));
    // Without one, it was too long for one answer.
    let Some(((body, head), Fetched { captured, model, seen })) = answer else {
        return members.give(|_| Share::Alone);
    };
    let part = |body, stored, tokens, seen| {
        Share::Part(Box::new(Part { head: head.clone(), body, stored, tokens, model, seen }))
    };
    match head.status {
        200..300 => match split(&generation, endpoint, &members, &body, captured.stored) {
            Some(parts) => {
                let mut parts = parts.into_iter();
                members.give(|_| match parts.next() {
                    Some((body, stored, tokens)) => part(body, stored, Some(tokens), Seen::default()),
                    None => Share::Alone,
                });
            }
            None => members.give(|_| Share::Alone),
        },
        // Of these each is told by itself, as it may be the fault of one.
        400..500 if !matches!(head.status, 408 | 429) => members.give(|_| Share::Alone),
        _ => {
            let stored = captured.stored;
            let seen = Seen { tokens: seen.tokens / members.len().max(1) as u64, reported: None };
            members.give(|_| part(body.to_vec(), stored, None, seen));
        }
    }
}

/// An answer that is in a flight of its own.
struct Fetched {
    captured: Captured,
    model: usize,
    seen: Seen,
}

async fn fetch(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &Flight,
    reader: &mut Subscriber,
) -> Result<Fetched, Failure> {
    let Found { mut pending, model, permit } = answer(generation, upstream, flight).await?;
    pending.open(generation, upstream.waited_us.get());
    let flowed = poll_fn(|context| {
        let flowed = pending.poll_flow(generation, context);
        // It has to be read on, also where it is too long to be kept.
        reader.read(|bytes| (bytes.len(), ()));
        flowed
    })
    .await;
    let seen = pending.seen();
    let (captured, tail) = pending.close(generation, upstream, flowed)?;
    drop(permit);
    if let Some(tail) = tail {
        let generation = generation.clone();
        // Nobody waits for this.
        spawn(&generation.panics.clone(), async move { tail.release(&generation).await });
    }
    Ok(Fetched { captured, model, seen })
}

/// An answer to hand to those who wait.
struct Found<'a> {
    pending: Box<PendingResponse<'a>>,
    model: usize,
    permit: QueuePermit,
}

/// An answer, if it begins while somebody has time for it: the client whose call it is, or one who shares it.
async fn answer<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &'a Flight,
) -> Result<Found<'a>, Failure> {
    match upstream.deadline_ms {
        None => from_models(generation, upstream, flight).await,
        Some(at_ms) => {
            let answer = Box::pin(while_wanted(flight, at_ms, from_models(generation, upstream, flight))).await;
            answer.unwrap_or_else(|| Err(overdue(generation, upstream)))
        }
    }
}

/// Does `work` as long as somebody who waits for it has time: its leader has until `until_ms`.
async fn while_wanted<T>(flight: &Flight, mut until_ms: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        // Whose time is over earlier is told so by its own task.
        if until_ms == u64::MAX {
            return Some(work.await);
        }
        if let Some(done) = within(work.as_mut(), until_ms.saturating_sub(now_ms())).await {
            return Some(done);
        }
        until_ms = flight.wanted_until_ms();
        if until_ms <= now_ms() {
            return None;
        }
    }
}

/// Why there is no answer in time.
pub fn overdue(generation: &Generation, upstream: &UpstreamRequest) -> Failure {
    match upstream.was_sent.get() {
        true => Failure::DeadlineExceeded,
        // Its time in a queue was over in the same moment.
        false => {
            generation.counters.queue_expired.add(1);
            Failure::DeadlineUnreachable { retry_s: 1 }
        }
    }
}

async fn from_models<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &'a Flight,
) -> Result<Found<'a>, Failure> {
    let fallbacks = &generation.snapshot.models[upstream.model].fallback;
    let mut chain = std::iter::once(upstream.model).chain(fallbacks.iter().copied()).peekable();
    while let Some(model) = chain.next() {
        // What is out of service is asked last: nobody waits for it while a fallback serves.
        if chain.peek().is_some()
            && !route::is_in_service(&generation.upstreams, model)
            && chain.clone().any(|next| route::is_in_service(&generation.upstreams, next))
        {
            generation.counters.fallbacks.add(1);
            continue;
        }
        let Passed { permit, fault, answer, then } = match at_model(generation, upstream, model, flight).await {
            Ok((pending, permit)) => return Ok(Found { pending, model, permit }),
            Err(passed) => passed,
        };
        if flight.is_unwanted() {
            return Err(Failure::ClientGone);
        }
        if then == Then::OtherModel && chain.peek().is_some() {
            generation.counters.fallbacks.add(1);
            if let Some(answer) = answer {
                Box::pin(answer.put_away(generation)).await;
            }
            continue;
        }
        let failure = match upstream.untranslatable.get().filter(|_| fault == Fault::Untranslatable) {
            Some(why) => untranslatable(why),
            None => failure(fault),
        };
        let is_ours = matches!(fault, Fault::Status(401 | 407));
        return match (answer, permit) {
            // An expired answer is better than an error that is not the request's own; ours are nobody's to see.
            (Some(answer), Some(permit)) if !(is_ours || flight.stale().is_some() && then == Then::OtherModel) => {
                Ok(Found { pending: answer, model, permit })
            }
            _ => Err(failure),
        };
    }
    Err(Failure::NoBackend)
}

/// Why a model brought no answer, or one that is an error.
struct Passed<'a> {
    permit: Option<QueuePermit>,
    fault: Fault,
    answer: Option<Box<PendingResponse<'a>>>,
    then: Then,
}

/// What may still bring an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    OtherModel,
    GiveUp,
}

/// Attempts at one model, and what they say of its backends.
async fn at_model<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    model: usize,
    flight: &'a Flight,
) -> Result<(Box<PendingResponse<'a>>, QueuePermit), Passed<'a>> {
    let suspects = Suspects::default();
    let result = attempts(generation, upstream, model, flight, &suspects).await;
    let ended = if result.is_ok() { Ended::Answered } else { Ended::Failed };
    suspects.judge(&generation.upstreams, upstream.body(), ended);
    result
}

/// Attempts at one model until one brings an answer, or no further one is worth it.
async fn attempts<'a>(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    model: usize,
    flight: &'a Flight,
    suspects: &Suspects,
) -> Result<(Box<PendingResponse<'a>>, QueuePermit), Passed<'a>> {
    let settings = &generation.snapshot.models[model];
    let permit = match queue::permit_now(&generation.upstreams, At::Model(model), upstream.claim) {
        Ok(Some(permit)) => Ok(permit),
        // Boxed, here and wherever else it is rare: what is not, is copied with the task of every request.
        Ok(None) => {
            let (asked_us, timeout_ms) = (now_us(), settings.timeout_queue_ms);
            let waiting = Box::pin(queue::wait(&generation.upstreams, At::Model(model), upstream.claim, timeout_ms));
            let permit = flight.unless_abandoned(waiting).await.unwrap_or(Err(Fault::Cancelled));
            upstream.queued_since(asked_us);
            permit
        }
        Err(fault) => Err(fault),
    };
    let permit = match permit {
        Ok(permit) => permit,
        Err(fault) => {
            let then = if now_ms() < upstream.claim.until_ms { Then::OtherModel } else { Then::GiveUp };
            return Err(Passed { permit: None, fault, answer: None, then });
        }
    };
    let since_ms = now_ms();
    let mut attempts = Attempts::new(rules(settings));
    generation.upstreams.models[model].spread.borrow_mut().retries.deposit();
    let mut tried = Tried::default();
    let affinity = |balance: &Balance| upstream.affinity(balance);
    loop {
        flight.alive(generation);
        let mut backend = None;
        let result = match route::plan(&generation.upstreams, model, upstream.claim, &tried, affinity) {
            Ok(plan) => {
                tried.add(plan.target);
                backend = Some(plan.backend);
                match settings.hedge_percent {
                    0 => attempt(generation, upstream, plan, since_ms, Lane::First, flight, suspects).await,
                    _ => Box::pin(hedged(generation, upstream, plan, &mut tried, since_ms, flight, suspects)).await,
                }
            }
            Err(fault) => Err(fault.into()),
        };
        let (miss, answer) = match result {
            Ok(pending) => match pending.miss {
                None => return Ok((pending, permit)),
                Some(miss) => (miss, Some(pending)),
            },
            Err(miss) => (miss, None),
        };
        if upstream.when_left == OnClientDisconnect::Drain {
            // No backend has it by now.
            flight.set_when_left(OnClientDisconnect::Cancel);
        }
        if flight.is_unwanted() {
            return Err(Passed { permit: Some(permit), fault: Fault::Cancelled, answer, then: Then::GiveUp });
        }
        let others =
            if route::has_others(&generation.upstreams, model, &tried) { Others::Untried } else { Others::None };
        let fault = miss.fault;
        if !upstream.may_repeat(fault) {
            return Err(Passed { permit: Some(permit), fault, answer, then: Then::GiveUp });
        }
        let left_ms = backend.map(|backend| upstream.left_ms(generation, backend, since_ms));
        let step = {
            let budget = &mut generation.upstreams.models[model].spread.borrow_mut().retries;
            attempts.next(fault, miss.hint_ms, others, left_ms, budget, random_u64())
        };
        match step {
            Step::Again { after_ms } => {
                generation.counters.retries.add(1);
                if let Some(answer) = answer {
                    Box::pin(answer.put_away(generation)).await;
                }
                if others == Others::None {
                    tried = Tried::default();
                }
                if after_ms > 0 {
                    let from_us = now_us();
                    Box::pin(pause(generation, flight, after_ms)).await;
                    upstream.waited_since(from_us);
                }
            }
            Step::OtherModel => return Err(Passed { permit: Some(permit), fault, answer, then: Then::OtherModel }),
            Step::GiveUp => return Err(Passed { permit: Some(permit), fault, answer, then: Then::GiveUp }),
        }
    }
}

async fn pause(generation: &Generation, flight: &Flight, for_ms: u64) {
    let until_ms = now_ms() + for_ms;
    loop {
        let left_ms = until_ms.saturating_sub(now_ms());
        if left_ms == 0 || flight.is_abandoned() {
            return;
        }
        let _ = flight.unless_abandoned(sleep_ms(left_ms.min(PAUSE_STEP_MS))).await;
        flight.alive(generation);
    }
}
