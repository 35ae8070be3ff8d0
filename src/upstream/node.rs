//! One configuration as all cores of a node share it: the snapshot, and for each backend and model what every core counts
//! and lends. Built by the background core, from the one before: what is unchanged goes over. Immutable but for atomics.

use std::sync::Arc;

use hashbrown::HashMap;

use super::permits::{Cap, NodePermits};
use crate::config::snapshot::{Backend, Model, Snapshot};
use crate::dialect::facts::Endpoint;
use crate::net::Dial;
use crate::net::tls::{AcceptSettings, TlsSettings};
use crate::observe::counters::{BackendCounters, ModelCounters, PerCore};
use crate::observe::scrape::{Item, Labels};
use crate::observe::series::{Names, template_name};

/// Names a backend in messages: another one for each that replaces it, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

/// Names a model in messages, as [`BackendId`] does a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u32);

/// One generation of the configuration.
pub struct NodeGeneration {
    /// Counts from 1.
    pub number: u64,
    pub snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's, as are the next two.
    pub backends: Vec<Arc<NodeBackend>>,
    pub models: Vec<Arc<NodeModel>>,
    /// Under which number each tenant's requests are counted.
    pub tenants: Vec<u32>,
    /// The same of prompt templates.
    pub templates: Vec<u32>,
    /// How connections of each of `server.listeners` are secured.
    pub listeners: Vec<Option<AcceptSettings>>,
    names: Names,
    next_id: u32,
    cores: u16,
}

/// A backend, for as long as everything that its connections and its health depend on stays as it is.
pub struct NodeBackend {
    pub id: BackendId,
    pub name: Arc<str>,
    /// Where it was at first; names may lead elsewhere since.
    pub addresses: Arc<[Dial]>,
    pub tls: Option<TlsSettings>,
    pub(super) permits: Arc<NodePermits>,
    /// The same of connections of HTTP/2.
    pub(super) http2_permits: Arc<NodePermits>,
    /// Those of its name: a backend that replaces another goes on with its numbers.
    pub counters: PerCore<BackendCounters>,
}

/// A model, for as long as its backends and the bounds of its requests stay as they are.
pub struct NodeModel {
    pub id: ModelId,
    pub name: Arc<str>,
    /// Under which number its requests are counted.
    pub series: u32,
    pub(super) permits: Arc<NodePermits>,
    pub counters: PerCore<ModelCounters>,
}

/// What a generation is made of.
pub struct Parts {
    pub snapshot: Arc<Snapshot>,
    /// By backend: its addresses, and how its connections are secured.
    pub addresses: Vec<Arc<[Dial]>>,
    pub tls: Vec<Option<TlsSettings>>,
    /// By listener.
    pub listeners: Vec<Option<AcceptSettings>>,
}

impl NodeGeneration {
    /// The first one of a node with so many data cores.
    pub fn first(cores: u16, parts: Parts) -> NodeGeneration {
        NodeGeneration::build(1, cores, None, parts)
    }

    /// The one after this.
    pub fn next(&self, parts: Parts) -> NodeGeneration {
        NodeGeneration::build(self.number + 1, self.cores, Some(self), parts)
    }

    fn build(number: u64, cores: u16, before: Option<&NodeGeneration>, parts: Parts) -> NodeGeneration {
        let Parts { snapshot, addresses, tls, listeners } = parts;
        if let Some(before) = before {
            snapshot.continue_running(&before.snapshot);
        }
        let mut names = before.map(|before| before.names.clone()).unwrap_or_default();
        let mut next_id = before.map_or(0, |before| before.next_id);
        let mut id = || {
            next_id += 1;
            next_id - 1
        };
        let places = before.map(Places::of).unwrap_or_default();
        let mut backends = Vec::with_capacity(snapshot.backends.len());
        for ((settings, addresses), tls) in snapshot.backends.iter().zip(addresses).zip(tls) {
            let old = places.backend(before, &settings.name);
            if let Some((old, was)) = old
                && is_same_backend(was, settings)
                && old.tls == tls
            {
                backends.push(old.clone());
                continue;
            }
            backends.push(Arc::new(NodeBackend {
                id: BackendId(id()),
                name: settings.name.as_str().into(),
                addresses,
                tls,
                permits: Arc::new(NodePermits::new(Cap::of_http1(settings), cores)),
                http2_permits: Arc::new(NodePermits::new(Cap::of_http2(settings, cores), cores)),
                counters: old
                    .map_or_else(|| per_core(cores, BackendCounters::default), |(old, _)| old.counters.clone()),
            }));
        }
        let mut models = Vec::with_capacity(snapshot.models.len());
        for settings in &snapshot.models {
            let old = places.model(before, &settings.name);
            if let (Some((old, was)), Some(before)) = (old, before)
                && is_same_model(was, before, settings, &snapshot, &backends)
            {
                models.push(old.clone());
                continue;
            }
            let (series, name) = names.models.number(&settings.name);
            let kept = old.filter(|(_, was)| Cap::of_model(was) == Cap::of_model(settings));
            models.push(Arc::new(NodeModel {
                id: ModelId(id()),
                name,
                series,
                permits: match kept {
                    Some((old, _)) => old.permits.clone(),
                    None => Arc::new(NodePermits::new(Cap::of_model(settings), cores)),
                },
                counters: match old {
                    Some((old, _)) => old.counters.clone(),
                    None => per_core(cores, || ModelCounters::new(Endpoint::ALL.len())),
                },
            }));
        }
        let tenants = snapshot.tenants.iter().map(|tenant| names.tenants.number(&tenant.name).0).collect();
        let templates = snapshot.prompts.templates().iter();
        let templates = templates.map(|of| names.templates.number(&template_name(&of.name, &of.version)).0).collect();
        NodeGeneration { number, snapshot, backends, models, tenants, templates, listeners, names, next_id, cores }
    }

