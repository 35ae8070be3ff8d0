//! What Redis and a snapshot bring to a process that has nothing in memory, and what they must not bring back.

use ringway::net::sim::NetworkFaults;

use crate::client::{PLAIN, Wish};
use crate::house::Setup;
use crate::ledger::{End, Outcome};
use crate::redis::Mood;
use crate::scenes::{CROWD, NODE, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::Story;

/// How long it takes a core at most to ask a Redis again that failed.
const REST_MS: u64 = 40_000;
const PROMPTS: u64 = 8;

fn node(second: bool) -> Setup {
    Setup { cores: 2, second, log: false, ..NODE }
}

fn ask(story: &mut Story<'_>, wish: Wish) -> usize {
    story.invite(PLAIN, vec![wish]);
    story.finish_clients();
    story.world.run_ms(50);
    match outcomes(story).last() {
        Some(Outcome::Answer { call }) => *call,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn another_process_has_the_answers_of_the_one_before() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let (second, end) = [(true, End::Killed), (false, End::Stopped)][seed as usize % 2];
        let mut story = Story::begin(world, node(second), CROWD);
        world.run_ms(500);
        for number in 0..PROMPTS {
            story.invite(PLAIN, vec![prompt(number, WHOLE)]);
        }
        story.finish_clients();
        world.run_ms(100);
        story.restart(end);
        world.run_ms(500);
        for number in 0..PROMPTS {
            story.invite(PLAIN, vec![prompt(number, WHOLE)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        assert_eq!(story.end().calls, PROMPTS as usize, "nobody is asked again");
    });
}

#[test]
fn redis_serves_nothing_older_than_what_was_served_while_it_could_not_be_told() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        // Little memory, so that what it had is soon gone.
        let setup = Setup { cores: 1, cache_bytes: 20 << 10, ..node(true) };
        let mut story = Story::begin(world, setup, CROWD);
        let redis = story.redis.clone().expect("the node has a Redis");
        world.run_ms(500);
        let old = ask(&mut story, prompt(1, WHOLE));
        redis.set_mood([Mood::Leaves, Mood::Refuses][seed as usize % 2]);
        let new = ask(&mut story, Wish { directive: Some("no-cache"), ..prompt(1, WHOLE) });
        assert!(new > old);
        redis.set_mood(Mood::Well);
        for number in 100..180 {
            story.invite(PLAIN, vec![prompt(number, WHOLE)]);
        }
        story.finish_clients();
        world.run_ms(REST_MS);
        let newest = ask(&mut story, prompt(1, WHOLE));
        assert!(newest > new, "neither from memory nor from Redis: {newest} after {new} and {old}");
        story.end();
    });
}

#[test]
fn what_was_purged_comes_back_neither_from_redis_nor_from_a_snapshot() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let mut story = Story::begin(world, node(true), CROWD);
        let redis = story.redis.clone().expect("the node has a Redis");
        world.run_ms(500);
        let old = ask(&mut story, prompt(3, WHOLE));
        story.house.snapshot();
        world.run_ms(500);
        // Whether Redis hears of it or not.
        if seed % 2 == 0 {
            redis.set_mood(Mood::Hangs);
        }
        story.purge();
        story.restart(End::Killed);
        redis.set_mood(Mood::Well);
        world.run_ms(REST_MS);
        assert!(ask(&mut story, prompt(3, WHOLE)) > old);
        story.end();
    });
}

#[test]
fn a_redis_that_was_emptied_is_told_again_what_was_purged_and_serves_nothing_from_before() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let mut story = Story::begin(world, node(true), CROWD);
        let redis = story.redis.clone().expect("the node has a Redis");
        world.run_ms(500);
        // What is written waits at Redis, until that has heard of the purge and forgotten it.
        redis.set_mood(Mood::Hangs);
        let old = ask(&mut story, prompt(3, WHOLE));
        story.purge();
        story.tell_redis();
        redis.flush();
        redis.set_mood(Mood::Well);
        world.run_ms(100);
        // Whether its process knows of the purge or the one before did.
        if seed % 2 == 0 {
            story.restart(End::Killed);
            world.run_ms(500);
        }
        let new = ask(&mut story, prompt(3, WHOLE));
        assert!(new > old, "what was purged");
        // By the other core's word, too.
        for number in 10..10 + PROMPTS {
            ask(&mut story, prompt(number, WHOLE));
        }
        story.tell_redis();
        let kept = ask(&mut story, prompt(4, WHOLE));
        story.restart(End::Killed);
        world.run_ms(500);
        assert_eq!(ask(&mut story, prompt(4, WHOLE)), kept, "it serves again");
        story.end();
    });
}
