//! Cores that spend from leases, one of them the home of the ledgers, and messages that take their time between them.

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use super::super::*;
use crate::random::Random;

/// On which cores requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All on one, which is not the home core where there are two.
    One,
    Spread,
    /// Half on one, the others anywhere.
    Skewed,
    /// On another one every few seconds.
    Moving,
}

impl Traffic {
    pub const ALL: [Traffic; 4] = [Traffic::One, Traffic::Spread, Traffic::Skewed, Traffic::Moving];
}

enum Message {
    Ask(LimitId, Ask, u16),
    Grant(LimitId, Grant),
    Settle(LimitId, Period, Returned),
}

struct Spent {
    at: Now,
    slot: Slot,
    amount: u64,
    /// Beyond what was reserved.
    over: u64,
}

pub struct World {
    random: Random,
    ms: u64,
    /// What the wall clock is ahead of the other.
    offset_ms: u64,
    cores: Vec<Leases>,
    /// Requests of each core that wait.
    waiting: Vec<Vec<(Cost, u64)>>,
    ledgers: BTreeMap<LimitId, Ledger>,
    /// To each core, in order, with their times of arrival.
    mail: Vec<VecDeque<(u64, Message)>>,
    /// What ends when: by core, what was taken and what is used.
    running: BTreeMap<u64, Vec<(u16, Taken, u64)>>,
    spent: Vec<Spent>,
}

impl World {
    pub fn new(cores: u16, seed: u64) -> World {
        World {
            random: Random::new(seed),
            ms: 0,
            offset_ms: 20_000 * 86_400_000,
            cores: (0..cores).map(|_| Leases::default()).collect(),
            waiting: (0..cores).map(|_| Vec::new()).collect(),
            ledgers: BTreeMap::new(),
            mail: (0..cores).map(|_| VecDeque::new()).collect(),
            running: BTreeMap::new(),
            spent: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { mono: Millis(self.ms), unix_ms: self.offset_ms + self.ms }
    }

    pub fn set_clock(&mut self, unix_ms: u64) {
        self.offset_ms = unix_ms.saturating_sub(self.ms);
    }

    pub fn ledger(&mut self, id: LimitId) -> &mut Ledger {
        self.ledgers.get_mut(&id).expect("it was asked")
    }

    fn home(&self, id: LimitId) -> u16 {
        (id.0 % self.cores.len() as u64) as u16
    }

    /// So many requests a second, for so many seconds.
    pub fn flood(&mut self, cost: Cost, traffic: Traffic, per_second: u64, seconds: u64) {
        let other = (self.home(cost.id) + 1) % self.cores.len() as u16;
        let (mut due, end) = (0, self.ms + seconds * 1000);
        while self.ms < end {
            due += per_second;
            while due >= 1000 {
                due -= 1000;
                let any = self.random.below(self.cores.len() as u64) as u16;
                let core = match traffic {
                    Traffic::One => other,
                    Traffic::Spread => any,
                    Traffic::Skewed if self.random.chance(50) => other,
                    Traffic::Skewed => any,
                    Traffic::Moving => ((self.ms / 5_000) % self.cores.len() as u64) as u16,
                };
                self.admit(core, cost, 0);
            }
            self.step();
        }
    }

    /// Requests of random sizes on random cores, which settle at random times, for so long.
    pub fn requests(&mut self, cost: Cost, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            if self.random.chance(20) {
                let core = self.random.below(self.cores.len() as u64) as u16;
                let need = 1 + self.random.below(cost.limit / 50);
                let used = match self.random.below(4) {
                    0 => 0,
                    1 => need,
                    2 => self.random.below(need),
                    _ => need + self.random.below(need),
                };
                self.admit(core, Cost { need, ..cost }, used);
            }
            self.step();
        }
        // Whatever runs ends.
        for (core, taken, used) in std::mem::take(&mut self.running).into_values().flatten() {
            self.settle(core, &taken, used);
        }
    }

    /// Until all is told and everything idle has gone back.
    pub fn rest(&mut self) {
        self.waiting.iter_mut().for_each(Vec::clear);
        (0..4_000).for_each(|_| self.step());
        for core in &self.cores {
            assert_eq!(core.left(LimitId(7)), 0, "idle cores hold nothing");
        }
    }

