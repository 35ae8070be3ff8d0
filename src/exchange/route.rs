//! Which backend is asked: the model's targets, spread by its balance.

use std::rc::Rc;

use super::core::Core;
use crate::config::snapshot::Balance;
use crate::error::Failure;

/// Where a request goes. Counted as in flight at its target while it lives.
pub struct Plan {
    core: Rc<Core>,
    pub model: usize,
    /// Index of the target in the model.
    pub target: usize,
    /// Index of the backend in the snapshot.
    pub backend: usize,
}

/// Picks a target of `model`.
pub fn plan(core: &Rc<Core>, model: usize) -> Result<Plan, Failure> {
    let snapshot = &core.snapshot;
    let mut spread = core.spread[model].borrow_mut();
    let spread = &mut *spread;
    let addresses = core.addresses.borrow();
    let in_service = |target: usize| !addresses[snapshot.models[model].targets[target].backend].is_empty();
    let target = match &snapshot.models[model].balance {
        Balance::RoundRobin => spread.round_robin.pick(in_service),
        Balance::LeastConnections | Balance::TwoChoices | Balance::Session(_) | Balance::Prompt => {
            shards::balancer::least(&spread.in_flight, &spread.weights, &mut spread.cursor, in_service)
        }
    };
    let target = target.ok_or(Failure::NoBackend)?;
    spread.in_flight[target] += 1;
    Ok(Plan { core: core.clone(), model, target, backend: snapshot.models[model].targets[target].backend })
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.core.spread[self.model].borrow_mut().in_flight[self.target] -= 1;
    }
}
