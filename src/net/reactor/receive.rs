//! The receiving side of a socket: one multishot receive per socket, armed until the socket closes. A single-shot
//! receive costs the kernel two attempts and an arming each time. An idle socket holds no buffer: the kernel picks one
//! from a shared group when bytes arrive.

use std::io;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use super::kernel::{BUFFER_BYTES, Completion};
use super::{OF_RECEIVE, Reactor, Slot, SocketHandle, with};
use crate::net::now_us;

/// Beyond this many unread bytes the receive is cancelled, so that the peer's window closes.
const UNREAD_BYTES: usize = 128 << 10;
/// How long a poll of the kernel remains valid: an event of the peer this recent may as well still be in transit.
const FRESH_US: u64 = 500;

#[derive(Default)]
pub(super) struct Receiving {
    pub(super) armed: bool,
    cancelling: bool,
    /// A filled buffer: (id, start, end).
    held: Option<(u16, u16, u16)>,
    end: Option<Result<(), Errno>>,
    pub(super) reader: Option<Waker>,
}

impl Receiving {
    /// Sets the waker; returns the one it replaces.
    fn wait(&mut self, context: &Context<'_>) -> Option<Waker> {
        match &self.reader {
            Some(reader) if reader.will_wake(context.waker()) => None,
            _ => self.reader.replace(context.waker().clone()),
        }
    }
}

impl Slot {
    fn has_something(&self) -> bool {
        self.receiving.held.is_some() || self.receiving.end.is_some() || !self.unread().is_empty()
    }
}

const _: () = assert!(BUFFER_BYTES <= u16::MAX as usize);

impl Reactor {
    /// Queues a receive for `index`.
    pub(super) fn arm(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.receiving.armed || slot.receiving.end.is_some() {
            return;
        }
        let tag = slot.tag(index, OF_RECEIVE);
        let socket = slot.socket;
        let is_queued = self.queue(|kernel| kernel.push_receive(socket, tag));
        let receiving = &mut self.slots[index as usize].receiving;
        if !is_queued {
            receiving.end = Some(Err(Errno::NOBUFS));
            return;
        }
        receiving.armed = true;
        self.arming = true;
    }

    /// Cancels the receive. Bytes that arrived before are kept.
    pub(super) fn cancel(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.receiving.armed && !slot.receiving.cancelling {
            slot.receiving.cancelling = true;
            let tag = slot.tag(index, OF_RECEIVE);
            self.take_back(tag);
        }
    }

    /// A receive has delivered bytes, or ended.
    pub(super) fn received(&mut self, index: u32, done: Completion) {
        let slot = &mut self.slots[index as usize];
        match (done.result, done.buffer) {
            (received, Some(id)) if received > 0 => {
                let is_first = slot.receiving.held.is_none() && slot.unread().is_empty();
                if slot.orphan {
                    self.kernel.give_back(id);
                } else if is_first && self.held < self.kernel.buffers_used() / 2 {
                    slot.receiving.held = Some((id, 0, received as u16));
                    self.held += 1;
                } else {
                    self.ran_out |= slot.receiving.held.is_none();
                    slot.excess().unread.extend_from_slice(self.kernel.received(id, received as usize));
                    self.kernel.give_back(id);
                }
            }
            (received, buffer) => {
                buffer.into_iter().for_each(|id| self.kernel.give_back(id));
                let port = &mut slot.receiving;
                port.end = match received {
                    0 => Some(Ok(())),
                    _ => match Errno::from_raw_os_error(-received) {
                        // Armed again by the next read.
                        Errno::NOBUFS => {
                            self.ran_out = true;
                            port.end
                        }
                        Errno::CANCELED | Errno::INTR | Errno::AGAIN => port.end,
                        error => Some(Err(error)),
                    },
                };
            }
        }
        if let Some(reader) = slot.receiving.reader.take() {
            reader.wake();
        }
        let full = slot.unread().len() >= UNREAD_BYTES;
        if !done.more {
            (slot.receiving.armed, slot.receiving.cancelling) = (false, false);
            if slot.orphan {
                self.release(index);
            }
        } else if full {
            self.cancel(index);
        }
    }

