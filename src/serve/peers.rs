//! How many connections clients have: of the node, and of each address. Shared by all cores without a lock: relaxed counters, one
//! for the node, and two tables into which addresses are hashed. Two addresses that meet in both tables count as one, which with a
//! million connections from as many addresses is rare; memory does not grow with the number of addresses.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::limits::PEER_SLOTS;

/// What a configuration allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub node: Option<u32>,
    pub address: Option<u32>,
}

/// Which of them is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Node,
    Address,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Peers {
    node: AtomicU32,
    addresses: OnceLock<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    hasher: RandomState,
    /// Two tables, one behind the other.
    counts: Box<[AtomicU32]>,
}

impl Addresses {
    fn new() -> Addresses {
        let counts = std::iter::repeat_with(AtomicU32::default).take(2 * PEER_SLOTS).collect();
        Addresses { hasher: RandomState::new(), counts }
    }

    /// The places of an address. Whoever has one address of IPv6 has its whole /64.
    fn places(&self, address: IpAddr) -> [usize; 2] {
        let hash = match address {
            IpAddr::V4(address) => self.hasher.hash_one(address.to_bits()),
            IpAddr::V6(address) => self.hasher.hash_one(address.to_bits() >> 64),
        };
        let place = |bits: u64| bits as usize % PEER_SLOTS;
        [place(hash), PEER_SLOTS + place(hash >> 32)]
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    peers: Arc<Peers>,
    of_node: bool,
    places: Option<[usize; 2]>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.of_node {
            self.peers.node.fetch_sub(1, Ordering::Relaxed);
        }
        if let (Some(places), Some(addresses)) = (self.places, self.peers.addresses.get()) {
            for place in places {
                addresses.counts[place].fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Peers {
    /// Counts a connection of `address`. `Ok(None)`: there is nothing to count.
    pub fn admit(self: &Arc<Peers>, address: Option<IpAddr>, caps: Caps) -> Result<Option<Admitted>, Full> {
        if caps == Caps::default() {
            return Ok(None);
        }
        let mut admitted = Admitted { peers: self.clone(), of_node: false, places: None };
        if let Some(most) = caps.node {
            admitted.of_node = true;
            if self.node.fetch_add(1, Ordering::Relaxed) >= most {
                return Err(Full::Node);
            }
        }
        if let (Some(most), Some(address)) = (caps.address, address) {
            let addresses = self.addresses.get_or_init(Addresses::new);
            let places = addresses.places(address);
            admitted.places = Some(places);
            let before = places.map(|place| addresses.counts[place].fetch_add(1, Ordering::Relaxed));
            // Each counts the address, and perhaps others.
            if before.into_iter().min() >= Some(most) {
                return Err(Full::Address);
            }
        }
        Ok(Some(admitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_and_the_node_has_all() {
        let peers = Arc::new(Peers::default());
        let of = |text: &str| Some(text.parse().unwrap());
        let caps = Caps { node: Some(5), address: Some(2) };
        let mut held: Vec<_> = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|one| peers.admit(of(one), caps)).into();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(peers.admit(of("192.0.2.1"), caps).err(), Some(Full::Address));
        // One /64 is one client.
        held.extend(["2001:db8::1", "2001:db8::2"].map(|one| peers.admit(of(one), caps)));
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(peers.admit(of("192.0.2.3"), caps).err(), Some(Full::Node));
        assert_eq!(peers.admit(None, caps).err(), Some(Full::Node));
        drop(held.remove(0));
        assert!(peers.admit(of("192.0.2.1"), caps).is_ok());
        assert!(matches!(peers.admit(of("192.0.2.1"), Caps::default()), Ok(None)));
        drop(held);
        assert_eq!(peers.node.load(Ordering::Relaxed), 0);
        assert!(peers.addresses.get().unwrap().counts.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
