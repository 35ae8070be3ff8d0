//! Supervises the threads while the node runs: detects threads that end, panic or stall. With a dead core the node
//! would silently refuse a part of its connections and lose a part of its cache, so the process exits with the reason
//! instead, to be restarted. Never waits for a thread without a bound.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::background::Stopped;
use crate::exchange::quota::Handed;
use crate::limits::STALL_MS;

/// How often a core signals progress.
pub const BEAT_MS: u64 = 500;

/// A thread of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Data(usize),
    Io,
    Background,
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Data(core) => write!(out, "data core {core}"),
            Who::Io => out.write_str("the I/O core"),
            Who::Background => out.write_str("the background core"),
        }
    }
}

/// An event that a thread reports to the main thread.
#[derive(Debug)]
pub enum Event {
    /// It serves, or the reason why it cannot.
    Ready(Result<(), String>),
    /// The background core has stopped the node.
    Stopped(Stopped),
    /// It was stopped and has ended.
    Ended(Who),
    Panicked(Who, String),
}

/// A counter that a core increments while it makes progress.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

/// In a [`Beat`]: its thread waits for somebody outside, which counts as progress.
const OUTSIDE: u64 = 1 << 63;

impl Beat {
    /// To be called only by the core that it belongs to.
    pub fn raise(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1) & !OUTSIDE, Ordering::Relaxed);
    }

    /// Runs something that may block for as long as somebody outside of the process likes, such as the reader of a
    /// pipe. To be called only by the core that the counter belongs to.
    pub fn wait_outside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.fetch_or(OUTSIDE, Ordering::Relaxed);
        let done = work();
        self.raise();
        done
    }

    /// Another number than at the last call, if there was progress.
    fn count(&self) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            count if count & OUTSIDE != 0 => self.0.fetch_add(1, Ordering::Relaxed),
            count => count,
        }
    }
}

/// Closed while the process may not accept yet: another one serves, until all threads of this one are ready.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    is_open: AtomicBool,
    /// What counted against limits in the process before.
    handed: OnceLock<Arc<[Handed]>>,
    /// Cores that count it.
    takers: AtomicUsize,
}

impl Gate {
    /// For each core to be taken before any of them accepts.
    pub fn hand(&self, handed: Arc<[Handed]>) {
        let _ = self.0.handed.set(handed);
    }

    pub fn handed(&self) -> Option<&Arc<[Handed]>> {
        self.0.handed.get()
    }

    /// A core has taken its part.
    pub fn taken(&self) {
        self.0.takers.fetch_add(1, Ordering::Release);
    }

    /// How many have.
    pub fn takers(&self) -> usize {
        self.0.takers.load(Ordering::Acquire)
    }

    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::Release);
    }

    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }
}

/// The interval of checks, and the number of checks after which something has taken too long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub every: Duration,
    /// Until every thread is ready.
    pub start: u32,
    /// Without progress.
    pub stall: u32,
    /// Until stopped threads have ended.
    pub end: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        let looks = |ms: u64| (ms / BEAT_MS) as u32;
        Pace { every: Duration::from_millis(BEAT_MS), start: looks(30_000), stall: looks(STALL_MS), end: looks(3_000) }
    }
}

/// Starts a thread that reports its end, whatever the cause.
pub fn start(who: Who, events: Sender<Event>, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let name = match who {
        Who::Data(core) => format!("ringway-data-{core}"),
        Who::Io => "ringway-io".to_owned(),
        Who::Background => "ringway-background".to_owned(),
    };
    let body = move || {
        // The receiver is gone once the process ends.
        let _ = events.send(match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => Event::Ended(who),
            Err(panic) => Event::Panicked(who, what(panic.as_ref()).to_owned()),
        });
    };
    thread::Builder::new().name(name).spawn(body).map(drop).map_err(|e| format!("a thread cannot be started: {e}"))
}

