//! A bounded number of permits, and a bounded queue of waiters that are served by priority and fairly over tenants. Owned
//! by one core; wakes nothing itself, but returns the waiter to wake. Must never lose a permit, let one waiter overtake
//! another of its tenant and priority, or keep one waiting while a permit is free.

mod fair;
mod rate;

use alloc::vec::Vec;

use self::fair::Fair;
pub use self::fair::{Front, PASSED_MAX, Place, Who};
use self::rate::Rate;
use crate::Millis;

/// Permits, and waiters with the waker `W` of each.
#[derive(Debug)]
pub struct Queue<W> {
    permits_max: u32,
    waiting_max: u32,
    /// Permits in use, including those granted but not yet claimed.
    taken: u32,
    waiting: Fair<W>,
    granted: Vec<Place>,
    /// Those that had to make way, and do not know it yet.
    refused: Vec<Place>,
    rate: Rate,
}

/// The result of [`Queue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    /// A permit; it ends in [`Queue::leave`].
    Go,
    /// No permit is free: take a place with [`Queue::wait`].
    Wait,
    Full,
}

/// What has become of a place. All but `Waiting` is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A permit, claimed by this; it ends in [`Queue::leave`].
    Granted,
    /// It had to make way for another one.
    Refused,
    Waiting,
}

impl<W> Queue<W> {
    pub fn new(permits_max: u32, waiting_max: u32) -> Self {
        let waiting = Fair::new();
        Self {
            permits_max,
            waiting_max,
            taken: 0,
            waiting,
            granted: Vec::new(),
            refused: Vec::new(),
            rate: Rate::default(),
        }
    }

    /// Requests a permit.
    pub fn enter(&mut self, who: Who) -> Enter {
        if self.waiting.len() == 0 && self.taken < self.permits_max {
            self.taken += 1;
            Enter::Go
        } else if self.has_room() || self.waiting_max > 0 && self.waiting.yields_to(who) {
            Enter::Wait
        } else {
            Enter::Full
        }
    }

    /// Takes a place in the queue, and the waiter to wake that had to make way for it, if the queue is full.
    pub fn wait(&mut self, who: Who, waiter: W, now: Millis) -> (Place, Option<W>) {
        self.rate.waits(now);
        let mut displaced = None;
        if !self.has_room()
            && let Some((place, waiter)) = self.waiting.displace()
        {
            self.refused.push(place);
            displaced = Some(waiter);
        }
        (self.waiting.push(who, waiter), displaced)
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max as usize
    }

    /// Replaces the waker of a place; no effect if it has left the queue.
    pub fn replace(&mut self, place: Place, waiter: W) {
        if let Some(here) = self.waiting.get_mut(place) {
            *here = waiter;
        }
    }

    /// What has become of a place.
    pub fn standing(&mut self, place: Place) -> Standing {
        if take(&mut self.granted, place) {
            Standing::Granted
        } else if take(&mut self.refused, place) {
            Standing::Refused
        } else {
            Standing::Waiting
        }
    }

    /// Leaves the queue, or returns a granted permit that was not claimed. Returns the waiter to wake if the permit
    /// passes to one.
    pub fn give_up(&mut self, place: Place, now: Millis) -> Option<W> {
        match self.standing(place) {
            Standing::Granted => return self.leave(now),
            Standing::Refused => {}
            Standing::Waiting => {
                drop(self.waiting.remove(place));
                if self.waiting.len() == 0 {
                    self.rate.idle(now);
                }
            }
        }
        None
    }

    /// Returns a permit. Returns the waiter to wake if it passes to one.
    pub fn leave(&mut self, now: Millis) -> Option<W> {
        debug_assert!(self.taken > 0, "a permit is returned once");
        self.taken = self.taken.saturating_sub(1);
        self.grant(now)
    }

    /// Changes the number of permits. Then call [`Queue::grant`] until it returns `None`, for the waiters to wake.
    pub fn resize(&mut self, permits_max: u32) {
        self.permits_max = permits_max;
    }

    /// Whether a permit is free.
    pub fn has_free(&self) -> bool {
        self.taken < self.permits_max
    }

    /// Grants a free permit to the next waiter.
    pub fn grant(&mut self, now: Millis) -> Option<W> {
        if self.taken >= self.permits_max {
            return None;
        }
        let (place, waiter) = self.waiting.pop()?;
        self.rate.served(now);
        if self.waiting.len() == 0 {
            self.rate.idle(now);
        }
        self.taken += 1;
        self.granted.push(place);
        Some(waiter)
    }

    /// Permits in use.
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Number of waiters.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// About how long a newcomer would wait, by those that are served before it and how fast that goes; none if that is not
    /// known.
    pub fn wait_ms(&self, who: Who, now: Millis) -> Option<u64> {
        self.rate.wait_ms(self.waiting.ahead(who), now)
    }

    /// The most urgent priority that waits, and how much of it.
    pub fn front(&self) -> Option<Front> {
        self.waiting.front()
    }

    /// How many of a tenant's requests of a priority wait.
    pub fn waiting_of(&self, who: Who) -> usize {
        self.waiting.waiting_of(who)
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.waiting.len() <= self.waiting_max as usize, "{} waiting", self.waiting.len());
        assert!(self.granted.len() <= self.taken as usize, "more granted than in use");
        assert!(self.waiting.len() == 0 || self.taken >= self.permits_max, "waiting while a permit is free");
        assert!(!self.refused.iter().any(|place| self.granted.contains(place)), "granted and refused");
        self.waiting.check();
    }
}

/// Takes a place off a list. Whether it was there.
fn take(list: &mut Vec<Place>, place: Place) -> bool {
    let found = list.iter().position(|other| *other == place);
    found.map(|index| list.swap_remove(index)).is_some()
}

#[cfg(test)]
mod tests;
