//! The sending side of a socket. Posted bytes are submitted with the core's other sends of the round, by one system
//! call, and are not awaited: the kernel accepts them within that call, as long as the peer has room. The rest is kept
//! here and sent later.

use std::io;
use std::num::NonZeroU16;
use std::task::{Context, Poll};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::fixed_files::Name;
use super::{Excess, OF_ROOM, OF_SEND, Reactor, Slot, SocketHandle, with};
use crate::net::{Panics, is_running, now_ms, sleep_ms, spawn_lasting};

/// Largest posted send.
const POSTED_BYTES: usize = 16 << 10;
/// How often peers that accept nothing are looked for.
const STALLED_TICK_MS: u64 = 100;
/// How long the rest of one send may take, beyond the peer's patience: [`POSTED_BYTES`] at 1 KiB/s.
const REST_MS: u64 = 16_000;

/// Almost two hours or more; connections with so much patience have other limits.
const ENDLESS: u16 = u16::MAX;

#[derive(Default)]
pub(super) struct Sending {
    /// The queued send: its offset in the arena, and its length; 0 for none.
    posted_at: u32,
    posted: u16,
    pub(super) name: Name,
    /// The error number that ended the sending side.
    broken: Option<NonZeroU16>,
    /// How many more ticks a peer without room has; [`ENDLESS`] is unlimited.
    patience: u16,
}

const _: () = assert!(POSTED_BYTES <= u16::MAX as usize);

impl Sending {
    /// Whether a send is queued.
    pub(super) fn is_posted(&self) -> bool {
        self.posted > 0
    }

    fn broken(&self) -> Option<Errno> {
        self.broken.map(|number| Errno::from_raw_os_error(number.get().into()))
    }
}

impl Excess {
    /// The deadline of a peer that may accept nothing for `patience_ms`: an occasional byte does not extend it
    /// indefinitely.
    pub(super) fn stalls_until_ms(&self, patience_ms: u64) -> u64 {
        self.moved_ms.min(self.unsent_ms.saturating_add(REST_MS)).saturating_add(patience_ms)
    }
}

impl Slot {
    /// Whether everything was sent, and more could follow.
    pub(super) fn is_settled(&self) -> bool {
        !self.sending.is_posted() && self.unsent().is_empty() && self.sending.broken.is_none()
    }
}

impl Reactor {
    /// Queues a send of `bytes`. `None`: an earlier send is unfinished, or there are too many bytes.
    fn post(&mut self, index: u32, bytes: &[u8], patience_ms: u64) -> Option<Result<(), Errno>> {
        let slot = &self.slots[index as usize];
        if let Some(error) = slot.sending.broken() {
            return Some(Err(error));
        }
        if bytes.len() > POSTED_BYTES || slot.sending.is_posted() || !slot.unsent().is_empty() {
            return None;
        }
        if bytes.is_empty() {
            return Some(Ok(()));
        }
        let tag = slot.tag(index, OF_SEND);
        let target = self.target(index);
        let start = match self.kernel.push_send(target, bytes, tag) {
            Some(start) => start,
            None => {
                self.serve();
                self.kernel.push_send(target, bytes, tag)?
            }
        };
        let slot = &mut self.slots[index as usize];
        (slot.sending.posted_at, slot.sending.posted) = (start as u32, bytes.len() as u16);
        slot.sending.patience = u16::try_from(patience_ms.div_ceil(STALLED_TICK_MS)).unwrap_or(ENDLESS);
        self.posted.push(index);
        self.queued = true;
        Some(Ok(()))
    }

    /// Ready when no send is pending. Errors: why the bytes cannot be sent.
    fn poll_settled(&mut self, index: u32, context: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        if self.slots[index as usize].sending.is_posted() {
            self.serve();
        }
        let slot = &mut self.slots[index as usize];
        if let Some(error) = slot.sending.broken() {
            return Poll::Ready(Err(error));
        }
        if slot.unsent().is_empty() && !slot.sending.is_posted() {
            return Poll::Ready(Ok(()));
        }
        self.discarded.extend(slot.excess().writer.replace(context.waker().clone()));
        Poll::Pending
    }

    /// The queued send of `index` did not send everything.
    pub(super) fn fell_short(&mut self, index: u32, result: i32) {
        let slot = &mut self.slots[index as usize];
        if !slot.sending.is_posted() {
            return;
        }
        let (start, length) = (slot.sending.posted_at as usize, usize::from(slot.sending.posted));
        slot.sending.posted = 0;
        let taken = match usize::try_from(result) {
            Ok(taken) => taken,
            Err(_) => match Errno::from_raw_os_error(-result) {
                Errno::AGAIN | Errno::INTR => 0,
                error => return self.broke(index, error),
            },
        };
        if taken < length {
            let excess = slot.excess();
            excess.unsent.extend_from_slice(self.kernel.queued(start + taken, length - taken));
            (excess.moved_ms, excess.unsent_ms) = (now_ms(), now_ms());
            if !std::mem::replace(&mut slot.is_listed, true) {
                self.stalled.push(index);
            }
            // When the ring has ended, closing the sockets resets those with unsent bytes.
            if !self.stalled_ticking && is_running() {
                self.stalled_ticking = true;
                spawn_lasting(&Panics::default(), tick_stalled);
            }
            self.wait_for_room(index);
        }
    }

    /// All queued sends without a completion were sent completely.
    pub(super) fn all_posted(&mut self) {
        for index in self.posted.drain(..) {
            let slot = &mut self.slots[index as usize];
            slot.sending.posted = 0;
            if slot.unsent().is_empty() {
                slot.wake_writer();
                slot.tidy();
            }
        }
        self.kernel.clear_queued();
    }

