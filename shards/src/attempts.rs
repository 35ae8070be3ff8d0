//! Whether, when and where a request is retried: the table of retryable faults, and the attempts of one request. Owned
//! by the request. Must never retry once bytes may have reached the client: the caller asks only before that.

use crate::Budget;

/// Why an attempt produced no answer, or an answer that another attempt may improve on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection could not be established.
    Connect,
    /// The TLS handshake or the protocol negotiation failed.
    Handshake,
    /// The connection closed before the answer began.
    Closed,
    /// The response is not valid HTTP.
    Garbage,
    /// Certainly not processed: a refused HTTP/2 stream, or a stream above the last id of a GOAWAY (RFC 9113 8.7).
    Refused,
    /// The response head did not arrive in time.
    HeadTimeout,
    /// The first content did not arrive in time.
    FirstTimeout,
    /// The answer was truncated.
    Truncated,
    /// The first event of a stream is an error.
    FirstEvent(EventFault),
    /// A response with an error status.
    Status(u16),
    /// The request is too long for the model.
    ContextWindow,
    /// The account at the provider is out of quota or credit.
    Quota,
    /// The request cannot be said in the API of this backend: nothing was sent.
    Untranslatable,
    /// No backend of the model is in service.
    NoBackend,
    QueueFull,
    QueueTimeout,
    /// The client's deadline passes before its turn comes.
    TooLate {
        retry_s: u16,
    },
    /// The total time for this model's attempts has expired.
    Deadline,
    /// Nobody waits for the answer any more.
    Cancelled,
}

/// What an error in the first event of a stream reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    Overloaded,
    RateLimited,
    Server,
    Client,
}

/// Which retry is worthwhile after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same model, without using the retry budget: no backend has done any work.
    Free,
    /// The same model, charged to the retry budget.
    Budgeted,
    /// The same model, charged to the budget, but another backend: this one would fail in the same way.
    Elsewhere,
    /// The same model, without using the retry budget, but another backend: this one is not suited.
    Unsuited,
    /// Only another model may help.
    OtherModel,
    Never,
}

/// The table of retryable faults.
pub const fn again(fault: Fault) -> Again {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => Again::Free,
        Fault::Closed | Fault::Garbage | Fault::Truncated => Again::Budgeted,
        // A hanging backend would hold the next attempt just as long; an exhausted account stays exhausted.
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Quota | Fault::Status(402) => Again::Elsewhere,
        Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited | EventFault::Server) => Again::Budgeted,
        Fault::FirstEvent(EventFault::Client) => Again::Never,
        // Too early, too many requests, and server errors; 520 to 524 are Cloudflare's for an unreachable origin, 529
        // is Anthropic's for overloaded.
        Fault::Status(408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524 | 529) => Again::Budgeted,
        // The gateway's credential is rejected there, or the model is not loaded: another backend has its own of both, and
        // no work has been done.
        Fault::Status(401 | 403 | 404 | 407) => Again::Unsuited,
        Fault::Status(_) => Again::Never,
        Fault::ContextWindow | Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout => Again::OtherModel,
        Fault::Deadline | Fault::TooLate { .. } => Again::OtherModel,
        Fault::Untranslatable => Again::Unsuited,
        Fault::Cancelled => Again::Never,
    }
}

/// Whether a request that failed with `fault` may have been processed. A request with side effects is then not retried
/// (RFC 9110 9.2.2).
pub const fn may_have_acted(fault: Fault) -> bool {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => false,
        Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout | Fault::TooLate { .. } => false,
        Fault::Untranslatable => false,
        Fault::Quota | Fault::ContextWindow | Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited) => {
            false
        }
        // Rejected before processing.
        Fault::Status(401..=407 | 429 | 503 | 529) => false,
        Fault::Status(_) | Fault::FirstEvent(EventFault::Server | EventFault::Client) => true,
        Fault::Closed | Fault::Garbage | Fault::Truncated => true,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline | Fault::Cancelled => true,
    }
}

/// How often and how fast a model is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Attempts after the first.
    pub retries: u32,
    /// Upper bound of the first backoff at a backend that has failed already; each further retry doubles it.
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// Total time to wait at the request of backends (`Retry-After`), over all attempts; a longer hint is not honoured.
    pub hint_max_ms: u64,
}

/// Whether the model has a backend in service that this request has not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Untried,
    None,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Retry, at another backend if there is one.
    Again {
        after_ms: u64,
    },
    /// Try another model; give up if there is none.
    OtherModel,
    GiveUp,
}

/// The attempts of one request at one model.
#[derive(Clone, Debug)]
pub struct Attempts {
    rules: Rules,
    retries: u32,
    /// Time spent waiting at the request of backends.
    hinted_ms: u64,
}

impl Attempts {
    pub const fn new(rules: Rules) -> Self {
        Self { rules, retries: 0, hinted_ms: 0 }
    }

    /// The step after `fault`. Once the request's time is over no attempt is started, free or not.
    ///
    /// `hint_ms` is the backend's `Retry-After`, `left_ms` the rest of the request's own time. While another backend is
    /// untried there is no wait. Moving on from a backend that could not be reached is free while untried backends are
    /// left; everything else costs one of the retries and, if work may have been done, a withdrawal from `budget`.
    pub fn next(
        &mut self,
        fault: Fault,
        hint_ms: Option<u64>,
        others: Others,
        left_ms: Option<u64>,
        budget: &mut Budget,
        rng: u64,
    ) -> Step {
        let again = again(fault);
        match again {
            Again::Never => return Step::GiveUp,
            Again::OtherModel => return Step::OtherModel,
            Again::Free | Again::Unsuited | Again::Budgeted | Again::Elsewhere if left_ms == Some(0) => {
                return Step::OtherModel;
            }
            Again::Free | Again::Unsuited if others == Others::Untried => return Step::Again { after_ms: 0 },
            Again::Elsewhere if others == Others::None => return Step::OtherModel,
            Again::Unsuited if others == Others::None => return Step::OtherModel,
            Again::Free | Again::Unsuited | Again::Budgeted | Again::Elsewhere => {}
        }
        if self.retries >= self.rules.retries {
            return Step::OtherModel;
        }
        let hint_ms = match others {
            Others::Untried => 0,
            Others::None => hint_ms.unwrap_or(0),
        };
        let hinted_ms = self.hinted_ms.saturating_add(hint_ms);
        let after_ms = match others {
            Others::Untried => 0,
            Others::None => self.backoff_ms(rng).max(hint_ms),
        };
        if hinted_ms > self.rules.hint_max_ms || left_ms.is_some_and(|left_ms| after_ms >= left_ms) {
            return Step::OtherModel;
        }
        if again != Again::Free && !budget.withdraw() {
            return Step::OtherModel;
        }
        self.retries += 1;
        self.hinted_ms = hinted_ms;
        Step::Again { after_ms }
    }

    /// Random between half of an exponential bound and all of it: simultaneous failures do not retry simultaneously,
    /// and none retries at once.
    fn backoff_ms(&self, rng: u64) -> u64 {
        let doubled = self.rules.backoff_ms.saturating_mul(1 << self.retries.min(32));
        let most = doubled.min(self.rules.backoff_max_ms);
        let least = most / 2;
        least + ((u128::from(rng) * u128::from(most - least + 1)) >> 64) as u64
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.retries <= self.rules.retries, "{} retries of {}", self.retries, self.rules.retries);
        assert!(self.hinted_ms <= self.rules.hint_max_ms, "waited {} ms on hints of backends", self.hinted_ms);
    }
}

#[cfg(test)]
mod tests;
