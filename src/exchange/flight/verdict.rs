//! What the owner of a fingerprint answers to those on this core who asked it.

use std::sync::Arc;

use super::Flight;
use super::state::Stage;
use crate::error::Failure;
use crate::exchange::answer::End;
use crate::exchange::core::Core;
use crate::exchange::entry::{Entry, Level};
use crate::exchange::message::Message;

impl Flight {
    pub fn found(&self, core: &Core, entry: Arc<Entry>) {
        self.decide(core, Stage::Found(entry));
    }

    pub fn alone(&self, core: &Core, stale: Option<Arc<Entry>>) {
        if self.is_asking() {
            self.state.borrow_mut().stale = stale;
        }
        self.decide(core, Stage::Alone);
    }

    pub fn gone(&self, core: &Core) {
        self.decide(core, Stage::Gone);
    }

    /// Flight `number`, which feeds this copy, had nothing to say and is over: its answer was found elsewhere.
    pub fn ended_elsewhere(&self, core: &Core, number: u64) {
        let mut state = self.state.borrow_mut();
        if !matches!(state.stage, Stage::Fed(source) if source.number == number) || state.answer_head.is_some() {
            return;
        }
        state.stage = Stage::Gone;
        self.leave_map(core);
        state.wake();
    }

    /// `level` of the cache has the answer: it goes to the owner, readers here take it from this flight, and those on
    /// other cores ask again.
    pub fn found_elsewhere(&self, core: &Core, entry: Arc<Entry>, level: Level) {
        let Some(number) = self.number() else { return };
        self.settle(core, Some(entry.clone()));
        let mut state = self.state.borrow_mut();
        state.end = Some(End::Failed(Failure::FlightLost));
        (state.stage, state.level) = (Stage::Found(entry), level);
        let followers = std::mem::take(&mut state.followers);
        state.wake();
        drop(state);
        let Some(fingerprint) = self.fingerprint else { return };
        core.flights.feeding.borrow_mut().remove(&(fingerprint, number));
        for (follower, _) in followers {
            core.post(follower, Message::Gone { fingerprint, number });
        }
    }

    /// Where its answer was found.
    pub fn level(&self) -> Level {
        self.state.borrow().level
    }

    fn decide(&self, core: &Core, stage: Stage) {
        let mut state = self.state.borrow_mut();
        if !matches!(state.stage, Stage::Asking) {
            return;
        }
        state.stage = stage;
        self.leave_map(core);
        state.wake();
    }

    /// Lets a reader of this flight lead. False if there is none, or the flight has its verdict.
    pub fn offer(&self, core: &Core, number: u64, stale: Option<Arc<Entry>>) -> bool {
        let mut state = self.state.borrow_mut();
        if !matches!(state.stage, Stage::Asking) {
            return false;
        }
        if state.is_empty() {
            self.leave_map(core);
            return false;
        }
        state.stage = Stage::Offered(number);
        state.born = core.cache.purges.latest();
        state.stale = stale;
        state.wake();
        true
    }

    /// Whether the owner has not answered yet.
    pub fn is_asking(&self) -> bool {
        matches!(self.state.borrow().stage, Stage::Asking)
    }
}
