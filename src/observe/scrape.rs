//! A scrape: the blocks of all cores, read in place and added up, as Prometheus or OpenMetrics text. Runs on the background
//! core; sends no message, and takes nothing from a data core but its cache lines.

mod encode; // a row's numbers to text

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use smallvec::SmallVec;

pub use self::encode::classic;
use super::counters::{Counter, Counters, Operation};
use super::histogram::{Histogram, Totals};
use super::process::Process;
use super::series::{Amounts, Key};
use crate::config::snapshot::{GenAi, Snapshot};

/// What the indices in the counters stand for.
#[derive(Debug)]
pub struct Labels {
    /// In the order of the counters' indices, each name once.
    pub endpoints: Vec<&'static str>,
    pub models: Vec<String>,
    pub tenants: Vec<String>,
    pub backends: Vec<String>,
    pub cache_budget_bytes: u64,
    /// Where requests count that have no endpoint, model or tenant that is in the lists: one past the end, or at the one
    /// that is called just like that.
    other_endpoint: usize,
    other_model: usize,
    no_tenant: usize,
}

/// What stands for models that are not configured, and for endpoints that have no name of their own.
const OTHER: &str = "other";
/// The tenant of requests that have none.
const NONE: &str = "none";

impl Labels {
    pub fn of(snapshot: &Snapshot, endpoints: Vec<&'static str>) -> Labels {
        let models: Vec<String> = snapshot.models.iter().map(|model| model.name.clone()).collect();
        let tenants: Vec<String> = snapshot.tenants.iter().map(|tenant| tenant.name.clone()).collect();
        Labels {
            other_endpoint: endpoints.iter().position(|name| *name == OTHER).unwrap_or(endpoints.len()),
            other_model: models.iter().position(|name| name == OTHER).unwrap_or(models.len()),
            no_tenant: tenants.iter().position(|name| name == NONE).unwrap_or(tenants.len()),
            endpoints,
            models,
            tenants,
            backends: snapshot.backends.iter().map(|backend| backend.name.clone()).collect(),
            cache_budget_bytes: snapshot.cache.memory_bytes,
        }
    }

    fn endpoint(&self, index: usize) -> &str {
        self.endpoints.get(index).copied().unwrap_or(OTHER)
    }

    fn model(&self, index: usize) -> &str {
        self.models.get(index).map_or(OTHER, String::as_str)
    }

    fn tenant(&self, index: usize) -> &str {
        self.tenants.get(index).map_or(NONE, String::as_str)
    }

    /// The same key for all that have the same names.
    fn normal(&self, key: Key) -> Key {
        let within = |index: usize, count: usize, other: usize| if index < count { index } else { other };
        Key {
            endpoint: within(key.endpoint.into(), self.endpoints.len(), self.other_endpoint) as u8,
            model: within(key.model as usize, self.models.len(), self.other_model) as u32,
            tenant: within(key.tenant as usize, self.tenants.len(), self.no_tenant) as u32,
            status: key.status,
        }
    }

    /// Each name of a model, with the places in the counters that count for it.
    fn model_rows(&self) -> impl Iterator<Item = (&str, SmallVec<[Option<usize>; 2]>)> {
        (0..self.models.len().max(self.other_model + 1)).map(|model| {
            let own = (model < self.models.len()).then_some(Some(model));
            let other = (model == self.other_model).then_some(None);
            (self.model(model), own.into_iter().chain(other).collect())
        })
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

/// What is not in the cores' blocks.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub generation: u64,
    pub last_reload: Reload,
    /// By core: share of the last seconds that its thread ran, and its CPU time.
    pub busy: Vec<(f64, f64)>,
    pub process: Process,
    pub genai: GenAi,
}

/// Whether the configuration that was read last is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    #[default]
    Good,
    Refused,
}

impl Scrape {
    /// Reads what is counted by request; everything else is read as it is written.
    pub fn new(cores: Vec<Arc<Counters>>, labels: Arc<Labels>, node: Node) -> Scrape {
        let mut all: HashMap<Key, Amounts> = HashMap::new();
        for core in &cores {
            core.series.read(|key, amounts| all.entry(labels.normal(key)).or_default().add(amounts));
        }
        let mut series: Vec<(Key, Amounts)> = all.into_iter().collect();
        series.sort_unstable_by_key(|(key, _)| *key);
        Scrape { cores, labels, node, series }
    }

    /// As OpenMetrics text; [`classic`] makes Prometheus text of it.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // A string takes everything.
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

    /// The histograms of some endpoints and models added up.
    fn operations(
        &self,
        places: impl Iterator<Item = (usize, Option<usize>)>,
        bounds: &'static [u64],
        histogram: impl Fn(&Operation) -> &Histogram,
    ) -> Totals {
        let mut totals = Totals::new(bounds);
        for (endpoint, model) in places {
            for core in &self.cores {
                core.counted_operation(endpoint, model).into_iter().for_each(|of| totals.add(histogram(of)));
            }
        }
        totals
    }

    /// The requests added up by what `part` takes of their keys.
    fn by<P: Ord>(&self, part: impl Fn(Key) -> P) -> BTreeMap<P, Amounts> {
        let mut all: BTreeMap<P, Amounts> = BTreeMap::new();
        self.series.iter().for_each(|(key, amounts)| all.entry(part(*key)).or_default().add(*amounts));
        all
    }
}

#[cfg(test)]
mod tests;
