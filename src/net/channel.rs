//! Messages between cores: a wait-free SPSC ring per pair of cores and message class, and one notifier per core. This
//! is the only path between cores. A sender pushes, then notifies the receiver unless a notification is pending.
//! Messages in transit are bounded per class, by count and by bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use super::{EventFd, EventFdReader};

/// Messages of one class never wait for another class. Within a class, messages of one sender arrive in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Must arrive whatever the load: health, addresses, drain, stop. Received first.
    Control,
    /// Requests and replies between exchanges.
    Request,
    /// Access log lines, and their buffers on the way back.
    Log,
}

/// A message to another core.
pub trait Payload {
    fn class(&self) -> Class;

    /// Bytes the message keeps allocated besides its own size; constant while it is in transit.
    fn bytes(&self) -> u64;
}

/// Bounds of one class, per pair of cores.
struct Bounds {
    /// Messages the ring holds. A core drains its rings whenever it wakes, so a full one means a stalled core.
    ring: usize,
    /// Messages the sender queues while the ring is full.
    overflow: usize,
    /// Bytes in transit.
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

/// Messages received before control messages are polled again.
const CONTROL_EVERY: u32 = 32;

/// Wakes a core that has messages to receive.
pub struct Notifier {
    pending: AtomicBool,
    way: Way,
}

enum Way {
    /// A data core: wakes the ring runtime.
    Ring(EventFd),
    /// The I/O core, the background core, and every core of a simulation.
    Waker(AtomicWaker),
}

impl Notifier {
    /// A notifier for a runtime that other threads can wake.
    pub fn waker() -> Arc<Notifier> {
        Arc::new(Notifier { pending: AtomicBool::new(false), way: Way::Waker(AtomicWaker::new()) })
    }

    /// The notifier of a data core. Errors: out of descriptors.
    pub fn ring() -> std::io::Result<Arc<Notifier>> {
        Ok(Arc::new(Notifier { pending: AtomicBool::new(false), way: Way::Ring(EventFd::new()?) }))
    }

    fn notify(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            match &self.way {
                Way::Ring(notifier) => notifier.notify(),
                Way::Waker(waker) => waker.wake(),
            }
        }
    }

