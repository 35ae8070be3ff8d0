//! The main thread's work while the node runs: it waits for threads that end, panic or make no progress. A node with a dead
//! core would refuse a part of its connections and lose a part of its cache, and nobody would know: the process ends instead,
//! with the reason, and is started again. Nothing here waits for a thread without a bound.

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

/// How often a core shows that it makes progress.
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

/// What a thread says to the main thread.
#[derive(Debug)]
pub enum Event {
    /// It serves, or why it cannot.
    Ready(Result<(), String>),
    /// The background core has brought the node to its end.
    Stopped(Stopped),
    /// It was told to stop, and has.
    Ended(Who),
    Panicked(Who, String),
}

/// A count that a core raises while it makes progress.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// By the one core that it belongs to.
    pub fn raise(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often to look, and after how many looks something has taken too long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub every: Duration,
    /// For every thread to be ready.
    pub start: u32,
    /// Without progress.
    pub stall: u32,
    /// For threads to end that were told to.
    pub end: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        let looks = |ms: u64| (ms / BEAT_MS) as u32;
        Pace { every: Duration::from_millis(BEAT_MS), start: looks(30_000), stall: looks(STALL_MS), end: looks(3_000) }
    }
}

/// Starts a thread that tells its end, whatever that is.
pub fn start(who: Who, events: Sender<Event>, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let name = match who {
        Who::Data(core) => format!("ringway-data-{core}"),
        Who::Io => "ringway-io".to_owned(),
        Who::Background => "ringway-background".to_owned(),
    };
    let body = move || {
        // Nobody listens any more once the process ends.
        let _ = events.send(match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => Event::Ended(who),
            Err(panic) => Event::Panicked(who, what(panic.as_ref()).to_owned()),
        });
    };
    thread::Builder::new().name(name).spawn(body).map(drop).map_err(|e| format!("a thread cannot be started: {e}"))
}

/// What a panic says.
pub fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Watches `threads` threads until the background core has stopped the node and they have ended, or at most the pace's `end`
/// has passed. `beats` are of those whose progress matters; `ready` is called when all serve.
///
/// Errors: why the node did not start, or cannot go on.
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
                    // The background core tells its end first; others may end while it still looks after that.
                    None if who == Who::Background => return Err(format!("{who} ended")),
                    None => {}
                }
            }
            Ok(Event::Panicked(who, why)) => return Err(format!("{who} panicked: {why}")),
            Err(RecvTimeoutError::Disconnected) => return Err("every thread has ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                looks += 1;
                match stopped {
                    // Of what is stuck now, nothing is left to be saved.
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

/// Finds a count that stands still. Time is counted in looks, not on a clock: while the whole process was stopped, nobody
/// looked.
struct Watch {
    stall: u32,
    /// The last count of each, and how many looks ago it was another.
    seen: Vec<(u64, u32)>,
}

impl Watch {
    fn new(count: usize, stall: u32) -> Watch {
        Watch { stall, seen: vec![(0, 0); count] }
    }

    /// The place of one that has stood still for too long.
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
