//! A bounded number of permits, and a queue of waiters. Owned by one core; wakes nothing itself, but returns the waiter
//! to wake. Must never lose a permit, let one waiter overtake another, or keep one waiting while a permit is free.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Permits, and waiters with the waker `W` of each.
#[derive(Debug)]
pub struct Queue<W> {
    permits_max: u32,
    waiting_max: u32,
    /// Permits in use, including those granted but not yet claimed.
    taken: u32,
    serial: u64,
    waiting: VecDeque<(Place, W)>,
    granted: Vec<Place>,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

/// The result of [`Queue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    /// A permit; it ends in [`Queue::leave`].
    Go,
    /// No permit is free: take a place with [`Queue::wait`].
    Wait,
    Full,
}

impl<W> Queue<W> {
    pub const fn new(permits_max: u32, waiting_max: u32) -> Self {
        Self { permits_max, waiting_max, taken: 0, serial: 0, waiting: VecDeque::new(), granted: Vec::new() }
    }

    /// Requests a permit.
    pub fn enter(&mut self) -> Enter {
        if self.waiting.is_empty() && self.taken < self.permits_max {
            self.taken += 1;
            Enter::Go
        } else if self.waiting.len() < self.waiting_max as usize {
            Enter::Wait
        } else {
            Enter::Full
        }
    }

    /// Takes the last place in the queue.
    pub fn wait(&mut self, waiter: W) -> Place {
        self.serial += 1;
        let place = Place(self.serial);
        self.waiting.push_back((place, waiter));
        place
    }

    /// Replaces the waker of a place; no effect if it has left the queue.
    pub fn replace(&mut self, place: Place, waiter: W) {
        // Places are in order of arrival.
        if let Ok(place) = self.waiting.binary_search_by_key(&place.0, |(place, _)| place.0) {
            self.waiting[place].1 = waiter;
        }
    }

    /// Whether the place was granted a permit; if so it is claimed, and ends in [`Queue::leave`].
    pub fn take_grant(&mut self, place: Place) -> bool {
        match self.granted.iter().position(|granted| *granted == place) {
            Some(place) => {
                self.granted.swap_remove(place);
                true
            }
            None => false,
        }
    }

    /// Leaves the queue, or returns a granted permit that was not claimed. Returns the waiter to wake if the permit
    /// passes to one.
    pub fn give_up(&mut self, place: Place) -> Option<W> {
        if self.take_grant(place) {
            return self.leave();
        }
        if let Ok(place) = self.waiting.binary_search_by_key(&place.0, |(place, _)| place.0) {
            self.waiting.remove(place);
        }
        None
    }

    /// Returns a permit. Returns the waiter to wake if it passes to one.
    pub fn leave(&mut self) -> Option<W> {
        debug_assert!(self.taken > 0, "a permit is returned once");
        self.taken = self.taken.saturating_sub(1);
        self.grant()
    }

    /// Changes the number of permits. Then call [`Queue::grant`] until it returns `None`, for the waiters to wake.
    pub fn resize(&mut self, permits_max: u32) {
        self.permits_max = permits_max;
    }

    /// Grants a free permit to the first waiter.
    pub fn grant(&mut self) -> Option<W> {
        if self.taken >= self.permits_max {
            return None;
        }
        let (place, waiter) = self.waiting.pop_front()?;
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

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.waiting.len() <= self.waiting_max as usize, "{} waiting", self.waiting.len());
        assert!(self.granted.len() <= self.taken as usize, "more granted than in use");
        assert!(self.waiting.is_empty() || self.taken >= self.permits_max, "waiting while a permit is free");
        let places = || self.waiting.iter().map(|(place, _)| place.0);
        assert!(places().zip(places().skip(1)).all(|(one, next)| one < next), "places in order of arrival");
        let waits = |granted: &Place| places().any(|place| place == granted.0);
        assert!(!self.granted.iter().any(waits), "a granted place is still waiting");
    }
}

#[cfg(test)]
mod tests;
