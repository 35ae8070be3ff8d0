//! Tests of `balancer` against its laws and a naive model.

use super::*;
use crate::random::{Random, each_seed};
use std::string::String;

fn turns(weights: &[u32], count: usize) -> String {
    let mut robin = RoundRobin::new(weights);
    (0..count).map(|_| robin.pick(|_| true).map_or('-', |backend| (b'a' + backend as u8) as char)).collect()
}

#[test]
fn spreads_a_heavy_backend_over_the_round() {
    assert_eq!(turns(&[5, 1, 1], 14), "aabacaaaabacaa");
    assert_eq!(turns(&[1, 1, 1], 6), "abcabc");
    assert_eq!(turns(&[3, 0], 3), "aaa");
    assert_eq!(turns(&[0], 2), "--");
    assert_eq!(turns(&[], 1), "-");
    assert_eq!(turns(&[u32::MAX, u32::MAX], 4), "abab");
}

#[test]
fn shares_follow_the_weights_in_every_round() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let weights: Vec<u32> = (0..1 + random.below(6)).map(|_| random.below(9) as u32).collect();
        let round: u32 = weights.iter().sum();
        let mut robin = RoundRobin::new(&weights);
        for _ in 0..3 {
            let mut counts = alloc::vec![0u32; weights.len()];
            for _ in 0..round {
                counts[robin.pick(|_| true).expect("some weight is positive")] += 1;
                robin.check();
            }
            assert_eq!(counts, weights);
        }
    });
}

#[test]
fn a_backend_that_comes_back_gets_no_burst() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let weights: Vec<u32> = (0..2 + random.below(4)).map(|_| 1 + random.below(9) as u32).collect();
        let mut robin = RoundRobin::new(&weights);
        let mut up: Vec<bool> = weights.iter().map(|_| true).collect();
        for _ in 0..2000 {
            if random.chance(10) {
                let backend = random.below(up.len() as u64) as usize;
                up[backend] = !up[backend];
            }
            let picked = robin.pick(|backend| up[backend]);
            assert_eq!(picked.is_some(), up.contains(&true));
            assert!(picked.is_none_or(|backend| up[backend]));
            robin.check();
        }
    });
}

#[test]
fn fewest_in_flight_for_the_weight() {
    let mut cursor = 0;
    assert_eq!(least(&[2, 1, 3], &[1, 1, 1], &mut cursor, |_| true), Some(1));
    assert_eq!(least(&[4, 3], &[2, 1], &mut cursor, |_| true), Some(0), "2 a unit against 3");
    assert_eq!(least(&[0, 9], &[0, 1], &mut cursor, |_| true), Some(1), "no weight, no request");
    assert_eq!(least(&[0, 9], &[1, 1], &mut cursor, |backend| backend == 1), Some(1));
    assert_eq!(least(&[0, 0], &[1, 1], &mut cursor, |_| false), None);
    assert_eq!(least(&[], &[], &mut cursor, |_| true), None);
    assert_eq!(least(&[0, 0], &[1], &mut cursor, |_| true), Some(0), "one without a weight");
    let full = [u32::MAX; 2];
    assert!(least(&full, &full, &mut cursor, |_| true).is_some());
    let mut last = usize::MAX;
    assert!(least(&[0, 0], &[1, 2], &mut last, |_| true).is_some());
    assert_eq!(last, 0, "the cursor wraps");
}

#[test]
fn at_rest_the_turns_follow_the_weights() {
    let (mut cursor, mut counts) = (0, [0; 3]);
    for _ in 0..60 {
        counts[least(&[0; 3], &[1, 3, 2], &mut cursor, |_| true).expect("all are available")] += 1;
    }
    assert_eq!(counts, [10, 30, 20]);
}

#[test]
fn least_is_least() {
    each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let backends = 1 + random.below(6) as usize;
        let weights: Vec<u32> = (0..backends).map(|_| random.below(5) as u32).collect();
        let mut in_flight = alloc::vec![0u32; backends];
        let mut cursor = 0;
        for _ in 0..200 {
            let up = random.next();
            let available = |backend: usize| up >> backend & 3 != 0;
            let picked = least(&in_flight, &weights, &mut cursor, available);
            let candidates: Vec<usize> = (0..backends).filter(|&at| weights[at] > 0 && available(at)).collect();
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
