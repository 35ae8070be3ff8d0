//! Tests of `budget` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};

#[test]
fn what_goes_out_is_covered_by_what_came_in() {
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let (percent, reserve) = (random.below(250), random.below(20));
        let busy = random.below(101);
        let mut budget = Budget::new(percent as u32, reserve as u32);
        let (mut came, mut went) = (0, 0);
        // A ledger in hundredths.
        let mut saved = reserve * 100;
        for _ in 0..2_000 {
            if random.chance(busy) {
                budget.deposit();
                came += 1;
                saved = (saved + percent).min(reserve.max(1) * 100);
            } else {
                assert_eq!(budget.withdraw(), saved >= 100, "paid out if and only if covered");
                if saved >= 100 {
                    saved -= 100;
                    went += 1;
                }
            }
            assert!(went * 100 <= reserve * 100 + came * percent, "{went} of {came} at {percent} %");
            budget.check();
        }
    });
}

#[test]
fn one_in_five() {
    let mut budget = Budget::new(20, 0);
    let paid = (0..100).filter(|_| {
        budget.deposit();
        budget.withdraw()
    });
    assert_eq!(paid.count(), 20);
}

#[test]
fn a_quiet_day_does_not_pay_for_a_storm() {
    let mut budget = Budget::new(20, 10);
    (0..1_000_000).for_each(|_| budget.deposit());
    assert_eq!((0..1_000).filter(|_| budget.withdraw()).count(), 10, "the reserve, whatever was deposited");
}

#[test]
fn without_a_percentage_and_a_reserve_there_is_nothing() {
    let mut budget = Budget::new(0, 0);
    (0..1_000).for_each(|_| budget.deposit());
    assert!(!budget.withdraw());
    let mut most = Budget::new(u32::MAX, u32::MAX);
    most.deposit();
    assert!(most.withdraw());
    most.check();
}
