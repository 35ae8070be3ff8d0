//! The limit in front of a model of a server: so many slots, each answer takes its time, the rest wait in order. It comes
//! near what the server has room for, from below and from above, keeps the server busy, and follows it.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::*;
use crate::random::{Random, each_seed};

/// A server with slots, behind a limit; as many requests wait in front of it as there is room for.
struct Bench {
    random: Random,
    slots: usize,
    service_us: u64,
    /// How far service times vary, in percent of the mean.
    spread: u64,
    now_us: u64,
    /// When each slot is free.
    free: BinaryHeap<Reverse<u64>>,
    /// Ends of answers, with when they were sent, and how long they are served.
    in_flight: BinaryHeap<Reverse<(u64, u64)>>,
    done: u64,
    served_us: u64,
}

impl Bench {
    fn new(seed: u64, slots: usize, service_us: u64, spread: u64) -> Bench {
        let free = (0..slots).map(|_| Reverse(0)).collect();
        let (in_flight, random) = (BinaryHeap::new(), Random::new(seed));
        Bench { random, slots, service_us, spread, now_us: 0, free, in_flight, done: 0, served_us: 0 }
    }

    /// Answers so many with all the load that the limit allows, or with `load` requests at most.
    fn run(&mut self, limit: &mut Concurrency, answers: u64, load: usize) -> Vec<u32> {
        let mut limits = Vec::new();
        for _ in 0..answers {
            while self.in_flight.len() < (limit.limit() as usize).min(load) {
                let Reverse(free) = self.free.pop().unwrap();
                let least = self.service_us * (100 - self.spread) / 100;
                let service_us = least + self.random.below(2 * self.service_us * self.spread / 100 + 1);
                let end = free.max(self.now_us) + service_us;
                self.served_us += service_us;
                self.free.push(Reverse(end));
                self.in_flight.push(Reverse((end, self.now_us)));
            }
            let in_flight = self.in_flight.len() as u32;
            let Reverse((end, sent)) = self.in_flight.pop().unwrap();
            self.now_us = end;
            limit.answered(0, end - sent, in_flight);
            limit.check();
            self.done += 1;
            limits.push(limit.limit());
        }
        limits
    }

    /// Another number of slots: what is in service ends first.
    fn resize(&mut self, slots: usize) {
        let last = self.free.iter().map(|Reverse(free)| *free).max().unwrap_or(0).max(self.now_us);
        self.free = (0..slots).map(|_| Reverse(last)).collect();
        self.slots = slots;
    }

    /// How much of its slots' time was used while `run` ran, in percent.
    fn busy(&mut self, limit: &mut Concurrency, answers: u64) -> (u64, Vec<u32>) {
        let (from_us, served_us) = (self.now_us, self.served_us);
        let limits = self.run(limit, answers, usize::MAX);
        ((self.served_us - served_us) * 100 / ((self.now_us - from_us) * self.slots as u64).max(1), limits)
    }
}

fn median(limits: &[u32]) -> u32 {
    let mut sorted = limits.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn is_near(limit: u32, slots: usize) -> bool {
    let slots = slots as u32;
    (slots..=slots * 7 / 4 + 2).contains(&limit)
}

#[test]
fn the_limit_comes_near_the_slots_and_keeps_them_busy() {
    each_seed(20, |seed| {
        for slots in [1, 3, 8, 40, 200] {
            for spread in [0, 30, 80] {
                let mut bench = Bench::new(seed, slots, 100_000, spread);
                let mut limit = Concurrency::new(1, 1_000);
                bench.run(&mut limit, 10_000, usize::MAX);
                let (busy, limits) = bench.busy(&mut limit, 10_000);
                let median = median(&limits);
                assert!(is_near(median, slots), "{median} for {slots} slots, spread {spread}");
                assert!(busy >= 90, "{busy} % of {slots} slots, spread {spread}");
            }
        }
    });
}

#[test]
fn it_begins_above_what_a_small_server_can_do_and_finds_down() {
    let mut bench = Bench::new(1, 4, 100_000, 20);
    let mut limit = Concurrency::new(1, 1_000);
    limit.limit = 500;
    bench.run(&mut limit, 20_000, usize::MAX);
    let limits = bench.run(&mut limit, 2_000, usize::MAX);
    assert!(is_near(median(&limits), 4), "{}", median(&limits));
}

#[test]
fn it_follows_a_server_that_becomes_slower_and_faster() {
    each_seed(10, |seed| {
        let mut bench = Bench::new(seed, 20, 100_000, 30);
        let mut limit = Concurrency::new(1, 1_000);
        bench.run(&mut limit, 8_000, usize::MAX);
        for service_us in [500_000, 100_000, 1_000_000, 20_000] {
            bench.service_us = service_us;
            bench.run(&mut limit, 8_000, usize::MAX);
            let (busy, limits) = bench.busy(&mut limit, 5_000);
            assert!(is_near(median(&limits), 20), "{} at {service_us} us", median(&limits));
            assert!(busy >= 85, "{busy} % at {service_us} us");
        }
    });
}

#[test]
fn it_follows_a_server_that_loses_and_gains_slots() {
    each_seed(10, |seed| {
        let mut bench = Bench::new(seed, 40, 100_000, 30);
        let mut limit = Concurrency::new(1, 1_000);
        bench.run(&mut limit, 8_000, usize::MAX);
        for slots in [10, 80, 5, 40] {
            bench.resize(slots);
            bench.run(&mut limit, 12_000, usize::MAX);
            let (busy, limits) = bench.busy(&mut limit, 5_000);
            assert!(is_near(median(&limits), slots), "{} for {slots} slots", median(&limits));
            assert!(busy >= 85, "{busy} % of {slots} slots");
        }
    });
}

#[test]
fn a_limit_that_nobody_feels_stays() {
    let mut bench = Bench::new(1, 100, 100_000, 50);
    let mut limit = Concurrency::new(4, 1_000);
    bench.run(&mut limit, 20_000, 3);
    assert_eq!(limit.limit(), LIMIT_FIRST);
    // Neither does it sink when the server is slow on its own.
    bench.service_us = 2_000_000;
    bench.run(&mut limit, 2_000, 3);
    assert_eq!(limit.limit(), LIMIT_FIRST);
}

#[test]
fn a_backend_that_says_it_has_too_much_gets_less_once_for_all_in_flight() {
    let mut limit = Concurrency::new(4, 100);
    limit.limit = 100;
    (0..50).for_each(|_| limit.overloaded());
    assert_eq!(limit.limit(), 75);
    (0..75).for_each(|_| limit.answered(0, 1_000, 10));
    limit.overloaded();
    assert_eq!(limit.limit(), 57);
    for _ in 0..50 {
        (0..100).for_each(|_| limit.answered(0, 1_000, 1));
        limit.overloaded();
        limit.check();
    }
    assert_eq!(limit.limit(), 4);
}

#[test]
fn anything_may_happen() {
    each_seed(100, |seed| {
        let mut random = Random::new(seed);
        let mut limit = Concurrency::new(random.below(10) as u32, random.below(2_000) as u32);
        for _ in 0..5_000 {
            let us = [0, random.below(1_000_000), u64::MAX][random.below(3) as usize];
            match random.chance(95) {
                true => limit.answered(random.below(3) as usize, us, random.below(3_000) as u32),
                false => limit.overloaded(),
            }
            limit.check();
        }
    });
}
