//! Tests of `streams` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};

/// The only address in most tests.
const HERE: u8 = 1;

const BOUNDS: StreamBounds = StreamBounds { connections_max: 2, streams_max: 3, idle_ms: 100 };

fn streams(bounds: StreamBounds) -> Streams<char, u8> {
    Streams::new(bounds, Arc::new([HERE]))
}

#[test]
fn connections_are_filled_before_another_is_opened() {
    let mut streams = streams(BOUNDS);
    assert_eq!(streams.take(), Slot::Dial);
    assert_eq!(streams.take(), Slot::Wait);
    let a = streams.dialled('a', HERE, 2, Millis(0));
    assert_eq!(streams.take(), Slot::Use { id: a, connection: 'a' });
    assert_eq!(streams.take(), Slot::Dial, "its peer allows two");
    let b = streams.dialled('b', HERE, 100, Millis(0));
    streams.give_back(a, Millis(1));
    streams.give_back(a, Millis(1));
    assert_eq!(streams.take(), Slot::Use { id: b, connection: 'b' }, "the fuller one");
    assert_eq!(streams.take(), Slot::Use { id: b, connection: 'b' });
    assert_eq!(streams.take(), Slot::Use { id: a, connection: 'a' }, "three is the own bound");
    assert_eq!(streams.take(), Slot::Use { id: a, connection: 'a' });
    assert_eq!(streams.take(), Slot::Full);
    streams.retire(a);
    assert_eq!(streams.take(), Slot::Dial, "a retired connection frees its place");
    streams.dial_failed();
    streams.lost(a);
    streams.give_back(a, Millis(2));
    assert_eq!((streams.connections(), streams.streams()), (1, 3));
}

#[test]
fn the_idle_are_closed() {
    let mut streams = streams(BOUNDS);
    assert_eq!(streams.take(), Slot::Dial);
    let a = streams.dialled('a', HERE, 9, Millis(0));
    let mut closing = Vec::new();
    streams.reap(Millis(1_000), 0, &mut closing);
    assert!(closing.is_empty(), "it has a stream");
    streams.give_back(a, Millis(1_000));
    streams.reap(Millis(1_099), 0, &mut closing);
    assert!(closing.is_empty());
    streams.reap(Millis(1_100), 0, &mut closing);
    assert_eq!((closing.as_slice(), streams.connections()), (&['a'][..], 0));
}

#[test]
fn no_new_stream_goes_to_one_that_drains() {
    let mut streams = streams(BOUNDS);
    assert_eq!(streams.take(), Slot::Dial);
    let a = streams.dialled('a', HERE, 2, Millis(0));
    assert_eq!(streams.take_open(), Some((a, 'a')));
    assert_eq!(streams.take(), Slot::Dial);
    let b = streams.dialled('b', HERE, 2, Millis(0));
    streams.give_back(b, Millis(0));
    let mut closing = Vec::new();
    streams.drain(&mut closing);
    assert_eq!((closing.as_slice(), streams.streams()), (&['b'][..], 2));
    assert_eq!(streams.take_open(), None);
    streams.give_back(a, Millis(1));
    streams.give_back(a, Millis(1));
    assert_eq!(streams.connections(), 0, "forgotten with its last stream");
}

#[test]
fn a_peer_that_allows_none_for_a_while_gets_none() {
    let mut streams = streams(StreamBounds { connections_max: 1, ..BOUNDS });
    assert_eq!(streams.take(), Slot::Dial);
    let a = streams.dialled('a', HERE, 0, Millis(0));
    streams.limit(a, 0);
    streams.give_back(a, Millis(0));
    assert_eq!(streams.take(), Slot::Full);
    streams.limit(a, u32::MAX);
    assert_eq!(streams.take(), Slot::Use { id: a, connection: 'a' });
    streams.check();
}

