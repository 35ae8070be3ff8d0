//! A reader's place in a flight: follows the log at its own pace.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::state::Stage;
use super::{End, Flight, Opening, Outlet, Served};
use crate::dialect::facts::{Endpoint, Form, NotStored, TokenUsage};
use crate::error::Failure;
use crate::exchange::core::Core;
use crate::exchange::fly::{Call, fly};
use crate::exchange::letters::{Entry, Letter, settle};
use crate::exchange::order::Order;
use crate::exchange::store::Duty;
use crate::net::Passenger;
use crate::net::watch::{Trip, Watch};

/// A reader's place in a flight; leaving it counts.
pub struct Seat {
    pub(super) core: Rc<Core>,
    pub(super) flight: Rc<Flight>,
    pub(super) place: usize,
    pub(super) opened: bool,
    /// The task that reads the backend, as long as nothing else is waited for here: mostly it ends before that.
    pub(super) pilot: Option<Passenger<Call>>,
}

/// What a reader finds next. Small, because every event of a stream brings one; what it comes with is in the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Fetch the answer: the flight is this exchange's to fly.
    Lead,
    /// [`Seat::found`] has the answer.
    Found,
    Alone,
    /// Ask the owner again.
    Again,
    /// [`Seat::opening`] has something.
    Opening,
    /// [`Seat::read`] has something.
    Bytes,
    /// The answer is complete: [`Seat::tokens`], [`Seat::usage_event`] and [`Seat::converted`] have the rest of it.
    Complete,
    /// Every backend failed; [`Seat::stale`] and [`Seat::failure`]. See [`End::Stale`].
    Stale,
    /// [`Seat::failure`] says how.
    Failed,
    /// The bytes that come next are gone.
    Lagged,
    /// The client's side needs attention.
    Trip(Trip),
}

impl Seat {
    /// The flight this seat is in.
    pub fn flight(&self) -> &Rc<Flight> {
        &self.flight
    }

    /// Takes aboard the task that reads the backend: it goes on while this reader waits for its turn.
    pub fn fly(&mut self, order: Order, duty: Duty) {
        let call = Call { core: self.core.clone(), order, flight: self.flight.clone(), duty };
        self.pilot = Some(self.core.calls.board(fly, call));
    }

    /// Lets it go on by itself. To be said before anything else is waited for: a slow client must not hold up those who
    /// follow the same flight.
    pub fn let_fly(&mut self) {
        self.pilot = None;
    }

    /// As `turn`, for a reader whose client gets the answer as it comes: as long as nothing but bytes comes, and the client
    /// takes them, they go out by `outlet`, and this waits on. What went out so stands behind the turn.
    pub async fn turn_served(&mut self, outlet: Outlet, watch: &Watch) -> (Turn, Served) {
        self.let_fly(); // this task sleeps while it flies
        if let Some(place) = &mut self.flight.state.borrow_mut().readers[self.place] {
            (place.outlet, place.served) = (Some(outlet), Served::default());
        }
        let turn = self.turn(watch).await;
        let place = &mut self.flight.state.borrow_mut().readers[self.place];
        let served = place.as_mut().map(|place| {
            place.outlet = None;
            place.served
        });
        (turn, served.unwrap_or_default())
    }

    /// Waits for what comes next, or for `watch` to trip.
    pub async fn turn(&mut self, watch: &Watch) -> Turn {
        poll_fn(|context| self.poll_turn(watch, context)).await
    }

