//! The ring of a data core, on which everything it waits for comes: a port a socket, readiness, notifiers and timers. The
//! runtime runs the tasks; its own ring knows neither receives that stay armed nor sends that nobody waits for, so nothing
//! is ever queued there. Owned by the core's thread; served, and waited on, whenever no task can run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::task::Waker;

use kernel::{Completion, Kernel};
pub use ready::{Ready, eventfd_readable, ready, sleep_until_us};
pub use send::DirectWriter;

use super::clock::begin_round;
use super::now_us;

mod fixed_files; // sockets that the ring knows
mod kernel; // what is asked of the kernel
mod ready; // waits that are over once
mod receive;
mod send; // the sending side // the receiving side

#[cfg(test)]
mod fake; // a kernel of the tests' own
#[cfg(test)]
mod tests;

/// Room for the sends of a round, at first.
const POSTED: usize = 1024;
/// Waiting without end and for so long are the same, but that a mistake elsewhere shows as slowness.
const LONGEST_WAIT_US: u64 = 10_000_000;
/// How often in a row the kernel is asked to take what is queued.
const SUBMIT_ATTEMPTS: u32 = 16;
/// And how many rows of that a closing socket waits for.
const CLOSE_ATTEMPTS: u32 = 1024;

/// What a completion is of; in the two highest bits of its tag.
const OF_RECEIVE: u64 = 0;
const OF_SEND: u64 = 1;
const OF_ROOM: u64 = 2;
const OF_READY: u64 = 3;
const SERIAL_MASK: u32 = (1 << 30) - 1;

thread_local! {
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
    /// Waits and sleeps that were dropped while the reactor was in use; the next to use it ends them.
    static ENDED: RefCell<Vec<Ended>> = const { RefCell::new(Vec::new()) };
}

/// What is to be ended, by its place.
enum Ended {
    Wait(u32),
    Sleep((u64, u64)),
}

struct Reactor {
    kernel: Kernel,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Buffers that wait for their readers. Bytes of others are copied out before it is half of all, so that there is
    /// always one to receive into.
    held: usize,
    /// A receive ended for want of a buffer, or bytes were copied out.
    ran_out: bool,
    /// Something is queued.
    queued: bool,
    /// A receive is among it.
    arming: bool,
    /// When the kernel was last asked.
    asked_us: u64,
    waits: Vec<ready::Wait>,
    waits_free: Vec<u32>,
    /// Who sleeps, by when they wake and a number.
    timers: BTreeMap<(u64, u64), Waker>,
    timer_number: u64,
    /// Wakers that are no longer needed. Dropping one may drop its task, and with it sockets that want this reactor: that
    /// has to wait until nobody uses it.
    discarded: Vec<Waker>,
    /// Scratch: what has completed.
    completions: Vec<Completion>,
    /// What is to be taken back as soon as the kernel has taken it.
    cancelled: Vec<u64>,
    /// Whose sends are queued.
    posted: Vec<u32>,
    /// Whose peers have no room.
    stalled: Vec<u32>,
    stalled_ticking: bool,
}

/// Everything that an ordinary message touches, in one line of the cache: among thousands of sockets it is never there.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    serial: u32,
    socket: RawFd,
    /// No port any more: freed with the last completion of its receive.
    orphan: bool,
    /// Stands in `Reactor::stalled`. It may do so still when the slot has the next socket.
    is_listed: bool,
    receiving: receive::Receiving,
    sending: send::Sending,
    excess: Option<Box<Excess>>,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What there is only where one side is ahead of the other.
#[derive(Default)]
struct Excess {
    /// Bytes that came behind those in `Receiving::held`.
    unread: Vec<u8>,
    /// Bytes the peer had no room for; they leave as it has.
    unsent: Vec<u8>,
    /// When some of them last left, and when they were left over.
    moved_ms: u64,
    unsent_ms: u64,
    /// Who waits for these to leave.
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

