//! Memory of one core that goes from request to request, so that a busy core does not ask the allocator.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

use crate::net::give_memory_back;
use crate::observe::counters::{Counter, Held};

/// Buffers a node keeps for reuse.
pub const BUFFERS_A_NODE: usize = 1000;
/// Size of a pooled buffer. Only the pages that were written are resident.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Most values of a kind kept for reuse.
const SPARE_MAX: usize = 256;

/// Values for reuse whose memory has grown to what is needed.
pub struct Spare<T>(RefCell<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare(RefCell::default())
    }
}

impl<T: Default> Spare<T> {
    /// One that was used before, or a new one; what is in it means nothing.
    pub fn take(&self) -> T {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give(&self, value: T) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(value);
        }
    }
}

/// Byte buffers for reuse, so that a busy core does not ask the allocator.
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    max: usize,
    /// Connections that use some, and the most there were since memory was last given back.
    users: Counter,
    crowd: Cell<u64>,
}

/// A buffer that goes back when this is dropped.
pub struct Lent<'a> {
    buffers: &'a Buffers,
    buffer: Vec<u8>,
}

impl<'a> Lent<'a> {
    pub fn new(buffers: &'a Buffers) -> Lent<'a> {
        Lent { buffers, buffer: buffers.take() }
    }
}

impl Deref for Lent<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.buffer));
    }
}

/// What fewer connections took is not worth looking for.
const CROWD_MIN: u64 = 1024;

impl Buffers {
    pub fn new(max: usize) -> Buffers {
        Buffers { free: RefCell::new(Vec::with_capacity(max)), max, users: Counter::default(), crowd: Cell::new(0) }
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back; one that has grown, or is one too many, goes to the allocator.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() == BUFFER_BYTES && free.len() < self.max {
            buffer.clear();
            free.push(buffer);
        }
    }

    /// Size of those that are kept; only the pages that were written are resident.
    pub fn free_bytes(&self) -> u64 {
        (self.free.borrow().len() * BUFFER_BYTES) as u64
    }

    /// To be held by each connection that uses some.
    pub fn join(&self) -> Held<'_> {
        let held = self.users.hold();
        self.crowd.set(self.crowd.get().max(self.users.get()));
        held
    }

    /// Once a tick: without it, a core that falls quiet after a crowd would keep the crowd's memory.
    pub fn settle(&self) {
        let (users, crowd) = (self.users.get(), self.crowd.get());
        if crowd >= CROWD_MIN && users <= crowd / 4 {
            self.crowd.set(users);
            give_memory_back();
        }
    }
}
