//! Active checks: each backend is asked at its interval, all at the same time. Two bad answers in a row make it sick, two
//! good ones make it well again; only turns are told. Must never cost a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Finding;
use super::probe::{self, Target};
use crate::net::{Dial, now_ms, random_u64};

/// So many bad answers in a row make a backend sick: one alone may be a lost packet.
const BAD: u32 = 2;
/// So many good ones make a sick one well.
const GOOD: u32 = 2;

/// What came of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    Bad,
}

/// What an answer means for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was sick for so long.
    Well {
        after_ms: u64,
    },
    Sick,
}

/// The answers of one backend in a row. A backend begins well: what serves at once need not be told, and what does not
/// is found out by its second answer.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    sick_since_ms: Option<u64>,
    /// Answers in a row that speak against the present state.
    row: u32,
}

impl Judge {
    /// Takes in one more answer; a turn if it makes one.
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

/// Where each backend is at this moment; the resolver writes it.
pub type Addresses = Rc<RefCell<Vec<Arc<[Dial]>>>>;

/// Asks `target` every `interval_ms`, for ever; the first time at once. Started anew, it goes on from what `judge` knows: a
/// turn is told before it is noted.
pub async fn watch(
    backend: usize,
    target: Rc<Target>,
    interval_ms: u64,
    addresses: Addresses,
    judge: Rc<RefCell<Judge>>,
    tell: Rc<dyn Fn(Finding)>,
) {
    loop {
        let started = tokio::time::Instant::now();
        let current = addresses.borrow()[backend].clone();
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

/// The interval, a tenth more or less, so that the nodes of a cluster don't ask all at once.
fn jittered(interval_ms: u64, random: u64) -> u64 {
    let tenth = interval_ms / 10;
    interval_ms - tenth + random % (2 * tenth + 1)
}

#[cfg(test)]
mod tests;
