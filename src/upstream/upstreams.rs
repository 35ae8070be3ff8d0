//! All backends and models of one core under one configuration, and what these need of the core itself. Owned by the core;
//! the next configuration has everything that is unchanged in common with it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use shards::{CoreId, Millis};

use super::backend::BackendState;
use super::message::{Recipient, UpstreamMessage};
use super::model::ModelState;
use super::node::{BackendId, ModelId, NodeGeneration};
use crate::config::snapshot::{Balance, Snapshot};
use crate::net::tls::TlsError;
use crate::net::{Panics, now_ms};
use crate::observe::counters::Counters;

/// The other cores' counts of requests in flight are looked at anew after so long.
const ELSEWHERE_MS: u64 = 10;

/// What backends need of their core, for its life.
pub struct CoreHandle {
    pub id: CoreId,
    /// Data cores of the node.
    pub count: u16,
    pub counters: Arc<Counters>,
    pub panics: Panics,
    /// Whether connections are being opened ahead of need.
    pub warming: Cell<bool>,
    /// No connection is opened ahead of need any more.
    pub draining: Cell<bool>,
    /// Still accepting, and about to drain.
    pub leaving: Cell<bool>,
    /// Sends a message.
    pub post: Box<dyn Fn(Recipient, UpstreamMessage)>,
}

impl CoreHandle {
    /// The clock of the shard machines.
    pub fn now(&self) -> Millis {
        Millis(now_ms())
    }

    /// Tells the other data cores.
    pub fn tell_others(&self, message: impl Fn() -> UpstreamMessage) {
        for other in (0..self.count).map(CoreId).filter(|other| *other != self.id) {
            (self.post)(Recipient::Data(other), message());
        }
    }

    pub fn tell_background(&self, message: UpstreamMessage) {
        (self.post)(Recipient::Background, message);
    }
}

pub struct Upstreams {
    pub core: Rc<CoreHandle>,
    pub snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's, as are the models.
    pub backends: Vec<Rc<BackendState>>,
    pub models: Vec<Rc<ModelState>>,
    node: Arc<NodeGeneration>,
    /// Whether there is a backend with a limit that is found.
    pub adapts: bool,
    /// Whether a task looks for permits that other cores return.
    pub borrowing: Cell<bool>,
    /// When the other cores' counts were last looked at.
    looked: Cell<Option<Millis>>,
}

impl Upstreams {
    /// Those of `node`; what is unchanged since `before` goes over. Errors: a backend's connections cannot be secured as it
    /// wants.
    pub fn new(
        core: Rc<CoreHandle>,
        node: Arc<NodeGeneration>,
        before: Option<&Upstreams>,
    ) -> Result<Upstreams, TlsError> {
        let snapshot = node.snapshot.clone();
        let old_backends: HashMap<BackendId, &Rc<BackendState>> =
            before.into_iter().flat_map(|before| &before.backends).map(|state| (state.id(), state)).collect();
        let old_models: HashMap<ModelId, &Rc<ModelState>> =
            before.into_iter().flat_map(|before| &before.models).map(|state| (state.id(), state)).collect();
        let mut backends = Vec::with_capacity(node.backends.len());
        for (of_node, settings) in node.backends.iter().zip(&snapshot.backends) {
            backends.push(match old_backends.get(&of_node.id) {
                Some(old) => (*old).clone(),
                None => Rc::new(BackendState::new(of_node.clone(), settings, core.id, core.count)?),
            });
        }
        let models = node.models.iter().zip(&snapshot.models).map(|(of_node, settings)| {
            if let Some(old) = old_models.get(&of_node.id) {
                return (*old).clone();
            }
            // Not the same model, yet its permits may be.
            let queue =
                before.into_iter().flat_map(|before| &before.models).find(|old| old.queue.is_of(of_node, settings));
            let queue = queue.map(|old| old.queue.clone());
            Rc::new(ModelState::new(of_node.clone(), queue, &snapshot, settings, core.id, core.count))
        });
        Ok(Upstreams {
            models: models.collect(),
            adapts: backends.iter().any(|backend| backend.concurrency.is_some()),
            backends,
            borrowing: Cell::new(false),
            looked: Cell::new(None),
            snapshot,
            node,
            core,
        })
    }

    /// The clock of the shard machines.
    pub fn now(&self) -> Millis {
        self.core.now()
    }

    /// The index of a backend that a message names; none if it belongs to another generation.
    pub fn backend(&self, id: BackendId) -> Option<usize> {
        self.node.backend(id)
    }

    /// As `backend`.
    pub fn model(&self, id: ModelId) -> Option<usize> {
        self.node.model(id)
    }

    /// Whether it matters how long a model's first contents take.
    pub fn times_first_content(&self, model: usize) -> bool {
        let model = &self.snapshot.models[model];
        model.hedge_percent > 0 || model.balance == Balance::P2c
    }

    /// Looks at the other cores' counts of requests in flight, unless that was just done.
    pub fn look_elsewhere(&self, now: Millis) {
        if self.core.count == 1 || self.looked.get().is_some_and(|at| now.since(at) < ELSEWHERE_MS) {
            return;
        }
        self.looked.set(Some(now));
        self.backends.iter().for_each(|backend| backend.look_elsewhere());
    }

    /// Sets the gauges.
    pub fn publish(&self) {
        self.backends.iter().for_each(|backend| backend.publish());
        for model in &self.models {
            model.counters().queue_depth.set(model.queue.waiting.borrow().waiting() as u64);
        }
    }

    /// Closes connections that were idle for too long. For a timer.
    pub fn reap(&self) {
        let now = self.now();
        let mut closing = Vec::new();
        for backend in &self.backends {
            backend.pool.borrow_mut().reap(now, &mut closing);
            backend.streams.reap(now);
        }
    }
}

/// Says that a task of which a core has one is over.
pub struct Done<'a>(pub &'a Cell<bool>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
