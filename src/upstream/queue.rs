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
use super::permits::{CorePermits, Waits};
use super::upstreams::{Done, Upstreams};
use crate::net::{now_ms, sleep_ms, spawn};

/// How often a core on which requests wait looks for permits that other cores have returned. A wake-up by message would cost
/// one per request while every core is at its limit.
const BORROW_MS: u64 = 2;

/// Longest wait that a client is told: OpenAI's libraries heed no longer one.
const RETRY_MAX_S: u64 = 60;

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Model(usize),
    Backend(usize),
}

/// For whom a permit is asked, and until when it is of use, on the clock of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub who: Who,
    pub until_ms: u64,
}

/// Somebody's permit; the next one's when it is dropped.
pub struct QueuePermit {
    upstreams: Rc<Upstreams>,
    at: At,
}

/// A permit, if it is had without waiting. Errors: the queue is full.
pub fn permit_now(upstreams: &Rc<Upstreams>, at: At, claim: Claim) -> Result<Option<QueuePermit>, Fault> {
    let (mut queue, permits) = (queue(upstreams, at).borrow_mut(), permits(upstreams, at));
    if queue.waiting() == 0
        && !queue.has_free()
        && queue.taken() < limit(upstreams, at)
        && permits.take(claim.who.priority)
    {
        fit(upstreams, at, &mut queue);
    }
    // Where nobody waits, nobody is weighed.
    let who = if queue.waiting() == 0 { claim.who } else { who_here(permits, &queue, claim.who) };
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

/// Waits for a permit where there was none at once. Errors: the wait takes too long, would take longer than the client has
/// time, or the place is given to another one.
pub async fn wait(upstreams: &Rc<Upstreams>, at: At, claim: Claim, timeout_ms: u64) -> Result<QueuePermit, Fault> {
    let mut waiting: Option<Waiting<'_>> = None;
    let left_ms = claim.until_ms.saturating_sub(now_ms());
    let mut too_late = pin!(sleep_ms(timeout_ms.min(left_ms)));
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
                let now = upstreams.now();
                let who = who_here(permits(upstreams, at), &queue, claim.who);
                if let Some(wait_ms) = queue.wait_ms(who, now).filter(|wait_ms| *wait_ms > left_ms) {
                    upstreams.core.counters.queue_sheds.add(1);
                    return Poll::Ready(Err(too_late_by(wait_ms.saturating_sub(left_ms))));
                }
                let (place, displaced) = queue.wait(who, context.waker().clone(), now);
                permits(upstreams, at).show(queue.front());
                drop(queue);
                let waits = permits(upstreams, at).count_waiting(who.tenant);
                *none = Some(Waiting { upstreams, at, place, over: false, _waits: waits });
                displaced.into_iter().for_each(Waker::wake);
                look_elsewhere(upstreams, at);
            }
        }
        if too_late.as_mut().poll(context).is_ready() {
            if left_ms <= timeout_ms {
                upstreams.core.counters.queue_expired.add(1);
                return Poll::Ready(Err(too_late_by(left_ms)));
            }
            upstreams.core.counters.queue_timeouts.add(1);
            return Poll::Ready(Err(Fault::QueueTimeout));
        }
        Poll::Pending
    })
    .await
}

/// When to try again is told by how much time was missing: that is how long the queue takes to become short enough.
fn too_late_by(ms: u64) -> Fault {
    Fault::TooLate { retry_s: ms.div_ceil(1000).clamp(1, RETRY_MAX_S) as u16 }
}

/// A place in a queue; given up when it is dropped before its permit.
struct Waiting<'a> {
    upstreams: &'a Upstreams,
    at: At,
    place: Place,
    over: bool,
    _waits: Waits,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let mut queue = queue(self.upstreams, self.at).borrow_mut();
            let next = queue.give_up(self.place, self.upstreams.now());
            permits(self.upstreams, self.at).show(queue.front());
            drop(queue);
            next.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let (upstreams, at) = (&*self.upstreams, self.at);
        let permits = permits(upstreams, at);
        let leaves = owes_one(upstreams, at) && (has_room(upstreams, at) || close_idle(upstreams, at));
        let mut queue = queue(upstreams, at).borrow_mut();
        if leaves {
            permits.keep(permits.held() - 1);
            fit(upstreams, at, &mut queue);
        }
        let next = queue.leave(upstreams.now());
        if next.is_some() {
            permits.served(queue.front());
        }
        drop(queue);
        next.into_iter().for_each(Waker::wake);
        settle(upstreams, at);
    }
}

