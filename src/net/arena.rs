//! Anonymous memory maps for bodies that are too large for the heap: what is written is resident, and goes back to the system
//! as soon as it is not needed. Those of requests are reused by their thread, up to a bound. No file is ever mapped.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

use crate::limits::ARENAS_FREE_BYTES;

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free { maps: Vec::new(), is_used: false }) };
}

/// Maps of one thread for reuse.
struct Free {
    maps: Vec<Touched>,
    /// Whether one was taken since the last look.
    is_used: bool,
}

/// A map, and how much of it may be resident.
struct Touched {
    map: MmapMut,
    bytes: usize,
}

/// What becomes of a map that is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It serves again, with the pages that were touched.
    Reused,
    /// It goes back to the system. Nothing but what was written into it was ever resident.
    Unmapped,
}

/// Bytes in a map of their own.
pub struct Arena {
    /// Until it is dropped.
    map: Option<Touched>,
    length: usize,
    afterwards: Afterwards,
}

impl Arena {
    /// With room for so many bytes, of which none takes memory yet. Errors: the system gives no more.
    pub fn with_room(room: usize, afterwards: Afterwards) -> io::Result<Arena> {
        let found = match afterwards {
            Afterwards::Reused => FREE.with_borrow_mut(|free| free.take(room)),
            Afterwards::Unmapped => None,
        };
        let map = match found {
            Some(map) => map,
            None => Touched { map: MmapOptions::new().len(room.max(1)).no_reserve_swap().map_anon()?, bytes: 0 },
        };
        Ok(Arena { map: Some(map), length: 0, afterwards })
    }

    pub fn room(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.map.len() - self.length)
    }

    /// Appends `bytes`; false, and nothing is appended, if there is no room.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(map) = &mut self.map else { return false };
        let end = self.length + bytes.len();
        let Some(place) = map.map.get_mut(self.length..end) else { return false };
        place.copy_from_slice(bytes);
        self.length = end;
        map.bytes = map.bytes.max(end);
        true
    }

    pub fn bytes(&self) -> &[u8] {
        // What is behind may be another client's.
        self.map.as_ref().and_then(|map| map.map.get(..self.length)).unwrap_or(&[])
    }

    /// The same bytes to be shared: the map is done with when the last one is.
    pub fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Arena {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Arena of {} bytes", self.length)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let Some(map) = self.map.take() else { return };
        if self.afterwards == Afterwards::Reused {
            // Where the thread is ending, the map ends with it.
            let _ = FREE.try_with(|free| free.borrow_mut().give(map));
        }
    }
}

impl Free {
    /// The one whose memory is there already, if one is large enough.
    fn take(&mut self, room: usize) -> Option<Touched> {
        let fitting = self.maps.iter().enumerate().filter(|(_, map)| map.map.len() >= room);
        let (at, _) = fitting.max_by_key(|(_, map)| map.bytes)?;
        self.is_used = true;
        Some(self.maps.swap_remove(at))
    }

    fn bytes(&self) -> usize {
        self.maps.iter().map(|map| map.bytes).sum()
    }

    fn give(&mut self, map: Touched) {
        if self.bytes() + map.bytes <= ARENAS_FREE_BYTES {
            self.maps.push(map);
        }
    }
}

/// Memory of this thread's maps that wait for the next body.
pub fn free_bytes() -> u64 {
    FREE.with_borrow(|free| free.bytes() as u64)
}

/// To be called now and then: maps that nobody has used since the last call go back to the system.
pub fn settle() {
    FREE.with_borrow_mut(|free| {
        if !std::mem::take(&mut free.is_used) {
            free.maps = Vec::new();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{ARENAS_FREE_BYTES, Afterwards, Arena, free_bytes, settle};

    #[test]
    fn a_map_serves_again_and_shows_nothing_of_before() {
        let mut one = Arena::with_room(1 << 20, Afterwards::Reused).unwrap();
        assert!(one.push(b"secret") && one.push(b" of one client"));
        assert!(!one.push(&vec![0; 1 << 20]), "there is no room for as much");
        assert_eq!((one.bytes(), one.room()), (&b"secret of one client"[..], (1 << 20) - 20));
        let place = one.bytes().as_ptr();
        drop(one.share());
        assert_eq!(free_bytes(), 20);
        let mut two = Arena::with_room(1 << 19, Afterwards::Reused).unwrap();
        assert_eq!((two.bytes(), free_bytes()), (&b""[..], 0));
        two.push(b"x");
        assert_eq!((two.bytes(), two.bytes().as_ptr()), (&b"x"[..], place));
        drop(two);
        settle();
        assert_eq!(free_bytes(), 20, "it was used since the last look");
        settle();
        assert_eq!(free_bytes(), 0);
        drop(Arena::with_room(1 << 20, Afterwards::Unmapped).map(|mut map| map.push(b"x")));
        assert_eq!(free_bytes(), 0);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let one = |bytes: usize| {
            let mut map = Arena::with_room(bytes, Afterwards::Reused).unwrap();
            map.push(&vec![1; bytes]);
            map
        };
        let maps: Vec<Arena> = (0..5).map(|_| one(ARENAS_FREE_BYTES / 4)).collect();
        drop(maps);
        assert_eq!(free_bytes(), ARENAS_FREE_BYTES as u64);
    }
}