    /// Gives memory back that is not needed: an idle socket has none.
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

/// Where one socket receives and sends. Dropped, it takes the receive back and lets what was posted leave, so that the
/// socket can close.
pub struct SocketHandle {
    index: u32,
}

/// Errors: no ring, or the thread has ended.
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
        std::mem::swap(&mut discarded, &mut reactor.discarded);
        Ok(result)
    });
    drop(discarded);
    result.unwrap_or_else(|_| Err(io::ErrorKind::NotConnected.into()))
}

/// Ends `what` was dropped: now, or as soon as the reactor is free.
fn end_dropped(what: Ended) {
    // Without the list the thread has ended, and its reactor with it.
    if ENDED.try_with(|ended| ended.borrow_mut().push(what)).is_ok() {
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

    /// Notes the time: of what comes now, and of the tasks that it is for.
    fn begin(&mut self) {
        self.asked_us = now_us();
        begin_round(self.asked_us);
    }

    /// Submits what is queued, takes every completion that is there, and wakes whom they are for.
    /// False: the kernel did not take all of what was queued before.
    fn serve(&mut self) -> bool {
        (self.queued, self.arming) = (false, false);
        self.begin();
        let mut submitted = false;
        // Mostly once: more if the kernel did not take or give everything at a time, or if what it gave made for more.
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

    /// Takes every completion that is there. Whether the kernel has taken all that was queued, and given everything without
    /// making for more to ask.
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

    /// As `serve`, and waits until there is something to take or somebody's sleep is over.
    fn serve_and_wait(&mut self) {
        let until_us = self.timers.first_key_value().map(|((until_us, _), _)| *until_us);
        let patience_us = until_us.map_or(LONGEST_WAIT_US, |until_us| until_us.saturating_sub(now_us()));
        (self.queued, self.arming) = (false, false);
        self.kernel.submit_and_wait(patience_us.min(LONGEST_WAIT_US));
        self.begin();
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

    /// To be called before a descriptor closes that something queued may name: its number is somebody else's soon.
    fn submit_all(&mut self) {
        for _ in 0..CLOSE_ATTEMPTS {
            if self.serve() {
                return;
            }
        }
        // To go on would be to send one peer's bytes to another. A panic would not keep the descriptor from closing.
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

    /// Queues what `push` pushes. False: the queue is full, and the kernel does not take it.
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
        while let Some(ended) = ENDED.try_with(|ended| ended.borrow_mut().pop()).ok().flatten() {
            match ended {
                Ended::Wait(index) => self.end_wait(index),
                Ended::Sleep(key) => self.discarded.extend(self.timers.remove(&key)),
            }
        }
    }

    /// Takes back what waits under `tag`, also if it is only queued.
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
            // Of a socket that is closed.
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

/// Errors: why this thread cannot have a ring.
pub(super) fn check() -> io::Result<()> {
    with(|reactor| reactor.timers.clear())
}

/// Drops the tasks that still wait here, once nothing can wake them any more. What they own is dropped with them, and may
/// want the ring for its last word: the end of the thread, when this memory goes, is too late for that.
pub(super) fn end() {
    while let Ok(waiting) = with(Reactor::take_waiting)
        && !waiting.is_empty()
    {
        drop(waiting);
    }
}

/// Submits what is queued and takes what has completed. To be called when no task can run any more: what the tasks of a
/// round have queued then leaves by one call, and whom the news is for run together. `may_wait` says that indeed none can;
/// then this waits until something has come.
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
    /// The port of an open socket, which stays open for as long as this lives.
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
        // The end of the thread has taken the ring with it.
        let is_there = REACTOR.try_with(|reactor| match reactor.try_borrow() {
            Ok(reactor) => reactor.is_some(),
            // What is queued may name a descriptor that closes right after this. The reactor drops no task while it is in
            // use, so that this cannot be; if it is, going on would be to send one peer's bytes to another.
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
