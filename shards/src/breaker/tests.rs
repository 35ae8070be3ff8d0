//! Single transitions, and random histories against the invariants.

use super::*;
use crate::random::{Random, each_seed};
use alloc::vec::Vec;

mod model;

const RULES: BreakerRules = BreakerRules {
    errors_in_row: 3,
    error_percent: 50,
    window_ms: 10_000,
    volume_min: 10,
    eject_ms: 1_000,
    eject_max_ms: 4_000,
    probes: 2,
    slow_start_ms: 2_000,
};

fn ask(breaker: &mut Breaker, outcome: Outcome, at: u64) -> Option<Change> {
    let pass = breaker.begin(Millis(at));
    breaker.end(pass, outcome, Millis(at))
}

#[test]
fn errors_in_a_row_take_it_out_and_good_probes_put_it_back() {
    let mut breaker = Breaker::new(RULES);
    assert_eq!(ask(&mut breaker, Outcome::Bad, 0), None);
    assert_eq!(ask(&mut breaker, Outcome::Bad, 0), None);
    assert_eq!(ask(&mut breaker, Outcome::Good, 0), None, "a success ends the sequence");
    assert_eq!(ask(&mut breaker, Outcome::Bad, 0), None);
    assert_eq!(ask(&mut breaker, Outcome::Neutral, 0), None, "a neutral outcome does not end it");
    assert_eq!(ask(&mut breaker, Outcome::Bad, 0), None);
    let change = ask(&mut breaker, Outcome::Bad, 0).expect("the third in a row");
    assert_eq!((change.from, change.to, change.reason), (State::Serving, State::Tripped, Reason::ErrorsInRow));
    assert_eq!((change.for_ms, breaker.gate(Millis(999))), (1_000, Gate::Shut));
    assert_eq!(breaker.gate(Millis(1_000)), Gate::Probe);
    let probe = breaker.begin(Millis(1_000));
    assert_eq!(probe, Pass::Probe);
    assert_eq!(breaker.gate(Millis(1_000)), Gate::Shut, "one probe at a time");
    assert_eq!(breaker.end(probe, Outcome::Good, Millis(1_100)), None);
    let change = ask(&mut breaker, Outcome::Good, 1_200).expect("the second good probe");
    assert_eq!((change.from, change.to, change.reason), (State::Probing, State::Serving, Reason::ProbesPassed));
    let shares: Vec<u32> = [1_200, 2_200, 3_199, 3_200].map(|at| breaker.share(Millis(at))).into();
    assert_eq!(shares, [26, 141, 255, 256]);
}

#[test]
fn each_failed_probe_doubles_the_time_and_a_whole_return_forgets() {
    let mut breaker = Breaker::new(RULES);
    let mut now = 0;
    for _ in 0..2 {
        assert_eq!(ask(&mut breaker, Outcome::Bad, now), None);
    }
    let mut lengths = Vec::from([ask(&mut breaker, Outcome::Bad, now).expect("tripped").for_ms]);
    for _ in 0..3 {
        now += lengths.last().copied().unwrap_or(0);
        let change = ask(&mut breaker, Outcome::Bad, now).expect("a failed probe");
        assert_eq!((change.from, change.reason), (State::Probing, Reason::ProbeFailed));
        lengths.push(change.for_ms);
    }
    assert_eq!(lengths, [1_000, 2_000, 4_000, 4_000]);
    now += 4_000;
    assert_eq!(ask(&mut breaker, Outcome::Neutral, now), None, "a neutral probe changes nothing");
    assert_eq!(ask(&mut breaker, Outcome::Good, now), None);
    assert!(ask(&mut breaker, Outcome::Good, now).is_some());
    now += 2_000;
    let changes: Vec<_> = (0..3).filter_map(|_| ask(&mut breaker, Outcome::Bad, now)).collect();
    assert_eq!(changes[0].for_ms, 1_000);
}

