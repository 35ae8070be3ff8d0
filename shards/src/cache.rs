//! Answers by fingerprint, within a budget of bytes and each for its time to live.
//! Owned by one core's shard (and once more, small, as that core's near-copy of hot entries elsewhere).
//! Must never exceed the budget, not even while an entry is being replaced, nor allocate on a hit.

use crate::arena::Arena;
use crate::expiry::{Due, Expiry};
use crate::{Fingerprint, Millis, spread};
use hashbrown::HashTable;

/// No slot. The arena ends one earlier.
const NONE: u32 = u32::MAX;

/// A bounded map from fingerprint to answer.
///
/// An expired entry stays until room is needed, and leaves before any other: it may still serve when every backend
/// fails. Among the fresh ones SIEVE decides: entries keep their order of arrival, a hit only sets a mark, and a hand
/// walks from old to new, clears marks and evicts the first entry without one.
pub struct Cache<V> {
    index: HashTable<Located>,
    slots: Arena<Slot<V>>,
    expiry: Expiry,
    newest: u32,
    oldest: u32,
    /// Where the search for a victim goes on; `NONE` is the oldest.
    hand: u32,
    used_bytes: u64,
    budget_bytes: u64,
}

/// The tag is kept beside the index so that a growing index reads no slot.
#[derive(Clone, Copy)]
struct Located {
    tag: u32,
    slot: u32,
}

struct Slot<V> {
    fingerprint: Fingerprint,
    value: V,
    charge_bytes: u64,
    stored: Millis,
    expires: Millis,
    due_position: u32,
    newer: u32,
    older: u32,
    marked: bool,
}

/// What the cache has for a fingerprint. Ages are milliseconds since the entry was stored.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, V> {
    Fresh {
        value: &'a V,
        age_ms: u64,
    },
    /// Past its time to live: only for a caller that has nothing better.
    Stale {
        value: &'a V,
        age_ms: u64,
    },
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Kept; `evicted` other entries had to leave for it.
    Stored { evicted: u32 },
    /// Larger than the whole budget: not kept, and nothing else changed.
    TooLarge,
}

/// What a look-up found, by slot: a borrow of the value would outlive the decision what to do about it.
pub(crate) enum Found {
    Fresh(u32),
    Stale(u32),
    Absent,
}

impl<V> Cache<V> {
    /// What one entry costs beside its value, in bytes: its slot, its due time (16), and its share of the index (32,
    /// which covers the moment in which the index grows and the old one still lives).
    pub const OVERHEAD_BYTES: u64 = size_of::<Slot<V>>() as u64 + 16 + 32;

