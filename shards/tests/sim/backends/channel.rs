//! Messages about health: in order between two cores, in any order between others, and delayed.

use std::collections::{BTreeMap, VecDeque};

use crate::messages;
use crate::random::Random;

/// News of a backend.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    Tripped { backend: usize, for_ms: u64, epoch: u64 },
    Restored { backend: usize, epoch: u64 },
    Checked { backend: usize, well: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Core(usize),
    Background,
}

/// One ring per pair of sender and receiver, and the arrival time of its last message.
#[derive(Default)]
pub struct Channel {
    rings: BTreeMap<(Sender, usize), (u64, VecDeque<Word>)>,
}

impl Channel {
    /// Returns the arrival time: not before earlier messages.
    pub fn push(&mut self, from: Sender, to: usize, word: Word, now: u64, random: &mut Random) -> u64 {
        let (last, ring) = self.rings.entry((from, to)).or_default();
        *last = (*last).max(now + messages::Channel::delay_ms(random));
        ring.push_back(word);
        *last
    }

    pub fn pop(&mut self, from: Sender, to: usize) -> Option<Word> {
        self.rings.get_mut(&(from, to))?.1.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.rings.values().all(|(_, ring)| ring.is_empty())
    }
}
