//! Letters between cores: a wait-free single-producer ring for each pair of cores and class of message, and one bell a core.
//! Only this crosses cores. A sender pushes and then rings, and rings only if the bell was not rung yet.
//! Everything on its way is bounded, in messages and in bytes, and each class by itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Ear, RingBell};

/// Messages of different classes never wait for room behind each other; in each class those of one sender arrive in the order
/// sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What a core has to be told whatever the load: health, addresses, drain, stop. Received first.
    Control,
    /// What requests ask and answer.
    Request,
    /// Lines of the access log, and their buffers.
    Log,
}

/// What can be sent to another core.
pub trait Payload {
    fn class(&self) -> Class;

    /// Bytes that it keeps alive beside itself; the same for as long as it is on its way.
    fn bytes(&self) -> u64;
}

/// Bounds of one class, for each pair of cores.
struct Bounds {
    /// Messages the ring holds. A core drains its rings whenever it wakes, so a full one means a stalled core.
    ring: usize,
    /// Messages a sender keeps while the ring is full.
    overflow: usize,
    /// Bytes on their way.
    bytes: u64,
}

impl Class {
    const ALL: [Class; 3] = [Class::Control, Class::Request, Class::Log];

    fn bounds(self) -> Bounds {
        use crate::limits::*;
        match self {
            Class::Control => {
                Bounds { ring: CONTROL_MESSAGES, overflow: CONTROL_MESSAGES_WAITING, bytes: CONTROL_MESSAGE_BYTES }
            }
            Class::Request => {
                Bounds { ring: REQUEST_MESSAGES, overflow: REQUEST_MESSAGES_WAITING, bytes: REQUEST_MESSAGE_BYTES }
            }
            Class::Log => Bounds { ring: LOG_MESSAGES, overflow: LOG_MESSAGES, bytes: LOG_MESSAGE_BYTES },
        }
    }
}

/// Messages in a row after which a core looks for control messages again.
const CONTROL_EVERY: u32 = 32;

/// How a core is told that there is mail.
pub struct Bell {
    pending: AtomicBool,
    way: Way,
}

enum Way {
    /// A data core: wakes the ring runtime.
    Ring(RingBell),
    /// The I/O core, the background core, and every core of a simulation.
    Waker(AtomicWaker),
}

impl Bell {
    /// The bell of a core whose runtime can be woken from other threads.
    pub fn waker() -> Arc<Bell> {
        Arc::new(Bell { pending: AtomicBool::new(false), way: Way::Waker(AtomicWaker::new()) })
    }

    /// The bell of a data core. Errors: the kernel's, when out of descriptors.
    pub fn ring() -> std::io::Result<Arc<Bell>> {
        Ok(Arc::new(Bell { pending: AtomicBool::new(false), way: Way::Ring(RingBell::new()?) }))
    }

