//! Why backends came out of service and back into it: what cores and health checks report, as the background core hears it. The
//! same call counts it, remembers it for the status, and gives the log its word.

use std::cell::RefCell;
use std::collections::HashMap;

use shards::breaker::Reason;

use super::Admin;
use crate::net::unix_ms;
use crate::observe::scrape::Transition;

/// Those of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transitions {
    counts: [u64; Reason::ALL.len()],
    /// The last one, and when it came, in milliseconds since 1970.
    pub(super) last: Option<(Reason, u64)>,
}

/// By the backend's name: one that replaces another goes on with its numbers.
pub(super) type State = RefCell<HashMap<String, Transitions>>;

impl Admin {
    /// A backend came out of service or back into it, for this reason. Its word, for the log.
    pub fn turned(&self, backend: &str, reason: Reason) -> &'static str {
        let mut all = self.transitions.borrow_mut();
        let of = all.entry(backend.to_owned()).or_default();
        of.counts[reason as usize] += 1;
        of.last = Some((reason, unix_ms()));
        reason.label()
    }

    pub(super) fn transitions_of(&self, backend: &str) -> Transitions {
        self.transitions.borrow().get(backend).copied().unwrap_or_default()
    }

    /// In the order of the configuration in force.
    pub(super) fn transitions(&self) -> Vec<Transition> {
        let in_force = self.in_force.borrow();
        let of_each = in_force.labels.backends.iter().flat_map(|backend| {
            let counts = self.transitions_of(&backend.name).counts;
            Reason::ALL.map(|reason| Transition {
                backend: backend.name.clone(),
                state: reason.leads_to().label(),
                reason: reason.label(),
                count: counts[reason as usize],
            })
        });
        of_each.collect()
    }
}
