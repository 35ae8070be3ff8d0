//! Tests of `cache` against its invariants and a naive model.

use super::*;
use crate::random::{Random, each_seed};
use alloc::vec::Vec;

const OVERHEAD: u64 = Cache::<u32>::OVERHEAD_BYTES;

fn fingerprint(of: u64) -> Fingerprint {
    Fingerprint(Random::new(of).bytes())
}

#[test]
fn fresh_until_its_time_and_stale_after() {
    let mut cache = Cache::new(10_000);
    let a = fingerprint(1);
    assert_eq!(cache.insert(a, 7u32, 100, Millis(50), 10), Inserted::Stored { evicted: 0 });
    assert_eq!(cache.get(&a, Millis(50)), Lookup::Fresh { value: &7, age_ms: 0 });
    assert_eq!(cache.get(&a, Millis(59)), Lookup::Fresh { value: &7, age_ms: 9 });
    assert_eq!(cache.get(&a, Millis(60)), Lookup::Stale { value: &7, age_ms: 10 });
    assert_eq!(cache.get(&a, Millis(0)), Lookup::Fresh { value: &7, age_ms: 0 }, "a clock that stepped back");
    assert_eq!(cache.get(&fingerprint(2), Millis(50)), Lookup::Absent);
    assert_eq!(cache.insert(a, 8, 100, Millis(70), u64::MAX), Inserted::Stored { evicted: 0 });
    assert_eq!(cache.get(&a, Millis(u64::MAX - 1)), Lookup::Fresh { value: &8, age_ms: u64::MAX - 71 });
    assert_eq!((cache.len(), cache.used_bytes()), (1, 100 + OVERHEAD));
    assert_eq!(cache.remove(&a), Some(8));
    assert_eq!((cache.len(), cache.used_bytes()), (0, 0));
    cache.check();
}

#[test]
fn what_exceeds_the_whole_budget_changes_nothing() {
    let mut cache = Cache::new(1000 + OVERHEAD);
    let a = fingerprint(1);
    cache.insert(a, 1u32, 1000, Millis(0), 10);
    assert_eq!(cache.insert(a, 2, 1001, Millis(0), 10), Inserted::TooLarge);
    assert_eq!(cache.insert(fingerprint(2), 3, u64::MAX, Millis(0), 10), Inserted::TooLarge);
    assert_eq!(cache.get(&a, Millis(0)), Lookup::Fresh { value: &1, age_ms: 0 });
    assert_eq!(cache.insert(fingerprint(2), 3, 1000, Millis(0), 10), Inserted::Stored { evicted: 1 });
    assert_eq!(Cache::new(0).insert(a, (), 0, Millis(0), 1), Inserted::TooLarge);
}

#[test]
fn the_longest_expired_leaves_first_however_much_it_was_used() {
    let mut cache = Cache::new(3 * (100 + OVERHEAD));
    let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(fingerprint);
    cache.insert(a, 1u32, 100, Millis(0), 1000);
    cache.insert(b, 2, 100, Millis(0), 20);
    cache.insert(c, 3, 100, Millis(0), 10);
    for _ in 0..9 {
        cache.get(&b, Millis(1));
        cache.get(&c, Millis(1));
    }
    assert_eq!(cache.insert(d, 4, 100, Millis(30), 1000), Inserted::Stored { evicted: 1 });
    assert_eq!(cache.peek(&c, Millis(30)), Lookup::Absent);
    assert_eq!(cache.insert(e, 5, 100, Millis(30), 1000), Inserted::Stored { evicted: 1 });
    assert_eq!(cache.peek(&b, Millis(30)), Lookup::Absent);
    assert_eq!(cache.peek(&a, Millis(30)), Lookup::Fresh { value: &1, age_ms: 30 });
}

#[test]
fn an_entry_is_expired_for_eviction_when_it_is_for_a_reader() {
    let mut cache = Cache::new(2 * (100 + OVERHEAD));
    let [a, b, c] = [1, 2, 3].map(fingerprint);
    cache.insert(a, 1u32, 100, Millis(0), 1000);
    cache.insert(b, 2, 100, Millis(0), 20);
    cache.insert(c, 3, 100, Millis(20), 1000);
    assert_eq!(cache.peek(&a, Millis(20)), Lookup::Fresh { value: &1, age_ms: 20 });
    assert_eq!(cache.peek(&b, Millis(20)), Lookup::Absent);
}

#[test]
fn the_search_for_a_victim_is_bounded() {
    let mut cache = Cache::new(100 * (100 + OVERHEAD));
    for of in 0..100 {
        cache.insert(fingerprint(of), of, 100, Millis(0), 1000);
        cache.get(&fingerprint(of), Millis(0));
    }
    assert_eq!(cache.insert(fingerprint(100), 100, 100, Millis(0), 1000), Inserted::Stored { evicted: 1 });
    // All were used: 32 are spared, and the next one is evicted although it was used.
    let missing: Vec<u64> = (0..100).filter(|&of| cache.find(&fingerprint(of)).is_none()).collect();
    assert_eq!(missing, [32]);
}

