//! Why an attempt failed, and what that means to the client.

use shards::{EventFault, Fault};

use crate::dialect::Dialect;
use crate::dialect::facts::ErrorKind;
use crate::dialect::translate::Untranslatable;
use crate::error::Failure;
use crate::wire::json::Tape;

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
        // Where it is said why, see `untranslatable`.
        Fault::NoBackend | Fault::Untranslatable => Failure::NoBackend,
        Fault::QueueFull => Failure::QueueFull,
        Fault::QueueTimeout => Failure::QueueTimeout,
        Fault::TooLate { retry_s } => Failure::DeadlineUnreachable { retry_s },
        Fault::Cancelled => Failure::ClientGone,
    }
}

/// The same for a request that cannot be said in the API of the backend.
pub fn untranslatable(why: Untranslatable) -> Failure {
    Failure::Untranslatable { why: why.to_string(), param: why.param(), status: why.status() }
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
