//! Laws of limits over many cores: what is spent in any period, what is reached of a limit, and that nothing is lost.

mod nodes;
mod world;

use std::vec::Vec;

use super::*;
use crate::random::{Random, each_seed};
use world::{Traffic, World};

const LIMIT: Cost = Cost { id: LimitId(7), period: Period::Minute, what: 0, limit: 0, need: 1 };

/// Any 60 seconds see the limit at most, whatever the cores, the traffic and the messages; and at least 95 % of it is reached.
#[test]
fn no_minute_sees_more_than_the_limit_and_most_of_it_can_be_used() {
    for (cores, limits) in
        [(1, &[1, 6_000][..]), (2, &[3, 600]), (3, &[1, 10, 600]), (12, &[1, 10, 60, 6_000]), (128, &[3, 1_000])]
    {
        for traffic in Traffic::ALL {
            for &limit in limits {
                let mut world = World::new(cores, u64::from(cores) * 100 + limit);
                let cost = Cost { limit, ..LIMIT };
                let per_second = (limit / 6).max(20);
                world.flood(cost, traffic, per_second, 190);
                world.no_window_beyond(60_000, limit);
                let first: u64 = world.spent_between(0, 62_000);
                let all: u64 = world.spent_between(0, 186_000);
                let what = std::format!("{cores} cores, {traffic:?}, limit {limit}: {first} then {all}");
                assert!(first * 100 >= limit * 95, "{what}");
                assert!(all * 100 >= 3 * limit * 95, "{what}");
            }
        }
    }
}

/// Requests of many sizes that use less or more than they reserved, some at once and some much later: what the ledger counts in
/// the end is what was used.
#[test]
fn what_was_reserved_is_settled_or_free() {
    each_seed(20, |seed| {
        let mut random = Random::new(seed);
        let cores = 1 + random.below(16) as u16;
        let mut world = World::new(cores, seed);
        let period = if random.chance(50) { Period::Day } else { Period::Minute };
        let cost = Cost { period, limit: 1_000 + random.below(50_000), ..LIMIT };
        world.requests(cost, 45_000);
        let used = world.used();
        world.rest();
        let now = world.now();
        assert_eq!(world.ledger(cost.id).counted(now), used, "no token is lost, none is counted twice");
    });
}

/// Another process goes on with what one has counted as if it had counted itself.
#[test]
fn a_ledger_that_passes_over_grants_what_it_would_have_granted() {
    each_seed(40, |seed| {
        let mut random = Random::new(seed);
        let period = [Period::Minute, Period::Day][random.below(2) as usize];
        let limit = 1 + random.below(300);
        let (mut one, mut other) = (Ledger::new(period), None);
        let mut now = Now { mono: Millis(200_000), unix_ms: 1_700_000_000_000 };
        for step in 0..600 {
            let passed_ms = random.below(2_000);
            now = Now { mono: now.mono.after(passed_ms), unix_ms: now.unix_ms + passed_ms };
            let ask = Ask { period, limit, need: random.below(5), want: random.below(10) };
            let grant = one.grant(ask, 4, now);
            let unspent =
                if random.chance(30) { std::vec![(grant.slot, random.below(grant.amount + 1))] } else { Vec::new() };
            let returned = Returned { unspent, overspent: if random.chance(5) { random.below(20) } else { 0 } };
            one.settle(&returned, now);
            if let Some(other) = &mut other {
                assert_eq!(Ledger::grant(other, ask, 4, now), grant);
                other.settle(&returned, now);
            }
            if step == 300 {
                let mut next = Ledger::new(period);
                one.counts().for_each(|(slot, amount)| next.add(slot, amount));
                other = Some(next);
            }
        }
        one.check();
    });
}

/// Overuse is the only way beyond a limit, and by no more than what running requests use beyond what they reserved.
#[test]
fn beyond_the_limit_is_only_what_nobody_reserved() {
    each_seed(20, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new(1 + random.below(16) as u16, seed);
        let cost = Cost { limit: 1_000 + random.below(50_000), ..LIMIT };
        world.requests(cost, 100_000);
        let over = world.most_overused(60_000);
        world.no_window_beyond(60_000, cost.limit + over);
    });
}

