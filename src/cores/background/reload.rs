//! Reads the configuration again while the node runs. What is read is validated whole; only then does any core hear of it,
//! as one message with the next generation, and the reload is over when every core serves by that. Owned by the background
//! core. A configuration with an error changes nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{debug, error, info, warn};

use super::notices::{Notice, Notices};
use super::stored::Stored;
use super::watching::Watching;
use super::{Latest, in_force};
use crate::config::bootstrap::Bootstrap;
use crate::config::diff::{Change, Difference, at_restart, differences};
use crate::config::load::{Loaded, load_document, load_file};
use crate::config::problem::Problems;
use crate::config::snapshot::{Address, Snapshot, Watch};
use crate::control::admin::Admin;
use crate::control::admin::reload::{Asked, Outcome, Trigger};
use crate::control::store::{Document, Fault, Link};
use crate::control::traces::{self, Exporter};
use crate::cores::origin::{self, Origin};
use crate::cores::preflight::{Preflight, preflight};
use crate::cores::{notify, resolve, secure};
use crate::net::Dial;
use crate::observe::scrape::ReloadResult;
use crate::observe::told;
use crate::upstream::node::{NodeGeneration, Parts};

/// Longest time to read a configuration and the files it names, and to resolve the names in it.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A core that has not answered is sent the generation again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the files of the configuration are looked at. What has changed is read once it looks the same twice, so that a
/// file is not read while it is written.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often it is looked whether `config.refresh` has been switched on.
const IDLE: Duration = Duration::from_secs(1);

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Source {
    /// As the file at this path says: in itself, or in a store.
    File(PathBuf, Origin),
    /// Running in a terminal, without a file: SIGHUP means that the terminal was closed.
    BuiltIn,
}

/// Which generation each data core serves by.
pub struct InForceOn {
    numbers: RefCell<Vec<u64>>,
    heard: Notify,
}

impl InForceOn {
    /// All of so many cores serve by the first.
    pub fn first(data_cores: usize) -> InForceOn {
        InForceOn { numbers: RefCell::new(vec![1; data_cores]), heard: Notify::new() }
    }

    pub fn set(&self, core: usize, number: u64) {
        if let Some(known) = self.numbers.borrow_mut().get_mut(core) {
            *known = number.max(*known);
        }
        self.heard.notify_one();
    }

    fn behind(&self, number: u64) -> Vec<usize> {
        let numbers = self.numbers.borrow();
        numbers.iter().enumerate().filter(|(_, known)| **known < number).map(|(core, _)| core).collect()
    }
}

pub struct Reloader {
    pub path: PathBuf,
    /// What the sockets, threads and memory of this process were set up by.
    pub started: Arc<Snapshot>,
    pub latest: Latest,
    pub data_cores: usize,
    pub notices: Rc<Notices>,
    pub admin: Rc<Admin>,
    pub watching: Rc<Watching>,
    pub in_force_on: Rc<InForceOn>,
    /// Former generations that exchanges may hold: freed here, not on a data core.
    pub former: RefCell<Vec<Arc<NodeGeneration>>>,
    /// The errors that were last told.
    pub told: RefCell<Vec<String>>,
    /// What the configuration's files looked like when they were last read.
    pub seen: RefCell<Looks>,
    /// The store that the configuration is in, if it is in one.
    pub stored: Stored,
    pub traces: Rc<Exporter>,
}

/// A configuration that is good, with all that belongs to it.
struct Read {
    parts: Parts,
    traces: Option<traces::Settings>,
    warnings: Vec<String>,
}

/// Where the backends of the generation in force are, by name.
type Known = HashMap<String, (Address, Arc<[Dial]>)>;

impl Reloader {
    /// Reloads whenever that is asked for, forever.
    pub async fn keep_reloading(&self) {
        self.stored.keep(&self.admin).await;
        loop {
            let asked = self.admin.reload_asked().await;
            if asked.trigger.is_asked() {
                notify::reloading();
            }
            let (outcome, in_force) = self.reload(asked.trigger).await;
            self.tell(&asked, &outcome);
            self.stored.keep(&self.admin).await;
            if asked.trigger.is_asked() {
                notify::ready(&self.admin.summary(0.0));
            }
            self.admin.reloaded(asked, outcome, in_force);
        }
    }

