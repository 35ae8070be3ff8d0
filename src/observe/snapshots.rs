//! What became of snapshots of the cache: written by the I/O core alone, read by the background core in place.

#![expect(
    clippy::disallowed_types,
    reason = "words for a status page, between the I/O core and the background core alone"
)]

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::counters::Counter;

/// Counters and gauges, and the words for those who ask.
#[derive(Debug, Default)]
pub struct Snapshots {
    pub written: Counter,
    pub failed: Counter,
    /// Of the last one that was written: answers, bytes of the file, when it began, and how long it took.
    pub entries: Counter,
    pub bytes: Counter,
    pub unix_ms: Counter,
    pub took_ms: Counter,
    results: [Counter; RestoreResult::ALL.len()],
    told: Mutex<Told>,
}

/// What there is no number for.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Why the last one was not written.
    pub fault: Option<String>,
    pub restore: RestoreState,
    /// Why the file was not read, or not all of it.
    pub restore_fault: Option<String>,
}

/// How far the cache of before has come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreState {
    /// There was nothing to come back.
    #[default]
    None,
    Running,
    Done,
}

/// What became of an answer in a snapshot, or of a block of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreResult {
    Restored,
    Expired,
    Purged,
    /// There was a newer one already.
    Newer,
    /// The cache was full.
    NoRoom,
    /// Larger than what is stored by now, or not understood.
    Unusable,
    /// A block whose checksum is wrong, or that is not whole.
    DamagedBlock,
    /// A whole file.
    RefusedFile,
}

impl RestoreResult {
    pub const ALL: [RestoreResult; 8] = [
        RestoreResult::Restored,
        RestoreResult::Expired,
        RestoreResult::Purged,
        RestoreResult::Newer,
        RestoreResult::NoRoom,
        RestoreResult::Unusable,
        RestoreResult::DamagedBlock,
        RestoreResult::RefusedFile,
    ];

    pub fn label(self) -> &'static str {
        match self {
            RestoreResult::Restored => "restored",
            RestoreResult::Expired => "expired",
            RestoreResult::Purged => "purged",
            RestoreResult::Newer => "newer",
            RestoreResult::NoRoom => "no_room",
            RestoreResult::Unusable => "unusable",
            RestoreResult::DamagedBlock => "damaged_block",
            RestoreResult::RefusedFile => "refused_file",
        }
    }
}

impl Snapshots {
    pub fn result(&self, result: RestoreResult) -> &Counter {
        &self.results[result as usize]
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For the I/O core.
    pub fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
