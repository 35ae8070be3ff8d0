//! Messages about the process (start, stop, signals, health) on standard error: tracing's events, formatted as text or JSON,
//! and written by a thread of their own. Whoever tells something never waits: what standard error does not take in time is
//! dropped and counted. Never for what happens to one request: that is the access log's.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::snapshot::{Level, LogFormat};
use crate::limits::{TOLD_BYTES, TOLD_LINES};

enum Item {
    Line(Vec<u8>),
    /// Answered when everything before is written.
    Flush(SyncSender<()>),
}

/// Where messages wait to be written.
#[derive(Clone)]
pub struct Queue {
    items: SyncSender<Item>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Lines dropped since that was last said.
    dropped: AtomicU64,
}

/// Sends the events of this program from `level` on, and its panics, to standard error. Once a process: later calls keep the
/// first one's settings.
pub fn start(level: Level, format: LogFormat) -> Queue {
    let queue = Queue::start(io::stderr());
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
    };
    // Of libraries nothing: theirs is about single connections.
    let own = Targets::new().with_target("ringway", level);
    let layer = fmt::layer().with_writer(queue.clone()).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(own);
    let _ = match format {
        // The sentence alone: it says what the fields say.
        LogFormat::Text => {
            let sentence = format::debug_fn(|out, field, value| match field.name() {
                "message" => write!(out, "{value:?}"),
                _ => Ok(()),
            });
            tracing::subscriber::set_global_default(registry.with(layer.fmt_fields(sentence)))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(registry.with(layer.json().flatten_event(true))),
    };
    panic::set_hook(Box::new(|panic| {
        let current = thread::current();
        let name = current.name().unwrap_or("without a name");
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!("thread {name}: {panic}\n{backtrace}"),
            _ => tracing::error!("thread {name}: {panic}"),
        }
    }));
    queue
}

impl Queue {
    fn start(out: impl Write + Send + 'static) -> Queue {
        let (items, received) = sync_channel(TOLD_LINES);
        let queue = Queue { items, state: Arc::default() };
        let state = queue.state.clone();
        // Without the thread nothing is told; the node runs all the same.
        let _ = thread::Builder::new().name("ringway-told".to_owned()).spawn(move || write_on(&received, &state, out));
        queue
    }

    fn push(&self, line: &[u8]) {
        let length = line.len();
        let waiting = self.state.bytes.fetch_add(length, Ordering::Relaxed);
        if waiting + length > TOLD_BYTES || self.items.try_send(Item::Line(line.to_vec())).is_err() {
            self.state.bytes.fetch_sub(length, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written that was told before, at most for so long.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }
}

fn write_on(items: &Receiver<Item>, state: &State, mut out: impl Write) {
    while let Ok(item) = items.recv() {
        match item {
            Item::Line(line) => {
                // There is nowhere left to say that standard error is gone.
                let _ = out.write_all(&line);
                state.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                let dropped = state.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!("{dropped} messages were dropped: standard error did not take them in time");
                }
            }
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
    }
}

/// One event is one write.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        self.clone()
    }
}

#[cfg(test)]
mod tests;