/// Begins to borrow for the requests that wait in this queue.
fn look_elsewhere(upstreams: &Rc<Upstreams>, at: At) {
    // Below its limit: permits of other cores are of no use to it otherwise.
    let is_limited = queue(upstreams, at).borrow().taken() >= limit(upstreams, at);
    if is_limited || !permits(upstreams, at).are_lent() {
        return;
    }
    if permits(upstreams, at).begin_wanting()
        && let At::Backend(backend) = at
    {
        tell_wanted(upstreams, backend);
    }
    // Also where a permit is wanted already: those who only want a connection do not borrow.
    if !upstreams.borrowing.replace(true) {
        spawn(&upstreams.core.panics, borrow(upstreams.clone()));
    }
}

fn tell_wanted(upstreams: &Upstreams, backend: usize) {
    let backend = upstreams.backends[backend].id();
    upstreams.core.tell_others(|| UpstreamMessage::ConnectionWanted { backend });
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
            let limit = limit(&upstreams, at);
            // What is this core's part depends on the others.
            permits.publish();
            while let Some(front) = queue.front().filter(|_| queue.taken() < limit)
                && (queue.has_free() || permits.take(front.priority))
            {
                fit(&upstreams, at, &mut queue);
                let next = queue.grant(upstreams.now());
                if next.is_some() {
                    permits.served(queue.front());
                }
                woken.extend(next);
            }
            match queue.waiting() {
                0 => permits.end_wanting(),
                _ if queue.taken() >= limit => permits.end_wanting(),
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
    let held = permits.held();
    if !permits.are_lent() || queue(upstreams, at).borrow().waiting() > 0 {
        return;
    }
    match at {
        At::Model(_) => permits.keep(queue(upstreams, at).borrow().taken()),
        At::Backend(backend) => upstreams.backends[backend].keep_used(),
    }
    if permits.held() != held {
        fit(upstreams, at, &mut queue(upstreams, at).borrow_mut());
    }
}

/// Whether a permit goes to another core, where that is known before one is free.
fn owes_one(upstreams: &Upstreams, at: At) -> bool {
    let permits = permits(upstreams, at);
    let At::Backend(backend) = at else { return permits.owes_one() };
    let backend = &upstreams.backends[backend];
    if !backend.speaks_http2() {
        return permits.owes_one() || permits.owes_idle();
    }
    // A connection that several streams share becomes free only if it gets no new ones.
    let owes = permits.are_lent() && (permits.owes_one() || permits.owes_unasked());
    let mut streams = backend.streams.streams.borrow_mut();
    if !owes {
        streams.keep_all();
    } else if streams.idle() == 0 && permits.held() as usize <= streams.counted() {
        streams.yield_one();
    }
    drop(streams);
    queue(upstreams, at).borrow_mut().resize(backend.capacity().min(backend.limit()));
    owes
}

/// A request that has its turn waits for a connection of HTTP/2, while this lives.
pub struct ConnectionWanted<'a> {
    upstreams: &'a Upstreams,
    backend: usize,
}

impl<'a> ConnectionWanted<'a> {
    pub fn new(upstreams: &'a Upstreams, backend: usize) -> ConnectionWanted<'a> {
        ConnectionWanted { upstreams, backend }
    }

    /// Other cores are to return a permit, if they have not been told that already.
    pub fn ask(&self) {
        let permits = &self.upstreams.backends[self.backend].http2_permits;
        if permits.are_lent() && permits.begin_wanting() {
            tell_wanted(self.upstreams, self.backend);
        }
    }
}

impl Drop for ConnectionWanted<'_> {
    fn drop(&mut self) {
        let of = &self.upstreams.backends[self.backend];
        // What requests in the queue want, `borrow` ends; others who wait as this one did ask again.
        let is_borrowing = of.speaks_http2() && self.upstreams.borrowing.get();
        if !is_borrowing || of.queue.borrow().waiting() == 0 {
            of.http2_permits.end_wanting();
        }
    }
}

/// Returns the permits that this core does not use, and half of those of idle connections if requests wait on other cores.
/// Half, because a core that closed all of them would open them again soon after.
pub fn release(upstreams: &Upstreams, at: At) {
    if let At::Backend(backend) = at
        && permits(upstreams, at).are_wanted_elsewhere()
    {
        let of = &upstreams.backends[backend];
        let idle = if of.speaks_http2() { of.streams.streams.borrow().idle() } else { of.pool.borrow().idle() };
        (0..idle.div_ceil(2)).for_each(|_| _ = close_idle(upstreams, at));
    }
    settle(upstreams, at);
}

