//! Answers by fingerprint, within a budget of bytes, each with a time to live. Owned by one core's shard (and once
//! more, small, as that core's near copy of hot entries of other cores). Must never exceed the budget, not even while
//! an entry is being replaced, nor allocate on a hit.

mod arena;
mod expiry;
mod ghosts;
mod index;
mod queues;

use crate::{Fingerprint, Millis};
use arena::Arena;
use expiry::{Due, Expiry};
use ghosts::Ghosts;
use index::Index;
pub use queues::Heat;
use queues::{Links, NONE, Queues, Slot, Standing, Victim, Which};

/// A bounded map from fingerprint to answer.
///
/// An expired entry stays until room is needed and is evicted before any other: it may still serve when every backend
/// fails. Fresh entries are evicted by S3-FIFO with a price on size: new entries wait in a small queue for their second
/// use, used ones circulate in a large queue for as long as they are used, and an entry that returns soon after its
/// eviction goes straight to the large one. A hit only increments a counter.
///
/// Hit rate / byte hit rate in percent; budget: a tenth of what 10,000 prompts of 100 B to 10 KB need; Zipf exponent
/// 1.0:
///
/// | | still | hot ones change | half come once | both |
/// |---|---|---|---|---|
/// | LRU | 67.7 / 70.1 | 66.7 / 65.2 | 27.2 / 29.3 | 26.9 / 25.0 |
/// | SIEVE | 74.8 / 76.6 | 63.8 / 62.2 | 36.8 / 38.3 | 27.2 / 25.4 |
/// | S3-FIFO | 74.0 / 75.8 | 68.8 / 67.3 | 37.3 / 38.7 | 31.5 / 29.2 |
/// | GDSF | 79.5 / 72.0 | 72.7 / 59.3 | 34.8 / 31.9 | 32.1 / 25.1 |
/// | W-TinyLFU | 75.0 / 74.4 | 70.1 / 64.5 | 32.7 / 33.6 | 30.5 / 27.0 |
/// | this cache | 75.1 / 75.4 | 70.0 / 67.5 | 37.8 / 38.7 | 32.5 / 29.5 |
///
/// GDSF hits more often by evicting the long answers, which cost most to fetch, and has to move an entry in a heap on
/// each hit. `cargo run --release -p shards --example eviction` prints the whole table.
pub struct Cache<V> {
    index: Index,
    slots: Arena<Slot<V>>,
    queues: Queues,
    expiry: Expiry,
    ghosts: Ghosts,
    budget_bytes: u64,
    /// Whether an entry was evicted.
    has_evicted: bool,
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
    /// Stored; `evicted` other entries were evicted for it.
    Stored { evicted: u32 },
    /// Larger than the whole budget: not stored, and nothing else changed.
    TooLarge,
}

/// What became of an entry of an earlier cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    Stored,
    /// There is one already, which is newer.
    Present,
    /// There is no room, or there was none at some time: nothing is restored any more.
    Full,
}

/// The result of a look-up, by slot: a borrow of the value would outlive the decision what to do with it.
pub(crate) enum Found {
    Fresh(u32),
    Stale(u32),
    Absent,
}

impl<V> Cache<V> {
    /// Bytes that an entry costs in addition to its value: its slot, its due time, its share of the index (48 covers
    /// tables that have just grown) and of the ghosts. Index and ghosts do not shrink: after many small entries were
    /// replaced by few large ones, up to 60 bytes for each of the small ones stay in use outside the budget.
    pub const OVERHEAD_BYTES: u64 = (size_of::<Slot<V>>() + size_of::<Due>() + 48) as u64 + Ghosts::BYTES_EACH;

    pub fn new(budget_bytes: u64) -> Self {
        Self {
            index: Index::new(),
            slots: Arena::new(),
            queues: Queues::new(budget_bytes),
            expiry: Expiry::new(),
            ghosts: Ghosts::new(),
            budget_bytes,
            has_evicted: false,
        }
    }

