//! Stories of many who ask the same at one time, in both forms and on all cores: how many calls that makes, and that nobody
//! gets what is older than what others got.

use ringway::net::sim::{Place, between};

use crate::backend::{Act, FaultProfile, Frame, When};
use crate::client::{Habit, PLAIN, Wish};
use crate::house::Setup;
use crate::ledger::Outcome;
use crate::prompt::Form;
use crate::scenario::pick;
use crate::scenes::{CROWD, NODE, STREAMED, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::Story;

#[test]
fn an_answer_that_is_not_kept_serves_a_crowd_of_both_forms() {
    each_seed(20, |world, seed| {
        let setup = Setup { cores: 1 + seed as usize % 4, total_ms: 10_000, gap_ms: 10_000, retries: 0, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        // Everybody has come by the time it begins.
        let short = Act::Short { frame: Frame::Chunked };
        story.fault_profile.set(FaultProfile { pause_ms: 5000, only: Some(short), ..story.fault_profile.get() });
        for _ in 0..50 {
            let form = [WHOLE, STREAMED, Form::Streaming { usage: true }][between(0, 2) as usize];
            story.invite(PLAIN, vec![prompt(4, form)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(|outcome| matches!(outcome, Outcome::Relayed { .. })));
        story.calm();
        assert_eq!(story.end().calls, 1, "SEED={seed}");
    });
}

#[test]
fn what_fails_in_one_form_is_not_asked_for_once_for_each_of_the_other() {
    for act in [Act::NoJson, Act::LongLength, Act::Status(500), Act::Leave(When::InBody), Act::Reset(When::InBody)] {
        each_seed(8, |world, seed| {
            let setup = Setup { cores: 1 + seed as usize % 4, total_ms: 10_000, gap_ms: 10_000, retries: 0, ..NODE };
            let mut story = Story::begin(world, Setup { eject_errors: 1000, ..setup }, CROWD);
            story.fault_profile.set(FaultProfile { pause_ms: 5000, only: Some(act), ..story.fault_profile.get() });
            for _ in 0..50 {
                let form = [WHOLE, STREAMED][between(0, 1) as usize];
                story.invite(PLAIN, vec![prompt(4, form)]);
            }
            story.finish_clients();
            story.calm();
            // Three calls for all, and three for those of each form, where one that broke off may be tried again.
            let calls = story.end().calls;
            assert!(calls <= 9, "SEED={seed}: {calls} calls of {act:?}");
        });
    }
}

/// The clients check every byte: none is lost, doubled or another's.
#[test]
fn connections_that_move_between_cores_lose_nothing() {
    each_seed(40, |world, seed| {
        let setup = Setup { cores: 2 + seed as usize % 3, gives: true, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        for _ in 0..12 {
            let habit =
                Habit { pipelined: 1 + seed as usize % 3, pieces: pick(&[1, 3]), rest_ms: pick(&[0, 20]), ..PLAIN };
            story.invite(habit, (0..20).map(|_| prompt(between(1, 5), pick(&[WHOLE, STREAMED]))).collect());
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(|outcome| is_answer(outcome)), "SEED={seed}");
        let outline = story.end();
        assert!(outline.rare.moved > 0, "SEED={seed}: {} moves", outline.rare.moved);
    });
}

#[test]
fn no_core_serves_what_was_replaced() {
    each_seed(30, |world, seed| {
        let setup = Setup { cores: 2 + seed as usize % 3, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        let calls = |story: &Story<'_>| {
            outcomes(story).into_iter().map(|outcome| match outcome {
                Outcome::Answer { call } => call,
                other => panic!("SEED={seed}: {other:?}"),
            })
        };
        for round in 0..4 {
            for _ in 0..12 {
                let form = [WHOLE, STREAMED][between(0, 1) as usize];
                story.invite(PLAIN, vec![prompt(1, form)]);
            }
            story.finish_clients();
            let got: Vec<usize> = calls(&story).skip(13 * round).collect();
            assert!(got.iter().all(|call| *call == round), "SEED={seed}, round {round}: {got:?}");
            let form = [WHOLE, STREAMED][between(0, 1) as usize];
            story.invite(PLAIN, vec![Wish { directive: Some("no-cache"), ..prompt(1, form) }]);
            story.finish_clients();
            world.run_ms(50); // the owner hears of it
        }
        story.end();
    });
}

#[test]
fn a_crowd_that_comes_too_late_for_a_long_answer_makes_one_call_more() {
    let setup = Setup { max_entry_bytes: 4 << 10, total_ms: 60_000, gap_ms: 10_000, follow_ms: 20_000, ..NODE };
    each_seed(6, |world, seed| {
        let mut story = Story::begin(world, setup.clone(), CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 2000, pause_ms: 5000, ..story.fault_profile.get() });
        for _ in 0..6 {
            story.invite(PLAIN, vec![prompt(8, STREAMED)]);
        }
        // Its answer has outgrown what is kept, on every core that reads it, and goes on for long.
        world.run_ms(20_000);
        for _ in 0..40 {
            story.invite(PLAIN, vec![prompt(8, STREAMED)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        assert_eq!(story.end().calls, 2, "SEED={seed}");
    });
}

#[test]
fn a_crowd_whose_owner_stands_still_makes_one_call_a_core() {
    each_seed(10, |world, seed| {
        let setup = Setup { follow_ms: 5000, total_ms: 60_000, gap_ms: 20_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { pause_ms: 3000, ..story.fault_profile.get() });
        let owner = seed as usize % 3;
        world.pause(Place::Core(owner));
        for number in 0..10 {
            for _ in 0..10 {
                story.invite(PLAIN, vec![prompt(number, STREAMED)]);
            }
        }
        world.run_ms(60_000);
        story.calm();
        let calls = story.end().calls;
        // By the two that run, and by the one that goes on then.
        assert!(calls <= 30, "SEED={seed}: {calls} calls for ten prompts");
    });
}

#[test]
fn a_crowd_that_asks_after_a_purge_makes_one_call_and_gets_nothing_older() {
    each_seed(40, |world, seed| {
        let setup = Setup { cores: 1 + seed as usize % 4, total_ms: 10_000, gap_ms: 10_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { pause_ms: 2000, ..story.fault_profile.get() });
        // Calls are in the air, or just about to be, each time it is purged.
        for _ in 0..4 {
            for _ in 0..12 {
                story.invite(PLAIN, vec![prompt(1, [WHOLE, STREAMED][between(0, 1) as usize])]);
            }
            world.run_ms(between(0, 3));
            story.purge();
        }
        for _ in 0..12 {
            story.invite(PLAIN, vec![prompt(1, WHOLE)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "SEED={seed}: {:?}", outcomes(&story));
        // What came last is kept: it is asked for by nobody any more.
        let calls = story.ledger.look(|book| book.calls.len());
        story.invite(PLAIN, vec![prompt(1, WHOLE)]);
        story.finish_clients();
        assert_eq!(story.end().calls, calls, "SEED={seed}");
    });
}
