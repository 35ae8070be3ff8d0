//! Latencies one by one, and against a naive model.

use super::*;
use crate::random::{Random, each_seed};

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
    assert_eq!((known.cost(0, later), known.cost(1, later)), (1, 4_002), "a quarter is never forgotten under way");
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

/// What was known decays step by step here, a half-life at a time and a straight line for the rest.
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
            }
        }
    });
}
