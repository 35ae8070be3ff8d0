//! Flights that are over and that nobody is in, kept for the next: the memory of a new one would be cold. Owned by the core.
//! Must never keep anything of what a flight carried.

use std::cell::RefCell;
use std::rc::Rc;

use shards::Fingerprint;

use super::Flight;
use super::state::{Stage, State};
use crate::exchange::core::Core;
use crate::exchange::generation::Generation;
use crate::net::now_ms;

/// Most flights that are kept, and for how many readers one of them has room at most.
const FREE_LIST_MAX: usize = 64;
const READERS_KEPT: usize = 64;

#[derive(Default)]
pub struct FreeList {
    spare: RefCell<Vec<Rc<Flight>>>,
}

impl Flight {
    pub(super) fn new(core: &Generation, fingerprint: Option<Fingerprint>, stage: Stage) -> Rc<Flight> {
        if let Some(mut flight) = core.free_flights.spare.borrow_mut().pop()
            && let Some(it) = Rc::get_mut(&mut flight)
        {
            it.fingerprint = fingerprint;
            let state = it.state.get_mut();
            (state.stage, state.heard_ms) = (stage, now_ms());
            state.whole_max = core.snapshot.cache.max_entry_bytes;
            return flight;
        }
        let state = State::new(stage, core.snapshot.cache.max_entry_bytes, now_ms());
        Rc::new(Flight { fingerprint, state: RefCell::new(state) })
    }

    /// For the last one who leaves: keeps the flight for the next, since new memory would be cold.
    pub(super) fn put_away(self: &Rc<Flight>, core: &Core) {
        let mut free_flights = core.free_flights.spare.borrow_mut();
        if free_flights.len() < FREE_LIST_MAX && self.state.borrow().readers.capacity() <= READERS_KEPT {
            self.state.borrow_mut().clear();
            free_flights.push(self.clone());
        }
    }
}
