//! What is held from one step of the world to the next: a backend that is out of service gets no ordinary request.
//! Looks at the cores after every step, and remembers no more than the step before.

use std::rc::Rc;

use ringway::config::snapshot::Target;
use ringway::exchange::generation::Generation;
use shards::breaker::Gate;

/// What a core was like after a step.
struct Glance {
    generation: u64,
    /// By backend: requests in flight, and what the next one may do.
    backends: Vec<(u32, Gate)>,
    panics: bool,
}

#[derive(Default)]
pub struct Watch {
    /// After which step, and by core.
    last: (u64, Vec<Glance>),
}

impl Glance {
    fn of(core: &Generation) -> Glance {
        let now = core.now();
        let gate = |backend: usize| {
            (core.upstreams.backends[backend].in_flight(), core.upstreams.backends[backend].breaker.borrow().gate(now))
        };
        let backends: Vec<_> = (0..core.upstreams.backends.len()).map(gate).collect();
        // A model whose backends are all out of service, or were asked to be left alone, asks them all the same.
        let panics = core.snapshot.models.iter().zip(&core.upstreams.models).any(|(model, state)| {
            let spread = state.spread.borrow();
            let serves = |(target, to): (usize, &Target)| {
                backends[to.backend].1 != Gate::Shut && now >= spread.cool_until[target]
            };
            let serving = model.targets.iter().enumerate().filter(|&target| serves(target)).count();
            serving == 0 || serving * 100 < model.targets.len() * model.panic_percent as usize
        });
        Glance { generation: core.number(), backends, panics }
    }
}

impl Watch {
    /// Looks after step `steps`.
    pub fn look(&mut self, steps: u64, cores: &[Rc<Generation>]) {
        let glances: Vec<Glance> = cores.iter().map(|core| Glance::of(core)).collect();
        let before = std::mem::replace(&mut self.last, (steps, glances));
        if before.0 + 1 != steps {
            return;
        }
        for (core, (was, is)) in before.1.iter().zip(&self.last.1).enumerate() {
            if was.generation != is.generation {
                continue;
            }
            for (backend, (before, now)) in was.backends.iter().zip(&is.backends).enumerate() {
                let asked = now.0 > before.0 && before.1 == Gate::Shut;
                assert!(
                    !asked || was.panics || is.panics,
                    "core {core} asks backend {backend}, which is out of service"
                );
            }
        }
    }
}
