//! Tests of `shard` against its invariants and a naive model.

use super::*;

const A: Fingerprint = Fingerprint([1; 32]);
const B: Fingerprint = Fingerprint([2; 32]);
const ME: CoreId = CoreId(0);
const OTHER: CoreId = CoreId(1);

fn store(value: &str) -> Outcome<&str> {
    Outcome::Store { value, size_bytes: value.len() as u64, ttl_ms: 100 }
}

#[test]
fn a_miss_becomes_a_hit_and_later_a_miss_again() {
    let mut shard = Shard::new(1 << 20, 8, 0);
    assert_eq!(shard.ask(&A, ME, Millis(0)), Asked::Lead { number: 1, stale: None });
    assert_eq!(shard.ask(&A, OTHER, Millis(1)), Asked::Follow { leader: ME, number: 1 });
    assert_eq!(shard.settle(A, 1, store("answer"), Millis(5)), Settled::Stored { evicted: 0 });
    assert_eq!(shard.ask(&A, OTHER, Millis(104)), Asked::Hit { value: "answer", age_ms: 99 });
    assert_eq!(shard.ask(&A, OTHER, Millis(105)), Asked::Lead { number: 2, stale: None });
    assert_eq!(shard.peek(&A, Millis(105)), Lookup::Stale { value: &"answer", age_ms: 100 });
    assert_eq!(shard.settle(A, 2, Outcome::Drop, Millis(106)), Settled::Dropped);
    assert_eq!(shard.peek(&A, Millis(107)), Lookup::Stale { value: &"answer", age_ms: 102 });
    shard.check();
}

#[test]
fn a_late_settle_neither_stores_nor_ends_the_newer_flight() {
    let mut shard = Shard::new(1 << 20, 8, 0);
    shard.ask(&A, ME, Millis(0));
    assert_eq!(shard.take_over(&A, 1, OTHER, Millis(9)), Asked::Lead { number: 2, stale: None });
    assert_eq!(shard.settle(A, 1, store("old"), Millis(10)), Settled::Late);
    assert_eq!(shard.peek(&A, Millis(10)), Lookup::Absent);
    assert_eq!(shard.ask(&A, ME, Millis(10)), Asked::Follow { leader: OTHER, number: 2 });
    assert_eq!(shard.settle(B, 2, store("astray"), Millis(10)), Settled::Late, "a number belongs to a fingerprint");
    assert_eq!(shard.settle(A, 2, store("new"), Millis(11)), Settled::Stored { evicted: 0 });
    assert_eq!(shard.settle(A, 2, store("again"), Millis(12)), Settled::Late);
    assert_eq!(shard.take_over(&A, 1, ME, Millis(13)), Asked::Hit { value: "new", age_ms: 2 });
}

#[test]
fn an_answer_begun_before_a_purge_is_not_stored_after() {
    let mut shard = Shard::new(1 << 20, 8, 0);
    shard.ask(&A, ME, Millis(0));
    shard.ask(&B, ME, Millis(0));
    assert_eq!(shard.purge(&A), None);
    assert_eq!(shard.settle(A, 1, store("old"), Millis(1)), Settled::Late);
    shard.purge_all();
    assert_eq!(shard.settle(B, 2, store("old"), Millis(1)), Settled::Late);
    assert_eq!(shard.ask(&A, ME, Millis(2)), Asked::Lead { number: 3, stale: None });
    assert_eq!(shard.settle(A, 3, store("new"), Millis(3)), Settled::Stored { evicted: 0 });
    assert_eq!(shard.purge(&A), Some("new"));
}

#[test]
fn too_many_flights_go_alone_and_a_sweep_makes_room() {
    let mut shard = Shard::<&str>::new(1 << 20, 1, 0);
    shard.ask(&A, ME, Millis(0));
    assert_eq!(shard.ask(&B, ME, Millis(50)), Asked::Alone { stale: None });
    assert_eq!(shard.sweep(Millis(50), 50), 0);
    assert_eq!(shard.sweep(Millis(51), 50), 1);
    assert_eq!(shard.ask(&B, ME, Millis(51)), Asked::Lead { number: 2, stale: None });
}