/// The clock of the calendar is set forwards and backwards: no day sees more than its limit, and what was left of one that comes
/// again is there.
#[test]
fn a_clock_that_is_set_frees_nothing_and_loses_nothing() {
    each_seed(20, |seed| {
        let mut random = Random::new(seed);
        let period = [Period::Day, Period::Week, Period::Month][random.below(3) as usize];
        let cost = Cost { period, limit: 10 + random.below(3_000), ..LIMIT };
        let mut world = World::new(1 + random.below(16) as u16, seed);
        let mut days = Vec::new();
        for _ in 0..6 {
            let day = 20_000 + random.below(4) * 31;
            world.set_clock(day * 86_400_000 + random.below(80_000_000));
            world.flood(cost, Traffic::Spread, cost.limit, 4);
            days.push(period.slot(world.now()));
        }
        for day in days {
            let spent = world.spent_in(day);
            assert!(spent <= cost.limit, "{spent} of {}", cost.limit);
            assert!(spent * 100 >= cost.limit * 95, "{spent} of {}", cost.limit);
        }
    });
}

/// All of a request's limits, or none.
#[test]
fn a_refused_request_takes_nothing() {
    let now = Now { mono: Millis(5), unix_ms: 5 };
    let (mut leases, mut asks, mut taken) = (Leases::default(), Vec::new(), Vec::new());
    let mut ledgers = [Ledger::new(Period::Minute), Ledger::new(Period::Day)];
    let costs =
        [Cost { id: LimitId(0), limit: 100, ..LIMIT }, Cost { id: LimitId(1), period: Period::Day, limit: 3, ..LIMIT }];
    let mut admitted = 0;
    for _ in 0..10 {
        let result = loop {
            let result = leases.admit(costs.into_iter(), now, &mut taken, &mut asks);
            for (id, ask) in asks.drain(..) {
                leases.granted(id, ledgers[id.0 as usize].grant(ask, 1, now), now);
            }
            if result != Admitted::Wait {
                break result;
            }
        };
        match result {
            Admitted::Yes => admitted += 1,
            other => assert_eq!(other, Admitted::No { place: 1, in_ms: Some(86_400_000 - 5) }, "until midnight"),
        }
    }
    assert_eq!((admitted, taken.len()), (3, 6));
    assert_eq!(leases.remaining(LimitId(0), 100), 97);
    assert_eq!(leases.remaining(LimitId(1), 3), 0);
    let much = [Cost { limit: 5, need: 6, ..costs[0] }];
    assert_eq!(leases.admit(much.into_iter(), now, &mut taken, &mut asks), Admitted::No { place: 0, in_ms: None });
    let nothing = [Cost { need: 0, ..costs[1] }];
    assert_eq!(leases.admit(nothing.into_iter(), now, &mut taken, &mut asks), Admitted::Yes, "what is free of charge");
}

#[test]
fn it_is_said_when_there_will_be_room() {
    let mut ledger = Ledger::new(Period::Minute);
    let at = |ms| Now { mono: Millis(ms), unix_ms: 0 };
    let ask = |need| Ask { period: Period::Minute, limit: 10, need, want: need };
    assert_eq!(ledger.grant(ask(6), 1, at(1_500)).amount, 6);
    assert_eq!(ledger.grant(ask(4), 1, at(7_999)).amount, 4);
    assert_eq!(ledger.grant(ask(6), 1, at(30_000)).short, Some((6, 33_000)), "with second 1");
    assert_eq!(ledger.grant(ask(7), 1, at(30_000)).short, Some((7, 39_000)), "with second 7, too");
    assert_eq!(ledger.grant(ask(6), 1, at(62_999)).amount, 0);
    assert_eq!(ledger.grant(ask(6), 1, at(63_000)).amount, 6);
}

#[test]
fn a_changed_limit_holds_from_then_on() {
    let now = Now { mono: Millis(5), unix_ms: 5 };
    let mut ledger = Ledger::new(Period::Minute);
    let mut lease = Lease::new(Period::Minute, 1);
    let mut admitted = |limit: u64| loop {
        match lease.look(1, limit, now) {
            Look::There(slot) => {
                lease.take(slot, 1);
                return true;
            }
            Look::Ask(ask) => lease.granted(ledger.grant(ask, 4, now), now),
            Look::Short { .. } => return false,
            other => panic!("{other:?}"),
        }
    };
    assert!(admitted(1));
    assert!(!admitted(1));
    assert!(admitted(2), "a larger one at once");
    assert!(!admitted(2));
}

