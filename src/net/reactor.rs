//! The io_uring instance of a data core, which delivers everything the core waits for: socket data, readiness,
//! notifications and timers. monoio only runs the tasks; its own ring supports neither multishot receives nor unawaited
//! sends, so nothing is queued on it. Owned by the core's thread; served, and waited on, whenever no task is runnable.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::task::Waker;

use kernel::{Completion, Kernel};
pub use ready::{Ready, eventfd_readable, ready, sleep_until_us};
pub use send::DirectWriter;

use super::clock::begin_round;
use super::now_us;

mod fixed_files; // the fixed file table
mod kernel; // the interface to the kernel
mod ready; // one-shot waits
mod receive; // the receiving side
mod send; // the sending side

#[cfg(test)]
mod fake; // a fake kernel for tests
#[cfg(test)]
mod tests;

/// Initial capacity for the sends of a round.
const POSTED: usize = 1024;
/// Longest wait when no timer is due. A lost wake-up then shows as slowness instead of a hang.
const LONGEST_WAIT_US: u64 = 10_000_000;
/// How many times in a row the kernel is asked to accept what is queued.
const SUBMIT_ATTEMPTS: u32 = 16;
/// How many such rows a closing socket waits for.
const CLOSE_ATTEMPTS: u32 = 1024;

/// The kind of operation, in the two highest bits of a completion's tag.
const OF_RECEIVE: u64 = 0;
const OF_SEND: u64 = 1;
const OF_ROOM: u64 = 2;
const OF_READY: u64 = 3;
const SERIAL_MASK: u32 = (1 << 30) - 1;

thread_local! {
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
    /// Waits and sleeps dropped while the reactor was borrowed; its next user removes them.
    static ENDED: RefCell<Vec<Ended>> = const { RefCell::new(Vec::new()) };
    /// Whether there are any: looked at after each use of the reactor.
    static ANY_ENDED: Cell<bool> = const { Cell::new(false) };
    /// See [`waited_us`].
    static WAITED_US: Cell<u64> = const { Cell::new(0) };
}

/// A dropped wait or sleep, by its key.
enum Ended {
    Wait(u32),
    Sleep((u64, u64)),
}

struct Reactor {
    kernel: Kernel,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Buffers held for their readers. Beyond half of all buffers, bytes are copied out instead, so that there is
    /// always a buffer to receive into.
    held: usize,
    /// A receive ended for lack of buffers, or bytes were copied out.
    ran_out: bool,
    /// Operations are queued but not submitted.
    queued: bool,
    /// They include a receive.
    arming: bool,
    /// When the kernel was last polled.
    asked_us: u64,
    waits: Vec<ready::Wait>,
    waits_free: Vec<u32>,
    /// Wakers of sleeping tasks, by deadline and sequence number.
    timers: BTreeMap<(u64, u64), Waker>,
    timer_number: u64,
    /// Wakers that are no longer needed. Dropping one may drop its task, and with it sockets that use this reactor, so
    /// they are dropped only when it is not borrowed.
    discarded: Vec<Waker>,
    /// Scratch: completions being processed.
    completions: Vec<Completion>,
    /// Tags to cancel once the kernel has accepted their operations.
    cancelled: Vec<u64>,
    /// Slots with queued sends.
    posted: Vec<u32>,
    /// Slots whose peers have no room.
    stalled: Vec<u32>,
    stalled_ticking: bool,
}

/// What an ordinary message needs, in one cache line: with thousands of sockets it is not in the cache.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    serial: u32,
    socket: RawFd,
    /// Its socket is closed; freed with the last completion of its receive.
    orphan: bool,
    /// Is in `Reactor::stalled`; may remain set when the slot is reused for the next socket.
    is_listed: bool,
    receiving: receive::Receiving,
    sending: send::Sending,
    excess: Option<Box<Excess>>,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// Allocated only while one side lags behind the other.
