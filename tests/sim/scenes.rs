//! Stories with a subject: what was once found in a random one, and what must hold in every order of events. Each is told
//! for many seeds; `SEED=n` tells one.

use ringway::net::sim::{Ended, NetworkFaults, Place, World, between};

use shards::Shard;

use crate::backend::{Act, After, FaultProfile, Frame, When};
use crate::client::{Habit, PLAIN, ProbeRequest, Version, Wish};
use crate::house::{Setup, TenantLimits, homes};
use crate::ledger::Outcome;
use crate::message::Pace;
use crate::prompt::Form;
use crate::scenario::Scenario;
use crate::story::{Story, tell_of};

pub const WHOLE: Form = Form::NonStreaming;
pub const STREAMED: Form = Form::Streaming { usage: false };

/// A node that keeps what it may.
pub const NODE: Setup = Setup {
    secure: false,
    cores: 3,
    backends: 1,
    tenants: 0,
    cache_bytes: 64 << 20,
    ttl_ms: 300_000,
    max_entry_bytes: 2 << 20,
    follow_ms: 10_000,
    total_ms: 3000,
    gap_ms: 2000,
    balance: "round-robin",
    retries: 2,
    fallback: false,
    hedge: 0,
    turns: None,
    eject_errors: 5,
    stale_ms: 0,
    adapts: false,
    log: true,
    limits: TenantLimits::None,
    http2: 0,
    streams: (100, 100),
    gives: false,
    second: false,
};

/// Many clients at once, and nothing goes wrong.
pub const CROWD: Scenario = Scenario {
    clients: 10,
    wishes: 4,
    prompts: 3,
    odd_clients: false,
    leavers: false,
    hurried: false,
    directives: false,
    probe_requests: false,
    faulty_backends: false,
    unreachable: false,
    paused_cores: false,
    crashes: false,
    moves: false,
    drains: false,
    purges: false,
    restarts: false,
    reloads: false,
    one_form: false,
    together: true,
};

pub fn each_seed(count: u64, tell: impl Fn(&World, u64)) {
    let seeds = match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        println!("SEED={seed}");
        tell(&World::new(seed), seed);
    }
}

pub fn prompt(number: u64, form: Form) -> Wish {
    Wish { probe_request: ProbeRequest::Prompt, prompt: number, form, directive: None, urgency: None }
}

/// The outcomes in the order asked.
pub fn outcomes(story: &Story<'_>) -> Vec<Outcome> {
    story.ledger.look(|book| {
        let mut asked: Vec<_> = book.requests.values().collect();
        asked.sort_by_key(|request| request.number);
        asked.into_iter().map(|request| request.outcome.clone()).collect()
    })
}

pub fn is_answer(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answer { .. })
}

#[test]
fn identical_streams_make_one_call() {
    each_seed(20, |world, _| {
        let mut story = Story::begin(world, NODE, CROWD);
        for _ in 0..100 {
            story.invite(PLAIN, vec![prompt(7, STREAMED)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer));
        let outline = story.end();
        assert_eq!((outline.answers, outline.calls), (100, 1));
    });
}

#[test]
fn a_failure_takes_no_earlier_answer_of_its_connection_with_it() {
    each_seed(40, |world, _| {
        let mut story = Story::begin(world, Setup { cores: 1, ..NODE }, CROWD);
        story.invite(PLAIN, vec![prompt(1, WHOLE)]);
        story.finish_clients();
        // The head of a flight is there and waits for its first byte, which never comes.
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::AfterHead)), ..story.fault_profile.get() });
        story.invite(PLAIN, vec![prompt(2, STREAMED)]);
        world.run_ms(between(200, 1500));
        for _ in 0..6 {
            let wishes = vec![prompt(1, WHOLE), prompt(1, STREAMED), prompt(2, STREAMED), prompt(1, WHOLE)];
            story.invite(Habit { pipelined: 4, ..PLAIN }, wishes);
        }
        story.finish_clients();
        for (number, outcome) in outcomes(&story).iter().enumerate() {
            let failed = matches!(outcome, Outcome::Error { status: 504, .. });
            assert!(is_answer(outcome) || failed, "{number}: {outcome:?}");
        }
        story.calm();
        story.fresh_requests();
        story.end();
    });
}