/// As `release`, for every queue. For a timer.
pub fn release_all(upstreams: &Upstreams) {
    all(upstreams).filter(|at| permits(upstreams, *at).are_lent()).for_each(|at| release(upstreams, at));
}

/// Whether a permit is not bound to a connection, idle ones included.
fn has_room(upstreams: &Upstreams, at: At) -> bool {
    let bound = match at {
        At::Model(_) => 0,
        At::Backend(backend) => upstreams.backends[backend].counted(),
    };
    bound < permits(upstreams, at).held()
}

/// Closes the connection that has been idle for longest. Whether there was one.
fn close_idle(upstreams: &Upstreams, at: At) -> bool {
    let At::Backend(backend) = at else { return false };
    let of = &upstreams.backends[backend];
    if of.speaks_http2() {
        return of.streams.close_one();
    }
    let closing = of.pool.borrow_mut().close_idle();
    closing.is_some()
}

/// Makes room for a connection that a request with a permit is about to open. Every lease and every connection being opened
/// has a permit, so if all are bound to connections, one of these is idle.
pub fn make_room(upstreams: &Upstreams, backend: usize) {
    let at = At::Backend(backend);
    let speaks_http2 = upstreams.backends[backend].speaks_http2();
    if !speaks_http2 && permits(upstreams, at).are_lent() && !has_room(upstreams, at) {
        close_idle(upstreams, at);
    }
}

/// Who opens connections ahead of need.
const NOBODY: Claim = Claim { who: Who { priority: u8::MAX, tenant: u32::MAX, weight: 1 }, until_ms: u64::MAX };

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
        if !permits.take(NOBODY.who.priority) {
            return None;
        }
        fit(upstreams, at, &mut queue(upstreams, at).borrow_mut());
    }
    Some(permit)
}

/// How a request to a backend with a limit that is found went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Felt {
    /// Its answer began so long after it was sent; which kind of answer.
    Answered { kind: usize, us: u64 },
    /// It said that it has too much, or did not answer in time.
    Overloaded,
}

/// Lets a backend's limit follow. For those that have one.
pub fn felt(upstreams: &Rc<Upstreams>, backend: usize, felt: Felt) {
    let (of, at) = (&upstreams.backends[backend], At::Backend(backend));
    let Some(concurrency) = &of.concurrency else { return };
    let mut queue = of.queue.borrow_mut();
    match felt {
        Felt::Answered { kind, us } => concurrency.borrow_mut().answered(kind, us, queue.taken()),
        Felt::Overloaded => concurrency.borrow_mut().overloaded(),
    }
    fit(upstreams, at, &mut queue);
    let mut woken = Vec::new();
    woken.extend(std::iter::from_fn(|| queue.grant(upstreams.now())));
    of.permits().show(queue.front());
    let waits = queue.waiting() > 0;
    drop(queue);
    woken.into_iter().for_each(Waker::wake);
    if waits {
        look_elsewhere(upstreams, at);
    }
}

/// For whom a request waits on this core: of a tenant that waits on others as well, by its part of the weight.
fn who_here(permits: &CorePermits, queue: &Queue<Waker>, who: Who) -> Who {
    permits.who_here(who, queue.waiting_of(who))
}

/// Lets a queue give out the permits of this core, as far as the limit allows.
fn fit(upstreams: &Upstreams, at: At, queue: &mut Queue<Waker>) {
    let capacity = match at {
        At::Model(_) => permits(upstreams, at).held(),
        At::Backend(backend) => upstreams.backends[backend].capacity(),
    };
    queue.resize(capacity.min(limit(upstreams, at)));
}

fn limit(upstreams: &Upstreams, at: At) -> u32 {
    match at {
        At::Model(_) => u32::MAX,
        At::Backend(backend) => upstreams.backends[backend].limit(),
    }
}

fn permits(upstreams: &Upstreams, at: At) -> &CorePermits {
    match at {
        At::Model(model) => &upstreams.models[model].queue.permits,
        At::Backend(backend) => upstreams.backends[backend].permits(),
    }
}

fn queue(upstreams: &Upstreams, at: At) -> &RefCell<Queue<Waker>> {
    match at {
        At::Model(model) => &upstreams.models[model].queue.waiting,
        At::Backend(backend) => &upstreams.backends[backend].queue,
    }
}
