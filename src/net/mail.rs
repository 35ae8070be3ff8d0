//! Letters between cores: a wait-free single-producer ring for each pair of cores, and one bell a core.
//! Only this crosses cores. A sender pushes and then rings, and rings only if the bell was not rung yet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Ear, RingBell};

/// Letters one ring holds. A core drains its rings whenever it wakes, so a full one means a stalled core.
const RING_LETTERS: usize = 1024;
/// Letters a sender keeps for a core whose ring is full; beyond, `post` gives the letter back.
const OVERFLOW_LETTERS: usize = 64 << 10;

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

struct Line<L> {
    ring: Producer<L>,
    overflow: VecDeque<L>,
    bell: Arc<Bell>,
}

/// What one core receives by; a ring for each sender.
pub struct Inbox<L> {
    rings: Vec<Consumer<L>>,
    bell: Arc<Bell>,
}

/// Lays the rings between as many cores as there are bells, in order.
pub fn lay<L>(bells: &[Arc<Bell>]) -> Vec<(Outbox<L>, Inbox<L>)> {
    let mut outboxes: Vec<Vec<RefCell<Line<L>>>> = bells.iter().map(|_| Vec::new()).collect();
    let mut inboxes: Vec<Vec<Consumer<L>>> = bells.iter().map(|_| Vec::new()).collect();
    for outbox in &mut outboxes {
        for (inbox, bell) in inboxes.iter_mut().zip(bells) {
            let (producer, consumer) = RingBuffer::new(RING_LETTERS);
            outbox.push(RefCell::new(Line { ring: producer, overflow: VecDeque::new(), bell: bell.clone() }));
            inbox.push(consumer);
        }
    }
    let outboxes = outboxes.into_iter().map(|lines| Outbox { lines });
    let inboxes = inboxes.into_iter().zip(bells).map(|(rings, bell)| Inbox { rings, bell: bell.clone() });
    outboxes.zip(inboxes).collect()
}

impl<L> Outbox<L> {
    /// Sends `letter` to core `to`. Errors: the letter, if that core has been stalled for so long that even the overflow
    /// is full, or if there is no such core.
    pub fn post(&self, to: usize, letter: L) -> Result<(), L> {
        let Some(line) = self.lines.get(to) else { return Err(letter) };
        let mut line = line.borrow_mut();
        line.flush();
        if line.overflow.is_empty() {
            if let Err(rtrb::PushError::Full(letter)) = line.ring.push(letter) {
                line.overflow.push_back(letter);
            }
        } else if line.overflow.len() < OVERFLOW_LETTERS {
            line.overflow.push_back(letter);
        } else {
            line.bell.strike();
            return Err(letter);
        }
        line.bell.strike();
        Ok(())
    }

    /// Sends `letter` to core `to` if there is room at this moment. For who keeps it otherwise, where the next one about the
    /// same takes its place. Errors: the letter, as there is no room, or no such core.
    pub fn offer(&self, to: usize, letter: L) -> Result<(), L> {
        let Some(line) = self.lines.get(to) else { return Err(letter) };
        let mut line = line.borrow_mut();
        line.flush();
        let result = match line.overflow.is_empty() {
            true => line.ring.push(letter).map_err(|rtrb::PushError::Full(letter)| letter),
            false => Err(letter),
        };
        line.bell.strike();
        result
    }

    /// Moves what overflowed into the rings as far as they have room; true if something is left, so that the caller comes
    /// back on its next tick.
    pub fn flush(&self) -> bool {
        let mut left = false;
        for line in &self.lines {
            let mut line = line.borrow_mut();
            if !line.overflow.is_empty() {
                line.flush();
                line.bell.strike();
                left |= !line.overflow.is_empty();
            }
        }
        left
    }
}

impl<L> Line<L> {
    fn flush(&mut self) {
        while let Some(letter) = self.overflow.pop_front() {
            if let Err(rtrb::PushError::Full(letter)) = self.ring.push(letter) {
                self.overflow.push_front(letter);
                return;
            }
        }
    }
}

impl<L> Inbox<L> {
    /// Waits for the bell. A wake without letters is possible. `ear` belongs to the waiting thread.
    pub async fn wait(&self, ear: &mut Ear) {
        self.bell.wait(ear).await;
    }

    /// The next letter that has arrived; letters of one sender come in the order sent.
    pub fn take(&mut self) -> Option<L> {
        self.rings.iter_mut().find_map(|ring| ring.pop().ok())
    }
}
