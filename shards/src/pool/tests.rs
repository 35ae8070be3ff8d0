//! Tests of `pool` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};

/// The only address in most tests.
const HERE: u8 = 1;

const BOUNDS: PoolBounds = PoolBounds { idle_max: 2, open_max: Some(3), open_min: 0, idle_ms: 100 };

fn pool(bounds: PoolBounds) -> Pool<char, u8> {
    Pool::new(bounds, Arc::new([HERE]))
}

#[test]
fn reuses_the_latest() {
    let mut pool = pool(BOUNDS);
    assert_eq!(
        (pool.take(Millis(0)), pool.take(Millis(0)), pool.take(Millis(0))),
        (Take::Dial, Take::Dial, Take::Dial)
    );
    assert_eq!(pool.take(Millis(0)), Take::Full);
    assert_eq!(pool.give_back('a', HERE, Millis(1)), None);
    assert_eq!(pool.give_back('b', HERE, Millis(2)), None);
    assert_eq!(pool.give_back('c', HERE, Millis(3)), Some('a'), "the longest idle is closed");
    assert_eq!(pool.take(Millis(50)), Take::Reuse { connection: 'c', address: HERE });
}

#[test]
fn an_idle_limit_is_exclusive() {
    let mut pool = pool(BOUNDS);
    pool.take(Millis(0));
    pool.give_back('a', HERE, Millis(0));
    let mut closing = Vec::new();
    pool.reap(Millis(99), &mut closing);
    assert_eq!(closing, []);
    pool.reap(Millis(100), &mut closing);
    assert_eq!(closing, ['a']);
}

#[test]
fn an_expired_one_is_not_handed_out_nor_counted_against_the_cap() {
    let mut pool = pool(PoolBounds { open_max: Some(1), ..BOUNDS });
    pool.take(Millis(0));
    pool.give_back_for('a', HERE, Millis(0), 10);
    assert_eq!(pool.take(Millis(10)), Take::Dial);
    assert_eq!((pool.idle(), pool.leased()), (0, 1));
}

#[test]
fn keeps_none_if_idle_max_is_0() {
    let mut pool = pool(PoolBounds { idle_max: 0, ..BOUNDS });
    pool.take(Millis(0));
    assert_eq!(pool.give_back('a', HERE, Millis(0)), Some('a'));
    assert_eq!(pool.open(), 0);
}

#[test]
fn what_leads_to_an_address_that_is_gone_is_closed_and_the_rest_stays() {
    let mut pool = Pool::new(BOUNDS, Arc::new([1, 2]));
    for _ in 0..3 {
        assert_eq!(pool.take(Millis(0)), Take::Dial);
    }
    pool.give_back('a', 1, Millis(0));
    pool.give_back('b', 2, Millis(0));
    let mut closing = Vec::new();
    pool.moved(Arc::new([2, 1]), &mut closing);
    assert_eq!(closing, [], "the same in another order");
    pool.moved(Arc::new([2, 3]), &mut closing);
    assert_eq!((closing.as_slice(), pool.idle(), pool.leased()), (&['a'][..], 1, 1));
    assert_eq!(pool.give_back('c', 1, Millis(1)), Some('c'), "its address is gone");
    assert_eq!(pool.take(Millis(1)), Take::Reuse { connection: 'b', address: 2 });
    assert_eq!(pool.leased(), 1);
    pool.moved(Arc::new([1]), &mut closing);
    pool.moved(Arc::new([2]), &mut closing);
    assert_eq!(pool.give_back('b', 2, Millis(2)), None, "its address is back");
}

/// A connection in the naive model.
#[derive(Clone, Copy)]
struct Known {
    name: u32,
    address: u8,
    /// When its idle time ends, while it is idle.
    until: u64,
}

/// Some of four addresses, in any order; sometimes none.
fn some_addresses(random: &mut Random) -> Arc<[u8]> {
    let first = random.below(4);
    (0..random.below(5)).map(|step| ((first + step) % 4) as u8).collect()
}

