//! A scrape: the counters of all cores, read in place and summed, as Prometheus or OpenMetrics text. Runs on the
//! background core; sends no message and costs a data core only cache misses.

mod encode; // encodes the values of each row

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use self::encode::classic;
use super::counters::{BackendCounters, Counter, Counters, ModelCounters, Operation, PerCore};
use super::histogram::{Histogram, Totals};
use super::process::Process;
use super::series::{self, Amounts, Key, Names};
use super::snapshots::Snapshots;
use super::spans::SpanCounts;
use crate::config::snapshot::GenAi;

/// The names behind the numbers in the counters.
#[derive(Debug)]
pub struct Labels {
    /// In the order of the counters' indices, each name once.
    pub endpoints: Vec<&'static str>,
    /// Those of the configuration in force.
    pub models: Vec<Item<ModelCounters>>,
    pub backends: Vec<Item<BackendCounters>>,
    /// Those of the series, by number.
    model_names: Vec<Arc<str>>,
    tenant_names: Vec<Arc<str>>,
    template_names: Vec<Arc<str>>,
    pub cache_budget_bytes: u64,
    /// For requests whose endpoint, model or tenant is not in the lists: one past the end, `OTHER`, or the number of one with
    /// the same name.
    other_endpoint: usize,
    other_model: u32,
    no_tenant: u32,
}

/// Something with a name and counters of its own.
#[derive(Debug)]
pub struct Item<T> {
    pub name: Arc<str>,
    pub counters: PerCore<T>,
}

impl Item<BackendCounters> {
    pub fn sum(&self, counter: impl Fn(&BackendCounters) -> &Counter) -> u64 {
        self.counters.iter().map(|core| counter(core).get()).sum()
    }
}

/// Label of models that are not configured, and of endpoints without a name of their own.
const OTHER: &str = "other";
/// Label of requests without a tenant.
pub const NONE: &str = "none";

impl Labels {
    pub fn new(
        endpoints: Vec<&'static str>,
        models: Vec<Item<ModelCounters>>,
        backends: Vec<Item<BackendCounters>>,
        names: &Names,
        cache_budget_bytes: u64,
    ) -> Labels {
        let (model_names, tenant_names) = (names.models.all().to_vec(), names.tenants.all().to_vec());
        let number = |names: &[Arc<str>], label: &str| {
            names.iter().position(|name| **name == *label).map_or(series::OTHER, |number| number as u32)
        };
        Labels {
            other_endpoint: endpoints.iter().position(|name| *name == OTHER).unwrap_or(endpoints.len()),
            other_model: number(&model_names, OTHER),
            no_tenant: number(&tenant_names, NONE),
            endpoints,
            models,
            backends,
            model_names,
            tenant_names,
            template_names: names.templates.all().to_vec(),
            cache_budget_bytes,
        }
    }

    /// The tenants that requests were counted for, by number.
    pub fn tenant_names(&self) -> &[Arc<str>] {
        &self.tenant_names
    }

    fn endpoint(&self, index: usize) -> &str {
        self.endpoints.get(index).copied().unwrap_or(OTHER)
    }

    /// The name of a model by its number; `other` for what has none.
    pub fn model(&self, number: u32) -> &str {
        self.model_names.get(number as usize).map_or(OTHER, |name| name)
    }

    /// As `model`, of a tenant; `none` for requests without one.
    pub fn tenant(&self, number: u32) -> &str {
        self.tenant_names.get(number as usize).map_or(NONE, |name| name)
    }

    /// The name and the version of a prompt template; `other` for what has no number.
    fn template(&self, number: u32) -> (&str, &str) {
        let name = self.template_names.get(number as usize).and_then(|name| name.split_once('\n'));
        name.unwrap_or((OTHER, OTHER))
    }

    /// Maps all keys with the same names to one key.
    fn normal(&self, key: Key) -> Key {
        let known = |number: u32, names: &[Arc<str>], other: u32| {
            if (number as usize) < names.len() { number } else { other }
        };
        let endpoint = usize::from(key.endpoint);
        Key {
            endpoint: if endpoint < self.endpoints.len() { key.endpoint } else { self.other_endpoint as u8 },
            model: known(key.model, &self.model_names, self.other_model),
            tenant: known(key.tenant, &self.tenant_names, self.no_tenant),
            status: key.status,
        }
    }