#[test]
fn what_is_used_outlives_a_flood_of_what_is_not() {
    let mut cache = Cache::new(50 * (100 + OVERHEAD));
    for of in 0..10 {
        cache.insert(fingerprint(of), of, 100, Millis(0), 1000);
    }
    for of in 10..10_000 {
        if of % 10 == 0 {
            (0..10).for_each(|used| assert!(matches!(cache.get(&fingerprint(used), Millis(1)), Lookup::Fresh { .. })));
        }
        cache.insert(fingerprint(of), of, 100, Millis(0), 1000);
    }
}

#[test]
fn equal_tags_are_not_equal_fingerprints() {
    let mut cache = Cache::new(1 << 20);
    let alike = |last: u8| {
        let mut bytes = [7; 32];
        bytes[31] = last;
        Fingerprint(bytes)
    };
    for last in 0..100 {
        cache.insert(alike(last), last, 10, Millis(0), 10);
        cache.check();
    }
    for last in (0..100).step_by(3) {
        assert_eq!(cache.remove(&alike(last)), Some(last));
        cache.check();
    }
    for last in 0..100 {
        let expected = if last % 3 == 0 { Lookup::Absent } else { Lookup::Fresh { value: &last, age_ms: 0 } };
        assert_eq!(cache.get(&alike(last), Millis(0)), expected);
    }
}

#[test]
fn gives_everything_back_on_clear() {
    let mut cache = Cache::new(1 << 20);
    let value = alloc::rc::Rc::new(());
    for of in 0..1000 {
        cache.insert(fingerprint(of % 300), value.clone(), of, Millis(of), of);
    }
    assert_eq!(alloc::rc::Rc::strong_count(&value), cache.len() + 1, "evicted values are dropped");
    cache.clear();
    assert_eq!((alloc::rc::Rc::strong_count(&value), cache.used_bytes(), cache.budget_bytes()), (1, 0, 1 << 20));
    cache.check();
}

/// The same policy over two lists, oldest first, without index, links or heap.
struct Plain {
    probation: Vec<Entry>,
    proven: Vec<Entry>,
    ghosts: Ghosts,
    budget: u64,
}

#[derive(Clone)]
struct Entry {
    fingerprint: Fingerprint,
    value: u32,
    charge: u64,
    stored: Millis,
    expires: Millis,
    uses: u64,
}

impl Plain {
    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.probation.iter().chain(&self.proven)
    }

    fn used(&self) -> u64 {
        self.all().map(|entry| entry.charge).sum()
    }

    fn get(&mut self, fingerprint: &Fingerprint, now: Millis) -> Option<&mut Entry> {
        let mut all = self.probation.iter_mut().chain(&mut self.proven);
        let entry = all.find(|entry| entry.fingerprint == *fingerprint)?;
        entry.uses = if now < entry.expires { (entry.uses + 1).min(7) } else { entry.uses };
        Some(entry)
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Option<(Which, Entry)> {
        for (which, list) in [(Which::Probation, &mut self.probation), (Which::Proven, &mut self.proven)] {
            if let Some(at) = list.iter().position(|entry| entry.fingerprint == *fingerprint) {
                return Some((which, list.remove(at)));
            }
        }
        None
    }

    fn insert(&mut self, mut entry: Entry) -> Option<u32> {
        if entry.charge > self.budget {
            return None;
        }
        let mut proven = self.ghosts.knows(entry.fingerprint.tag(), self.proven.len() as u32);
        if let Some((which, replaced)) = self.remove(&entry.fingerprint) {
            proven = which == Which::Proven;
            entry.uses = replaced.uses;
        }
        let mut evicted = 0;
        while self.used() + entry.charge > self.budget {
            self.evict(entry.stored);
            evicted += 1;
        }
        if proven {
            self.proven.push(entry)
        } else {
            self.probation.push(entry)
        }
        Some(evicted)
    }

    fn evict(&mut self, now: Millis) {
        let expired = self.all().filter(|entry| entry.expires <= now).min_by_key(|entry| entry.expires);
        if let Some(expired) = expired.cloned() {
            self.remove(&expired.fingerprint);
            return self.ghosts.remember(expired.fingerprint.tag(), self.proven.len() as u32);
        }
        let mut spared = 0;
        loop {
            let waiting: u64 = self.probation.iter().map(|entry| entry.charge).sum();
            let probation = waiting >= self.budget / 20 && !self.probation.is_empty() || self.proven.is_empty();
            let half_mean = (self.used() / self.all().count() as u64 / 2).max(1);
            let mut oldest = if probation { self.probation.remove(0) } else { self.proven.remove(0) };
            if oldest.uses == 0 || spared == 32 {
                if probation {
                    self.ghosts.remember(oldest.fingerprint.tag(), self.proven.len() as u32);
                }
                return;
            }
            spared += 1;
            oldest.uses = if probation { 0 } else { oldest.uses.saturating_sub(oldest.charge / half_mean + 1) };
            self.proven.push(oldest);
        }
    }
}

