//! From a request for a WebSocket to a backend that has agreed, or to the answer by which it does not. Attempts follow each
//! other as those of any request: nothing has reached the client before.

use std::rc::Rc;

use shards::breaker::Outcome;
use shards::{Attempts, Fault, Others, Step};

use crate::config::snapshot::Balance;
use crate::dialect::facts::Form;
use crate::error::Failure;
use crate::exchange::attempt::{COOL_MAX_MS, rules};
use crate::exchange::attempt_span::AttemptSpan;
use crate::exchange::failed_attempt::{failure, refusal};
use crate::exchange::generation::Generation;
use crate::exchange::meter::{self, Attempted};
use crate::exchange::notes::status_of;
use crate::exchange::record::SWITCHED;
use crate::exchange::send;
use crate::exchange::upstream_request::UpstreamRequest;
use crate::exchange::websocket::answer::Passed;
use crate::limits::{HEAD_BYTES, INTERIM_RESPONSES, WEBSOCKET_REFUSAL_BYTES};
use crate::net::{now_ms, now_us, random_u64, sleep_ms, unix_ms};
use crate::upstream::connect;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::{self, Carrier, Lease};
use crate::upstream::outcome::outcome;
use crate::upstream::queue::{self, At, QueuePermit};
use crate::upstream::route::{self, Plan, Tried};
use crate::upstream::suspects::{Ended, Suspects};
use crate::wire::body::Decoder;
use crate::wire::http1::{Asked, Progress, ResponseHead};
use crate::wire::retry_after::wait_ms;

/// What a backend said.
pub enum Opened {
    Agreed(Box<Agreed>),
    /// Something else, with the backend and the model that were asked.
    Answered(Box<Passed>, usize, usize),
}

/// A backend with which there is a WebSocket now.
pub struct Agreed {
    pub lease: Lease,
    /// Counts as in flight while it lives.
    pub plan: Plan,
    pub head: ResponseHead,
    /// The head's bytes, and what came right behind it.
    pub input: Vec<u8>,
    pub deadlines: Deadlines,
    pub span: Option<Box<AttemptSpan>>,
    _permit: QueuePermit,
}

/// Asks the model's backends, and those of its fallbacks, until one has agreed.
pub async fn open(generation: &Rc<Generation>, upstream: &UpstreamRequest) -> Result<Opened, Failure> {
    let fallbacks = &generation.snapshot.models[upstream.model].fallback;
    let mut chain = std::iter::once(upstream.model).chain(fallbacks.iter().copied()).peekable();
    while let Some(model) = chain.next() {
        if !serves(generation, model) {
            continue;
        }
        let suspects = Suspects::default();
        let result = at_model(generation, upstream, model, &suspects).await;
        let ended = if result.is_ok() { Ended::Answered } else { Ended::Failed };
        suspects.judge(&generation.upstreams, upstream.body(), ended);
        let Missed { fault, passed, then } = match result {
            Ok(opened) => return Ok(opened),
            Err(missed) => missed,
        };
        if then == Then::OtherModel && chain.peek().is_some() {
            generation.counters.fallbacks.add(1);
            continue;
        }
        return match passed {
            // Ours to mend, and nobody's to see.
            Some((passed, backend)) if !matches!(fault, Fault::Status(401 | 407)) => {
                Ok(Opened::Answered(passed, backend, model))
            }
            _ => Err(failure(fault)),
        };
    }
    // None has a backend that could.
    Err(Failure::NoUpgrade)
}

/// Whether a backend of `model` can be asked for a WebSocket at all.
fn serves(generation: &Generation, model: usize) -> bool {
    let targets = &generation.snapshot.models[model].targets;
    targets.iter().any(|target| !generation.upstreams.backends[target.backend].knows_only_http2())
}

/// Why a model brought none.
struct Missed {
    fault: Fault,
    /// What its backend said instead.
    passed: Option<(Box<Passed>, usize)>,
    then: Then,
}

/// What may still bring one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    OtherModel,
    GiveUp,
}