    /// Each model name, with the indices of the models whose counters belong to it; `None` for requests without one.
    fn model_rows(&self) -> impl Iterator<Item = (&str, SmallVec<[Option<usize>; 2]>)> {
        let has_other = self.models.iter().any(|model| *model.name == *OTHER);
        let models = self.models.iter().enumerate().map(|(index, model)| {
            let other = (*model.name == *OTHER).then_some(None);
            (&*model.name, [Some(index)].into_iter().chain(other).collect())
        });
        models.chain((!has_other).then(|| (OTHER, [None].into_iter().collect())))
    }
}

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    cores: Vec<Arc<Counters>>,
    labels: Arc<Labels>,
    node: Node,
    /// The requests of all cores, in order.
    series: Vec<(Key, Amounts)>,
}

/// Values that are not in the cores' counters.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub generation: u64,
    pub last_reload: Reload,
    pub reloads: Reloads,
    pub transitions: Vec<Transition>,
    /// None: the configuration is in a file.
    pub stored: Option<Stored>,
    /// Whether limits are shared with other nodes just now; `None` if they are not to be.
    pub limits_store_up: Option<bool>,
    /// By core: recent utilization of its thread, and its CPU time.
    pub busy: Vec<(f64, f64)>,
    pub process: Process,
    pub genai: GenAi,
    pub snapshots: Arc<Snapshots>,
    pub spans: SpanCounts,
}

/// How often a backend came out of service or back into it for one reason.
#[derive(Clone, Debug)]
pub struct Transition {
    pub backend: Arc<str>,
    pub state: &'static str,
    pub reason: &'static str,
    pub count: u64,
}

/// How a reload of the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// All cores serve by the new configuration.
    InForce,
    /// It is the one in force.
    Unchanged,
    /// It has errors: nothing has changed.
    Refused,
    /// The store that it is in cannot be read: nothing has changed.
    Unavailable,
}

impl ReloadResult {
    pub const ALL: [ReloadResult; 4] =
        [ReloadResult::InForce, ReloadResult::Unchanged, ReloadResult::Refused, ReloadResult::Unavailable];

    /// For logs and metrics; JSON has the same words.
    pub fn label(self) -> &'static str {
        match self {
            ReloadResult::InForce => "in_force",
            ReloadResult::Unchanged => "unchanged",
            ReloadResult::Refused => "refused",
            ReloadResult::Unavailable => "unavailable",
        }
    }
}

/// How often the configuration was read again since the start, by [`ReloadResult`].
pub type Reloads = [u64; ReloadResult::ALL.len()];

/// How it stands with the store that the configuration is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What kind of store it is.
    pub source: &'static str,
    pub is_up: bool,
    pub is_watched: bool,
    pub is_kept_copy: bool,
    pub faults: u64,
}

/// Whether the configuration that was read last is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    #[default]
    Good,
    Refused,
}

impl Scrape {
    /// Reads the per-request series now; everything else is read while it is encoded.
    pub fn new(cores: Vec<Arc<Counters>>, labels: Arc<Labels>, node: Node) -> Scrape {
        let mut all: HashMap<Key, Amounts> = HashMap::new();
        for core in &cores {
            core.series.read(|key, amounts| all.entry(labels.normal(key)).or_default().add(amounts));
        }
        let mut series: Vec<(Key, Amounts)> = all.into_iter().collect();
        series.sort_unstable_by_key(|(key, _)| *key);
        Scrape { cores, labels, node, series }
    }

    /// As OpenMetrics text; [`classic`] converts it to Prometheus text.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.cores.iter().map(|core| counter(core).get()).sum()
    }

    fn totals(&self, bounds: &'static [u64], histogram: impl Fn(&Counters) -> &Histogram) -> Totals {
        let mut totals = Totals::new(bounds);
        self.cores.iter().for_each(|core| totals.add(histogram(core)));
        totals
    }

    /// The sum of the histograms of some endpoints and models.
    fn operations(
        &self,
        places: impl Iterator<Item = (usize, Option<usize>)>,
        bounds: &'static [u64],
        histogram: impl Fn(&Operation) -> &Histogram,
    ) -> Totals {
        let mut totals = Totals::new(bounds);
        let mut add = |of: &ModelCounters, endpoint| {
            of.counted_operation(endpoint).into_iter().for_each(|of| totals.add(histogram(of)));
        };
        for (endpoint, model) in places {
            match model {
                Some(model) => self.labels.models[model].counters.iter().for_each(|core| add(core, endpoint)),
                None => self.cores.iter().for_each(|core| add(&core.without_model, endpoint)),
            }
        }
        totals
    }

    /// The sum of the requests, grouped by what `part` takes of their keys.
    fn by<P: Ord>(&self, part: impl Fn(Key) -> P) -> BTreeMap<P, Amounts> {
        let mut all: BTreeMap<P, Amounts> = BTreeMap::new();
        self.series.iter().for_each(|(key, amounts)| all.entry(part(*key)).or_default().add(*amounts));
        all
    }
}

#[cfg(test)]
mod tests;
