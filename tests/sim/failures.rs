//! Stories of what fails: how often it is tried again, how soon everybody hears of it, and what HTTP/2 backends do to many
//! at once. As in `scenes`, each is told for many seeds.

use std::rc::Rc;

use ringway::exchange::generation::Generation;
use ringway::net::sim::{NetworkFaults, between};
use shards::breaker::State;

use crate::backend::{Act, FaultProfile, When};
use crate::client::PLAIN;
use crate::house::{Setup, TenantLimits};
use crate::laws::check_attempts;
use crate::ledger::Outcome;
use crate::prompt::LONG;
use crate::scenario::Scenario;
use crate::scenes::{CROWD, NODE, STREAMED, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::{Story, tell_of};

#[test]
fn retries_stay_within_what_requests_have_earned() {
    each_seed(3, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        // Whoever could not be asked again would be out of service.
        let setup = Setup { cores: 1 + seed as usize, backends: 3, retries: 4, eject_errors: 1000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        let act = [Act::Status(500), Act::Busy(503, 0), Act::Leave(When::NoHead)][seed as usize];
        story.fault_profile.set(FaultProfile { only: Some(act), rest_ms: 0, ..story.fault_profile.get() });
        for number in 0..30 {
            story.invite(PLAIN, (0..10).map(|step| prompt(100 + number * 10 + step, WHOLE)).collect());
        }
        story.finish_clients();
        let calls = story.ledger.look(|book| book.calls.len());
        // 300 requests, 100 retries in reserve (rounded up for each core), and 20 % more.
        assert!((300..=462).contains(&calls), "{calls} calls");
        check_attempts(&story.ledger, &story.setup, &story.house);
        story.calm();
        story.end();
    });
}

#[test]
fn everybody_who_follows_hears_of_a_failure_at_once() {
    each_seed(30, |world, _| {
        world.set_network(NetworkFaults::CALM);
        let setup = Setup { retries: 0, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::NoHead)), ..story.fault_profile.get() });
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(4, STREAMED)]);
        }
        story.finish_clients();
        let (calls, closed): (usize, Vec<u64>) = story
            .ledger
            .look(|book| (book.calls.len(), book.requests.values().map(|request| request.closed_ms).collect()));
        assert!(outcomes(&story).iter().all(|outcome| matches!(outcome, Outcome::Error { status: 504, .. })));
        assert_eq!(calls, 1);
        assert!(closed.iter().max() < closed.iter().min().map(|first| first + 200).as_ref(), "{closed:?}");
        story.calm();
        story.end();
    });
}

#[test]
fn followers_of_a_call_that_died_ask_again() {
    each_seed(60, |world, _| {
        let mut story = Story::begin(world, NODE, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 300, ..story.fault_profile.get() });
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(3, if between(0, 1) == 0 { WHOLE } else { STREAMED })]);
        }
        world.run_ms(between(1, 400));
        let crashed = story.crash();
        story.finish_clients();
        let failed = outcomes(&story).into_iter().filter(|outcome| !is_answer(outcome)).count();
        let unopened = story.ledger.look(|book| book.requests.values().all(|request| request.closed_ms < 8_000));
        assert!(unopened, "nobody waits for what has died: {:?}", story.house.describe());
        assert!(crashed > 0 || failed == 0, "{:?}", outcomes(&story));
        story.calm();
        story.end();
    });
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let acts = [When::NoHead, When::AfterHead, When::InBody].map(|when| [Act::Leave(when), Act::Reset(when)]).concat();
    each_seed(120, |world, seed| {
        let setup = Setup { backends: 3, retries: 0, http2: if seed % 4 == 0 { 0 } else { 3 }, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        let act = acts[between(0, acts.len() as u64 - 1) as usize];
        story.fault_profile.set(FaultProfile { only: Some(act), faults_percent: 100, ..story.fault_profile.get() });
        for client in 0..4 {
            story.invite(PLAIN, (0..3).map(|step| prompt(100 + client * 10 + step, STREAMED)).collect());
        }
        story.finish_clients();
        check_attempts(&story.ledger, &story.setup, &story.house);
        story.calm();
        story.end();
    });
}

#[test]
fn the_loser_of_a_hedge_is_given_up_at_once() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let http2 = if seed % 2 == 0 { 0 } else { 3 };
        let setup = Setup { cores: 1, backends: 3, hedge: 50, total_ms: 10_000, http2, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 5, ..story.fault_profile.get() });
        // What is usual has to be learnt first.
        story.invite(PLAIN, (0..60).map(|step| prompt(100 + step * 10, STREAMED)).collect());
        story.finish_clients();
        let calls = |story: &Story<'_>| story.ledger.look(|book| book.calls.len());
        let before = calls(&story);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::NoHead)), ..story.fault_profile.get() });
        story.invite(PLAIN, vec![prompt(1000, STREAMED)]);
        world.run_until(1000, || calls(&story) > before);
        story.fault_profile.set(FaultProfile { only: None, ..story.fault_profile.get() });
        story.finish_clients();
        assert_eq!(calls(&story), before + 2);
        world.run_ms(100);
        let over = story.ledger.look(|book| book.calls[before..].iter().all(|call| call.over_ms.is_some()));
        assert!(over, "both calls are over");
        assert!(outcomes(&story).iter().all(is_answer));
        story.calm();
        story.end();
    });
}

