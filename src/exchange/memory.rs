//! Memory that the bodies of requests take, from when room is made for one until nobody needs it any more. The bound is the
//! node's: each core counts its own alone and adds what the others published. Two cores that look at the same moment may
//! pass it by one body each. Must never count what was given back, whichever way a request ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shards::CoreId;

use super::board::Board;
use crate::error::Failure;
use crate::net::now_ms;

/// What the other cores published is looked at anew after so long, and at once for a body of more than this.
const ELSEWHERE_MS: u64 = 10;
const LARGE_BYTES: u64 = 64 << 10;

/// One core's count.
pub struct RequestMemory {
    board: Arc<Board>,
    core: usize,
    /// Of the node.
    max: Cell<u64>,
    own: Cell<u64>,
    elsewhere: Cell<u64>,
    looked_ms: Cell<Option<u64>>,
}

impl RequestMemory {
    pub fn new(board: Arc<Board>, core: CoreId, max: u64) -> Rc<RequestMemory> {
        let (own, elsewhere, looked_ms) = (Cell::new(0), Cell::new(0), Cell::new(None));
        Rc::new(RequestMemory { board, core: usize::from(core.0), max: Cell::new(max), own, elsewhere, looked_ms })
    }

    /// Another bound, of the node. What is reserved beyond it is given back in time.
    pub fn resize(&self, max: u64) {
        self.max.set(max);
    }

    /// What this core's requests have reserved.
    pub fn used_bytes(&self) -> u64 {
        self.own.get()
    }

    fn set(&self, bytes: u64) {
        self.own.set(bytes);
        // Nothing else is published by it, so nothing has to be ordered with it.
        self.board.request_bytes(self.core).store(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for `bytes` more.
    fn has_room(&self, bytes: u64) -> bool {
        let now_ms = now_ms();
        if bytes > LARGE_BYTES || self.looked_ms.get().is_none_or(|at| now_ms.saturating_sub(at) >= ELSEWHERE_MS) {
            self.looked_ms.set(Some(now_ms));
            let others = (0..self.board.cores()).filter(|&core| core != self.core);
            let published = others.map(|core| self.board.request_bytes(core).load(Ordering::Relaxed));
            self.elsewhere.set(published.fold(0, u64::saturating_add));
        }
        self.own.get().saturating_add(self.elsewhere.get()).saturating_add(bytes) <= self.max.get()
    }
}

/// Memory that one request has reserved; given back when dropped.
pub struct Reserved {
    memory: Rc<RequestMemory>,
    bytes: u64,
}

impl Reserved {
    /// Nothing yet.
    pub fn nothing(memory: &Rc<RequestMemory>) -> Reserved {
        Reserved { memory: memory.clone(), bytes: 0 }
    }

    /// Nothing yet, of the same core.
    pub fn beside(&self) -> Reserved {
        Reserved::nothing(&self.memory)
    }

    /// What this has; it has nothing afterwards.
    pub fn take(&mut self) -> Reserved {
        let nothing = self.beside();
        std::mem::replace(self, nothing)
    }

    /// Reserves what `bytes` are more than it has. Errors: the node has no room for them.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        if !self.memory.has_room(more) {
            return Err(Failure::MemoryFull);
        }
        self.memory.set(self.memory.own.get() + more);
        self.bytes += more;
        Ok(())
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.memory.set(self.memory.own.get().saturating_sub(bytes));
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_nodes_and_what_is_dropped_comes_back() {
        let board = Arc::new(Board::new(2));
        let memory = |core| RequestMemory::new(board.clone(), CoreId(core), 1_000_000);
        let (one, two) = (memory(0), memory(1));
        let (mut first, mut second) = (Reserved::nothing(&one), Reserved::nothing(&two));
        first.grow_to(700_000).unwrap();
        assert_eq!(second.grow_to(400_000), Err(Failure::MemoryFull), "one core may lend another its share, once");
        second.grow_to(300_000).unwrap();
        second.grow_to(200_000).unwrap();
        assert_eq!((one.own.get(), two.own.get()), (700_000, 300_000));
        assert_eq!(first.grow_to(800_000), Err(Failure::MemoryFull));
        let moved = first.take();
        drop(first);
        assert_eq!(one.own.get(), 700_000, "it went along");
        drop(moved);
        second.grow_to(1_000_000).unwrap();
        second.release();
        second.release();
        assert_eq!((one.own.get(), two.own.get()), (0, 0));
    }
}