    /// Looks up and, on a fresh hit, counts the use. Allocates nothing.
    pub fn get(&mut self, fingerprint: &Fingerprint, now: Millis) -> Lookup<'_, V> {
        match self.touch(fingerprint, now) {
            Found::Fresh(slot) => Lookup::Fresh { value: self.value(slot), age_ms: self.age_ms(slot, now) },
            Found::Stale(slot) => Lookup::Stale { value: self.value(slot), age_ms: self.age_ms(slot, now) },
            Found::Absent => Lookup::Absent,
        }
    }

    /// Looks up without recording a use for eviction.
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
        // A replacement keeps the standing of the entry: it is the same request, asked as often.
        let standing = match self.take(&fingerprint) {
            Some(replaced) => replaced.links.standing(),
            None => self.standing_of_new(&fingerprint),
        };
        let mut evicted = 0;
        while self.used_bytes() > self.budget_bytes - charge_bytes || self.slots.len() == NONE {
            if !self.evict(now) {
                break;
            }
            evicted += 1;
        }
        self.place(fingerprint, value, charge_bytes, now, ttl_ms, standing);
        debug_assert!(self.used_bytes() <= self.budget_bytes, "room was made first");
        Inserted::Stored { evicted }
    }

    fn place(
        &mut self,
        fingerprint: Fingerprint,
        value: V,
        charge_bytes: u64,
        now: Millis,
        ttl_ms: u64,
        standing: Standing,
    ) {
        let expires = now.after(ttl_ms);
        let links = Links::new(standing);
        let slot = Slot { fingerprint, value, charge_bytes, stored: now, expires, due_position: NONE, links };
        let at = self.slots.push(slot);
        self.queues.push(&mut self.slots, at);
        let slots = &mut self.slots;
        self.expiry.push(Due { at: expires, slot: at }, |slot, position| slots[slot].due_position = position);
        self.index.insert(fingerprint.tag(), at);
    }

    /// Stores what an earlier cache held, unless there is an entry already; as wanted as it was. Evicts nothing.
    pub fn restore(
        &mut self,
        fingerprint: Fingerprint,
        value: V,
        size_bytes: u64,
        now: Millis,
        ttl_ms: u64,
        heat: Heat,
    ) -> Restored {
        if self.find(&fingerprint).is_some() {
            return Restored::Present;
        }
        let charge_bytes = size_bytes.saturating_add(Self::OVERHEAD_BYTES);
        // What was evicted since may have been newer: after that nothing from before comes back.
        if self.has_evicted || self.slots.len() == NONE || charge_bytes > self.budget_bytes - self.used_bytes() {
            self.has_evicted = true;
            return Restored::Full;
        }
        self.place(fingerprint, value, charge_bytes, now, ttl_ms, heat.standing());
        Restored::Stored
    }

    /// Looks at `count` slots below slot `at`, from the last to the first, for as long as `see` returns true. Returns where to go
    /// on. A walk from `len` down to 0 meets what [`weed`](Self::weed) meets; it may meet an entry twice.
    pub fn visit(&self, at: u32, count: u32, mut see: impl FnMut(&Fingerprint, &V, Heat) -> bool) -> u32 {
        let from = at.min(self.slots.len());
        let to = from.saturating_sub(count);
        for slot in (to..from).rev() {
            let of = &self.slots[slot];
            if !see(&of.fingerprint, &of.value, of.links.heat()) {
                return slot;
            }
        }
        to
    }

    /// Removes an entry, fresh or stale.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> Option<V> {
        self.take(fingerprint).map(|slot| slot.value)
    }

    /// Looks at `count` slots below slot `at`, from the last to the first, and removes those for which `is_dead` holds. Returns
    /// where to go on, and how many were removed. A walk from `len` down to 0 meets every entry that was there at its
    /// beginning, whatever is inserted and removed between its steps: an entry only moves to a lower slot when it was last.
    pub fn weed(&mut self, at: u32, count: u32, mut is_dead: impl FnMut(&Fingerprint, &V) -> bool) -> (u32, u32) {
        let from = at.min(self.slots.len());
        let to = from.saturating_sub(count);
        let mut removed = 0;
        for slot in (to..from).rev() {
            // The last slot moves into the place of a removed one: it was looked at, or came after the walk began.
            if is_dead(&self.slots[slot].fingerprint, &self.slots[slot].value) {
                self.take_slot(slot);
                removed += 1;
            }
        }
        (to, removed)
    }

    /// Drops every entry and frees the memory. Forgets the recent evictions, too.
    pub fn clear(&mut self) {
        *self = Self::new(self.budget_bytes);
    }

    /// Number of entries, the stale ones included.
    pub const fn len(&self) -> usize {
        self.slots.len() as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum of the sizes of all entries, each with its overhead.
    pub const fn used_bytes(&self) -> u64 {
        self.queues.used_bytes()
    }

    pub const fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    pub(crate) fn touch(&mut self, fingerprint: &Fingerprint, now: Millis) -> Found {
        let Some(at) = self.find(fingerprint) else { return Found::Absent };
        let slot = &mut self.slots[at];
        if now < slot.expires {
            slot.links.used();
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

    /// How long ago an entry expired.
    pub(crate) fn expired_ms(&self, slot: u32, now: Millis) -> Option<u64> {
        let expires = self.slots[slot].expires;
        (now >= expires).then(|| now.since(expires))
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<u32> {
        self.index.find(fingerprint.tag(), |slot| self.slots[slot].fingerprint == *fingerprint)
    }

    fn standing_of_new(&self, fingerprint: &Fingerprint) -> Standing {
        let returned = self.ghosts.knows(fingerprint.tag(), self.queues.proven_len());
        Standing { queue: if returned { Which::Proven } else { Which::Probation }, uses: 0 }
    }

    /// Evicts one entry. False if there is none.
    fn evict(&mut self, now: Millis) -> bool {
        let due = self.expiry.first().filter(|due| due.at <= now);
        let victim = match due {
            // Expired does not mean unwanted: it is remembered as a ghost, whatever its queue.
            Some(due) => Some(Victim { slot: due.slot, queue: Which::Probation }),
            None => self.queues.victim(&mut self.slots),
        };
        let Some(victim) = victim else { return false };
        self.has_evicted = true;
        let taken = self.take_slot(victim.slot);
        if victim.queue == Which::Probation {
            self.ghosts.remember(taken.fingerprint.tag(), self.queues.proven_len());
        }
        true
    }

    fn take(&mut self, fingerprint: &Fingerprint) -> Option<Slot<V>> {
        self.find(fingerprint).map(|slot| self.take_slot(slot))
    }

    /// Takes slot `at` out of index, queue and heap, and updates them for the slot that moves into its place.
    fn take_slot(&mut self, at: u32) -> Slot<V> {
        self.queues.unlink(&mut self.slots, at);
        let slots = &mut self.slots;
        self.expiry.remove(slots[at].due_position, |slot, position| slots[slot].due_position = position);
        self.index.remove(self.slots[at].fingerprint.tag(), at);
        let taken = self.slots.swap_remove(at);
        let moved_from = self.slots.len();
        if at != moved_from {
            self.queues.rename(&mut self.slots, at);
            self.expiry.rename(self.slots[at].due_position, at);
            self.index.rename(self.slots[at].fingerprint.tag(), moved_from, at);
        }
        taken
    }

    /// Panics if an invariant is violated. For tests and simulation: it visits every entry.
    pub fn check(&self) {
        assert!(self.used_bytes() <= self.budget_bytes, "{} used of {}", self.used_bytes(), self.budget_bytes);
        assert_eq!(self.index.count(), self.len(), "one index entry per slot");
        for at in 0..self.slots.len() {
            assert_eq!(self.find(&self.slots[at].fingerprint), Some(at), "the index finds each slot");
        }
        self.queues.check(&self.slots);
        self.expiry.check(self.slots.len(), |slot| (self.slots[slot].expires, self.slots[slot].due_position));
    }
}

#[cfg(test)]
mod tests;
