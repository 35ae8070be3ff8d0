//! The requests that failed lately at one backend. Owned by the core's state of that backend.

use std::cell::Cell;

/// The requests that failed lately at one backend, as this core saw it: one that is sent again and again is one failure.
#[derive(Default)]
pub struct Lately {
    hashes: [Cell<u64>; LATELY],
    next: Cell<usize>,
}

/// So many are remembered: more than it takes to eject a backend by default, and short enough to look through.
const LATELY: usize = 8;

impl Lately {
    /// Whether the request with this hash did not fail lately. From now on it did.
    pub fn is_new(&self, hash: u64) -> bool {
        if self.hashes.iter().any(|known| known.get() == hash) {
            return false;
        }
        let next = self.next.get();
        self.hashes[next % LATELY].set(hash);
        self.next.set(next.wrapping_add(1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_new_until_they_failed_and_again_once_they_are_forgotten() {
        let lately = Lately::default();
        assert!(lately.is_new(7));
        assert!(!lately.is_new(7));
        for hash in 100..100 + LATELY as u64 {
            assert!(lately.is_new(hash));
        }
        assert!(lately.is_new(7));
    }
}
