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
    /// Only another model helps.
    OtherModel,
    Never,
}

/// The table of what is retryable.
pub const fn again(fault: Fault) -> Again {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => Again::Free,
        Fault::Closed | Fault::Garbage | Fault::Truncated | Fault::HeadTimeout | Fault::FirstTimeout => Again::Budgeted,
        Fault::FirstEvent(EventFault::Overloaded | EventFault::RateLimited | EventFault::Server) => Again::Budgeted,
        Fault::FirstEvent(EventFault::Client) => Again::Never,
        // Too early, too many, and what a server says of itself; 52x are a content network's for an origin that is not
        // there, 529 is Anthropic's for overloaded.
        Fault::Status(408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524 | 529) => Again::Budgeted,
        // This gateway's credential, its account, or a model that is not there: the same everywhere at that provider.
        Fault::Status(401 | 402 | 403 | 404 | 407) => Again::OtherModel,
        Fault::Status(_) => Again::Never,
        Fault::ContextWindow | Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout => Again::OtherModel,
        Fault::Deadline => Again::OtherModel,
        Fault::Cancelled => Again::Never,
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
    /// A backend that asks for a longer wait is not waited for.
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
}

impl Attempts {
    pub const fn new(rules: Rules) -> Self {
        Self { rules, retries: 0 }
    }

    /// The step after `fault`.
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
        dice: u64,
    ) -> Step {
        let again = again(fault);
        match again {
            Again::Never => return Step::GiveUp,
            Again::OtherModel => return Step::OtherModel,
            Again::Free if others == Others::Untried => return Step::Again { after_ms: 0 },
            Again::Free | Again::Budgeted => {}
        }
        if self.retries >= self.rules.retries {
            return Step::OtherModel;
        }
        let after_ms = match others {
            Others::Untried => 0,
            Others::None => self.backoff_ms(dice).max(hint_ms.unwrap_or(0)),
        };
        let too_long = after_ms > self.rules.hint_max_ms.max(self.rules.backoff_max_ms);
        if too_long || left_ms.is_some_and(|left_ms| after_ms >= left_ms) {
            return Step::OtherModel;
        }
        if again == Again::Budgeted && !budget.withdraw() {
            return Step::OtherModel;
        }
        self.retries += 1;
        Step::Again { after_ms }
    }

    /// Between half of a bound that doubles and all of it: so that those who failed together do not come back together,
    /// and none of them at once.
    fn backoff_ms(&self, dice: u64) -> u64 {
        let doubled = self.rules.backoff_ms.saturating_mul(1 << self.retries.min(32));
        let most = doubled.min(self.rules.backoff_max_ms);
        let least = most / 2;
        least + ((u128::from(dice) * u128::from(most - least + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const RULES: Rules = Rules { retries: 2, backoff_ms: 25, backoff_max_ms: 2_000, hint_max_ms: 60_000 };

    #[test]
    fn the_table() {
        use Again::*;
        let statuses =
            |wanted| -> Vec<u16> { (100..600).filter(|&code| again(Fault::Status(code)) == wanted).collect() };
        let budgeted = [408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529];
        assert_eq!(statuses(Budgeted), budgeted);
        assert_eq!(statuses(OtherModel), [401, 402, 403, 404, 407]);
        assert_eq!(statuses(Free), []);
        assert_eq!(again(Fault::Refused), Free);
        assert_eq!(again(Fault::FirstEvent(EventFault::Client)), Never);
        assert_eq!(again(Fault::Cancelled), Never);
    }

    #[test]
    fn unreached_backends_cost_nothing_while_others_are_untried() {
        let mut attempts = Attempts::new(Rules { retries: 0, ..RULES });
        let mut budget = Budget::new(0, 0);
        for _ in 0..10 {
            let step = attempts.next(Fault::Connect, None, Others::Untried, None, &mut budget, 7);
            assert_eq!(step, Step::Again { after_ms: 0 });
        }
        assert_eq!(attempts.next(Fault::Connect, None, Others::None, None, &mut budget, 7), Step::OtherModel);
    }

    #[test]
    fn retries_are_counted_wait_longer_and_longer_and_are_paid_for() {
        let mut attempts = Attempts::new(RULES);
        let mut budget = Budget::new(0, 3);
        let mut next = |fault, others, budget: &mut Budget| attempts.next(fault, None, others, None, budget, u64::MAX);
        assert_eq!(next(Fault::Closed, Others::None, &mut budget), Step::Again { after_ms: 25 });
        assert_eq!(next(Fault::Status(503), Others::None, &mut budget), Step::Again { after_ms: 50 });
        assert_eq!(next(Fault::Closed, Others::Untried, &mut budget), Step::OtherModel, "two retries and no third");
        let mut attempts = Attempts::new(RULES);
        let step = attempts.next(Fault::Closed, None, Others::Untried, None, &mut budget, 0);
        assert_eq!(step, Step::Again { after_ms: 0 });
        let step = attempts.next(Fault::Closed, None, Others::Untried, None, &mut budget, 0);
        assert_eq!(step, Step::OtherModel, "the budget is spent");
    }

    #[test]
    fn a_hint_is_a_least_wait_and_one_too_long_is_not_waited_for() {
        let mut budget = Budget::new(0, 9);
        let mut step = |hint_ms, others, left_ms| {
            Attempts::new(RULES).next(Fault::Status(429), hint_ms, others, left_ms, &mut budget, 0)
        };
        assert_eq!(step(Some(7_000), Others::None, Some(30_000)), Step::Again { after_ms: 7_000 });
        assert_eq!(step(Some(7_000), Others::Untried, Some(30_000)), Step::Again { after_ms: 0 });
        assert_eq!(step(Some(7_000), Others::None, Some(7_000)), Step::OtherModel);
        assert_eq!(step(Some(60_001), Others::None, None), Step::OtherModel);
    }
}