#[test]
fn an_answer_beyond_the_budget_still_ends_its_flight() {
    let mut shard = Shard::new(1 << 10, 8, 0);
    shard.ask(&A, ME, Millis(0));
    let huge = Outcome::Store { value: "", size_bytes: u64::MAX, ttl_ms: 100 };
    assert_eq!(shard.settle(A, 1, huge, Millis(0)), Settled::TooLarge);
    assert!(shard.flights().is_empty() && shard.cache().is_empty());
}

#[test]
fn who_fetches_anew_gets_what_expired_a_while_ago() {
    let mut shard = Shard::new(1 << 20, 8, 50);
    assert_eq!(shard.ask(&A, ME, Millis(0)), Asked::Lead { number: 1, stale: None });
    shard.settle(A, 1, Outcome::Store { value: 7, size_bytes: 8, ttl_ms: 100 }, Millis(0));
    assert_eq!(shard.ask(&A, ME, Millis(100)), Asked::Lead { number: 2, stale: Some(7) });
    assert_eq!(shard.ask(&A, OTHER, Millis(101)), Asked::Follow { leader: ME, number: 2 });
    assert_eq!(shard.take_over(&A, 2, OTHER, Millis(149)), Asked::Lead { number: 3, stale: Some(7) });
    shard.settle(A, 3, Outcome::Drop, Millis(149));
    assert_eq!(shard.ask(&A, ME, Millis(150)), Asked::Lead { number: 4, stale: None }, "expired too long ago");
    // Whether or not there is room for another flight.
    let mut full = Shard::new(1 << 20, 1, 50);
    full.put(A, 7, 8, Millis(0), 100);
    full.ask(&B, ME, Millis(0));
    assert_eq!(full.ask(&A, ME, Millis(149)), Asked::Alone { stale: Some(7) });
    assert_eq!(full.ask(&A, ME, Millis(150)), Asked::Alone { stale: None });
}

#[test]
fn who_finds_what_is_kept_too_old_joins_a_flight_and_others_hit_meanwhile() {
    let mut shard = Shard::new(1 << 20, 8, 0);
    shard.put(A, 7, 8, Millis(0), 100);
    assert_eq!(shard.ask_younger(&A, &A, ME, Millis(10)), Asked::Lead { number: 1, stale: Some(7) });
    assert_eq!(shard.ask_younger(&A, &A, OTHER, Millis(11)), Asked::Follow { leader: ME, number: 1 });
    assert_eq!(shard.ask(&A, OTHER, Millis(12)), Asked::Hit { value: 7, age_ms: 12 });
    shard.settle(A, 1, Outcome::Store { value: 8, size_bytes: 8, ttl_ms: 100 }, Millis(20));
    assert_eq!(shard.ask(&A, OTHER, Millis(20)), Asked::Hit { value: 8, age_ms: 0 });
}

#[test]
fn a_flight_of_its_own_brings_the_answer_of_the_question() {
    let mut shard = Shard::new(1 << 20, 8, 0);
    shard.put(A, 7, 8, Millis(0), 100);
    assert_eq!(shard.ask_other(&B, ME, Millis(1)), Asked::Lead { number: 1, stale: None });
    assert_eq!(shard.ask_for(&A, &B, OTHER, Millis(1)), Asked::Hit { value: 7, age_ms: 1 });
    assert_eq!(shard.ask_other(&B, OTHER, Millis(1)), Asked::Follow { leader: ME, number: 1 });
    let outcome = Outcome::Store { value: 8, size_bytes: 8, ttl_ms: 100 };
    assert_eq!(shard.settle_for(A, B, 1, outcome, Millis(2)), Settled::Stored { evicted: 0 });
    assert_eq!(shard.ask(&A, ME, Millis(3)), Asked::Hit { value: 8, age_ms: 1 });
    assert!(shard.flights().is_empty());
}
