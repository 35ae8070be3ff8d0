//! Turns: so many at a time, and behind them a line of those who wait. Owned by one core; wakes nobody itself, but says
//! whom to wake. Must never lose a turn, nor let one overtake another, nor keep anybody waiting while a turn is free.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Turns, and those who wait for one with what wakes them, `W`.
#[derive(Debug)]
pub struct Queue<W> {
    turns_max: u32,
    waiting_max: u32,
    /// Turns that are taken, those included that were granted and not yet taken up.
    taken: u32,
    serial: u64,
    waiting: VecDeque<(Place, W)>,
    granted: Vec<Place>,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

/// What one who comes finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    /// A turn, which is taken: it ends in [`Queue::leave`].
    Go,
    /// A place in the line, to be taken with [`Queue::wait`].
    Wait,
    Full,
}

impl<W> Queue<W> {
    pub const fn new(turns_max: u32, waiting_max: u32) -> Self {
        Self { turns_max, waiting_max, taken: 0, serial: 0, waiting: VecDeque::new(), granted: Vec::new() }
    }

    /// Asks for a turn.
    pub fn enter(&mut self) -> Enter {
        if self.waiting.is_empty() && self.taken < self.turns_max {
            self.taken += 1;
            Enter::Go
        } else if self.waiting.len() < self.waiting_max as usize {
            Enter::Wait
        } else {
            Enter::Full
        }
    }

    /// Takes the last place in the line.
    pub fn wait(&mut self, waiter: W) -> Place {
        self.serial += 1;
        let place = Place(self.serial);
        self.waiting.push_back((place, waiter));
        place
    }

    /// Another one to wake for the same place; nothing if it has left the line.
    pub fn replace(&mut self, place: Place, waiter: W) {
        // In the order they came.
        if let Ok(place) = self.waiting.binary_search_by_key(&place.0, |(place, _)| place.0) {
            self.waiting[place].1 = waiter;
        }
    }

    /// Whether it is this one's turn; then it is taken up, and ends in [`Queue::leave`].
    pub fn take_grant(&mut self, place: Place) -> bool {
        match self.granted.iter().position(|granted| *granted == place) {
            Some(place) => {
                self.granted.swap_remove(place);
                true
            }
            None => false,
        }
    }

    /// Leaves the line, or gives back a turn that was granted and not taken up. The one to wake, if the turn goes on.
    pub fn give_up(&mut self, place: Place) -> Option<W> {
        if self.take_grant(place) {
            return self.leave();
        }
        if let Ok(place) = self.waiting.binary_search_by_key(&place.0, |(place, _)| place.0) {
            self.waiting.remove(place);
        }
        None
    }

    /// Ends a turn. The one to wake, if somebody waits for it.
    pub fn leave(&mut self) -> Option<W> {
        debug_assert!(self.taken > 0, "a turn ends once");
        self.taken = self.taken.saturating_sub(1);
        self.grant()
    }

    /// Changes how many turns there are. Those to wake come one by one: ask [`Queue::grant`] until there is none.
    pub fn resize(&mut self, turns_max: u32) {
        self.turns_max = turns_max;
    }

    /// Hands a free turn to the first in the line.
    pub fn grant(&mut self) -> Option<W> {
        if self.taken >= self.turns_max {
            return None;
        }
        let (place, waiter) = self.waiting.pop_front()?;
        self.taken += 1;
        self.granted.push(place);
        Some(waiter)
    }

    /// Turns that are taken now.
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Those who wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.waiting.len() <= self.waiting_max as usize, "{} wait", self.waiting.len());
        assert!(self.granted.len() <= self.taken as usize, "what is granted is taken");
        assert!(self.waiting.is_empty() || self.taken >= self.turns_max, "nobody waits while a turn is free");
        let places = || self.waiting.iter().map(|(place, _)| place.0);
        assert!(places().zip(places().skip(1)).all(|(one, next)| one < next), "in the order they came");
        let waits = |granted: &Place| places().any(|place| place == granted.0);
        assert!(!self.granted.iter().any(waits), "who has a turn waits no more");
    }
}

#[cfg(test)]
mod tests;
