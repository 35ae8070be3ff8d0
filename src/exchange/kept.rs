//! What crosses cores of the cache's snapshots.

use std::sync::Arc;

use shards::{Fingerprint, Heat};

use super::entry::Entry;
use crate::observe::snapshots::RestoreResult;

/// An answer, and how likely it is asked for again.
#[derive(Clone, Debug)]
pub struct Kept {
    pub request: Fingerprint,
    pub heat: Heat,
    pub entry: Arc<Entry>,
}

/// A part of a core's answers.
#[derive(Debug)]
pub struct Slice {
    /// Of the snapshot that asked for it.
    pub number: u64,
    pub kept: Vec<Kept>,
    /// Where to go on; none at the end.
    pub next: Option<u32>,
}

/// What became of a slice that went back to its core.
#[derive(Clone, Copy, Debug, Default)]
pub struct TakenBack {
    results: [u32; RestoreResult::ALL.len()],
}

impl TakenBack {
    pub(super) fn add(&mut self, result: RestoreResult) {
        self.results[result as usize] += 1;
    }

    pub fn count(&self, result: RestoreResult) -> u64 {
        u64::from(self.results[result as usize])
    }
}