async fn at_model(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    model: usize,
    suspects: &Suspects,
) -> Result<Opened, Missed> {
    let settings = &generation.snapshot.models[model];
    let asked_us = now_us();
    let permit = match queue::permit_now(&generation.upstreams, At::Model(model), upstream.claim) {
        Ok(Some(permit)) => Ok(permit),
        Ok(None) => {
            queue::wait(&generation.upstreams, At::Model(model), upstream.claim, settings.timeout_queue_ms).await
        }
        Err(fault) => Err(fault),
    };
    upstream.queued_since(asked_us);
    let permit = permit.map_err(|fault| Missed { fault, passed: None, then: Then::OtherModel })?;
    let since_ms = now_ms();
    let mut attempts = Attempts::new(rules(settings));
    generation.upstreams.models[model].spread.borrow_mut().retries.deposit();
    let unable = || {
        let mut unable = Tried::default();
        for (place, target) in settings.targets.iter().enumerate() {
            if generation.upstreams.backends[target.backend].knows_only_http2() {
                unable.add(place);
            }
        }
        unable
    };
    let mut tried = unable();
    loop {
        let mut backend = None;
        let attempt = match route::plan(&generation.upstreams, model, upstream.claim, &tried, |balance: &Balance| {
            upstream.affinity(balance)
        }) {
            Ok(plan) => {
                tried.add(plan.target);
                backend = Some(plan.backend);
                attempt(generation, upstream, plan, since_ms, suspects).await
            }
            Err(fault) => Attempt { result: Err(fault), hint_ms: None },
        };
        let (fault, passed) = match attempt.result {
            Ok(Answer::Agreed(agreed)) => {
                let Unpermitted { lease, plan, head, input, deadlines, span } = *agreed;
                let agreed = Agreed { lease, plan, head, input, deadlines, span, _permit: permit };
                return Ok(Opened::Agreed(Box::new(agreed)));
            }
            Ok(Answer::Passed(passed, None, backend)) => return Ok(Opened::Answered(passed, backend, model)),
            Ok(Answer::Passed(passed, Some(fault), backend)) => (fault, Some((passed, backend))),
            Err(fault) => (fault, None),
        };
        let others =
            if route::has_others(&generation.upstreams, model, &tried) { Others::Untried } else { Others::None };
        let left_ms = backend.map(|backend| upstream.left_ms(generation, backend, since_ms));
        let step = {
            let budget = &mut generation.upstreams.models[model].spread.borrow_mut().retries;
            attempts.next(fault, attempt.hint_ms, others, left_ms, budget, random_u64())
        };
        let then = match step {
            Step::Again { after_ms } => {
                generation.counters.retries.add(1);
                if others == Others::None {
                    tried = unable();
                }
                if after_ms > 0 {
                    sleep_ms(after_ms).await;
                }
                continue;
            }
            Step::OtherModel => Then::OtherModel,
            Step::GiveUp => Then::GiveUp,
        };
        return Err(Missed { fault, passed, then });
    }
}

struct Attempt {
    result: Result<Answer, Fault>,
    /// How long the backend asked to be left alone.
    hint_ms: Option<u64>,
}

enum Answer {
    Agreed(Box<Unpermitted>),
    /// A whole answer, why another one would be better, and whose it is.
    Passed(Box<Passed>, Option<Fault>, usize),
}

/// See [`Agreed`].
struct Unpermitted {
    lease: Lease,
    plan: Plan,
    head: ResponseHead,
    input: Vec<u8>,
    deadlines: Deadlines,
    span: Option<Box<AttemptSpan>>,
}

async fn attempt(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    mut plan: Plan,
    since_ms: u64,
    suspects: &Suspects,
) -> Attempt {
    let deadlines = Deadlines::begin(&generation.snapshot.backends[plan.backend], Form::Streaming, since_ms);
    let counted = Attempted::begin(generation, upstream, plan.backend);
    let mut span = AttemptSpan::begin(generation, upstream, &plan);
    plan.span = span.as_ref().and_then(|span| span.id());
    let watched = generation.upstreams.times_first_content(plan.model).then(now_us);
    let mut hint_ms = None;
    let said = ask(generation, upstream, &plan, deadlines, &mut hint_ms).await;
    let fault = match &said {
        Ok(HandshakeAnswer::Agreed { .. }) => None,
        Ok(HandshakeAnswer::Passed(_, fault)) => *fault,
        Err(fault) => Some(*fault),
    };
    counted.end(fault);
    match fault {
        None => plan.end(Outcome::Good),
        Some(fault) => {
            if let Some(started_us) = watched {
                plan.note_fault(fault, now_us().saturating_sub(started_us));
            }
            match (&said, fault) {
                (_, Fault::Status(500)) => suspects.note(&plan),
                (Ok(_), fault) => plan.end(outcome(fault)),
                (Err(_), fault) => plan.end_with(fault),
            }
            if let Some(hint_ms) = hint_ms {
                plan.cool(hint_ms.min(COOL_MAX_MS));
            }
            if let Some(span) = &mut span {
                span.fail(meter::result(fault), status_of(fault));
            }
        }
    }
    let result = said.map(|said| match said {
        HandshakeAnswer::Agreed { lease, head, input } => {
            if let Some(span) = &mut span {
                span.open(SWITCHED);
            }
            Answer::Agreed(Box::new(Unpermitted { lease, plan, head, input, deadlines, span }))
        }
        HandshakeAnswer::Passed(passed, fault) => {
            if let Some(span) = span.as_mut().filter(|_| fault.is_none()) {
                span.open(passed.status);
                span.close(Ok(None));
            }
            Answer::Passed(passed, fault, plan.backend)
        }
    });
    Attempt { result, hint_ms }
}

