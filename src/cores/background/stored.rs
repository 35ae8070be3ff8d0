//! The store that the configuration is in: watched for changes, and what is good of it kept in the state directory. Owned by the
//! background core. A store that hangs, flaps or answers anything at all costs messages here, and nothing else.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::bootstrap::Bootstrap;
use crate::control::admin::Admin;
use crate::control::admin::reload::Trigger;
use crate::control::admin::source::Source;
use crate::control::kept;
use crate::control::store::{Document, Link, News};
use crate::cores::origin::{self, Origin};
use crate::net::random_u64;

/// Pauses between attempts to watch a store, doubled up to the last, each between half of it and one and a half: nodes that lost
/// their store together do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// Between two reloads for a store that tells of changes without end.
const PACE: Duration = Duration::from_millis(200);
/// How often it is looked whether there is something to watch.
const IDLE: Duration = Duration::from_secs(1);

/// What a node's own file says of a store, and the way to it.
pub struct Linked {
    pub own: Arc<Bootstrap>,
    pub link: Link,
}

pub struct Stored {
    linked: RefCell<Option<Rc<Linked>>>,
    /// It is another store than before, or none.
    relinked: Notify,
    /// Something may have changed there.
    changed: Notify,
    /// What is in force and not kept yet.
    unkept: RefCell<Option<Document>>,
    /// What is in force.
    known: RefCell<Option<Document>>,
}

impl Stored {
    pub fn new(origin: &Origin) -> Stored {
        Stored {
            linked: RefCell::default(),
            relinked: Notify::new(),
            changed: Notify::new(),
            unkept: RefCell::new(origin.document.clone()),
            known: RefCell::new(origin.document.clone()),
        }
    }

    /// The configuration is in the file.
    pub fn file(&self, path: &Path, admin: &Admin) {
        self.unkept.take();
        if self.linked.take().is_some() {
            self.known.take();
            self.relinked.notify_one();
            admin.with_source(|source| *source = Source::file(path));
        }
    }

    /// The configuration is in the store that `own` names.
    pub fn follow(&self, own: Arc<Bootstrap>, link: Box<Link>, trigger: Trigger, admin: &Admin) -> Rc<Linked> {
        let mut linked = self.linked.borrow_mut();
        let is_same = linked.as_ref().is_some_and(|linked| linked.own.is_same_store(&own));
        // Its certificates may be new.
        let is_asked = trigger.is_asked() || trigger == Trigger::File;
        if let Some(known) = linked.as_ref().filter(|_| is_same && !is_asked) {
            return known.clone();
        }
        if !is_same {
            if linked.is_some() {
                admin.with_source(|source| *source = origin::of_store(&own.store));
            }
            self.relinked.notify_one();
        }
        let next = Rc::new(Linked { own, link: *link });
        linked.replace(next.clone());
        next
    }

    /// What the store has is good, and about to be in force.
    pub fn good(&self, admin: &Admin, document: Document) {
        admin.with_source(|source| {
            source.revision = Some(document.revision.clone());
            source.kept_copy = false;
            source.last_error = None;
        });
        if self.known.borrow().as_ref() != Some(&document) {
            self.known.replace(Some(document.clone()));
            self.unkept.replace(Some(document));
        }
    }

    pub fn failed(&self, admin: &Admin, errors: &[String]) {
        if self.linked.borrow().is_some() {
            admin.with_source(|source| source.failed(errors.join("; ")));
        }
    }

    /// Keeps a copy of what is in force, if that is not the one that is kept.
    pub async fn keep(&self, admin: &Admin) {
        let Some(linked) = self.linked.borrow().clone() else { return };
        let Some(directory) = origin::state_directory(&linked.own) else {
            let why = "there is no state directory: set server.state_dir in this node's own file";
            return admin.with_source(|source| source.not_kept = Some(why.to_owned()));
        };
        let Some(document) = self.unkept.take() else { return };
        let (own, shown, copy) = (linked.own.clone(), directory.display().to_string(), document.clone());
        let kept = spawn_blocking(move || kept::write(&directory, &own.store, &copy)).await;
        let why = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{shown}: {error}")),
            Err(_) => Some("keeping it panicked".to_owned()),
        };
        if let Some(why) = &why {
            warn!("no copy of the configuration is kept, with which this node would start without its store: {why}");
            // With the next reload.
            self.unkept.borrow_mut().get_or_insert(document);
        }
        admin.with_source(|source| source.not_kept = why);
    }

    /// Asks for a reload when the store tells of a change, for ever.
    pub async fn hear(&self, admin: &Admin) {
        loop {
            self.changed.notified().await;
            admin.ask_reload(Trigger::Store);
            sleep(PACE).await;
        }
    }

    /// Watches the store, for ever; `is_wanted` says whether that is wanted.
    pub async fn watch(&self, admin: &Admin, is_wanted: impl Fn() -> bool) {
        let (mut pause, mut is_told) = (FIRST_PAUSE, false);
        loop {
            let linked = self.linked.borrow().clone();
            let Some(linked) = linked.filter(|_| is_wanted()) else {
                tokio::select! { () = self.relinked.notified() => {}, () = sleep(IDLE) => {} }
                continue;
            };
            let called = linked.own.store.called();
            let is_connected = Cell::new(false);
            let was_told = is_told;
            let tell = |news| {
                if news == News::Connected && !is_connected.replace(true) {
                    admin.with_source(|source| source.watched = true);
                    if was_told {
                        info!("{called}: changes are heard of again");
                    }
                }
                self.changed.notify_one();
            };
            let unwanted = async {
                while is_wanted() {
                    sleep(IDLE).await;
                }
            };
            let why = tokio::select! {
                why = linked.link.watch(&tell) => Some(why),
                () = self.relinked.notified() => None,
                () = unwanted => None,
            };
            admin.with_source(|source| source.watched = false);
            if is_connected.get() {
                (pause, is_told) = (FIRST_PAUSE, false);
            }
            let Some(why) = why else { continue };
            let why = format!("changes of {called} are not heard of: {why}");
            admin.with_source(|source| {
                // Why it cannot be read says more.
                let known = source.last_error.clone();
                source.failed(known.unwrap_or_else(|| why.clone()));
            });
            if !std::mem::replace(&mut is_told, true) {
                warn!("{why}");
            }
            let most_ms = pause.as_millis() as u64;
            sleep(Duration::from_millis(most_ms / 2 + random_u64() % most_ms)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