fn names(of: &[Known]) -> Vec<u32> {
    of.iter().map(|one| one.name).collect()
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
        let mut addresses = some_addresses(&mut random);
        let mut pool = Pool::new(bounds, addresses.clone());
        // Idle connections, the most recently used last; and leased ones.
        let (mut idle, mut leased): (Vec<Known>, Vec<Known>) = (Vec::new(), Vec::new());
        let (mut now, mut dialled) = (0u64, 0);
        for _ in 0..500 {
            now += random.below(6);
            let at = random.below(leased.len() as u64) as usize;
            match random.below(11) {
                0..4 => {
                    while idle.last().is_some_and(|one| one.until <= now) {
                        idle.pop();
                    }
                    let taken = pool.take(Millis(now));
                    if let Some(one) = idle.pop() {
                        assert_eq!(taken, Take::Reuse { connection: one.name, address: one.address });
                        assert!(addresses.contains(&one.address), "a connection to a former address is reused");
                        leased.push(one);
                    } else if open_max.is_some_and(|open_max| leased.len() == open_max) {
                        assert_eq!(taken, Take::Full);
                    } else {
                        assert_eq!(taken, Take::Dial);
                        dialled += 1;
                        // Dialled before the last change of addresses: any address is possible.
                        leased.push(Known { name: dialled, address: random.below(4) as u8, until: 0 });
                    }
                }
                4..7 if !leased.is_empty() => {
                    let one = leased.swap_remove(at);
                    let hint_ms = random.below(40);
                    let closed = pool.give_back_for(one.name, one.address, Millis(now), hint_ms);
                    if bounds.idle_max == 0 || !addresses.contains(&one.address) {
                        assert_eq!(closed, Some(one.name));
                    } else {
                        idle.push(Known { until: now + hint_ms.min(20), ..one });
                        let excess = (idle.len() > bounds.idle_max).then(|| idle.remove(0).name);
                        assert_eq!(closed, excess);
                    }
                }
                7 if !leased.is_empty() => {
                    leased.swap_remove(at);
                    pool.lost();
                }
                8 => {
                    let mut closing = Vec::new();
                    pool.reap(Millis(now), &mut closing);
                    let expired: Vec<Known> = idle.extract_if(.., |one| one.until <= now).collect();
                    assert_eq!(closing, names(&expired));
                }
                9 if random.chance(30) && !addresses.is_empty() => {
                    // As many as `lacks` says can be opened and kept; after that it is 0.
                    for _ in 0..pool.lacks() {
                        assert_eq!(pool.take_fresh(), Take::Dial);
                        dialled += 1;
                        let address = addresses[random.below(addresses.len() as u64) as usize];
                        assert_eq!(pool.give_back(dialled, address, Millis(now)), None);
                        idle.push(Known { name: dialled, address, until: now + 20 });
                    }
                    assert_eq!(pool.lacks(), 0);
                    let least = bounds.open_min.min(bounds.idle_max).min(open_max.unwrap_or(usize::MAX));
                    assert!(pool.open() >= least);
                }
                10 if random.chance(30) => {
                    addresses = some_addresses(&mut random);
                    let mut closing = Vec::new();
                    pool.moved(addresses.clone(), &mut closing);
                    let gone: Vec<Known> = idle.extract_if(.., |one| !addresses.contains(&one.address)).collect();
                    assert_eq!(closing, names(&gone));
                }
                _ => {}
            }
            assert_eq!((pool.idle(), pool.leased()), (idle.len(), leased.len()));
            assert_eq!(pool.open(), idle.len() + leased.len());
            pool.check();
        }
        let mut closing = Vec::new();
        pool.drain(&mut closing);
        assert_eq!(closing, names(&idle));
    });
}

#[test]
fn what_is_lacking_is_opened_ahead_of_need() {
    let mut pool = pool(PoolBounds { open_min: 2, ..BOUNDS });
    assert_eq!(pool.lacks(), 2);
    assert_eq!(pool.take_fresh(), Take::Dial);
    assert_eq!(pool.lacks(), 1, "one being opened counts");
    assert_eq!(pool.give_back('a', HERE, Millis(0)), None);
    assert_eq!(pool.lacks(), 1);
    let unkept = self::pool(PoolBounds { open_min: 9, idle_max: 1, ..BOUNDS });
    assert_eq!(unkept.lacks(), 1, "no more than can be kept");
}
