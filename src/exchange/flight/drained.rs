//! A call that goes on though everybody has left: bounded in number and in bytes, ended when the core stops, and joined by whoever
//! asks the same meanwhile. What there is to record of the exchange that began it waits here for the call's end.

use std::rc::Rc;

use super::Flight;
use super::state::{AtEnd, State};
use crate::config::snapshot::OnClientDisconnect;
use crate::exchange::answer::End;
use crate::exchange::core::Core;
use crate::exchange::used::{Bill, Used};
use crate::limits::{DRAINED_BYTES, DRAINED_CALLS};
use crate::net::watch::Alarm;

impl Flight {
    /// What becomes of it from now on when everybody leaves: a request that no backend has is cancelled.
    pub fn set_when_left(&self, when_left: OnClientDisconnect) {
        self.state.borrow_mut().when_left = when_left;
    }

    /// Whether nobody would see what another attempt brings.
    pub fn is_unwanted(&self) -> bool {
        let state = self.state.borrow();
        state.abandoned || state.drained_from.is_some()
    }

    /// Whether its call is not over, and was not given up.
    pub fn goes_on(&self) -> bool {
        self.state.borrow().goes_on()
    }

    /// Has `work` done when the call is over.
    pub fn at_end(&self, work: AtEnd) {
        self.state.borrow_mut().at_end = Some(work);
    }

    /// The call is over, and has used this.
    pub fn has_ended(&self, used: Option<Used>) {
        let work = {
            let mut state = self.state.borrow_mut();
            state.bill = Bill::Closed(used);
            state.at_end.take()
        };
        if let Some(work) = work {
            let state = self.state.borrow();
            work(used, state.answer_head.as_deref(), state.end.as_ref());
        }
    }

    /// One who read it has left.
    pub(super) fn subscriber_left(self: &Rc<Flight>, core: &Core) {
        let alarms = {
            let state = &mut *self.state.borrow_mut();
            if !state.is_empty() || !state.goes_on() || state.drained_from.is_some() {
                return;
            }
            if state.when_left == OnClientDisconnect::Drain && !core.halting.get() {
                let mut draining = core.flights.draining.borrow_mut();
                if draining.len() < DRAINED_CALLS {
                    draining.push(self.clone());
                    state.drained_from = Some(state.reach());
                    // Nobody holds it back any more.
                    return state.pump.take().into_iter().for_each(std::task::Waker::wake);
                }
                core.counters.drained.refused.add(1);
            }
            state.abandon()
        };
        self.end_abandoned(core, alarms);
    }

    /// Somebody reads it who has come since.
    pub(super) fn subscriber_joined(&self, core: &Core) {
        if self.state.borrow_mut().drained_from.take().is_some() {
            self.leave_draining(core);
            core.counters.drained.joined.add(1);
        }
    }

    /// More has come of it.
    pub(super) fn bound_drained(&self, core: &Core) {
        let mut state = self.state.borrow_mut();
        let Some(from) = state.drained_from else { return };
        if state.reach() - from > DRAINED_BYTES && !state.abandoned {
            let alarms = state.abandon();
            drop(state);
            self.end_abandoned(core, alarms);
        }
    }

    /// It is about to end.
    pub(super) fn has_drained(&self, core: &Core, state: &mut State, end: &End) {
        if state.drained_from.take().is_none() {
            return;
        }
        self.leave_draining(core);
        let counters = &core.counters.drained;
        let counter = match end {
            End::Complete { .. } => &counters.finished,
            End::Failed(_) | End::Stale(..) if state.abandoned => &counters.cut,
            End::Failed(_) | End::Stale(..) => &counters.failed,
        };
        counter.add(1);
    }

    fn leave_draining(&self, core: &Core) {
        core.flights.draining.borrow_mut().retain(|flight| !std::ptr::eq(&**flight, self));
    }

    /// Nobody joins it any more, and the backend is left alone at once.
    fn end_abandoned(&self, core: &Core, alarms: [Option<Alarm>; 2]) {
        self.settle(core, None);
        alarms.into_iter().flatten().for_each(Alarm::interrupt);
    }
}

/// The core stops: ends the calls that nobody reads.
pub fn cut_all(core: &Core) {
    let draining = core.flights.draining.borrow().clone();
    for flight in draining {
        let alarms = flight.state.borrow_mut().abandon();
        flight.end_abandoned(core, alarms);
    }
}
