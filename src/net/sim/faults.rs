//! How the network of a world treats connections: latency, windows, segmentation, and the reachability of addresses.
//! Plain values; each connection draws its own values within these bounds.

use super::executor::Inner;

/// How a connection splits reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chop {
    /// As much as is available and fits.
    Whole,
    /// A random number of bytes, up to this many.
    UpTo(usize),
}

/// How the network treats the connections of a world. Each connection draws its own values within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    /// One way, least and most.
    pub latency_us: (u64, u64),
    /// Most additional delay of a parcel; order within a connection is preserved.
    pub jitter_us: u64,
    /// Most bytes in transit or unread in one direction, least and most.
    pub window_bytes: (u64, u64),
    /// One connection in this many splits its stream into small pieces; 0 is none.
    pub chopped_one_in: u64,
    /// Most virtual time that one poll of a task costs.
    pub poll_cost_us: u64,
    /// One poll in this many goes to a task that was not woken; 0 is none.
    pub spurious_poll_one_in: u64,
}

impl NetworkFaults {
    /// Low latency, wide windows, no splitting.
    pub const CALM: NetworkFaults = NetworkFaults {
        latency_us: (50, 50),
        jitter_us: 0,
        window_bytes: (256 << 10, 256 << 10),
        chopped_one_in: 0,
        poll_cost_us: 1,
        spurious_poll_one_in: 0,
    };

    pub(super) fn choose(world: &Inner) -> NetworkFaults {
        let pick = |from: &[u64]| from[world.between(0, from.len() as u64 - 1) as usize];
        let nearest = pick(&[1, 10, 100, 1000]);
        let farthest = nearest * pick(&[1, 10, 50]);
        let jitter_us = pick(&[0, 0, 5, 500, 5000]);
        // At least 200 kB/s, so that the network alone never causes a timeout of seconds.
        let narrowest = pick(&[2 << 10, 8 << 10, 64 << 10]).max((farthest + jitter_us) / 5);
        NetworkFaults {
            latency_us: (nearest, farthest),
            jitter_us,
            window_bytes: (narrowest, narrowest * pick(&[1, 4, 64])),
            chopped_one_in: pick(&[0, 1, 2, 4]),
            poll_cost_us: pick(&[0, 2, 20]),
            spurious_poll_one_in: pick(&[0, 0, 100, 10]),
        }
    }
}

/// How an address responds to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// By its listeners; refused if there is none.
    Welcome,
    Refuse,
    /// Answers this much later.
    Slow {
        ms: u64,
    },
    /// Never answers.
    BlackHole,
}

/// How many bytes of `most` go in one piece; at least one.
pub(super) fn cut(world: &Inner, chop: Chop, most: usize) -> usize {
    match chop {
        Chop::Whole => most,
        Chop::UpTo(limit) => world.between(1, most.min(limit) as u64) as usize,
    }
}
