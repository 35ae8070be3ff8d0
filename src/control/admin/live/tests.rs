//! Rates and percentiles between samples of counters.

use super::*;
use crate::observe::counters::{AttemptResult, BackendCounters};
use crate::observe::scrape::Item;
use crate::observe::series::{Key, Names, SeriesIndex};

/// A node with two cores, one backend, one model and one tenant.
fn node() -> (Vec<Arc<Counters>>, Labels) {
    let mut names = Names::default();
    let model = names.models.number("m").1;
    names.tenants.number("t");
    let models = vec![Item { name: model, counters: (0..2).map(|_| ModelCounters::new(2)).collect() }];
    let backends = vec![Item { name: "b".into(), counters: (0..2).map(|_| BackendCounters::default()).collect() }];
    let labels = Labels::new(vec!["chat_completions", "other"], models, backends, &names, 0);
    ((0..2).map(|_| Arc::new(Counters::new(2))).collect(), labels)
}

#[test]
fn rates_are_the_differences_over_all_cores_and_percentiles_those_of_the_span() {
    let (cores, labels) = node();
    let mut live = Live::default();
    live.attend();
    for (place, core) in cores.iter().enumerate() {
        core.requests.add(1_000);
        labels.models[0].counters[place].operation(0).unwrap().duration.record(60_000_000);
    }
    live.sample(&cores, &labels, 1);
    let mut index = SeriesIndex::default();
    for (place, core) in cores.iter().enumerate() {
        core.requests.add(4);
        core.failures.add(1);
        core.hits.add(1);
        core.misses.add(3);
        core.messages.add(8);
        labels.backends[0].counters[place].attempts.add(2);
        labels.backends[0].counters[place].result(AttemptResult::Timeout).add(1);
        (0..4).for_each(|_| labels.models[0].counters[place].operation(0).unwrap().duration.record(2_000));
    }
    let amounts = Amounts { requests: 8, prompt_tokens: 30, saved_completion_tokens: 10, ..Amounts::default() };
    index.add(&cores[0].series, Key { endpoint: 0, model: 0, tenant: 0, status: 200 }, amounts);
    live.sample(&cores, &labels, 2);
    let (rates, seconds) = (live.rates(), live.samples[0].seconds_until(&live.samples[1]));
    let counts = [
        (rates.requests, 8.0),
        (rates.failures, 2.0),
        (rates.tokens, 40.0),
        (rates.cores[1][0], 4.0),
        (rates.cores[1][1], 8.0),
        (rates.backends["b"][0], 4.0),
        (rates.backends["b"][1], 2.0),
        (rates.models["m"][0], 8.0),
        (rates.tenants["t"][0], 8.0),
        (rates.tenants["t"][1], 40.0),
    ];
    for (at, (rate, count)) in counts.into_iter().enumerate() {
        assert!((rate * seconds - count).abs() < 1e-6, "{at}: {} of {count}", rate * seconds);
    }
    assert_eq!(rates.hit_ratio, Some(0.25));
    let p99 = rates.latency[0].p99_seconds.unwrap();
    assert!(p99 > 0.001 && p99 <= 0.002, "what was before does not count: {p99}");
    assert_eq!(rates.latency[1], Percentiles::default());
    let points: Vec<_> = live.points().collect();
    assert_eq!((points.len(), points[0].unix_ms, points[0].hit_ratio), (1, 2, Some(0.25)));
}

#[test]
fn old_samples_go_and_tenants_are_counted_only_for_whom_looks() {
    let (cores, labels) = node();
    let mut live = Live::default();
    for at in 0..POINTS as u64 + 10 {
        cores[0].requests.add(1);
        live.sample(&cores, &labels, at);
    }
    assert_eq!((live.samples.len(), live.points.len()), (SAMPLES, POINTS));
    assert_eq!(live.points().last().unwrap().unix_ms, POINTS as u64 + 9);
    assert!(live.samples.iter().all(|sample| sample.tenants.is_empty()));
    let mut index = SeriesIndex::default();
    let amounts = Amounts { requests: 1, prompt_tokens: 1_000_000, ..Amounts::default() };
    index.add(&cores[0].series, Key { endpoint: 0, model: 0, tenant: 0, status: 500 }, amounts);
    live.attend();
    live.sample(&cores, &labels, 0);
    assert_eq!(live.rates().tokens, 0.0, "the first look has nothing to compare with");
    assert_eq!(tenants_of(&cores, &labels)[0], ("t".into(), amounts, 1));
    index.add(&cores[0].series, Key { endpoint: 0, model: 0, tenant: 0, status: 500 }, amounts);
    live.sample(&cores, &labels, 0);
    let rates = live.rates();
    assert!(rates.tokens > 0.0 && rates.tokens == rates.tenants["t"][1]);
    (0..ATTENTION).for_each(|_| drop(live.sample(&cores, &labels, 0)));
    assert!(live.samples.back().unwrap().tenants.is_empty());
}
