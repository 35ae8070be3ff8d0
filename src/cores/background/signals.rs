//! Signals: which of them stop the node, and what the others ask for. No other signal that a service is sent by habit ends it
//! in the middle of its streams; SIGPIPE is ignored by every Rust program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use super::OnHangup;
use super::notices::{Notice, Notices};

/// SIGTERM and SIGINT; SIGHUP too where a terminal that is closed sends it.
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

    /// Waits for one of them, and gives its name.
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

/// Those that leave the node running.
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

    /// Does what they ask for, for ever. The I/O core stands behind `data_cores` in the mail.
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

/// SIGHUP asks for the configuration to be read again. That cannot be done while requests are served: it is said, and the
/// node goes on as it is.
fn reload() {
    warn!("SIGHUP: the configuration cannot be reloaded while the node runs; restart it to use a new one");
}
