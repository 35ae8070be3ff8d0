//! The messages between cores, and their delays.

use crate::random::Random;
use shards::{CoreId, Fingerprint, Outcome};
use std::collections::{HashMap, VecDeque};

/// An answer that carries its fingerprint, so that a mix-up is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub fingerprint: Fingerprint,
    /// Unique per fetch.
    pub serial: u64,
}

/// One client's request, on the core that accepted it.
pub type Exchange = u64;

#[derive(Debug)]
pub enum Message {
    /// To the owner. `gave_up` is the flight that timed out for the asker.
    Ask { exchange: Exchange, fingerprint: Fingerprint, gave_up: Option<u64> },
    /// From the owner.
    Reply { exchange: Exchange, fingerprint: Fingerprint, reply: Reply },
    /// To the leader.
    Join { exchange: Exchange, fingerprint: Fingerprint, number: u64 },
    /// From the leader. `None`: there is no such flight, or it failed.
    Joined { exchange: Exchange, number: u64, answer: Option<Answer> },
    /// From the leader to the owner.
    Settle { fingerprint: Fingerprint, number: u64, outcome: Outcome<Answer> },
}

#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Hit { answer: Answer },
    Lead { number: u64 },
    Follow { leader: CoreId, number: u64 },
    Alone,
}

/// One ring per ordered pair of cores: first in, first out within a pair, any order between pairs.
#[derive(Default)]
pub struct Channel {
    rings: HashMap<(CoreId, CoreId), VecDeque<Message>>,
}

impl Channel {
    pub fn push(&mut self, from: CoreId, to: CoreId, message: Message) {
        self.rings.entry((from, to)).or_default().push_back(message);
    }

    pub fn pop(&mut self, from: CoreId, to: CoreId) -> Option<Message> {
        self.rings.get_mut(&(from, to))?.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.rings.values().all(VecDeque::is_empty)
    }

    /// Mostly short, sometimes long, rarely very long.
    pub fn delay_ms(random: &mut Random) -> u64 {
        match random.below(20) {
            0..12 => random.below(2),
            12..19 => random.below(20),
            _ => random.below(300),
        }
    }
}