#[test]
fn no_new_stream_goes_to_an_address_that_is_gone() {
    let mut streams = Streams::new(StreamBounds { streams_max: 1, connections_max: 3, ..BOUNDS }, Arc::new([1, 2]));
    let [a, b, c] = [('a', 1), ('b', 2), ('c', 1)].map(|(name, address)| {
        assert_eq!(streams.take(), Slot::Dial);
        streams.dialled(name, address, 1, Millis(0))
    });
    streams.give_back(a, Millis(0));
    streams.give_back(b, Millis(0));
    let mut closing = Vec::new();
    streams.moved(Arc::new([2, 1]), &mut closing);
    assert_eq!((closing.as_slice(), streams.connections()), (&[][..], 3), "the same addresses in another order");
    streams.moved(Arc::new([2]), &mut closing);
    assert_eq!((closing.as_slice(), streams.streams()), (&['a'][..], 1), "open streams stay");
    assert_eq!(streams.take(), Slot::Use { id: b, connection: 'b' });
    assert_eq!(streams.take(), Slot::Dial);
    streams.moved(Arc::new([3]), &mut closing);
    let d = streams.dialled('d', 2, 9, Millis(1));
    assert_eq!((streams.streams(), streams.take()), (3, Slot::Dial), "only the request that dialled uses it");
    streams.check();
    [b, c, d].into_iter().for_each(|id| streams.give_back(id, Millis(2)));
    assert_eq!((closing.as_slice(), streams.connections()), (&['a'][..], 1), "only the dial is left");
}

/// A connection in the naive model.
struct Known {
    id: ConnectionId,
    name: u64,
    address: u8,
    streams: u32,
    limit: u32,
    retired: bool,
    since: u64,
}

/// Some of four addresses, in any order; sometimes none.
fn some_addresses(random: &mut Random) -> Arc<[u8]> {
    let first = random.below(4);
    (0..random.below(5)).map(|step| ((first + step) % 4) as u8).collect()
}

impl Known {
    fn has_room(&self) -> bool {
        !self.retired && self.streams < self.limit
    }
}

#[test]
fn agrees_with_a_plain_list() {
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let bounds = StreamBounds {
            connections_max: 1 + random.below(4) as usize,
            streams_max: 1 + random.below(5) as u32,
            idle_ms: 50,
        };
        let mut addresses = some_addresses(&mut random);
        let mut streams = Streams::new(bounds, addresses.clone());
        let mut known: Vec<Known> = Vec::new();
        // Open streams, some on lost connections; and every connection there ever was.
        let (mut out, mut ever): (Vec<ConnectionId>, Vec<ConnectionId>) = (Vec::new(), Vec::new());
        let (mut dialling, mut now, mut name) = (false, 0, 0);
        for _ in 0..2_000 {
            now += random.below(20);
            match random.below(11) {
                0..4 => {
                    let fullest = known.iter().filter(|one| one.has_room()).map(|one| one.streams).max();
                    let live = known.iter().filter(|one| !one.retired).count();
                    match streams.take() {
                        Slot::Use { id, connection } => {
                            let one = known.iter_mut().find(|one| one.id == id).expect("one that is open");
                            assert_eq!(one.name, connection);
                            assert!(one.has_room() && Some(one.streams) == fullest, "the fullest with room");
                            assert!(addresses.contains(&one.address), "a stream to a former address");
                            one.streams += 1;
                            out.push(id);
                        }
                        Slot::Dial => {
                            assert!(fullest.is_none() && !dialling && live < bounds.connections_max);
                            dialling = true;
                        }
                        Slot::Wait => assert!(fullest.is_none() && dialling, "one is being opened"),
                        Slot::Full => {
                            assert!(fullest.is_none() && !dialling && live == bounds.connections_max);
                        }
                    }
                }
                4 if dialling => {
                    dialling = false;
                    if random.chance(70) {
                        name += 1;
                        let said = random.below(9) as u32;
                        // Dialled before the last change of addresses: any address is possible.
                        let address = random.below(4) as u8;
                        let id = streams.dialled(name, address, said, Millis(now));
                        assert!(!ever.contains(&id), "an id is used once");
                        let limit = said.clamp(1, bounds.streams_max);
                        let retired = !addresses.contains(&address);
                        known.push(Known { id, name, address, streams: 1, limit, retired, since: now });
                        out.push(id);
                        ever.push(id);
                    } else {
                        streams.dial_failed();
                    }
                }
                5 | 6 if !out.is_empty() => {
                    let id = out.swap_remove(random.below(out.len() as u64) as usize);
                    streams.give_back(id, Millis(now));
                    if let Some(one) = known.iter_mut().find(|one| one.id == id) {
                        (one.streams, one.since) = (one.streams - 1, now);
                    }
                }
                7 if !ever.is_empty() => {
                    // Lost ones too: a change of the limit may arrive late.
                    let id = ever[random.below(ever.len() as u64) as usize];
                    let one = known.iter_mut().find(|one| one.id == id);
                    match random.below(4) {
                        0 | 1 => {
                            let said = random.below(9) as u32;
                            streams.limit(id, said);
                            one.into_iter().for_each(|one| one.limit = said.min(bounds.streams_max));
                        }
                        2 => {
                            streams.retire(id);
                            one.into_iter().for_each(|one| one.retired = true);
                        }
                        _ => {
                            streams.lost(id);
                            known.retain(|one| one.id != id);
                        }
                    }
                }
                8 if random.chance(2) => {
                    let mut closing = Vec::new();
                    streams.drain(&mut closing);
                    closing.sort_unstable();
                    let idle: Vec<u64> = known.iter().filter(|one| one.streams == 0).map(|one| one.name).collect();
                    assert_eq!(closing, idle);
                    known.retain(|one| one.streams > 0);
                    known.iter_mut().for_each(|one| one.retired = true);
                }
                10 if random.chance(30) => {
                    addresses = some_addresses(&mut random);
                    let mut closing = Vec::new();
                    streams.moved(addresses.clone(), &mut closing);
                    closing.sort_unstable();
                    known.iter_mut().for_each(|one| one.retired |= !addresses.contains(&one.address));
                    let over: Vec<Known> = known.extract_if(.., |one| one.retired && one.streams == 0).collect();
                    assert_eq!(closing, over.iter().map(|one| one.name).collect::<Vec<_>>());
                }
                8 | 9 => {
                    let mut closing = Vec::new();
                    streams.reap(Millis(now), 0, &mut closing);
                    closing.sort_unstable();
                    let over = |one: &Known| one.streams == 0 && now - one.since >= bounds.idle_ms;
                    let expired: Vec<u64> = known.iter().filter(|one| over(one)).map(|one| one.name).collect();
                    assert_eq!(closing, expired);
                    known.retain(|one| !over(one));
                }
                _ => {}
            }
            known.retain(|one| !one.retired || one.streams > 0);
            streams.check();
            assert_eq!(streams.streams(), known.iter().map(|one| one.streams).sum());
            assert_eq!(streams.connections(), known.len() + usize::from(dialling));
        }
        // Once the dial has ended, the peers allow some streams and all are given back, no request waits.
        if dialling {
            streams.dial_failed();
        }
        known.iter().for_each(|one| streams.limit(one.id, 1));
        out.into_iter().for_each(|id| streams.give_back(id, Millis(now)));
        assert!(matches!(streams.take(), Slot::Use { .. } | Slot::Dial));
    });
}

