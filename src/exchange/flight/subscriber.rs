//! A reader's place in a flight: follows the log at its own pace.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Flight;
use super::state::{DirectWriter, Served, Stage};
use crate::dialect::facts::{Endpoint, Form, NotStored, TokenUsage};
use crate::error::Failure;
use crate::exchange::answer::{AnswerHead, End};
use crate::exchange::core::Core;
use crate::exchange::entry::Entry;
use crate::exchange::message::Message;
use crate::exchange::owner::settle;
use crate::net::InlineTask;
use crate::net::watch::{Interrupt, Watch};

/// A reader's place in a flight; leaving it counts.
pub struct Subscriber {
    pub(super) core: Rc<Core>,
    pub(super) flight: Rc<Flight>,
    pub(super) place: usize,
    pub(super) opened: bool,
    /// The task that reads the backend, as long as nothing else is waited for here: mostly it ends before that.
    pub(super) inline_call: Option<InlineTask>,
}

/// What a reader finds next. Small, because every event of a stream brings one; what it comes with is in the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberEvent {
    /// Fetch the answer: the flight is this exchange's to fly.
    Lead,
    /// [`Subscriber::found`] has the answer.
    Found,
    Alone,
    /// Ask the owner again.
    Again,
    /// [`Subscriber::answer_head`] has something.
    AnswerHead,
    /// [`Subscriber::read`] has something.
    Bytes,
    /// The answer is complete: [`Subscriber::tokens`], [`Subscriber::usage_event`] and [`Subscriber::converted`] have the rest of it.
    Complete,
    /// Every backend failed; [`Subscriber::stale`] and [`Subscriber::failure`]. See [`End::Stale`].
    Stale,
    /// [`Subscriber::failure`] says how.
    Failed,
    /// The bytes that come next are gone.
    Lagged,
    /// The client's side needs attention.
    Interrupt(Interrupt),
}

impl Subscriber {
    /// The flight this subscriber is in.
    pub fn flight(&self) -> &Rc<Flight> {
        &self.flight
    }

    /// Until when an answer has to have begun to be of use; none: that does not matter.
    pub fn wants_until(&mut self, until_ms: Option<u64>) {
        if let Some(place) = &mut self.flight.state.borrow_mut().readers[self.place] {
            place.until_ms = until_ms;
        }
    }

    /// Takes aboard the task that reads the backend: it goes on while this reader waits for its turn.
    pub fn fly(&mut self, call: InlineTask) {
        self.inline_call = Some(call);
    }

    /// Lets it go on by itself. To be said before anything else is waited for: a slow client must not hold up those who
    /// follow the same flight.
    pub fn detach_call(&mut self) {
        self.inline_call = None;
    }

    /// As `turn`, for a reader whose client gets the answer as it comes: as long as nothing but bytes comes, and the client
    /// takes them, they go out by `direct_writer`, and this waits on. What went out so stands behind the turn.
    pub async fn next_event_served(&mut self, direct_writer: DirectWriter, watch: &Watch) -> (SubscriberEvent, Served) {
        self.detach_call(); // this task sleeps while it flies
        if let Some(place) = &mut self.flight.state.borrow_mut().readers[self.place] {
            (place.direct_writer, place.served) = (Some(direct_writer), Served::default());
        }
        let turn = self.next_event(watch).await;
        let place = &mut self.flight.state.borrow_mut().readers[self.place];
        let served = place.as_mut().map(|place| {
            place.direct_writer = None;
            place.served
        });
        (turn, served.unwrap_or_default())
    }

    /// Waits for what comes next, or for `watch` to interrupt.
    pub async fn next_event(&mut self, watch: &Watch) -> SubscriberEvent {
        poll_fn(|context| self.poll_event(watch, context)).await
    }

    fn poll_event(&mut self, watch: &Watch, context: &mut Context<'_>) -> Poll<SubscriberEvent> {
        if let Some(interrupt) = watch.poll_interrupt(context.waker()) {
            return Poll::Ready(SubscriberEvent::Interrupt(interrupt));
        }
        if let Some(turn) = self.ready() {
            return Poll::Ready(turn);
        }
        if let Some(inline_call) = &mut self.inline_call {
            let state = inline_call.poll(&self.core.tasks, context);
            if state.is_ready() {
                self.inline_call = None;
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
    pub fn ready(&mut self) -> Option<SubscriberEvent> {
        let mut state = self.flight.state.borrow_mut();
        match &state.stage {
            Stage::Offered(number) => {
                let number = *number;
                state.stage = Stage::Flying(Some(number));
                return Some(SubscriberEvent::Lead);
            }
            Stage::Found(_) => return Some(SubscriberEvent::Found),
            Stage::Alone => return Some(SubscriberEvent::Alone),
            Stage::Gone => return Some(SubscriberEvent::Again),
            Stage::Asking | Stage::Flying(_) | Stage::Fed(_) => {}
        }
        if !self.opened && state.answer_head.is_some() {
            self.opened = true;
            return Some(SubscriberEvent::AnswerHead);
        }
        let at = state.at(self.place);
        if at < state.base {
            return Some(SubscriberEvent::Lagged);
        }
        if self.opened && at < state.reach() {
            return Some(SubscriberEvent::Bytes);
        }
        Some(match state.end.as_ref()? {
            End::Complete { .. } => SubscriberEvent::Complete,
            End::Stale(..) => SubscriberEvent::Stale,
            End::Failed(_) => SubscriberEvent::Failed,
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
    pub fn answer_head<R>(&self, take: impl FnOnce(&AnswerHead) -> R) -> Option<R> {
        self.flight.state.borrow().answer_head.as_deref().map(take)
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
        let fresh = self.core.memory.fresh.borrow();
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

    /// Shows `take` what is in memory of the stream up to where this one has read.
    pub fn received<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
        let state = self.flight.state.borrow();
        let length = state.at(self.place).saturating_sub(state.base) as usize;
        let stream = state.bytes();
        take(&stream[..length.min(stream.len())])
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

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.leave();
        // Whoever else was in it has left before.
        if Rc::strong_count(&self.flight) == 1 {
            self.core.flights.free.give(&self.flight);
        }
    }
}

impl Subscriber {
    fn leave(&mut self) {
        let leave = {
            let mut state = self.flight.state.borrow_mut();
            state.readers[self.place] = None;
            match state.stage {
                Stage::Fed(source) if state.is_empty() && state.end.is_none() => Some(source),
                _ => None,
            }
        };
        // An offer nobody took is taken back below; one that was taken is the pump's to settle.
        self.flight.subscriber_left(&self.core);
        if self.flight.state.borrow().is_empty() {
            // A verdict that still comes finds nobody and is declined.
            self.flight.give_up(&self.core);
        }
        let Some(fingerprint) = self.flight.fingerprint else { return };
        if let Some(source) = leave {
            self.flight.leave_map(&self.core);
            let (number, follower) = (source.number, self.core.id);
            self.core.post(source.leader, Message::Leave { fingerprint, number, follower });
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
