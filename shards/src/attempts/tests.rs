//! Tests of `attempts` against its invariants and its table.

use super::*;
use crate::random::{Random, each_seed};
use std::vec::Vec;

const RULES: Rules = Rules { retries: 2, backoff_ms: 25, backoff_max_ms: 2_000, hint_max_ms: 60_000 };

/// Whether moving on to another backend costs nothing.
fn is_free(fault: Fault) -> bool {
    matches!(again(fault), Again::Free | Again::Unsuited)
}

/// The expected entry for every fault that is not a status: any change of the table fails here.
const TABLE: [(Fault, Again); 21] = [
    (Fault::Connect, Again::Free),
    (Fault::Handshake, Again::Free),
    (Fault::Refused, Again::Free),
    (Fault::Closed, Again::Budgeted),
    (Fault::Garbage, Again::Budgeted),
    (Fault::Truncated, Again::Budgeted),
    (Fault::HeadTimeout, Again::Elsewhere),
    (Fault::FirstTimeout, Again::Elsewhere),
    (Fault::Quota, Again::Elsewhere),
    (Fault::FirstEvent(EventFault::Overloaded), Again::Budgeted),
    (Fault::FirstEvent(EventFault::RateLimited), Again::Budgeted),
    (Fault::FirstEvent(EventFault::Server), Again::Budgeted),
    (Fault::FirstEvent(EventFault::Client), Again::Never),
    (Fault::Untranslatable, Again::Unsuited),
    (Fault::ContextWindow, Again::OtherModel),
    (Fault::NoBackend, Again::OtherModel),
    (Fault::QueueFull, Again::OtherModel),
    (Fault::QueueTimeout, Again::OtherModel),
    (Fault::TooLate { retry_s: 1 }, Again::OtherModel),
    (Fault::Deadline, Again::OtherModel),
    (Fault::Cancelled, Again::Never),
];

#[test]
fn the_table() {
    for (fault, wanted) in TABLE {
        assert_eq!(again(fault), wanted, "{fault:?}");
    }
    let statuses =
        |wanted| -> Vec<u16> { (0..=u16::MAX).filter(|&code| again(Fault::Status(code)) == wanted).collect() };
    let budgeted = [408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529];
    assert_eq!(statuses(Again::Budgeted), budgeted);
    assert_eq!(statuses(Again::Unsuited), [401, 403, 404, 407]);
    assert_eq!(statuses(Again::OtherModel), []);
    assert_eq!(statuses(Again::Elsewhere), [402]);
    assert_eq!(statuses(Again::Free), []);
}

#[test]
fn unreached_backends_cost_nothing_while_others_are_untried() {
    let mut attempts = Attempts::new(Rules { retries: 0, ..RULES });
    let mut budget = Budget::new(0, 0);
    for _ in 0..10 {
        let step = attempts.next(Fault::Connect, None, Others::Untried, None, &mut budget, 7);
        assert_eq!(step, Step::Again { after_ms: 0 });
    }
    assert_eq!(attempts.next(Fault::Connect, None, Others::None, None, &mut budget, 7), Step::OtherModel);
}

#[test]
fn retries_are_counted_wait_longer_and_longer_and_are_paid_for() {
    let mut attempts = Attempts::new(RULES);
    let mut budget = Budget::new(0, 3);
    let mut next = |fault, others, budget: &mut Budget| attempts.next(fault, None, others, None, budget, u64::MAX);
    assert_eq!(next(Fault::Closed, Others::None, &mut budget), Step::Again { after_ms: 25 });
    assert_eq!(next(Fault::Status(503), Others::None, &mut budget), Step::Again { after_ms: 50 });
    assert_eq!(next(Fault::Closed, Others::Untried, &mut budget), Step::OtherModel, "two retries and no third");
    let mut attempts = Attempts::new(RULES);
    let step = attempts.next(Fault::Closed, None, Others::Untried, None, &mut budget, 0);
    assert_eq!(step, Step::Again { after_ms: 0 });
    let step = attempts.next(Fault::Closed, None, Others::Untried, None, &mut budget, 0);
    assert_eq!(step, Step::OtherModel, "the budget is exhausted");
}

