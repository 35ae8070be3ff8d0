//! Permanent tasks of the background core: one that panics is counted, reported and restarted after a pause. Otherwise
//! the health or the addresses of its backend would never change again.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Finding;
use crate::net::Panics;

/// Pauses before a restart.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first panic; doubled after each further one.
    pub first: Duration,
    /// The longest pause, which limits the log messages of a task that always panics.
    pub last: Duration,
    /// After running for this long, a task starts again with the first pause.
    pub sound: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        let [first, last, sound] = [1, 300, 600].map(Duration::from_secs);
        Pauses { first, last, sound }
    }
}

/// Runs the future of `start`, and restarts it when it panics, until it ends. `called` names it in messages.
pub async fn keep<F: Future<Output = ()>>(
    called: String,
    pauses: Pauses,
    panics: Panics,
    tell: Rc<dyn Fn(Finding)>,
    start: impl Fn() -> F,
) {
    let mut pause = pauses.first;
    loop {
        let started = Instant::now();
        if panics.outlives(start()).await {
            return;
        }
        if started.elapsed() >= pauses.sound {
            pause = pauses.first;
        }
        // Guarded too, because the panic may have come from `tell`.
        let count = panics.count();
        let text = format!("{called} panicked and restarts in {pause:?}; {count} panics on this core so far");
        panics.guard(|| tell(Finding::Log(text)));
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(pauses.last);
    }
}

#[cfg(test)]
mod tests;