#[test]
fn an_answer_longer_than_a_window_comes_whole() {
    each_seed(4, |world, seed| {
        let http2 = if seed % 4 == 0 { 0 } else { 1 };
        let setup = Setup { cores: 1, http2, streams: (4, 1), total_ms: 10_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 0, ..story.fault_profile.get() });
        story.invite(PLAIN, vec![prompt(LONG, STREAMED), prompt(LONG + 2, STREAMED)]);
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.calm();
        story.end();
    });
}

#[test]
fn hedges_stay_within_their_budget() {
    each_seed(4, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let http2 = if seed % 2 == 0 { 0 } else { 2 };
        let setup = Setup { cores: 1, backends: 2, hedge: 5, retries: 0, eject_errors: 1000, http2, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 5, ..story.fault_profile.get() });
        story.invite(PLAIN, (0..60).map(|step| prompt(100 + step * 10, STREAMED)).collect());
        story.finish_clients();
        let learnt = story.house.sum(|counters| &counters.hedges);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::NoHead)), ..story.fault_profile.get() });
        for client in 0..20 {
            story.invite(PLAIN, vec![prompt(1000 + client * 10, STREAMED)]);
        }
        story.finish_clients();
        // Two are saved up at most, and 20 requests earn one more.
        let hedges = story.house.sum(|counters| &counters.hedges) - learnt;
        assert!((1..=3).contains(&hedges), "{hedges} hedges");
        story.calm();
        story.end();
    });
}

#[test]
fn what_one_core_finds_of_a_backend_the_others_hear() {
    each_seed(20, |world, seed| {
        let http2 = if seed % 2 == 0 { 0 } else { 2 };
        let setup = Setup { backends: 2, retries: 0, eject_errors: 1, http2, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        let act = Act::Reset(When::NoHead);
        story.fault_profile.set(FaultProfile { only: Some(act), faults_percent: 100, ..story.fault_profile.get() });
        story.invite(PLAIN, vec![prompt(4, STREAMED)]);
        story.finish_clients();
        world.run_ms(200);
        let out = |core: &Rc<Generation>| {
            (0..2).map(|backend| core.upstreams.backends[backend].breaker.borrow().state()).collect::<Vec<_>>()
        };
        let states: Vec<Vec<State>> = story.house.generations().iter().map(out).collect();
        assert!(states[0].contains(&State::Tripped), "{states:?}");
        assert!(states.iter().all(|other| *other == states[0]), "{states:?}");
        story.calm();
        story.end();
    });
}

#[test]
fn nobody_stands_in_line_on_a_full_connection() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let setup = Setup { cores: 1, http2: 1, streams: (4, 100), ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        // From the start, or from the first request on.
        let (streams_max, streams_later) = if seed % 2 == 0 { (1, None) } else { (100, Some(1)) };
        let one = FaultProfile { streams_max, streams_later, rest_ms: 5, ..story.fault_profile.get() };
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::AfterHead)), ..one });
        story.invite(PLAIN, vec![prompt(100, STREAMED)]);
        world.run_ms(200);
        story.fault_profile.set(one);
        let before = story.ledger.look(|book| book.requests.len());
        for number in 0..9 {
            story.invite(PLAIN, vec![prompt(110 + number * 10, STREAMED)]);
        }
        // Less than the first one waits for its content.
        world.run_ms(1000);
        let answers = outcomes(&story)[before..].iter().filter(|outcome| is_answer(outcome)).count();
        assert_eq!(answers, 9, "{:?}", outcomes(&story));
        story.calm();
        story.end();
    });
}

#[test]
fn goodbyes_of_http2_backends_are_never_seen() {
    let setup = Setup { backends: 2, http2: 2, streams: (4, 100), ..NODE };
    let scenario = Scenario { clients: 12, wishes: 12, prompts: 10, ..CROWD };
    each_seed(60, |world, _| {
        tell_of(world, Setup { ttl_ms: 50, ..setup.clone() }, scenario);
    });
}

/// Ten thousand of them, over all seeds, each at a point of its own: reading, waiting in a queue, leading or following.
#[test]
fn permits_are_whole_after_clients_that_hang_up() {
    each_seed(20, |world, seed| {
        let setup = Setup {
            tenants: 3,
            turns: Some((6, 20)),
            limits: TenantLimits::Wide,
            cores: 1 + seed as usize % 3,
            total_ms: 10_000,
            log: false,
            ..NODE
        };
        let mut story = Story::begin(world, setup, CROWD);
        for _ in 0..25 {
            let clients: Vec<_> = (0..20)
                .map(|_| {
                    let form = if between(0, 1) == 0 { WHOLE } else { STREAMED };
                    story.invite(PLAIN, vec![prompt(between(0, 9), form)])
                })
                .collect();
            for client in clients {
                world.kill_after(client, between(0, 40));
            }
            world.run_ms(between(1, 60));
        }
        story.finish_clients();
        story.calm();
        story.fresh_requests();
        // Every permit, place, lease and reservation has come back.
        let outline = story.end();
        assert!(outline.requests > 300 && outline.calls > 20, "{} requests, {} calls", outline.requests, outline.calls);
    });
}
