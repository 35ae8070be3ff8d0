//! Flights that are over and that nobody is in, kept for the next: the memory of a new one would be cold. Owned by the core.
//! Must never keep anything of what a flight carried.

use std::cell::RefCell;
use std::rc::Rc;

use shards::Fingerprint;

use super::Flight;
use super::state::{Stage, State};
use crate::net::now_ms;

/// Most flights that are kept, and for how many readers one of them has room at most.
const FREE_LIST_MAX: usize = 64;
const READERS_KEPT: usize = 64;

#[derive(Default)]
pub struct FreeList {
    spare: RefCell<Vec<Rc<Flight>>>,
}

impl FreeList {
    /// A flight that keeps an answer of `whole_max` bytes whole.
    pub(super) fn take(&self, fingerprint: Option<Fingerprint>, stage: Stage, whole_max: u64) -> Rc<Flight> {
        if let Some(mut flight) = self.spare.borrow_mut().pop()
            && let Some(it) = Rc::get_mut(&mut flight)
        {
            it.fingerprint = fingerprint;
            let state = it.state.get_mut();
            (state.stage, state.heard_ms) = (stage, now_ms());
            state.whole_max = whole_max;
            return flight;
        }
        Rc::new(Flight { fingerprint, state: RefCell::new(State::new(stage, whole_max, now_ms())) })
    }

    /// From the last one who leaves.
    pub(super) fn give(&self, flight: &Rc<Flight>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < FREE_LIST_MAX && flight.state.borrow().readers.capacity() <= READERS_KEPT {
            flight.state.borrow_mut().clear();
            spare.push(flight.clone());
        }
    }
}
