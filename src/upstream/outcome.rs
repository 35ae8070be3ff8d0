//! What the fault of an attempt says of its backend.

use shards::breaker::Outcome;
use shards::{Again, EventFault, Fault, again};

/// What a fault says of the backend's health.
pub fn outcome(fault: Fault) -> Outcome {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Closed | Fault::Garbage | Fault::Truncated => Outcome::Bad,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => Outcome::Bad,
        Fault::Status(500..) => Outcome::Bad,
        // It knows the gateway's credential no longer, whoever asks.
        Fault::Status(401 | 407) => Outcome::Bad,
        // It lives and says why.
        Fault::Status(402..=404 | 429) | Fault::Quota => Outcome::Neutral,
        Fault::Status(_) | Fault::ContextWindow => Outcome::Good,
        Fault::FirstEvent(_) => Outcome::Neutral,
        Fault::Refused | Fault::NoBackend | Fault::Cancelled | Fault::Untranslatable => Outcome::Neutral,
        Fault::QueueFull | Fault::QueueTimeout | Fault::TooLate { .. } => Outcome::Neutral,
    }
}

/// Whether a fault is that something did not come in time.
pub fn is_late(fault: Fault) -> bool {
    matches!(fault, Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline)
}

/// Whether a fault is that the backend has too much to do.
pub fn is_overload(fault: Fault) -> bool {
    let told = matches!(fault, Fault::Status(429 | 503 | 529));
    told || is_late(fault) || matches!(fault, Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited))
}

/// Whether a fault is the backend's, sick or not, or its provider's: however fast it came, the backend is not fast.
pub fn is_failing(fault: Fault) -> bool {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Closed | Fault::Garbage | Fault::Truncated => true,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline => true,
        // What another attempt may mend is not the request's own.
        Fault::Status(_) | Fault::FirstEvent(_) => again(fault) != Again::Never,
        Fault::Quota => true,
        Fault::ContextWindow | Fault::Refused | Fault::NoBackend | Fault::Untranslatable => false,
        Fault::QueueFull | Fault::QueueTimeout | Fault::TooLate { .. } | Fault::Cancelled => false,
    }
}
