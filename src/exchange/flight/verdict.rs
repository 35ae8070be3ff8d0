//! What the owner of a fingerprint answers to those on this core who asked it.

use std::sync::Arc;

use super::Flight;
use super::state::Stage;
use crate::exchange::core::Core;
use crate::exchange::messages::Entry;

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
        state.born = core.purges.latest();
        state.stale = stale;
        state.wake();
        true
    }

    /// Whether the owner has not answered yet.
    pub fn is_asking(&self) -> bool {
        matches!(self.state.borrow().stage, Stage::Asking)
    }
}
