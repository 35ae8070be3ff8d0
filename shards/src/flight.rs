//! Which request fetches a missing answer: the owner core allows one flight per fingerprint; all others follow its
//! leader. Owned by the owner core's shard. Holds no answer and no followers: they are on the leader's core. Must never
//! have two live flights for one fingerprint, nor use a number twice.

use crate::{CoreId, Fingerprint, Millis, spread};
use hashbrown::HashTable;

/// Flights for which the table is allocated up front; at 57 bytes each it stays in the L1 cache.
const FEW_FLIGHTS: usize = 200;

/// The flights that one core owns, at most `bound` at a time.
pub struct Flights {
    table: HashTable<Flight>,
    bound: usize,
    next_number: u64,
    /// What flights that begin now are marked with.
    epoch: u64,
}

struct Flight {
    fingerprint: Fingerprint,
    number: u64,
    since: Millis,
    epoch: u64,
    leader: CoreId,
}

/// What the asking request has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Fetch the answer, then finish this number.
    Lead { number: u64 },
    /// Ask `leader` for flight `number`; it may have ended when the message arrives there.
    Follow { leader: CoreId, number: u64 },
    /// The bound is reached: fetch without a flight and without followers.
    Full,
}

impl Flights {
    /// Room for `bound` flights. With a bound of 0 every request goes alone.
    pub fn new(bound: usize) -> Self {
        // Starts small and grows: in a table sized for `bound`, each flight would touch cold memory, in four places for
        // each one that begins and ends.
        Self { table: HashTable::with_capacity(bound.min(FEW_FLIGHTS)), bound, next_number: 1, epoch: 0 }
    }

    /// Joins the flight of `fingerprint`, or starts one that `asker` leads.
    pub fn join(&mut self, fingerprint: &Fingerprint, asker: CoreId, now: Millis) -> Joined {
        if let Some(flight) = self.find(fingerprint) {
            return Joined::Follow { leader: flight.leader, number: flight.number };
        }
        if self.table.len() >= self.bound {
            return Joined::Full;
        }
        let number = self.draw_number();
        let flight = Flight { fingerprint: *fingerprint, number, since: now, epoch: self.epoch, leader: asker };
        self.table.insert_unique(spread(fingerprint.tag()), flight, |flight| spread(flight.fingerprint.tag()));
        Joined::Lead { number }
    }

    /// Like [`join`](Self::join), for a follower that gave up on flight `number`: if that flight is still live it is
    /// ended, and `asker` leads a new one. When many followers give up at once, the first leads the rest.
    pub fn take_over(&mut self, fingerprint: &Fingerprint, number: u64, asker: CoreId, now: Millis) -> Joined {
        self.finish(fingerprint, number);
        self.join(fingerprint, asker, now)
    }

    /// Ends flight `number`. False, with no change, if that flight is not live.
    pub fn finish(&mut self, fingerprint: &Fingerprint, number: u64) -> bool {
        let same = |flight: &Flight| flight.number == number && flight.fingerprint == *fingerprint;
        match self.table.find_entry(spread(fingerprint.tag()), same) {
            Ok(flight) => {
                flight.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// The number of the live flight of `fingerprint`, if there is one.
    pub fn number(&self, fingerprint: &Fingerprint) -> Option<u64> {
        self.find(fingerprint).map(|flight| flight.number)
    }

    /// Ends the flight of `fingerprint`, whatever its number: its answer is no longer wanted.
    pub fn abandon(&mut self, fingerprint: &Fingerprint) -> bool {
        self.number(fingerprint).is_some_and(|number| self.finish(fingerprint, number))
    }

    /// Marks the flights that begin from now on with `epoch`. Epochs never go back.
    pub fn enter(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Ends the flight of `fingerprint` if it began before `epoch`.
    pub fn end_older(&mut self, fingerprint: &Fingerprint, epoch: u64) -> bool {
        let older = self.find(fingerprint).filter(|flight| flight.epoch < epoch).map(|flight| flight.number);
        older.is_some_and(|number| self.finish(fingerprint, number))
    }

    /// Ends every flight. Numbering continues.
    pub fn abandon_all(&mut self) {
        self.table.clear();
    }

    /// Ends flights older than `limit_ms`, whose leaders are gone. Returns how many. Visits every flight: for a timer,
    /// not for the request path.
    pub fn sweep(&mut self, now: Millis, limit_ms: u64) -> u32 {
        let before = self.table.len();
        self.table.retain(|flight| now.since(flight.since) <= limit_ms);
        (before - self.table.len()) as u32
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.table.len() <= self.bound, "{} flights, bound {}", self.table.len(), self.bound);
        for flight in &self.table {
            assert!(flight.number < self.next_number, "a number that was never issued");
            let same = |other: &&Flight| other.fingerprint == flight.fingerprint || other.number == flight.number;
            let found = self.table.iter().filter(same).count();
            assert_eq!(found, 1, "one flight per fingerprint, one fingerprint per number");
        }
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<&Flight> {
        self.table.find(spread(fingerprint.tag()), |flight| flight.fingerprint == *fingerprint)
    }

    fn draw_number(&mut self) -> u64 {
        let number = self.next_number;
        // At a billion numbers a second, this takes five centuries to wrap.
        self.next_number = number.wrapping_add(1);
        number
    }
}

#[cfg(test)]
mod tests;
