//! Who fetches a missing answer: at the owner core, one flight a fingerprint, everybody else follows its leader.
//! Owned by the owner core's shard. Holds no answer and no follower: those live on the leader's core.
//! Must never give two live numbers to one fingerprint, nor use a number twice.

use crate::{CoreId, Fingerprint, Millis, spread};
use hashbrown::HashTable;

/// Flights at a time that the table does not grow for; with 57 bytes for each place it stays in the first-level cache.
const FEW_FLIGHTS: usize = 200;

/// The flights that one core owns, at most `bound` at a time.
pub struct Flights {
    table: HashTable<Flight>,
    bound: usize,
    next_number: u64,
}

struct Flight {
    fingerprint: Fingerprint,
    number: u64,
    since: Millis,
    leader: CoreId,
}

/// What an asker has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Fetch the answer, then finish this number.
    Lead { number: u64 },
    /// Ask `leader` for the flight `number`; it may have landed when the question arrives there.
    Follow { leader: CoreId, number: u64 },
    /// The bound is reached: fetch without a flight, nobody follows.
    Full,
}

impl Flights {
    /// Room for `bound` flights. A bound of 0 makes everyone go alone.
    pub fn new(bound: usize) -> Self {
        // Room for few at first: in a table for all that there may be, each flight would lie on memory that nobody has
        // touched for long, and four such places are looked at for one that begins and ends. It grows where there are more.
        Self { table: HashTable::with_capacity(bound.min(FEW_FLIGHTS)), bound, next_number: 1 }
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
        let flight = Flight { fingerprint: *fingerprint, number, since: now, leader: asker };
        self.table.insert_unique(spread(fingerprint.tag()), flight, |flight| spread(flight.fingerprint.tag()));
        Joined::Lead { number }
    }

    /// Like [`join`](Self::join), for a follower that gave up on flight `number`: if that one still flies, it is
    /// ended and `asker` leads a new one. When many followers give up at once, the first leads the rest.
    pub fn take_over(&mut self, fingerprint: &Fingerprint, number: u64, asker: CoreId, now: Millis) -> Joined {
        self.finish(fingerprint, number);
        self.join(fingerprint, asker, now)
    }

    /// Ends flight `number`. False, and nothing changes, when it is not the one that flies.
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

    /// The number that flies for `fingerprint`, if one does.
    pub fn number(&self, fingerprint: &Fingerprint) -> Option<u64> {
        self.find(fingerprint).map(|flight| flight.number)
    }

    /// Ends the flight of `fingerprint`, whatever its number: what it brings is no longer wanted.
    pub fn abandon(&mut self, fingerprint: &Fingerprint) -> bool {
        self.number(fingerprint).is_some_and(|number| self.finish(fingerprint, number))
    }

    /// Ends every flight. Numbers go on from where they were.
    pub fn abandon_all(&mut self) {
        self.table.clear();
    }

    /// Ends the flights that are older than `limit_ms`, for leaders that can no longer say anything. Returns how many.
    /// Visits every flight: for a timer, not for the path of a request.
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

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.table.len() <= self.bound, "{} flights, bound {}", self.table.len(), self.bound);
        for flight in &self.table {
            assert!(flight.number < self.next_number, "a number that was never drawn");
            let same = |other: &&Flight| other.fingerprint == flight.fingerprint || other.number == flight.number;
            let found = self.table.iter().filter(same).count();
            assert_eq!(found, 1, "one flight a fingerprint, one fingerprint a number");
        }
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<&Flight> {
        self.table.find(spread(fingerprint.tag()), |flight| flight.fingerprint == *fingerprint)
    }

    fn draw_number(&mut self) -> u64 {
        let number = self.next_number;
        // A billion a second would take five centuries to get here.
        self.next_number = number.wrapping_add(1);
        number
    }
}

#[cfg(test)]
mod tests;
