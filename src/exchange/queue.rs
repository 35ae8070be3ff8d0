//! Waiting for a permit: at a model, whose requests in flight are bounded, and at a backend, whose connections are. First
//! come, first served on each core, within a time-out of its own; a queue that is full says so at once. A core that runs
//! out of permits borrows from the node's, and looks again every few milliseconds while requests wait.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use shards::{CoreId, Enter, Fault, Place, Queue};

use super::connect::Done;
use super::flight::Flight;
use super::generation::Generation;
use super::messages::Message;
use super::permits::CorePermits;
use crate::net::{sleep_ms, spawn};

/// How often a core on which requests wait looks for permits that other cores have returned. A wake-up by message would cost
/// one per request while every core is at its limit.
const BORROW_MS: u64 = 2;

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Model(usize),
    Backend(usize),
}

/// Somebody's permit; the next one's when it is dropped.
pub struct QueuePermit {
    core: Rc<Generation>,
    at: At,
}

/// A permit, if it is had without waiting. Errors: the queue is full.
pub fn permit_now(core: &Rc<Generation>, at: At) -> Result<Option<QueuePermit>, Fault> {
    let (mut queue, permits) = (queue(core, at).borrow_mut(), permits(core, at));
    if queue.waiting() == 0 && queue.taken() >= permits.held() && permits.take() {
        queue.resize(permits.held());
    }
    let entered = queue.enter();
    drop(queue);
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
pub async fn permit(core: &Rc<Generation>, at: At, timeout_ms: u64, flight: &Flight) -> Result<QueuePermit, Fault> {
    match permit_now(core, at)? {
        Some(permit) => Ok(permit),
        // Boxed, here and wherever else it is rare: what is not, is copied with the task of every request.
        None => flight.unless_abandoned(Box::pin(wait(core, at, timeout_ms))).await.unwrap_or(Err(Fault::Cancelled)),
    }
}

async fn wait(core: &Rc<Generation>, at: At, timeout_ms: u64) -> Result<QueuePermit, Fault> {
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
                drop(queue);
            }
            none => {
                *none = Some(Waiting { core, at, place: queue.wait(context.waker().clone()), over: false });
                drop(queue);
                look_elsewhere(core, at);
            }
        }
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
    core: &'a Generation,
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
        let (core, at) = (&*self.core, self.at);
        let permits = permits(core, at);
        let leaves = permits.owes_one() && (has_room(core, at) || close_idle(core, at));
        let mut queue = queue(core, at).borrow_mut();
        if leaves {
            permits.keep(permits.held() - 1);
            queue.resize(permits.held());
        }
        let next = queue.leave();
        drop(queue);
        next.into_iter().for_each(Waker::wake);
        settle(core, at);
    }
}

/// Begins to borrow for the requests that wait in this queue.
fn look_elsewhere(core: &Rc<Generation>, at: At) {
    if !permits(core, at).are_lent() || !permits(core, at).begin_wanting() {
        return;
    }
    if let At::Backend(backend) = at {
        for other in (0..core.count).map(CoreId).filter(|other| *other != core.id) {
            core.post(other, Message::ConnectionWanted { backend: core.backends[backend].id() });
        }
    }
    if !core.borrowing.replace(true) {
        spawn(&core.panics, borrow(core.clone()));
    }
}

/// Takes permits for the requests that wait on this core, until none does.
async fn borrow(core: Rc<Generation>) {
    // Also when it panics: otherwise this core would never borrow again.
    let _done = Done(&core.borrowing);
    let mut waits = true;
    while waits {
        sleep_ms(BORROW_MS).await;
        waits = false;
        for at in all(&core) {
            let (mut queue, permits) = (queue(&core, at).borrow_mut(), permits(&core, at));
            let mut woken = Vec::new();
            while queue.waiting() > 0 && permits.take() {
                queue.resize(permits.held());
                woken.extend(queue.grant());
            }
            match queue.waiting() {
                0 => permits.end_wanting(),
                _ => waits |= permits.are_lent(),
            }
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

fn all(core: &Generation) -> impl Iterator<Item = At> + use<> {
    (0..core.models.len()).map(At::Model).chain((0..core.backends.len()).map(At::Backend))
}

/// Returns the permits that this core does not use.
fn settle(core: &Generation, at: At) {
    let permits = permits(core, at);
    let mut queue = queue(core, at).borrow_mut();
    if permits.are_lent() && queue.waiting() == 0 {
        permits.keep(queue.taken().max(open(core, at)));
        queue.resize(permits.held());
    }
}

/// Returns the permits that this core does not use, and half of those of idle connections if requests wait on other cores.
/// Half, because a core that closed all of them would open them again soon after.
pub fn release(core: &Generation, at: At) {
    if let At::Backend(backend) = at
        && permits(core, at).are_wanted_elsewhere()
    {
        let idle = core.backends[backend].pool.borrow().idle();
        (0..idle.div_ceil(2)).for_each(|_| _ = close_idle(core, at));
    }
    settle(core, at);
}

/// As `release`, for every queue. For a timer.
pub fn release_all(core: &Generation) {
    all(core).filter(|at| permits(core, *at).are_lent()).for_each(|at| release(core, at));
}

/// HTTP/1.1 connections that are open, idle ones included: each needs a permit, whether a request uses it or not.
fn open(core: &Generation, at: At) -> u32 {
    match at {
        At::Model(_) => 0,
        At::Backend(backend) => core.backends[backend].pool.borrow().open() as u32,
    }
}

/// Whether a permit is not bound to a connection.
fn has_room(core: &Generation, at: At) -> bool {
    open(core, at) < permits(core, at).held()
}

/// Closes the connection that has been idle for longest. Whether there was one.
fn close_idle(core: &Generation, at: At) -> bool {
    let At::Backend(backend) = at else { return false };
    let closing = core.backends[backend].pool.borrow_mut().close_idle();
    closing.is_some()
}

/// Makes room for a connection that a request with a permit is about to open. Every lease and every connection being opened
/// has a permit, so if all are bound to connections, one of these is idle.
pub fn make_room(core: &Generation, backend: usize) {
    let at = At::Backend(backend);
    if permits(core, at).are_lent() && !has_room(core, at) {
        close_idle(core, at);
    }
}

/// A permit to open a connection ahead of need: none if it is wanted for requests, here or on another core.
pub fn permit_to_warm(core: &Rc<Generation>, backend: usize) -> Option<QueuePermit> {
    let (at, permits) = (At::Backend(backend), &core.backends[backend].permits);
    if !permits.are_lent() {
        return permit_now(core, at).ok().flatten();
    }
    if permits.are_wanted_elsewhere() {
        return None;
    }
    let permit = permit_now(core, at).ok().flatten()?;
    if !has_room(core, at) {
        if !permits.take() {
            return None;
        }
        queue(core, at).borrow_mut().resize(permits.held());
    }
    Some(permit)
}

fn permits(core: &Generation, at: At) -> &CorePermits {
    match at {
        At::Model(model) => &core.models[model].queue.permits,
        At::Backend(backend) => &core.backends[backend].permits,
    }
}

fn queue(core: &Generation, at: At) -> &RefCell<Queue<Waker>> {
    match at {
        At::Model(model) => &core.models[model].queue.waiting,
        At::Backend(backend) => &core.backends[backend].queue,
    }
}
