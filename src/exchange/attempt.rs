//! One attempt to get an answer from one backend: a connection, the request, and the answer up to its first content.
//! Until then nothing has reached a client, so that a failed attempt is followed by another one unseen.

use std::rc::Rc;

use shards::breaker::Outcome;
use shards::{Again, EventFault, Fault, again};

use super::flight::{Flight, Lane};
use super::generation::Generation;
use super::lease::{self, Wanted};
use super::meter::Attempted;
use super::relay::PendingResponse;
use super::route::Plan;
use super::send::{self, SendFault};
use super::suspects::Suspects;
use super::upstream_request::UpstreamRequest;
use crate::dialect::Dialect;
use crate::dialect::facts::{ErrorKind, Form};
use crate::error::Failure;
use crate::net::{now_ms, now_us};
use crate::wire::json::Tape;

/// How often an attempt sends its request once more after its stream was refused.
const REFUSALS_MAX: u32 = 2;

/// Until when what has to have come, on the core's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The head of the answer.
    pub head_ms: u64,
    /// The first content.
    pub first_ms: u64,
    /// The same for all attempts at the model together.
    pub request_ms: u64,
    /// The end of a body that flows.
    pub stream_ms: u64,
    /// How long an answer that has begun may be silent.
    pub idle_ms: u64,
    /// How long a stream that flows may bring no content.
    pub content_ms: u64,
}

impl Deadlines {
    /// Of an attempt that begins now at a backend, for a request that has been with this model since `since_ms`.
    pub fn begin(core: &Generation, upstream: &UpstreamRequest, backend: usize, since_ms: u64) -> Deadlines {
        let backend = &core.snapshot.backends[backend];
        let now_ms = now_ms();
        let request_ms = since_ms.saturating_add(backend.timeout_request_ms);
        let stream_ms = backend.timeout_stream_ms.map_or(u64::MAX, |ms| since_ms.saturating_add(ms));
        let until = |ms: u64| request_ms.min(stream_ms).min(now_ms.saturating_add(ms));
        let (head_ms, first_ms) = match upstream.form {
            // Its head comes with its body: one time bounds both.
            Form::NonStreaming => (request_ms, request_ms),
            Form::Streaming => (
                until(backend.timeout_head_ms.min(backend.timeout_first_token_ms)),
                until(backend.timeout_first_token_ms),
            ),
        };
        let (idle_ms, content_ms) = (backend.timeout_stream_idle_ms, backend.timeout_stream_content_ms);
        Deadlines { head_ms, first_ms, request_ms, stream_ms, idle_ms, content_ms }
    }

    /// All at the same time: for a connection that is opened ahead of need.
    pub fn until(at_ms: u64) -> Deadlines {
        let (idle_ms, content_ms) = (0, 0);
        Deadlines { head_ms: at_ms, first_ms: at_ms, request_ms: at_ms, stream_ms: at_ms, idle_ms, content_ms }
    }

    /// What a wait that ended too late means: `phase`, or that there is no time left at all.
    pub fn fault(&self, phase: Fault) -> Fault {
        if now_ms() >= self.request_ms.min(self.stream_ms) { Fault::Deadline } else { phase }
    }
}

/// Why an attempt brought nothing, and how long the backend asked to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    pub fault: Fault,
    pub hint_ms: Option<u64>,
}

impl From<Fault> for FailedAttempt {
    fn from(fault: Fault) -> FailedAttempt {
        FailedAttempt { fault, hint_ms: None }
    }
}

/// An account without quota is left alone for so long, where its provider says nothing: topping it up takes a human.
const QUOTA_COOL_MS: u64 = 60_000;
/// A backend that asks to be left alone for longer is asked again all the same: clocks are wrong, limits are lifted.
const COOL_MAX_MS: u64 = 60_000;

