//! When each slot of the cache expires, earliest first: a binary heap in chunks, so that growth copies nothing. Owned
//! by the cache, which keeps each slot's heap position inside the slot and is notified of changes. Must never read a
//! slot's time from the slot: sifting would then miss the processor's caches at each step.

use super::arena::Arena;
use crate::Millis;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) at: Millis,
    pub(crate) slot: u32,
}

/// Methods that take `place(slot, position)` call it for each slot whose position changed. With the same time to live
/// for all, a new entry is due last and sifting up ends at once.
pub(crate) struct Expiry {
    heap: Arena<Due>,
}

impl Expiry {
    pub(crate) const fn new() -> Self {
        Self { heap: Arena::new() }
    }

    pub(crate) fn first(&self) -> Option<Due> {
        (self.heap.len() > 0).then(|| self.heap[0])
    }

    pub(crate) fn push(&mut self, due: Due, place: impl FnMut(u32, u32)) {
        let last = self.heap.push(due);
        self.sift_up(last, place);
    }

    pub(crate) fn remove(&mut self, position: u32, mut place: impl FnMut(u32, u32)) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let settled = self.sift_up(position, &mut place);
            self.sift_down(settled, place);
        }
    }

    /// The arena moved a slot: the one at `position` has the index `slot` from now on.
    pub(crate) fn rename(&mut self, position: u32, slot: u32) {
        self.heap[position].slot = slot;
    }

    fn sift_up(&mut self, mut position: u32, mut place: impl FnMut(u32, u32)) -> u32 {
        let due = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].at <= due.at {
                break;
            }
            self.put(position, self.heap[parent], &mut place);
            position = parent;
        }
        self.put(position, due, &mut place);
        position
    }

    fn sift_down(&mut self, mut position: u32, mut place: impl FnMut(u32, u32)) {
        let due = self.heap[position];
        // The loop bound keeps `2 * position + 2` within u32.
        while position < self.heap.len() / 2 {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let right_is_first = right < self.heap.len() && self.heap[right].at < self.heap[left].at;
            let child = if right_is_first { right } else { left };
            if due.at <= self.heap[child].at {
                break;
            }
            self.put(position, self.heap[child], &mut place);
            position = child;
        }
        self.put(position, due, &mut place);
    }

    fn put(&mut self, position: u32, due: Due, place: &mut impl FnMut(u32, u32)) {
        self.heap[position] = due;
        place(due.slot, position);
    }

    /// Panics unless the heap is ordered and holds one due time per slot; `claim(slot)` returns the due time and the
    /// position stored in the slot.
    pub(crate) fn check(&self, slots: u32, claim: impl Fn(u32) -> (Millis, u32)) {
        assert_eq!(self.heap.len(), slots, "one due time per slot");
        for position in 0..self.heap.len() {
            let due = self.heap[position];
            assert!(position == 0 || self.heap[(position - 1) / 2].at <= due.at, "heap order at {position}");
            assert_eq!(claim(due.slot), (due.at, position), "due time and position of slot {}", due.slot);
        }
    }
}
