//! Dense slots in chunks, for the cache: indices 0 to len - 1 are in use; the last one moves into a gap. Chunks never
//! move, so growth copies nothing and memory shrinks with the number of entries. Must never keep vacant slots beyond
//! one spare chunk: their memory would not count against the cache's budget.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 8;
/// Slots per chunk: some tens of kilobytes, small compared to any budget, large compared to the cost of an allocation.
const CHUNK: usize = 1 << CHUNK_BITS;

pub(crate) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Appends a slot and returns its index.
    pub(crate) fn push(&mut self, slot: T) -> u32 {
        let index = self.len;
        let chunk = (index >> CHUNK_BITS) as usize;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[chunk].push(slot);
        self.len += 1;
        index
    }

    /// Removes slot `index` and moves the last slot into its place, unless it was the last.
    pub(crate) fn swap_remove(&mut self, index: u32) -> T {
        let last = self.len - 1;
        let chunk = (last >> CHUNK_BITS) as usize;
        let moved = self.chunks[chunk].pop().expect("the last chunk in use holds the last slot");
        self.len = last;
        // One spare chunk stays, so that a length that oscillates around a chunk boundary does not allocate each time.
        self.chunks.truncate((last as usize).div_ceil(CHUNK) + 1);
        if index == last { moved } else { core::mem::replace(&mut self[index], moved) }
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize & (CHUNK - 1)]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize & (CHUNK - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_dense_and_gives_chunks_back() {
        let mut arena = Arena::new();
        let mut model = Vec::new();
        for value in 0..1000u32 {
            assert_eq!(arena.push(value), value);
            model.push(value);
        }
        for step in 0..1000u32 {
            let index = step.wrapping_mul(7919) % arena.len();
            assert_eq!(arena.swap_remove(index), model.swap_remove(index as usize));
            assert!((0..arena.len()).all(|at| arena[at] == model[at as usize]));
            assert!(arena.chunks.len() <= (arena.len() as usize).div_ceil(CHUNK) + 1);
        }
        assert_eq!(arena.len(), 0);
    }
}
