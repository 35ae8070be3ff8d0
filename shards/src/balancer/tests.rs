//! Tests of `balancer` against its invariants, naive models, and the expected shares.

use super::*;
use crate::random::{Random, each_seed};
use std::string::String;

mod shares;

fn picks(weights: &[u32], count: usize) -> String {
    let mut robin = RoundRobin::new(weights.len());
    (0..count).map(|_| robin.pick(|at| weights[at]).map_or('-', |backend| (b'a' + backend as u8) as char)).collect()
}

#[test]
fn spreads_a_heavy_backend_over_the_round() {
    assert_eq!(picks(&[5, 1, 1], 14), "aabacaaaabacaa");
    assert_eq!(picks(&[1, 1, 1], 6), "abcabc");
    assert_eq!(picks(&[3, 0], 3), "aaa");
    assert_eq!(picks(&[0], 2), "--");
    assert_eq!(picks(&[], 1), "-");
    assert_eq!(picks(&[u32::MAX, u32::MAX], 4), "abab");
}

#[test]
fn shares_follow_the_weights_in_every_round() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let weights: Vec<u32> = (0..1 + random.below(6)).map(|_| random.below(9) as u32).collect();
        let round: u32 = weights.iter().sum();
        let mut robin = RoundRobin::new(weights.len());
        for _ in 0..3 {
            let mut counts = alloc::vec![0u32; weights.len()];
            for _ in 0..round {
                counts[robin.pick(|at| weights[at]).expect("some weight is positive")] += 1;
                robin.check();
            }
            assert_eq!(counts, weights);
        }
    });
}

#[test]
fn whatever_the_weights_become_only_the_available_are_picked_and_credits_stay_bounded() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let mut weights: Vec<u32> = (0..2 + random.below(4)).map(|_| 1 + random.below(9) as u32).collect();
        let mut robin = RoundRobin::new(weights.len());
        for _ in 0..2000 {
            if random.chance(10) {
                let backend = random.below(weights.len() as u64) as usize;
                weights[backend] = random.below(10) as u32;
            }
            let picked = robin.pick(|at| weights[at]);
            assert_eq!(picked.is_some(), weights.iter().any(|&weight| weight > 0));
            assert!(picked.is_none_or(|backend| weights[backend] > 0));
            robin.check();
            assert!(robin.credits.iter().all(|credit| credit.abs() <= 9 * 6 * 6), "{:?}", robin.credits);
        }
    });
}

fn least_of(in_flight: &[u32], weights: &[u32], cursor: &mut usize) -> Option<usize> {
    least(in_flight.len(), |at| in_flight[at], |at| weights.get(at).copied().unwrap_or(0), cursor)
}

#[test]
fn fewest_in_flight_for_the_weight() {
    let mut cursor = 0;
    assert_eq!(least_of(&[2, 1, 3], &[1, 1, 1], &mut cursor), Some(1));
    assert_eq!(least_of(&[4, 3], &[2, 1], &mut cursor), Some(0), "load 2 per weight against 3");
    assert_eq!(least_of(&[0, 9], &[0, 1], &mut cursor), Some(1), "weight 0 is never picked");
    assert_eq!(least_of(&[0, 0], &[0, 0], &mut cursor), None);
    assert_eq!(least_of(&[], &[], &mut cursor), None);
    let full = [u32::MAX; 2];
    assert!(least_of(&full, &full, &mut cursor).is_some());
    let mut last = usize::MAX;
    assert!(least_of(&[0, 0], &[1, 2], &mut last).is_some());
    assert_eq!(last, 0, "the cursor wraps");
}

