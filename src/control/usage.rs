//! What tenants have used, by day, tenant, key and model. The data cores count; the background core, which owns this, reads their
//! counters in place before it writes or tells anything, and when a day ends. It keeps what was added in memory and as files of the
//! state directory: one a day, and one for what counts against limits. A lock on the directory tells two processes apart that run at a time, as during an upgrade.

pub mod counted; // what counts against limits
pub mod days; // rows, their lines, and days
pub mod file; // files that are whole or do not count

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shards::quota::{Counted, Now};
use tokio::sync::Mutex;
use tracing::{info, warn};

use self::counted::Counts;
use self::days::{Rows, day_of, read_day, spell_day};
use crate::limits::{USAGE_DAYS, USAGE_DAYS_IN_MEMORY};
use crate::observe::counters::Counters;
use crate::observe::scrape::Labels;
use crate::observe::series::Amounts;

/// How often the files are brought up to date: what a process that is killed loses.
pub const WRITE_EVERY: Duration = Duration::from_secs(10);
const DIRECTORY: &str = "usage";
const TITLE: &str = "ringway usage 1";

/// Owned by the background core.
pub struct Usage {
    /// Of the files; without it, usage is kept in memory.
    directory: Option<PathBuf>,
    /// By core.
    counters: Vec<Arc<Counters>>,
    /// By core, what its series had counted when they were last read.
    seen: RefCell<Vec<Vec<Amounts>>>,
    /// The day that is counted for what comes, once there is one.
    today: Cell<Option<u64>>,
    days: RefCell<BTreeMap<u64, Day>>,
    counts: RefCell<Counts>,
    counts_changed: Cell<bool>,
    /// Held while this process writes the files, and by whoever reads or writes them.
    lock: Mutex<Option<File>>,
    /// Whether it was said that the files cannot be written.
    said: Cell<bool>,
}

#[derive(Default)]
struct Day {
    rows: Rows,
    /// Whether what the file had is among the rows.
    has_file: bool,
    changed: bool,
}

impl Usage {
    /// `state` is the state directory, `counts` what it has of limits.
    pub fn new(state: Option<PathBuf>, counters: Vec<Arc<Counters>>, counts: Vec<Counted>) -> Usage {
        Usage {
            directory: state.map(|state| state.join(DIRECTORY)),
            seen: RefCell::new(vec![Vec::new(); counters.len()]),
            today: Cell::new(None),
            counters,
            days: RefCell::default(),
            counts: RefCell::new(Counts::of(counts)),
            counts_changed: Cell::new(false),
            lock: Mutex::new(None),
            said: Cell::new(false),
        }
    }

    /// Adds what the cores have counted since the last time to the day of the last look at the clock. Of a hundred thousand keys
    /// each row is cold memory, so this is not done more often than somebody asks, or a day ends.
    pub fn collect(&self, labels: &Labels, unix_ms: u64) {
        let now = day_of(unix_ms);
        let today = self.today.replace(Some(now)).unwrap_or(now);
        let mut days = self.days.borrow_mut();
        for (core, seen) in self.counters.iter().zip(self.seen.borrow_mut().iter_mut()) {
            let mut at = 0;
            core.usage.read(|key, amounts| {
                if seen.len() == at {
                    seen.push(Amounts::default());
                }
                let more = amounts.since(std::mem::replace(&mut seen[at], amounts));
                at += 1;
                if more == Amounts::default() {
                    return;
                }
                let key = days::RowKey {
                    tenant: labels.tenant(key.tenant).into(),
                    credential: key.credential,
                    model: labels.model(key.model).into(),
                };
                let day = days.entry(today).or_default();
                day.rows.entry(key).or_default().add(more);
                day.changed = true;
            });
        }
        while self.directory.is_none() && days.len() > USAGE_DAYS_IN_MEMORY {
            days.pop_first();
        }
    }

    /// Looks at the clock, about once a second.
    pub fn tick(&self, labels: &Labels, unix_ms: u64) {
        if self.today.get() != Some(day_of(unix_ms)) {
            self.collect(labels, unix_ms);
        }
    }

    /// A limit's home core tells what counts.
    pub fn counted(&self, all: impl IntoIterator<Item = Counted>) {
        let mut counts = self.counts.borrow_mut();
        all.into_iter().for_each(|counted| counts.note(counted));
        self.counts_changed.set(true);
    }

