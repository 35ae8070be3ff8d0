//! What changes on the node from second to second: samples of the cores' counters, the rates and percentiles between
//! them, and the points of the last ten minutes. Owned by the admin listener. Sums the counters of tenants only while
//! somebody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Admin;
use super::status::COUNTED_AS_FAILED;
use crate::observe::counters::{Counters, ModelCounters};
use crate::observe::histogram::{OWN_TIME_US, REQUEST_US, Totals};
use crate::observe::process::thread_cpu_seconds;
use crate::observe::scrape::{Labels, NONE};
use crate::observe::series::Amounts;

/// Samples over which rates, percentiles and utilization are told: five seconds.
const SAMPLES: usize = 6;
/// Points that are kept: ten minutes.
const POINTS: usize = 600;
/// Seconds for which tenants are counted after somebody looked.
const ATTENTION: u32 = 30;

/// The totals of the node at one time.
#[derive(Debug)]
struct Sample {
    at: Instant,
    node: NodeTotals,
    cores: Vec<CoreTotals>,
    /// Attempts, and failed ones. By name, as are the next two: a reload may change the order.
    backends: Pairs,
    /// Requests, and nothing.
    models: Pairs,
    /// Requests and tokens; empty while nobody looks.
    tenants: Pairs,
    latency: [Totals; 4],
}

type Pairs = HashMap<Arc<str>, [u64; 2]>;

#[derive(Clone, Copy, Debug, Default)]
struct NodeTotals {
    requests: u64,
    failures: u64,
    /// Answered from the cache, or by another request's upstream call; and looked up.
    saved: u64,
    asked: u64,
    tokens: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct CoreTotals {
    requests: u64,
    messages: u64,
    cpu_seconds: f64,
}

/// One second, for a chart. Numbers a second, and percentiles in seconds; none without a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    unix_ms: u64,
    requests: f64,
    failures: f64,
    tokens: f64,
    hit_ratio: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    first_token_p95: Option<f64>,
    overhead_p99: Option<f64>,
    busy: f64,
}

/// In seconds; none without a value in the last five seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

/// What [`Live`] tells of the last seconds.
#[derive(Debug, Default)]
pub struct Rates {
    pub requests: f64,
    pub failures: f64,
    pub tokens: f64,
    pub hit_ratio: Option<f64>,
    /// Requests and messages of each core.
    pub cores: Vec<[f64; 2]>,
    /// Attempts and failed attempts, by name.
    pub backends: HashMap<Arc<str>, [f64; 2]>,
    /// Requests, and zero.
    pub models: HashMap<Arc<str>, [f64; 2]>,
    /// Requests and tokens.
    pub tenants: HashMap<Arc<str>, [f64; 2]>,
    /// Of whole requests, to the first token, and of the gateway's own time for hits and for misses.
    pub latency: [Percentiles; 4],
}

/// The last samples and points.
#[derive(Debug, Default)]
pub struct Live {
    samples: VecDeque<Sample>,
    points: VecDeque<Point>,
    attention: u32,
}

impl Live {
    /// Somebody looks: tenants are counted for a while.
    pub fn attend(&mut self) {
        self.attention = ATTENTION;
    }

    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// Takes a sample. Returns the utilization of each core, and its CPU time.
    pub fn sample(&mut self, cores: &[Arc<Counters>], labels: &Labels, unix_ms: u64) -> Vec<(f64, f64)> {
        self.attention = self.attention.saturating_sub(1);
        let sample = Sample::take(cores, labels, self.attention > 0);
        if let Some(last) = self.samples.back() {
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back(Point::between(last, &sample, unix_ms));
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return Vec::new() };
        let seconds = first.seconds_until(last);
        let busy = |(core, last): (usize, &CoreTotals)| {
            let before = first.cores.get(core).map_or(last.cpu_seconds, |core| core.cpu_seconds);
            (((last.cpu_seconds - before) / seconds).clamp(0.0, 1.0), last.cpu_seconds)
        };
        last.cores.iter().enumerate().map(busy).collect()
    }

    /// Over the last five seconds.
    pub fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return Rates::default() };
        let seconds = first.seconds_until(last);
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let pair = |before: &[u64; 2], after: &[u64; 2]| [0, 1].map(|at| rate(before[at], after[at]));
        // What is new has no rate yet.
        let pairs = |before: &Pairs, after: &Pairs| -> HashMap<Arc<str>, [f64; 2]> {
            let of = |(name, after): (&Arc<str>, &[u64; 2])| Some((name.clone(), pair(before.get(name)?, after)));
            after.iter().filter_map(of).collect()
        };
        let core = |(before, after): (&CoreTotals, &CoreTotals)| {
            pair(&[before.requests, before.messages], &[after.requests, after.messages])
        };
        // Tenants are not in samples from a time when nobody looked.
        let looked = self.samples.iter().find(|sample| !sample.tenants.is_empty()).unwrap_or(last);
        let share = (looked.seconds_until(last) / seconds).min(1.0);
        let mut tenants = pairs(&looked.tenants, &last.tenants);
        tenants.values_mut().for_each(|pair| *pair = pair.map(|rate| rate / share));
        Rates {
            requests: rate(first.node.requests, last.node.requests),
            failures: rate(first.node.failures, last.node.failures),
            tokens: rate(looked.node.tokens, last.node.tokens) / share,
            hit_ratio: hit_ratio(&first.node, &last.node),
            cores: first.cores.iter().zip(&last.cores).map(core).collect(),
            backends: pairs(&first.backends, &last.backends),
            models: pairs(&first.models, &last.models),
            tenants,
            latency: [0, 1, 2, 3].map(|at| {
                let span = last.latency[at].since(&first.latency[at]);
                let [p50_seconds, p95_seconds, p99_seconds] = [50, 95, 99].map(|percent| seconds_at(&span, percent));
                Percentiles { p50_seconds, p95_seconds, p99_seconds }
            }),
        }
    }
}

