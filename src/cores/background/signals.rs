//! Signals: which ones stop the node, and what the others do. Other signals that are commonly sent to services must not
//! end it while it streams; SIGPIPE is ignored by every Rust program.

use std::io;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::notices::{Notice, Notices};
use super::reload::Source;
use crate::control::admin::Admin;
use crate::control::admin::reload::Trigger;
use crate::cores::takeover::Upgrade;

/// SIGTERM and SIGINT; also SIGHUP if it means that the terminal was closed.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    pub fn new(source: &Source) -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: match source {
                Source::BuiltIn => Some(signal(SignalKind::hangup())?),
                Source::File(..) => None,
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
    pub fn new(source: &Source) -> io::Result<OtherSignals> {
        let hangup = match source {
            Source::File(..) => Some(signal(SignalKind::hangup())?),
            Source::BuiltIn => None,
        };
        Ok(OtherSignals { hangup, reopen: signal(SignalKind::user_defined1())? })
    }

    /// Handles them, forever. The I/O core has index `data_cores` in the channels.
    pub async fn handle(&mut self, notices: &Notices, data_cores: usize, admin: &Admin, upgrade: &Rc<Upgrade>) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A new program reads the configuration anyway.
                _ = hangup => if !upgrade.begin() {
                    admin.ask_reload(Trigger::Signal);
                },
                _ = self.reopen.recv() => notices.tell_one(data_cores, &Notice::Reopen),
            }
        }
    }
}
