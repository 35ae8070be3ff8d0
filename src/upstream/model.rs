//! What one core keeps of one model: who waits for a permit, how its requests are spread over its backends, and how often
//! they may be repeated. Owned by the core.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use shards::balancer::{Ring, RoundRobin, hash};
use shards::quota::Estimate;
use shards::{Budget, CoreId, Millis, Quantile, Queue};

use super::node::{ModelId, NodeModel};
use super::permits::{CorePermits, NodePermits};
use crate::config::snapshot::{Model, Snapshot};
use crate::observe::counters::ModelCounters;

/// Retries of a node that its requests have not earned yet: as many as may be in flight when a backend dies.
const RETRY_RESERVE: u32 = 100;
/// The same for hedges, a core.
const HEDGE_RESERVE: u32 = 2;

pub struct ModelState {
    node: Arc<NodeModel>,
    core: usize,
    pub queue: Rc<RequestQueue>,
    pub spread: RefCell<Spread>,
    /// Of the tokens that its requests take.
    pub estimate: RefCell<Estimate>,
}

/// This core's permits of a model's cap, and who waits for one.
pub struct RequestQueue {
    of: Arc<NodePermits>,
    pending_max: u32,
    pub permits: CorePermits,
    pub waiting: RefCell<Queue<Waker>>,
}

impl RequestQueue {
    /// Whether it may serve this model, too.
    pub fn is_of(&self, node: &NodeModel, settings: &Model) -> bool {
        Arc::ptr_eq(&self.of, &node.permits) && self.pending_max == settings.max_pending_requests
    }
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
    /// For one of `cores` cores; `queue` if there is one already.
    pub fn new(
        node: Arc<NodeModel>,
        queue: Option<Rc<RequestQueue>>,
        snapshot: &Snapshot,
        settings: &Model,
        core: CoreId,
        cores: u16,
    ) -> ModelState {
        let count = u32::from(cores.max(1));
        let queue = queue.unwrap_or_else(|| {
            let (of, pending_max) = (node.permits.clone(), settings.max_pending_requests);
            let permits = CorePermits::new(of.clone());
            let waiting = RefCell::new(Queue::new(permits.held(), pending_max.div_ceil(count)));
            Rc::new(RequestQueue { of, pending_max, permits, waiting })
        });
        let spread = RefCell::new(Spread::new(snapshot, settings, count));
        ModelState { node, core: usize::from(core.0), queue, spread, estimate: RefCell::default() }
    }

    pub fn id(&self) -> ModelId {
        self.node.id
    }

    /// Under which number its requests are counted.
    pub fn series(&self) -> u32 {
        self.node.series
    }

    /// This core's numbers of it.
    pub fn counters(&self) -> &ModelCounters {
        &self.node.counters[self.core]
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