#[test]
fn a_hint_is_a_least_wait_and_one_too_long_is_not_waited_for() {
    let mut budget = Budget::new(0, 9);
    let mut step = |hint_ms, others, left_ms| {
        Attempts::new(RULES).next(Fault::Status(429), hint_ms, others, left_ms, &mut budget, 0)
    };
    assert_eq!(step(Some(7_000), Others::None, Some(30_000)), Step::Again { after_ms: 7_000 });
    assert_eq!(step(Some(7_000), Others::Untried, Some(30_000)), Step::Again { after_ms: 0 });
    assert_eq!(step(Some(7_000), Others::None, Some(7_000)), Step::OtherModel);
    assert_eq!(step(Some(60_000), Others::None, None), Step::Again { after_ms: 60_000 });
    assert_eq!(step(Some(60_001), Others::None, None), Step::OtherModel);
    assert_eq!(step(Some(u64::MAX), Others::None, None), Step::OtherModel);
}

#[test]
fn waits_on_demand_share_one_patience() {
    let mut budget = Budget::new(0, 9);
    let mut attempts = Attempts::new(Rules { hint_max_ms: 2_000, ..RULES });
    let mut step = |hint_ms| attempts.next(Fault::Status(429), Some(hint_ms), Others::None, None, &mut budget, 0);
    assert_eq!(step(1_500), Step::Again { after_ms: 1_500 });
    assert_eq!(step(501), Step::OtherModel, "two seconds in total");
    // A hint bound shorter than the backoff applies, too.
    let mut attempts = Attempts::new(Rules { hint_max_ms: 0, ..RULES });
    assert_eq!(attempts.next(Fault::Status(429), Some(1), Others::None, None, &mut budget, 0), Step::OtherModel);
}

#[test]
fn what_hangs_or_has_no_quota_is_not_asked_twice() {
    let mut budget = Budget::new(0, 9);
    for fault in [Fault::HeadTimeout, Fault::FirstTimeout, Fault::Quota, Fault::Status(402)] {
        let mut step = |others| Attempts::new(RULES).next(fault, None, others, None, &mut budget, 0);
        assert_eq!(step(Others::None), Step::OtherModel, "{fault:?}");
        assert_eq!(step(Others::Untried), Step::Again { after_ms: 0 }, "{fault:?}");
    }
}

/// A request that was sent may have been processed, unless the backend says that it was not.
#[test]
fn only_what_was_certainly_not_acted_on_is_safe_to_repeat() {
    let acted = |fault| may_have_acted(fault);
    for fault in [Fault::Connect, Fault::Handshake, Fault::Refused, Fault::Status(429), Fault::Status(503)] {
        assert!(!acted(fault), "{fault:?}");
    }
    for fault in [Fault::Closed, Fault::HeadTimeout, Fault::Deadline, Fault::Truncated, Fault::Status(500)] {
        assert!(acted(fault), "{fault:?}");
    }
}

#[test]
fn nothing_is_begun_when_no_time_is_left() {
    let mut budget = Budget::new(0, 9);
    for fault in [Fault::Connect, Fault::Closed] {
        let step = Attempts::new(RULES).next(fault, None, Others::Untried, Some(0), &mut budget, 0);
        assert_eq!(step, Step::OtherModel, "{fault:?}");
    }
}

#[test]
fn waits_of_any_length_are_computed() {
    let rules = Rules { retries: 100, backoff_ms: u64::MAX, backoff_max_ms: u64::MAX, hint_max_ms: 0 };
    let (mut attempts, mut budget) = (Attempts::new(rules), Budget::new(0, 0));
    for _ in 0..100 {
        let step = attempts.next(Fault::Connect, None, Others::None, None, &mut budget, u64::MAX);
        assert_eq!(step, Step::Again { after_ms: u64::MAX });
    }
}