#[test]
fn an_answer_too_large_to_keep_reaches_its_followers_on_other_cores() {
    let setup = Setup { max_entry_bytes: 4 << 10, follow_ms: 500, ..NODE };
    each_seed(60, |world, _| {
        let mut story = Story::begin(world, setup.clone(), CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 100, ..story.fault_profile.get() });
        for _ in 0..20 {
            story.invite(PLAIN, vec![prompt(9, STREAMED)]);
            world.run_ms(between(0, 30));
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.end();
    });
}

#[test]
fn followers_on_an_owner_core_outlive_the_next_flight() {
    let setup = Setup { max_entry_bytes: 4 << 10, ..NODE };
    let scenario = Scenario { prompts: 2, leavers: true, paused_cores: true, together: false, ..CROWD };
    each_seed(100, |world, _| {
        tell_of(world, setup.clone(), scenario);
    });
}

#[test]
fn what_is_asked_of_the_cache_alone_leads_no_flight() {
    // Seed 636: one that may ask a backend follows three in a row that may not.
    each_seed(700, |world, _| {
        let mut story = Story::begin(world, NODE, CROWD);
        for client in 0..12 {
            let form = if between(0, 1) == 0 { WHOLE } else { STREAMED };
            let directive = (client % 2 == 0).then_some("only-if-cached");
            story.invite(PLAIN, vec![Wish { directive, ..prompt(1, form) }]);
        }
        story.finish_clients();
        for (client, outcome) in outcomes(&story).iter().enumerate() {
            let refused = matches!(outcome, Outcome::Error { status: 504, code } if code == "not_cached");
            assert!(is_answer(outcome) || refused, "{client}: {outcome:?}");
        }
        let asked_freely = story.ledger.look(|book| {
            book.requests
                .values()
                .filter(|request| !request.told.contains("only-if"))
                .all(|asked| is_answer(&asked.outcome))
        });
        assert!(asked_freely, "who may ask a backend is answered");
        story.end();
    });
}

#[test]
fn who_goes_alone_for_want_of_room_gets_what_expired_too() {
    each_seed(30, |world, _| {
        let setup = Setup { ttl_ms: 100, stale_ms: 3_600_000, ..NODE };
        let mut story = Story::begin(world, setup.clone(), CROWD);
        for core in &story.house.cores {
            core.core().cache.shard.replace(Shard::new(setup.cache_bytes, 0, setup.stale_ms));
        }
        // Fetched outside of any flight, and kept all the same.
        story.invite(PLAIN, vec![Wish { directive: Some("no-cache"), ..prompt(1, WHOLE) }]);
        story.finish_clients();
        world.run_ms(1_000);
        story.fault_profile.set(FaultProfile { only: Some(Act::Leave(When::NoHead)), ..story.fault_profile.get() });
        // Of the core that owns it and of the others.
        for _ in 0..6 {
            story.invite(PLAIN, vec![prompt(1, WHOLE)]);
        }
        story.finish_clients();
        story.invite(PLAIN, vec![Wish { directive: Some("max-age=3600"), ..prompt(1, WHOLE) }]);
        story.finish_clients();
        let answers: Vec<bool> = outcomes(&story).iter().map(is_answer).collect();
        assert_eq!(answers, [true, true, true, true, true, true, true, false]);
        story.end();
    });
}

#[test]
fn each_gets_the_form_it_asked_for_whoever_asked_first() {
    each_seed(100, |world, seed| {
        // On a short way one answer may replace another within the same millisecond.
        if seed % 2 == 0 {
            world.set_network(NetworkFaults { poll_cost_us: 0, ..NetworkFaults::CALM });
        }
        let mut story = Story::begin(world, Setup { cores: 1 + seed as usize % 3, ..NODE }, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: seed % 4, ..story.fault_profile.get() });
        for _ in 0..4 {
            for _ in 0..6 {
                let form = [WHOLE, STREAMED, Form::Streaming { usage: true }][between(0, 2) as usize];
                let directive = (between(0, 2) == 0).then_some("no-cache");
                story.invite(PLAIN, vec![Wish { directive, ..prompt(1, form) }]);
            }
            story.finish_clients();
        }
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.end();
    });
}

