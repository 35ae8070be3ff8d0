//! Tasks of the background core that go on for ever: one that panics is counted, told and started again after a pause.
//! Without this the backend of that task would keep the health, or the addresses, that it had at that moment for ever.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Finding;
use crate::net::Panics;

/// How soon a task is started again.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first panic; doubled with each that follows soon.
    pub first: Duration,
    /// The longest: a panic that comes back every time costs no more than one line in this time.
    pub last: Duration,
    /// What has run for so long begins with the first pause again.
    pub sound: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        let [first, last, sound] = [1, 300, 600].map(Duration::from_secs);
        Pauses { first, last, sound }
    }
}

/// Runs what `start` makes, again and again if it panics, until it ends. `called` says in messages what it is.
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
        // Guarded itself, for what panicked may be the telling.
        let count = panics.count();
        let text = format!("{called} panicked, and starts again in {pause:?}; {count} panics on this core so far");
        panics.guard(|| tell(Finding::Said(text)));
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(pauses.last);
    }
}

#[cfg(test)]
mod tests;
