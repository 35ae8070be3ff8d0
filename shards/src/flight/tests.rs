//! Tests of `flight` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};
use std::collections::HashMap;

const A: Fingerprint = Fingerprint([1; 32]);
const NOW: Millis = Millis(0);

#[test]
fn one_leads_and_others_follow() {
    let mut flights = Flights::new(8);
    assert_eq!(flights.join(&A, CoreId(3), NOW), Joined::Lead { number: 1 });
    assert_eq!(flights.join(&A, CoreId(4), NOW), Joined::Follow { leader: CoreId(3), number: 1 });
    assert!(flights.finish(&A, 1));
    assert!(!flights.finish(&A, 1), "a number ends once");
    assert_eq!(flights.join(&A, CoreId(4), NOW), Joined::Lead { number: 2 });
    assert!(!flights.finish(&A, 1), "an old number does not end the new flight");
    assert_eq!(flights.number(&A), Some(2));
}

#[test]
fn the_first_that_gives_up_leads_the_rest() {
    let mut flights = Flights::new(8);
    flights.join(&A, CoreId(0), NOW);
    assert_eq!(flights.take_over(&A, 1, CoreId(1), NOW), Joined::Lead { number: 2 });
    assert_eq!(flights.take_over(&A, 1, CoreId(2), NOW), Joined::Follow { leader: CoreId(1), number: 2 });
}

#[test]
fn a_bound_of_zero_sends_everyone_alone() {
    assert_eq!(Flights::new(0).join(&A, CoreId(0), NOW), Joined::Full);
}

#[test]
fn agrees_with_a_plain_map() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let bound = random.below(7) as usize;
        let mut flights = Flights::new(bound);
        let mut model: HashMap<Fingerprint, (CoreId, u64, Millis)> = HashMap::new();
        let mut now = Millis(0);
        let mut last_number = 0u64;
        for _ in 0..400 {
            now = now.after(random.below(5));
            let fingerprint = Fingerprint([random.below(8) as u8; 32]);
            let core = CoreId(random.below(4) as u16);
            let number = last_number.saturating_sub(random.below(4));
            let known = model.get(&fingerprint).copied();
            let join = |model: &mut HashMap<_, _>, last_number: &mut u64| match model.get(&fingerprint) {
                Some(&(leader, number, _)) => Joined::Follow { leader, number },
                None if model.len() >= bound => Joined::Full,
                None => {
                    *last_number += 1;
                    model.insert(fingerprint, (core, *last_number, now));
                    Joined::Lead { number: *last_number }
                }
            };
            let flies = known.is_some_and(|(_, flying, _)| flying == number);
            match random.below(20) {
                0..10 => assert_eq!(flights.join(&fingerprint, core, now), join(&mut model, &mut last_number)),
                10..15 => {
                    assert_eq!(flights.finish(&fingerprint, number), flies);
                    model.retain(|_, flight| flight.1 != number || !flies);
                }
                15..18 => {
                    model.retain(|_, flight| flight.1 != number || !flies);
                    let expected = join(&mut model, &mut last_number);
                    assert_eq!(flights.take_over(&fingerprint, number, core, now), expected);
                }
                18 => assert_eq!(flights.abandon(&fingerprint), model.remove(&fingerprint).is_some()),
                _ => {
                    let before = model.len();
                    model.retain(|_, flight| now.since(flight.2) <= 20);
                    assert_eq!(flights.sweep(now, 20) as usize, before - model.len());
                }
            }
            assert_eq!(flights.len(), model.len());
            for (fingerprint, flight) in &model {
                assert_eq!(flights.number(fingerprint), Some(flight.1));
            }
            flights.check();
        }
    });
}