#[test]
fn a_share_of_errors_takes_it_out_too() {
    let mut breaker = Breaker::new(BreakerRules { errors_in_row: 100, ..RULES });
    let outcomes = [Outcome::Good, Outcome::Bad].into_iter().cycle();
    let changes: Vec<_> = outcomes.take(10).map(|outcome| ask(&mut breaker, outcome, 5)).collect();
    assert_eq!(changes.iter().flatten().count(), 1);
    assert_eq!(changes[9].expect("the tenth").reason, Reason::ErrorRatio);
    let mut quiet = Breaker::new(BreakerRules { errors_in_row: 100, ..RULES });
    for round in 0..100 {
        // Never ten within a window.
        assert_eq!(ask(&mut quiet, Outcome::Bad, round * 2_000).filter(|_| round < 99), None);
    }
}

#[test]
fn the_active_check_holds_it_down_whatever_the_time() {
    let mut breaker = Breaker::new(RULES);
    let change = breaker.checked(Check::Failed, Millis(0)).expect("a change");
    assert_eq!((change.to, change.reason), (State::Tripped, Reason::CheckFailed));
    assert_eq!(breaker.checked(Check::Failed, Millis(1)), None);
    assert_eq!(breaker.gate(Millis(1_000_000)), Gate::Shut);
    let change = breaker.checked(Check::Passed, Millis(1_000_000)).expect("a change");
    assert_eq!((change.from, change.to, change.reason), (State::Tripped, State::Serving, Reason::CheckPassed));
    assert_eq!((breaker.gate(Millis(1_000_000)), breaker.share(Millis(1_000_000))), (Gate::Open, 26));
}

#[test]
fn what_other_cores_found_holds_here() {
    let mut breaker = Breaker::new(RULES);
    let late = breaker.begin(Millis(0));
    breaker.elsewhere_tripped(500, 1, Millis(0));
    assert_eq!(breaker.end(late, Outcome::Bad, Millis(1)), None, "it was started before the ejection");
    assert_eq!((breaker.gate(Millis(499)), breaker.gate(Millis(500))), (Gate::Shut, Gate::Probe));
    let probe = breaker.begin(Millis(500));
    breaker.elsewhere_restored(2, Millis(501));
    assert_eq!(breaker.end(probe, Outcome::Bad, Millis(502)), None, "decided by another core");
    assert_eq!(breaker.gate(Millis(502)), Gate::Open);
}

/// A backend out of service gets one probe at a time and nothing else; once it is healthy and time passes, it serves.
#[test]
fn a_random_life_keeps_the_laws() {
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let mut breaker = Breaker::new(BreakerRules {
            errors_in_row: 1 + random.below(5) as u32,
            error_percent: random.below(100) as u32,
            probes: 1 + random.below(3) as u32,
            slow_start_ms: random.below(3_000),
            ..RULES
        });
        let mut now = 0;
        let (mut out, mut probes_out) = (Vec::new(), 0);
        for _ in 0..2_000 {
            now += random.below(200);
            match random.below(12) {
                0..5 => {
                    let gate = breaker.gate(Millis(now));
                    if gate != Gate::Shut {
                        let pass = breaker.begin(Millis(now));
                        assert_eq!(pass == Pass::Probe, gate == Gate::Probe);
                        probes_out += u32::from(pass == Pass::Probe);
                        out.push(pass);
                    }
                }
                5..10 if !out.is_empty() => {
                    let pass = out.swap_remove(random.below(out.len() as u64) as usize);
                    probes_out -= u32::from(pass == Pass::Probe);
                    let outcome = [Outcome::Good, Outcome::Bad, Outcome::Bad, Outcome::Neutral];
                    let _ = breaker.end(pass, outcome[random.below(4) as usize], Millis(now));
                }
                10 => match random.below(4) {
                    0 => {
                        let _ = breaker.checked(Check::Failed, Millis(now));
                    }
                    1 => {
                        let _ = breaker.checked(Check::Passed, Millis(now));
                    }
                    2 => breaker.elsewhere_tripped(random.below(2_000), random.below(200), Millis(now)),
                    _ => breaker.elsewhere_restored(random.below(200), Millis(now)),
                },
                _ => {}
            }
            breaker.check();
            assert!(probes_out <= 1, "{probes_out} probes out");
        }
        for pass in out {
            let _ = breaker.end(pass, Outcome::Good, Millis(now));
        }
        let _ = breaker.checked(Check::Passed, Millis(now));
        for _ in 0..100 {
            now += 200;
            if breaker.gate(Millis(now)) != Gate::Shut {
                let pass = breaker.begin(Millis(now));
                let _ = breaker.end(pass, Outcome::Good, Millis(now));
            }
        }
        assert_eq!((breaker.gate(Millis(now)), breaker.state()), (Gate::Open, State::Serving), "it serves again");
    });
}