#[derive(Default)]
struct Excess {
    /// Bytes that arrived after those in `Receiving::held`.
    unread: Vec<u8>,
    /// Bytes that the peer has no room for yet.
    unsent: Vec<u8>,
    /// When some of them were last sent, and when they were first left over.
    moved_ms: u64,
    unsent_ms: u64,
    /// The task that waits until they are sent.
    writer: Option<Waker>,
}

impl Slot {
    fn tag(&self, index: u32, of: u64) -> u64 {
        tag(of, self.serial, index)
    }

    fn unread(&self) -> &[u8] {
        self.excess.as_ref().map_or(&[], |excess| &excess.unread)
    }

    fn unsent(&self) -> &[u8] {
        self.excess.as_ref().map_or(&[], |excess| &excess.unsent)
    }

    fn excess(&mut self) -> &mut Excess {
        self.excess.get_or_insert_default()
    }

    /// Frees memory that is not needed: an idle socket has no `Excess`.
    fn tidy(&mut self) {
        let is_over = |excess: &Excess| excess.unread.is_empty() && excess.unsent.is_empty() && excess.writer.is_none();
        if self.excess.as_deref().is_some_and(is_over) {
            self.excess = None;
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.excess.as_mut().and_then(|excess| excess.writer.take()) {
            writer.wake();
        }
    }
}

fn tag(of: u64, serial: u32, index: u32) -> u64 {
    of << 62 | u64::from(serial) << 32 | u64::from(index)
}

/// Receives and sends on one socket. Dropping it cancels the receive and submits what was posted, so that the socket
/// can be closed.
pub struct SocketHandle {
    index: u32,
}

/// Errors: there is no ring, or the thread is ending.
fn with<R>(act: impl FnOnce(&mut Reactor) -> R) -> io::Result<R> {
    let mut discarded = Vec::new();
    let result = REACTOR.try_with(|reactor| {
        let mut reactor = reactor.borrow_mut();
        if reactor.is_none() {
            *reactor = Some(Reactor::new(Kernel::new()?));
        }
        let reactor = reactor.as_mut().expect("made above");
        let result = act(reactor);
        reactor.end_what_was_dropped();
        if !reactor.discarded.is_empty() {
            std::mem::swap(&mut discarded, &mut reactor.discarded);
        }
        Ok(result)
    });
    drop(discarded);
    result.unwrap_or_else(|_| Err(io::ErrorKind::NotConnected.into()))
}

/// Removes a dropped wait or sleep: now, or once the reactor is no longer borrowed.
fn end_dropped(what: Ended) {
    // If the list is gone, the thread is ending and its reactor is gone too.
    if ENDED.try_with(|ended| ended.borrow_mut().push(what)).is_ok() {
        ANY_ENDED.set(true);
        let is_free = REACTOR
            .try_with(|reactor| reactor.try_borrow_mut().is_ok_and(|reactor| reactor.is_some()))
            .unwrap_or(false);
        if is_free {
            let _ = with(|_| ());
        }
    }
}

impl Reactor {
    fn new(kernel: Kernel) -> Reactor {
        Reactor {
            kernel,
            slots: Vec::new(),
            completions: Vec::new(),
            free: Vec::new(),
            held: 0,
            ran_out: false,
            queued: false,
            arming: false,
            asked_us: 0,
            waits: Vec::new(),
            waits_free: Vec::new(),
            timers: BTreeMap::new(),
            timer_number: 0,
            discarded: Vec::new(),
            cancelled: Vec::new(),
            posted: Vec::with_capacity(POSTED),
            stalled: Vec::new(),
            stalled_ticking: false,
        }
    }

    /// Reads the time for the completions that follow and the tasks that they wake.
    fn begin(&mut self) {
        self.asked_us = now_us();
        begin_round(self.asked_us);
    }

