//! Where the configuration is found at the start: in a file, in the store that the file names, or in the copy that was kept of
//! that. Blocking, so before the cores start, or in a command. Owns nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::preflight::preflight;
use super::{secure, state};
use crate::config::bootstrap::Bootstrap;
use crate::config::load::{Loaded, load_document, load_file};
use crate::config::pem::Look;
use crate::config::problem::Problems;
use crate::config::snapshot::{Endpoint, Snapshot, Store, Tls};
use crate::control::admin::source::Source;
use crate::control::kept;
use crate::control::store::{Document, Fault, Link, fetch_now};
use crate::net::tls::Offer;
use crate::net::unix_ms;

/// How long a store that does not answer yet is waited for at the start: with a copy to start from, and without.
const PATIENCE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// A configuration, and where it was found.
#[derive(Debug)]
pub struct Found {
    pub snapshot: Snapshot,
    pub origin: Origin,
}

/// Where a configuration was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub source: Source,
    /// What the store has, unless a copy stands in for it.
    pub document: Option<Document>,
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Missing {
    Problems(Problems),
    /// Lines, without places.
    Fault(String),
}

impl From<Problems> for Missing {
    fn from(problems: Problems) -> Missing {
        Missing::Problems(problems)
    }
}

/// Whether a copy may stand in for a store that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    Used,
    Ignored,
}

/// The configuration that the file at `path` is, or leads to. Errors: why there is none.
pub fn find(path: &Path, copies: Copies, look: &Look<'_>) -> Result<Found, Missing> {
    let read_at_ms = unix_ms();
    match load_file(path, look)? {
        Loaded::Here(mut snapshot) => {
            snapshot.read_at_ms = read_at_ms;
            let origin = Origin { source: Source::file(path), ..Origin::default() };
            Ok(Found { snapshot: *snapshot, origin })
        }
        Loaded::Elsewhere(own) => stored(&own, copies, look),
    }
}

/// What is in the store that `own` names, or the copy that was kept of it.
pub fn stored(own: &Bootstrap, copies: Copies, look: &Look<'_>) -> Result<Found, Missing> {
    let link = link(own).map_err(|why| Missing::Fault(format!("{}: {why}\n", own.path.display())))?;
    let called = own.store.called();
    let directory = state_directory(own);
    let copy = match (&directory, copies) {
        (Some(directory), Copies::Used) => kept::read(directory, &own.store),
        _ => Ok(None),
    };
    let patience = PATIENCE[usize::from(!matches!(copy, Ok(Some(_))))];
    let mut source = of_store(&own.store);
    let why = match fetch_now(&link, patience) {
        Ok(document) => match load_document(own, &called, &document.text, look) {
            Ok(snapshot) if !is_worse(&snapshot, &copy, own, look) => {
                source.revision = Some(document.revision.clone());
                let origin = Origin { source, document: Some(document), warnings: Vec::new() };
                return Ok(Found { snapshot, origin });
            }
            Ok(snapshot) => preflight(&snapshot).errors.iter().map(|error| format!("{called}: {error}\n")).collect(),
            Err(problems) if !matches!(copy, Ok(Some(_))) => return Err(problems.into()),
            Err(problems) => problems.to_string(),
        },
        Err(fault) => format!("{}\n", said(&called, &fault)),
    };
    let why = why.trim_end();
    let lacks = |what: String| Missing::Fault(format!("{why}\n{what}\n"));
    match (copy, &directory) {
        (_, _) if copies == Copies::Ignored => Err(Missing::Fault(format!("{why}\n"))),
        (_, None) => Err(lacks("no copy is kept either: set server.state_dir in this node's own file".to_owned())),
        (Ok(None), Some(directory)) => {
            Err(lacks(format!("there is no copy of an earlier one: {}", kept::path(directory).display())))
        }
        (Err(refused), _) => Err(lacks(format!("nor can the kept copy be used: {refused}"))),
        (Ok(Some(copy)), Some(directory)) => {
            let place = kept::path(directory);
            let snapshot = load_document(own, &place.display().to_string(), &copy.text, look)?;
            let warning = format!(
                "{}; this node starts with what it had kept of it: revision {}, in {}",
                why.replace('\n', "; "),
                copy.revision,
                place.display()
            );
            source.failed(why.replace('\n', "; "));
            source.revision = Some(copy.revision);
            source.kept_copy = true;
            Ok(Found { snapshot, origin: Origin { source, document: None, warnings: vec![warning] } })
        }
    }
}

/// Whether this host does not support what the store has, but does support the copy.
fn is_worse(stored: &Snapshot, copy: &Result<Option<Document>, String>, own: &Bootstrap, look: &Look<'_>) -> bool {
    let Ok(Some(copy)) = copy else { return false };
    let is_good = |snapshot: &Snapshot| preflight(snapshot).errors.is_empty();
    !is_good(stored) && load_document(own, "", &copy.text, look).is_ok_and(|snapshot| is_good(&snapshot))
}

/// What is said of a store that has no document.
pub fn said(called: &str, fault: &Fault) -> String {
    match fault {
        Fault::Unavailable(why) => format!("{called}: the store cannot be read: {why}"),
        Fault::Unusable(why) => format!("{called}: {why}"),
    }
}

/// The directory in which a copy is kept.
pub fn state_directory(own: &Bootstrap) -> Option<PathBuf> {
    state::directory_of(own.state_dir.clone())
}

/// How operators see a store that was not read yet.
pub fn of_store(store: &Store) -> Source {
    Source {
        kind: store.kind.label().to_owned(),
        place: store.key.clone(),
        endpoints: store.endpoints.iter().map(ToString::to_string).collect(),
        ..Source::default()
    }
}

/// The store that a node's own file names. Reads files. Errors: its certificates cannot be used.
pub fn link(own: &Bootstrap) -> Result<Link, String> {
    let Store { endpoints, tls, .. } = &own.store;
    let settings = endpoints.iter().map(|endpoint: &Endpoint| {
        let tls = Tls { server_name: endpoint.host.clone(), ..tls.clone() };
        endpoint.is_secure.then(|| secure::lone(&tls, Offer::Http1)).transpose()
    });
    let settings = settings.collect::<Result<_, _>>().map_err(|why| format!("config: {why}"))?;
    Link::new(own.store.clone(), settings).map_err(|why| format!("config: {why}"))
}
