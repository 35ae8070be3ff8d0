//! One core under one configuration. An exchange holds the generation it began with to its end; those that begin after a
//! reload get the next one, which has everything that is unchanged in common with it.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::core::Core;
use super::static_headers::StaticHeaders;
use super::tags::AllTags;
use super::window::Windows;
use crate::config::snapshot::Snapshot;
use crate::net::tls::{AcceptSettings, TlsError};
use crate::observe::series::OTHER;
use crate::prompts::PromptLibrary;
use crate::upstream::backend::BackendState;
use crate::upstream::node::NodeGeneration;
use crate::upstream::upstreams::Upstreams;

pub struct Generation {
    core: Rc<Core>,
    node: Arc<NodeGeneration>,
    pub snapshot: Arc<Snapshot>,
    /// Its backends and models.
    pub upstreams: Rc<Upstreams>,
    /// What all requests to a backend say, in the order of the snapshot's backends.
    pub static_headers: Vec<StaticHeaders>,
    /// By what stored answers can be purged.
    pub tags: AllTags,
    /// Its prompt templates: a copy of the core's own, as what is compiled counts who has a part of it.
    pub prompts: PromptLibrary,
    /// Requests that wait for others to go upstream with.
    pub windows: Windows,
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
        let before = before.map(|before| &*before.upstreams);
        Ok(Generation {
            upstreams: Rc::new(Upstreams::new(core.handle.clone(), node.clone(), before)?),
            tags: AllTags::of(&snapshot),
            prompts: snapshot.prompts.clone(),
            windows: Windows::default(),
            static_headers: snapshot.backends.iter().map(StaticHeaders::of).collect(),
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

    /// Under which number requests that are rendered from a prompt template are counted.
    pub fn template_series(&self, template: usize) -> u32 {
        self.node.templates.get(template).copied().unwrap_or(OTHER)
    }

    /// Under which number a tenant's requests are counted.
    pub fn tenant_series(&self, tenant: usize) -> u32 {
        self.node.tenants[tenant]
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
        let gone = before.upstreams.backends.iter().filter(|old| next.upstreams.backend(old.id()).is_none());
        self.retired.borrow_mut().extend(gone.map(Rc::downgrade));
        self.core.adopt(&next.snapshot);
        self.generation.replace(next);
        drop(before);
        self.close_retired();
        Ok(())
    }

    /// Closes what lies idle of backends that are no longer asked.
    pub(super) fn close_retired(&self) {
        self.retired.borrow_mut().retain(|backend| match backend.upgrade() {
            Some(backend) => {
                backend.close_idle();
                true
            }
            None => false,
        });
    }
}