    fn poll_turn(&mut self, watch: &Watch, context: &mut Context<'_>) -> Poll<Turn> {
        if let Some(trip) = watch.poll_trip(context.waker()) {
            return Poll::Ready(Turn::Trip(trip));
        }
        if let Some(turn) = self.ready() {
            return Poll::Ready(turn);
        }
        if let Some(pilot) = &mut self.pilot {
            let state = pilot.poll(&self.core.calls, context);
            if state.is_ready() {
                self.pilot = None;
            }
            if let Some(turn) = self.ready() {
                return Poll::Ready(turn);
            }
            // Nobody else moves its flight on: there is nothing to be woken for but by what it waits for itself.
            if state.is_pending() {
                return Poll::Pending;
            }
        }
        if let Some(place) = &mut self.flight.state.borrow_mut().readers[self.place] {
            match &mut place.waker {
                Some(waiting) => waiting.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// What is there without waiting.
    pub fn ready(&mut self) -> Option<Turn> {
        let mut state = self.flight.state.borrow_mut();
        match &state.stage {
            Stage::Offered(number) => {
                let number = *number;
                state.stage = Stage::Flying(Some(number));
                return Some(Turn::Lead);
            }
            Stage::Found(_) => return Some(Turn::Found),
            Stage::Alone => return Some(Turn::Alone),
            Stage::Gone => return Some(Turn::Again),
            Stage::Asking | Stage::Flying(_) | Stage::Fed(_) => {}
        }
        if !self.opened && state.opening.is_some() {
            self.opened = true;
            return Some(Turn::Opening);
        }
        let at = state.at(self.place);
        if at < state.base {
            return Some(Turn::Lagged);
        }
        if self.opened && at < state.reach() {
            return Some(Turn::Bytes);
        }
        Some(match state.end.as_ref()? {
            End::Complete { .. } => Turn::Complete,
            End::Stale(..) => Turn::Stale,
            End::Failed(_) => Turn::Failed,
        })
    }

    /// The answer that the owner had.
    pub fn found(&self) -> Option<Arc<Entry>> {
        match &self.flight.state.borrow().stage {
            Stage::Found(entry) => Some(entry.clone()),
            _ => None,
        }
    }

    /// What a complete answer cost, if it is known.
    pub fn tokens(&self) -> Option<TokenUsage> {
        match &self.flight.state.borrow().end {
            Some(End::Complete { tokens, .. }) => *tokens,
            _ => None,
        }
    }

    /// Why a complete answer is not kept.
    pub fn not_stored(&self) -> Option<NotStored> {
        match &self.flight.state.borrow().end {
            Some(End::Complete { not_stored, .. }) => *not_stored,
            _ => None,
        }
    }

    /// The expired answer that may serve instead.
    pub fn stale(&self) -> Option<Arc<Entry>> {
        match &self.flight.state.borrow().end {
            Some(End::Stale(entry, _)) => Some(entry.clone()),
            _ => None,
        }
    }

    /// Why there is no answer.
    pub fn failure(&self) -> Failure {
        match &self.flight.state.borrow().end {
            Some(End::Stale(_, failure) | End::Failed(failure)) => failure.clone(),
            Some(End::Complete { .. }) | None => Failure::FlightLost,
        }
    }

    /// Shows `take` the head of the answer, if it has come.
    pub fn opening<R>(&self, take: impl FnOnce(&Opening) -> R) -> Option<R> {
        self.flight.state.borrow().opening.as_deref().map(take)
    }

    /// The complete answer in the other form than it came in, if it can be converted exactly. Made once for all who wait here.
    pub fn converted(&self, endpoint: Endpoint, form: Form) -> Option<Arc<Entry>> {
        let state = &mut *self.flight.state.borrow_mut();
        if state.converted.is_none() {
            state.converted = Some(state.complete_entry(endpoint).and_then(|entry| entry.in_form(form)).map(Arc::new));
        }
        state.converted.clone().flatten().filter(|entry| entry.form == form)
    }

    /// The usage event of a complete stream, if the backend sent one.
    pub fn usage_event(&self) -> Option<Bytes> {
        match &self.flight.state.borrow().end {
            Some(End::Complete { usage_event, .. }) => usage_event.clone(),
            _ => None,
        }
    }

    /// Hands what is new in the log to `take`, which says how many bytes of it it took.
    pub fn read<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let mut state = self.flight.state.borrow_mut();
        let at = state.at(self.place).max(state.base);
        let fresh = self.core.fresh.borrow();
        let (taken, result) = if fresh.serial == state.fresh && at + fresh.bytes.len() as u64 == state.reach() {
            take(&fresh.bytes)
        } else {
            take(state.bytes().get((at - state.base) as usize..).unwrap_or(&[]))
        };
        drop(fresh);
        if let Some(place) = &mut state.readers[self.place] {
            place.at = at + taken as u64;
        }
        if let Some(pump) = state.pump.take() {
            pump.wake();
        }
        result
    }

    /// Whether the answer is here whole: then it goes out in one piece.
    pub fn is_complete(&self) -> bool {
        matches!(self.flight.state.borrow().end, Some(End::Complete { .. }))
    }

    /// Bytes of the log that are not read yet.
    pub fn unread_bytes(&self) -> u64 {
        let state = self.flight.state.borrow();
        state.reach() - state.at(self.place).max(state.base)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
        // Whoever else was in it has left before.
        if Rc::strong_count(&self.flight) == 1 {
            self.flight.put_away(&self.core);
        }
    }
}

impl Seat {
    fn leave(&mut self) {
        let (alarms, leave) = {
            let mut state = self.flight.state.borrow_mut();
            state.readers[self.place] = None;
            let leave = match state.stage {
                Stage::Fed(source) if state.is_empty() && state.end.is_none() => Some(source),
                _ => None,
            };
            // An offer nobody took is taken back below; one that was taken is the pump's to settle.
            (state.abandon_if_empty(), leave)
        };
        self.flight.end_abandoned(&self.core, alarms);
        if self.flight.state.borrow().is_empty() {
            // A verdict that still comes finds nobody and is declined.
            self.flight.give_up(&self.core);
        }
        let Some(fingerprint) = self.flight.fingerprint else { return };
        if let Some(source) = leave {
            self.flight.leave_map(&self.core);
            let (number, follower) = (source.number, self.core.id);
            self.core.post(source.leader, Letter::Leave { fingerprint, number, follower });
        }
        let refused = {
            let state = self.flight.state.borrow();
            match state.stage {
                Stage::Offered(number) if state.is_empty() => Some(number),
                _ => None,
            }
        };
        if let Some(number) = refused {
            self.flight.leave_map(&self.core);
            settle(&self.core, fingerprint, number, None);
        }
    }
}