#[test]
fn a_drain_lets_in_what_has_begun_to_arrive() {
    each_seed(60, |world, _| {
        let mut story = Story::begin(world, NODE, CROWD);
        for _ in 0..6 {
            let habit = Habit { pieces: 10, ..PLAIN };
            story.invite(habit, vec![prompt(1, STREAMED), prompt(2, WHOLE)]);
        }
        world.run_ms(between(0, 400));
        story.drain();
        story.finish_clients();
        for outcome in outcomes(&story) {
            // A connection that idled is closed, and what is sent over it then comes too late.
            assert!(is_answer(&outcome) || outcome == Outcome::Nothing, "{outcome:?}");
        }
        story.end();
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_can_tell() {
    let setup = Setup { cores: 1, ..NODE };
    each_seed(30, |world, _| {
        let mut story = Story::begin(world, setup.clone(), CROWD);
        story.invite(PLAIN, vec![prompt(8, STREAMED)]);
        story.finish_clients();
        for version in [Version::Http10, Version::Http11] {
            let pace = Pace { bytes: 1000, rest_ms: 0 };
            story.invite(Habit { version, pace, stall_ms: 10_000, ..PLAIN }, vec![prompt(8, STREAMED)]);
        }
        story.finish_clients();
        for outcome in outcomes(&story) {
            // Wide windows take all of it.
            assert!(is_answer(&outcome) || outcome == Outcome::Cut, "{outcome:?}");
        }
        story.end();
    });
}

#[test]
fn nothing_is_kept_open_to_a_backend_that_is_gone() {
    each_seed(20, |world, seed| {
        // One of the backends speaks HTTP/2.
        let setup = Setup { backends: 2, http2: 1, ..NODE };
        let mut story = Story::begin(world, setup, Scenario { reloads: true, ..CROWD });
        for client in 0..12 {
            story.invite(PLAIN, vec![prompt(client, WHOLE), prompt(100 + client, STREAMED)]);
        }
        // Also while requests run there.
        if seed % 2 == 0 {
            story.finish_clients();
        } else {
            world.run_ms(between(1, 60));
        }
        let open = |story: &Story<'_>, backend: usize| -> usize {
            let cores = 0..story.setup.cores;
            cores.map(|core| world.open_to(Place::Core(core), &homes(backend)[0])).sum()
        };
        let gone = seed as usize / 2 % 2;
        assert!(seed % 2 == 1 || open(&story, gone) > 0, "there is something to be closed");
        story.house.remove(&story.setup, &story.ledger, gone);
        story.finish_clients();
        story.check_removed();
        world.run_ms(4000);
        story.check_removed();
        assert_eq!(open(&story, gone), 0);
        assert!(seed % 2 == 1 || open(&story, 1 - gone) > 0, "that of the other is kept");
        story.calm();
        story.end();
    });
}

#[test]
fn what_lies_idle_at_a_backend_that_is_gone_is_closed_while_a_request_goes_on_there() {
    each_seed(20, |world, _| {
        let setup = Setup { cores: 1, backends: 2, gap_ms: 9000, total_ms: 9000, ..NODE };
        let mut story = Story::begin(world, setup, Scenario { reloads: true, ..CROWD });
        for client in 0..12 {
            story.invite(PLAIN, vec![prompt(client, STREAMED)]);
        }
        story.finish_clients();
        let open = |backend: usize| world.open_to(Place::Core(0), &homes(backend)[0]);
        assert!(open(0) > 1 && open(1) > 1, "{} and {} lie idle", open(0), open(1));
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::InBody)), ..story.fault_profile.get() });
        for client in 0..2 {
            story.invite(PLAIN, vec![prompt(100 + client, STREAMED)]);
        }
        world.run_ms(500);
        story.house.remove(&story.setup, &story.ledger, 0);
        world.run_ms(2500);
        let asked = story.house.generations()[0].counters.flights.get();
        assert_eq!((asked, open(0)), (2, 1), "round robin: one goes on here, one there");
        story.calm();
        story.end();
    });
}

#[test]
fn a_client_may_leave_at_every_await() {
    for form in [WHOLE, STREAMED] {
        for (leader, polls) in (0..60).flat_map(|polls| [(true, polls), (false, polls)]) {
            let world = World::new(polls);
            let mut story = Story::begin(&world, NODE, CROWD);
            let leaver = story.invite(PLAIN, vec![prompt(4, form)]);
            if leader {
                world.run_ms(1);
            }
            for _ in 0..4 {
                story.invite(PLAIN, vec![prompt(4, form)]);
            }
            world.kill_after(leaver, polls);
            story.finish_clients();
            let left = outcomes(&story).iter().filter(|outcome| !is_answer(outcome)).count();
            assert!(left <= 1, "form {form:?}, polls {polls}: {:?}", outcomes(&story));
            let outline = story.end();
            assert!(outline.calls <= 2, "form {form:?}, polls {polls}: {} calls", outline.calls);
        }
    }
}

