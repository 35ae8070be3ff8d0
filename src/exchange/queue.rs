//! Waiting one's turn: at a model, whose requests in flight are bounded, and at a backend, whose connections are. First
//! come, first served, within a time-out of its own; a queue that is full says so at once.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use shards::{Enter, Fault, Queue, Ticket};

use super::core::Core;
use super::flight::Flight;
use crate::net::sleep_ms;

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Model(usize),
    Backend(usize),
}

/// Somebody's turn; the next one's when it is dropped.
pub struct Turn {
    core: Rc<Core>,
    at: At,
}

/// A turn, if it is had without waiting. Errors: the queue is full.
pub fn turn_now(core: &Rc<Core>, at: At) -> Result<Option<Turn>, Fault> {
    let entered = queue(core, at).borrow_mut().enter();
    match entered {
        Enter::Go => Ok(Some(Turn { core: core.clone(), at })),
        Enter::Wait => Ok(None),
        Enter::Full => {
            core.counters.queue_full.add(1);
            Err(Fault::QueueFull)
        }
    }
}

/// Waits for a turn. Errors: the queue is full, the wait too long, or everybody has left.
pub async fn turn(core: &Rc<Core>, at: At, timeout_ms: u64, flight: &Flight) -> Result<Turn, Fault> {
    match turn_now(core, at)? {
        Some(turn) => Ok(turn),
        // Boxed, here and wherever else it is rare: what is not, is copied with the task of every request.
        None => flight.unless_abandoned(Box::pin(wait(core, at, timeout_ms))).await.unwrap_or(Err(Fault::Cancelled)),
    }
}

async fn wait(core: &Rc<Core>, at: At, timeout_ms: u64) -> Result<Turn, Fault> {
    let mut waiting: Option<Waiting<'_>> = None;
    let mut too_late = pin!(sleep_ms(timeout_ms));
    poll_fn(|context| {
        let mut queue = queue(core, at).borrow_mut();
        match &mut waiting {
            Some(waiting) => {
                if queue.take_grant(waiting.ticket) {
                    waiting.over = true;
                    return Poll::Ready(Ok(Turn { core: core.clone(), at }));
                }
                queue.replace(waiting.ticket, context.waker().clone());
            }
            none => *none = Some(Waiting { core, at, ticket: queue.wait(context.waker().clone()), over: false }),
        }
        drop(queue);
        if too_late.as_mut().poll(context).is_ready() {
            core.counters.queue_timeouts.add(1);
            return Poll::Ready(Err(Fault::QueueTimeout));
        }
        Poll::Pending
    })
    .await
}

/// A place in a queue; given up when it is dropped before its turn.
struct Waiting<'a> {
    core: &'a Core,
    at: At,
    ticket: Ticket,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let next = queue(self.core, self.at).borrow_mut().give_up(self.ticket);
            next.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = queue(&self.core, self.at).borrow_mut().leave();
        next.into_iter().for_each(Waker::wake);
    }
}

fn queue(core: &Core, at: At) -> &RefCell<Queue<Waker>> {
    match at {
        At::Model(model) => &core.model_queues[model],
        At::Backend(backend) => &core.backend_queues[backend],
    }
}