    /// Waits for a notification since the last wait.
    async fn wait(&self, reader: &mut EventFdReader) {
        match &self.way {
            Way::Ring(notifier) => {
                reader.wait(notifier).await;
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

/// A core's senders, one per receiving core.
pub struct Outbox<L> {
    senders: Vec<RefCell<Sender<L>>>,
}

/// Sends to one core.
struct Sender<L> {
    lanes: [Lane<L>; 3],
    notifier: Arc<Notifier>,
}

/// Sends messages of one class.
struct Lane<L> {
    ring: Producer<L>,
    overflow: VecDeque<L>,
    bounds: Bounds,
    sent_bytes: u64,
    taken_bytes: Arc<AtomicU64>,
}

/// A core's receivers: a ring per sender and class.
pub struct Inbox<L> {
    classes: [Rings<L>; 3],
    notifier: Arc<Notifier>,
    /// Messages left until control messages are polled again.
    until_control: u32,
}

struct Rings<L> {
    rings: Vec<Ring<L>>,
    /// The ring to poll first, so that no sender starves the others.
    cursor: usize,
}

struct Ring<L> {
    consumer: Consumer<L>,
    /// Total since the start; written only by the receiver.
    taken_bytes: Arc<AtomicU64>,
}

/// Creates the rings between all cores, in the order of their notifiers.
pub fn connect<L>(notifiers: &[Arc<Notifier>]) -> Vec<(Outbox<L>, Inbox<L>)> {
    let mut outboxes: Vec<Vec<RefCell<Sender<L>>>> = notifiers.iter().map(|_| Vec::new()).collect();
    let mut inboxes: Vec<[Rings<L>; 3]> =
        notifiers.iter().map(|_| Class::ALL.map(|_| Rings { rings: Vec::new(), cursor: 0 })).collect();
    for outbox in &mut outboxes {
        for (inbox, notifier) in inboxes.iter_mut().zip(notifiers) {
            let lanes = Class::ALL.map(|class| {
                let bounds = class.bounds();
                let (ring, consumer) = RingBuffer::new(bounds.ring);
                let taken_bytes = Arc::new(AtomicU64::new(0));
                inbox[class as usize].rings.push(Ring { consumer, taken_bytes: taken_bytes.clone() });
                Lane { ring, overflow: VecDeque::new(), bounds, sent_bytes: 0, taken_bytes }
            });
            outbox.push(RefCell::new(Sender { lanes, notifier: notifier.clone() }));
        }
    }
    let outboxes = outboxes.into_iter().map(|senders| Outbox { senders });
    let inboxes = inboxes.into_iter().zip(notifiers);
    let inboxes = inboxes.map(|(classes, notifier)| Inbox { classes, notifier: notifier.clone(), until_control: 0 });
    outboxes.zip(inboxes).collect()
}

impl<L: Payload> Outbox<L> {
    /// Sends `message` to core `to`. Errors: returns the message if the bounds of its class are reached because that
    /// core is stalled, or if there is no such core.
    pub fn post(&self, to: usize, message: L) -> Result<(), L> {
        self.send(to, message, |lane| lane.bounds.overflow)
    }

    /// Sends `message` to core `to` if the ring has room now. For callers that keep the message otherwise and replace
    /// it by the next one on the same subject. Errors: returns the message if there is no room or no such core.
    pub fn offer(&self, to: usize, message: L) -> Result<(), L> {
        self.send(to, message, |_| 0)
    }

    fn send(&self, to: usize, message: L, overflow: impl FnOnce(&Lane<L>) -> usize) -> Result<(), L> {
        let Some(sender) = self.senders.get(to) else { return Err(message) };
        let mut sender = sender.borrow_mut();
        let lane = &mut sender.lanes[message.class() as usize];
        let overflow = overflow(lane);
        let result = lane.push(message, overflow);
        sender.notifier.notify();
        result
    }

    /// Moves overflowed messages into the rings as far as they have room. True if some are left; the caller then
    /// retries on its next tick.
    pub fn flush(&self) -> bool {
        let mut left = false;
        for sender in &self.senders {
            let mut sender = sender.borrow_mut();
            let mut waited = false;
            for lane in sender.lanes.iter_mut().filter(|lane| !lane.overflow.is_empty()) {
                waited = true;
                lane.flush();
                left |= !lane.overflow.is_empty();
            }
            if waited {
                sender.notifier.notify();
            }
        }
        left
    }
}

impl<L: Payload> Lane<L> {
    /// Pushes to the ring, or to the overflow queue if that holds fewer than `overflow` messages.
    fn push(&mut self, message: L, overflow: usize) -> Result<(), L> {
        self.flush();
        let bytes = message.bytes();
        let on_their_way = self.sent_bytes.wrapping_sub(self.taken_bytes.load(Ordering::Relaxed));
        // A message that is larger than the bound may be sent alone.
        if on_their_way > 0 && on_their_way.saturating_add(bytes) > self.bounds.bytes {
            return Err(message);
        }
        let message = match self.overflow.is_empty() {
            true => match self.ring.push(message) {
                Ok(()) => None,
                Err(rtrb::PushError::Full(message)) => Some(message),
            },
            false => Some(message),
        };
        if let Some(message) = message {
            if self.overflow.len() >= overflow {
                return Err(message);
            }
            self.overflow.push_back(message);
        }
        self.sent_bytes = self.sent_bytes.wrapping_add(bytes);
        Ok(())
    }

    fn flush(&mut self) {
        while let Some(message) = self.overflow.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.ring.push(message) {
                self.overflow.push_front(message);
                return;
            }
        }
    }
}

impl<L: Payload> Inbox<L> {
    /// Waits for the notifier; may wake without messages. `reader` belongs to the waiting thread.
    pub async fn wait(&self, reader: &mut EventFdReader) {
        self.notifier.wait(reader).await;
    }

    /// The next message that has arrived: control first, then requests round-robin over senders, then log.
    pub fn take(&mut self) -> Option<L> {
        let [control, request, log] = &mut self.classes;
        if self.until_control == 0 {
            if let Some(message) = control.take() {
                return Some(message);
            }
            self.until_control = CONTROL_EVERY;
        }
        self.until_control -= 1;
        let message = request.take().or_else(|| log.take());
        if message.is_none() {
            self.until_control = 0;
        }
        message
    }
}

impl<L: Payload> Rings<L> {
    fn take(&mut self) -> Option<L> {
        let (before, after) = (0..self.cursor, self.cursor..self.rings.len());
        for index in after.chain(before) {
            let ring = &mut self.rings[index];
            if let Ok(message) = ring.consumer.pop() {
                let bytes = message.bytes();
                if bytes > 0 {
                    let taken = ring.taken_bytes.load(Ordering::Relaxed).wrapping_add(bytes);
                    ring.taken_bytes.store(taken, Ordering::Relaxed);
                }
                self.cursor = (index + 1) % self.rings.len();
                return Some(message);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
