//! Reloads of the configuration, as operators ask for them and see them. The background core reads and distributes; here is
//! who asked, how the last one ended, and how many there were.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::{Admin, InForce};
use crate::net::unix_ms;
use crate::observe::scrape::{Reload, ReloadResult, Reloads};

/// Who or what wants the configuration to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Signal,
    Admin,
    /// One of its files changed.
    File,
    /// The store told of a change, or can be watched again.
    Store,
    /// The time set by `config.refresh` has passed.
    Refresh,
}

impl Trigger {
    pub fn label(self) -> &'static str {
        match self {
            Trigger::Signal => "SIGHUP",
            Trigger::Admin => "POST /v1/reload",
            Trigger::File => "a file changed",
            Trigger::Store => "the store changed",
            Trigger::Refresh => "refresh",
        }
    }

    /// Whether somebody waits to hear of it, whatever comes of it.
    pub fn is_asked(self) -> bool {
        matches!(self, Trigger::Signal | Trigger::Admin)
    }
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(rename = "result")]
    pub ended: ReloadResult,
    /// The one in force now.
    pub generation: u64,
    pub changes: Vec<String>,
    /// Keys whose new values take a restart, those of earlier reloads included.
    pub needs_restart: Vec<String>,
    pub errors: Vec<String>,
}

/// The last reload that was more than a look at what is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    unix_ms: u64,
    trigger: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The state of reloads.
#[derive(Default)]
pub(super) struct State {
    asked: Notify,
    /// By whom, since the last one began.
    triggers: RefCell<Vec<Trigger>>,
    waiting: RefCell<Vec<oneshot::Sender<Outcome>>>,
    last: RefCell<Option<Last>>,
    refused_last: Cell<bool>,
    counts: Cell<Reloads>,
}

/// A reload that was asked for; everybody who asked before it began gets its outcome.
pub struct Asked {
    pub trigger: Trigger,
    waiting: Vec<oneshot::Sender<Outcome>>,
}

impl Admin {
    /// Asks for a reload.
    pub fn ask_reload(&self, trigger: Trigger) {
        let mut triggers = self.reload.triggers.borrow_mut();
        if !triggers.contains(&trigger) {
            triggers.push(trigger);
        }
        self.reload.asked.notify_one();
    }

    /// Asks for a reload and waits for it. `None`: the node drains.
    pub(super) async fn reload(&self) -> Option<Outcome> {
        if self.draining.get() {
            return None;
        }
        let (sender, outcome) = oneshot::channel();
        self.reload.waiting.borrow_mut().push(sender);
        self.ask_reload(Trigger::Admin);
        outcome.await.ok()
    }

    /// Waits until a reload is asked for.
    pub async fn reload_asked(&self) -> Asked {
        loop {
            let triggers = self.reload.triggers.take();
            let waiting = self.reload.waiting.take();
            // Who waits for an answer counts first.
            let first = triggers.iter().copied().find(|trigger| trigger.is_asked()).or(triggers.first().copied());
            if let Some(trigger) = first {
                return Asked { trigger, waiting };
            }
            self.reload.asked.notified().await;
        }
    }

    /// Tells those who asked, and remembers it. `in_force` is what all cores serve by now, if that is news.
    pub fn reloaded(&self, asked: Asked, outcome: Outcome, in_force: Option<InForce>) {
        if let Some(in_force) = in_force {
            self.put_in_force(in_force);
        }
        let state = &self.reload;
        let mut counts = state.counts.get();
        counts[outcome.ended as usize] += 1;
        state.counts.set(counts);
        // One that is as before says nothing new, except that an error is gone.
        if outcome.ended != ReloadResult::Unchanged || state.refused_last.get() || asked.trigger.is_asked() {
            let (trigger, outcome) = (asked.trigger.label().to_owned(), outcome.clone());
            state.last.replace(Some(Last { unix_ms: unix_ms(), trigger, outcome }));
        }
        state.refused_last.set(matches!(outcome.ended, ReloadResult::Refused | ReloadResult::Unavailable));
        for waiting in asked.waiting {
            let _ = waiting.send(outcome.clone());
        }
    }

    /// Nobody is answered any more: the node drains.
    pub(super) fn end_reloads(&self) {
        self.reload.waiting.take();
    }

    pub(super) fn last_reload(&self) -> Option<Last> {
        self.reload.last.borrow().clone()
    }

    pub(super) fn last_reload_was(&self) -> Reload {
        if self.reload.refused_last.get() { Reload::Refused } else { Reload::Good }
    }

    pub(super) fn reloads(&self) -> Reloads {
        self.reload.counts.get()
    }
}
