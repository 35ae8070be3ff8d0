//! The I/O core: everything that touches a file, on glommio's ring. Today that is the access log.

use std::io::Write;
use std::path::{Path, PathBuf};

use glommio::io::{BufferedFile, OpenOptions};
use glommio::{LocalExecutorBuilder, Placement};

use crate::config::snapshot::AccessLog;
use crate::exchange::letters::Letter;
use crate::net::Ear;
use crate::net::mail::{Inbox, Outbox};

/// Memory glommio registers for its buffers, three times over; its default of 30 MiB needs a raised locked-memory limit.
const REGISTERED_BYTES: usize = 2 << 20;
const RING_ENTRIES: usize = 64;

/// Runs the I/O core on this thread until every data core has stopped. `ready` is told once it can write.
pub fn run(
    cpu: Option<usize>,
    log: AccessLog,
    outbox: Outbox<Letter>,
    inbox: Inbox<Letter>,
    ready: impl FnOnce(Result<(), String>) + 'static,
) {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement).io_memory(REGISTERED_BYTES).ring_depth(RING_ENTRIES).make();
    match executor {
        Ok(executor) => executor.run(serve(log, outbox, inbox, ready)),
        Err(error) => ready(Err(format!(
            "the I/O core's ring cannot be set up: {error}; it needs io_uring and 512 KiB of locked memory (ulimit -l)"
        ))),
    }
}

async fn serve(
    log: AccessLog,
    outbox: Outbox<Letter>,
    mut inbox: Inbox<Letter>,
    ready: impl FnOnce(Result<(), String>),
) {
    let mut sink = match Sink::open(&log).await {
        Ok(sink) => sink,
        Err(error) => return ready(Err(error)),
    };
    ready(Ok(()));
    let mut ear = Ear::default();
    loop {
        inbox.wait(&mut ear).await;
        while let Some(letter) = inbox.take() {
            match letter {
                Letter::Log { from, lines } => {
                    let mut lines = sink.write(lines).await;
                    lines.clear();
                    let _ = outbox.post(usize::from(from.0), Letter::LogBuffer { lines });
                }
                Letter::Stop => return sink.close().await,
                _ => {}
            }
        }
    }
}

enum Sink {
    Nothing,
    Stdout,
    File { file: BufferedFile, end: u64, path: PathBuf, complained: bool },
}

impl Sink {
    async fn open(log: &AccessLog) -> Result<Sink, String> {
        match log {
            AccessLog::Off => Ok(Sink::Nothing),
            AccessLog::Stdout => Ok(Sink::Stdout),
            AccessLog::File(path) => Sink::file(path)
                .await
                .map_err(|error| format!("the access log {} cannot be opened: {error}", path.display())),
        }
    }

    async fn file(path: &Path) -> Result<Sink, glommio::GlommioError<()>> {
        let file = OpenOptions::new().write(true).create(true).buffered_open(path).await?;
        let end = file.file_size().await?;
        Ok(Sink::File { file, end, path: path.to_owned(), complained: false })
    }

    /// Writes whole lines and gives the buffer back. What cannot be written is lost, and said once.
    async fn write(&mut self, lines: Vec<u8>) -> Vec<u8> {
        match self {
            Sink::Nothing => lines,
            Sink::Stdout => {
                // This thread may block, and nobody waits for it.
                let _ = std::io::stdout().lock().write_all(&lines);
                lines
            }
            Sink::File { file, end, path, complained } => {
                let mut left = lines;
                while !left.is_empty() {
                    match file.write_at(left.clone(), *end).await {
                        Ok(written) if written > 0 => {
                            *end += written as u64;
                            *complained = false;
                            left.drain(..written.min(left.len()));
                        }
                        failed => {
                            if !*complained {
                                *complained = true;
                                let why = failed.err().map_or("nothing was written".to_owned(), |e| e.to_string());
                                eprintln!("ringway: access log {}: {why}; lines are lost", path.display());
                            }
                            break;
                        }
                    }
                }
                left
            }
        }
    }

    async fn close(self) {
        if let Sink::File { file, .. } = self {
            let _ = file.close().await;
        }
    }
}
