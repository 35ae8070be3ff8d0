//! `/v1/status`: the state of the node, with stable field names. Backends are shown as the cores see them, each core
//! with its own breaker.

use serde::Serialize;
use shards::breaker::Reason;

use super::Admin;
use crate::config::snapshot::CacheMode;
use crate::net::now_ms;
use crate::observe::counters::{AttemptResult, BackendCounters, Counter, Counters};
use crate::observe::scrape::Item;

#[derive(Serialize)]
pub struct Status {
    version: &'static str,
    state: &'static str,
    uptime_seconds: u64,
    config_generation: u64,
    listening: Vec<String>,
    core_plan: Plan,
    cores: Vec<Core>,
    backends: Vec<Backend>,
    models: Vec<Model>,
    cache: Cache,
}

#[derive(Serialize)]
struct Plan {
    summary: String,
    data: Vec<Option<usize>>,
    io: Option<usize>,
    background: Option<usize>,
}

#[derive(Serialize)]
struct Core {
    core: usize,
    cpu: Option<usize>,
    busy_ratio: f64,
    connections: u64,
    requests_in_flight: u64,
    requests: u64,
}

#[derive(Serialize)]
struct Backend {
    name: String,
    /// The worst over all cores.
    state: &'static str,
    /// The reason for the last change of state, by requests of a core or by health checks.
    reason: Option<&'static str>,
    changed_unix_ms: Option<u64>,
    check_fault: Option<String>,
    cores: CoreStates,
    requests_in_flight: u64,
    connections: Connections,
    attempts: u64,
    failed_attempts: u64,
}

#[derive(Serialize)]
struct CoreStates {
    serving: usize,
    probing: usize,
    tripped: usize,
}

#[derive(Serialize)]
struct Connections {
    idle: u64,
    busy: u64,
    http2: u64,
}

#[derive(Serialize)]
struct Model {
    name: String,
    backends: Vec<String>,
    queue_depth: u64,
}

#[derive(Serialize)]
struct Cache {
    enabled: bool,
    bytes: u64,
    budget_bytes: u64,
    entries: u64,
    hits: u64,
    misses: u64,
    joined: u64,
}

const STATES: [&str; 3] = ["serving", "probing", "tripped"];

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
        let cores = parts.counters.iter().enumerate().map(|(core, counters)| Core {
            core,
            cpu: parts.plan.data.get(core).copied().flatten(),
            busy_ratio: busy.get(core).map_or(0.0, |(ratio, _)| *ratio),
            connections: counters.connections.get(),
            requests_in_flight: counters.exchanges.get(),
            requests: counters.requests.get(),
        });
        let models = snapshot.models.iter().zip(&labels.models).map(|(model, of)| Model {
            name: model.name.clone(),
            backends: model.targets.iter().map(|target| snapshot.backends[target.backend].name.clone()).collect(),
            queue_depth: of.counters.iter().map(|core| core.queue_depth.get()).sum(),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            uptime_seconds: now_ms().saturating_sub(self.started_ms) / 1000,
            config_generation: in_force.generation,
            listening: parts.listening.clone(),
            core_plan: Plan {
                summary: parts.plan.summary.clone(),
                data: parts.plan.data.clone(),
                io: parts.plan.io,
                background: parts.plan.background,
            },
            cores: cores.collect(),
            backends: labels.backends.iter().map(|of| self.backend(of)).collect(),
            models: models.collect(),
            cache: Cache {
                enabled: snapshot.cache.mode == CacheMode::On,
                bytes: self.sum(|core| &core.cache_bytes),
                budget_bytes: snapshot.cache.memory_bytes,
                entries: self.sum(|core| &core.cache_entries),
                hits: self.sum(|core| &core.hits),
                misses: self.sum(|core| &core.misses),
                joined: self.sum(|core| &core.joined),
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

    fn backend(&self, item: &Item<BackendCounters>) -> Backend {
        let cores = &item.counters;
        let sum =
            |counter: fn(&BackendCounters) -> &Counter| -> u64 { cores.iter().map(|core| counter(core).get()).sum() };
        let in_state = |wanted: u64| cores.iter().filter(|core| core.state.get() == wanted).count();
        let last = cores.iter().max_by_key(|core| core.changed_unix_ms.get());
        let (changed_unix_ms, reason) = last.map_or((0, 0), |core| (core.changed_unix_ms.get(), core.reason.get()));
        let worst = (0..STATES.len()).rev().find(|state| in_state(*state as u64) > 0).unwrap_or(0);
        let failed = AttemptResult::ALL.iter().filter(|result| {
            !matches!(result, AttemptResult::Success | AttemptResult::ClientError | AttemptResult::Cancelled)
        });
        let failed_attempts =
            failed.map(|result| cores.iter().map(|core| core.result(*result).get()).sum::<u64>()).sum();
        Backend {
            name: item.name.to_string(),
            state: STATES[worst],
            reason: REASONS.iter().find(|known| **known as u64 + 1 == reason).map(|reason| reason.label()),
            changed_unix_ms: (changed_unix_ms > 0).then_some(changed_unix_ms),
            check_fault: self.check_faults.borrow().get(&*item.name).cloned(),
            cores: CoreStates { serving: in_state(0), probing: in_state(1), tripped: in_state(2) },
            requests_in_flight: sum(|b| &b.in_flight),
            connections: Connections {
                idle: sum(|b| &b.connections_idle),
                busy: sum(|b| &b.connections_busy),
                http2: sum(|b| &b.http2_connections),
            },
            attempts: sum(|b| &b.attempts),
            failed_attempts,
        }
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.parts.counters.iter().map(|core| counter(core).get()).sum()
    }
}

/// As the cores number them.
const REASONS: [Reason; 6] = [
    Reason::ErrorsInRow,
    Reason::ErrorRatio,
    Reason::ProbeFailed,
    Reason::ProbesPassed,
    Reason::CheckFailed,
    Reason::CheckPassed,
];