    async fn reload(&self, trigger: Trigger) -> (Outcome, Option<super::InForce>) {
        let (in_use, gone): (Vec<_>, Vec<_>) =
            self.former.take().into_iter().partition(|former| Arc::strong_count(former) > 1);
        self.former.replace(in_use);
        set_free(gone);
        let before = self.latest.borrow().clone();
        let of = |ended, generation: u64| {
            let [changes, needs_restart, errors] = [(); 3].map(|()| Vec::new());
            Outcome { ended, generation, changes, needs_restart, errors }
        };
        let read = match tokio::time::timeout(READ_LIMIT, self.read(trigger, &before)).await {
            Ok(read) => read,
            Err(_) => {
                let (path, limit) = (self.path.display(), READ_LIMIT.as_secs());
                let why = format!("{path}: it, or a file that it names, could not be read in {limit} s");
                Err((ReloadResult::Refused, vec![why]))
            }
        };
        let (Read { parts, traces, warnings }, document) = match read {
            Ok(read) => read,
            Err((ended, errors)) => {
                self.stored.failed(&self.admin, &errors);
                return (Outcome { errors, ..of(ended, before.number) }, None);
            }
        };
        // On another thread: of a hundred thousand keys this takes its time, and the background core has other work.
        let next = spawn_blocking({
            let (started, before) = (self.started.clone(), before.clone());
            move || {
                let needs_restart = at_restart(&started, &parts.snapshot);
                let mut changes = differences(&before.snapshot, &parts.snapshot);
                let next = Arc::new(before.next(parts));
                changes.extend(new_certificates(&before, &next, &changes));
                (next, changes, needs_restart)
            }
        });
        let Ok((next, changes, needs_restart)) = next.await else {
            let errors = vec!["comparing it panicked: report this as a bug".to_owned()];
            return (Outcome { errors, ..of(ReloadResult::Refused, before.number) }, None);
        };
        if let Some(document) = document {
            self.stored.good(&self.admin, document);
        }
        if changes.is_empty() {
            set_free(vec![next]);
            return (Outcome { needs_restart, ..of(ReloadResult::Unchanged, before.number) }, None);
        }
        warnings.iter().for_each(|warning| warn!("{warning}"));
        self.traces.set(traces);
        self.distribute(&next).await;
        if before.snapshot.log.level != next.snapshot.log.level {
            told::set_level(next.snapshot.log.level);
        }
        self.former.borrow_mut().push(before);
        let changes = changes.iter().map(ToString::to_string).collect();
        (Outcome { changes, needs_restart, ..of(ReloadResult::InForce, next.number) }, Some(in_force(&next)))
    }

    /// Reads everything, and what the store has if it is in one. Errors: how that ends, and all that is wrong.
    async fn read(
        &self,
        trigger: Trigger,
        before: &NodeGeneration,
    ) -> Result<(Read, Option<Document>), (ReloadResult, Vec<String>)> {
        let panicked = |_| (ReloadResult::Refused, vec!["reading it panicked: report this as a bug".to_owned()]);
        let refused = |errors| (ReloadResult::Refused, errors);
        let (path, files) = (self.path.clone(), before.snapshot.files.clone());
        let local = spawn_blocking(move || (looks(files), local(&path)));
        let (seen, local) = local.await.map_err(panicked)?;
        self.seen.replace(seen);
        let (own, document) = match local.map_err(refused)? {
            Local::Whole(snapshot) => {
                self.stored.file(&self.path, &self.admin);
                (Whence::File(snapshot), None)
            }
            Local::Store(own, link) => {
                let linked = self.stored.follow(own, link, trigger, &self.admin);
                match linked.link.fetch().await {
                    Ok(document) => (Whence::Store(linked.own.clone(), document.clone()), Some(document)),
                    Err(fault) => {
                        let ended = match fault {
                            Fault::Unavailable(_) => ReloadResult::Unavailable,
                            Fault::Unusable(_) => ReloadResult::Refused,
                        };
                        return Err((ended, vec![origin::said(&linked.own.store.called(), &fault)]));
                    }
                }
            }
        };
        let known = self.known(before);
        let read = spawn_blocking(move || {
            let read = read(own, &known);
            let named = read.as_ref().map_or(Vec::new(), |read| read.parts.snapshot.files.clone());
            (looks(named), read)
        });
        let (named, read) = read.await.map_err(panicked)?;
        for (file, look) in named {
            self.seen.borrow_mut().entry(file).or_insert(look);
        }
        Ok((read.map_err(refused)?, document))
    }

