//! Signals: which ones stop the node, and what the others do. Other signals that are commonly sent to services must not
//! end it while it streams; SIGPIPE is ignored by every Rust program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use super::OnHangup;
use super::notices::{Notice, Notices};

/// SIGTERM and SIGINT; also SIGHUP if it means that the terminal was closed.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    pub fn new(on_hangup: OnHangup) -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: match on_hangup {
                OnHangup::Stop => Some(signal(SignalKind::hangup())?),
                OnHangup::Reload => None,
            },
        })
    }

    /// Waits for one of them, and returns its name.
    pub async fn any(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Signals that do not stop the node.
pub struct OtherSignals {
    hangup: Option<Signal>,
    reopen: Signal,
}

impl OtherSignals {
    pub fn new(on_hangup: OnHangup) -> io::Result<OtherSignals> {
        let hangup = match on_hangup {
            OnHangup::Reload => Some(signal(SignalKind::hangup())?),
            OnHangup::Stop => None,
        };
        Ok(OtherSignals { hangup, reopen: signal(SignalKind::user_defined1())? })
    }

    /// Handles them, forever. The I/O core has index `data_cores` in the channels.
    pub async fn handle(&mut self, notices: &Notices, data_cores: usize) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hangup => reload(),
                _ = self.reopen.recv() => notices.tell_one(data_cores, &Notice::Reopen),
            }
        }
    }
}

/// SIGHUP requests a reload of the configuration. That is not supported while requests are served: logs a warning, and
/// the node keeps running.
fn reload() {
    warn!("SIGHUP: the configuration cannot be reloaded while the node runs; restart it to use a new one");
}
