//! Where the configuration comes from, as operators see it. The background core reads and watches; here is what came of it.

use serde::{Deserialize, Serialize};

use super::Admin;
use crate::config::snapshot::StoreKind;
use crate::net::unix_ms;
use crate::observe::scrape::Stored;

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// `file`, `etcd`, `consul` or `redis`.
    pub kind: String,
    /// The path of the file, or the key in the store.
    pub place: String,
    pub endpoints: Vec<String>,
    /// What of the store is in force.
    pub revision: Option<String>,
    /// Whether it is the copy that was kept in the state directory, because the store could not be used.
    pub kept_copy: bool,
    /// Whether changes are heard of as they are made.
    pub watched: bool,
    /// Why the store could not be read, or what it has could not be used; none once it could.
    pub last_error: Option<String>,
    pub last_error_unix_ms: Option<u64>,
    /// Why no copy of what is in force is kept.
    pub not_kept: Option<String>,
    #[serde(skip)]
    pub faults: u64,
}

impl Source {
    /// The configuration is in a file.
    pub fn file(path: &std::path::Path) -> Source {
        Source { kind: "file".to_owned(), place: path.display().to_string(), ..Source::default() }
    }

    /// Something went wrong.
    pub fn failed(&mut self, why: String) {
        self.last_error = Some(why);
        self.last_error_unix_ms = Some(unix_ms());
        self.faults += 1;
    }
}

impl Admin {
    /// Notes what became of the source.
    pub fn with_source(&self, change: impl FnOnce(&mut Source)) {
        change(&mut self.source.borrow_mut());
    }

    pub(super) fn stored(&self) -> Option<Stored> {
        let source = self.source.borrow();
        let kinds = [StoreKind::Etcd, StoreKind::Consul, StoreKind::Redis].map(StoreKind::label);
        kinds.into_iter().find(|kind| *kind == source.kind).map(|kind| Stored {
            source: kind,
            is_up: source.last_error.is_none(),
            is_watched: source.watched,
            is_kept_copy: source.kept_copy,
            faults: source.faults,
        })
    }
}
