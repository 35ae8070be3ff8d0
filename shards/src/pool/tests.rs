//! Tests of `pool` against its laws and a naive model.

use super::*;
use crate::random::{Random, each_seed};

const BOUNDS: PoolBounds = PoolBounds { idle_max: 2, open_max: Some(3), open_min: 0, idle_ms: 100 };

#[test]
fn reuses_the_latest() {
    let mut pool = Pool::new(BOUNDS);
    assert_eq!(
        (pool.take(Millis(0)), pool.take(Millis(0)), pool.take(Millis(0))),
        (Take::Dial, Take::Dial, Take::Dial)
    );
    assert_eq!(pool.take(Millis(0)), Take::Full);
    assert_eq!(pool.give_back('a', Millis(1)), None);
    assert_eq!(pool.give_back('b', Millis(2)), None);
    assert_eq!(pool.give_back('c', Millis(3)), Some('a'), "the longest idle makes room");
    assert_eq!(pool.take(Millis(50)), Take::Reuse('c'));
}

#[test]
fn an_idle_limit_is_exclusive() {
    let mut pool = Pool::new(BOUNDS);
    pool.take(Millis(0));
    pool.give_back('a', Millis(0));
    let mut closing = Vec::new();
    pool.reap(Millis(99), &mut closing);
    assert_eq!(closing, []);
    pool.reap(Millis(100), &mut closing);
    assert_eq!(closing, ['a']);
}

#[test]
fn an_expired_one_is_not_handed_out_nor_counted_against_the_cap() {
    let mut pool = Pool::new(PoolBounds { open_max: Some(1), ..BOUNDS });
    pool.take(Millis(0));
    pool.give_back_for('a', Millis(0), 10);
    assert_eq!(pool.take(Millis(10)), Take::Dial);
    assert_eq!((pool.idle(), pool.leased()), (0, 1));
}

#[test]
fn keeps_none_when_told_so() {
    let mut pool = Pool::new(PoolBounds { idle_max: 0, ..BOUNDS });
    pool.take(Millis(0));
    assert_eq!(pool.give_back('a', Millis(0)), Some('a'));
    assert_eq!(pool.open(), 0);
}

#[test]
fn agrees_with_a_plain_list() {
    each_seed(50, |seed| {
        let mut random = Random::new(seed);
        let open_max = random.chance(70).then(|| 1 + random.below(6) as usize);
        let bounds = PoolBounds {
            idle_max: random.below(5) as usize,
            open_max,
            open_min: random.below(7) as usize,
            idle_ms: 20,
        };
        let mut pool = Pool::new(bounds);
        // Idle ones with the end of their time, latest last; and the leased ones.
        let mut idle: Vec<(u32, u64)> = Vec::new();
        let mut leased: Vec<u32> = Vec::new();
        let (mut now, mut dialled) = (0u64, 0);
        for _ in 0..500 {
            now += random.below(6);
            let at = random.below(leased.len() as u64) as usize;
            match random.below(10) {
                0..4 => {
                    while idle.last().is_some_and(|&(_, until)| until <= now) {
                        idle.pop();
                    }
                    let taken = pool.take(Millis(now));
                    if let Some((connection, _)) = idle.pop() {
                        assert_eq!(taken, Take::Reuse(connection));
                        leased.push(connection);
                    } else if open_max.is_some_and(|open_max| leased.len() == open_max) {
                        assert_eq!(taken, Take::Full);
                    } else {
                        assert_eq!(taken, Take::Dial);
                        dialled += 1;
                        leased.push(dialled);
                    }
                }
                4..7 if !leased.is_empty() => {
                    let connection = leased.swap_remove(at);
                    let hint_ms = random.below(40);
                    let closed = pool.give_back_for(connection, Millis(now), hint_ms);
                    idle.push((connection, now + hint_ms.min(20)));
                    let excess = (idle.len() > bounds.idle_max).then(|| idle.remove(0).0);
                    assert_eq!(closed, excess);
                }
                7 if !leased.is_empty() => {
                    leased.swap_remove(at);
                    pool.lost();
                }
                8 => {
                    let mut closing = Vec::new();
                    pool.reap(Millis(now), &mut closing);
                    let expired: Vec<u32> = idle.iter().filter(|idle| idle.1 <= now).map(|idle| idle.0).collect();
                    idle.retain(|idle| idle.1 > now);
                    assert_eq!(closing, expired);
                }
                9 if random.chance(30) => {
                    // As many as it says it lacks can be opened and kept, and then it lacks none.
                    for _ in 0..pool.lacks() {
                        assert_eq!(pool.take_fresh(), Take::Dial);
                        dialled += 1;
                        assert_eq!(pool.give_back(dialled, Millis(now)), None);
                        idle.push((dialled, now + 20));
                    }
                    assert_eq!(pool.lacks(), 0);
                    let least = bounds.open_min.min(bounds.idle_max).min(open_max.unwrap_or(usize::MAX));
                    assert!(pool.open() >= least);
                }
                _ => {}
            }
            assert_eq!((pool.idle(), pool.leased()), (idle.len(), leased.len()));
            assert_eq!(pool.open(), idle.len() + leased.len());
            pool.check();
        }
        let mut closing = Vec::new();
        pool.drain(&mut closing);
        assert_eq!(closing, idle.iter().map(|idle| idle.0).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_lacking_is_opened_ahead_of_need() {
    let mut pool = Pool::new(PoolBounds { open_min: 2, ..BOUNDS });
    assert_eq!(pool.lacks(), 2);
    assert_eq!(pool.take_fresh(), Take::Dial);
    assert_eq!(pool.lacks(), 1, "one that is on its way counts");
    assert_eq!(pool.give_back('a', Millis(0)), None);
    assert_eq!(pool.lacks(), 1);
    let unkept = Pool::<char>::new(PoolBounds { open_min: 9, idle_max: 1, ..BOUNDS });
    assert_eq!(unkept.lacks(), 1, "no more than are kept");
}
