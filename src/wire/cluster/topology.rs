//! Which servers keep the answers, and which of them has a key: one server, or the masters of a cluster by slots. Told by the
//! background core; no I/O.

use std::net::SocketAddr;
use std::sync::Arc;

use super::slot_map::{SLOTS, slot};

/// A server that takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// As it is configured, or as it calls itself: its name for TLS and for messages.
    pub host: String,
    pub port: u16,
    pub addresses: Arc<[SocketAddr]>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub masters: Vec<Master>,
    /// For each slot, the place of its master in `masters`, or `NOBODY`. Empty outside of clusters: the first one has all.
    slots: Vec<u16>,
}

/// Has no slot.
const NOBODY: u16 = u16::MAX;

impl Topology {
    /// One server has everything.
    pub fn single(master: Master) -> Topology {
        Topology { masters: vec![master], slots: Vec::new() }
    }

    /// `ranges`: first slot, last slot, place in `masters`, of which there are fewer than 65,535.
    pub fn cluster(masters: Vec<Master>, ranges: impl Iterator<Item = (u16, u16, usize)>) -> Topology {
        let mut slots = vec![NOBODY; usize::from(SLOTS)];
        for (first, last, place) in ranges {
            let place = u16::try_from(place).unwrap_or(NOBODY);
            slots.iter_mut().take(usize::from(last) + 1).skip(usize::from(first)).for_each(|slot| *slot = place);
        }
        Topology { masters, slots }
    }

    pub fn is_cluster(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The place of the master that has `key`.
    pub fn place_of(&self, key: &[u8]) -> Option<usize> {
        let place = match self.slots.is_empty() {
            true => 0,
            false => usize::from(*self.slots.get(usize::from(slot(key)))?),
        };
        (place < self.masters.len()).then_some(place)
    }

    /// The master that calls itself so.
    pub fn place_called(&self, host: &str, port: u16) -> Option<usize> {
        self.masters.iter().position(|master| master.port == port && master.host == host)
    }

    /// The master at `place` has this slot now.
    pub fn correct(&mut self, number: u16, place: usize) {
        if let (Some(slot), Ok(place)) = (self.slots.get_mut(usize::from(number)), u16::try_from(place)) {
            *slot = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(host: &str, port: u16) -> Master {
        Master { host: host.to_owned(), port, addresses: Arc::default() }
    }

    #[test]
    fn each_key_has_the_master_of_its_slot() {
        let masters = vec![master("a", 1), master("b", 2), master("b", 3)];
        let mut topology =
            Topology::cluster(masters, [(0, 5000, 0), (5001, 12_181, 1), (12_183, 16_383, 2)].into_iter());
        assert!(topology.is_cluster());
        // Slots 3443, 11058, 12182 and 11958.
        let places =
            |topology: &Topology| ["{user1000}", "somekey", "foo", "{q}"].map(|key| topology.place_of(key.as_bytes()));
        assert_eq!(slot(b"{q}"), 11_958);
        assert_eq!(places(&topology), [Some(0), Some(1), None, Some(1)]);
        assert_eq!(topology.place_called("b", 3), Some(2));
        assert_eq!((topology.place_called("b", 1), topology.place_called("", 3)), (None, None));
        topology.correct(12_182, 2);
        topology.correct(11_058, 0);
        assert_eq!(places(&topology), [Some(0), Some(0), Some(2), Some(1)]);
    }

    #[test]
    fn one_server_has_everything() {
        let topology = Topology::single(master("a", 1));
        assert_eq!(topology.place_of(b"foo"), Some(0));
        assert!(!topology.is_cluster());
        assert_eq!(Topology::default().place_of(b"foo"), None);
    }
}