    fn broke(&mut self, index: u32, error: Errno) {
        let slot = &mut self.slots[index as usize];
        slot.sending.broken =
            u16::try_from(error.raw_os_error()).ok().and_then(NonZeroU16::new).or(NonZeroU16::new(libc::EIO as u16));
        if let Some(excess) = &mut slot.excess {
            excess.unsent = Vec::new();
        }
        slot.wake_writer();
        slot.tidy();
    }

    fn wait_for_room(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let (socket, tag) = (slot.socket, slot.tag(index, OF_ROOM));
        if !self.queue(|kernel| kernel.push_poll(socket, PollFlags::OUT, tag)) {
            self.broke(index, Errno::NOBUFS);
        }
    }

    /// The peer of `index` has room.
    pub(super) fn send_on(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(excess) = slot.excess.as_mut().filter(|excess| !slot.orphan && !excess.unsent.is_empty()) else {
            return; // it is closing, or has failed
        };
        match self.kernel.send_now(slot.socket, &excess.unsent) {
            Ok(taken) => {
                excess.unsent.drain(..taken);
                excess.moved_ms = now_ms();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return self.broke(index, error),
        }
        let is_over = excess.unsent.is_empty();
        if is_over {
            excess.unsent = Vec::new();
        }
        slot.wake_writer();
        slot.tidy();
        if !is_over {
            self.wait_for_room(index);
        }
    }

    /// Called before the socket closes. Bytes that its peer has no room for are lost; the close is then a reset, so
    /// that the peer cannot take the rest for a complete message.
    pub(super) fn stop_sending(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let waits = !slot.unsent().is_empty();
        if let Some(excess) = &mut slot.excess {
            excess.unsent = Vec::new();
            self.discarded.extend(excess.writer.take());
        }
        if waits {
            self.kernel.reset_by_close(slot.socket);
            let tag = slot.tag(index, OF_ROOM);
            self.take_back(tag);
        }
    }

    /// Shuts down sockets whose peers accepted nothing, or too little, for longer than they may. False: no peer is
    /// stalled.
    fn end_stalled(&mut self) -> bool {
        let now_ms = now_ms();
        let (slots, kernel) = (&mut self.slots, &mut self.kernel);
        self.stalled.retain(|&index| {
            let slot = &mut slots[index as usize];
            let stalling = slot.excess.as_ref().filter(|excess| !excess.unsent.is_empty());
            let stalls = stalling.is_some();
            let patience_ms = match slot.sending.patience {
                ENDLESS => u64::MAX,
                looks => u64::from(looks) * STALLED_TICK_MS,
            };
            if stalling.is_some_and(|excess| now_ms >= excess.stalls_until_ms(patience_ms)) {
                kernel.shut_down(slot.socket);
            }
            slot.is_listed = stalls;
            stalls
        });
        self.stalled_ticking = !self.stalled.is_empty();
        self.stalled_ticking
    }
}

/// Looks for stalled peers as long as any peer has no room.
async fn tick_stalled() {
    loop {
        sleep_ms(STALLED_TICK_MS).await;
        if !with(Reactor::end_stalled).unwrap_or(false) {
            return;
        }
    }
}

/// Posts on a socket for another task of its core. Once the socket is closed, nothing is accepted.
pub struct DirectWriter {
    index: u32,
    serial: u32,
    patience_ms: u64,
}

impl DirectWriter {
    /// As [`SocketHandle::post`]. False: nothing was written, and the owner of the socket has to handle it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        let posted = with(|reactor| {
            let is_there =
                reactor.slots.get(self.index as usize).is_some_and(|slot| slot.serial == self.serial && !slot.orphan);
            is_there.then(|| reactor.post(self.index, bytes, self.patience_ms)).flatten()
        });
        matches!(posted, Ok(Some(Ok(()))))
    }

    /// Whether a post of up to [`POSTED_BYTES`] would be accepted.
    pub fn is_free(&self) -> bool {
        let is_free = with(|reactor| {
            let slot = reactor.slots.get(self.index as usize);
            slot.is_some_and(|slot| slot.serial == self.serial && !slot.orphan && slot.is_settled())
        });
        is_free.unwrap_or(false)
    }
}

impl SocketHandle {
    /// A handle by which another task posts while the owner of the socket waits for something else.
    pub fn direct_writer(&self, patience_ms: u64) -> DirectWriter {
        let serial = with(|reactor| reactor.slots[self.index as usize].serial).unwrap_or(u32::MAX);
        DirectWriter { index: self.index, serial, patience_ms }
    }

    /// Whether a post of up to [`POSTED_BYTES`] would be accepted.
    pub fn is_free(&self) -> bool {
        with(|reactor| reactor.slots[self.index as usize].is_settled()).unwrap_or(false)
    }

    /// Posts `bytes`, without waiting. What the peer has no room for is sent later; a peer that then accepts nothing
    /// for `patience_ms` is disconnected. `None`: too many bytes, or an earlier send is unfinished. Errors: of an
    /// earlier send.
    pub fn post(&self, bytes: &[u8], patience_ms: u64) -> Option<io::Result<()>> {
        match with(|reactor| reactor.post(self.index, bytes, patience_ms)) {
            Ok(posted) => posted.map(|result| result.map_err(io::Error::from)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits until the kernel has accepted everything that was posted.
    pub fn poll_settled(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match with(|reactor| reactor.poll_settled(self.index, context)) {
            Ok(state) => state.map_err(io::Error::from),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
