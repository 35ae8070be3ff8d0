//! Tests of `queue` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};

/// Everybody's: the queue is one of arrival then. `fair` has tests of its own.
const WHO: Who = Who { priority: 5, tenant: 7, weight: 1 };
const NOW: Millis = Millis(1);

/// Waiters, granted but unclaimed permits, and claimed permits, in a naive form.
struct Model {
    permits: u32,
    waiting: Vec<(Place, u64)>,
    woken: Vec<Place>,
    running: u32,
}

impl Model {
    fn free(&self) -> bool {
        self.running + (self.woken.len() as u32) < self.permits
    }

    /// One permit became free; `next` is the waiter to wake.
    fn passes_on(&mut self, next: Option<u64>) {
        let first = if self.free() && !self.waiting.is_empty() { Some(self.waiting.remove(0)) } else { None };
        assert_eq!(next, first.map(|(_, name)| name), "the first in the queue, and no other");
        self.woken.extend(first.map(|(place, _)| place));
    }
}

/// First come, first served among those that stay; no permit is lost or given out twice, and no waiter waits while one
/// is free.
#[test]
fn permits_are_granted_in_order_and_none_is_lost() {
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let (permits, places) = (1 + random.below(5) as u32, random.below(6) as u32);
        let mut queue: Queue<u64> = Queue::new(permits, places);
        let mut model = Model { permits, waiting: Vec::new(), woken: Vec::new(), running: 0 };
        let mut past: Vec<Place> = Vec::new();
        let mut name = 0;
        for _ in 0..2_000 {
            let pick = |random: &mut Random, count: usize| random.below(count as u64) as usize;
            match random.below(10) {
                0..4 => {
                    let expected =
                        match (model.waiting.is_empty() && model.free(), model.waiting.len() < places as usize) {
                            (true, _) => Enter::Go,
                            (false, true) => Enter::Wait,
                            (false, false) => Enter::Full,
                        };
                    assert_eq!(queue.enter(WHO), expected);
                    name += 1;
                    match expected {
                        Enter::Go => model.running += 1,
                        Enter::Wait => model.waiting.push((queue.wait(WHO, name, NOW).0, name)),
                        Enter::Full => {}
                    }
                }
                4 | 5 if model.running > 0 => {
                    model.running -= 1;
                    model.passes_on(queue.leave(NOW));
                }
                6 if !model.woken.is_empty() => {
                    let place = model.woken.remove(pick(&mut random, model.woken.len()));
                    assert_eq!(queue.standing(place), Standing::Granted);
                    assert_eq!(queue.standing(place), Standing::Waiting, "claimed once");
                    model.running += 1;
                    past.push(place);
                }
                7 if !model.woken.is_empty() && random.chance(50) => {
                    let place = model.woken.remove(pick(&mut random, model.woken.len()));
                    model.passes_on(queue.give_up(place, NOW));
                    past.push(place);
                }
                7 if !model.waiting.is_empty() => {
                    let (place, _) = model.waiting.remove(pick(&mut random, model.waiting.len()));
                    assert_eq!(queue.standing(place), Standing::Waiting, "it is not granted yet");
                    assert_eq!(queue.give_up(place, NOW), None);
                    past.push(place);
                }
                8 if !model.waiting.is_empty() => {
                    let place = pick(&mut random, model.waiting.len());
                    name += 1;
                    model.waiting[place].1 = name;
                    queue.replace(model.waiting[place].0, name);
                }
                8 if !past.is_empty() => {
                    let place = past[pick(&mut random, past.len())];
                    queue.replace(place, u64::MAX);
                    assert_eq!(queue.standing(place), Standing::Waiting);
                    assert_eq!(queue.give_up(place, NOW), None, "leaving twice has no effect");
                }
                9 if random.chance(20) => {
                    model.permits = 1 + random.below(5) as u32;
                    queue.resize(model.permits);
                    loop {
                        let next = queue.grant(NOW);
                        model.passes_on(next);
                        if next.is_none() {
                            break;
                        }
                    }
                }
                _ => {}
            }
            queue.check();
            assert_eq!(queue.taken(), model.running + model.woken.len() as u32);
            assert_eq!(queue.waiting(), model.waiting.len());
            assert!(queue.taken() <= 5);
        }
        // Once every waiter has had a permit, all permits are free again.
        while queue.taken() > 0 {
            if let Some(place) = model.woken.pop() {
                assert_eq!(queue.standing(place), Standing::Granted);
                model.running += 1;
            }
            model.running -= 1;
            model.passes_on(queue.leave(NOW));
        }
        assert_eq!((queue.waiting(), model.running), (0, 0));
        assert_eq!((0..model.permits).filter(|_| queue.enter(WHO) == Enter::Go).count(), model.permits as usize);
    });
}