#[test]
fn idle_picks_follow_the_weights() {
    let rest = |weights: &[u32], picks: usize| {
        let (mut cursor, mut counts) = (0, alloc::vec![0usize; weights.len()]);
        for _ in 0..picks {
            counts[least_of(&[0; 3], weights, &mut cursor).expect("all are available")] += 1;
        }
        counts
    };
    // For weights of any granularity, and soon: within half the number of bits of the count.
    for weights in [[1, 3, 2], [256, 768, 512], [1_000_000, 3_000_000, 2_000_000]] {
        for picks in 1..2_000 {
            for (count, share) in rest(&weights, picks).into_iter().zip([1, 3, 2]) {
                let bits = picks.ilog2() as usize + 1;
                assert!((6 * count).abs_diff(picks * share) <= 3 * bits + 6, "{count} of {picks} for {share} of 6");
            }
        }
    }
    let mut cursor = 0;
    let picks: Vec<_> = (0..8).filter_map(|_| least_of(&[0, 0], &[256, 256], &mut cursor)).collect();
    assert_eq!(picks, [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn least_is_least() {
    each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let backends = 1 + random.below(6) as usize;
        let mut in_flight = alloc::vec![0u32; backends];
        let mut cursor = 0;
        for _ in 0..200 {
            let weights: Vec<u32> = (0..backends).map(|_| random.below(5) as u32).collect();
            let picked = least_of(&in_flight, &weights, &mut cursor);
            let candidates: Vec<usize> = (0..backends).filter(|&at| weights[at] > 0).collect();
            assert_eq!(picked.is_some(), !candidates.is_empty());
            if let Some(picked) = picked {
                assert!(candidates.contains(&picked));
                for at in candidates {
                    assert!(in_flight[picked] * weights[at] <= in_flight[at] * weights[picked]);
                }
                in_flight[picked] += 1;
            }
            let done = random.below(backends as u64) as usize;
            in_flight[done] -= in_flight[done].min(random.below(3) as u32);
        }
    });
}

#[test]
fn of_two_the_cheaper_for_its_weight() {
    let two =
        |costs: [u64; 2], weights: [u32; 2]| two_choices(2, |at| costs[at], |at| weights[at], 0x8000_0000_8000_0000);
    assert_eq!(two([5, 3], [1, 1]), Some(1));
    assert_eq!(two([5, 3], [2, 1]), Some(0));
    assert_eq!(two([5, 3], [1, 0]), Some(0), "the other is unavailable");
    assert_eq!(two([5, 3], [0, 0]), None);
    assert_eq!(two([u64::MAX, u64::MAX - 1], [u32::MAX, u32::MAX]), Some(1));
}

/// With equal costs, the first draw decides: each gets the share of its weight, within 4 standard deviations.
#[test]
fn two_choices_draw_by_weight() {
    let weights = [1, 3, 6];
    let mut random = Random::new(11);
    let mut counts = [0u64; 3];
    let rounds = 30_000;
    for _ in 0..rounds {
        counts[two_choices(3, |at| u64::from(weights[at]), |at| weights[at], random.next()).expect("available")] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        let fair = rounds * u64::from(weight) / 10;
        let spread = 4 * (fair * (10 - u64::from(weight)) / 10).isqrt();
        assert!(count.abs_diff(fair) <= spread, "{count} of {fair} +- {spread}");
    }
}

#[test]
fn two_choices_send_little_to_the_slow() {
    let costs = [100, 100, 100, 900];
    let mut random = Random::new(12);
    let mut slow = 0;
    for _ in 0..10_000 {
        slow += usize::from(two_choices(4, |at| costs[at], |_| 1, random.next()) == Some(3));
    }
    assert_eq!(slow, 0, "the slower of two is never picked");
}

const NAMES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

fn ring(count: usize) -> Ring {
    let names: Vec<u64> = NAMES[..count].iter().map(|name| hash(name.as_bytes())).collect();
    Ring::new(&names, &alloc::vec![1; count])
}

#[test]
fn what_belongs_together_meets_and_shares_are_even() {
    let ring = ring(5);
    let mut random = Random::new(1);
    let mut counts = [0u64; 5];
    for _ in 0..50_000 {
        let place = random.next();
        let picked = ring.pick(place, |_| 0, |_| 1).expect("available");
        assert_eq!(ring.pick(place, |_| 0, |_| 1), Some(picked), "always the same");
        counts[picked] += 1;
    }
    // 64 points each: within a third of a fair share.
    assert!(counts.iter().all(|count| (6_667..=13_333).contains(count)), "{counts:?}");
}

#[test]
fn who_leaves_moves_only_what_was_its_own() {
    let ring = ring(5);
    let mut random = Random::new(2);
    let (mut moved, mut owned) = (0, 0);
    for _ in 0..10_000 {
        let place = random.next();
        let before = ring.pick(place, |_| 0, |_| 1);
        let after = ring.pick(place, |_| 0, |at| u32::from(at != 2));
        owned += u32::from(before == Some(2));
        moved += u32::from(before != after);
    }
    assert_eq!(moved, owned);
    // A new one takes some from each.
    let smaller = super::tests::ring(4);
    let came = (0..10_000).filter(|_| {
        let place = random.next();
        let (before, after) = (smaller.pick(place, |_| 0, |_| 1), ring.pick(place, |_| 0, |_| 1));
        assert!(before == after || after == Some(4), "moved to an old one");
        before != after
    });
    assert!((1_300..=2_700).contains(&came.count()));
}

/// None exceeds 125 % of its fair share, rounded up, however hot a place is; and there is always a result.
#[test]
fn a_hot_place_sinks_no_backend() {
    each_seed(100, |seed| {
        let mut random = Random::new(seed);
        let count = 1 + random.below(5) as usize;
        let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(4) as u32).collect();
        let names: Vec<u64> = NAMES[..count].iter().map(|name| hash(name.as_bytes())).collect();
        let ring = Ring::new(&names, &weights);
        let mut load = alloc::vec![0u32; count];
        let hot = random.next();
        for _ in 0..500 {
            let picked = ring.pick(hot, |at| load[at], |at| weights[at]).expect("one is always available");
            load[picked] += 1;
            let all: u64 = load.iter().map(|&load| u64::from(load)).sum();
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let most = (all * 125 * u64::from(weights[picked])).div_ceil(100 * sum);
            assert!(u64::from(load[picked]) <= most, "{load:?} by {weights:?}");
        }
        assert_eq!(ring.pick(hot, |at| load[at], |_| 0), None);
    });
}

#[test]
fn hashes_differ_by_every_byte_and_by_length() {
    let text = *b"the first kilobyte of a prompt says where it goes";
    let mut seen: Vec<u64> = (0..=text.len()).map(|length| hash(&text[..length])).collect();
    for at in 0..text.len() {
        let mut other = text;
        other[at] ^= 1;
        seen.push(hash(&other));
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn higher_tiers_wait_for_the_lower_ones_to_be_gone() {
    let tiers = [1, 0, 2, 0];
    assert_eq!(first_tier(&tiers, |_| 1), Some(0));
    assert_eq!(first_tier(&tiers, |at| u32::from(at != 1)), Some(0));
    assert_eq!(first_tier(&tiers, |at| u32::from(at == 0 || at == 2)), Some(1));
    assert_eq!(first_tier(&tiers, |_| 0), None);
}
