//! The state that one core owns, as plain state machines: a call returns its result and has no other effect. Time
//! (`Millis`), random numbers and bytes are arguments. No clock, socket, thread, float or `unsafe`: the simulator
//! replays these machines from a seed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

// Reading order: where an answer is kept, how it is cached, which request fetches it, and these combined.
pub mod placement;

mod cache;
mod coalesce;
mod flight;
mod shard;

// Which backend is asked, whether it is healthy, how often it is retried, and over which connection.
pub mod balancer;
pub mod breaker;

mod attempts;
mod budget;
mod concurrency;
mod hedge;
mod latency;
mod pool;
mod queue;
mod streams;

// Which core serves a connection.
pub mod rebalance;

// How much a tenant may spend.
pub mod quota;

#[cfg(test)]
#[path = "../tests/sim/random.rs"]
mod random;

pub use attempts::{Again, Attempts, EventFault, Fault, Others, Rules, Step, again, may_have_acted};
pub use breaker::{Breaker, BreakerRules, Check};
pub use budget::Budget;
pub use cache::{Cache, Heat, Inserted, Lookup, Restored};
pub use coalesce::{CoalesceEvent, CoalesceStep, Coalescing, Fit, Group, Patience, Worth};
pub use concurrency::Concurrency;
pub use flight::{Flights, Joined};
pub use hedge::Quantile;
pub use latency::Latency;
pub use pool::{Pool, PoolBounds, Take};
pub use queue::{Enter, Front, PASSED_MAX, Place, Queue, Standing, Who};
pub use shard::{Asked, Outcome, Settled, Shard};
pub use streams::{ConnectionId, Slot, StreamBounds, Streams};

/// A point on the core's monotonic clock, in milliseconds since an origin that the caller chooses. All arithmetic
/// saturates: a clock that steps back yields smaller ages, never a wrapped one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub const fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `ms` milliseconds after `self`.
    pub const fn after(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// SHA-256 over everything that can change an answer, including the tenant's scope. Two requests share an answer only
/// if all 32 bytes are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Bytes 0 to 7, big endian. They choose the owner core (see [`placement`]) and nothing else.
    pub const fn prefix(&self) -> u64 {
        let b = &self.0;
        u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// Bytes 8 to 11, the hash for tables within one core. Not the leading bytes: those are nearly equal for all
    /// fingerprints of one core, so a table could distinguish its entries by few bits only.
    pub(crate) const fn tag(&self) -> u32 {
        let b = &self.0;
        u32::from_be_bytes([b[8], b[9], b[10], b[11]])
    }
}

/// Widens a tag to the hash that hashbrown expects: it places by the low bits and compares by the top seven.
pub(crate) const fn spread(tag: u32) -> u64 {
    (tag as u64) << 32 | tag as u64
}

/// A data core of this node, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);
