//! Backends that answered one request with a 500. That may be the request's fault: one that makes every server fail would
//! take them all out of service, one after the other. Judged when the request is over; owned by the request.

use std::cell::RefCell;

use shards::balancer::hash;
use shards::breaker::Outcome;

use super::route::{self, Plan};
use super::upstreams::Upstreams;

/// The backends that failed, and in which term of service.
#[derive(Default)]
pub struct Suspects(RefCell<Vec<Suspect>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspect {
    backend: usize,
    term: u32,
}

/// How a request ended that some backend had answered with a 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer: then the request was not at fault.
    Answered,
    Failed,
}

impl Suspects {
    /// `plan`'s backend answered with a 500.
    pub fn note(&self, plan: &Plan) {
        if let Some(term) = plan.end_undecided() {
            self.0.borrow_mut().push(Suspect { backend: plan.backend, term });
        }
    }

    /// Tells the breakers. `body` is that of the request.
    pub fn judge(&self, upstreams: &Upstreams, body: &[u8], ended: Ended) {
        let suspects = self.0.take();
        let Some(first) = suspects.first() else { return };
        let is_new = || upstreams.backends[first.backend].failed_lately.is_new(hash(body));
        for suspect in guilty(&suspects, ended, is_new) {
            route::tell(upstreams, suspect.backend, |breaker, now| breaker.broke_off(suspect.term, Outcome::Bad, now));
        }
    }
}

/// Whom a failure speaks against. With an answer from anywhere, everybody who failed; where several backends failed alike,
/// nobody; where only one was asked, that one, once for each request that is new to it.
fn guilty(suspects: &[Suspect], ended: Ended, is_new: impl FnOnce() -> bool) -> &[Suspect] {
    let Some(first) = suspects.first() else { return &[] };
    let alone = suspects.iter().all(|other| other.backend == first.backend);
    match ended {
        Ended::Answered => suspects,
        Ended::Failed if alone && is_new() => &suspects[..1],
        Ended::Failed => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn suspect(backend: usize) -> Suspect {
        Suspect { backend, term: 0 }
    }

    #[test]
    fn a_failure_that_follows_the_request_speaks_against_nobody() {
        let [one, two] = [suspect(1), suspect(2)];
        assert_eq!(guilty(&[one, two], Ended::Failed, || true), []);
        assert_eq!(guilty(&[one, two], Ended::Answered, || true), [one, two]);
        assert_eq!(guilty(&[one], Ended::Answered, || false), [one]);
        assert_eq!(guilty(&[one, one, one], Ended::Failed, || true), [one], "one request, one failure");
        assert_eq!(guilty(&[one, one], Ended::Failed, || false), [], "the same request once more");
        assert_eq!(guilty(&[], Ended::Failed, || true), []);
    }
}
