//! One expensive step per round of a core: handshakes that arrive together take turns, so that the streams of the same core
//! run between them. Owned by the acceptor of one listener on one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::net::sleep_ms;

/// A line of tasks, of which one at a time has the turn.
#[derive(Default)]
pub(super) struct Turns {
    is_taken: Cell<bool>,
    /// In the order of their arrival; a task whose turn came, or that is gone, has no place any more.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next: Cell<u64>,
}

/// Passes the turn on when dropped.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        if let Some((_, first)) = self.0.waiting.borrow().front() {
            first.wake_by_ref();
        }
    }
}

/// Leaves the line when dropped.
struct Place<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting.borrow_mut();
        waiting.retain(|(number, _)| *number != self.number);
        // The next one may have been passed over for this one.
        if !self.turns.is_taken.get()
            && let Some((_, first)) = waiting.front()
        {
            first.wake_by_ref();
        }
    }
}

impl Turns {
    /// Waits for the turn, does `step`, and passes the turn on when the tasks that are runnable now have run.
    pub(super) async fn take<R>(&self, step: impl AsyncFnOnce() -> R) -> R {
        let number = self.next.replace(self.next.get() + 1);
        let place = Place { turns: self, number };
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            let is_first = waiting.front().is_none_or(|(first, _)| *first == number);
            if is_first && !self.is_taken.replace(true) {
                return Poll::Ready(());
            }
            match waiting.iter_mut().find(|(other, _)| *other == number) {
                Some((_, waker)) => waker.clone_from(context.waker()),
                None => waiting.push_back((number, context.waker().clone())),
            }
            Poll::Pending
        })
        .await;
        let _turn = Turn(self);
        drop(place);
        let result = step().await;
        sleep_ms(0).await;
        result
    }
}

#[cfg(all(test, not(sim)))]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn turns_are_taken_one_after_the_other_and_those_that_leave_are_passed_over() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let gate = Cell::new(false);
        let step = async || poll_fn(|_| if gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        let mut first = Box::pin(turns.take(step));
        let mut second = Box::pin(turns.take(step));
        let mut third = pin!(turns.take(async || 3));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending() && third.as_mut().poll(&mut context).is_pending());
        assert_eq!(turns.waiting.borrow().len(), 2);
        drop(second);
        assert!(third.as_mut().poll(&mut context).is_pending(), "the first still has it");
        drop(first);
        assert!(!turns.is_taken.get());
        let _ = third.as_mut().poll(&mut context); // in the pause behind its step
        assert!(turns.waiting.borrow().is_empty());
    }
}
