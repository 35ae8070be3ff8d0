//! What the I/O core does with files besides the access log: snapshots of the cache, and what was purged. Only it touches them once
//! the node runs; nobody waits for a disk on its account but who asked for what is written.

mod file; // a file of blocks by direct I/O
pub mod purged; // what was purged, for after a restart
mod restore; // a snapshot -> the data cores
pub mod snapshots; // when what is written and read
mod write; // the data cores -> a snapshot

use std::path::{Path, PathBuf};

/// The snapshot in force, one that is being written, and what was purged.
const SNAPSHOT: &str = "cache.snapshot";
const NEW_SNAPSHOT: &str = "cache.snapshot.new";
const PURGES: &str = "cache.purges";
const NEW_PURGES: &str = "cache.purges.new";

/// Its files show what clients asked and were told.
const MODE: u32 = 0o600;

/// Removes a snapshot that is not to come back: purges were not written down since. A file that is not there is removed.
///
/// # Errors
/// It may still be there; why.
pub fn forget(directory: &Path) -> Result<(), String> {
    let path: PathBuf = directory.join(SNAPSHOT);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}