    /// Releases a slot's receiving side once its socket has no reader. Returns whether the receive had ended already.
    pub(super) fn leave(&mut self, index: u32) -> bool {
        let slot = &mut self.slots[index as usize];
        if let Some(excess) = &mut slot.excess {
            excess.unread = Vec::new();
        }
        let port = &mut slot.receiving;
        self.discarded.extend(port.reader.take());
        let (held, armed) = (port.held.take(), port.armed);
        if let Some((id, _, _)) = held {
            self.held -= 1;
            self.kernel.give_back(id);
        }
        if armed {
            self.cancel(index);
        }
        !armed
    }
}

impl SocketHandle {
    /// Appends received bytes to `buffer` within its spare capacity. 0 is the end of the stream.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_take(context, |bytes| {
            let taken = bytes.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&bytes[..taken]);
            taken
        })
    }

    /// Passes received bytes to `take` in place; it returns how many it consumed, at least one, and must not use a
    /// socket of this core. Returns the same number; 0 is the end of the stream.
    pub fn poll_take(&self, context: &mut Context<'_>, take: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        let result = with(|reactor| {
            let slot = &mut reactor.slots[self.index as usize];
            if let Some((id, start, end)) = slot.receiving.held {
                let bytes = &reactor.kernel.received(id, usize::from(end))[usize::from(start)..];
                let taken = take(bytes).min(bytes.len());
                if taken == bytes.len() {
                    slot.receiving.held = None;
                    reactor.held -= 1;
                    reactor.kernel.give_back(id);
                } else {
                    slot.receiving.held = Some((id, start + taken as u16, end));
                }
                return Some(Ok(taken));
            }
            if let Some(excess) = slot.excess.as_mut().filter(|excess| !excess.unread.is_empty()) {
                let taken = take(&excess.unread).min(excess.unread.len());
                excess.unread.drain(..taken);
                if excess.unread.is_empty() {
                    excess.unread = Vec::new();
                    slot.tidy();
                }
                return Some(Ok(taken));
            }
            if let Some(end) = slot.receiving.end {
                return Some(end.map(|()| 0).map_err(io::Error::from));
            }
            reactor.discarded.extend(slot.receiving.wait(context));
            reactor.arm(self.index);
            None
        });
        match result {
            Ok(Some(read)) => Poll::Ready(read),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until `poll_read` would not wait.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = with(|reactor| {
            let slot = &mut reactor.slots[self.index as usize];
            if slot.has_something() {
                return true;
            }
            reactor.discarded.extend(slot.receiving.wait(context));
            reactor.arm(self.index);
            false
        });
        match ready {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ends the receive, and takes what has come and was not read. `None`: the connection has ended, or sends are unfinished, and it
    /// stays as it is.
    pub fn poll_detach(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let result = with(|reactor| {
            let slot = &mut reactor.slots[self.index as usize];
            if slot.receiving.end.is_some() || !slot.is_settled() {
                return Poll::Ready(None);
            }
            if slot.receiving.armed {
                reactor.discarded.extend(slot.receiving.wait(context));
                reactor.cancel(self.index);
                return Poll::Pending;
            }
            let mut early = Vec::new();
            if let Some((id, start, end)) = slot.receiving.held.take() {
                early.extend_from_slice(&reactor.kernel.received(id, usize::from(end))[usize::from(start)..]);
                reactor.held -= 1;
                reactor.kernel.give_back(id);
            }
            if let Some(excess) = &mut slot.excess {
                early.append(&mut excess.unread);
            }
            slot.tidy();
            Poll::Ready(Some(early))
        });
        result.unwrap_or(Poll::Ready(None))
    }

    /// Reads give `bytes` before all that comes.
    pub fn put_first(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let _ = with(|reactor| reactor.slots[self.index as usize].excess().unread = bytes);
        }
    }

    /// Receives from now on, before the first read, so that input is noticed.
    pub fn arm(&self) {
        let _ = with(|reactor| reactor.arm(self.index));
    }

    /// Whether nothing has arrived up to now, the end included, and future input will be received. Also false if that
    /// is uncertain.
    pub fn is_quiet(&self) -> bool {
        with(|reactor| {
            // Input that the kernel has not posted yet would be taken for the answer to the next request.
            if reactor.arming {
                reactor.serve();
            } else if reactor.kernel.has_completions() && now_us().saturating_sub(reactor.asked_us) > FRESH_US {
                // Queued sends are submitted with the rest of the round.
                reactor.begin();
                reactor.kernel.only_reap();
                reactor.complete_all();
            }
            let slot = &reactor.slots[self.index as usize];
            slot.is_settled() && slot.receiving.armed && !slot.has_something()
        })
        .unwrap_or(false)
    }
}