    fn step(&mut self) {
        self.ms += 1;
        let now = self.now();
        for core in 0..self.cores.len() {
            while self.mail[core].front().is_some_and(|(at, _)| *at <= self.ms) {
                let (_, message) = self.mail[core].pop_front().expect("there is one");
                self.deliver(core as u16, message);
            }
            // Each core has its own time for this.
            if self.ms % 1000 == core as u64 * 7 % 1000 {
                let mut told = Vec::new();
                for part in 0..PARTS {
                    self.cores[core].sweep(part, now, |id, period, returned| told.push((id, period, returned)));
                }
                for (id, period, returned) in told {
                    self.send(self.home(id), Message::Settle(id, period, returned));
                }
            }
        }
        for (core, taken, used) in self.running.remove(&self.ms).into_iter().flatten() {
            self.settle(core, &taken, used);
        }
    }

    fn settle(&mut self, core: u16, taken: &Taken, used: u64) {
        let now = self.now();
        self.cores[core as usize].settle(taken, used, now);
        self.cores[core as usize].check();
        let over = used.saturating_sub(taken.cost.need);
        if over > 0 {
            let slot = taken.cost.period.slot(now);
            self.spent.push(Spent { at: now, slot, amount: over, over });
        }
    }

    fn deliver(&mut self, core: u16, message: Message) {
        let now = self.now();
        let cores = self.cores.len() as u16;
        match message {
            Message::Ask(id, ask, from) => {
                let ledger = self.ledgers.entry(id).or_insert_with(|| Ledger::new(ask.period));
                let grant = ledger.grant(ask, cores, now);
                ledger.check();
                self.send(from, Message::Grant(id, grant));
            }
            Message::Grant(id, grant) => {
                self.cores[core as usize].granted(id, grant, now);
                self.admit_waiting(core);
            }
            Message::Settle(id, period, returned) => {
                let ledger = self.ledgers.entry(id).or_insert_with(|| Ledger::new(period));
                ledger.settle(&returned, now);
            }
        }
    }

    fn send(&mut self, to: u16, message: Message) {
        let delay = match self.random.below(100) {
            0 => self.random.below(300),
            1..20 => self.random.below(5),
            _ => 0,
        };
        let mail = &mut self.mail[to as usize];
        let at = mail.back().map_or(0, |(at, _)| *at).max(self.ms + delay);
        mail.push_back((at, message));
    }

    /// Tries all that wait on this core.
    fn admit_waiting(&mut self, core: u16) {
        for (cost, used) in std::mem::take(&mut self.waiting[core as usize]) {
            self.admit(core, cost, used);
        }
    }

    /// Tries one request.
    fn admit(&mut self, core: u16, cost: Cost, used: u64) {
        let now = self.now();
        let (mut taken, mut asks) = (Vec::new(), Vec::new());
        let leases = &mut self.cores[core as usize];
        let result = leases.admit([cost].into_iter(), now, &mut taken, &mut asks);
        leases.check();
        for (id, ask) in asks {
            if let Some(returned) = self.cores[core as usize].take_returned(id) {
                self.send(self.home(id), Message::Settle(id, ask.period, returned));
            }
            self.send(self.home(id), Message::Ask(id, ask, core));
        }
        match result {
            Admitted::Wait => self.waiting[core as usize].push((cost, used)),
            Admitted::No { .. } => {}
            Admitted::Yes => {
                let used = if used == 0 && cost.need == 1 { 1 } else { used };
                let slot = cost.period.slot(now);
                self.spent.push(Spent { at: now, slot, amount: used.min(cost.need), over: 0 });
                let until = self.ms + 1 + self.random.below(20_000);
                if used != cost.need {
                    self.running.entry(until).or_default().push((core, taken[0], used));
                }
            }
        }
    }

    pub fn used(&self) -> u64 {
        self.spent.iter().map(|spent| spent.amount).sum()
    }

    pub fn spent_between(&self, from_ms: u64, to_ms: u64) -> u64 {
        let within = self.spent.iter().filter(|spent| (from_ms..to_ms).contains(&spent.at.mono.0));
        within.map(|spent| spent.amount).sum()
    }

    pub fn spent_in(&self, slot: Slot) -> u64 {
        self.spent.iter().filter(|spent| spent.slot == slot).map(|spent| spent.amount).sum()
    }

    pub fn no_window_beyond(&self, ms: u64, limit: u64) {
        let (mut first, mut sum) = (0, 0);
        for spent in &self.spent {
            sum += spent.amount;
            while self.spent[first].at.mono.0 + ms <= spent.at.mono.0 {
                sum -= self.spent[first].amount;
                first += 1;
            }
            assert!(sum <= limit, "{sum} of {limit} until {} ms, {} cores", spent.at.mono.0, self.cores.len());
        }
    }

    /// The most that was used beyond reservations in any such time.
    pub fn most_overused(&self, ms: u64) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for spent in &self.spent {
            sum += spent.over;
            while self.spent[first].at.mono.0 + ms <= spent.at.mono.0 {
                sum -= self.spent[first].over;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}