#[test]
fn a_few_are_kept_however_long_they_are_idle() {
    let mut streams = streams(StreamBounds { connections_max: 3, streams_max: 1, idle_ms: 10 });
    let ids: Vec<_> = "abc"
        .chars()
        .map(|name| {
            assert_eq!(streams.take(), Slot::Dial);
            streams.dialled(name, HERE, 1, Millis(0))
        })
        .collect();
    ids.iter().for_each(|&id| streams.give_back(id, Millis(0)));
    let mut closing = Vec::new();
    streams.reap(Millis(1_000), 2, &mut closing);
    assert_eq!((closing.len(), streams.connections()), (1, 2));
}

#[test]
fn what_is_wanted_elsewhere_gets_no_new_streams_and_leaves_with_the_last() {
    let mut streams = streams(StreamBounds { connections_max: 0, ..BOUNDS });
    assert_eq!(streams.take(), Slot::Full, "it has no permit");
    streams.resize(2);
    assert_eq!((streams.capacity(2), streams.needed(0), streams.needed(4)), (6, 0, 2));
    assert_eq!(streams.take(), Slot::Dial);
    assert_eq!((streams.capacity(2), streams.needed(1), streams.counted()), (6, 1, 1));
    let a = streams.dialled('a', HERE, 2, Millis(0));
    assert_eq!((streams.capacity(2), streams.needed(2), streams.needed(3)), (4, 1, 2), "the peer allows two");
    streams.take();
    assert_eq!(streams.take(), Slot::Dial);
    let b = streams.dialled('b', HERE, 2, Millis(0));
    streams.yield_one();
    streams.yield_one();
    assert_eq!((streams.take(), streams.capacity(2)), (Slot::Full, 3), "the emptier one, and one at a time");
    streams.keep_all();
    assert_eq!(streams.take(), Slot::Use { id: b, connection: 'b' });
    streams.give_back(b, Millis(1));
    streams.yield_one();
    streams.give_back(b, Millis(1));
    assert_eq!((streams.counted(), streams.idle(), streams.close_idle()), (1, 0, None));
    streams.give_back(a, Millis(1));
    streams.give_back(a, Millis(1));
    assert_eq!((streams.idle(), streams.close_idle(), streams.counted()), (1, Some('a'), 0));
    streams.check();
}
