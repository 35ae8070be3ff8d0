//! Deadlines of requests that share a call: each client's is its own, and the call goes on as long as somebody has time for it.

use ringway::net::sim::Ended;

use crate::backend::{Act, FaultProfile, When};
use crate::client::{PLAIN, Wish};
use crate::ledger::Outcome;
use crate::scenes::{CROWD, NODE, STREAMED, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::Story;

/// How long backends think.
const PAUSE_MS: u64 = 1_500;
/// Until the first request has reached its backend, and the next one shares its call.
const UNDER_WAY_MS: u64 = 300;

fn hurried(timeout: &'static str, wish: Wish) -> Wish {
    Wish { urgency: Some(timeout), ..wish }
}

fn is_too_late(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Error { status: 504, code } if code == "deadline_exceeded")
}

fn begin(world: &ringway::net::sim::World) -> Story<'_> {
    let story = Story::begin(world, NODE, CROWD);
    story.fault_profile.set(FaultProfile { pause_ms: PAUSE_MS, ..story.fault_profile.get() });
    story
}

#[test]
fn a_leader_in_a_hurry_ends_no_call_that_others_wait_for() {
    each_seed(40, |world, seed| {
        let form = [WHOLE, STREAMED][seed as usize % 2];
        let mut story = begin(world);
        story.invite(PLAIN, vec![hurried("x-request-timeout: 600ms", prompt(5, form))]);
        world.run_ms(UNDER_WAY_MS);
        for place in 0..6 {
            // On every core, in both forms, in less of a hurry and in none.
            let form = [WHOLE, STREAMED][place % 2];
            story.invite(PLAIN, vec![prompt(5, form)]);
            story.invite(PLAIN, vec![hurried("x-request-timeout: 30", prompt(5, form))]);
        }
        story.finish_clients();
        let outcomes = outcomes(&story);
        assert!(is_too_late(&outcomes[0]), "{:?}", outcomes[0]);
        assert!(outcomes[1..].iter().all(is_answer), "{outcomes:?}");
        assert_eq!(story.end().calls, 1);
    });
}

#[test]
fn a_follower_in_a_hurry_is_told_in_time_and_leaves_the_call_to_the_others() {
    each_seed(40, |world, seed| {
        let form = [WHOLE, STREAMED][seed as usize % 2];
        let mut story = begin(world);
        story.invite(PLAIN, vec![prompt(5, form)]);
        world.run_ms(UNDER_WAY_MS);
        for place in 0..6 {
            story.invite(PLAIN, vec![hurried("x-request-timeout: 400ms", prompt(5, [WHOLE, STREAMED][place % 2]))]);
        }
        story.finish_clients();
        let outcomes = outcomes(&story);
        assert!(is_answer(&outcomes[0]), "{:?}", outcomes[0]);
        assert!(outcomes[1..].iter().all(is_too_late), "{outcomes:?}");
        story.ledger.look(|book| {
            for request in book.requests.values().filter(|request| is_too_late(&request.outcome)) {
                let took_ms = request.closed_ms - request.asked_ms;
                assert!((400..800).contains(&took_ms), "{took_ms} ms");
            }
        });
        assert_eq!(story.end().calls, 1);
    });
}

#[test]
fn a_call_for_which_nobody_has_time_any_more_is_given_up() {
    each_seed(40, |world, _| {
        let mut story = begin(world);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::NoHead)), ..story.fault_profile.get() });
        story.invite(PLAIN, vec![hurried("x-request-timeout: 600ms", prompt(5, WHOLE))]);
        world.run_ms(UNDER_WAY_MS);
        for _ in 0..4 {
            story.invite(PLAIN, vec![hurried("x-request-timeout: 600ms", prompt(5, STREAMED))]);
        }
        let calls =
            |story: &Story<'_>| story.house.cores.iter().map(|core| core.core().counters.flights.get()).sum::<u64>();
        assert_eq!(world.run_until(1_500, || calls(&story) == 0), Ended::Met, "{}", story.house.describe());
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_too_late), "{:?}", outcomes(&story));
        story.calm();
        story.end();
    });
}