#[test]
fn requests_from_before_an_ejection_do_not_count_after_the_return() {
    let mut breaker = Breaker::new(BreakerRules { probes: 1, ..RULES });
    // A hanging backend: many requests wait, the first three time out, it recovers, and then the others time out.
    let mut hung: Vec<Pass> = (0..10).map(|_| breaker.begin(Millis(0))).collect();
    let changes: Vec<_> = hung.drain(..3).filter_map(|pass| breaker.end(pass, Outcome::Bad, Millis(100))).collect();
    assert_eq!(changes.len(), 1);
    assert!(ask(&mut breaker, Outcome::Good, 1_100).is_some(), "recovered");
    for pass in hung {
        assert_eq!(breaker.end(pass, Outcome::Bad, Millis(1_200)), None);
    }
    assert_eq!(breaker.gate(Millis(1_200)), Gate::Open);
}

#[test]
fn an_answer_that_breaks_off_speaks_of_the_term_it_was_begun_in() {
    let mut breaker = Breaker::new(BreakerRules { errors_in_row: 1, probes: 1, ..RULES });
    let old = breaker.begin(Millis(0));
    let old_term = old.term().expect("in service");
    assert_eq!(breaker.end(old, Outcome::Good, Millis(1)), None);
    assert!(ask(&mut breaker, Outcome::Bad, 2).is_some());
    assert_eq!(breaker.broke_off(old_term, Outcome::Bad, Millis(3)), None, "ejected already");
    let probe = breaker.begin(Millis(1_002));
    assert_eq!(probe.term(), None);
    assert!(breaker.end(probe, Outcome::Good, Millis(1_003)).is_some(), "recovered");
    let term = breaker.term();
    assert_eq!(breaker.broke_off(old_term, Outcome::Bad, Millis(1_004)), None, "from before its return");
    assert_eq!(breaker.gate(Millis(1_004)), Gate::Open);
    let change = breaker.broke_off(term, Outcome::Bad, Millis(1_005)).expect("the probe's own answer");
    assert_eq!((change.from, change.reason), (State::Serving, Reason::ErrorsInRow));
}

#[test]
fn while_the_active_check_holds_it_down_requests_change_nothing() {
    let mut breaker = Breaker::new(BreakerRules { errors_in_row: 1, probes: 1, ..RULES });
    assert!(ask(&mut breaker, Outcome::Bad, 0).is_some());
    let probe = breaker.begin(Millis(1_000));
    assert_eq!(breaker.checked(Check::Failed, Millis(1_001)), None, "out already");
    assert_eq!(breaker.end(probe, Outcome::Good, Millis(1_002)), None, "the active check takes precedence");
    assert_eq!(breaker.checked(Check::Passed, Millis(1_003)), None, "requests took it out, probes put it back");
    assert_eq!(breaker.gate(Millis(1_003)), Gate::Probe);
    let change = ask(&mut breaker, Outcome::Good, 1_004).expect("recovered");
    assert_eq!((change.from, change.to), (State::Probing, State::Serving));
    // In panic mode it is asked anyway; the outcome causes no change, before or after the check passes.
    assert!(breaker.checked(Check::Failed, Millis(1_005)).is_some());
    let (one, other) = (breaker.begin(Millis(1_006)), breaker.begin(Millis(1_006)));
    assert_eq!(breaker.end(one, Outcome::Bad, Millis(1_007)), None);
    assert!(breaker.checked(Check::Passed, Millis(1_008)).is_some());
    assert_eq!(breaker.end(other, Outcome::Bad, Millis(1_009)), None);
    assert_eq!(breaker.state(), State::Serving);
}

