//! The I/O core: everything that touches a file: the access log, and, on glommio's ring, snapshots of the cache. It may block in a
//! write for as long as the disk or the reader of standard output does; no other thread waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use tracing::{info, warn};

use super::supervise::{BEAT_MS, Beat};
use crate::config::snapshot::AccessLog;
use crate::disk::snapshots::{self, Snapshots};
use crate::exchange::message::Message;
use crate::net::EventFdReader;
use crate::net::channel::{Inbox, Outbox};

/// Memory that glommio registers for its buffers, three times; its default of 30 MiB needs a raised locked-memory
/// limit.
const REGISTERED_BYTES: usize = 2 << 20;
const RING_ENTRIES: usize = 64;
/// The log shows who requested what: writable by its owner, readable by its group, inaccessible to others.
const LOG_MODE: u32 = 0o640;

/// Runs the I/O core on this thread until every data core has stopped. `ready` is called once it can write.
pub fn run(
    cpu: Option<usize>,
    log: AccessLog,
    snapshots: Option<snapshots::Parts>,
    outbox: Outbox<Message>,
    inbox: Inbox<Message>,
    beat: Beat,
    ready: impl FnOnce(Result<(), String>) + 'static,
) {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement).io_memory(REGISTERED_BYTES).ring_depth(RING_ENTRIES).make();
    match executor {
        Ok(executor) => executor.run(serve(log, snapshots, outbox, inbox, beat, ready)),
        Err(error) => ready(Err(format!(
            "the I/O core's ring cannot be set up: {error}; it needs io_uring and 512 KiB of locked memory (ulimit -l)"
        ))),
    }
}

async fn serve(
    log: AccessLog,
    snapshots: Option<snapshots::Parts>,
    outbox: Outbox<Message>,
    mut inbox: Inbox<Message>,
    beat: Beat,
    ready: impl FnOnce(Result<(), String>),
) {
    let showing = beat.clone();
    glommio::spawn_local(async move {
        loop {
            showing.raise();
            glommio::timer::sleep(Duration::from_millis(BEAT_MS)).await;
        }
    })
    .detach();
    let mut sink = match beat.wait_outside(|| Sink::open(&log)) {
        Ok(sink) => sink,
        Err(error) => return ready(Err(error)),
    };
    ready(Ok(()));
    let outbox = Rc::new(outbox);
    let snapshots = snapshots.map(|parts| Snapshots::new(parts, outbox.clone()));
    if let Some(snapshots) = &snapshots {
        glommio::spawn_local(snapshots.clone().run()).detach();
    }
    let mut reader = EventFdReader::default();
    let mut stopping = false;
    while !stopping {
        inbox.wait(&mut reader).await;
        // Lines sent before the stop are in another message class: write all of them first.
        while let Some(message) = inbox.take() {
            match message {
                Message::Log { from, lines, dropped } => {
                    if dropped > 0 {
                        warn!(
                            dropped,
                            "access log: {dropped} lines were dropped, as they could not be written in time"
                        );
                    }
                    let lines = sink.write(lines, &beat);
                    let lost = count(&lines);
                    let _ = outbox.post(usize::from(from.0), Message::LogBuffer { lines, lost });
                }
                Message::Reopen => beat.wait_outside(|| sink.reopen()),
                Message::Stop => stopping = true,
                message => {
                    if let Some(snapshots) = &snapshots {
                        // A disk that is slow to take what was purged is no failure of this thread.
                        beat.wait_outside(|| snapshots.deliver(message));
                    }
                }
            }
        }
        outbox.flush();
    }
}

/// Where the lines go. They are written by the system call for it, from where they are: a ring gives an appended file to a worker
/// thread of the kernel, and wants a copy of its own until that is done. This thread may block; no other thread waits for it, and a
/// disk that takes nothing, or a reader that does not read, is no failure of it.
enum Sink {
    Nothing,
    Stdout,
    File(LogFile),
}

struct LogFile {
    file: File,
    path: PathBuf,
    /// Whether the last write failed and was reported.
    complained: bool,
    /// It ends within a line, which could not be written whole.
    is_torn: bool,
}

impl Sink {
    fn open(log: &AccessLog) -> Result<Sink, String> {
        match log {
            AccessLog::Off => Ok(Sink::Nothing),
            AccessLog::Stdout => Ok(Sink::Stdout),
            AccessLog::File(path) => {
                let (file, path) = (open(path)?, path.clone());
                Ok(Sink::File(LogFile { file, path, complained: false, is_torn: false }))
            }
        }
    }

    /// Reopens the file after it was moved. If that fails, the log continues in the open file.
    fn reopen(&mut self) {
        let Sink::File(log) = self else { return };
        match open(&log.path) {
            Ok(file) => {
                (log.file, log.is_torn) = (file, false);
                info!("the access log {} was opened again", log.path.display());
            }
            Err(error) => warn!("{error}; the log continues in the open file"),
        }
    }

    /// Writes whole lines and returns the buffer with those that could not be written. They are lost; the failure is reported once.
    fn write(&mut self, mut lines: Vec<u8>, beat: &Beat) -> Vec<u8> {
        match self {
            Sink::Nothing => lines.clear(),
            Sink::Stdout => beat.wait_outside(|| {
                let mut out = io::stdout().lock();
                if out.write_all(&lines).and_then(|()| out.flush()).is_ok() {
                    lines.clear();
                }
            }),
            Sink::File(log) => {
                let written = beat.wait_outside(|| log.write(&lines));
                lines.drain(..written);
            }
        }
        lines
    }
}

impl LogFile {
    /// How many bytes of `lines` were written. What is left begins within a line if the file ends within it.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.is_torn {
            // What comes next is not to be lost with the torn line.
            match self.file.write(b"\n") {
                Ok(1) => self.is_torn = false,
                _ => return 0,
            }
        }
        let mut at = 0;
        while at < lines.len() {
            // The file is opened with O_APPEND, so it is written at its end even after a truncation.
            match self.file.write(&lines[at..]) {
                Ok(written) if written > 0 => {
                    self.complained = false;
                    at += written;
                    self.is_torn = lines[at - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                failed => {
                    if !std::mem::replace(&mut self.complained, true) {
                        let why = failed.err().map_or("nothing was written".to_owned(), |error| error.to_string());
                        warn!("access log {}: {why}; lines are lost", self.path.display());
                    }
                    break;
                }
            }
        }
        at
    }
}

/// Lines that end in `bytes`.
fn count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(LOG_MODE);
    options.open(path).map_err(|error| format!("the access log {} cannot be opened: {error}", path.display()))
}
