//! Health checks and look-ups of names, a task each, for the backends of the generation in force. Owned by the background
//! core; what they find goes to the data cores as notices. A backend that goes over to the next generation keeps its tasks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::task::{JoinHandle, spawn_local};
use tracing::{info, warn};

use super::Latest;
use super::notices::{Notice, Notices};
use crate::config::snapshot::{Address, Backend};
use crate::control::Finding;
use crate::control::admin::Admin;
use crate::control::health::{self, Addresses, Judge};
use crate::control::keep::{Pauses, keep};
use crate::control::names::{self, Name, Pace, Resolver};
use crate::control::probe::Target;
use crate::net::Panics;
use crate::upstream::message::HealthNews;
use crate::upstream::node::{BackendId, NodeBackend};

pub struct Watching {
    watched: RefCell<BTreeMap<BackendId, Watched>>,
    resolver: RefCell<Option<Rc<Resolver>>>,
    latest: Latest,
    found: Rc<dyn Fn(Finding)>,
    panics: Panics,
}

/// The tasks of one backend.
struct Watched {
    /// As it was when they were started.
    settings: Backend,
    addresses: Addresses,
    check: Option<JoinHandle<()>>,
    name: Option<JoinHandle<()>>,
}

impl Watching {
    /// Nothing is watched yet.
    pub fn new(data_cores: usize, latest: Latest, notices: Rc<Notices>, admin: Rc<Admin>) -> Watching {
        let known = latest.clone();
        let found: Rc<dyn Fn(Finding)> = Rc::new(move |finding| {
            let called = |backend: BackendId| {
                let generation = known.borrow();
                generation.backend(backend).map(|index| generation.backends[index].name.clone())
            };
            match finding {
                Finding::Well { backend, after_ms } => {
                    let (backend, seconds) = (BackendId(backend), after_ms / 1000);
                    let Some(name) = called(backend) else { return };
                    if let Some(reason) = admin.checked(&name, None) {
                        info!(
                            backend = &*name,
                            reason, "backend {name} passes its health checks again ({reason}) after {seconds} s"
                        );
                    }
                    notices.tell(data_cores, &Notice::Health { backend, news: HealthNews::CheckPassed });
                }
                Finding::Sick { backend, why } => {
                    let backend = BackendId(backend);
                    let Some(name) = called(backend) else { return };
                    if let Some(reason) = admin.checked(&name, Some(why.clone())) {
                        warn!(backend = &*name, reason, "backend {name} is out of service ({reason}): {why}");
                    }
                    notices.tell(data_cores, &Notice::Health { backend, news: HealthNews::CheckFailed });
                }
                Finding::Addresses { backend, addresses } => {
                    notices.tell(data_cores, &Notice::Addresses { backend: BackendId(backend), addresses });
                }
                Finding::Log(text) => warn!("{text}"),
            }
        });
        let (watched, resolver) = (RefCell::default(), RefCell::default());
        Watching { watched, resolver, latest, found, panics: Panics::default() }
    }

    /// Watches the backends of the latest generation, and no others.
    pub fn follow(&self) {
        let generation = self.latest.borrow().clone();
        let mut watched = self.watched.borrow_mut();
        watched.retain(|id, watched| {
            let stays = generation.backend(*id).is_some();
            if !stays {
                watched.stop();
            }
            stays
        });
        for (of_node, settings) in generation.backends.iter().zip(&generation.snapshot.backends) {
            match watched.get_mut(&of_node.id) {
                None => _ = watched.insert(of_node.id, self.start(of_node, settings)),
                Some(running) if is_same_check(&running.settings, settings) => {}
                Some(running) => {
                    if let Some(check) = running.check.take() {
                        check.abort();
                        // The new one judges from the start; without one, nothing else would take this back.
                        (self.found)(Finding::Well { backend: of_node.id.0, after_ms: 0 });
                    }
                    running.check = self.check(of_node, settings, &running.addresses);
                    running.settings = settings.clone();
                }
            }
        }
    }

    /// Where a backend is now; none if it is not watched.
    pub fn addresses(&self, backend: BackendId) -> Option<Arc<[crate::net::Dial]>> {
        self.watched.borrow().get(&backend).map(|watched| watched.addresses.borrow().clone())
    }

    /// Watches nothing any more.
    pub fn stop(&self) {
        self.watched.borrow_mut().values_mut().for_each(Watched::stop);
    }

    fn start(&self, of_node: &NodeBackend, settings: &Backend) -> Watched {
        let addresses: Addresses = Rc::new(RefCell::new(of_node.addresses.clone()));
        Watched {
            check: self.check(of_node, settings, &addresses),
            name: self.name(of_node, settings, &addresses),
            settings: settings.clone(),
            addresses,
        }
    }

    /// Starts the health check of a backend that has one.
    fn check(&self, of_node: &NodeBackend, settings: &Backend, addresses: &Addresses) -> Option<JoinHandle<()>> {
        let check = settings.health.check.as_ref()?;
        let target = match Target::of(settings, &check.path, check.timeout_ms, of_node.tls.as_ref()) {
            Ok(target) => Rc::new(target),
            Err(why) => {
                warn!(backend = settings.name, "backend {} is not checked: {why}", settings.name);
                return None;
            }
        };
        let (backend, interval_ms) = (of_node.id.0, check.interval_ms);
        let (judge, addresses, tell) = (Rc::<RefCell<Judge>>::default(), addresses.clone(), self.found.clone());
        let watch = move || {
            let (target, addresses) = (target.clone(), addresses.clone());
            health::watch(backend, target, interval_ms, addresses, judge.clone(), tell.clone())
        };
        let called = format!("the check of backend {}", settings.name);
        Some(spawn_local(keep(called, Pauses::default(), self.panics.clone(), self.found.clone(), watch)))
    }

    /// Follows the name of a backend whose address is one.
    fn name(&self, of_node: &NodeBackend, settings: &Backend, addresses: &Addresses) -> Option<JoinHandle<()>> {
        let Address::Tcp { host, port } = &settings.address else { return None };
        if host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        let mut resolver = self.resolver.borrow_mut();
        let resolver = resolver.get_or_insert_with(|| Rc::new(Resolver::of_this_machine())).clone();
        let name = Name { backend: of_node.id.0, called: settings.name.clone(), host: host.clone(), port: *port };
        let (addresses, tell) = (addresses.clone(), self.found.clone());
        let follow = move || {
            let (resolver, addresses) = (resolver.clone(), addresses.clone());
            names::follow(name.clone(), Pace::default(), resolver, addresses, tell.clone())
        };
        let called = format!("the look-up of backend {}'s name", settings.name);
        Some(spawn_local(keep(called, Pauses::default(), self.panics.clone(), self.found.clone(), follow)))
    }
}

impl Watched {
    fn stop(&mut self) {
        self.check.take().into_iter().chain(self.name.take()).for_each(|task| task.abort());
    }
}

/// Whether a check that runs goes on as it is.
fn is_same_check(one: &Backend, other: &Backend) -> bool {
    let request = |backend: &Backend| (backend.health.check.clone(), backend.paths.clone(), backend.credential_field);
    let key = |backend: &Backend| backend.api_key.as_ref().map(|key| key.expose_secret().to_owned());
    request(one) == request(other) && key(one) == key(other)
}