fn any_fault(random: &mut Random) -> Fault {
    if random.chance(40) {
        return Fault::Status(400 + random.below(200) as u16);
    }
    // Mostly retryable faults, so that long sequences are covered.
    let count = if random.chance(80) { 12 } else { TABLE.len() as u64 };
    TABLE[random.below(count) as usize].0
}

fn left_in(budget: &Budget) -> u32 {
    let mut budget = budget.clone();
    core::iter::from_fn(|| budget.withdraw().then_some(())).count() as u32
}

/// A request ends, after at most all backends once per retry and once at first; work done is charged exactly; a wait is
/// as long as required, no longer than allowed, and never beyond the request's time; it gives up early only for a
/// reason.
#[test]
fn a_request_keeps_to_its_rules_whatever_goes_wrong() {
    each_seed(2_000, |seed| {
        let mut random = Random::new(seed);
        let rules = Rules {
            retries: random.below(5) as u32,
            backoff_ms: random.below(100),
            backoff_max_ms: random.below(400),
            hint_max_ms: 400 + random.below(400),
        };
        let backends = 1 + random.below(4);
        let mut budget = Budget::new(0, random.below(6) as u32);
        let mut attempts = Attempts::new(rules);
        let (mut made, mut retries, mut untried, mut hinted_ms) = (1, 0, backends - 1, 0);
        loop {
            let fault = any_fault(&mut random);
            let hint_ms = random.chance(20).then(|| random.below(1_000));
            let left_ms = random.chance(20).then(|| random.below(500));
            let others = if untried > 0 { Others::Untried } else { Others::None };
            let before = left_in(&budget);
            let step = attempts.next(fault, hint_ms, others, left_ms, &mut budget, random.next());
            attempts.check();
            budget.check();
            let Step::Again { after_ms } = step else {
                assert_eq!(left_in(&budget), before, "charged without a retry");
                assert_eq!(step == Step::GiveUp, again(fault) == Again::Never);
                let elsewhere = again(fault) == Again::Elsewhere;
                let elsewhere = elsewhere || again(fault) == Again::Unsuited;
                let may_go_on =
                    matches!(again(fault), Again::Free | Again::Budgeted) || elsewhere && others == Others::Untried;
                let moves_free = is_free(fault) && others == Others::Untried;
                let reason = (!moves_free && retries == rules.retries)
                    || (!is_free(fault) && before == 0)
                    || hint_ms.is_some_and(|ms| hinted_ms + ms > rules.hint_max_ms && others == Others::None)
                    || left_ms.is_some();
                assert!(!may_go_on || reason, "{fault:?} ends the request needlessly");
                break;
            };
            made += 1;
            assert!(left_ms.is_none_or(|left_ms| after_ms < left_ms), "an attempt after the request's time");
            assert_eq!(before - left_in(&budget), u32::from(!is_free(fault)), "the charge");
            match others {
                Others::Untried => {
                    assert_eq!(after_ms, 0, "a wait for another backend");
                    retries += u32::from(!is_free(fault));
                    untried -= 1;
                }
                Others::None => {
                    let most = rules.backoff_ms.saturating_mul(1 << retries).min(rules.backoff_max_ms);
                    assert!(!matches!(again(fault), Again::Elsewhere | Again::Unsuited), "a retry at the same backend");
                    let hint_ms = hint_ms.unwrap_or(0);
                    hinted_ms += hint_ms;
                    assert!(hinted_ms <= rules.hint_max_ms);
                    assert!((hint_ms.max(most / 2)..=hint_ms.max(most)).contains(&after_ms), "{after_ms} ms");
                    retries += 1;
                    untried = backends - 1;
                }
            }
            assert!(retries <= rules.retries);
        }
        assert!(made <= (u64::from(rules.retries) + 1) * backends, "{made} attempts");
    });
}