/// The message of a panic.
pub fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Supervises `threads` threads until the background core has stopped the node and they have ended, or `pace.end` has
/// passed. `beats` are the counters of threads that must make progress; `ready` is called when all threads serve, and
/// `alive` from then on, each time that every thread has made progress since the last time.
/// Errors: why the node did not start, or cannot continue.
pub fn supervise(
    events: &Receiver<Event>,
    threads: usize,
    beats: &[(Who, Beat)],
    pace: Pace,
    ready: impl FnOnce() -> Result<(), String>,
    mut alive: impl FnMut(),
) -> Result<Stopped, String> {
    let (mut ready, mut serving, mut ended) = (Some(ready), 0, 0);
    let (mut stopped, mut looks) = (None, 0);
    // The I/O core may be stuck without harm to requests: only the log depends on it. That alone does not end the
    // process; a service manager that watches it is no longer told that all is well.
    let fatal = beats.iter().map(|(who, _)| *who != Who::Io).collect();
    let mut watch = Watch::new(fatal, pace.stall);
    loop {
        match events.recv_timeout(pace.every) {
            Ok(Event::Ready(result)) => {
                result?;
                serving += 1;
                if serving == threads
                    && let Some(ready) = ready.take()
                {
                    ready()?;
                }
            }
            Ok(Event::Stopped(how)) => (stopped, looks) = (Some(how), 0),
            Ok(Event::Ended(who)) => {
                ended += 1;
                match stopped {
                    Some(how) if ended == threads => return Ok(how),
                    Some(_) => {}
                    // The background core reports `Stopped` before it ends; other threads may end before that.
                    None if who == Who::Background => return Err(format!("{who} ended")),
                    None => {}
                }
            }
            Ok(Event::Panicked(who, why)) => return Err(format!("{who} panicked: {why}")),
            Err(RecvTimeoutError::Disconnected) => return Err("every thread has ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                looks += 1;
                match stopped {
                    // Threads that are stuck now have nothing left to save.
                    Some(how) if looks >= pace.end => return Ok(how),
                    Some(_) => {}
                    None if ready.is_some() => {
                        if looks >= pace.start {
                            return Err(format!("{} of {threads} threads did not start in time", threads - serving));
                        }
                    }
                    None => {
                        let counts = beats.iter().map(|(_, beat)| beat.count());
                        if let Some(place) = watch.look(counts) {
                            let seconds = (pace.every * pace.stall).as_secs();
                            return Err(format!("{} has made no progress for {seconds} s", beats[place].0));
                        }
                        if watch.all_moved() {
                            alive();
                        }
                    }
                }
            }
        }
    }
}

/// Detects counters that stop changing. Time is counted in checks, not by a clock: while the whole process was
/// suspended, there were none.
struct Watch {
    stall: u32,
    /// Whether the node cannot go on without the counter's thread.
    fatal: Vec<bool>,
    /// The last value of each counter, and how many checks ago it changed.
    seen: Vec<(u64, u32)>,
    /// Whether each counter has changed since all of them had.
    moved: Vec<bool>,
}

impl Watch {
    fn new(fatal: Vec<bool>, stall: u32) -> Watch {
        let count = fatal.len();
        Watch { stall, fatal, seen: vec![(0, 0); count], moved: vec![false; count] }
    }

    /// Whether every counter has changed since this was last true.
    fn all_moved(&mut self) -> bool {
        let is_all = self.moved.iter().all(|moved| *moved);
        if is_all {
            self.moved.fill(false);
        }
        is_all
    }

    /// The index of a counter that has not changed for too long.
    fn look(&mut self, counts: impl Iterator<Item = u64>) -> Option<usize> {
        let mut stuck = None;
        for (place, ((seen, looks), count)) in self.seen.iter_mut().zip(counts).enumerate() {
            self.moved[place] |= *seen != count;
            (*seen, *looks) = if *seen == count { (count, looks.saturating_add(1)) } else { (count, 0) };
            if *looks >= self.stall && self.fatal[place] {
                stuck = stuck.or(Some(place));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests;