#[test]
fn more_permits_go_to_waiters_first() {
    let mut queue = Queue::new(1, 9);
    assert_eq!(queue.enter(WHO), Enter::Go);
    let (first, second) = (queue.wait(WHO, "first", NOW).0, queue.wait(WHO, "second", NOW).0);
    queue.replace(second, "second, elsewhere");
    queue.resize(3);
    assert_eq!(queue.enter(WHO), Enter::Wait, "a newcomer queues behind them");
    assert_eq!(
        (queue.grant(NOW), queue.grant(NOW), queue.grant(NOW)),
        (Some("first"), Some("second, elsewhere"), None)
    );
    assert_eq!((queue.standing(first), queue.standing(second)), (Standing::Granted, Standing::Granted));
    queue.check();
}

#[test]
fn who_comes_does_not_overtake_one_that_was_granted() {
    let mut queue = Queue::new(1, 1);
    assert_eq!(queue.enter(WHO), Enter::Go);
    let (place, _) = queue.wait(WHO, 'a', NOW);
    assert_eq!(queue.enter(WHO), Enter::Full);
    assert_eq!(queue.leave(NOW), Some('a'));
    assert_eq!(queue.enter(WHO), Enter::Wait, "the permit is granted");
    assert_eq!(queue.give_up(place, NOW), None);
    assert_eq!(queue.enter(WHO), Enter::Go, "free again after it was given up");
}

#[test]
fn a_full_queue_makes_room_for_what_is_more_urgent_and_for_small_tenants() {
    let mut queue = Queue::new(1, 2);
    assert_eq!(queue.enter(WHO), Enter::Go);
    let who = |priority, tenant| Who { priority, tenant, weight: 1 };
    let ((first, _), (second, _)) = (queue.wait(who(5, 1), "first", NOW), queue.wait(who(5, 1), "second", NOW));
    assert_eq!(queue.enter(who(5, 1)), Enter::Full, "its own");
    assert_eq!(queue.enter(who(6, 2)), Enter::Full, "less urgent");
    assert_eq!(queue.enter(who(5, 2)), Enter::Wait);
    let (other, displaced) = queue.wait(who(5, 2), "other", NOW);
    assert_eq!(displaced, Some("second"));
    queue.check();
    assert_eq!(queue.enter(who(5, 3)), Enter::Full, "nobody has more than its share");
    assert_eq!(queue.enter(who(4, 1)), Enter::Wait);
    let (urgent, displaced) = queue.wait(who(4, 1), "urgent", NOW);
    assert_eq!(displaced, Some("other"), "the last of the longest, of equal ones the later tenant");
    assert_eq!((queue.standing(second), queue.standing(second)), (Standing::Refused, Standing::Waiting), "told once");
    assert_eq!(queue.give_up(other, NOW), None, "or never, if it left before");
    assert_eq!(queue.standing(other), Standing::Waiting);
    assert_eq!((queue.leave(NOW), queue.leave(NOW)), (Some("urgent"), Some("first")));
    assert_eq!((queue.standing(urgent), queue.standing(first)), (Standing::Granted, Standing::Granted));
    queue.check();
}
