//! What the cores of a node publish for each other whatever the configuration. Immutable but for atomics, each of which one
//! core writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::CoreId;
use shards::rebalance::CoreLoad;

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
    /// What each core has done lately.
    loads: Vec<Apart>,
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
            loads: (0..cores).map(|_| Apart::default()).collect(),
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

    /// What a core did in its last interval; `balance` writes and reads it.
    pub fn load(&self, core: usize) -> CoreLoad {
        let packed = self.loads[core].0.load(Ordering::Relaxed);
        CoreLoad { busy_permille: (packed >> 16) as u16, active: packed as u16 }
    }

    pub fn publish_load(&self, core: usize, load: CoreLoad) {
        self.loads[core].0.store(u64::from(load.busy_permille) << 16 | u64::from(load.active), Ordering::Relaxed);
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