#[test]
fn a_call_that_nobody_wants_any_more_is_given_up_at_once() {
    each_seed(30, |world, seed| {
        let when = [When::NoHead, When::InHead, When::AfterHead, When::InBody][seed as usize % 4];
        let mut story = Story::begin(world, NODE, CROWD);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(when)), ..story.fault_profile.get() });
        for _ in 0..5 {
            story.invite(PLAIN, vec![prompt(4, STREAMED)]);
        }
        // Long enough to be under way, too short for any time-out.
        world.run_ms(900);
        let calls =
            |story: &Story<'_>| story.house.cores.iter().map(|core| core.core().counters.flights.get()).sum::<u64>();
        assert!(calls(&story) > 0);
        for &client in &story.clients {
            world.kill(client);
        }
        let freed = world.run_until(400, || calls(&story) == 0);
        assert_eq!(freed, Ended::Met, "{}", story.house.describe());
        story.calm();
        story.fresh_requests();
        story.end();
    });
}

#[test]
fn every_fault_of_a_backend_is_told_honestly() {
    let mut acts = vec![
        Act::Answer { frame: Frame::UntilClose, after: After::Close },
        Act::Short { frame: Frame::Chunked },
        Act::Status(429),
        Act::Status(500),
        Act::LongLength,
        Act::FalseOk,
    ];
    for when in [When::NoHead, When::InHead, When::AfterHead, When::InBody] {
        acts.extend([Act::Hang(when), Act::Leave(when), Act::Reset(when)]);
    }
    acts.extend([Act::Garbage(When::NoHead), Act::Garbage(When::InHead)]);
    let streams = [Act::NoDone, Act::ErrorEvent];
    for (form, act) in
        acts.iter().flat_map(|act| [(WHOLE, act), (STREAMED, act)]).chain(streams.iter().map(|act| (STREAMED, act)))
    {
        for seed in 0..10 {
            let world = World::new(seed);
            let mut story = Story::begin(&world, NODE, CROWD);
            story.fault_profile.set(FaultProfile { only: Some(*act), ..story.fault_profile.get() });
            for _ in 0..6 {
                story.invite(PLAIN, vec![prompt(4, form)]);
            }
            story.finish_clients();
            for outcome in outcomes(&story) {
                let fits = match act {
                    Act::Answer { .. } | Act::NoDone => is_answer(&outcome),
                    Act::FalseOk => matches!(outcome, Outcome::Error { status: 502, .. }),
                    Act::Short { .. } => matches!(outcome, Outcome::Relayed { .. }),
                    Act::Status(said) => matches!(outcome, Outcome::Error { status, .. } if status == *said),
                    // Whole answers that broke off, and streams that could still say so; a reset may overtake all of it.
                    _ => matches!(
                        outcome,
                        Outcome::Error { status: 502 | 504, .. }
                            | Outcome::Cut
                            | Outcome::Nothing
                            | Outcome::ErrorEvent { .. }
                    ),
                };
                assert!(fits, "SEED={seed} {act:?} {form:?}: {outcome:?}");
            }
            story.calm();
            story.fresh_requests();
            story.end();
        }
    }
}

#[test]
fn a_core_that_stands_still_holds_nobody_for_ever() {
    each_seed(20, |world, _| {
        let setup = Setup { follow_ms: 500, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        for core in 0..2 {
            world.pause(Place::Core(core));
        }
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(between(0, 3), STREAMED)]);
        }
        // Whoever came to the core that runs is answered, whichever core owns the prompt.
        world.run_ms(20_000);
        let waiting = world.live_tasks(Place::Core(2)).len();
        assert_eq!(
            story.house.cores[2].core().counters.exchanges.get(),
            0,
            "{waiting} tasks: {}",
            story.house.describe()
        );
        story.calm();
        story.fresh_requests();
        story.end();
    });
}

