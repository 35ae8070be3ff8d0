//! The background core: a tokio runtime on one thread. It has the signals and leads the drain.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::exchange::letters::Letter;
use crate::net::Ear;
use crate::net::mail::{Inbox, Outbox};

/// After `Halt`, how long tasks have to notice that their sockets are shut.
const HALT_LIMIT: Duration = Duration::from_secs(3);

/// How the node came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that ran has finished.
    Drained,
    /// The deadline passed, or a second signal came: what still ran was cut off.
    Cut,
}

/// Waits for SIGTERM or SIGINT, then drains `data_cores` cores within `drain`.
/// Errors: the runtime or the signals cannot be set up.
pub fn run(
    data_cores: usize,
    drain: Duration,
    outbox: Outbox<Letter>,
    inbox: Inbox<Letter>,
    ready: impl FnOnce(Result<(), String>),
) -> Stopped {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ready(Err(format!("the background core cannot start: {error}")));
            return Stopped::Cut;
        }
    };
    runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (mut terminate, mut interrupt) = match signals {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                ready(Err(format!("signals cannot be handled: {error}")));
                return Stopped::Cut;
            }
        };
        ready(Ok(()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("ringway: draining, at most {} s; a second signal ends it at once", drain.as_secs());
        tell(&outbox, data_cores, || Letter::Drain);
        let mut node = Node { inbox, ear: Ear::default(), left: data_cores };
        let stopped = tokio::select! {
            _ = node.all_drained() => Stopped::Drained,
            _ = tokio::time::sleep(drain) => Stopped::Cut,
            _ = terminate.recv() => Stopped::Cut,
            _ = interrupt.recv() => Stopped::Cut,
        };
        if stopped == Stopped::Cut {
            tell(&outbox, data_cores, || Letter::Halt);
            let _ = tokio::time::timeout(HALT_LIMIT, node.all_drained()).await;
        }
        tell(&outbox, data_cores + 1, || Letter::Stop);
        stopped
    })
}

fn tell(outbox: &Outbox<Letter>, data_cores: usize, letter: impl Fn() -> Letter) {
    for core in 0..data_cores {
        let _ = outbox.post(core, letter());
    }
}

/// The data cores that have not stopped yet.
struct Node {
    inbox: Inbox<Letter>,
    ear: Ear,
    left: usize,
}

impl Node {
    async fn all_drained(&mut self) {
        while self.left > 0 {
            while let Some(letter) = self.inbox.take() {
                if let Letter::Drained { .. } = letter {
                    self.left -= 1;
                }
            }
            if self.left > 0 {
                self.inbox.wait(&mut self.ear).await;
            }
        }
    }
}
