//! One core's part of the cache: the answers, and the flights that fetch missing ones. Owned by that core alone; other
//! cores ask by message. Must never store the answer of a flight that was ended: it may be older than a purge or a
//! newer flight.

use crate::cache::{Found, Heat, Restored};
use crate::{Cache, CoreId, Fingerprint, Flights, Inserted, Joined, Lookup, Millis};

/// A cache and the flights into it, one per data core.
pub struct Shard<V> {
    cache: Cache<V>,
    flights: Flights,
    /// How long past its time to live an answer may still serve when every backend fails.
    stale_ms: u64,
}

/// What the asking request gets, or has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<V> {
    /// A fresh answer, stored `age_ms` milliseconds ago.
    Hit { value: V, age_ms: u64 },
    /// Fetch the answer, serve followers, and [`settle`](Shard::settle) this number in every case. `stale` is an
    /// expired answer that may serve if every backend fails.
    Lead { number: u64, stale: Option<V> },
    /// Ask core `leader` for its flight `number`.
    Follow { leader: CoreId, number: u64 },
    /// Too many flights: fetch without one. Nothing is settled or stored. `stale` as in `Lead`: there are too many
    /// flights when backends hang, which is when it is needed.
    Alone { stale: Option<V> },
}

/// How a flight ended.
#[derive(Debug)]
pub enum Outcome<V> {
    /// A complete answer that may be stored. `size_bytes` is its heap size.
    Store { value: V, size_bytes: u64, ttl_ms: u64 },
    /// Nothing to store: failed, truncated, cancelled, or marked not to be stored.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Stored; `evicted` other entries were evicted for it.
    Stored { evicted: u32 },
    /// The flight ended without an answer to store.
    Dropped,
    /// The flight ended; its answer exceeds the whole budget.
    TooLarge,
    /// This flight had ended before (taken over, purged, swept, or settled twice): nothing changed.
    Late,
}

impl<V: Clone> Shard<V> {
    /// An empty shard; `flights_max` bounds concurrent flights, `stale_ms` is how long past its time to live an answer
    /// is lent to requests that fetch a new one.
    pub fn new(budget_bytes: u64, flights_max: usize, stale_ms: u64) -> Self {
        Self { cache: Cache::new(budget_bytes), flights: Flights::new(flights_max), stale_ms }
    }

    /// From now on, an answer is lent for `stale_ms` past its time to live.
    pub fn keep_stale_for(&mut self, stale_ms: u64) {
        self.stale_ms = stale_ms;
    }

    /// Asks for an answer on behalf of core `asker`. Allocates nothing. An expired entry that is not too old is copied
    /// to the request that fetches a new one: followers read what the leader serves.
    pub fn ask(&mut self, fingerprint: &Fingerprint, asker: CoreId, now: Millis) -> Asked<V> {
        self.ask_for(fingerprint, fingerprint, asker, now)
    }

    /// As [`ask`](Self::ask), with different fingerprints for the cached answer and the flight: an answer that serves
    /// only some requests is fetched again for the others, in a flight of their own.
    pub fn ask_for(&mut self, answer: &Fingerprint, flight: &Fingerprint, asker: CoreId, now: Millis) -> Asked<V> {
        let stale = match self.cache.touch(answer, now) {
            Found::Fresh(slot) => {
                return Asked::Hit { value: self.cache.value(slot).clone(), age_ms: self.cache.age_ms(slot, now) };
            }
            Found::Stale(slot) => Some(slot),
            Found::Absent => None,
        };
        self.join(stale, flight, asker, now)
    }

    /// Asks for a newer answer than the cached one, which may still serve if every backend fails.
    pub fn ask_younger(&mut self, answer: &Fingerprint, flight: &Fingerprint, asker: CoreId, now: Millis) -> Asked<V> {
        let kept = match self.cache.touch(answer, now) {
            Found::Fresh(slot) | Found::Stale(slot) => Some(slot),
            Found::Absent => None,
        };
        self.join(kept, flight, asker, now)
    }

    /// Asks for an answer other than the cached one, which the request cannot use.
    pub fn ask_other(&mut self, flight: &Fingerprint, asker: CoreId, now: Millis) -> Asked<V> {
        self.join(None, flight, asker, now)
    }

    fn join(&mut self, kept: Option<u32>, flight: &Fingerprint, asker: CoreId, now: Millis) -> Asked<V> {
        let serves = |slot: &u32| self.cache.expired_ms(*slot, now).is_none_or(|ms| ms < self.stale_ms);
        let stale = kept.filter(serves);
        let stale = || stale.map(|slot| self.cache.value(slot).clone());
        match self.flights.join(flight, asker, now) {
            Joined::Lead { number } => Asked::Lead { number, stale: stale() },
            Joined::Follow { leader, number } => Asked::Follow { leader, number },
            Joined::Full => Asked::Alone { stale: stale() },
        }
    }