#[expect(clippy::large_enum_variant, reason = "one for each attempt, taken apart where it comes out")]
enum HandshakeAnswer {
    Agreed { lease: Lease, head: ResponseHead, input: Vec<u8> },
    Passed(Box<Passed>, Option<Fault>),
}

async fn ask(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    plan: &Plan,
    deadlines: Deadlines,
    hint_ms: &mut Option<u64>,
) -> Result<HandshakeAnswer, Fault> {
    let asked_us = now_us();
    let leased = Box::pin(lease::own_connection(&generation.upstreams, plan, deadlines)).await;
    upstream.connected_since(asked_us);
    let mut lease = leased?;
    upstream.was_sent.set(true);
    let mut output = generation.memory.buffers.take();
    send::write_upgrade(generation, upstream, plan, &mut output);
    let Carrier::Http1(socket) = lease.carrier() else { return Err(Fault::Closed) };
    socket.watch().shut_down_at(deadlines.head_ms);
    // A backend may answer and close before it has read everything: its answer counts.
    let (_, output) = socket.write(output).await;
    generation.memory.buffers.give(output);
    let (mut input, mut head, mut interim) = (generation.memory.buffers.take(), ResponseHead::default(), 0);
    loop {
        if !input.is_empty() {
            match generation.memory.known_responses.borrow_mut().parse_response(&input, Asked::Upgrade, &mut head) {
                Ok(Progress::Complete) if head.status >= 200 || head.status == SWITCHED => break,
                Ok(Progress::Complete) => {
                    input.drain(..head.length);
                    interim += 1;
                    if interim > INTERIM_RESPONSES {
                        return Err(Fault::Garbage);
                    }
                    continue;
                }
                Ok(Progress::Partial) if input.len() <= HEAD_BYTES => {}
                Ok(Progress::Partial) | Err(_) => return Err(Fault::Garbage),
            }
        }
        input = more(generation, plan, &mut lease, input, deadlines).await?;
    }
    let backend = &generation.snapshot.backends[plan.backend];
    if head.status == SWITCHED {
        // RFC 9110 7.8: to what was asked for, and nothing else.
        let agreed = head.fields.has_token(&input, "upgrade", "websocket");
        return if agreed { Ok(HandshakeAnswer::Agreed { lease, head, input }) } else { Err(Fault::Garbage) };
    }
    if head.status != 200 {
        let field = |name| head.fields.get(&input, name);
        *hint_ms = wait_ms(field("retry-after"), field("retry-after-ms"), unix_ms());
    }
    let mut passed = Box::new(Passed::new(backend, &head, &input));
    let mut decoder = Decoder::new(head.framing);
    input.drain(..head.length);
    loop {
        let mut consumed = 0;
        while !decoder.is_done() && consumed < input.len() {
            let step = decoder.decode(&input[consumed..]).map_err(|_| Fault::Garbage)?;
            passed.body.extend_from_slice(&input[consumed..][step.data.clone()]);
            consumed += step.consumed;
        }
        if decoder.is_done() {
            break;
        }
        if passed.body.len() > WEBSOCKET_REFUSAL_BYTES {
            return Err(Fault::Garbage);
        }
        input.clear();
        input = match more(generation, plan, &mut lease, input, deadlines).await {
            Ok(input) => input,
            Err(Fault::Closed) if decoder.eof().is_ok() => break,
            Err(Fault::Closed) => return Err(Fault::Truncated),
            Err(fault) => return Err(fault),
        };
    }
    let fault = (passed.status >= 400)
        .then(|| refusal(passed.status, &passed.body, &mut generation.memory.scratch.borrow_mut().tape));
    Ok(HandshakeAnswer::Passed(passed, fault))
}

/// Reads on.
async fn more(
    generation: &Generation,
    plan: &Plan,
    lease: &mut Lease,
    mut input: Vec<u8>,
    deadlines: Deadlines,
) -> Result<Vec<u8>, Fault> {
    if input.capacity() == input.len() {
        input.reserve(HEAD_BYTES);
    }
    let (result, input) = lease.read(input).await;
    match result {
        Ok(read) if read > 0 => Ok(input),
        _ if lease.was_interrupted() => Err(deadlines.fault(Fault::HeadTimeout)),
        Err(error) if connect::is_refused(&generation.upstreams, plan.backend, &error) => Err(Fault::Handshake),
        Ok(_) | Err(_) => Err(Fault::Closed),
    }
}
