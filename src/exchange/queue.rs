//! Waiting one's permit: at a model, whose requests in flight are bounded, and at a backend, whose connections are. First
//! come, first served, within a time-out of its own; a queue that is full says so at once.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use shards::{Enter, Fault, Place, Queue};

use super::core::Core;
use super::flight::Flight;
use crate::net::sleep_ms;

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Model(usize),
    Backend(usize),
}

/// Somebody's permit; the next one's when it is dropped.
pub struct QueuePermit {
    core: Rc<Core>,
    at: At,
}

/// A permit, if it is had without waiting. Errors: the queue is full.
pub fn permit_now(core: &Rc<Core>, at: At) -> Result<Option<QueuePermit>, Fault> {
    let entered = queue(core, at).borrow_mut().enter();
    match entered {
        Enter::Go => Ok(Some(QueuePermit { core: core.clone(), at })),
        Enter::Wait => Ok(None),
        Enter::Full => {
            core.counters.queue_full.add(1);
            Err(Fault::QueueFull)
        }
    }
}

/// Waits for a permit. Errors: the queue is full, the wait too long, or everybody has left.
pub async fn permit(core: &Rc<Core>, at: At, timeout_ms: u64, flight: &Flight) -> Result<QueuePermit, Fault> {
    match permit_now(core, at)? {
        Some(permit) => Ok(permit),
        // Boxed, here and wherever else it is rare: what is not, is copied with the task of every request.
        None => flight.unless_abandoned(Box::pin(wait(core, at, timeout_ms))).await.unwrap_or(Err(Fault::Cancelled)),
    }
}

async fn wait(core: &Rc<Core>, at: At, timeout_ms: u64) -> Result<QueuePermit, Fault> {
    let mut waiting: Option<Waiting<'_>> = None;
    let mut too_late = pin!(sleep_ms(timeout_ms));
    poll_fn(|context| {
        let mut queue = queue(core, at).borrow_mut();
        match &mut waiting {
            Some(waiting) => {
                if queue.take_grant(waiting.place) {
                    waiting.over = true;
                    return Poll::Ready(Ok(QueuePermit { core: core.clone(), at }));
                }
                queue.replace(waiting.place, context.waker().clone());
            }
            none => *none = Some(Waiting { core, at, place: queue.wait(context.waker().clone()), over: false }),
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

/// A place in a queue; given up when it is dropped before its permit.
struct Waiting<'a> {
    core: &'a Core,
    at: At,
    place: Place,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let next = queue(self.core, self.at).borrow_mut().give_up(self.place);
            next.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for QueuePermit {
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
