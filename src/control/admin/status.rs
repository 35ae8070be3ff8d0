//! `/v1/status`: the state of the node, with stable field names. Backends are shown as the cores see them, each core
//! with its own breaker.

use serde::Serialize;
use shards::breaker::Reason;

use super::Admin;
use crate::config::snapshot::CacheMode;
use crate::net::now_ms;
use crate::observe::counters::{AttemptResult, BackendCounters, Counter, Counters};

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
        let (parts, snapshot) = (&self.parts, &self.parts.snapshot);
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
        let models = snapshot.models.iter().enumerate().map(|(index, model)| Model {
            name: model.name.clone(),
            backends: model.targets.iter().map(|target| snapshot.backends[target.backend].name.clone()).collect(),
            queue_depth: self.sum(|core| &core.models[index].queue_depth),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            uptime_seconds: now_ms().saturating_sub(self.started_ms) / 1000,
            config_generation: 1,
            listening: parts.listening.clone(),
            core_plan: Plan {
                summary: parts.plan.summary.clone(),
                data: parts.plan.data.clone(),
                io: parts.plan.io,
                background: parts.plan.background,
            },
            cores: cores.collect(),
            backends: (0..snapshot.backends.len()).map(|backend| self.backend(backend)).collect(),
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
        let backends = self.parts.snapshot.backends.len();
        let is_serving = |backend: &usize| {
            let mut states = self.parts.counters.iter().map(|core| core.backends[*backend].state.get());
            states.any(|state| state != 2)
        };
        let serving = (0..backends).filter(is_serving).count();
        format!(
            "serving: {requests_per_second:.0} requests per second, {in_flight} in flight, \
             {serving} of {backends} backends in service"
        )
    }

    /// Requests since the start.
    pub fn requests(&self) -> u64 {
        self.sum(|core| &core.requests)
    }

    fn backend(&self, backend: usize) -> Backend {
        let of = |core: &'_ Counters, counter: fn(&BackendCounters) -> &Counter| counter(&core.backends[backend]).get();
        let sum = |counter: fn(&BackendCounters) -> &Counter| -> u64 {
            self.parts.counters.iter().map(|core| of(core, counter)).sum()
        };
        let in_state = |wanted: u64| self.parts.counters.iter().filter(|core| of(core, |b| &b.state) == wanted).count();
        let last = self.parts.counters.iter().max_by_key(|core| of(core, |b| &b.changed_unix_ms));
        let (changed_unix_ms, reason) =
            last.map_or((0, 0), |core| (of(core, |b| &b.changed_unix_ms), of(core, |b| &b.reason)));
        let worst = (0..STATES.len()).rev().find(|state| in_state(*state as u64) > 0).unwrap_or(0);
        let failed = AttemptResult::ALL.iter().filter(|result| {
            !matches!(result, AttemptResult::Success | AttemptResult::ClientError | AttemptResult::Cancelled)
        });
        let failed_attempts = failed.map(|result| self.sum(|core| core.backends[backend].result(*result))).sum();
        Backend {
            name: self.parts.snapshot.backends[backend].name.clone(),
            state: STATES[worst],
            reason: REASONS.iter().find(|known| **known as u64 + 1 == reason).map(|reason| reason.label()),
            changed_unix_ms: (changed_unix_ms > 0).then_some(changed_unix_ms),
            check_fault: self.check_faults.borrow()[backend].clone(),
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