#[test]
fn agrees_with_two_plain_lists() {
    each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let budget = (1 + random.below(60)) * (500 + OVERHEAD);
        let mut cache = Cache::new(budget);
        let mut plain = Plain { probation: Vec::new(), proven: Vec::new(), ghosts: Ghosts::new(), budget };
        let prompts = 1 + random.below(100);
        let mut now = 0;
        for step in 0..900u32 {
            // Due times never coincide (now is a multiple of 1000, the time to live is not), or the order of expiry
            // would be undefined.
            now += 1000 * random.below(3);
            let at = Millis(now);
            // Minimum of two draws: small numbers are more frequent.
            let popular = random.below(prompts) + 1;
            let fingerprint = fingerprint(random.below(popular));
            match random.below(100) {
                0..60 => {
                    let expected = match plain.get(&fingerprint, at) {
                        Some(Entry { value, stored, expires, .. }) => {
                            let age_ms = at.since(*stored);
                            if at < *expires {
                                Lookup::Fresh { value, age_ms }
                            } else {
                                Lookup::Stale { value, age_ms }
                            }
                        }
                        None => Lookup::Absent,
                    };
                    assert_eq!(cache.get(&fingerprint, at), expected);
                }
                60..98 => {
                    let size = random.below(100) * random.below(100) / if random.chance(2) { 1 } else { 10 };
                    let ttl = 1000 * random.below(400) + u64::from(step) + 1;
                    let entry = Entry {
                        fingerprint,
                        value: step,
                        charge: size + OVERHEAD,
                        stored: at,
                        expires: at.after(ttl),
                        uses: 0,
                    };
                    let expected = match plain.insert(entry) {
                        Some(evicted) => Inserted::Stored { evicted },
                        None => Inserted::TooLarge,
                    };
                    assert_eq!(cache.insert(fingerprint, step, size, at, ttl), expected);
                }
                _ => assert_eq!(cache.remove(&fingerprint), plain.remove(&fingerprint).map(|(_, entry)| entry.value)),
            }
            assert_eq!((cache.len(), cache.used_bytes()), (plain.all().count(), plain.used()));
            for entry in plain.all() {
                assert!(cache.find(&entry.fingerprint).is_some_and(|slot| *cache.value(slot) == entry.value));
            }
            cache.check();
        }
    });
}

#[test]
fn what_an_earlier_cache_held_comes_back_as_wanted_as_it_was() {
    each_seed(40, |seed| {
        let mut random = Random::new(seed);
        let mut before = Cache::new((20 + random.below(200)) * (100 + OVERHEAD));
        for step in 0..random.below(600) {
            let fingerprint = fingerprint(random.below(100));
            match random.chance(2) {
                true => _ = before.insert(fingerprint, step, random.below(200), Millis(step), 10_000),
                false => _ = before.get(&fingerprint, Millis(step)),
            }
        }
        // In slices of any size; nothing changes meanwhile, so each entry is met once.
        let mut met = Vec::new();
        let mut at = before.len() as u32;
        while at > 0 {
            let stop_at = random.below(9);
            let mut seen = 0;
            at = before.visit(at, 1 + random.below(7) as u32, |fingerprint, value, heat| {
                met.push((*fingerprint, *value, heat));
                seen += 1;
                seen <= stop_at
            });
            // What ended the slice was met.
        }
        met.sort_by_key(|(_, _, heat)| *heat);
        assert_eq!(met.len(), before.len());
        let mut after = Cache::new(before.budget_bytes());
        for (fingerprint, value, heat) in &met {
            let size = 0;
            assert_eq!(after.restore(*fingerprint, *value, size, Millis(0), 5, *heat), Restored::Stored);
            assert_eq!(after.restore(*fingerprint, 0, size, Millis(0), 5, *heat), Restored::Present);
            after.check();
        }
        let heats = |cache: &Cache<u64>| {
            let mut heats = Vec::new();
            cache.visit(cache.len() as u32, u32::MAX, |fingerprint, value, heat| {
                heats.push((*fingerprint, *value, heat));
                true
            });
            heats.sort_by_key(|(fingerprint, ..)| *fingerprint);
            heats
        };
        assert_eq!(heats(&after), heats(&before));
    });
}

#[test]
fn nothing_is_evicted_for_what_comes_back_and_nothing_comes_back_after_an_eviction() {
    let mut cache = Cache::new(3 * (100 + OVERHEAD));
    for place in 0..3 {
        assert_eq!(cache.restore(fingerprint(place), 0, 100, Millis(0), 9, Heat::Cold), Restored::Stored);
    }
    assert_eq!(cache.restore(fingerprint(3), 0, 0, Millis(0), 9, Heat::Hot), Restored::Full);
    cache.remove(&fingerprint(0));
    assert_eq!(cache.restore(fingerprint(4), 0, 0, Millis(0), 9, Heat::Hot), Restored::Full, "for good");

    let mut cache = Cache::new(2 * (100 + OVERHEAD));
    for place in 0..3 {
        cache.insert(fingerprint(place), 0, 100, Millis(0), 9);
    }
    cache.remove(&fingerprint(2));
    assert_eq!(cache.restore(fingerprint(0), 0, 100, Millis(0), 9, Heat::Hot), Restored::Full);
}
