//! The policies compared. Simple and slow: only their hit rates matter here, not their cost.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

pub trait Policy {
    /// Whether the prompt is cached; the policy records the request.
    fn hit(&mut self, prompt: u32) -> bool;
    /// After a miss.
    fn insert(&mut self, prompt: u32, size_bytes: u64);
}

pub fn all(budget: u64) -> Vec<(&'static str, Box<dyn Policy>)> {
    let sieve = |marks_max, price| Box::new(Sieve { marks_max, price, ..Sieve::new(budget) });
    vec![
        ("FIFO", Box::new(Ranked::new(budget, |at, _, _, _| at)) as Box<dyn Policy>),
        ("LRU", Box::new(Ranked::new(budget, |_, last, _, _| last))),
        ("LFU, aged", Box::new(Ranked::new(budget, |_, _, floor, (uses, _)| floor + uses))),
        ("GDSF", Box::new(Ranked::new(budget, |_, _, floor, (uses, size)| floor + (uses << 24) / size))),
        ("S3-FIFO", Box::new(S3Fifo::new(budget))),
        (
            "S3-FIFO, sized",
            Box::new(S3Fifo { promote: 1, uses_max: 7, share: 20, price: Price::BySize, ..S3Fifo::new(budget) }),
        ),
        ("SIEVE", sieve(1, Price::One)),
        ("SIEVE, sized", sieve(3, Price::BySize)),
    ]
}

/// Evicts the lowest rank, recomputed on each use: (arrival, last use, rank of the last victim, (uses, size)).
pub struct Ranked<F> {
    budget: u64,
    used: u64,
    clock: u64,
    floor: u64,
    rank: F,
    entries: HashMap<u32, (u64, u64, u64, u64)>,
    order: BTreeSet<(u64, u32)>,
}

