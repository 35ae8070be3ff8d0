//! Yields of a core between the slices of long work on one body, so that small requests beside it do not wait for its end.

use crate::limits::SLICE_BYTES;
use crate::net::next_round;

/// Counts work on a body, and yields after each slice of it.
#[derive(Default)]
pub struct Yields {
    done: usize,
}

impl Yields {
    /// So many bytes more were worked on: others run if that makes a slice.
    pub async fn done(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= SLICE_BYTES {
            self.done = 0;
            next_round().await;
        }
    }
}
