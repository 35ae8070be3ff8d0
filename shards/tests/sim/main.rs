//! Many shards and the messages between them, from one seed: slow, reordered and stalled channels, leaders that fail or
//! vanish, clients that leave, expiry, eviction, purges. Invariants are checked after every event. `cargo test -p
//! shards --test sim`; `SEEDS=10000` for a long run, `SEED=n` to replay one.

mod backends; // breakers, budgets and attempts against backends that fail and recover
mod core;
mod laws;
mod messages;
mod random;
mod world;

use laws::Counts;

#[test]
fn every_seed_keeps_the_laws() {
    let (mut counts, mut seeds) = (Counts::default(), 0);
    random::each_seed(200, |seed| {
        counts.add(&world::run(seed));
        seeds += 1;
    });
    println!("{seeds} seeds: {counts:?}");
    // A simulation in which nothing happens would violate no invariant.
    if seeds >= 50 {
        counts.check_all_happened();
    }
}

#[test]
fn a_seed_replays() {
    assert_eq!(world::run(7), world::run(7));
}

#[test]
fn backends_that_recover_serve_again_and_those_that_are_out_get_probes_alone() {
    let (mut counts, mut seeds) = (backends::Counts::default(), 0);
    random::each_seed(200, |seed| {
        counts.add(&backends::run(seed));
        seeds += 1;
    });
    println!("{seeds} seeds: {counts:?}");
    if seeds >= 50 {
        counts.check_all_happened();
    }
}

#[test]
fn a_seed_of_backends_replays() {
    assert_eq!(backends::run(7), backends::run(7));
}
