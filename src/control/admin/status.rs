//! `/v1/status`: the state of the node, with stable field names. Backends are shown as the cores see them, each core
//! with its own breaker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shards::breaker::State;

pub use super::live::Percentiles;
use super::live::{Rates, tenants_of};
use super::reload::Last;
use super::source::Source;
use super::{Admin, InForce};
use crate::config::snapshot::{self, CacheMode};
use crate::net::now_ms;
use crate::observe::counters::{AttemptResult, BackendCounters, Counter, Counters};
use crate::observe::scrape::Item;
use crate::observe::series::Amounts;

/// The state of a node. Rates and percentiles are those of the last five seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub state: String,
    pub uptime_seconds: u64,
    pub config_generation: u64,
    /// How the last reload ended; none before the first.
    pub last_reload: Option<Last>,
    pub config_source: Source,
    pub listening: Vec<String>,
    pub core_plan: Plan,
    pub traffic: Traffic,
    pub latency: Latency,
    pub cores: Vec<Core>,
    pub backends: Vec<Backend>,
    pub models: Vec<Model>,
    pub tenants: Vec<Tenant>,
    pub cache: Cache,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub summary: String,
    pub data: Vec<Option<usize>>,
    pub io: Option<usize>,
    pub background: Option<usize>,
    /// How new connections come to data cores: `cpu` or `hash`, and why.
    pub steering: String,
    pub steering_reason: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    pub connections: u64,
    pub requests_in_flight: u64,
    pub requests: u64,
    /// Requests that ended in an error, whoever is to blame.
    pub failures: u64,
    pub upstream_calls: u64,
    pub retries: u64,
    pub fallbacks: u64,
    pub hedges: u64,
    pub requests_per_second: f64,
    pub failures_per_second: f64,
    /// Prompt and completion, from backends and from the cache; counted while somebody asks for the status.
    pub tokens_per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Whole requests.
    pub request: Percentiles,
    pub first_token: Percentiles,
    /// The gateway's own time.
    pub overhead_hit: Percentiles,
    pub overhead_miss: Percentiles,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Core {
    pub core: usize,
    pub cpu: Option<usize>,
    pub busy_ratio: f64,
    pub connections: u64,
    /// That came from other cores.
    pub connections_moved: u64,
    pub requests_in_flight: u64,
    pub requests: u64,
    pub messages: u64,
    pub requests_per_second: f64,
    pub messages_per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    pub name: String,
    pub address: String,
    /// The worst over all cores.
    pub state: String,
    /// The reason for the last change of state, by requests of a core or by health checks, as the log and the metrics call it.
    pub reason: Option<String>,
    pub changed_unix_ms: Option<u64>,
    pub check_fault: Option<String>,
    pub cores: CoreStates,
    pub requests_in_flight: u64,
    pub connections: Connections,
    /// How many requests it gets at a time, with adaptive_concurrency.
    pub concurrency_limit: Option<u64>,
    pub attempts: u64,
    pub failed_attempts: u64,
    pub attempts_per_second: f64,
    pub failed_attempts_per_second: f64,
    /// Attempts by their result.
    pub results: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CoreStates {
    pub serving: usize,
    pub probing: usize,
    pub tripped: usize,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    pub idle: u64,
    pub busy: u64,
    pub http2: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    pub name: String,
    pub backends: Vec<String>,
    pub queue_depth: u64,
    pub requests_per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tenant {
    /// `none` for requests without a tenant.
    pub name: String,
    pub requests: u64,
    /// Requests that ended with a status of 400 or above, or without one.
    pub failures: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Tokens of answers that needed no upstream call.
    pub saved_tokens: u64,
    pub requests_per_second: f64,
    pub tokens_per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    pub enabled: bool,
    pub bytes: u64,
    pub budget_bytes: u64,
    pub entries: u64,
    pub hits: u64,
    pub misses: u64,
    pub joined: u64,
    pub stale: u64,
    pub bypassed: u64,
    pub snapshot: super::snapshot::Status,
    /// Answers from the cache and from other requests' upstream calls, of those that were looked up.
    pub hit_ratio: Option<f64>,
}

/// Results of attempts for which a backend is to blame.
pub(super) const COUNTED_AS_FAILED: [AttemptResult; 8] = [
    AttemptResult::RateLimited,
    AttemptResult::ServerError,
    AttemptResult::ErrorEvent,
    AttemptResult::Connect,
    AttemptResult::Handshake,
    AttemptResult::Closed,
    AttemptResult::Invalid,
    AttemptResult::Timeout,
];

impl Admin {
    pub(super) fn status(&self) -> Status {
        let (parts, in_force) = (&self.parts, self.in_force.borrow());
        let (snapshot, labels) = (&in_force.snapshot, &in_force.labels);
        let state = match (self.draining.get(), self.is_ready()) {
            (true, _) => "draining",
            (false, true) => "serving",
            (false, false) => "starting",
        };
        let busy = self.busy.borrow();
        let mut rates = self.live.borrow().rates();
        let cores = parts.counters.iter().enumerate().map(|(core, counters)| Core {
            core,
            cpu: parts.plan.data.get(core).copied().flatten(),
            busy_ratio: busy.get(core).map_or(0.0, |(ratio, _)| *ratio),
            connections: counters.connections.get(),
            connections_moved: counters.connections_moved.get(),
            requests_in_flight: counters.exchanges.get(),
            requests: counters.requests.get(),
            messages: counters.messages.get(),
            requests_per_second: rates.cores.get(core).map_or(0.0, |pair| pair[0]),
            messages_per_second: rates.cores.get(core).map_or(0.0, |pair| pair[1]),
        });
        let cores = cores.collect();
        let models = snapshot.models.iter().zip(&labels.models).map(|(model, of)| Model {
            name: model.name.clone(),
            backends: model.targets.iter().map(|target| snapshot.backends[target.backend].name.clone()).collect(),
            queue_depth: of.counters.iter().map(|core| core.queue_depth.get()).sum(),
            requests_per_second: at(&rates.models, &model.name)[0],
        });
        let models = models.collect();
        let [request, first_token, overhead_hit, overhead_miss] = std::mem::take(&mut rates.latency);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.to_owned(),
            uptime_seconds: now_ms().saturating_sub(self.started_ms) / 1000,
            config_generation: in_force.generation,
            last_reload: self.last_reload(),
            config_source: self.source.borrow().clone(),
            listening: parts.listening.clone(),
            core_plan: Plan {
                summary: parts.plan.summary.clone(),
                data: parts.plan.data.clone(),
                io: parts.plan.io,
                background: parts.plan.background,
                steering: parts.plan.steering.clone(),
                steering_reason: parts.plan.steering_reason.clone(),
            },
            traffic: Traffic {
                connections: self.sum(|core| &core.connections),
                requests_in_flight: self.sum(|core| &core.exchanges),
                requests: self.requests(),
                failures: self.sum(|core| &core.failures),
                upstream_calls: self.sum(|core| &core.calls),
                retries: self.sum(|core| &core.retries),
                fallbacks: self.sum(|core| &core.fallbacks),
                hedges: self.sum(|core| &core.hedges),
                requests_per_second: rates.requests,
                failures_per_second: rates.failures,
                tokens_per_second: rates.tokens,
            },
            latency: Latency { request, first_token, overhead_hit, overhead_miss },
            cores,
            backends: labels
                .backends
                .iter()
                .zip(&snapshot.backends)
                .map(|(of, settings)| self.backend(of, settings, &rates))
                .collect(),
            models,
            tenants: self.tenants(&in_force, &rates),
            cache: Cache {
                enabled: snapshot.cache.mode == CacheMode::On,
                bytes: self.sum(|core| &core.cache_bytes),
                budget_bytes: snapshot.cache.memory_bytes,
                entries: self.sum(|core| &core.cache_entries),
                hits: self.sum(|core| &core.hits),
                misses: self.sum(|core| &core.misses),
                joined: self.sum(|core| &core.joined),
                stale: self.sum(|core| &core.stale),
                bypassed: self.sum(|core| &core.bypasses),
                snapshot: self.snapshot_status(),
                hit_ratio: rates.hit_ratio,
            },
        }
    }

    /// One line on the node, for the service manager.
    pub fn summary(&self, requests_per_second: f64) -> String {
        let in_flight = self.sum(|core| &core.exchanges);
        if self.draining.get() {
            return format!("draining: {in_flight} requests in flight");
        }
        let in_force = self.in_force.borrow();
        let backends = &in_force.labels.backends;
        let serves = |backend: &&Item<BackendCounters>| backend.counters.iter().any(|core| core.state.get() != 2);
        let (serving, backends) = (backends.iter().filter(serves).count(), backends.len());
        format!(
            "serving: {requests_per_second:.0} requests per second, {in_flight} in flight, \
             {serving} of {backends} backends in service"
        )
    }

    /// Requests since the start.
    pub fn requests(&self) -> u64 {
        self.sum(|core| &core.requests)
    }

    fn tenants(&self, in_force: &InForce, rates: &Rates) -> Vec<Tenant> {
        let mut all = tenants_of(&self.parts.counters, &in_force.labels);
        let without = all.pop().filter(|(_, amounts, _)| amounts.requests > 0 || in_force.snapshot.tenants.is_empty());
        let mut counted: HashMap<&str, (Amounts, u64)> =
            all.iter().map(|(name, amounts, failures)| (&**name, (*amounts, *failures))).collect();
        let names = in_force.snapshot.tenants.iter().map(|tenant| tenant.name.as_str());
        let rows = names.map(|name| (name, counted.remove(name).unwrap_or_default()));
        // Without a tenant there are requests with a wrong key, or all of them.
        let without = without.iter().map(|(name, amounts, failures)| (&**name, (*amounts, *failures)));
        let row = |(name, (amounts, failures)): (&str, (Amounts, u64))| Tenant {
            name: name.to_owned(),
            requests: amounts.requests,
            failures,
            prompt_tokens: amounts.prompt_tokens,
            completion_tokens: amounts.completion_tokens,
            saved_tokens: amounts.saved_prompt_tokens + amounts.saved_completion_tokens,
            requests_per_second: at(&rates.tenants, name)[0],
            tokens_per_second: at(&rates.tenants, name)[1],
        };
        rows.chain(without).map(row).collect()
    }

    fn backend(&self, item: &Item<BackendCounters>, settings: &snapshot::Backend, rates: &Rates) -> Backend {
        let cores = &item.counters;
        let sum =
            |counter: fn(&BackendCounters) -> &Counter| -> u64 { cores.iter().map(|core| counter(core).get()).sum() };
        let in_state = |wanted: u64| cores.iter().filter(|core| core.state.get() == wanted).count();
        let last = self.transitions_of(&item.name).last;
        let worst = (0..State::ALL.len()).rev().find(|state| in_state(*state as u64) > 0).unwrap_or(0);
        let result = |result: AttemptResult| item.sum(|core| core.result(result));
        let [attempts_per_second, failed_attempts_per_second] = at(&rates.backends, &item.name);
        Backend {
            name: item.name.to_string(),
            address: settings.authority.clone(),
            state: State::ALL[worst].label().to_owned(),
            reason: last.map(|(reason, _)| reason.label().to_owned()),
            changed_unix_ms: last.map(|(_, unix_ms)| unix_ms),
            check_fault: self.check_faults.borrow().get(&*item.name).cloned(),
            cores: CoreStates { serving: in_state(0), probing: in_state(1), tripped: in_state(2) },
            requests_in_flight: sum(|b| &b.in_flight),
            connections: Connections {
                idle: sum(|b| &b.connections_idle),
                busy: sum(|b| &b.connections_busy),
                http2: sum(|b| &b.http2_connections),
            },
            concurrency_limit: Some(sum(|b| &b.concurrency_limit)).filter(|limit| *limit > 0),
            attempts: sum(|b| &b.attempts),
            failed_attempts: COUNTED_AS_FAILED.iter().map(|known| result(*known)).sum(),
            attempts_per_second,
            failed_attempts_per_second,
            results: AttemptResult::ALL.iter().map(|known| (known.label().to_owned(), result(*known))).collect(),
        }
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.parts.counters.iter().map(|core| counter(core).get()).sum()
    }
}

/// A pair of rates; zero until there are two samples.
fn at(rates: &HashMap<Arc<str>, [f64; 2]>, name: &str) -> [f64; 2] {
    rates.get(name).copied().unwrap_or_default()
}
