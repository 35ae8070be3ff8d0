//! Waiting for a permit: at a model, whose requests in flight are bounded, and at a backend, whose connections are. Each
//! core serves by priority and fairly over tenants, within a time-out of its own; a queue that is full says so at once. A
//! core that runs out of permits borrows from the node's, and looks again every few milliseconds while requests wait.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use shards::{Enter, Fault, Place, Queue, Standing, Who};

use super::message::UpstreamMessage;
use super::permits::CorePermits;
use super::upstreams::{Done, Upstreams};
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
    upstreams: Rc<Upstreams>,
    at: At,
}

/// A permit, if it is had without waiting. Errors: the queue is full.
pub fn permit_now(upstreams: &Rc<Upstreams>, at: At, who: Who) -> Result<Option<QueuePermit>, Fault> {
    let (mut queue, permits) = (queue(upstreams, at).borrow_mut(), permits(upstreams, at));
    if queue.waiting() == 0 && queue.taken() >= permits.held() && permits.take() {
        queue.resize(permits.held());
    }
    let entered = queue.enter(who);
    drop(queue);
    match entered {
        Enter::Go => Ok(Some(QueuePermit { upstreams: upstreams.clone(), at })),
        Enter::Wait => Ok(None),
        Enter::Full => {
            upstreams.core.counters.queue_full.add(1);
            Err(Fault::QueueFull)
        }
    }
}

/// Waits for a permit where there was none at once. Errors: the wait takes too long, or the place is given to another one.
pub async fn wait(upstreams: &Rc<Upstreams>, at: At, who: Who, timeout_ms: u64) -> Result<QueuePermit, Fault> {
    let mut waiting: Option<Waiting<'_>> = None;
    let mut too_late = pin!(sleep_ms(timeout_ms));
    poll_fn(|context| {
        let mut queue = queue(upstreams, at).borrow_mut();
        match &mut waiting {
            Some(waiting) => {
                match queue.standing(waiting.place) {
                    Standing::Granted => {
                        waiting.over = true;
                        return Poll::Ready(Ok(QueuePermit { upstreams: upstreams.clone(), at }));
                    }
                    Standing::Refused => {
                        waiting.over = true;
                        upstreams.core.counters.queue_full.add(1);
                        return Poll::Ready(Err(Fault::QueueFull));
                    }
                    Standing::Waiting => {}
                }
                queue.replace(waiting.place, context.waker().clone());
                drop(queue);
            }
            none => {
                let (place, displaced) = queue.wait(who, context.waker().clone());
                drop(queue);
                *none = Some(Waiting { upstreams, at, place, over: false });
                displaced.into_iter().for_each(Waker::wake);
                look_elsewhere(upstreams, at);
            }
        }
        if too_late.as_mut().poll(context).is_ready() {
            upstreams.core.counters.queue_timeouts.add(1);
            return Poll::Ready(Err(Fault::QueueTimeout));
        }
        Poll::Pending
    })
    .await
}

/// A place in a queue; given up when it is dropped before its permit.
struct Waiting<'a> {
    upstreams: &'a Upstreams,
    at: At,
    place: Place,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let next = queue(self.upstreams, self.at).borrow_mut().give_up(self.place);
            next.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let (upstreams, at) = (&*self.upstreams, self.at);
        let permits = permits(upstreams, at);
        let leaves = permits.owes_one() && (has_room(upstreams, at) || close_idle(upstreams, at));
        let mut queue = queue(upstreams, at).borrow_mut();
        if leaves {
            permits.keep(permits.held() - 1);
            queue.resize(permits.held());
        }
        let next = queue.leave();
        drop(queue);
        next.into_iter().for_each(Waker::wake);
        settle(upstreams, at);
    }
}

/// Begins to borrow for the requests that wait in this queue.
fn look_elsewhere(upstreams: &Rc<Upstreams>, at: At) {
    if !permits(upstreams, at).are_lent() || !permits(upstreams, at).begin_wanting() {
        return;
    }
    if let At::Backend(backend) = at {
        let backend = upstreams.backends[backend].id();
        upstreams.core.tell_others(|| UpstreamMessage::ConnectionWanted { backend });
    }
    if !upstreams.borrowing.replace(true) {
        spawn(&upstreams.core.panics, borrow(upstreams.clone()));
    }
}