    /// Sends the next generation to every core and waits until all of them serve by it.
    async fn distribute(&self, next: &Arc<NodeGeneration>) {
        self.latest.replace(next.clone());
        self.notices.tell(self.data_cores, &Notice::Generation(next.clone()));
        self.watching.follow();
        loop {
            let heard = tokio::time::timeout(AGAIN, async {
                while !self.in_force_on.behind(next.number).is_empty() {
                    self.in_force_on.heard.notified().await;
                }
            });
            if heard.await.is_ok() {
                return;
            }
            // An answer may be lost where this core's own mail is full.
            for core in self.in_force_on.behind(next.number) {
                self.notices.tell_one(core, &Notice::Generation(next.clone()));
            }
        }
    }

    fn known(&self, generation: &NodeGeneration) -> Known {
        let backends = generation.backends.iter().zip(&generation.snapshot.backends);
        let known = backends.filter_map(|(of_node, settings)| {
            let addresses = self.watching.addresses(of_node.id)?;
            Some((settings.name.clone(), (settings.address.clone(), addresses)))
        });
        known.collect()
    }

    /// Logs how a reload ended.
    fn tell(&self, asked: &Asked, outcome: &Outcome) {
        let trigger = asked.trigger.label();
        let Outcome { ended, generation, changes, needs_restart, errors } = outcome;
        let result = ended.label();
        match ended {
            ReloadResult::InForce => {
                let changes = changes.join("; ");
                info!(
                    result,
                    generation,
                    trigger,
                    "generation {generation} in force on all cores ({result}, {trigger}): {changes}"
                );
                if !needs_restart.is_empty() {
                    warn!("{} as before until a restart", needs_restart.join(", "));
                }
                self.told.take();
            }
            ReloadResult::Unchanged => {
                if asked.trigger.is_asked() {
                    info!(
                        result,
                        generation,
                        trigger,
                        "the configuration is as it was ({result}, {trigger}): generation {generation}"
                    );
                } else {
                    debug!(result, generation, trigger, "the configuration is as it was ({result}, {trigger})");
                }
                self.told.take();
            }
            ReloadResult::Refused | ReloadResult::Unavailable => {
                if !asked.trigger.is_asked() && *self.told.borrow() == *errors {
                    return;
                }
                let what = if *ended == ReloadResult::Refused { "has errors" } else { "cannot be read" };
                error!(
                    result,
                    generation,
                    trigger,
                    "the configuration {what} ({result}, {trigger}), generation {generation} stays in force: {}",
                    errors.join("; ")
                );
                self.told.replace(errors.clone());
            }
        }
    }

    /// Asks for a reload when a file of the configuration has changed, forever.
    pub async fn watch_files(&self) {
        let mut moving = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let snapshot = self.latest.borrow().snapshot.clone();
            if snapshot.config.watch == Watch::Off {
                continue;
            }
            let read_at_ms = snapshot.read_at_ms;
            let Ok(now) = spawn_blocking(move || looks(snapshot.files.clone())).await else { continue };
            let has_changed = {
                let mut seen = self.seen.borrow_mut();
                now.iter().filter(|(file, look)| is_news(&mut seen, file, **look, read_at_ms)).count() > 0
            };
            if has_changed && moving.as_ref() != Some(&now) {
                moving = Some(now);
            } else if has_changed {
                // Also where it cannot be read: once is enough until it changes again.
                self.seen.replace(now);
                moving = None;
                self.admin.ask_reload(Trigger::File);
            }
        }
    }

    /// Whether `config.watch` is on.
    pub fn is_watching(&self) -> bool {
        self.latest.borrow().snapshot.config.watch == Watch::On
    }

    /// Asks for a reload at the pace of `config.refresh`, forever.
    pub async fn refresh(&self) {
        loop {
            let refresh_ms = self.latest.borrow().snapshot.config.refresh_ms;
            if refresh_ms == 0 {
                tokio::time::sleep(IDLE).await;
                continue;
            }
            tokio::time::sleep(Duration::from_millis(refresh_ms)).await;
            self.admin.ask_reload(Trigger::Refresh);
        }
    }
}

/// Frees generations that nobody uses, which takes its time, on another thread.
fn set_free(gone: Vec<Arc<NodeGeneration>>) {
    if !gone.is_empty() {
        spawn_blocking(move || drop(gone));
    }
}

/// By what a changed file is told; `None` for one that is not there.
type Look = Option<(Option<SystemTime>, u64, u64)>;

