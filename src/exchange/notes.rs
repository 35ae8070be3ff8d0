//! What an upstream call tells of its attempts while it goes on: for the access log's line of the request that began it, and for
//! spans. Shared by the call and the record, on one core; there is none where neither is wanted.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use shards::Fault;
use smallvec::SmallVec;

use crate::limits::ATTEMPTS_LISTED;
use crate::observe::counters::AttemptResult;
use crate::observe::log::Attempt;

#[derive(Debug, Default)]
pub struct Notes {
    /// The first ones.
    attempts: RefCell<SmallVec<[Attempt; 1]>>,
    made: Cell<u64>,
    /// Waited for a permit of the model, and for connections.
    pub queue_us: Cell<u64>,
    pub connect_us: Cell<u64>,
    /// Of the request, for the spans of attempts.
    pub trace_state: Box<str>,
}

impl Notes {
    pub fn new(trace_state: Box<str>) -> Notes {
        Notes { trace_state, ..Notes::default() }
    }

    /// How many attempts were made.
    pub fn made(&self) -> u64 {
        self.made.get()
    }

    /// Hands on the attempts that are listed.
    pub fn with_attempts<R>(&self, take: impl FnOnce(&[Attempt]) -> R) -> R {
        take(&self.attempts.borrow())
    }

    /// An attempt begins; its place in the list.
    pub fn begin(&self, backend: &Arc<str>) -> usize {
        let mut attempts = self.attempts.borrow_mut();
        self.made.set(self.made.get() + 1);
        if attempts.len() < ATTEMPTS_LISTED {
            attempts.push(Attempt { backend: backend.clone(), result: None, status: None, us: 0 });
            return attempts.len() - 1;
        }
        ATTEMPTS_LISTED
    }

    /// It came to its first content, or to a fault.
    pub fn end(&self, place: usize, result: AttemptResult, status: Option<u16>, us: u64) {
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(place) {
            (attempt.result, attempt.status, attempt.us) = (Some(result.label()), status, us);
        }
    }
}

/// The status that a fault is about.
pub fn status_of(fault: Fault) -> Option<u16> {
    match fault {
        Fault::Status(status) => Some(status),
        _ => None,
    }
}