/// Makes the attempt that `plan` says. The answer it brings may be one that is better not given: see [`PendingResponse::miss`].
pub async fn attempt<'a>(
    core: &Rc<Generation>,
    upstream: &UpstreamRequest,
    plan: Plan,
    since_ms: u64,
    lane: Lane,
    flight: &'a Flight,
    suspects: &Suspects,
) -> Result<Box<PendingResponse<'a>>, FailedAttempt> {
    let deadlines = Deadlines::begin(core, upstream, plan.backend, since_ms);
    let watched = core.times_first_content(plan.model);
    let started_us = if watched { now_us() } else { 0 };
    let counted = Attempted::begin(core, plan.backend);
    let (mut wanted, mut refusals) = (Wanted::Any, 0);
    // In one function: one that is waited for is copied before it begins.
    let result = loop {
        let leased = match lease::connection_now(core, &plan, wanted) {
            Ok(None) => {
                let asked_us = now_us();
                let leased = Box::pin(lease::connection(core, &plan, wanted, deadlines, flight)).await;
                upstream.waited_since(asked_us);
                leased
            }
            Ok(Some(lease)) => Ok(lease),
            Err(fault) => Err(fault),
        };
        let mut lease = match leased {
            Ok(lease) => lease,
            Err(fault) => break Err(fault),
        };
        match send::request(core, upstream, &plan, &mut lease, deadlines, lane, flight).await {
            Ok(answer) => {
                let mut pending = PendingResponse::new(core, upstream, &plan, lease, answer, deadlines, flight);
                let from_us = now_us();
                let first = pending.begin(core, upstream.endpoint).await;
                upstream.waited_since(from_us);
                match first {
                    Ok(()) => break Ok(pending),
                    Err(fault) => {
                        pending.break_off(core);
                        break Err(fault);
                    }
                }
            }
            // RFC 9113 8.7: what was refused was not processed. Streams are, when they are opened before the peer has told
            // how many it allows: by now it has.
            Err(SendFault::Failed(Fault::Refused)) if refusals < REFUSALS_MAX => {
                refusals += 1;
                lease.break_off();
            }
            Err(SendFault::Failed(fault)) => {
                lease.break_off();
                break Err(fault);
            }
            Err(SendFault::Stale) => {
                core.counters.stale_retries.add(1);
                wanted = Wanted::Fresh;
            }
        }
    };
    counted.end(match &result {
        Ok(pending) => pending.miss.map(|miss| miss.fault),
        Err(fault) => Some(*fault),
    });
    match result {
        Ok(mut pending) => {
            if watched {
                let us = now_us().saturating_sub(started_us);
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

/// What a fault says of the backend's health.
pub fn outcome(fault: Fault) -> Outcome {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Closed | Fault::Garbage | Fault::Truncated => Outcome::Bad,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => Outcome::Bad,
        Fault::Status(500..) => Outcome::Bad,
        // It lives and says why.
        Fault::Status(401..=403 | 407 | 429) | Fault::Quota => Outcome::Neutral,
        Fault::Status(_) | Fault::ContextWindow => Outcome::Good,
        Fault::FirstEvent(_) => Outcome::Neutral,
        Fault::Refused | Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout | Fault::Cancelled => {
            Outcome::Neutral
        }
    }
}

/// Whether a fault is that something did not come in time.
pub fn is_late(fault: Fault) -> bool {
    matches!(fault, Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline)
}

/// Whether a fault is the backend's, sick or not, or its provider's: however fast it came, the backend is not fast.
pub fn is_failing(fault: Fault) -> bool {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Closed | Fault::Garbage | Fault::Truncated => true,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => true,
        // What another attempt may mend is not the request's own.
        Fault::Status(_) | Fault::FirstEvent(_) => again(fault) != Again::Never,
        Fault::Quota => true,
        Fault::ContextWindow | Fault::Refused | Fault::NoBackend => false,
        Fault::QueueFull | Fault::QueueTimeout | Fault::Cancelled => false,
    }
}

/// What the client is told when there is no other attempt and no answer to pass on.
pub fn failure(fault: Fault) -> Failure {
    match fault {
        Fault::Connect => Failure::BackendConnect,
        Fault::Handshake => Failure::BackendHandshake,
        Fault::Closed | Fault::Refused => Failure::BackendClosed,
        Fault::Garbage => Failure::BackendGarbage,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => Failure::BackendTimeout,
        Fault::Truncated => Failure::BackendTruncated,
        Fault::FirstEvent(_) | Fault::Status(_) | Fault::ContextWindow | Fault::Quota => Failure::BackendRefused,
        Fault::NoBackend => Failure::NoBackend,
        Fault::QueueFull => Failure::QueueFull,
        Fault::QueueTimeout => Failure::QueueTimeout,
        Fault::Cancelled => Failure::ClientGone,
    }
}

/// What an answer with an error's status and body means.
pub fn refusal(status: u16, body: &[u8], tape: &mut Tape) -> Fault {
    match Dialect::OpenAi.error_kind(body, tape) {
        Some(ErrorKind::ContextWindow) => Fault::ContextWindow,
        Some(ErrorKind::QuotaExhausted) => Fault::Quota,
        _ => Fault::Status(status),
    }
}

/// What an error as the first event of a stream means.
pub fn first_event(kind: ErrorKind) -> Fault {
    match kind {
        ErrorKind::ContextWindow => Fault::ContextWindow,
        ErrorKind::QuotaExhausted => Fault::Quota,
        ErrorKind::RateLimited => Fault::FirstEvent(EventFault::RateLimited),
        ErrorKind::Overloaded => Fault::FirstEvent(EventFault::Overloaded),
        ErrorKind::Client => Fault::FirstEvent(EventFault::Client),
        ErrorKind::Server | ErrorKind::Unknown => Fault::FirstEvent(EventFault::Server),
    }
}
