//! Active health checks: each backend is checked at its interval, independently of the others. Two failures in a row
//! make it unhealthy, two successes healthy again; only changes are reported. A check must never cost a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Finding;
use super::probe::{self, Target};
use crate::net::{Dial, now_ms, random_u64};

/// Failures in a row that make a backend unhealthy: a single one may be a lost packet.
const BAD: u32 = 2;
/// Successes in a row that make it healthy again.
const GOOD: u32 = 2;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    Bad,
}

/// A change of a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was unhealthy for this long.
    Well {
        after_ms: u64,
    },
    Sick,
}

/// The recent results of one backend. A backend starts healthy: one that works needs no report, and one that does not
/// is found by its second check.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    sick_since_ms: Option<u64>,
    /// Results in a row that contradict the current state.
    row: u32,
}

impl Judge {
    /// Adds a result; returns a change of health, if there is one.
    pub fn hear(&mut self, answer: Answer, now_ms: u64) -> Option<Turn> {
        let (against, enough) = match self.sick_since_ms {
            None => (Answer::Bad, BAD),
            Some(_) => (Answer::Good, GOOD),
        };
        if answer != against {
            self.row = 0;
            return None;
        }
        self.row += 1;
        if self.row < enough {
            return None;
        }
        self.row = 0;
        match self.sick_since_ms.take() {
            Some(since_ms) => Some(Turn::Well { after_ms: now_ms.saturating_sub(since_ms) }),
            None => {
                self.sick_since_ms = Some(now_ms);
                Some(Turn::Sick)
            }
        }
    }
}

/// The current addresses of one backend, as written by the resolver.
pub type Addresses = Rc<RefCell<Arc<[Dial]>>>;

/// Checks `target` every `interval_ms`, starting at once, forever. After a restart it continues with the state of
/// `judge`, which is updated only after a change was reported.
pub async fn watch(
    backend: u32,
    target: Rc<Target>,
    interval_ms: u64,
    addresses: Addresses,
    judge: Rc<RefCell<Judge>>,
    tell: Rc<dyn Fn(Finding)>,
) {
    loop {
        let started = tokio::time::Instant::now();
        let current = addresses.borrow().clone();
        let (answer, why) = match probe::ask(&target, &current).await {
            Ok(()) => (Answer::Good, String::new()),
            Err(why) => (Answer::Bad, why),
        };
        let mut after = judge.borrow().clone();
        match after.hear(answer, now_ms()) {
            Some(Turn::Sick) => tell(Finding::Sick { backend, why }),
            Some(Turn::Well { after_ms }) => tell(Finding::Well { backend, after_ms }),
            None => {}
        }
        judge.replace(after);
        tokio::time::sleep_until(started + Duration::from_millis(jittered(interval_ms, random_u64()))).await;
    }
}

/// The interval plus or minus ten percent, so that the nodes of a cluster do not check simultaneously.
fn jittered(interval_ms: u64, random: u64) -> u64 {
    let tenth = interval_ms / 10;
    interval_ms - tenth + random % (2 * tenth + 1)
}

#[cfg(test)]
mod tests;
