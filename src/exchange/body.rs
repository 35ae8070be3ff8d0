//! The bytes of a request's body that stands apart from its head: on the heap, or, where it is large, in a memory map that is
//! handed on as it is. Owned by the exchange, then by the upstream call.

use std::ops::Deref;

use bytes::Bytes;

use super::buffers::Buffers;
use crate::error::Failure;
use crate::limits::MAPPED_BYTES;
use crate::net::arena::{Afterwards, Arena};

/// A body that is complete.
#[derive(Debug)]
pub enum BodyBytes {
    Heap(Vec<u8>),
    /// In a map, which others may share.
    Mapped(Bytes),
}

impl Deref for BodyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            BodyBytes::Heap(bytes) => bytes,
            BodyBytes::Mapped(bytes) => bytes,
        }
    }
}

impl BodyBytes {
    /// `bytes`, moved to a map for bodies of up to `max` bytes if they are many. Errors: the system gives no more memory.
    pub fn of(bytes: Vec<u8>, buffers: &Buffers, max: usize) -> Result<BodyBytes, Failure> {
        if bytes.len() <= MAPPED_BYTES {
            return Ok(BodyBytes::Heap(bytes));
        }
        let mut map = BodyBuilder::new(buffers, max);
        map.push(&bytes)?;
        Ok(map.finish())
    }

    /// Gives the memory back.
    pub fn release(self, buffers: &Buffers) {
        match self {
            BodyBytes::Heap(bytes) => buffers.give(bytes),
            BodyBytes::Mapped(bytes) => drop(bytes),
        }
    }
}

/// A body that is coming. Dropped, it gives its memory back.
pub struct BodyBuilder<'a> {
    buffers: &'a Buffers,
    heap: Vec<u8>,
    arena: Option<Arena>,
    /// Most bytes it can have.
    max: usize,
}

impl<'a> BodyBuilder<'a> {
    pub fn new(buffers: &'a Buffers, max: usize) -> BodyBuilder<'a> {
        BodyBuilder { buffers, heap: Vec::new(), arena: None, max }
    }

    pub fn len(&self) -> usize {
        self.arena.as_ref().map_or(self.heap.len(), |arena| arena.bytes().len())
    }

    pub fn bytes(&self) -> &[u8] {
        self.arena.as_ref().map_or(&self.heap, Arena::bytes)
    }

    /// Makes room for a body of this size. Errors: the system gives no more memory.
    pub fn expect(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes <= MAPPED_BYTES {
            if self.heap.capacity() == 0 {
                self.heap = self.buffers.take();
            }
            return Ok(());
        }
        if self.arena.is_none() {
            // Of one size, so that the next body finds it large enough: pages that are not written do not exist.
            let room = self.max.max(bytes);
            let mut arena = Arena::with_room(room, Afterwards::Reused).map_err(|_| Failure::MemoryFull)?;
            arena.push(&self.heap);
            self.arena = Some(arena);
            self.buffers.give(std::mem::take(&mut self.heap));
        }
        Ok(())
    }

    /// Appends `bytes`. Errors: there is no room for them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.expect(self.len() + bytes.len())?;
        match &mut self.arena {
            Some(arena) => arena.push(bytes).then_some(()).ok_or(Failure::BodyTooLarge),
            None => {
                self.heap.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    pub fn finish(mut self) -> BodyBytes {
        match self.arena.take() {
            Some(arena) => BodyBytes::Mapped(arena.share()),
            None => BodyBytes::Heap(std::mem::take(&mut self.heap)),
        }
    }
}

impl Drop for BodyBuilder<'_> {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.heap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_grows_large_moves_to_a_map_once() {
        let buffers = Buffers::new(4);
        let mut body = BodyBuilder::new(&buffers, 3 << 20);
        let part: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let mut places = Vec::new();
        while body.len() < 2_900_000 {
            body.push(&part).unwrap();
            places.push(body.bytes().as_ptr());
        }
        places.dedup();
        assert!(places.len() <= 4, "{} moves", places.len());
        assert_eq!(body.push(&vec![0; 1 << 20]), Err(Failure::BodyTooLarge));
        let whole = body.finish();
        assert!(matches!(whole, BodyBytes::Mapped(_)));
        assert_eq!(&whole[..], part.repeat(10));
        assert_eq!(whole.as_ptr(), *places.last().unwrap(), "it is handed on as it is");
        whole.release(&buffers);

        let mut small = BodyBuilder::new(&buffers, 3 << 20);
        small.push(b"small").unwrap();
        assert!(matches!(small.finish(), BodyBytes::Heap(bytes) if bytes == b"small"));
    }
}
