//! What of the cache is kept for after a restart, before the cores start: the table of purges is read and written here, so that a
//! directory that cannot be used is found at once.

use std::sync::Arc;

use tracing::warn;

use super::state;
use crate::config::snapshot::{CacheMode, Snapshot, SnapshotMode};
use crate::control::nodes::ToldPurges;
use crate::disk::purged::{self, Table};
use crate::disk::{forget, snapshots};
use crate::exchange::board::Board;
use crate::exchange::purges::Purges;
use crate::observe::snapshots::RestoreState;

/// For the background core, which has purges written down and snapshots taken.
pub struct Keeping {
    table: Table,
    purges: Arc<Purges>,
    /// 0: not on a schedule.
    pub interval_ms: u64,
}

impl Keeping {
    /// Everything that was purged by now, with its number. `told` is what Redis says of it, and what it is still to be told; none
    /// without Redis.
    pub fn purged(&self, told: Option<ToldPurges>) -> (u64, Arc<[u8]>) {
        let (latest, scopes) = self.purges.all_purges();
        let Table { seen, untold, .. } = self.table.clone();
        let ToldPurges { seen, untold } = told.unwrap_or(ToldPurges { seen, untold });
        (latest, Table { id: self.table.id, latest, scopes, seen, untold }.encode().into())
    }

    /// What Redis had said of purges when the process before ended, and what it had not been told.
    pub fn told(&self) -> (&[(String, u64)], &[String]) {
        (&self.table.seen, &self.table.untold)
    }
}

/// What the I/O core and the background core need; none if nothing is kept. Purges of before are in force from here on. Errors:
/// the directory cannot be used; why.
pub fn prepare(snapshot: &Snapshot, board: &Board) -> Result<Option<(snapshots::Parts, Keeping)>, String> {
    let Some(directory) = state::directory(&snapshot.server) else { return Ok(None) };
    if snapshot.cache.snapshot == SnapshotMode::Off || snapshot.cache.mode == CacheMode::Off {
        // Purges are not written down from here on.
        if let Err(why) = forget(&directory) {
            warn!("a snapshot of the cache that is out of date stays: {why}");
        }
        return Ok(None);
    }
    let table = purged::open(&directory).map_err(|why| format!("cache.snapshot: {why}"))?;
    let purges = board.purges().clone();
    purges.recall(table.latest, table.scopes.iter().cloned());
    board.snapshots().tell(|told| told.restore = RestoreState::Running);
    let parts = snapshots::Parts {
        directory,
        cores: board.cores() as u16,
        purges: purges.clone(),
        table: table.id,
        latest: purges.latest(),
        most_bytes: snapshot.cache.max_entry_bytes,
        observed: board.snapshots().clone(),
    };
    let interval_ms = snapshot.cache.snapshot_interval_ms;
    Ok(Some((parts, Keeping { table, purges, interval_ms })))
}
