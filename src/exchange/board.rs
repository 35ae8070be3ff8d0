//! What the cores of a node publish for each other whatever the configuration. Immutable but for atomics, each of which one
//! core writes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use shards::CoreId;

use super::epochs::Epochs;
use super::purges::Purges;
use crate::dialect::facts::Endpoint;
use crate::observe::counters::Counters;
use crate::observe::snapshots::Snapshots;

/// Since when copies are out of date, what was purged, what requests take of each core's memory, and each core's numbers.
pub struct Board {
    pub(super) epochs: Arc<Epochs>,
    pub(super) purges: Arc<Purges>,
    request_bytes: Vec<Apart>,
    counters: Vec<Arc<Counters>>,
    snapshots: Arc<Snapshots>,
}

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Apart(AtomicU64);

impl Board {
    pub fn new(cores: u16) -> Board {
        Board {
            epochs: Epochs::new(cores),
            purges: Purges::new(),
            request_bytes: (0..cores).map(|_| Apart::default()).collect(),
            counters: (0..cores).map(|_| Arc::new(Counters::new(Endpoint::ALL.len()))).collect(),
            snapshots: Arc::default(),
        }
    }

    /// Data cores of the node.
    pub fn cores(&self) -> usize {
        self.request_bytes.len()
    }

    /// What was purged; the background core alone writes it.
    pub fn purges(&self) -> &Arc<Purges> {
        &self.purges
    }

    /// Bytes that a core's requests take; `memory` writes and reads it.
    pub fn request_bytes(&self, core: usize) -> &AtomicU64 {
        &self.request_bytes[core].0
    }

    /// The numbers of a core.
    pub fn counters(&self, core: CoreId) -> &Arc<Counters> {
        &self.counters[usize::from(core.0)]
    }

    /// What became of snapshots of the cache; the I/O core alone writes it.
    pub fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    /// The numbers of each core.
    pub fn all_counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }
}