    /// Brings the files up to date. What fails is said once, and tried again with the next call.
    pub async fn write(&self, now: Now) {
        let Some(directory) = &self.directory else { return };
        let mut lock = self.lock.lock().await;
        let mut failed = None;
        if lock.is_none() {
            match blocking({
                let directory = directory.clone();
                move || locked(&directory)
            })
            .await
            {
                Ok(Some(file)) => *lock = Some(file),
                // Another process has it still; what is counted here stays in memory until that one has ended.
                Ok(None) => return,
                Err(error) => failed = Some(error),
            }
        }
        if lock.is_some() {
            failed = self.write_all(directory, now).await.err();
        }
        match failed {
            Some(error) if !self.said.replace(true) => {
                warn!("usage: {} cannot be written: {error}; it is kept in memory meanwhile", directory.display());
            }
            None if self.said.replace(false) => info!("usage: {} is written again", directory.display()),
            _ => {}
        }
    }

    async fn write_all(&self, directory: &Path, now: Now) -> io::Result<()> {
        let changed: Vec<u64> =
            self.days.borrow().iter().filter(|(_, day)| day.changed).map(|(number, _)| *number).collect();
        for number in changed {
            let path = directory.join(spell_day(number));
            if !self.days.borrow().get(&number).is_some_and(|day| day.has_file) {
                let from = path.clone();
                let (rows, why) = blocking(move || read_day_of(&from)).await;
                why.into_iter().for_each(|why| warn!("usage: {why}"));
                let mut days = self.days.borrow_mut();
                let day = days.entry(number).or_default();
                rows.into_iter().for_each(|(key, amounts)| day.rows.entry(key).or_default().add(amounts));
                day.has_file = true;
            }
            let lines = {
                let mut days = self.days.borrow_mut();
                let day = days.entry(number).or_default();
                day.changed = false;
                days::encode(&day.rows)
            };
            if let Err(error) = blocking(move || file::write(&path, TITLE, &lines)).await {
                self.days.borrow_mut().entry(number).or_default().changed = true;
                return Err(error);
            }
        }
        if self.counts_changed.replace(false) {
            let lines = {
                let mut counts = self.counts.borrow_mut();
                counts.forget(now);
                counts.encode()
            };
            let place = directory.to_owned();
            if let Err(error) = blocking(move || counted::write(&place, &lines)).await {
                self.counts_changed.set(true);
                return Err(error);
            }
        }
        // Days that are over are in their files, all the same after a clock that was set back.
        let today = day_of(now.unix_ms);
        let before = self.days.borrow().len();
        self.days.borrow_mut().retain(|number, day| *number == today || day.changed);
        if self.days.borrow().len() < before {
            let place = directory.to_owned();
            blocking(move || remove_old(&place, today)).await;
        }
        Ok(())
    }

    /// The rows of the days from `from` to `to`, at most `most` of them; `None` if there are more.
    pub async fn rows(&self, from: u64, to: u64, most: usize) -> Option<BTreeMap<u64, Rows>> {
        // Not while a file is read into the memory.
        let _lock = self.lock.lock().await;
        let mut found: BTreeMap<u64, Rows> = BTreeMap::new();
        let mut without_file = Vec::new();
        for number in from..=to {
            let days = self.days.borrow();
            let day = days.get(&number);
            if let Some(day) = day {
                found.insert(number, day.rows.clone());
            }
            if !day.is_some_and(|day| day.has_file) {
                without_file.push(number);
            }
        }
        if let Some(directory) = self.directory.clone() {
            let read = blocking(move || {
                let mut all = Vec::new();
                let mut count = 0;
                for number in without_file {
                    let path = directory.join(spell_day(number));
                    let lines = file::read(&path, TITLE).ok().flatten();
                    let rows = lines.and_then(|lines| days::decode(&lines).ok()).unwrap_or_default();
                    count += rows.len();
                    all.push((number, rows));
                    if count > most {
                        break;
                    }
                }
                all
            });
            for (number, rows) in read.await {
                let own = found.entry(number).or_default();
                rows.into_iter().for_each(|(key, amounts)| own.entry(key).or_default().add(amounts));
            }
        }
        found.retain(|_, rows| !rows.is_empty());
        (found.values().map(Rows::len).sum::<usize>() <= most).then_some(found)
    }
}

/// What the state directory has of limits, and what is to be said of it. Blocking.
pub fn kept_counts(state: Option<&Path>) -> (Vec<Counted>, Option<String>) {
    state.map_or_else(Default::default, |state| counted::read(&state.join(DIRECTORY)))
}

fn read_day_of(path: &Path) -> (Rows, Option<String>) {
    let (lines, why) = file::read_or_put_aside(path, TITLE);
    match days::decode(&lines.unwrap_or_default()) {
        Ok(rows) => (rows, why),
        Err(wrong) => (Rows::new(), Some(format!("{}: {wrong}; counting goes on without it", path.display()))),
    }
}

/// Makes the directory, and locks it; `None` if another process has done so.
fn locked(directory: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(directory)?;
    let file = File::create(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_old(directory: &Path, today: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let day = entry.file_name().to_str().and_then(read_day);
        if day.is_some_and(|day| day.saturating_add(USAGE_DAYS) < today) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// On a thread that may block. A panic there is one here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests;
