//! Whole exchanges in a simulated world: real cores of the gateway between scripted clients and backends.
//! Run with `RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sim/rustc cargo test --test sim`; `SEED=n` replays one story, `SEEDS=n` says
//! how many are told.
#![cfg(sim)]

#[path = "sim/backend.rs"]
mod backend;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/failures.rs"]
mod failures;
#[path = "sim/frames.rs"]
mod frames;
#[path = "sim/house.rs"]
mod house;
#[path = "sim/http2.rs"]
mod http2;
#[path = "sim/judge.rs"]
mod judge;
#[path = "sim/laws.rs"]
mod laws;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/message.rs"]
mod message;
#[path = "sim/plot.rs"]
mod plot;
#[path = "sim/question.rs"]
mod question;
#[path = "sim/scenes.rs"]
mod scenes;
#[path = "sim/story.rs"]
mod story;
#[path = "sim/watch.rs"]
mod watch;

/// Stories told without being asked for more.
const SEEDS: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn every_story_keeps_the_laws() {
    let first = number("SEED");
    let count = number("SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let mut sum = story::Tale::default();
    for seed in first..first + count {
        let told = std::panic::catch_unwind(|| story::tell(seed));
        let Ok(tale) = told else {
            panic!(
                "replay: SEED={seed} RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sim/rustc cargo test --test sim -- --nocapture"
            );
        };
        sum.add(&tale);
    }
    println!("{count} stories: {sum:?}");
    assert!(count < SEEDS || sum.rare.is_everything(), "something never happened: {:?}", sum.rare);
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..8 {
        let (once, twice) = (story::tell(seed), story::tell(seed));
        assert_eq!((once.trace, once.steps), (twice.trace, twice.steps), "SEED={seed}");
    }
}
