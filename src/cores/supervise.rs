//! Supervises the threads while the node runs: detects threads that end, panic or stall. With a dead core the node
//! would silently refuse a part of its connections and lose a part of its cache, so the process exits with the reason
//! instead, to be restarted. Never waits for a thread without a bound.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::background::Stopped;
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

impl Beat {
    /// To be called only by the core that it belongs to.
    pub fn raise(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
/// passed. `beats` are the counters of threads that must make progress; `ready` is called when all threads serve.
/// Errors: why the node did not start, or cannot continue.
pub fn supervise(
    events: &Receiver<Event>,
    threads: usize,
    beats: &[(Who, Beat)],
    pace: Pace,
    ready: impl FnOnce(),
) -> Result<Stopped, String> {
    let (mut ready, mut serving, mut ended) = (Some(ready), 0, 0);
    let (mut stopped, mut looks) = (None, 0);
    let mut watch = Watch::new(beats.len(), pace.stall);
    loop {
        match events.recv_timeout(pace.every) {
            Ok(Event::Ready(result)) => {
                result?;
                serving += 1;
                if serving == threads
                    && let Some(ready) = ready.take()
                {
                    ready();
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
    /// The last value of each counter, and how many checks ago it changed.
    seen: Vec<(u64, u32)>,
}

impl Watch {
    fn new(count: usize, stall: u32) -> Watch {
        Watch { stall, seen: vec![(0, 0); count] }
    }

    /// The index of a counter that has not changed for too long.
    fn look(&mut self, counts: impl Iterator<Item = u64>) -> Option<usize> {
        let mut stuck = None;
        for (place, ((seen, looks), count)) in self.seen.iter_mut().zip(counts).enumerate() {
            (*seen, *looks) = if *seen == count { (count, *looks + 1) } else { (count, 0) };
            if *looks >= self.stall {
                stuck = stuck.or(Some(place));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests;
