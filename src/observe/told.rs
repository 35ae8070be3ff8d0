//! Log messages about the process (start, stop, signals, health) on standard error: tracing events, formatted as text
//! or JSON and written by a dedicated thread. Logging never blocks: what standard error does not accept in time is
//! dropped and counted. Not for single requests: those are in the access log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::{self, MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::snapshot::{Level, LogFormat};
use crate::limits::{TOLD_BYTES, TOLD_LINES};

enum Item {
    Line(Vec<u8>),
    /// Acknowledged once everything before it is written.
    Flush(SyncSender<()>),
}

/// The queue of messages to be written.
#[derive(Clone)]
pub struct Queue {
    items: SyncSender<Item>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes queued.
    bytes: AtomicUsize,
    /// Lines dropped since the last report.
    dropped: AtomicU64,
}

/// Sends the events of this program from `level` up, and its panics, to standard error. Once per process: later calls
/// keep the settings of the first.
pub fn start(level: Level, format: LogFormat) -> Queue {
    let queue = Queue::start(io::stderr());
    set_level(level);
    // No events of libraries: theirs are about single connections. The level is looked at anew for each event.
    let own = dynamic_filter_fn(|metadata, _| {
        metadata.target().split("::").next() == Some("ringway") && *metadata.level() <= filter(current())
    });
    let own = own.with_max_level_hint(LevelFilter::INFO);
    let layer = fmt::layer().with_writer(queue.clone()).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(own);
    let _ = match format {
        // Only the message: it contains the fields' values.
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

/// The level in force, as in [`Level`]'s order: one for the process, as the subscriber is.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// From now on, messages from `level` up are printed.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// The level in force.
pub fn current() -> Level {
    let number = LEVEL.load(Ordering::Relaxed);
    [Level::Error, Level::Warn].into_iter().find(|level| *level as u8 == number).unwrap_or(Level::Info)
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
    }
}

impl Queue {
    fn start(out: impl Write + Send + 'static) -> Queue {
        let (items, received) = sync_channel(TOLD_LINES);
        let queue = Queue { items, state: Arc::default() };
        let state = queue.state.clone();
        // Without the thread no messages are printed; the node runs regardless.
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

    /// Waits until everything logged before is written, for `limit` at most.
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
                // If standard error is gone, there is nowhere to report it.
                let _ = out.write_all(&line);
                state.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                let dropped = state.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!("{dropped} messages were dropped: standard error did not accept them in time");
                }
            }
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
    }
}

/// One write per event.
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