/// An answer that is lost is asked for again.
#[test]
fn a_lost_answer_is_asked_for_again() {
    let at = |ms| Now { mono: Millis(ms), unix_ms: 0 };
    let mut lease = Lease::new(Period::Minute, 100);
    assert!(matches!(lease.look(1, 100, at(0)), Look::Ask(_)));
    assert_eq!(lease.look(2, 100, at(999)), Look::Wait);
    assert!(matches!(lease.look(1, 100, at(1_000)), Look::Ask(Ask { need: 1, want: 2, .. })), "for all that wait");
}

/// Whoever asked has forgotten the limit by then: nothing is lost all the same.
#[test]
fn an_answer_that_comes_too_late_goes_back() {
    let at = |ms| Now { mono: Millis(ms), unix_ms: 0 };
    let cost = Cost { period: Period::Day, limit: 10, ..LIMIT };
    let (mut leases, mut asks, mut taken) = (Leases::default(), Vec::new(), Vec::new());
    assert_eq!(leases.admit([cost].into_iter(), at(0), &mut taken, &mut asks), Admitted::Wait);
    let mut ledger = Ledger::new(Period::Day);
    let grant = ledger.grant(asks[0].1, 1, at(500));
    let mut back = Vec::new();
    for second in 1..8 {
        for part in 0..PARTS {
            leases.sweep(part, at(second * 1_000), |_, _, returned| back.push(returned));
        }
        if second == 4 {
            leases.granted(cost.id, grant, at(4_500));
        }
    }
    assert_eq!((leases.left(cost.id), back.len()), (0, 1));
    ledger.settle(&back[0], at(9_000));
    assert_eq!(ledger.counted(at(9_000)), 0);
}

/// An answer says what is left when it comes, which may be long after its request was admitted.
#[test]
fn what_is_left_is_known_for_as_long_as_answers_take() {
    let at = |ms| Now { mono: Millis(ms), unix_ms: ms };
    let cost = Cost { period: Period::Minute, limit: 10, need: 1, ..LIMIT };
    let (mut leases, mut asks, mut taken) = (Leases::default(), Vec::new(), Vec::new());
    let mut ledger = Ledger::new(Period::Minute);
    assert_eq!(leases.admit([cost].into_iter(), at(0), &mut taken, &mut asks), Admitted::Wait);
    leases.granted(cost.id, ledger.grant(asks[0].1, 2, at(0)), at(0));
    assert_eq!(leases.admit([cost].into_iter(), at(0), &mut taken, &mut asks), Admitted::Yes);
    for second in 0..30 {
        assert_eq!(leases.remaining(cost.id, 10), 9, "after {second} s");
        (0..PARTS).for_each(|part| leases.sweep(part, at(second * 1_000), |_, _, _| {}));
    }
    // Nobody has to know it for ever.
    (0..PARTS).for_each(|part| leases.sweep(part, at(90_000), |_, _, _| {}));
    assert_eq!(leases.remaining(cost.id, 10), 10);
}

#[test]
fn estimates_follow_what_is_counted() {
    let mut estimate = Estimate::new();
    assert_eq!((estimate.prompt(0), estimate.prompt(1), estimate.prompt(400)), (0, 1, 100));
    assert_eq!(estimate.answer(), 512);
    for _ in 0..200 {
        estimate.note_prompt(3_000, 1_000);
        estimate.note_answer(40);
    }
    assert!(estimate.prompt(3_000).abs_diff(1_000) <= 10, "{}", estimate.prompt(3_000));
    assert!(estimate.answer().abs_diff(40) <= 1, "{}", estimate.answer());
    for _ in 0..200 {
        estimate.note_prompt(u64::MAX, 1);
        estimate.note_answer(u64::MAX);
    }
    assert!(estimate.prompt(8_000) >= 1_000, "no prompt makes all others free");
    estimate.prompt(u64::MAX);
}
