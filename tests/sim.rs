//! Whole exchanges in a simulated world: real cores of the gateway between scripted clients and backends.
//! Run with `tests/run sim`, or `RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sim/rustc cargo test --test sim`; `SEED=n` replays one story,
//! `SEEDS=n` says how many are told.
#[cfg(sim)]
#[path = "sim/backend.rs"]
mod backend;
#[cfg(sim)]
#[path = "sim/client.rs"]
mod client;
#[cfg(sim)]
#[path = "sim/crowds.rs"]
mod crowds;
#[cfg(sim)]
#[path = "sim/deadlines.rs"]
mod deadlines;
#[cfg(sim)]
#[path = "sim/failures.rs"]
mod failures;
#[cfg(sim)]
#[path = "sim/frames.rs"]
mod frames;
#[cfg(sim)]
#[path = "sim/house.rs"]
mod house;
#[cfg(sim)]
#[path = "sim/http2.rs"]
mod http2;
#[cfg(sim)]
#[path = "sim/judge.rs"]
mod judge;
#[cfg(sim)]
#[path = "sim/keep.rs"]
mod keep;
#[cfg(sim)]
#[path = "sim/laws.rs"]
mod laws;
#[cfg(sim)]
#[path = "sim/leaving.rs"]
mod leaving;
#[cfg(sim)]
#[path = "sim/ledger.rs"]
mod ledger;
#[cfg(sim)]
#[path = "sim/limits.rs"]
mod limits;
#[cfg(sim)]
#[path = "sim/message.rs"]
mod message;
#[cfg(sim)]
#[path = "sim/order.rs"]
mod order;
#[cfg(sim)]
#[path = "sim/prompt.rs"]
mod prompt;
#[cfg(sim)]
#[path = "sim/redis.rs"]
mod redis;
#[cfg(sim)]
#[path = "sim/reload.rs"]
mod reload;
#[cfg(sim)]
#[path = "sim/scenario.rs"]
mod scenario;
#[cfg(sim)]
#[path = "sim/scenes.rs"]
mod scenes;
#[cfg(sim)]
#[path = "sim/second.rs"]
mod second;
#[cfg(sim)]
#[path = "sim/secret.rs"]
mod secret;
#[cfg(sim)]
#[path = "sim/story.rs"]
mod story;
#[cfg(sim)]
#[path = "sim/streams.rs"]
mod streams;
#[cfg(sim)]
#[path = "sim/watch.rs"]
mod watch;

/// Without `--cfg sim` this file would pass as a suite of no tests. This ignored test, the only one, stands for those that were
/// left out, and fails where it is run.
#[cfg(not(sim))]
#[test]
#[ignore = "the simulator is not in this build: run `tests/run sim`"]
fn every_story_keeps_the_laws() {
    panic!("the simulator is not in this build: run `tests/run sim`");
}

/// Stories told without being asked for more.
#[cfg(sim)]
const SEEDS: u64 = 1000;

#[cfg(sim)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A connection of HTTP/2 that is asked to make room for balance ends with its last answer: it was closed while its client still
/// sent, and the reset took what was on its way.
#[cfg(sim)]
#[test]
fn a_client_that_is_sent_away_gets_its_last_answer_whole() {
    story::tell(865);
}

/// A call that was begun before a purge and outlasts it serves its followers, and is not kept: what was asked for after the purge is
/// what the cache has from then on, though it was there sooner.
#[cfg(sim)]
#[test]
fn a_purge_makes_what_was_begun_before_it_old() {
    story::tell(1488);
}

/// A purge, a Redis that is emptied, and the write of an answer from before both that was on its way: Redis had the answer, and
/// knew of no purge.
#[cfg(sim)]
#[test]
fn an_answer_does_not_outlive_its_purge_in_a_redis_that_was_emptied() {
    story::tell(11425);
}

/// The same of the first purge that Redis was told of: the answer had been begun under none, and there was none any more.
#[cfg(sim)]
#[test]
fn an_answer_does_not_outlive_the_only_purge_that_an_emptied_redis_had_heard_of() {
    story::tell(15276);
}

#[cfg(sim)]
#[test]
fn every_story_keeps_the_laws() {
    let first = number("SEED");
    let count = number("SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let mut sum = story::Outline::default();
    for seed in first..first + count {
        let told = std::panic::catch_unwind(|| story::tell(seed));
        let Ok(outline) = told else {
            panic!(
                "replay: SEED={seed} RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sim/rustc cargo test --test sim -- --nocapture"
            );
        };
        sum.add(&outline);
    }
    println!("{count} stories: {sum:?}");
    assert!(count < SEEDS || sum.rare.is_everything(), "something never happened: {:?}", sum.rare);
}

#[cfg(sim)]
#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..8 {
        let (once, twice) = (story::tell(seed), story::tell(seed));
        assert_eq!((once.trace, once.steps), (twice.trace, twice.steps), "SEED={seed}");
    }
}
