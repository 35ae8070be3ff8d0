//! Whether more or fewer nodes are wanted: the advice of `/v1/scaling` to an autoscaler. Pure: samples and the time are
//! passed in. The advice never changes within [`CALM_MS`] of the last change, to prevent oscillation.

use std::collections::VecDeque;

use serde::Serialize;

use crate::observe::histogram::{OWN_TIME_US, Totals};

/// More nodes above any of these, over the last minute; fewer below all of them.
const UP: Thresholds = Thresholds { busy_ratio: 0.70, requests_per_second: 8_000.0, p95_us: 4_000 };
const DOWN: Thresholds = Thresholds { busy_ratio: 0.30, requests_per_second: 3_000.0, p95_us: 2_000 };
/// The averaging window.
const SPAN_MS: u64 = 60_000;
/// Least time between two changes of the advice.
const CALM_MS: u64 = 300_000;

struct Thresholds {
    busy_ratio: f64,
    requests_per_second: f64,
    p95_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    Stay,
    Up,
    Down,
}

/// The totals of the node at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at_ms: u64,
    pub requests: u64,
    /// The gateway's own time, of hits and misses.
    pub own_time: Totals,
    /// Of all cores, since the previous sample.
    pub busy_ratio: f64,
}

/// The samples of the last minute, and the advice.
#[derive(Debug)]
pub struct Scaling {
    samples: VecDeque<Sample>,
    advice: Advice,
    changed_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Told {
    pub advice: Advice,
    /// How long ago the advice changed.
    pub changed_seconds_ago: Option<u64>,
    pub busy_ratio: f64,
    pub requests_per_second: f64,
    /// Of the gateway's own time; none without an answer in that minute.
    pub p95_seconds: Option<f64>,
}

impl Default for Scaling {
    fn default() -> Self {
        Scaling { samples: VecDeque::new(), advice: Advice::Stay, changed_ms: None }
    }
}

impl Scaling {
    pub fn add(&mut self, sample: Sample) {
        let now = sample.at_ms;
        self.samples.push_back(sample);
        // One sample older than the window is kept as its start.
        while self.samples.get(1).is_some_and(|second| now.saturating_sub(second.at_ms) >= SPAN_MS) {
            self.samples.pop_front();
        }
        let full = self.samples.front().is_some_and(|first| now.saturating_sub(first.at_ms) >= SPAN_MS);
        let calm = self.changed_ms.is_none_or(|at| now.saturating_sub(at) >= CALM_MS);
        let wanted = self.wanted();
        if full && calm && wanted != self.advice {
            (self.advice, self.changed_ms) = (wanted, Some(now));
        }
    }

    pub fn told(&self, now_ms: u64) -> Told {
        let (busy_ratio, requests_per_second, p95_us) = self.load();
        Told {
            advice: self.advice,
            changed_seconds_ago: self.changed_ms.map(|at| now_ms.saturating_sub(at) / 1000),
            busy_ratio,
            requests_per_second,
            p95_seconds: p95_us.map(|us| us as f64 / 1e6),
        }
    }

    fn wanted(&self) -> Advice {
        let (busy, rate, p95_us) = self.load();
        let p95_us = p95_us.unwrap_or(0);
        if busy > UP.busy_ratio || rate > UP.requests_per_second || p95_us > UP.p95_us {
            Advice::Up
        } else if busy < DOWN.busy_ratio && rate < DOWN.requests_per_second && p95_us < DOWN.p95_us {
            Advice::Down
        } else {
            Advice::Stay
        }
    }

    /// Utilization, requests per second and p95 of the gateway's own time in microseconds, over the available samples.
    fn load(&self) -> (f64, f64, Option<u64>) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return (0.0, 0.0, None) };
        let later = self.samples.len() - 1;
        if later == 0 {
            return (0.0, 0.0, None);
        }
        let busy = self.samples.iter().skip(1).map(|sample| sample.busy_ratio).sum::<f64>() / later as f64;
        let seconds = (last.at_ms.saturating_sub(first.at_ms) as f64 / 1000.0).max(0.001);
        let rate = last.requests.saturating_sub(first.requests) as f64 / seconds;
        let mut span = Totals::new(OWN_TIME_US);
        for (count, (last, first)) in
            span.counts.iter_mut().zip(last.own_time.counts.iter().zip(&first.own_time.counts))
        {
            *count = last.saturating_sub(*first);
        }
        (busy, rate, span.quantile(95))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a node with a given utilization, request rate and latency; a sample every five seconds.
    struct Node {
        scaling: Scaling,
        at_ms: u64,
        requests: u64,
        own_time: Totals,
    }

    impl Node {
        fn new() -> Node {
            Node { scaling: Scaling::default(), at_ms: 1_000, requests: 0, own_time: Totals::new(OWN_TIME_US) }
        }

        fn run(&mut self, seconds: u64, busy_ratio: f64, rate: u64, us: u64) -> Advice {
            for _ in 0..seconds / 5 {
                self.at_ms += 5_000;
                self.requests += 5 * rate;
                self.own_time.counts[OWN_TIME_US.partition_point(|&bound| bound < us)] += 5 * rate;
                let own_time = self.own_time.clone();
                self.scaling.add(Sample { at_ms: self.at_ms, requests: self.requests, own_time, busy_ratio });
            }
            self.scaling.told(self.at_ms).advice
        }
    }

    #[test]
    fn each_signal_alone_asks_for_more_and_only_all_together_for_fewer() {
        for (busy, rate, us, advice) in [
            (0.71, 4_000, 1_000, Advice::Up),
            (0.5, 8_100, 1_000, Advice::Up),
            (0.5, 4_000, 5_000, Advice::Up),
            (0.69, 7_900, 4_000, Advice::Stay),
            (0.29, 2_900, 1_500, Advice::Down),
            (0.31, 2_900, 1_500, Advice::Stay),
            (0.29, 3_100, 1_500, Advice::Stay),
            (0.29, 2_900, 2_000, Advice::Stay),
            (0.0, 0, 0, Advice::Down),
        ] {
            let mut node = Node::new();
            assert_eq!(node.run(55, busy, rate, us), Advice::Stay, "a minute has to be seen first");
            assert_eq!(node.run(60, busy, rate, us), advice, "{busy} {rate} {us}");
        }
    }

    #[test]
    fn five_minutes_lie_between_two_changes() {
        let mut node = Node::new();
        assert_eq!(node.run(65, 0.9, 100, 100), Advice::Up);
        let changed = node.scaling.changed_ms;
        assert_eq!(node.run(295, 0.1, 100, 100), Advice::Up);
        assert_eq!(node.scaling.changed_ms, changed);
        assert_eq!(node.run(10, 0.1, 100, 100), Advice::Down);
        assert_eq!(
            node.scaling.told(node.at_ms + 2_000).changed_seconds_ago,
            Some(2 + (node.at_ms - node.scaling.changed_ms.unwrap()) / 1000)
        );
    }
}
