//! How many requests may be with a model, and how many HTTP/1.1 connections open to a backend: caps of the node, lent to the
//! cores that need them. A core holds the permits that it uses and returns the others. The counts are relaxed atomics, each
//! on its own cache line: no locks, no blocking, and never more permits out than the cap.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::config::snapshot::{Backend, Model, Protocol};

/// A cap of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    pub most: u32,
    pub sharing: Sharing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Any core may use all of it.
    Lent,
    /// Each core has an equal part, at least one.
    Divided,
}

impl Cap {
    /// Requests with a model.
    pub fn of_model(model: &Model) -> Cap {
        Cap { most: model.max_concurrent_requests, sharing: Sharing::Lent }
    }

    /// HTTP/1.1 connections to a backend, or HTTP/2 streams. Streams are divided because their connections are: a stream
    /// permit is of no use to a core that has no connection left. With ALPN, each core learns by itself which of the two counts.
    pub fn of_backend(backend: &Backend) -> Cap {
        match (backend.protocol, &backend.tls) {
            (Protocol::Http1, _) | (Protocol::Auto, None) => {
                Cap { most: backend.connections.max, sharing: Sharing::Lent }
            }
            (Protocol::Http2, _) | (Protocol::Auto, Some(_)) => {
                Cap { most: streams_max(backend), sharing: Sharing::Divided }
            }
        }
    }
}

/// Most requests at a time with a backend that speaks HTTP/2, of the node.
pub fn streams_max(backend: &Backend) -> u32 {
    backend.http2_connections.max.saturating_mul(backend.http2_streams)
}

/// What the cores share of one cap. No other memory is published by these counts, so relaxed order is enough.
#[repr(align(64))]
pub struct NodePermits {
    cap: Cap,
    cores: u32,
    /// Permits that no core holds.
    free: AtomicU32,
    /// Cores on which a request waits for a permit.
    wanting: AtomicU32,
    /// Those of them that hold less than their part.
    below_part: AtomicU32,
}

impl NodePermits {
    pub fn new(cap: Cap, cores: u16) -> NodePermits {
        let cores = u32::from(cores.max(1));
        // A core without others holds the whole cap for good, and so does each its part of a divided one.
        let free = if cores == 1 || cap.sharing == Sharing::Divided { 0 } else { cap.most };
        NodePermits { cap, cores, free: free.into(), wanting: 0.into(), below_part: 0.into() }
    }
}

/// One core's permits of one cap.
pub struct CorePermits {
    node: Arc<NodePermits>,
    held: Cell<u32>,
    /// What the node's counts include of this core.
    is_wanting: Cell<bool>,
    is_below_part: Cell<bool>,
}

impl CorePermits {
    pub fn new(node: Arc<NodePermits>) -> CorePermits {
        let held = match node.cap.sharing {
            _ if node.cores == 1 => node.cap.most,
            Sharing::Divided => node.cap.most.div_ceil(node.cores),
            Sharing::Lent => 0,
        };
        CorePermits { node, held: Cell::new(held), is_wanting: Cell::new(false), is_below_part: Cell::new(false) }
    }

    pub fn held(&self) -> u32 {
        self.held.get()
    }

    /// Whether permits go from core to core.
    pub fn are_lent(&self) -> bool {
        self.node.cores > 1 && self.node.cap.sharing == Sharing::Lent
    }

    /// Changes a divided cap to `most`, of the node. How many this core holds now.
    pub fn divide(&self, most: u32) -> u32 {
        if self.node.cap.sharing == Sharing::Divided {
            self.held.set(most.div_ceil(self.node.cores));
        }
        self.held.get()
    }

    /// Takes one more permit. Whether there was one: none is free, or those that are free are for a core with less than its
    /// part.
    pub fn take(&self) -> bool {
        if !self.are_lent() || self.held.get() >= self.part() && self.others_below_part() {
            return false;
        }
        let taken = self.node.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).is_ok();
        if taken {
            self.held.set(self.held.get() + 1);
            self.publish();
        }
        taken
    }

    /// Returns all but `keep`.
    pub fn keep(&self, keep: u32) {
        let returned = self.held.get().saturating_sub(keep);
        if returned > 0 && self.are_lent() {
            self.held.set(keep);
            self.node.free.fetch_add(returned, Relaxed);
            self.publish();
        }
    }

    /// A request waits on this core. Whether that is new.
    pub fn begin_wanting(&self) -> bool {
        let is_new = !self.is_wanting.get();
        self.count_wanting(true);
        is_new
    }

    /// No request waits any more.
    pub fn end_wanting(&self) {
        self.count_wanting(false);
    }

    /// Whether the next permit that is not used goes to another core, which waits with less than its part.
    pub fn owes_one(&self) -> bool {
        // With fewer permits than cores they go round.
        self.held.get() > self.node.cap.most / self.node.cores && self.others_below_part()
    }

    /// Whether a request waits on another core.
    pub fn are_wanted_elsewhere(&self) -> bool {
        self.node.wanting.load(Relaxed) > u32::from(self.is_wanting.get())
    }

    /// Permits of the node that no core holds.
    #[cfg(any(test, sim))]
    pub fn free(&self) -> u32 {
        self.node.free.load(Relaxed)
    }

    fn part(&self) -> u32 {
        (self.node.cap.most / self.node.cores).max(1)
    }

    fn others_below_part(&self) -> bool {
        self.node.below_part.load(Relaxed) > u32::from(self.is_below_part.get())
    }

    fn count_wanting(&self, now: bool) {
        adjust(&self.node.wanting, self.is_wanting.replace(now), now);
        self.publish();
    }

    fn publish(&self) {
        let now = self.is_wanting.get() && self.held.get() < self.part();
        adjust(&self.node.below_part, self.is_below_part.replace(now), now);
    }
}

fn adjust(count: &AtomicU32, before: bool, now: bool) {
    match (before, now) {
        (false, true) => _ = count.fetch_add(1, Relaxed),
        (true, false) => _ = count.fetch_sub(1, Relaxed),
        (true, true) | (false, false) => {}
    }
}

#[cfg(test)]
mod tests;
