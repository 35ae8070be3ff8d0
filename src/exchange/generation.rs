//! One core under one configuration. An exchange holds the generation it began with to its end; those that begin after a
//! reload get the next one, which has everything that is unchanged in common with it.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hashbrown::HashMap;
use shards::Millis;

use super::backend::BackendState;
use super::core::Core;
use super::meter;
use super::model::ModelState;
use super::node::{BackendId, ModelId, NodeGeneration};
use super::send::StaticHeaders;
use super::{queue, quota};
use crate::config::snapshot::{Balance, Snapshot};
use crate::net::tls::{AcceptSettings, TlsError};

/// The other cores' counts of requests in flight are looked at anew after so long.
const ELSEWHERE_MS: u64 = 10;

pub struct Generation {
    core: Rc<Core>,
    node: Arc<NodeGeneration>,
    pub snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's, as are the next two.
    pub backends: Vec<Rc<BackendState>>,
    pub models: Vec<Rc<ModelState>>,
    /// What all requests to a backend say.
    pub static_headers: Vec<StaticHeaders>,
    /// Whether a task looks for permits that other cores return.
    pub borrowing: Cell<bool>,
    /// When the other cores' counts were last looked at.
    looked: Cell<Option<Millis>>,
}

impl Deref for Generation {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Generation {
    /// How connections of each of `server.listeners` are secured.
    pub fn listeners(&self) -> &[Option<AcceptSettings>] {
        &self.node.listeners
    }

    /// Errors: a backend's connections cannot be secured as it wants.
    fn build(core: Rc<Core>, node: Arc<NodeGeneration>, before: Option<&Generation>) -> Result<Generation, TlsError> {
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
        Ok(Generation {
            models: models.collect(),
            backends,
            static_headers: snapshot.backends.iter().map(StaticHeaders::of).collect(),
            borrowing: Cell::new(false),
            looked: Cell::new(None),
            snapshot,
            node,
            core,
        })
    }

    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub fn number(&self) -> u64 {
        self.node.number
    }

    /// The index of a backend that a message names; none if it belongs to another generation.
    pub fn backend(&self, id: BackendId) -> Option<usize> {
        self.node.backend(id)
    }

    /// As `backend`.
    pub fn model(&self, id: ModelId) -> Option<usize> {
        self.node.model(id)
    }

    /// Under which number a tenant's requests are counted.
    pub fn tenant_series(&self, tenant: usize) -> u32 {
        self.node.tenants[tenant]
    }

    /// Whether it matters how long a model's first contents take.
    pub fn times_first_content(&self, model: usize) -> bool {
        let model = &self.snapshot.models[model];
        model.hedge_percent > 0 || model.balance == Balance::P2c
    }

    /// Looks at the other cores' counts of requests in flight, unless that was just done.
    pub fn look_elsewhere(&self, now: Millis) {
        if self.count == 1 || self.looked.get().is_some_and(|at| now.since(at) < ELSEWHERE_MS) {
            return;
        }
        self.looked.set(Some(now));
        self.backends.iter().for_each(|backend| backend.look_elsewhere());
    }
}

/// The generation that exchanges of this core begin with.
pub struct Current {
    core: Rc<Core>,
    generation: RefCell<Rc<Generation>>,
    /// Backends that no longer stand in it, as long as something runs on them.
    retired: RefCell<Vec<Weak<BackendState>>>,
}

impl Current {
    /// Errors: a backend's connections cannot be secured as it wants.
    pub fn new(core: Core, node: Arc<NodeGeneration>) -> Result<Current, TlsError> {
        let core = Rc::new(core);
        let generation = RefCell::new(Rc::new(Generation::build(core.clone(), node, None)?));
        Ok(Current { core, generation, retired: RefCell::default() })
    }

    pub fn get(&self) -> Rc<Generation> {
        self.generation.borrow().clone()
    }

    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Puts the next generation in force; one that came late is passed over. Errors: as `new`, and the old one stays.
    pub fn replace(&self, node: Arc<NodeGeneration>) -> Result<(), TlsError> {
        let before = self.get();
        if node.number <= before.number() {
            return Ok(());
        }
        let next = Rc::new(Generation::build(self.core.clone(), node, Some(&before))?);
        let gone = before.backends.iter().filter(|old| next.backend(old.id()).is_none());
        self.retired.borrow_mut().extend(gone.map(Rc::downgrade));
        self.core.adopt(&next.snapshot);
        self.generation.replace(next);
        drop(before);
        self.close_retired();
        Ok(())
    }

    /// Closes what lies idle of backends that are no longer asked.
    fn close_retired(&self) {
        self.retired.borrow_mut().retain(|backend| match backend.upgrade() {
            Some(backend) => {
                backend.close_idle();
                true
            }
            None => false,
        });
    }

    /// Housekeeping, about once a second: closes connections idle for too long, sends on what waited, flushes the log.
    pub fn tick(&self) {
        let (core, generation) = (&self.core, self.get());
        let now = core.now();
        let mut closing = Vec::new();
        for backend in &generation.backends {
            backend.pool.borrow_mut().reap(now, &mut closing);
            backend.streams.reap(now);
        }
        drop(closing);
        self.close_retired();
        queue::release_all(&generation);
        core.sweep();
        quota::sweep(core);
        if let Some(second) = core.second.get() {
            second.tick();
        }
        core.outbox.flush();
        core.flush_log();
        core.counters.log_lines_dropped.set(core.log.borrow().dropped_ever());
        core.buffers.settle();
        meter::publish(&generation);
    }
}
