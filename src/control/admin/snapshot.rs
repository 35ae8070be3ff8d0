//! `POST /v1/snapshot`, and who else wants the cache to be written down; whether purges are. The I/O core does it; here is who
//! waits for it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::Admin;
use super::routes::{Answer, JSON, pretty, refuse, reply};
use crate::observe::snapshots::{RestoreResult, RestoreState};

/// How long somebody waits for a snapshot, and for a purge to be written down.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(110);
const PURGE_LIMIT: Duration = Duration::from_secs(5);

/// What the I/O core has done of what it was asked for, by number: the last one that is over, and how it ended.
struct Done(watch::Sender<(u64, Result<(), String>)>);

impl Default for Done {
    fn default() -> Done {
        Done(watch::Sender::new((0, Ok(()))))
    }
}

impl Done {
    fn tell(&self, number: u64, result: Result<(), String>) {
        drop(self.0.send_replace((number, result)));
    }

    /// Waits until everything up to `number` is over.
    async fn wait(&self, number: u64, limit: Duration) -> Result<(), String> {
        let mut done = self.0.subscribe();
        match timeout(limit, done.wait_for(|(over, _)| *over >= number)).await {
            Ok(Ok(over)) => over.1.clone(),
            _ => Err(format!("the disk does not answer for {} s", limit.as_secs())),
        }
    }
}

#[derive(Default)]
pub struct State {
    /// The number of the last snapshot that was asked for.
    asked: Cell<u64>,
    wanted: Notify,
    written: Done,
    purges: Done,
}

impl Admin {
    /// Waits until somebody wants a snapshot.
    pub async fn snapshot_wanted(&self) {
        self.snapshots.wanted.notified().await;
    }

    /// The number for the next snapshot.
    pub fn next_snapshot(&self) -> u64 {
        self.snapshots.asked.set(self.snapshots.asked.get() + 1);
        self.snapshots.asked.get()
    }

    /// The I/O core has written it, or not.
    pub fn snapshot_ended(&self, number: u64, result: Result<(), String>) {
        self.snapshots.written.tell(number, result);
    }

    /// Has a snapshot written. Errors: why there is none.
    pub async fn take_snapshot(&self) -> Result<(), String> {
        // One that runs already may lack what was stored meanwhile: this is the number after it.
        let number = self.snapshots.asked.get() + 1;
        self.snapshots.wanted.notify_one();
        self.snapshots.written.wait(number, SNAPSHOT_LIMIT).await
    }

    /// The I/O core has written down the purges up to this number, or not.
    pub fn purges_saved(&self, number: u64, result: Result<(), String>) {
        self.snapshots.purges.tell(number, result);
    }

    /// Waits until purge `number` outlives the process. Errors: why it does not.
    pub(super) async fn purge_saved(&self, number: u64) -> Result<(), String> {
        match self.parts.keeps {
            true => self.snapshots.purges.wait(number, PURGE_LIMIT).await,
            false => Ok(()),
        }
    }

    /// Answers `POST /v1/snapshot`.
    pub(super) async fn snapshot(&self) -> Response<Answer> {
        if !self.parts.keeps {
            let message = "This node keeps no snapshots: set cache.snapshot and server.state_dir, and restart it.";
            return refuse(StatusCode::CONFLICT, "no_snapshots", message);
        }
        match self.take_snapshot().await {
            Ok(()) => reply(StatusCode::OK, JSON, pretty(&json!(self.snapshot_status()))),
            Err(why) => {
                refuse(StatusCode::SERVICE_UNAVAILABLE, "no_snapshot", &format!("No snapshot was written: {why}."))
            }
        }
    }

    pub(super) fn snapshot_status(&self) -> Status {
        let observed = &self.parts.snapshots;
        let told = observed.told();
        let results = RestoreResult::ALL.map(|result| (result.label().to_owned(), observed.result(result).get()));
        Status {
            enabled: self.parts.keeps,
            written: observed.written.get(),
            failed: observed.failed.get(),
            fault: told.fault,
            written_unix_ms: Some(observed.unix_ms.get()).filter(|unix_ms| *unix_ms > 0),
            entries: observed.entries.get(),
            bytes: observed.bytes.get(),
            milliseconds: observed.took_ms.get(),
            restore: told.restore,
            restore_fault: told.restore_fault,
            restored: results.into_iter().filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// As the status shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub enabled: bool,
    /// Since the start, as the next one.
    pub written: u64,
    pub failed: u64,
    /// Why the last one was not written.
    pub fault: Option<String>,
    /// Of the last one that was written, as the next three.
    pub written_unix_ms: Option<u64>,
    pub entries: u64,
    pub bytes: u64,
    pub milliseconds: u64,
    /// How far the cache of the process before has come back.
    pub restore: RestoreState,
    /// Why not all of it did.
    pub restore_fault: Option<String>,
    /// What became of its answers.
    pub restored: BTreeMap<String, u64>,
}
