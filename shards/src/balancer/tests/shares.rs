//! Long-run shares: counts against the weights, with the tolerance stated, and the ring against a naive one.

use super::*;
use crate::{Latency, Millis};

/// However weights change, each gets its share of every period of constant weights, within one pick per backend at
/// either end of it.
#[test]
fn round_robin_gives_each_its_share_of_every_stretch() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let count = 1 + random.below(6) as usize;
        let mut robin = RoundRobin::new(count);
        for _ in 0..20 {
            let weights: Vec<u32> = (0..count).map(|_| random.below(2_560) as u32).collect();
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let turns = 200 + random.below(2_000);
            let mut counts = alloc::vec![0u64; count];
            for _ in 0..turns {
                let Some(picked) = robin.pick(|at| weights[at]) else { continue };
                counts[picked] += 1;
            }
            robin.check();
            let most = robin.credits.iter().map(|credit| credit.unsigned_abs()).max().unwrap_or(0);
            assert!(most <= 2_560 * count as u64 * count as u64, "credits {:?}", robin.credits);
            for (&weight, &count_of) in weights.iter().zip(&counts).filter(|_| sum > 0) {
                // Credit left over from the period before, whose sum of weights may have been larger.
                let tolerance = sum + 2 * 2_560 * count as u64 * count as u64;
                assert!(
                    (count_of * sum).abs_diff(turns * u64::from(weight)) <= tolerance,
                    "{counts:?} for {weights:?}"
                );
            }
        }
    });
}

/// Backends with a fixed latency, asked at a fixed rate: the requests each got, and the most it had at once.
struct Stage {
    latencies: Vec<Latency>,
    in_flight: Vec<u32>,
    /// When each request in flight will end, when it started, and its backend.
    out: Vec<(u64, u64, usize)>,
    counts: Vec<u64>,
    peaks: Vec<u32>,
}

impl Stage {
    fn new(backends: usize) -> Stage {
        Stage {
            latencies: (0..backends).map(|_| Latency::new(5_000)).collect(),
            in_flight: alloc::vec![0; backends],
            out: Vec::new(),
            counts: alloc::vec![0; backends],
            peaks: alloc::vec![0; backends],
        }
    }

    /// Two choices, one request for each millisecond of `times`.
    fn ask(
        &mut self,
        random: &mut Random,
        times: core::ops::Range<u64>,
        takes_ms: impl Fn(usize) -> u64,
        weight: impl Fn(usize) -> u32,
    ) {
        for now in times {
            while let Some(at) = self.out.iter().position(|&(ends, ..)| ends <= now) {
                let (_, began, backend) = self.out.swap_remove(at);
                self.in_flight[backend] -= 1;
                self.latencies[backend].note((now - began) * 1_000, Millis(now));
            }
            let cost = |at: usize| self.latencies[at].cost(self.in_flight[at], Millis(now));
            let picked = two_choices(self.latencies.len(), cost, &weight, random.next()).expect("available");
            self.out.push((now + takes_ms(picked), now, picked));
            self.in_flight[picked] += 1;
            self.counts[picked] += 1;
            self.peaks[picked] = self.peaks[picked].max(self.in_flight[picked]);
        }
    }
}

/// Equally fast backends under load get the shares of their weights, within a tenth.
#[test]
fn two_choices_follow_the_weights_under_load() {
    each_seed(5, |seed| {
        let weights = [1, 1, 2, 4];
        let mut stage = Stage::new(4);
        let mut random = Random::new(seed);
        stage.ask(&mut random, 0..2_000, |_| 100, |at| weights[at]);
        stage.counts.fill(0);
        stage.ask(&mut random, 2_000..42_000, |_| 100, |at| weights[at]);
        for (count, weight) in stage.counts.into_iter().zip(weights) {
            let fair = 40_000 * u64::from(weight) / 8;
            assert!(count.abs_diff(fair) <= fair / 10, "{count} of {fair}");
        }
    });
}

/// One of four that is four times as slow gets about a quarter of another's share, 1/13 of all, which keeps it equally
/// busy; within a half of that.
#[test]
fn two_choices_ask_the_slow_as_much_less_as_it_is_slower() {
    each_seed(5, |seed| {
        let mut stage = Stage::new(4);
        stage.ask(&mut Random::new(seed), 0..40_000, |at| if at == 3 { 400 } else { 100 }, |_| 1);
        let fair = 40_000 / 13;
        // The product of time and load is balanced, so it may be less: down to a sixteenth of the load.
        assert!((fair / 8..=fair * 3 / 2).contains(&stage.counts[3]), "{:?} of {fair}", stage.counts);
    });
}

