//! Tests of `hedge` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};
use std::vec::Vec;

#[test]
fn each_duration_is_below_the_bound_of_its_bucket_and_near_it() {
    for us in (0..5_000).chain((13..32).flat_map(|bit| [1 << bit, (1 << bit) + 1, (1 << bit) * 3 / 2])) {
        let bound = upper(bucket(us));
        assert!(us < bound, "{us} in a bucket below {bound}");
        assert!(bound <= us + us / 8 + 1, "{us} in a bucket up to {bound}");
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn an_hour_is_distinguished_from_longer() {
    let hour_us = 3_600_000_000;
    let mut quantile = Quantile::new();
    (0..LEAST).for_each(|_| quantile.note(hour_us));
    let p95 = quantile.p95().expect("enough");
    assert!(hour_us < p95 && p95 <= hour_us + hour_us / 8 + 1, "{p95}");
    (0..LEAST).for_each(|_| quantile.note(u64::MAX));
    assert_eq!(quantile.p95(), Some(1 << 32), "the end of the range");
}

#[test]
fn it_knows_the_slowest_twentieth_and_follows_what_changes() {
    let mut quantile = Quantile::new();
    let mut random = Random::new(7);
    for _ in 0..19 {
        quantile.note(10);
    }
    assert_eq!(quantile.p95(), None);
    for _ in 0..10_000 {
        quantile.note(random.below(100_000));
    }
    let p95 = quantile.p95().expect("enough");
    assert!((90_000..=112_000).contains(&p95), "{p95}");
    for _ in 0..10_000 {
        quantile.note(random.below(1_000));
    }
    let p95 = quantile.p95().expect("enough");
    assert!((900..=1_200).contains(&p95), "{p95}");
}

/// Durations over many octaves, so that most buckets hold few samples.
fn any_us(random: &mut Random) -> u64 {
    let bits = random.below(34);
    random.below(1 << bits)
}

#[test]
fn it_says_what_sorting_says() {
    each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let (mut quantile, mut all) = (Quantile::new(), Vec::new());
        for _ in 0..FORGET {
            let us = any_us(&mut random);
            quantile.note(us);
            all.push(us);
            quantile.check();
            let above = all.len() / 20;
            if (all.len() as u32) < LEAST {
                assert_eq!(quantile.p95(), None);
                continue;
            }
            let mut sorted = all.clone();
            let (_, &mut exact, _) = sorted.select_nth_unstable(all.len() - 1 - above);
            assert_eq!(quantile.p95(), Some(upper(bucket(exact))), "of {}", all.len());
        }
    });
}

#[test]
fn forgetting_halves_and_shifts_nothing() {
    each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let mut quantile = Quantile::new();
        (0..FORGET).for_each(|_| quantile.note(any_us(&mut random)));
        let mut halved = quantile.clone();
        halved.forget();
        halved.check();
        assert_eq!(halved.all, FORGET / 2);
        let (mut before, mut after) = (0, 0);
        for place in 0..BUCKETS {
            before += u32::from(quantile.counts[place]);
            after += u32::from(halved.counts[place]);
            assert_eq!(after, before / 2, "cumulative counts are halved");
        }
    });
}