    /// Data cores of the node.
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// The index of a backend; none if it belongs to another generation.
    pub fn backend(&self, id: BackendId) -> Option<usize> {
        self.backends.iter().position(|backend| backend.id == id)
    }

    /// As `backend`.
    pub fn model(&self, id: ModelId) -> Option<usize> {
        self.models.iter().position(|model| model.id == id)
    }

    /// What the metrics say of it.
    pub fn labels(&self) -> Labels {
        let models =
            self.models.iter().map(|model| Item { name: model.name.clone(), counters: model.counters.clone() });
        let backends = self.backends.iter();
        let backends = backends.map(|of| Item { name: of.name.clone(), counters: of.counters.clone() });
        let endpoints = Endpoint::ALL.map(Endpoint::label).to_vec();
        Labels::new(endpoints, models.collect(), backends.collect(), &self.names, self.snapshot.cache.memory_bytes)
    }
}

/// Where each name stands in a generation.
#[derive(Default)]
struct Places<'a> {
    backends: HashMap<&'a str, usize>,
    models: HashMap<&'a str, usize>,
}

impl<'a> Places<'a> {
    fn of(generation: &'a NodeGeneration) -> Places<'a> {
        let snapshot = &generation.snapshot;
        Places {
            backends: snapshot.backends.iter().enumerate().map(|(index, of)| (of.name.as_str(), index)).collect(),
            models: snapshot.models.iter().enumerate().map(|(index, of)| (of.name.as_str(), index)).collect(),
        }
    }

    fn backend(&self, of: Option<&'a NodeGeneration>, name: &str) -> Option<(&'a Arc<NodeBackend>, &'a Backend)> {
        let (of, index) = (of?, *self.backends.get(name)?);
        Some((&of.backends[index], &of.snapshot.backends[index]))
    }

    fn model(&self, of: Option<&'a NodeGeneration>, name: &str) -> Option<(&'a Arc<NodeModel>, &'a Model)> {
        let (of, index) = (of?, *self.models.get(name)?);
        Some((&of.models[index], &of.snapshot.models[index]))
    }
}

fn per_core<T>(cores: u16, new: impl Fn() -> T) -> PerCore<T> {
    (0..cores).map(|_| new()).collect()
}

/// Whether a core's state of a backend serves the other one too. What is not compared is read from the snapshot at each
/// request: weights, time-outs, the credential.
fn is_same_backend(one: &Backend, other: &Backend) -> bool {
    let rules = |backend: &Backend| {
        let health = &backend.health;
        (health.errors_in_row, health.error_percent, health.eject_ms, health.probes, health.slow_start_ms)
    };
    let bounds = |backend: &Backend| {
        let idle_ms = backend.timeout_idle_ms;
        (backend.connections, backend.http2_connections, backend.http2_streams, idle_ms, backend.concurrency)
    };
    (&one.address, &one.authority, one.protocol) == (&other.address, &other.authority, other.protocol)
        && rules(one) == rules(other)
        && bounds(one) == bounds(other)
}

fn is_same_model(
    one: &Model,
    before: &NodeGeneration,
    other: &Model,
    snapshot: &Snapshot,
    backends: &[Arc<NodeBackend>],
) -> bool {
    let bounds = |model: &Model| {
        (model.max_concurrent_requests, model.max_pending_requests, model.retry_budget_percent, model.hedge_percent)
    };
    bounds(one) == bounds(other)
        && one.targets.len() == other.targets.len()
        && one.targets.iter().zip(&other.targets).all(|(one, other)| {
            Arc::ptr_eq(&before.backends[one.backend], &backends[other.backend])
                && (&one.model, one.weight) == (&other.model, other.weight)
                && before.snapshot.tier(one.backend) == snapshot.tier(other.backend)
        })
}