/// One that is new, or was idle for long, is tried by one request; the others get those that arrive meanwhile.
#[test]
fn a_new_backend_is_not_overrun_before_its_first_answer() {
    each_seed(5, |seed| {
        let mut random = Random::new(seed);
        let mut stage = Stage::new(2);
        stage.ask(&mut random, 0..10_000, |_| 100, |at| u32::from(at == 0));
        assert_eq!(stage.counts, [10_000, 0]);
        stage.ask(&mut random, 10_000..10_099, |_| 100, |_| 1);
        assert_eq!(stage.counts[1], 1, "one request tries it");
        stage.ask(&mut random, 10_099..20_000, |_| 100, |_| 1);
        assert!((4_000..=6_000).contains(&stage.counts[1]), "{:?}", stage.counts);
        // Away for a minute, and back: the estimate has decayed, but is not forgotten.
        stage.ask(&mut random, 20_000..80_000, |_| 100, |at| u32::from(at == 0));
        stage.peaks.fill(0);
        stage.ask(&mut random, 80_000..80_100, |_| 100, |_| 1);
        assert!(stage.peaks[1] <= 90, "{:?}", stage.peaks);
    });
}

/// A ring by definition: of all points, those from the place on, ordered by distance.
fn naive_pick(ring: &Ring, place: u64, load: &[u32], weights: &[u32]) -> Option<usize> {
    let all: u64 = (0..load.len()).filter(|&at| weights[at] > 0).map(|at| u64::from(load[at])).sum();
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let room = |at: usize| (u64::from(load[at]) * 100 * sum) < (all + 1) * 125 * u64::from(weights[at]);
    let mut points: Vec<(u64, usize)> =
        ring.points.iter().map(|&(point, backend)| (point.wrapping_sub(place), backend as usize)).collect();
    points.sort_unstable();
    points.into_iter().map(|(_, backend)| backend).find(|&at| weights[at] > 0 && room(at))
}

#[test]
fn the_ring_picks_as_a_naive_one() {
    each_seed(30, |seed| {
        let mut random = Random::new(seed);
        let count = 1 + random.below(5) as usize;
        let full: Vec<u32> = (0..count).map(|_| 1 + random.below(4) as u32).collect();
        let names: Vec<u64> = (0..count).map(|_| random.next()).collect();
        let ring = Ring::new(&names, &full);
        for _ in 0..50 {
            let weights: Vec<u32> = full.iter().map(|&weight| weight * random.below(3) as u32).collect();
            let load: Vec<u32> = (0..count).map(|_| random.below(6) as u32).collect();
            // Places that coincide with a point belong to it.
            let (point, _) = ring.points[random.below(ring.points.len() as u64) as usize];
            for place in [random.next(), point, point.wrapping_add(1), 0, u64::MAX] {
                let picked = ring.pick(place, |at| load[at], |at| weights[at]);
                assert_eq!(picked, naive_pick(&ring, place, &load, &weights));
            }
        }
    });
}

/// Places are shared by weight: with 64 points per unit of weight w, the standard deviation is 1 / sqrt(64 w) of a
/// share, and 4 of them are allowed. Where points are limited, there are more of them per backend anyway.
#[test]
fn the_ring_shares_by_weight() {
    for weights in [[1u32, 2, 4, 8], [1_000, 2_000, 4_000, 8_000]] {
        each_seed(10, |seed| {
            let mut random = Random::new(seed);
            let names: Vec<u64> = weights.iter().map(|_| random.next()).collect();
            let ring = Ring::new(&names, &weights);
            assert!(ring.points.len() <= 16_384, "{} points", ring.points.len());
            let mut counts = [0u64; 4];
            for _ in 0..30_000 {
                counts[ring.pick(random.next(), |_| 0, |at| weights[at]).expect("available")] += 1;
            }
            for (count, weight) in counts.into_iter().zip([1u64, 2, 4, 8]) {
                let fair = 2_000 * weight;
                let tolerance = 4 * fair / (64 * weight).isqrt();
                assert!(count.abs_diff(fair) <= tolerance, "{count} of {fair} +- {tolerance}");
            }
        });
    }
}

/// Requests start and end, half of them at one place: the hot place spills over, most others keep their backend.
#[test]
fn what_is_not_hot_stays_at_home() {
    each_seed(10, |seed| {
        let mut random = Random::new(seed);
        let ring = ring(5);
        let hot = random.next();
        let mut load = [0u32; 5];
        let mut out = std::collections::VecDeque::new();
        let (mut cold, mut home) = (0, 0);
        for _ in 0..10_000 {
            let place = if random.chance(50) { hot } else { random.next() };
            let picked = ring.pick(place, |at| load[at], |_| 1).expect("available");
            if place != hot {
                cold += 1;
                home += u32::from(ring.pick(place, |_| 0, |_| 1) == Some(picked));
            }
            load[picked] += 1;
            out.push_back(picked);
            if out.len() > 200 {
                load[out.pop_front().expect("many are out")] -= 1;
            }
            assert!(load.iter().all(|&load| load <= 51), "above 125 % of the fair 40, plus one: {load:?}");
        }
        assert!(home * 100 >= cold * 55, "{home} of {cold} kept their backend");
    });
}

/// Consecutive names are spread evenly: each of 64 sections of the ring has its share of the places, within 5 standard
/// deviations.
#[test]
fn hashes_of_similar_names_are_spread() {
    let mut counts = [0u64; 64];
    for number in 0..64_000 {
        counts[(hash(std::format!("session-{number}").as_bytes()) >> 58) as usize] += 1;
    }
    assert!(counts.iter().all(|count| count.abs_diff(1_000) <= 5 * 1_000u64.isqrt()), "{counts:?}");
}
