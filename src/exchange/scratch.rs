//! Memory of one core that its requests use in turn. What is in it means nothing from one await to the next.

use crate::dialect::Shapes;
use crate::limits::SCRATCH_BYTES;
use crate::wire::json::Tape;

/// Memory of the steps that run without an await; every request of the core reuses it.
#[derive(Default)]
pub struct Scratch {
    pub tape: Tape,
    pub shapes: Shapes,
    pub canonical: Vec<u8>,
    /// How much of it stands before the body's canonical form.
    pub canonical_head: usize,
    pub text: Vec<u8>,
}

impl Scratch {
    /// Gives back what an unusually large request took. What was read is gone then.
    pub fn shrink(&mut self) {
        self.tape.shrink(SCRATCH_BYTES);
        if self.canonical.capacity() > SCRATCH_BYTES {
            self.canonical = Vec::new();
        }
    }
}

/// What was last written to the log of a flight of this core, once more: the log is memory that was long not touched, and
/// reading it back would wait for it.
#[derive(Default)]
pub struct Fresh {
    pub bytes: Vec<u8>,
    /// Counts up; the flight knows which one is its own.
    pub serial: u64,
    /// The same as a chunk. Scratch.
    pub framed: Vec<u8>,
}

/// What is larger than this when the next event comes goes back to the allocator.
const FRESH_KEPT_BYTES: usize = 1 << 20;

impl Fresh {
    pub fn clear(&mut self) {
        for buffer in [&mut self.bytes, &mut self.framed] {
            buffer.clear();
            buffer.shrink_to(FRESH_KEPT_BYTES);
        }
    }
}
