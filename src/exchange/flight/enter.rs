//! How a flight begins, and where others look for it.

use std::rc::Rc;
use std::sync::Arc;

use shards::Fingerprint;

use super::state::{Place, Stage};
use super::subscriber::Subscriber;
use super::{Flight, LOCAL};
use crate::exchange::core::Core;
use crate::exchange::entry::Entry;
use crate::exchange::generation::Generation;
use crate::exchange::tags::Tags;

impl Flight {
    /// A flight whose owner is about to be asked; others on this core can take part from now on.
    pub fn asking(generation: &Generation, fingerprint: Fingerprint, tags: Tags) -> Rc<Flight> {
        Flight::enter_map(generation, fingerprint, tags, Stage::Asking)
    }

    /// A flight of this core, to be settled as `number`.
    /// `stale` may serve if every backend fails.
    pub fn leading(
        generation: &Generation,
        fingerprint: Fingerprint,
        tags: Tags,
        number: u64,
        stale: Option<Arc<Entry>>,
    ) -> Rc<Flight> {
        let flight = Flight::enter_map(generation, fingerprint, tags, Stage::Flying(Some(number)));
        flight.state.borrow_mut().stale = stale;
        flight
    }

    /// A flight of this core that its owner does not know of: it did not answer.
    pub fn local(generation: &Generation, fingerprint: Fingerprint, tags: Tags) -> Rc<Flight> {
        let number = generation.flights.local.get() + 1;
        generation.flights.local.set(number);
        Flight::enter_map(generation, fingerprint, tags, Stage::Flying(Some(LOCAL | number)))
    }

    /// A flight for one exchange alone.
    pub fn private(generation: &Generation, stale: Option<Arc<Entry>>) -> Rc<Flight> {
        let flight = Flight::new(generation, None, Stage::Flying(None));
        flight.state.borrow_mut().stale = stale;
        flight
    }

    fn new(generation: &Generation, fingerprint: Option<Fingerprint>, stage: Stage) -> Rc<Flight> {
        generation.flights.free.take(fingerprint, stage, generation.snapshot.cache.max_entry_bytes)
    }

    fn enter_map(generation: &Generation, fingerprint: Fingerprint, tags: Tags, stage: Stage) -> Rc<Flight> {
        let flight = Flight::new(generation, Some(fingerprint), stage);
        {
            let mut state = flight.state.borrow_mut();
            state.tags = tags;
            if !matches!(state.stage, Stage::Asking) {
                state.born = generation.cache.purges.latest();
            }
        }
        let before = generation.flights.joinable.borrow_mut().insert(fingerprint, flight.clone());
        Flight::keep_fed(generation, before);
        flight
    }

    /// Takes what there is for `fingerprint` from where others look for it: it is silent.
    pub fn displace(core: &Core, fingerprint: &Fingerprint) {
        let before = core.flights.joinable.borrow_mut().remove(fingerprint);
        Flight::keep_fed(core, before);
    }

    /// A copy nobody joins any more still gets its messages: those who read it here are not done.
    fn keep_fed(core: &Core, before: Option<Rc<Flight>>) {
        if let Some(before) = before
            && before.is_copy()
        {
            core.flights.displaced.borrow_mut().push(before);
        }
    }

    /// Takes a place in the flight.
    pub fn subscriber(self: &Rc<Flight>, core: &Rc<Core>) -> Subscriber {
        let mut state = self.state.borrow_mut();
        let place = state.readers.iter().position(Option::is_none).unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        state.readers[place] = Some(Place::default());
        if state.drained_from.is_some() {
            drop(state);
            self.subscriber_joined(core);
        }
        Subscriber { core: core.clone(), flight: self.clone(), place, opened: false, inline_call: None }
    }

    /// Takes the flight from where others look for it: its owner does not answer.
    pub fn give_up(&self, core: &Core) {
        if self.is_asking() {
            self.leave_map(core);
        }
    }

    pub(super) fn leave_map(&self, core: &Core) {
        let Some(fingerprint) = self.fingerprint else { return };
        core.flights.displaced.borrow_mut().retain(|flight| !std::ptr::eq(&**flight, self));
        let mut flights = core.flights.joinable.borrow_mut();
        if flights.get(&fingerprint).is_some_and(|flight| std::ptr::eq(&**flight, self)) {
            flights.remove(&fingerprint);
        }
    }
}
