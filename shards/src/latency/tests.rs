//! Tests of `latency`: single steps, and against a naive model.

use super::*;
use crate::balancer::two_choices;
use crate::random::{Random, each_seed};
use alloc::vec::Vec;

#[test]
fn slow_counts_at_once_and_fast_slowly() {
    let mut latency = Latency::new(1_000);
    assert_eq!(latency.cost(0, Millis(0)), 1, "unknown is cheap");
    latency.note(8_000, Millis(0));
    latency.note(0, Millis(0));
    assert_eq!(latency.cost(0, Millis(0)), 7_001);
    latency.note(9_000, Millis(0));
    assert_eq!((latency.cost(0, Millis(0)), latency.cost(3, Millis(0))), (9_001, 36_004));
}

#[test]
fn what_is_long_ago_counts_for_less() {
    let mut latency = Latency::new(1_000);
    latency.note(8_000, Millis(5_000));
    let costs = [5_000, 5_500, 6_000, 7_000, 5_000_000].map(|at| latency.cost(0, Millis(at)));
    assert_eq!(costs, [8_001, 6_001, 4_001, 2_001, 1]);
}

#[test]
fn one_request_pays_for_the_news() {
    let unknown = Latency::new(1_000);
    assert_eq!((unknown.cost(0, Millis(0)), unknown.cost(1, Millis(0))), (1, 20_000_002));
    let mut known = Latency::new(1_000);
    known.note(8_000, Millis(0));
    let later = Millis(60_000);
    assert_eq!(
        (known.cost(0, later), known.cost(1, later)),
        (1, 4_002),
        "a quarter is kept while a request is in flight"
    );
}

#[test]
fn a_failure_counts_for_more_than_what_was_known() {
    let mut latency = Latency::new(1_000);
    latency.note_failure(50, Millis(0));
    assert_eq!(latency.cost(0, Millis(0)), 10_000_001, "as slow as an unknown one");
    let mut latency = Latency::new(1_000);
    latency.note(7_999, Millis(0));
    let costs = [3_000, 3_000, 10_000].map(|at| {
        latency.note_failure(50, Millis(at));
        latency.cost(0, Millis(at))
    });
    assert_eq!(costs, [32_001, 128_005, 512_021], "multiples of the estimate before decay");
    latency.note_failure(20_000_000, Millis(10_000));
    latency.note_failure(50, Millis(10_000));
    assert_eq!(latency.cost(0, Millis(10_000)), 20_000_001, "at least its duration, and never less than before");
}

/// A backend that fails at once gets few of the requests that others could have answered.
#[test]
fn who_fails_fast_does_not_look_fast() {
    each_seed(20, |seed| {
        let mut random = Random::new(seed);
        // This percentage of requests to the last backend fails, after a millisecond; all others take 200.
        for failing in [100, 50] {
            let mut latencies = [const { Latency::new(10_000) }; 3];
            let (mut out, mut counts) = (Vec::new(), [0_u32; 3]);
            for now in (0..120_000).step_by(20) {
                out.retain(|&(until, backend, failed): &(u64, usize, bool)| {
                    let latency = &mut latencies[backend];
                    match until <= now {
                        true if failed => latency.note_failure(1_000, Millis(until)),
                        true => latency.note(200_000, Millis(until)),
                        false => {}
                    }
                    until > now
                });
                let in_flight = |backend| out.iter().filter(|(_, at, _)| *at == backend).count() as u32;
                let cost = |backend: usize| latencies[backend].cost(in_flight(backend), Millis(now));
                let backend = two_choices(3, cost, |_| 1, random.next()).expect("all are available");
                let failed = backend == 2 && random.below(100) < failing;
                counts[backend] += 1;
                out.push((if failed { now + 1 } else { now + 200 }, backend, failed));
            }
            let most = if failing == 100 { 50 } else { 25 };
            assert!(counts[2] * most < counts[0] + counts[1], "{counts:?} with {failing} % failing");
        }
    });
}

#[test]
fn edges_do_not_wrap() {
    let mut latency = Latency::new(0);
    latency.note(u64::MAX, Millis(u64::MAX));
    latency.note(u64::MAX - 1, Millis(0));
    assert_eq!(latency.cost(u32::MAX, Millis(0)), u64::MAX);
    let mut slow = Latency::new(u64::MAX);
    slow.note(u64::MAX, Millis(0));
    slow.check(Millis(u64::MAX));
}

/// Decays step by step: a half-life at a time, then linearly.
#[test]
fn a_random_life_is_the_one_that_the_model_leads() {
    each_seed(100, |seed| {
        let mut random = Random::new(seed);
        let half_life_ms = 1 + random.below(2_000);
        let mut latency = Latency::new(half_life_ms);
        let (mut noted, mut at, mut now) = (None::<u64>, 0, 0);
        for _ in 0..500 {
            now += random.below(3) * random.below(half_life_ms * 2);
            let (mut known, mut passed) = (noted.unwrap_or(0), now - at);
            while passed >= half_life_ms && known > 0 {
                known /= 2;
                passed -= half_life_ms;
            }
            if known > 0 {
                known -= known * passed / (2 * half_life_ms);
            }
            assert_eq!(latency.cost(0, Millis(now)), known + 1);
            let busy = noted.map_or(10_000_000, |us| known.max(us / 4));
            assert_eq!(latency.cost(2, Millis(now)), (busy + 1) * 3);
            latency.check(Millis(now));
            if random.chance(60) {
                let most = 1 << random.below(24);
                let us = random.below(most);
                latency.note(us, Millis(now));
                noted = Some(if us >= known { us } else { known - (known - us).div_ceil(8) });
                at = now;
            } else if random.chance(20) {
                let us = random.below(1 << 24);
                latency.note_failure(us, Millis(now));
                let counted = noted.map_or(10_000_000, |known| (4 * known + 4).min(10_000_000).max(known));
                noted = Some(counted.max(us));
                at = now;
            }
        }
    });
}