/// Takes permits for the requests that wait on this core, until none does.
async fn borrow(upstreams: Rc<Upstreams>) {
    // Also when it panics: otherwise this core would never borrow again.
    let _done = Done(&upstreams.borrowing);
    let mut waits = true;
    while waits {
        sleep_ms(BORROW_MS).await;
        waits = false;
        for at in all(&upstreams) {
            let (mut queue, permits) = (queue(&upstreams, at).borrow_mut(), permits(&upstreams, at));
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

fn all(upstreams: &Upstreams) -> impl Iterator<Item = At> + use<> {
    (0..upstreams.models.len()).map(At::Model).chain((0..upstreams.backends.len()).map(At::Backend))
}

/// Returns the permits that this core does not use.
fn settle(upstreams: &Upstreams, at: At) {
    let permits = permits(upstreams, at);
    let mut queue = queue(upstreams, at).borrow_mut();
    if permits.are_lent() && queue.waiting() == 0 {
        permits.keep(queue.taken().max(open(upstreams, at)));
        queue.resize(permits.held());
    }
}

/// Returns the permits that this core does not use, and half of those of idle connections if requests wait on other cores.
/// Half, because a core that closed all of them would open them again soon after.
pub fn release(upstreams: &Upstreams, at: At) {
    if let At::Backend(backend) = at
        && permits(upstreams, at).are_wanted_elsewhere()
    {
        let idle = upstreams.backends[backend].pool.borrow().idle();
        (0..idle.div_ceil(2)).for_each(|_| _ = close_idle(upstreams, at));
    }
    settle(upstreams, at);
}

/// As `release`, for every queue. For a timer.
pub fn release_all(upstreams: &Upstreams) {
    all(upstreams).filter(|at| permits(upstreams, *at).are_lent()).for_each(|at| release(upstreams, at));
}

/// HTTP/1.1 connections that are open, idle ones included: each needs a permit, whether a request uses it or not.
fn open(upstreams: &Upstreams, at: At) -> u32 {
    match at {
        At::Model(_) => 0,
        At::Backend(backend) => upstreams.backends[backend].pool.borrow().open() as u32,
    }
}

/// Whether a permit is not bound to a connection.
fn has_room(upstreams: &Upstreams, at: At) -> bool {
    open(upstreams, at) < permits(upstreams, at).held()
}

/// Closes the connection that has been idle for longest. Whether there was one.
fn close_idle(upstreams: &Upstreams, at: At) -> bool {
    let At::Backend(backend) = at else { return false };
    let closing = upstreams.backends[backend].pool.borrow_mut().close_idle();
    closing.is_some()
}

/// Makes room for a connection that a request with a permit is about to open. Every lease and every connection being opened
/// has a permit, so if all are bound to connections, one of these is idle.
pub fn make_room(upstreams: &Upstreams, backend: usize) {
    let at = At::Backend(backend);
    if permits(upstreams, at).are_lent() && !has_room(upstreams, at) {
        close_idle(upstreams, at);
    }
}

/// Who opens connections ahead of need.
const NOBODY: Who = Who { priority: u8::MAX, tenant: u32::MAX, weight: 1 };

/// A permit to open a connection ahead of need: none if it is wanted for requests, here or on another core.
pub fn permit_to_warm(upstreams: &Rc<Upstreams>, backend: usize) -> Option<QueuePermit> {
    let (at, permits) = (At::Backend(backend), &upstreams.backends[backend].permits);
    if !permits.are_lent() {
        return permit_now(upstreams, at, NOBODY).ok().flatten();
    }
    if permits.are_wanted_elsewhere() {
        return None;
    }
    let permit = permit_now(upstreams, at, NOBODY).ok().flatten()?;
    if !has_room(upstreams, at) {
        if !permits.take() {
            return None;
        }
        queue(upstreams, at).borrow_mut().resize(permits.held());
    }
    Some(permit)
}

fn permits(upstreams: &Upstreams, at: At) -> &CorePermits {
    match at {
        At::Model(model) => &upstreams.models[model].queue.permits,
        At::Backend(backend) => &upstreams.backends[backend].permits,
    }
}

fn queue(upstreams: &Upstreams, at: At) -> &RefCell<Queue<Waker>> {
    match at {
        At::Model(model) => &upstreams.models[model].queue.waiting,
        At::Backend(backend) => &upstreams.backends[backend].queue,
    }
}