pub type Looks = HashMap<PathBuf, Look>;

/// Whether `file` looks other than when it was last read; at the first look at it, whether it was written after `read_at_ms`.
fn is_news(seen: &mut Looks, file: &Path, look: Look, read_at_ms: u64) -> bool {
    match seen.get(file) {
        Some(before) => *before != look,
        None => {
            let modified = look.and_then(|(modified, ..)| modified?.duration_since(SystemTime::UNIX_EPOCH).ok());
            let is_later = read_at_ms > 0 && modified.is_some_and(|at| at.as_millis() > u128::from(read_at_ms));
            if !is_later {
                seen.insert(file.to_owned(), look);
            }
            is_later
        }
    }
}

fn looks(files: Vec<PathBuf>) -> Looks {
    files.into_iter().map(|file| (file.clone(), look(&file))).collect()
}

fn look(file: &Path) -> Look {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok(), found.len(), found.ino()))
}

/// Backends and listeners that are written as before, but have other certificates or keys in the files that they name.
fn new_certificates(before: &NodeGeneration, next: &NodeGeneration, changes: &[Difference]) -> Vec<Difference> {
    let renewed = next.backends.iter().filter(|backend| {
        before.backend(backend.id).is_none() && before.backends.iter().any(|old| old.name == backend.name)
    });
    let found = renewed.map(|backend| Difference {
        item: format!("backend \"{}\"", backend.name),
        change: Change::Changed(vec!["its certificates or keys".to_owned()]),
    });
    let secured = |of: &NodeGeneration| {
        let listeners = of.snapshot.server.listeners.iter().zip(&of.listeners);
        listeners.map(|(settings, tls)| (settings.address.to_string(), tls.clone())).collect::<Vec<_>>()
    };
    let old = secured(before);
    let listeners = secured(next)
        .into_iter()
        .filter(|(address, tls)| old.iter().any(|(other, was)| other == address && was != tls));
    let listeners = listeners.map(|(address, _)| Difference {
        item: format!("listener \"{address}\""),
        change: Change::Changed(vec!["its certificates or keys".to_owned()]),
    });
    found.chain(listeners).filter(|found| !changes.iter().any(|change| change.item == found.item)).collect()
}

/// What the node's own file says.
enum Local {
    Whole(Box<Snapshot>),
    Store(Arc<Bootstrap>, Box<Link>),
}

/// From where the rest is read.
enum Whence {
    File(Box<Snapshot>),
    Store(Arc<Bootstrap>, Document),
}

/// Reads the node's own file. Blocking. Errors: all that is wrong, a line each.
fn local(path: &Path) -> Result<Local, Vec<String>> {
    match load_file(path, &secure::look()).map_err(|problems| lines(&problems))? {
        Loaded::Here(snapshot) => Ok(Local::Whole(snapshot)),
        Loaded::Elsewhere(own) => {
            let link = origin::link(&own).map_err(|why| vec![format!("{}: {why}", path.display())])?;
            Ok(Local::Store(Arc::from(own), Box::new(link)))
        }
    }
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(ToOwned::to_owned).collect()
}

/// Reads everything else. Blocking. Errors: all that is wrong, a line each.
fn read(whence: Whence, known: &Known) -> Result<Read, Vec<String>> {
    let (snapshot, called) = match whence {
        Whence::File(snapshot) => (snapshot, "the configuration".to_owned()),
        Whence::Store(own, document) => {
            let called = own.store.called();
            let snapshot = load_document(&own, &called, &document.text, &secure::look());
            (Box::new(snapshot.map_err(|problems| lines(&problems))?), called)
        }
    };
    let Preflight { errors, mut warnings } = preflight(&snapshot);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| format!("{called}: {error}")).collect());
    }
    let tls = secure::settings(&snapshot).map_err(|error| vec![error])?;
    let listeners = secure::listeners(&snapshot).map_err(|error| vec![error])?;
    let traces = crate::cores::traces::settings(&snapshot).map_err(|error| vec![error])?;
    // A name that is followed already need not be looked up.
    let (addresses, unresolved) = resolve::addresses_but(&snapshot, |backend| {
        let (address, addresses) = known.get(&backend.name)?;
        (*address == backend.address).then(|| addresses.clone())
    });
    warnings.extend(unresolved);
    Ok(Read { traces, parts: Parts { snapshot: Arc::new(*snapshot), addresses, tls, listeners }, warnings })
}
