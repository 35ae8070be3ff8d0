//! Receiving on a data core: one armed receive a socket that delivers until the socket closes, on a ring of its own beside
//! the runtime's. An ordinary receive costs the kernel two attempts and an arming each time; this one costs its arming
//! once. No buffer waits with an idle socket: the kernel picks one from a shared group when bytes come.
//!
//! The ring's completions are taken by one task, which waits for the ring itself to become readable.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, cqueue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::spawn_raw;
use super::sys::{Buffers, push_receive, submit_and_reap};

#[cfg(test)]
mod tests;

const RING_ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// Most buffers of a core. Bytes leave them when their reader runs, mostly within the same round.
const BUFFERS: u16 = 1024;
/// So many are in use at first, and so many more each time they run out. The kernel takes them in turn, so that all of
/// them go through the caches: with as many as are needed the bytes of a request are still there when it is read.
const BUFFERS_STEP: u16 = 64;
const BUFFER_BYTES: usize = 8 << 10;
/// A socket whose reader does not read is received no further beyond this: the peer's window closes.
const UNREAD_BYTES: usize = 128 << 10;

thread_local! {
    static HUB: RefCell<Option<Hub>> = const { RefCell::new(None) };
}

struct Hub {
    ring: IoUring,
    buffers: Buffers,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Buffers that wait for their readers. Bytes of others are copied out before it is half of all, so that there is
    /// always one to receive into.
    held: usize,
    /// A receive ended for want of a buffer, or bytes were copied out.
    ran_out: bool,
    /// Something is queued, and the task that submits has been woken for it.
    queued: bool,
    submitter: Option<Waker>,
}

#[derive(Default)]
struct Slot {
    serial: u32,
    socket: RawFd,
    armed: bool,
    cancelling: bool,
    /// No receiver any more: freed with the last completion.
    orphan: bool,
    /// A filled buffer: (id, start, end).
    held: Option<(u16, usize, usize)>,
    /// Bytes that came behind those in `held`.
    unread: Vec<u8>,
    end: Option<Result<(), Errno>>,
    reader: Option<Waker>,
}

/// The receiving side of one socket. Dropped, it takes the receive back, so that the socket can close.
pub struct Receiver {
    index: u32,
}

fn with<R>(act: impl FnOnce(&mut Hub) -> R) -> io::Result<R> {
    HUB.with_borrow_mut(|hub| {
        if hub.is_none() {
            *hub = Some(Hub::new()?);
        }
        Ok(act(hub.as_mut().expect("made above")))
    })
}

impl Hub {
    fn new() -> io::Result<Hub> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_cqsize(COMPLETIONS);
        let ring = builder.build(RING_ENTRIES)?;
        let mut buffers = Buffers::new(&ring, BUFFERS, BUFFER_BYTES)?;
        buffers.use_more(BUFFERS_STEP);
        // Polling a ring that defers its work does not wake; an eventfd does.
        let bell = std::fs::File::from(eventfd(0, EventfdFlags::CLOEXEC)?);
        ring.submitter().register_eventfd(std::os::fd::AsRawFd::as_raw_fd(&bell))?;
        spawn_raw(reap(monoio::fs::File::from_std(bell)?));
        spawn_raw(submit());
        Ok(Hub {
            ring,
            buffers,
            slots: Vec::new(),
            free: Vec::new(),
            held: 0,
            ran_out: false,
            queued: false,
            submitter: None,
        })
    }

    /// Queues a receive for `index`.
    fn arm(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.armed || slot.end.is_some() {
            return;
        }
        let tag = u64::from(slot.serial) << 32 | u64::from(index);
        let socket = slot.socket;
        if !push_receive(&mut self.ring, socket, tag) {
            let _ = submit_and_reap(&mut self.ring);
            if !push_receive(&mut self.ring, socket, tag) {
                self.slots[index as usize].end = Some(Err(Errno::NOBUFS));
                return;
            }
        }
        self.slots[index as usize].armed = true;
        if !self.queued {
            self.queued = true;
            if let Some(submitter) = self.submitter.take() {
                submitter.wake();
            }
        }
    }

    fn cancel(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.armed && !slot.cancelling {
            slot.cancelling = true;
            let tag = u64::from(slot.serial) << 32 | u64::from(index);
            if self.queued {
                let _ = submit_and_reap(&mut self.ring);
            }
            let _ = self.ring.submitter().register_sync_cancel(None, io_uring::types::CancelBuilder::user_data(tag));
        }
    }

    /// Takes every completion that is there, and wakes whom it is for.
    fn reap(&mut self) {
        self.queued = false;
        let _ = submit_and_reap(&mut self.ring);
        loop {
            let Some(done) = self.ring.completion().next() else { break };
            self.complete(&done);
        }
        if std::mem::take(&mut self.ran_out) {
            self.buffers.use_more(BUFFERS_STEP);
        }
    }

    fn complete(&mut self, done: &cqueue::Entry) {
        let (index, serial) = (done.user_data() as u32, (done.user_data() >> 32) as u32);
        let buffer = cqueue::buffer_select(done.flags());
        let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| slot.serial == serial) else {
            buffer.into_iter().for_each(|id| self.buffers.give_back(id));
            return;
        };
        match (done.result(), buffer) {
            (received, Some(id)) if received > 0 => {
                let received = received as usize;
                if slot.orphan {
                    self.buffers.give_back(id);
                } else if slot.held.is_none() && slot.unread.is_empty() && self.held < self.buffers.used() / 2 {
                    slot.held = Some((id, 0, received));
                    self.held += 1;
                } else {
                    self.ran_out |= slot.held.is_none();
                    slot.unread.extend_from_slice(self.buffers.filled(id, received));
                    self.buffers.give_back(id);
                }
            }
            (received, buffer) => {
                buffer.into_iter().for_each(|id| self.buffers.give_back(id));
                slot.end = match received {
                    0 => Some(Ok(())),
                    _ => match Errno::from_raw_os_error(-received) {
                        // Armed again by the next read.
                        Errno::NOBUFS => {
                            self.ran_out = true;
                            slot.end
                        }
                        Errno::CANCELED | Errno::INTR | Errno::AGAIN => slot.end,
                        error => Some(Err(error)),
                    },
                };
            }
        }
        if let Some(reader) = slot.reader.take() {
            reader.wake();
        }
        let full = slot.unread.len() >= UNREAD_BYTES;
        if !cqueue::more(done.flags()) {
            (slot.armed, slot.cancelling) = (false, false);
            if slot.orphan {
                self.release(index);
            }
        } else if full {
            self.cancel(index);
        }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let serial = slot.serial.wrapping_add(1);
        *slot = Slot { serial, ..Slot::default() };
        self.free.push(index);
    }
}