    /// Submits what is queued, processes all available completions and wakes their tasks. False: the kernel did not
    /// accept everything that was queued before.
    fn serve(&mut self) -> bool {
        (self.queued, self.arming) = (false, false);
        self.begin();
        let mut submitted = false;
        // Usually one iteration: more if the kernel did not accept or deliver everything, or if completions queued new
        // operations.
        for _ in 0..SUBMIT_ATTEMPTS {
            self.kernel.submit_and_reap();
            let (took_all, is_over) = self.take();
            submitted |= took_all;
            if is_over {
                return submitted;
            }
        }
        self.queued = true;
        submitted
    }

    /// Processes all available completions. Returns whether the kernel has accepted all that was queued, and whether
    /// nothing remains to be submitted or received.
    fn take(&mut self) -> (bool, bool) {
        let took_all = self.kernel.is_submitted();
        self.complete_all();
        if std::mem::take(&mut self.ran_out) {
            self.kernel.use_more_buffers();
        }
        let (is_empty, overflows) = (self.kernel.is_submitted(), self.kernel.overflows());
        let took_all = took_all && !overflows;
        if took_all {
            self.all_posted();
        }
        if is_empty {
            self.cancelled.drain(..).for_each(|tag| self.kernel.cancel(tag));
        }
        (took_all, is_empty && !overflows)
    }

    /// As `serve`, but waits for a completion or the next timer.
    fn serve_and_wait(&mut self) {
        let until_us = self.timers.first_key_value().map(|((until_us, _), _)| *until_us);
        let from_us = now_us();
        let patience_us = until_us.map_or(LONGEST_WAIT_US, |until_us| until_us.saturating_sub(from_us));
        (self.queued, self.arming) = (false, false);
        self.kernel.submit_and_wait(patience_us.min(LONGEST_WAIT_US));
        self.begin();
        WAITED_US.set(WAITED_US.get() + self.asked_us.saturating_sub(from_us));
        let (_, is_over) = self.take();
        if !is_over {
            self.serve();
        }
    }

    fn wake_sleepers(&mut self) {
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= self.asked_us) {
            first.remove().wake();
        }
    }

    /// Must be called before closing a descriptor that a queued operation may refer to, because its number may be
    /// reused immediately.
    fn submit_all(&mut self) {
        for _ in 0..CLOSE_ATTEMPTS {
            if self.serve() {
                return;
            }
        }
        // Continuing could send one peer's bytes to another. A panic would still close the descriptor.
        std::process::abort();
    }

    fn take_waiting(&mut self) -> Vec<Waker> {
        let mut waiting: Vec<Waker> = std::mem::take(&mut self.timers).into_values().collect();
        waiting.extend(self.waits.iter_mut().filter_map(|wait| wait.waker.take()));
        for slot in &mut self.slots {
            waiting.extend(slot.receiving.reader.take());
            waiting.extend(slot.excess.as_mut().and_then(|excess| excess.writer.take()));
        }
        waiting
    }

    /// Queues an operation by `push`. False: the queue is full, and the kernel does not accept it.
    fn queue(&mut self, push: impl Fn(&mut Kernel) -> bool) -> bool {
        let is_queued = push(&mut self.kernel)
            || (0..SUBMIT_ATTEMPTS).any(|_| {
                self.kernel.submit_and_reap();
                push(&mut self.kernel)
            });
        self.queued |= is_queued;
        is_queued
    }

    fn end_what_was_dropped(&mut self) {
        if !ANY_ENDED.replace(false) {
            return;
        }
        while let Some(ended) = ENDED.try_with(|ended| ended.borrow_mut().pop()).ok().flatten() {
            match ended {
                Ended::Wait(index) => self.end_wait(index),
                Ended::Sleep(key) => self.discarded.extend(self.timers.remove(&key)),
            }
        }
    }

    /// Cancels the operation with `tag`, even if it is only queued.
    fn take_back(&mut self, tag: u64) {
        if self.queued && !self.kernel.is_submitted() {
            self.kernel.submit_and_reap();
        }
        if self.kernel.is_submitted() {
            self.kernel.cancel(tag);
        } else {
            self.cancelled.push(tag); // it may still be queued
        }
    }