    fn strike(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            match &self.way {
                Way::Ring(bell) => bell.strike(),
                Way::Waker(waker) => waker.wake(),
            }
        }
    }

    /// Waits until the bell was rung since the last wait.
    async fn wait(&self, ear: &mut Ear) {
        match &self.way {
            Way::Ring(bell) => {
                ear.wait(bell).await;
                self.pending.swap(false, Ordering::AcqRel);
            }
            Way::Waker(waker) => {
                poll_fn(|context| {
                    waker.register(context.waker());
                    if self.pending.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }
    }
}

/// What one core sends by.
pub struct Outbox<L> {
    lines: Vec<RefCell<Line<L>>>,
}

/// To one core.
struct Line<L> {
    lanes: [Lane<L>; 3],
    bell: Arc<Bell>,
}

/// Of one class.
struct Lane<L> {
    ring: Producer<L>,
    overflow: VecDeque<L>,
    bounds: Bounds,
    sent_bytes: u64,
    taken_bytes: Arc<AtomicU64>,
}

/// What one core receives by; a ring for each sender and class.
pub struct Inbox<L> {
    classes: [Rings<L>; 3],
    bell: Arc<Bell>,
    /// Messages until control messages are looked for.
    until_control: u32,
}

struct Rings<L> {
    rings: Vec<Ring<L>>,
    /// Where to look first, so that no sender keeps the others' messages waiting.
    cursor: usize,
}

struct Ring<L> {
    consumer: Consumer<L>,
    /// Of this ring, since the start; its one writer is the receiver.
    taken_bytes: Arc<AtomicU64>,
}

/// Lays the rings between as many cores as there are bells, in order.
pub fn lay<L>(bells: &[Arc<Bell>]) -> Vec<(Outbox<L>, Inbox<L>)> {
    let mut outboxes: Vec<Vec<RefCell<Line<L>>>> = bells.iter().map(|_| Vec::new()).collect();
    let mut inboxes: Vec<[Rings<L>; 3]> =
        bells.iter().map(|_| Class::ALL.map(|_| Rings { rings: Vec::new(), cursor: 0 })).collect();
    for outbox in &mut outboxes {
        for (inbox, bell) in inboxes.iter_mut().zip(bells) {
            let lanes = Class::ALL.map(|class| {
                let bounds = class.bounds();
                let (ring, consumer) = RingBuffer::new(bounds.ring);
                let taken_bytes = Arc::new(AtomicU64::new(0));
                inbox[class as usize].rings.push(Ring { consumer, taken_bytes: taken_bytes.clone() });
                Lane { ring, overflow: VecDeque::new(), bounds, sent_bytes: 0, taken_bytes }
            });
            outbox.push(RefCell::new(Line { lanes, bell: bell.clone() }));
        }
    }
    let outboxes = outboxes.into_iter().map(|lines| Outbox { lines });
    let inboxes = inboxes.into_iter().zip(bells);
    let inboxes = inboxes.map(|(classes, bell)| Inbox { classes, bell: bell.clone(), until_control: 0 });
    outboxes.zip(inboxes).collect()
}

impl<L: Payload> Outbox<L> {
    /// Sends `letter` to core `to`. Errors: the letter, if that core has been stalled for so long that the bounds of its
    /// class are reached, or if there is no such core.
    pub fn post(&self, to: usize, letter: L) -> Result<(), L> {
        self.send(to, letter, |lane| lane.bounds.overflow)
    }

    /// Sends `letter` to core `to` if there is room at this moment. For who keeps it otherwise, where the next one about the
    /// same takes its place. Errors: the letter, as there is no room, or no such core.
    pub fn offer(&self, to: usize, letter: L) -> Result<(), L> {
        self.send(to, letter, |_| 0)
    }

    fn send(&self, to: usize, letter: L, overflow: impl FnOnce(&Lane<L>) -> usize) -> Result<(), L> {
        let Some(line) = self.lines.get(to) else { return Err(letter) };
        let mut line = line.borrow_mut();
        let lane = &mut line.lanes[letter.class() as usize];
        let overflow = overflow(lane);
        let result = lane.push(letter, overflow);
        line.bell.strike();
        result
    }

    /// Moves what overflowed into the rings as far as they have room; true if something is left, so that the caller comes
    /// back on its next tick.
    pub fn flush(&self) -> bool {
        let mut left = false;
        for line in &self.lines {
            let mut line = line.borrow_mut();
            let mut waited = false;
            for lane in line.lanes.iter_mut().filter(|lane| !lane.overflow.is_empty()) {
                waited = true;
                lane.flush();
                left |= !lane.overflow.is_empty();
            }
            if waited {
                line.bell.strike();
            }
        }
        left
    }
}

impl<L: Payload> Lane<L> {
    /// Into the ring, or behind it where less than `overflow` messages wait.
    fn push(&mut self, letter: L, overflow: usize) -> Result<(), L> {
        self.flush();
        let bytes = letter.bytes();
        let on_their_way = self.sent_bytes.wrapping_sub(self.taken_bytes.load(Ordering::Relaxed));
        // One that is larger than the bound by itself goes alone.
        if on_their_way > 0 && on_their_way.saturating_add(bytes) > self.bounds.bytes {
            return Err(letter);
        }
        let letter = match self.overflow.is_empty() {
            true => match self.ring.push(letter) {
                Ok(()) => None,
                Err(rtrb::PushError::Full(letter)) => Some(letter),
            },
            false => Some(letter),
        };
        if let Some(letter) = letter {
            if self.overflow.len() >= overflow {
                return Err(letter);
            }
            self.overflow.push_back(letter);
        }
        self.sent_bytes = self.sent_bytes.wrapping_add(bytes);
        Ok(())
    }

    fn flush(&mut self) {
        while let Some(letter) = self.overflow.pop_front() {
            if let Err(rtrb::PushError::Full(letter)) = self.ring.push(letter) {
                self.overflow.push_front(letter);
                return;
            }
        }
    }
}

impl<L: Payload> Inbox<L> {
    /// Waits for the bell. A wake without letters is possible. `ear` belongs to the waiting thread.
    pub async fn wait(&self, ear: &mut Ear) {
        self.bell.wait(ear).await;
    }

    /// The next letter that has arrived: control messages first, then requests of all senders in turn, then the log.
    pub fn take(&mut self) -> Option<L> {
        let [control, request, log] = &mut self.classes;
        if self.until_control == 0 {
            if let Some(letter) = control.take() {
                return Some(letter);
            }
            self.until_control = CONTROL_EVERY;
        }
        self.until_control -= 1;
        let letter = request.take().or_else(|| log.take());
        if letter.is_none() {
            self.until_control = 0;
        }
        letter
    }
}

impl<L: Payload> Rings<L> {
    fn take(&mut self) -> Option<L> {
        let (before, after) = (0..self.cursor, self.cursor..self.rings.len());
        for index in after.chain(before) {
            let ring = &mut self.rings[index];
            if let Ok(letter) = ring.consumer.pop() {
                let bytes = letter.bytes();
                if bytes > 0 {
                    let taken = ring.taken_bytes.load(Ordering::Relaxed).wrapping_add(bytes);
                    ring.taken_bytes.store(taken, Ordering::Relaxed);
                }
                self.cursor = (index + 1) % self.rings.len();
                return Some(letter);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
