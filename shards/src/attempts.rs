//! Whether, when and where a request is tried again: one table of what is worth it, and one request's way through it.
//! Owned by the request. Must never repeat what may have reached a client: the caller asks only before that.

use crate::Budget;

/// Why an attempt brought no answer, or one that is worse than another might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Connect,
    /// No secure connection, or not the protocol that was wanted.
    Handshake,
    /// The connection ended before an answer came.
    Closed,
    /// What came is not HTTP.
    Garbage,
    /// Certainly not acted on: a refused HTTP/2 stream, or one behind a GOAWAY (RFC 9113 8.7).
    Refused,
    /// The head of the answer did not come in time.
    HeadTimeout,
    /// The first content did not.
    FirstTimeout,
    /// The answer broke off.
    Truncated,
    /// The first event of a stream is an error.
    FirstEvent(EventFault),
    /// An answer with an error's status.
    Status(u16),
    /// The request is too long for the model.
    ContextWindow,
    /// The account at that provider has no quota or no money left.
    Quota,
    /// No backend of the model is in service.
    NoBackend,
    QueueFull,
    QueueTimeout,
    /// The time for all attempts at the model is over.
    Deadline,
    /// Nobody wants the answer any more.
    Cancelled,
}

/// What an error as the first event of a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    Overloaded,
    RateLimited,
    Server,
    Client,
}

/// What is worth trying after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same model, at no charge: nothing was asked of anybody.
    Free,
    /// The same model, within the budget.
    Budgeted,
    /// As `Budgeted`, but not the same backend: it would fail the same way once more.
    Elsewhere,
    /// Only another model helps.
    OtherModel,
    Never,
}

/// The table of what is retryable.
pub const fn again(fault: Fault) -> Again {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => Again::Free,
        Fault::Closed | Fault::Garbage | Fault::Truncated => Again::Budgeted,
        // A backend that hangs holds the next attempt just as long; an empty account stays empty.
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Quota | Fault::Status(402) => Again::Elsewhere,
        Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited | EventFault::Server) => Again::Budgeted,
        Fault::FirstEvent(EventFault::Client) => Again::Never,
        // Too early, too many, and what a server says of itself; 52x are a content network's for an origin that is not
        // there, 529 is Anthropic's for overloaded.
        Fault::Status(408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524 | 529) => Again::Budgeted,
        // This gateway's credential, or a model that is not there: the same everywhere at that provider.
        Fault::Status(401 | 403 | 404 | 407) => Again::OtherModel,
        Fault::Status(_) => Again::Never,
        Fault::ContextWindow | Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout => Again::OtherModel,
        Fault::Deadline => Again::OtherModel,
        Fault::Cancelled => Again::Never,
    }
}

/// Whether a request that met `fault` may have been acted on. One with effects is then not repeated (RFC 9110 9.2.2).
pub const fn may_have_acted(fault: Fault) -> bool {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => false,
        Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout => false,
        Fault::Quota | Fault::ContextWindow | Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited) => {
            false
        }
        // Turned away at the door.
        Fault::Status(401..=407 | 429 | 503 | 529) => false,
        Fault::Status(_) | Fault::FirstEvent(EventFault::Server | EventFault::Client) => true,
        Fault::Closed | Fault::Garbage | Fault::Truncated => true,
        Fault::HeadTimeout | Fault::FirstTimeout | Fault::Deadline | Fault::Cancelled => true,
    }
}

/// How often and how fast one model is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Attempts after the first one.
    pub retries: u32,
    /// Longest first wait at a backend that failed already; each one more doubles it.
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// Longest wait, over all attempts, because backends ask for it; who asks for more is not waited for.
    pub hint_max_ms: u64,
}

/// Whether another backend of the model is in service that this request has not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Untried,
    None,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try again, at another backend if there is one.
    Again {
        after_ms: u64,
    },
    /// Try another model; without one, give up.
    OtherModel,
    GiveUp,
}

/// One request's attempts at one model.
#[derive(Clone, Debug)]
pub struct Attempts {
    rules: Rules,
    retries: u32,
    /// What was waited because backends asked for it.
    hinted_ms: u64,
}

impl Attempts {
    pub const fn new(rules: Rules) -> Self {
        Self { rules, retries: 0, hinted_ms: 0 }
    }

    /// The step after `fault`. Once the request's time is over, no attempt is begun, free or not.
    ///
    /// `hint_ms` is what the backend said (`Retry-After`), `left_ms` what is left of the request's own time. While
    /// another backend is untried there is no wait. Moving on from a backend that was not reached costs nothing, and
    /// ends with the backends; everything else costs one of the retries and, where work was done, a part of `budget`.
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
            Again::Free | Again::Budgeted | Again::Elsewhere if left_ms == Some(0) => return Step::OtherModel,
            Again::Free if others == Others::Untried => return Step::Again { after_ms: 0 },
            Again::Elsewhere if others == Others::None => return Step::OtherModel,
            Again::Free | Again::Budgeted | Again::Elsewhere => {}
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

    /// Between half of a bound that doubles and all of it: so that those who failed together do not come back together,
    /// and none of them at once.
    fn backoff_ms(&self, rng: u64) -> u64 {
        let doubled = self.rules.backoff_ms.saturating_mul(1 << self.retries.min(32));
        let most = doubled.min(self.rules.backoff_max_ms);
        let least = most / 2;
        least + ((u128::from(rng) * u128::from(most - least + 1)) >> 64) as u64
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.retries <= self.rules.retries, "{} retries of {}", self.retries, self.rules.retries);
        assert!(self.hinted_ms <= self.rules.hint_max_ms, "{} ms were waited on demand", self.hinted_ms);
    }
}

#[cfg(test)]
mod tests;
