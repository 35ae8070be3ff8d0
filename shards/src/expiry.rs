//! When each slot of the cache expires, the earliest first: a binary heap that knows where each slot stands.
//! Owned by the cache, which keeps the positions inside its slots and hands them in by closure.
//! Must never read a slot's time from the slot: sifting would then miss the processor's caches at each step.

use crate::Millis;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) at: Millis,
    pub(crate) slot: u32,
}

/// Every call takes `place(slot, position)`, told of each slot whose position changed.
/// With one TTL for all, a new entry is due last and sifting up ends at once.
pub(crate) struct Expiry {
    heap: Vec<Due>,
}

impl Expiry {
    pub(crate) const fn new() -> Self {
        Self { heap: Vec::new() }
    }

    pub(crate) fn first(&self) -> Option<Due> {
        self.heap.first().copied()
    }

    pub(crate) fn push(&mut self, due: Due, place: impl FnMut(u32, u32)) {
        self.heap.push(due);
        self.sift_up(self.heap.len() - 1, place);
    }

    pub(crate) fn remove(&mut self, position: u32, mut place: impl FnMut(u32, u32)) {
        let position = position as usize;
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let settled = self.sift_up(position, &mut place);
            self.sift_down(settled, place);
        }
    }

    /// The slot at `position` is called `slot` from now on: the arena moved it.
    pub(crate) fn rename(&mut self, position: u32, slot: u32) {
        self.heap[position as usize].slot = slot;
    }

    fn sift_up(&mut self, mut position: usize, mut place: impl FnMut(u32, u32)) -> usize {
        let due = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].at <= due.at {
                break;
            }
            self.heap[position] = self.heap[parent];
            place(self.heap[position].slot, position as u32);
            position = parent;
        }
        self.heap[position] = due;
        place(due.slot, position as u32);
        position
    }

    fn sift_down(&mut self, mut position: usize, mut place: impl FnMut(u32, u32)) {
        let due = self.heap[position];
        loop {
            let mut child = 2 * position + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].at < self.heap[child].at {
                child += 1;
            }
            if due.at <= self.heap[child].at {
                break;
            }
            self.heap[position] = self.heap[child];
            place(self.heap[position].slot, position as u32);
            position = child;
        }
        self.heap[position] = due;
        place(due.slot, position as u32);
    }

    /// Panics unless the heap is ordered; `at_position(position)` gives the due time and position the slot claims.
    pub(crate) fn check(&self, slots: u32, claim: impl Fn(u32) -> (Millis, u32)) {
        assert_eq!(self.heap.len(), slots as usize, "one due time a slot");
        for (position, due) in self.heap.iter().enumerate() {
            assert!(position == 0 || self.heap[(position - 1) / 2].at <= due.at, "heap order at {position}");
            assert_eq!(claim(due.slot), (due.at, position as u32), "slot {} and its due time", due.slot);
        }
    }
}