    pub const fn new(budget_bytes: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Arena::new(),
            expiry: Expiry::new(),
            newest: NONE,
            oldest: NONE,
            hand: NONE,
            used_bytes: 0,
            budget_bytes,
        }
    }

    /// Looks up and, on a fresh hit, marks the entry as used. Allocates nothing.
    pub fn get(&mut self, fingerprint: &Fingerprint, now: Millis) -> Lookup<'_, V> {
        match self.touch(fingerprint, now) {
            Found::Fresh(slot) => Lookup::Fresh { value: self.value(slot), age_ms: self.age_ms(slot, now) },
            Found::Stale(slot) => Lookup::Stale { value: self.value(slot), age_ms: self.age_ms(slot, now) },
            Found::Absent => Lookup::Absent,
        }
    }

    /// Looks up without a trace: eviction does not learn of it.
    pub fn peek(&self, fingerprint: &Fingerprint, now: Millis) -> Lookup<'_, V> {
        let Some(slot) = self.find(fingerprint) else { return Lookup::Absent };
        let (value, age_ms) = (self.value(slot), self.age_ms(slot, now));
        if now < self.slots[slot].expires { Lookup::Fresh { value, age_ms } } else { Lookup::Stale { value, age_ms } }
    }

    /// Stores `value` under `fingerprint` for `ttl_ms` from `now`, in place of what was there.
    ///
    /// `size_bytes` is what the value holds on the heap; [`OVERHEAD_BYTES`](Self::OVERHEAD_BYTES) is added to it. Room
    /// is made first, so the budget holds at every moment. Replaced and evicted values are dropped in here.
    pub fn insert(
        &mut self,
        fingerprint: Fingerprint,
        value: V,
        size_bytes: u64,
        now: Millis,
        ttl_ms: u64,
    ) -> Inserted {
        let charge_bytes = size_bytes.saturating_add(Self::OVERHEAD_BYTES);
        if charge_bytes > self.budget_bytes {
            return Inserted::TooLarge;
        }
        // A replaced entry keeps its mark: it is the same question, and it was asked.
        let marked = self.take(&fingerprint).is_some_and(|slot| slot.marked);
        let mut evicted = 0;
        while self.used_bytes > self.budget_bytes - charge_bytes || self.slots.len() == NONE {
            let victim = self.victim(now);
            self.take_slot(victim);
            evicted += 1;
        }
        let expires = now.after(ttl_ms);
        let slot = self.slots.push(Slot {
            fingerprint,
            value,
            charge_bytes,
            stored: now,
            expires,
            due_position: NONE,
            newer: NONE,
            older: self.newest,
            marked,
        });
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.slots[newest].newer = slot,
        }
        self.newest = slot;
        let slots = &mut self.slots;
        self.expiry.push(Due { at: expires, slot }, |slot, position| slots[slot].due_position = position);
        let located = Located { tag: fingerprint.tag(), slot };
        self.index.insert_unique(spread(located.tag), located, |located| spread(located.tag));
        self.used_bytes += charge_bytes;
        Inserted::Stored { evicted }
    }

    /// Takes an entry out, fresh or stale.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> Option<V> {
        self.take(fingerprint).map(|slot| slot.value)
    }

    /// Drops every entry and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.budget_bytes);
    }

    /// Entries, the stale ones included.
    pub const fn len(&self) -> usize {
        self.slots.len() as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum of the sizes of all entries, each with its overhead.
    pub const fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub const fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    pub(crate) fn touch(&mut self, fingerprint: &Fingerprint, now: Millis) -> Found {
        let Some(at) = self.find(fingerprint) else { return Found::Absent };
        let slot = &mut self.slots[at];
        if now < slot.expires {
            slot.marked = true;
            Found::Fresh(at)
        } else {
            Found::Stale(at)
        }
    }

    pub(crate) fn value(&self, slot: u32) -> &V {
        &self.slots[slot].value
    }

    pub(crate) fn age_ms(&self, slot: u32, now: Millis) -> u64 {
        now.since(self.slots[slot].stored)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<u32> {
        let tag = fingerprint.tag();
        let same = |located: &Located| located.tag == tag && self.slots[located.slot].fingerprint == *fingerprint;
        self.index.find(spread(tag), same).map(|located| located.slot)
    }

    fn take(&mut self, fingerprint: &Fingerprint) -> Option<Slot<V>> {
        self.find(fingerprint).map(|slot| self.take_slot(slot))
    }

    /// The entry to give up next. Only called while there is one.
    fn victim(&mut self, now: Millis) -> u32 {
        if let Some(due) = self.expiry.first()
            && due.at <= now
        {
            return due.slot;
        }
        // Ends: each step clears a mark or finds none, so two rounds are the most there can be.
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        while self.slots[at].marked {
            self.slots[at].marked = false;
            at = match self.slots[at].newer {
                NONE => self.oldest,
                newer => newer,
            };
        }
        self.hand = at;
        at
    }

    /// Takes slot `at` out of everything, and lets the slot that moves into its place be found there.
    fn take_slot(&mut self, at: u32) -> Slot<V> {
        let (newer, older) = (self.slots[at].newer, self.slots[at].older);
        self.join_neighbours(newer, older);
        if self.hand == at {
            self.hand = newer;
        }
        let slots = &mut self.slots;
        let due_position = slots[at].due_position;
        self.expiry.remove(due_position, |slot, position| slots[slot].due_position = position);
        let tag = self.slots[at].fingerprint.tag();
        if let Ok(entry) = self.index.find_entry(spread(tag), |located| located.slot == at) {
            entry.remove();
        }
        let taken = self.slots.swap_remove(at);
        self.used_bytes -= taken.charge_bytes;
        let moved_from = self.slots.len();
        if at != moved_from {
            self.rename(moved_from, at);
        }
        taken
    }

    /// Makes two slots neighbours in the order of arrival; `NONE` stands for its ends.
    fn join_neighbours(&mut self, newer: u32, older: u32) {
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
    }

    /// The slot that was at `from` stands at `to` now: whoever pointed at it has to learn so.
    fn rename(&mut self, from: u32, to: u32) {
        let (newer, older) = (self.slots[to].newer, self.slots[to].older);
        match newer {
            NONE => self.newest = to,
            newer => self.slots[newer].older = to,
        }
        match older {
            NONE => self.oldest = to,
            older => self.slots[older].newer = to,
        }
        if self.hand == from {
            self.hand = to;
        }
        self.expiry.rename(self.slots[to].due_position, to);
        let tag = self.slots[to].fingerprint.tag();
        if let Some(located) = self.index.find_mut(spread(tag), |located| located.slot == from) {
            located.slot = to;
        }
    }

    /// Panics when a law of this machine is broken. For tests and simulation: it visits every entry.
    pub fn check(&self) {
        assert!(self.used_bytes <= self.budget_bytes, "{} used of {}", self.used_bytes, self.budget_bytes);
        assert_eq!(self.index.len(), self.len(), "one place in the index a slot");
        let (mut at, mut newer, mut count, mut charged, mut hand_met) = (self.newest, NONE, 0, 0, self.hand == NONE);
        while at != NONE {
            let slot = &self.slots[at];
            assert_eq!(slot.newer, newer, "links go both ways");
            assert_eq!(self.find(&slot.fingerprint), Some(at), "the index finds each slot");
            charged += slot.charge_bytes;
            count += 1;
            hand_met |= self.hand == at;
            assert!(count <= self.len(), "the order of arrival has no circle");
            (newer, at) = (at, slot.older);
        }
        assert_eq!((newer, count, charged), (self.oldest, self.len(), self.used_bytes), "the order holds every slot");
        assert!(hand_met, "the hand points at a slot");
        self.expiry.check(self.slots.len(), |slot| (self.slots[slot].expires, self.slots[slot].due_position));
    }
}

#[cfg(test)]
mod tests {}