#[test]
fn the_doubling_goes_on_from_what_other_cores_found() {
    let mut breaker = Breaker::new(RULES);
    breaker.elsewhere_tripped(2_000, 1, Millis(0));
    let change = ask(&mut breaker, Outcome::Bad, 2_000).expect("a failed probe");
    assert_eq!(change.for_ms, 4_000);
    breaker.elsewhere_restored(3, Millis(3_000));
    // Fully recovered: the doubling starts over on every core.
    breaker.elsewhere_tripped(1_000, 4, Millis(5_000));
    assert_eq!(ask(&mut breaker, Outcome::Bad, 6_000).expect("a failed probe").for_ms, 2_000);
}

/// Sends a change to `there`.
fn tell(there: &mut Breaker, change: Change, at: u64) {
    match change.to {
        State::Serving => there.elsewhere_restored(change.epoch, Millis(at)),
        State::Tripped | State::Probing => there.elsewhere_tripped(change.for_ms, change.epoch, Millis(at)),
    }
}

#[test]
fn a_trip_and_a_return_that_cross_leave_both_cores_agreed() {
    let rules = BreakerRules { errors_in_row: 1, probes: 1, ..RULES };
    // Both trip at once, with delayed messages. One's probe succeeds, the other's fails, and these messages cross too.
    let (mut one, mut other) = (Breaker::new(rules), Breaker::new(rules));
    let trips = [&mut one, &mut other].map(|breaker| ask(breaker, Outcome::Bad, 0).expect("tripped"));
    let back = ask(&mut one, Outcome::Good, 1_000).expect("recovered");
    tell(&mut one, trips[1], 1_001);
    assert_eq!(one.state(), State::Serving, "an older epoch");
    let still = ask(&mut other, Outcome::Bad, 1_000).expect("not recovered");
    tell(&mut other, trips[0], 1_001);
    assert_eq!(back.epoch, still.epoch);
    tell(&mut other, back, 1_002);
    tell(&mut one, still, 1_002);
    assert_eq!([one.state(), other.state()], [State::Tripped; 2], "same epoch: the trip, which a probe corrects");
    // A return, and a trip on a core that knows neither of it nor of anything since the first trip.
    let mut third = Breaker::new(rules);
    let again = ask(&mut one, Outcome::Good, 3_002).expect("recovered");
    let early = ask(&mut third, Outcome::Bad, 3_002).expect("tripped");
    tell(&mut one, early, 3_003);
    tell(&mut third, again, 3_003);
    assert_eq!([one.state(), third.state()], [State::Serving; 2], "its epoch is outdated");
}

/// Cores that have exchanged all messages agree, in whatever order these crossed.
#[test]
fn cores_agree_once_every_letter_has_come() {
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let rules = BreakerRules { errors_in_row: 1, probes: 1, error_percent: 0, eject_ms: 10, ..RULES };
        let mut cores: Vec<Breaker> = (0..2 + random.below(3)).map(|_| Breaker::new(rules)).collect();
        let count = cores.len();
        // In order between two cores, in any order between others.
        let mut channel = alloc::vec![alloc::collections::VecDeque::new(); count * count];
        let mut now = 0;
        for round in 0..400 {
            let is_quiet = round % 20 >= 15;
            now += random.below(30);
            let at = random.below(count as u64) as usize;
            let outcome = if random.chance(50) { Outcome::Good } else { Outcome::Bad };
            if !is_quiet
                && cores[at].gate(Millis(now)) != Gate::Shut
                && let Some(change) = ask(&mut cores[at], outcome, now)
            {
                (0..count).filter(|&to| to != at).for_each(|to| channel[at * count + to].push_back(change));
            }
            let line = random.below(channel.len() as u64) as usize;
            if let Some(change) = channel[line].pop_front() {
                tell(&mut cores[line % count], change, now);
            }
            if round % 20 == 19 {
                while let Some(line) = (0..channel.len()).find(|&line| !channel[line].is_empty()) {
                    let change = channel[line].pop_front().expect("a non-empty queue");
                    tell(&mut cores[line % count], change, now);
                }
                let known = cores[0].state() == State::Serving;
                assert!(cores.iter().all(|core| (core.state() == State::Serving) == known), "they agree");
            }
            cores.iter().for_each(Breaker::check);
        }
    });
}