    /// Asks again after flight `number` timed out, and ends it if it is still live: its leader stalled. May hit, lead,
    /// follow another request that took over earlier, or go alone.
    pub fn take_over(&mut self, fingerprint: &Fingerprint, number: u64, asker: CoreId, now: Millis) -> Asked<V> {
        self.flights.finish(fingerprint, number);
        self.ask(fingerprint, asker, now)
    }

    /// Ends flight `number` if it is still live: its followers ask again.
    pub fn give_up(&mut self, fingerprint: &Fingerprint, number: u64) -> bool {
        self.flights.finish(fingerprint, number)
    }

    /// Looks up without joining a flight, and counts the use.
    pub fn get(&mut self, fingerprint: &Fingerprint, now: Millis) -> Lookup<'_, V> {
        self.cache.get(fingerprint, now)
    }

    /// Looks up without joining a flight or recording a use.
    pub fn peek(&self, fingerprint: &Fingerprint, now: Millis) -> Lookup<'_, V> {
        self.cache.peek(fingerprint, now)
    }

    /// Ends flight `number` and stores its answer. Every [`Asked::Lead`] is settled exactly once.
    pub fn settle(&mut self, fingerprint: Fingerprint, number: u64, outcome: Outcome<V>, now: Millis) -> Settled {
        self.settle_for(fingerprint, fingerprint, number, outcome, now)
    }

    /// As [`settle`](Self::settle), with different fingerprints for the stored answer and the flight; see
    /// [`ask_for`](Self::ask_for).
    pub fn settle_for(
        &mut self,
        answer: Fingerprint,
        flight: Fingerprint,
        number: u64,
        outcome: Outcome<V>,
        now: Millis,
    ) -> Settled {
        if !self.flights.finish(&flight, number) {
            return Settled::Late;
        }
        match outcome {
            Outcome::Drop => Settled::Dropped,
            Outcome::Store { value, size_bytes, ttl_ms } => {
                match self.cache.insert(answer, value, size_bytes, now, ttl_ms) {
                    Inserted::Stored { evicted } => Settled::Stored { evicted },
                    Inserted::TooLarge => Settled::TooLarge,
                }
            }
        }
    }

    /// Stores an answer that was fetched outside a flight; a flight for it continues.
    pub fn put(&mut self, fingerprint: Fingerprint, value: V, size_bytes: u64, now: Millis, ttl_ms: u64) -> Inserted {
        self.cache.insert(fingerprint, value, size_bytes, now, ttl_ms)
    }

    /// Removes one answer. A flight for it continues.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> Option<V> {
        self.cache.remove(fingerprint)
    }

    /// Removes one answer, and ends the flight that may be fetching it: an answer begun before a purge is not stored
    /// after it.
    pub fn purge(&mut self, fingerprint: &Fingerprint) -> Option<V> {
        self.flights.abandon(fingerprint);
        self.cache.remove(fingerprint)
    }

    /// Marks the flights that begin from now on with `epoch`, and ends that of `flight` if it began before epoch `least`:
    /// nobody may join it, and what it fetches is not stored.
    pub fn enter(&mut self, epoch: u64, flight: &Fingerprint, least: u64) {
        self.flights.enter(epoch);
        self.flights.end_older(flight, least);
    }

    /// See [`Cache::weed`].
    pub fn weed(&mut self, at: u32, count: u32, is_dead: impl FnMut(&Fingerprint, &V) -> bool) -> (u32, u32) {
        self.cache.weed(at, count, is_dead)
    }

    /// See [`Cache::visit`].
    pub fn visit(&self, at: u32, count: u32, see: impl FnMut(&Fingerprint, &V, Heat) -> bool) -> u32 {
        self.cache.visit(at, count, see)
    }

    /// Stores an answer of an earlier cache, see [`Cache::restore`]. `flights` name those that may be fetching a newer one: while
    /// one of them is under way, what they have sent already must not be followed by something older.
    pub fn restore(
        &mut self,
        fingerprint: Fingerprint,
        flights: &[Fingerprint],
        (value, size_bytes): (V, u64),
        now: Millis,
        ttl_ms: u64,
        heat: Heat,
    ) -> Restored {
        if flights.iter().any(|flight| self.flights.number(flight).is_some()) {
            return Restored::Present;
        }
        self.cache.restore(fingerprint, value, size_bytes, now, ttl_ms, heat)
    }

    /// Removes every answer and ends every flight.
    pub fn purge_all(&mut self) {
        self.flights.abandon_all();
        self.cache.clear();
    }

    /// Ends flights older than `limit_ms`, whose leaders can no longer settle. Returns how many. For a timer.
    pub fn sweep(&mut self, now: Millis, limit_ms: u64) -> u32 {
        self.flights.sweep(now, limit_ms)
    }

    pub const fn cache(&self) -> &Cache<V> {
        &self.cache
    }

    pub const fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        self.cache.check();
        self.flights.check();
    }
}

#[cfg(test)]
mod tests;