/// Submits what is queued; for the life of the core.
async fn submit() {
    poll_fn(|context: &mut Context<'_>| {
        let _ = with(|hub| {
            if hub.queued {
                hub.reap();
            }
            hub.submitter = Some(context.waker().clone());
        });
        Poll::<()>::Pending
    })
    .await;
}

/// Waits for completions and takes them; for the life of the core.
async fn reap(bell: monoio::fs::File) {
    let mut count = Vec::with_capacity(8);
    loop {
        let (result, buffer) = bell.read_at(count, 0).await;
        count = buffer;
        if result.is_err() {
            super::sleep_ms(1).await;
        }
        let _ = with(Hub::reap);
    }
}

impl Receiver {
    pub fn new(socket: RawFd) -> io::Result<Receiver> {
        with(|hub| {
            let index = hub.free.pop().unwrap_or_else(|| {
                hub.slots.push(Slot::default());
                hub.slots.len() as u32 - 1
            });
            hub.slots[index as usize].socket = socket;
            Receiver { index }
        })
    }

    /// Moves what has come behind what `buffer` holds, into its spare capacity. 0 is the end.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_take(context, |bytes| {
            let taken = bytes.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&bytes[..taken]);
            taken
        })
    }

    /// Shows `take` what has come, in place; it says how many bytes it took, at least one. Says the same; 0 is the end.
    /// `take` must not touch a socket of this core.
    pub fn poll_take(&self, context: &mut Context<'_>, take: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        let result = with(|hub| {
            let slot = &mut hub.slots[self.index as usize];
            if let Some((id, start, end)) = slot.held {
                let taken = take(&hub.buffers.filled(id, end)[start..]).min(end - start);
                if start + taken == end {
                    slot.held = None;
                    hub.held -= 1;
                    hub.buffers.give_back(id);
                } else {
                    slot.held = Some((id, start + taken, end));
                }
                return Some(Ok(taken));
            }
            if !slot.unread.is_empty() {
                let taken = take(&slot.unread).min(slot.unread.len());
                slot.unread.drain(..taken);
                if slot.unread.is_empty() {
                    slot.unread = Vec::new(); // an idle socket has no buffer
                }
                return Some(Ok(taken));
            }
            if let Some(end) = slot.end {
                return Some(end.map(|()| 0).map_err(io::Error::from));
            }
            match &mut slot.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            hub.arm(self.index);
            None
        });
        match result {
            Ok(Some(read)) => Poll::Ready(read),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until `poll_read` would not.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = with(|hub| {
            let slot = &mut hub.slots[self.index as usize];
            if slot.held.is_some() || !slot.unread.is_empty() || slot.end.is_some() {
                return true;
            }
            match &mut slot.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            hub.arm(self.index);
            false
        });
        match ready {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Receives from now on, whoever reads it when: what comes is then known of.
    pub fn arm(&self) {
        let _ = with(|hub| hub.arm(self.index));
    }

    /// Whether nothing has come up to this moment, the end included, and whatever comes will be received. False also
    /// when that is not certain.
    pub fn is_quiet(&self) -> bool {
        with(|hub| {
            // What the kernel has but has not posted would be taken for the answer to the next request. It says in shared
            // memory whether there is anything of the kind, which spares a call for each request.
            let waits = hub.ring.submission().taskrun();
            if waits || hub.queued || !hub.ring.completion().is_empty() {
                hub.reap();
            }
            let slot = &hub.slots[self.index as usize];
            slot.armed && slot.held.is_none() && slot.unread.is_empty() && slot.end.is_none()
        })
        .unwrap_or(false)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = HUB.try_with(|hub| {
            let Ok(mut hub) = hub.try_borrow_mut() else { return };
            let Some(hub) = hub.as_mut() else { return };
            let slot = &mut hub.slots[self.index as usize];
            if let Some((id, _, _)) = slot.held.take() {
                hub.held -= 1;
                hub.buffers.give_back(id);
            }
            let slot = &mut hub.slots[self.index as usize];
            slot.orphan = true;
            slot.unread = Vec::new();
            slot.reader = None;
            if slot.armed {
                hub.cancel(self.index);
            } else {
                hub.release(self.index);
            }
        });
    }
}
