//! A scrape: the counters of all cores, read in place and summed, as Prometheus or OpenMetrics text. Runs on the
//! background core; sends no message and costs a data core only cache misses.

mod encode; // encodes the values of each row

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

/// The names behind the indices in the counters.
#[derive(Debug)]
pub struct Labels {
    /// In the order of the counters' indices, each name once.
    pub endpoints: Vec<&'static str>,
    pub models: Vec<String>,
    pub tenants: Vec<String>,
    pub backends: Vec<String>,
    pub cache_budget_bytes: u64,
    /// The index for requests whose endpoint, model or tenant is not in the lists: one past the end, or that of a
    /// configured one with the same name.
    other_endpoint: usize,
    other_model: usize,
    no_tenant: usize,
}

/// Label of models that are not configured, and of endpoints without a name of their own.
const OTHER: &str = "other";
/// Label of requests without a tenant.
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

    /// Maps all keys with the same names to one key.
    fn normal(&self, key: Key) -> Key {
        let within = |index: usize, count: usize, other: usize| if index < count { index } else { other };
        Key {
            endpoint: within(key.endpoint.into(), self.endpoints.len(), self.other_endpoint) as u8,
            model: within(key.model as usize, self.models.len(), self.other_model) as u32,
            tenant: within(key.tenant as usize, self.tenants.len(), self.no_tenant) as u32,
            status: key.status,
        }
    }

    /// Each model name, with the indices of the counters that belong to it.
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

/// Values that are not in the cores' counters.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub generation: u64,
    pub last_reload: Reload,
    /// By core: recent utilization of its thread, and its CPU time.
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
        for (endpoint, model) in places {
            for core in &self.cores {
                core.counted_operation(endpoint, model).into_iter().for_each(|of| totals.add(histogram(of)));
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