    fn complete_all(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        loop {
            self.kernel.take_completions(&mut completions);
            if completions.is_empty() {
                break;
            }
            for done in completions.drain(..) {
                self.complete(done);
            }
        }
        self.completions = completions;
    }

    fn complete(&mut self, done: Completion) {
        let (index, serial) = (done.tag as u32, (done.tag >> 32) as u32 & SERIAL_MASK);
        if done.tag >> 62 == OF_READY {
            return self.became_ready(index, serial, done.result);
        }
        if self.slots.get(index as usize).is_none_or(|slot| slot.serial != serial) {
            // The socket was closed in the meantime.
            done.buffer.into_iter().for_each(|id| self.kernel.give_back(id));
            return;
        }
        match done.tag >> 62 {
            OF_SEND => self.fell_short(index, done.result),
            OF_ROOM => self.send_on(index),
            _ => self.received(index, done),
        }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let serial = slot.serial.wrapping_add(1) & SERIAL_MASK;
        self.discarded.extend(slot.receiving.reader.take());
        self.discarded.extend(slot.excess.as_mut().and_then(|excess| excess.writer.take()));
        *slot = Slot { serial, is_listed: slot.is_listed, ..Slot::default() };
        self.free.push(index);
    }
}

/// How long this core has waited for something to do since it began, in microseconds. Time in which it would have run and another
/// thread had its CPU is none.
pub fn waited_us() -> u64 {
    WAITED_US.get()
}

/// Errors: why this thread cannot have a ring.
pub(super) fn check() -> io::Result<()> {
    with(|reactor| reactor.timers.clear())
}

/// Drops the tasks that still wait here, once nothing can wake them any more. What they own is dropped with them and
/// may still use the ring; in thread-local destructors that would be too late.
pub(super) fn end() {
    while let Ok(waiting) = with(Reactor::take_waiting)
        && !waiting.is_empty()
    {
        drop(waiting);
    }
}

/// Submits what is queued and processes completions. To be called when no task is runnable, so that everything the
/// tasks of a round have queued is submitted by one call, and the tasks it wakes run together. `may_wait` means that no
/// task can become runnable by itself; then this waits for a completion or a timer.
pub(super) fn work(may_wait: bool) {
    let _ = with(|reactor| {
        if may_wait {
            reactor.serve_and_wait();
        } else if reactor.queued || reactor.kernel.has_completions() {
            reactor.serve();
        } else {
            reactor.begin();
        }
        reactor.wake_sleepers();
    });
}

impl SocketHandle {
    /// The operation state of an open socket, which must stay open for as long as this lives.
    pub fn new(socket: RawFd) -> io::Result<SocketHandle> {
        with(|reactor| {
            let index = reactor.free.pop().unwrap_or_else(|| {
                reactor.slots.push(Slot::default());
                reactor.slots.len() as u32 - 1
            });
            reactor.slots[index as usize].socket = socket;
            SocketHandle { index }
        })
    }
}

impl Drop for SocketHandle {
    fn drop(&mut self) {
        // When the thread ends, the ring may be gone already.
        let is_there = REACTOR.try_with(|reactor| match reactor.try_borrow() {
            Ok(reactor) => reactor.is_some(),
            // Queued operations may refer to a descriptor that is closed right after this. The reactor drops no task
            // while it is borrowed, so this is impossible; if it happens, continuing could send one peer's bytes to
            // another.
            Err(_) => std::process::abort(),
        });
        if !is_there.unwrap_or(false) {
            return;
        }
        let _ = with(|reactor| {
            let slot = &reactor.slots[self.index as usize];
            let is_named = slot.sending.is_posted() || slot.receiving.armed || !slot.unsent().is_empty();
            if reactor.queued && is_named {
                reactor.submit_all();
            }
            reactor.stop_sending(self.index);
            reactor.forget_number(self.index);
            reactor.slots[self.index as usize].orphan = true;
            if reactor.leave(self.index) {
                reactor.release(self.index);
            }
        });
    }
}
