//! A node's own file where the configuration is in a store: it says where that is, and what the node keeps for itself.
//! Whatever it says wins over the store. Backends, models and tenants stand in the store alone.

use std::path::{Path, PathBuf};

use super::keys::Table;
use super::problem::Report;
use super::reader::header;
use super::shown::{self, Secrets};
use super::snapshot::{Store, read};
use super::tables::Tables;

/// A node's own file.
#[derive(Debug)]
pub struct Bootstrap {
    pub path: PathBuf,
    pub(super) text: String,
    pub store: Store,
    /// `server.state_dir` as it stands here.
    pub state_dir: Option<PathBuf>,
    /// What it says of the store, hashes in place of secrets: to be compared, shown to nobody.
    compared: serde_json::Value,
    /// It, and the files that it names.
    pub files: Vec<PathBuf>,
}

impl Bootstrap {
    /// Whether both say the same of the store.
    pub fn is_same_store(&self, other: &Bootstrap) -> bool {
        self.compared == other.compared
    }
}

/// `None`: something was reported.
pub(super) fn bootstrap(tables: &mut Tables, path: &Path, text: &str, report: &mut Report<'_>) -> Option<Bootstrap> {
    let all = [
        (Table::Backend, &tables.backends),
        (Table::Model, &tables.models),
        (Table::Template, &tables.templates),
        (Table::Tenant, &tables.tenants),
    ];
    for (table, sections) in all {
        for section in sections {
            let what = format!("a {} stands in the store, not beside config.source", header(table));
            report.add(section.at, table.name(), what, "move it there, or take source out");
        }
    }
    let compared = shown::table(&tables.config, Secrets::Hashed);
    let config = read::config(&mut tables.config, report)?;
    let state_dir: Option<String> = tables.server.take_optional("state_dir")?;
    Some(Bootstrap {
        path: path.to_owned(),
        text: text.to_owned(),
        store: *config.store?,
        state_dir: state_dir.map(PathBuf::from),
        compared,
        files: Vec::new(),
    })
}
