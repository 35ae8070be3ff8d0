//! What one core keeps of one model: who waits for a permit, how its requests are spread over its backends, and how often
//! they may be repeated. Owned by the core.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;

use shards::balancer::{Ring, RoundRobin, hash};
use shards::{Budget, Millis, Quantile, Queue};

use super::permits::{CorePermits, NodePermits};
use crate::config::snapshot::{Model, Snapshot};

/// Retries of a node that its requests have not earned yet: as many as may be in flight when a backend dies.
const RETRY_RESERVE: u32 = 100;
/// The same for hedges, a core.
const HEDGE_RESERVE: u32 = 2;

pub struct ModelState {
    /// This core's permits of the node's cap, and who waits for one.
    pub permits: CorePermits,
    pub queue: RefCell<Queue<Waker>>,
    pub spread: RefCell<Spread>,
}

/// How a model's requests are spread, and how often they may be repeated: this core's part.
pub struct Spread {
    pub round_robin: RoundRobin,
    pub cursor: usize,
    pub ring: Ring,
    /// A number a target: those of a lower one are asked first.
    pub tiers: Vec<u16>,
    /// Until when a target asked to be left alone. A rate limit is of one model, not of all that its backend has.
    pub cool_until: Vec<Millis>,
    /// Scratch of a decision: a weight a target, 0 for those that cannot be asked now.
    pub shares: Vec<u32>,
    pub retries: Budget,
    pub hedges: Budget,
    /// How long first contents take, by form.
    pub first_content: [Quantile; 2],
}

impl ModelState {
    /// For one of `cores` cores.
    pub fn new(snapshot: &Snapshot, model: &Model, permits: Arc<NodePermits>, cores: u16) -> ModelState {
        let cores = u32::from(cores.max(1));
        let permits = CorePermits::new(permits);
        ModelState {
            queue: RefCell::new(Queue::new(permits.held(), model.max_pending_requests.div_ceil(cores))),
            permits,
            spread: RefCell::new(Spread::new(snapshot, model, cores)),
        }
    }
}

impl Spread {
    fn new(snapshot: &Snapshot, model: &Model, cores: u32) -> Spread {
        let names: Vec<u64> =
            model.targets.iter().map(|target| hash(snapshot.backends[target.backend].name.as_bytes())).collect();
        let weights: Vec<u32> = model.targets.iter().map(|target| target.weight).collect();
        let tiers = model.targets.iter().map(|target| snapshot.tier(target.backend)).collect();
        Spread {
            round_robin: RoundRobin::new(weights.len()),
            cursor: 0,
            ring: Ring::new(&names, &weights),
            tiers,
            cool_until: vec![Millis(0); weights.len()],
            shares: Vec::with_capacity(weights.len()),
            retries: Budget::new(model.retry_budget_percent, RETRY_RESERVE.div_ceil(cores)),
            hedges: Budget::new(model.hedge_percent, HEDGE_RESERVE),
            first_content: [Quantile::new(), Quantile::new()],
        }
    }
}