#[test]
fn an_answer_that_nobody_asked_for_reaches_nobody() {
    each_seed(40, |world, _| {
        world.set_network(NetworkFaults { poll_cost_us: 1, ..NetworkFaults::CALM });
        let mut story = Story::begin(world, Setup { cores: 1, ..NODE }, CROWD);
        story.fault_profile.set(FaultProfile {
            rest_ms: 0,
            only: Some(Act::Twice { ms: between(1, 50) }),
            ..story.fault_profile.get()
        });
        for number in 0..8 {
            story.invite(PLAIN, vec![prompt(number, WHOLE)]);
            world.run_ms(between(51, 300));
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.calm();
        story.end();
    });
}

#[test]
fn who_comes_as_others_leave_gets_a_whole_answer() {
    each_seed(300, |world, seed| {
        let number = [1, 7, 9][seed as usize % 3];
        let mut story = Story::begin(world, Setup { cores: 2, follow_ms: 500, ..NODE }, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: between(1, 100), ..story.fault_profile.get() });
        let mut killed = 0;
        for round in 0..12 {
            let leaver = story.invite(PLAIN, vec![prompt(number, STREAMED)]);
            world.run_ms(between(0, 40));
            if round > 0 && between(0, 2) > 0 && world.is_live(leaver) {
                // What the cores say to each other meanwhile is read in any order.
                let core = Place::Core(between(0, 1) as usize);
                world.pause(core);
                world.kill(leaver);
                killed += 1;
                world.run_ms(between(0, 20));
                world.resume(core);
            }
        }
        story.finish_clients();
        let answers = outcomes(&story).iter().filter(|outcome| is_answer(outcome)).count();
        assert!(answers + killed >= 12, "{killed} left: {:?}", outcomes(&story));
        story.end();
    });
}

#[test]
fn who_comes_too_late_for_a_long_answer_gets_one_of_its_own() {
    let setup = Setup { max_entry_bytes: 4 << 10, ..NODE };
    each_seed(20, |world, _| {
        let mut story = Story::begin(world, setup.clone(), CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 20, ..story.fault_profile.get() });
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(8, STREAMED)]);
            world.run_ms(between(0, 1500));
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.end();
    });
}

#[test]
fn a_whole_answer_is_waited_for_longer_than_a_stream() {
    each_seed(40, |world, _| {
        let setup = Setup { follow_ms: 100, total_ms: 10_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 3000, ..story.fault_profile.get() });
        for _ in 0..10 {
            story.invite(PLAIN, vec![prompt(3, WHOLE)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        assert_eq!(story.end().calls, 1);
    });
}

#[test]
fn who_reads_what_another_core_fetches_is_cut_when_that_core_stands_still() {
    each_seed(40, |world, _| {
        let mut story = Story::begin(world, NODE, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 100, ..story.fault_profile.get() });
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(9, STREAMED)]);
        }
        world.run_ms(between(500, 2000));
        let leads = |index: &usize| story.house.cores[*index].core().counters.flights.get() > 0;
        let Some(leader) = (0..3).find(leads) else { return };
        world.pause(Place::Core(leader));
        world.run_ms(80_000);
        for index in (0..3).filter(|&index| index != leader) {
            let waiting = story.house.cores[index].core().counters.exchanges.get();
            assert_eq!(waiting, 0, "{index} waits for {leader}: {}", story.house.describe());
        }
        story.calm();
        story.fresh_requests();
        story.end();
    });
}

#[test]
fn a_backend_that_moves_is_asked_where_it_is_and_loses_no_answer() {
    each_seed(60, |world, seed| {
        let setup = Setup { cores: 1 + seed as usize % 3, ttl_ms: 1, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 200, closes_percent: 0, ..story.fault_profile.get() });
        let homes = homes(0);
        let [old, new] = homes.each_ref().map(|home| format!("{home:?}"));
        for number in 0..8 {
            story.invite(PLAIN, vec![prompt(number, [WHOLE, STREAMED][number as usize % 2]), prompt(9, WHOLE)]);
            world.run_ms(between(0, 50));
        }
        // Some connections lie idle now, others are in use, one may be under way.
        world.run_ms(between(0, 500));
        story.house.moves(0, vec![homes[1].clone(), homes[0].clone()]);
        story.house.moves(0, vec![homes[1].clone()]);
        let before = story.ledger.look(|book| book.calls.len());
        world.run_ms(between(0, 500));
        for number in 10..18 {
            story.invite(PLAIN, vec![prompt(number % 10, WHOLE)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        world.run_ms(1000);
        story.ledger.look(|book| {
            assert_eq!(book.open.get(&old).copied().unwrap_or(0), 0, "the old server is let go");
            assert!(book.open.get(&new).is_some_and(|open| *open > 0), "the new one is kept");
            assert!(book.calls.len() > before);
        });
        story.end();
    });
}
