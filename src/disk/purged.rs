//! What was purged, in a file: a snapshot of before does not bring it back. The file is written anew with each purge, before that
//! is acknowledged, and atomically replaced. Without it no snapshot is read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use prost::Message;
use tracing::warn;

use super::{MODE, NEW_PURGES, PURGES, forget};
use crate::net::random_u64;
use crate::wire::blocks::{Block, Fault, Id, walk};

const KIND: u8 = 16;

/// The purges of this and of all earlier processes, with numbers that go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Snapshots name the table that belongs to them.
    pub id: Id,
    pub latest: u64,
    /// The last one of each scope.
    pub scopes: Vec<(String, u64)>,
    /// The same by the numbers of Redis, as far as they are known.
    pub seen: Vec<(String, u64)>,
    /// Scopes of whose purges Redis was not told.
    pub untold: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    latest: u64,
    #[prost(message, repeated, tag = "3")]
    scopes: Vec<Scope>,
    #[prost(message, repeated, tag = "4")]
    seen: Vec<Scope>,
    #[prost(string, repeated, tag = "5")]
    untold: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    number: u64,
}

impl Table {
    /// One without purges, that no snapshot belongs to.
    fn new() -> Table {
        Table { id: new_id(), latest: 0, scopes: Vec::new(), seen: Vec::new(), untold: Vec::new() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let scopes = |all: &[(String, u64)]| {
            all.iter().map(|(name, number)| Scope { name: name.clone(), number: *number }).collect()
        };
        let (id, latest) = (self.id.to_vec(), self.latest);
        let (seen, untold) = (scopes(&self.seen), self.untold.clone());
        let stored = Stored { id, latest, scopes: scopes(&self.scopes), seen, untold };
        let mut block = Block::new(KIND);
        block.push(&stored.encode_to_vec());
        block.finish(&new_id(), <[u8]>::to_vec)
    }

    /// # Errors
    /// The bytes are no table, or not whole.
    pub fn decode(bytes: &[u8]) -> Result<Table, Fault> {
        let mut found = Err(Fault::Foreign);
        walk(bytes, |kind, records| {
            if kind == KIND {
                found = records.and_then(|mut records| records.next().and_then(table_of).ok_or(Fault::Damaged));
            }
        })?;
        found
    }
}

fn table_of(record: &[u8]) -> Option<Table> {
    let Stored { id, latest, scopes, seen, untold } = Stored::decode(record).ok()?;
    let pairs = |all: Vec<Scope>| all.into_iter().map(|Scope { name, number }| (name, number)).collect();
    Some(Table { id: id.try_into().ok()?, latest, scopes: pairs(scopes), seen: pairs(seen), untold })
}

/// For a file or a table: unlike all others, and not to be guessed by those whose answers are stored.
pub(super) fn new_id() -> Id {
    let halves = [random_u64().to_le_bytes(), random_u64().to_le_bytes()];
    std::array::from_fn(|place| halves[place / 8][place % 8])
}

/// The table in this directory, or a new one. Before the cores start.
///
/// # Errors
/// Nothing can be written there; why.
pub fn open(directory: &Path) -> Result<Table, String> {
    let path = directory.join(PURGES);
    let table = match std::fs::read(&path) {
        Ok(bytes) => Table::decode(&bytes).unwrap_or_else(|fault| {
            warn!("{}: {fault}; what was purged before is not known, so no snapshot is read", path.display());
            Table::new()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!("{}: {error}; what was purged before is not known, so no snapshot is read", path.display());
            }
            Table::new()
        }
    };
    save(directory, &table.encode()).map_err(|error| format!("{}: {error}", directory.join(NEW_PURGES).display()))?;
    Ok(table)
}

/// Puts `table` in the place of the one in this directory.
fn save(directory: &Path, table: &[u8]) -> io::Result<()> {
    let new = directory.join(NEW_PURGES);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
    file.write_all(table)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(PURGES))?;
    File::open(directory)?.sync_all()
}

/// As `save`; where that fails, what was purged does not come back all the same: the snapshot goes.
///
/// # Errors
/// A restart may bring back what was purged; why.
pub(super) fn save_or_forget(directory: &Path, table: &[u8]) -> Result<(), String> {
    let Err(error) = save(directory, table) else { return Ok(()) };
    warn!("{}: {error}; the snapshot of the cache is removed, for it may have what was purged", directory.display());
    forget(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let scopes = (1..400).map(|number| (format!("k{number}"), number)).collect();
        Table { id: [3; 16], latest: 9, scopes, seen: vec![("all".to_owned(), 1 << 50)], untold: vec!["m7".to_owned()] }
    }

    #[test]
    fn a_table_is_read_as_it_was_written_or_not_at_all() {
        let bytes = table().encode();
        assert_eq!(Table::decode(&bytes), Ok(table()));
        for cut in (0..bytes.len()).step_by(7) {
            assert!(Table::decode(&bytes[..cut]).is_err_and(|_| true) || Table::decode(&bytes[..cut]) == Ok(table()));
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = Table::decode(&changed);
            assert!(read.is_err() || read == Ok(table()), "byte {at}");
        }
    }

    #[test]
    fn a_directory_keeps_its_table_and_a_damaged_one_is_replaced_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        assert_eq!(open(directory.path()).unwrap(), first);
        save_or_forget(directory.path(), &table().encode()).unwrap();
        assert_eq!(open(directory.path()).unwrap(), table());
        std::fs::write(directory.path().join(PURGES), b"x").unwrap();
        let new = open(directory.path()).unwrap();
        assert!(new.scopes.is_empty() && new.id != [3; 16]);
        assert_eq!(open(directory.path()).unwrap(), new);
        assert!(open(Path::new("/proc/self")).is_err());
    }

    #[test]
    fn where_purges_cannot_be_written_down_the_snapshot_goes() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join(super::super::SNAPSHOT);
        std::fs::write(&snapshot, b"x").unwrap();
        // A directory is in the way.
        std::fs::create_dir(directory.path().join(NEW_PURGES)).unwrap();
        save_or_forget(directory.path(), b"x").unwrap();
        assert!(!snapshot.exists());
    }
}
