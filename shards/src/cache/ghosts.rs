//! Fingerprints that left the cache lately: one that comes back was given up too early.
//! Owned by the cache. A guess, not a record: it may forget one, and two fingerprints may look the same.
//! Must never decide what a client gets, only how long an entry stays.

use alloc::vec::Vec;

/// A table with one place a tag: the later of two that share a place wins. That takes a third of the memory of an exact
/// queue with its index, and what it forgets costs less than half a hit in a hundred requests.
pub(crate) struct Ghosts {
    places: Vec<Ghost>,
    left: u32,
}

#[derive(Clone, Copy)]
struct Ghost {
    tag: u32,
    /// How many had left the cache when this one did, itself included; 0 is an empty place.
    left: u32,
}

impl Ghosts {
    /// Bytes for each entry that the window counts: two places right after growing, and the one of before.
    pub(crate) const BYTES_EACH: u64 = 3 * size_of::<Ghost>() as u64;

    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), left: 0 }
    }

    /// Remembers a tag, in a table of at least one place for each of the `window` latest.
    pub(crate) fn remember(&mut self, tag: u32, window: u32) {
        self.reserve(window);
        let Some(place) = self.place(tag) else { return };
        // Wraps after four billion; a ghost may then seem young, which is a wrong guess like any other.
        self.left = self.left.wrapping_add(1).max(1);
        self.places[place] = Ghost { tag, left: self.left };
    }

    /// Makes the table large enough for a window.
    pub(crate) fn reserve(&mut self, window: u32) {
        if self.places.len() < window as usize || self.places.is_empty() {
            self.grow(window);
        }
    }

    /// Whether the tag is among the `window` latest that left, as far as is remembered.
    pub(crate) fn knows(&self, tag: u32, window: u32) -> bool {
        self.place(tag).is_some_and(|place| {
            let ghost = self.places[place];
            ghost.tag == tag && ghost.left != 0 && self.left.wrapping_sub(ghost.left) < window
        })
    }

    fn place(&self, tag: u32) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        Some(tag as usize & mask)
    }

    fn grow(&mut self, window: u32) {
        // A power of two, always: `place` masks.
        let larger = alloc::vec![Ghost { tag: 0, left: 0 }; (window as usize).next_power_of_two().max(16)];
        for ghost in core::mem::replace(&mut self.places, larger) {
            if let Some(place) = self.place(ghost.tag)
                && ghost.left != 0
            {
                self.places[place] = ghost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_only() {
        let mut ghosts = Ghosts::new();
        assert!(!ghosts.knows(0, 10), "nothing left yet");
        for tag in 0..100 {
            ghosts.remember(tag, 10);
        }
        for tag in 0..100 {
            assert_eq!(ghosts.knows(tag, 10), tag >= 90, "tag {tag}");
        }
        assert!(!ghosts.knows(99, 0), "an empty window");
    }

    #[test]
    fn keeps_them_while_it_grows() {
        let mut ghosts = Ghosts::new();
        for tag in 0..1000u32 {
            ghosts.remember(tag, tag + 1);
        }
        assert!((0..1000).all(|tag| ghosts.knows(tag, 1000)));
    }
}
