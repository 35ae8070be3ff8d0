//! Active checks: each backend is asked at its interval, all at the same time. Two bad answers in a row make it sick, two
//! good ones make it well again; only turns are told. Must never cost a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Finding;
use super::probe::{self, Target};
use crate::net::Dial;

/// So many bad answers in a row make a backend sick.
const BAD: u32 = 2;
/// So many good ones make a sick one well.
const GOOD: u32 = 2;

/// What an answer means for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Well,
    Sick,
}

/// The answers of one backend in a row.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    sick: bool,
    row: u32,
}

impl Judge {
    /// Takes in one more answer; a turn if it makes one.
    pub fn hear(&mut self, good: bool) -> Option<Turn> {
        if good != self.sick {
            self.row = 0;
            return None;
        }
        self.row += 1;
        let turned = self.row >= if self.sick { GOOD } else { BAD };
        if !turned {
            return None;
        }
        self.row = 0;
        self.sick = !self.sick;
        Some(if self.sick { Turn::Sick } else { Turn::Well })
    }
}

/// Where each backend is at this moment; the resolver writes it.
pub type Addresses = Rc<RefCell<Vec<Arc<[Dial]>>>>;

/// Asks `target` for ever.
pub async fn watch(backend: usize, target: Target, addresses: Addresses, tell: Rc<dyn Fn(Finding)>) {
    let mut judge = Judge::default();
    let interval = Duration::from_millis(target.interval_ms);
    loop {
        let started = tokio::time::Instant::now();
        let current = addresses.borrow()[backend].clone();
        let answer = probe::ask(&target, &current).await;
        match (judge.hear(answer.is_ok()), answer) {
            (Some(Turn::Sick), Err(why)) => tell(Finding::Sick { backend, why }),
            (Some(Turn::Well), _) => tell(Finding::Well { backend }),
            _ => {}
        }
        // A tenth more or less, so that the nodes of a cluster do not ask all at once.
        let tenth = target.interval_ms / 10;
        let shift = Duration::from_millis(crate::net::throw() % (2 * tenth + 1));
        tokio::time::sleep_until(started + interval - Duration::from_millis(tenth) + shift).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_two_in_a_row_to_turn() {
        let mut judge = Judge::default();
        let answers = [true, false, true, false, false, false, true, false, true, true, true, false, false];
        let turns: Vec<_> = answers.iter().map(|&good| judge.hear(good)).collect();
        let mut expected = vec![None; answers.len()];
        expected[4] = Some(Turn::Sick);
        expected[9] = Some(Turn::Well);
        expected[12] = Some(Turn::Sick);
        assert_eq!(turns, expected);
    }
}