impl Sample {
    fn take(cores: &[Arc<Counters>], labels: &Labels, with_tenants: bool) -> Sample {
        let mut node = NodeTotals::default();
        let mut latency = [REQUEST_US, REQUEST_US, OWN_TIME_US, OWN_TIME_US].map(Totals::new);
        for core in cores {
            node.requests += core.requests.get();
            node.failures += core.failures.get();
            let saved = core.hits.get() + core.joined.get() + core.stale.get();
            node.saved += saved;
            node.asked += saved + core.misses.get();
            latency[2].add(&core.own_time_hit.0);
            latency[3].add(&core.own_time_miss.0);
        }
        let mut add = |of: &ModelCounters| -> u64 {
            let operations = (0..labels.endpoints.len()).filter_map(|endpoint| of.counted_operation(endpoint));
            let count = operations.map(|operation| {
                latency[0].add(&operation.duration);
                latency[1].add(&operation.first_token);
                operation.duration.count()
            });
            count.sum()
        };
        cores.iter().for_each(|core| _ = add(&core.without_model));
        let models = labels.models.iter().map(|model| {
            let requests = model.counters.iter().map(&mut add).sum();
            (model.name.clone(), [requests, 0])
        });
        let models = models.collect();
        let backends = labels.backends.iter().map(|backend| {
            let failed = COUNTED_AS_FAILED.iter().map(|result| backend.sum(|core| core.result(*result))).sum();
            (backend.name.clone(), [backend.sum(|core| &core.attempts), failed])
        });
        let backends = backends.collect();
        let mut tenants = Pairs::default();
        if with_tenants {
            for (name, amounts, _) in tenants_of(cores, labels) {
                node.tokens += tokens(&amounts);
                // A tenant may be called as those without one are.
                let pair = tenants.entry(name).or_default();
                *pair = [pair[0] + amounts.requests, pair[1] + tokens(&amounts)];
            }
        }
        let of_core = |core: &Arc<Counters>| CoreTotals {
            requests: core.requests.get(),
            messages: core.messages.get(),
            cpu_seconds: thread_cpu_seconds(core.thread.get()),
        };
        let cores = cores.iter().map(of_core).collect();
        Sample { at: Instant::now(), node, cores, backends, models, tenants, latency }
    }

    /// Never zero.
    fn seconds_until(&self, later: &Sample) -> f64 {
        (later.at - self.at).as_secs_f64().max(0.001)
    }
}

/// Prompt and completion tokens, whether a backend produced them or the cache.
fn tokens(amounts: &Amounts) -> u64 {
    amounts.prompt_tokens + amounts.completion_tokens + amounts.saved_prompt_tokens + amounts.saved_completion_tokens
}

/// The amounts of each tenant that requests were ever counted for, and how many of its requests ended with a status of
/// 400 or above, or without one; then those of requests without a tenant.
pub fn tenants_of(cores: &[Arc<Counters>], labels: &Labels) -> Vec<(Arc<str>, Amounts, u64)> {
    let names = labels.tenant_names().iter().cloned().chain([NONE.into()]);
    let mut all: Vec<_> = names.map(|name| (name, Amounts::default(), 0)).collect();
    let last = all.len() - 1;
    for core in cores {
        core.series.read(|key, amounts| {
            let (_, sum, refused) = &mut all[last.min(key.tenant as usize)];
            sum.add(amounts);
            if key.status >= 400 || key.status == 0 {
                *refused += amounts.requests;
            }
        });
    }
    all
}

impl Point {
    fn between(before: &Sample, after: &Sample, unix_ms: u64) -> Point {
        let seconds = before.seconds_until(after);
        let rate = |of: fn(&NodeTotals) -> u64| of(&after.node).saturating_sub(of(&before.node)) as f64 / seconds;
        let [request, first_token, hit, mut own_time] =
            [0, 1, 2, 3].map(|at| after.latency[at].since(&before.latency[at]));
        own_time.merge(&hit);
        let cpu = |of: &Sample| of.cores.iter().map(|core| core.cpu_seconds).sum::<f64>();
        Point {
            unix_ms,
            requests: rate(|node| node.requests),
            failures: rate(|node| node.failures),
            // Tokens are known while somebody looks, and of nothing before.
            tokens: if before.tenants.is_empty() { 0.0 } else { rate(|node| node.tokens) },
            hit_ratio: hit_ratio(&before.node, &after.node),
            p50: seconds_at(&request, 50),
            p95: seconds_at(&request, 95),
            p99: seconds_at(&request, 99),
            first_token_p95: seconds_at(&first_token, 95),
            overhead_p99: seconds_at(&own_time, 99),
            busy: ((cpu(after) - cpu(before)) / seconds / after.cores.len().max(1) as f64).clamp(0.0, 1.0),
        }
    }
}

fn hit_ratio(before: &NodeTotals, after: &NodeTotals) -> Option<f64> {
    let asked = after.asked.saturating_sub(before.asked);
    (asked > 0).then(|| after.saved.saturating_sub(before.saved) as f64 / asked as f64)
}

fn seconds_at(span: &Totals, percent: u64) -> Option<f64> {
    span.estimate(percent).map(|us| us / 1e6)
}

impl Admin {
    /// Samples the cores; `unix_ms` is the time of the point.
    pub(super) fn look(&self, unix_ms: u64) {
        let mut live = self.live.borrow_mut();
        if self.updates.receiver_count() > 0 {
            live.attend();
        }
        *self.busy.borrow_mut() = live.sample(&self.parts.counters, &self.in_force.borrow().labels, unix_ms);
    }
}

#[cfg(test)]
mod tests;