impl<F: Fn(u64, u64, u64, (u64, u64)) -> u64> Ranked<F> {
    pub fn new(budget: u64, rank: F) -> Self {
        Self { budget, used: 0, clock: 0, floor: 0, rank, entries: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<F: Fn(u64, u64, u64, (u64, u64)) -> u64> Policy for Ranked<F> {
    fn hit(&mut self, prompt: u32) -> bool {
        self.clock += 1;
        let Some((at, uses, size, rank)) = self.entries.get_mut(&prompt) else { return false };
        self.order.remove(&(*rank, prompt));
        *uses += 1;
        *rank = (self.rank)(*at, self.clock, self.floor, (*uses, *size));
        self.order.insert((*rank, prompt));
        true
    }

    fn insert(&mut self, prompt: u32, size: u64) {
        if size > self.budget {
            return;
        }
        while self.used + size > self.budget {
            let Some((rank, victim)) = self.order.pop_first() else { break };
            self.floor = rank;
            self.used -= self.entries.remove(&victim).map_or(0, |entry| entry.2);
        }
        let rank = (self.rank)(self.clock, self.clock, self.floor, (1, size));
        self.entries.insert(prompt, (self.clock, 1, size, rank));
        self.order.insert((rank, prompt));
        self.used += size;
    }
}

/// New entries are on probation; those used there, or back soon after eviction, enter the main queue.
pub struct S3Fifo {
    budget: u64,
    entries: HashMap<u32, (u64, u8)>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_bytes: u64,
    main_bytes: u64,
    ghosts: VecDeque<u32>,
    ghost_set: HashSet<u32>,
    /// Uses that move an entry from probation to the main queue.
    promote: u8,
    uses_max: u8,
    price: Price,
    /// Probation is this fraction (1/n) of the budget.
    share: u64,
}

impl S3Fifo {
    fn new(budget: u64) -> Self {
        let (entries, small, main) = Default::default();
        let (ghosts, ghost_set) = Default::default();
        Self {
            budget,
            entries,
            small,
            main,
            small_bytes: 0,
            main_bytes: 0,
            ghosts,
            ghost_set,
            promote: 2,
            uses_max: 3,
            price: Price::One,
            share: 10,
        }
    }

    fn evict(&mut self) {
        if self.small_bytes * self.share >= self.budget || self.main.is_empty() {
            let Some(prompt) = self.small.pop_front() else { return };
            let (size, uses) = self.entries[&prompt];
            self.small_bytes -= size;
            if uses >= self.promote {
                self.entries.insert(prompt, (size, 0));
                self.main.push_back(prompt);
                self.main_bytes += size;
            } else {
                self.entries.remove(&prompt);
                self.ghosts.push_back(prompt);
                self.ghost_set.insert(prompt);
                while self.ghosts.len() > self.main.len().max(16) {
                    self.ghosts.pop_front().map(|prompt| self.ghost_set.remove(&prompt));
                }
            }
        } else if let Some(prompt) = self.main.pop_front() {
            let (size, uses) = self.entries[&prompt];
            if uses > 0 {
                let mean = (self.small_bytes + self.main_bytes) / self.entries.len() as u64;
                let price = self.price.of(size, mean) as u8;
                self.entries.insert(prompt, (size, uses.saturating_sub(price)));
                self.main.push_back(prompt);
            } else {
                self.entries.remove(&prompt);
                self.main_bytes -= size;
            }
        }
    }
}

impl Policy for S3Fifo {
    fn hit(&mut self, prompt: u32) -> bool {
        self.entries.get_mut(&prompt).map(|(_, uses)| *uses = (*uses + 1).min(self.uses_max)).is_some()
    }

    fn insert(&mut self, prompt: u32, size: u64) {
        if size > self.budget {
            return;
        }
        while self.small_bytes + self.main_bytes + size > self.budget {
            self.evict();
        }
        self.entries.insert(prompt, (size, 0));
        if self.ghost_set.contains(&prompt) {
            self.main.push_back(prompt);
            self.main_bytes += size;
        } else {
            self.small.push_back(prompt);
            self.small_bytes += size;
        }
    }
}

/// What an entry pays, in uses, for another round.
#[derive(Clone, Copy)]
enum Price {
    One,
    /// One, and one more for each half of the mean size.
    BySize,
}

impl Price {
    fn of(self, size: u64, mean: u64) -> u64 {
        match self {
            Price::One => 1,
            Price::BySize => (size * 2 / mean.max(1) + 1).min(99),
        }
    }
}

/// In order of arrival; a hit adds a mark; a hand moves from old to new, takes marks, and evicts the first without one.
pub struct Sieve {
    budget: u64,
    used: u64,
    marks_max: u64,
    price: Price,
    entries: HashMap<u32, (u64, u64, u64)>,
    order: std::collections::BTreeMap<u64, u32>,
    clock: u64,
    hand: u64,
}

impl Sieve {
    fn new(budget: u64) -> Self {
        let (entries, order) = Default::default();
        Self { budget, used: 0, marks_max: 1, price: Price::One, entries, order, clock: 0, hand: 0 }
    }
}

impl Policy for Sieve {
    fn hit(&mut self, prompt: u32) -> bool {
        self.entries.get_mut(&prompt).map(|(_, marks, _)| *marks = (*marks + 1).min(self.marks_max)).is_some()
    }

    fn insert(&mut self, prompt: u32, size: u64) {
        if size > self.budget {
            return;
        }
        while self.used + size > self.budget {
            let next = self.order.range(self.hand..).next().or_else(|| self.order.first_key_value());
            let Some((&at, &victim)) = next else { break };
            self.hand = at + 1;
            let mean = self.used / self.entries.len() as u64;
            let Some((_, marks, size)) = self.entries.get_mut(&victim) else { break };
            if *marks > 0 {
                let price = self.price.of(*size, mean);
                *marks = marks.saturating_sub(price);
                continue;
            }
            self.used -= *size;
            self.order.remove(&at);
            self.entries.remove(&victim);
        }
        self.clock += 1;
        self.order.insert(self.clock, prompt);
        self.entries.insert(prompt, (self.clock, 0, size));
        self.used += size;
    }
}
