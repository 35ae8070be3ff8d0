//! What was granted of one limit, second by second or by calendar period. Owned by the limit's home core. Must never grant more
//! than the limit, and loses and frees nothing when the clock is set: a calendar period that comes again has its count still.

use alloc::collections::VecDeque;

use super::{Ask, Grant, LimitState, MINUTE_SLOTS, NODE_SLOTS, Now, Period, Returned, SLOT_MS, Slot};

/// How much of what is free one core gets ahead of need: this divided by the number of cores. What idle cores hold when the
/// rest is spent is then small, and comes back within seconds.
const AHEAD: u64 = 16;
/// The same of how much it gets for those that wait on it.
const WANTED: u64 = 2;
/// Calendar periods that are remembered.
const PERIODS_MAX: usize = 8;

/// What counts against one limit.
#[derive(Debug)]
pub struct Ledger {
    period: Period,
    /// How many seconds of a minute's limit count.
    slots: u64,
    /// By slot, oldest first; none is 0 but what was given back since.
    granted: VecDeque<(Slot, u64)>,
    /// What was last told to be kept.
    kept: (Slot, u64),
}

impl Ledger {
    pub const fn new(period: Period) -> Self {
        Self { period, slots: MINUTE_SLOTS, granted: VecDeque::new(), kept: (0, 0) }
    }

    /// Of what one node of several was granted. Counts longer, by what an answer of the store may take.
    pub(super) const fn of_node(period: Period) -> Self {
        Self { period, slots: NODE_SLOTS, granted: VecDeque::new(), kept: (0, 0) }
    }

    pub const fn period(&self) -> Period {
        self.period
    }

    /// Grants a slice to one of `cores`.
    pub fn grant(&mut self, ask: Ask, cores: u16, now: Now) -> Grant {
        let slot = self.forget(now);
        let (period, limit) = (self.period, ask.limit);
        let used = self.used(slot);
        let free = ask.limit.saturating_sub(used);
        if ask.need > free {
            let short = Some((ask.need, self.freed_in_ms(used, ask, now)));
            return Grant { period, limit, slot, amount: 0, free, short };
        }
        let cores = u64::from(cores.max(1));
        let (ahead, most) = (free / (AHEAD * cores), free / (WANTED * cores));
        let amount = ahead.max(ask.want.min(most)).max(ask.need);
        self.add(slot, amount);
        Grant { period, limit, slot, amount, free: free - amount, short: None }
    }

    /// Takes back what was not spent, and counts what was spent beyond grants.
    pub fn settle(&mut self, returned: &Returned, now: Now) {
        let slot = self.forget(now);
        for (granted, amount) in &returned.unspent {
            if let Ok(place) = self.granted.binary_search_by_key(granted, |(slot, _)| *slot) {
                let counted = &mut self.granted[place].1;
                *counted = counted.saturating_sub(*amount);
            }
        }
        if returned.overspent > 0 {
            self.add(slot, returned.overspent);
        }
    }

    /// What counts of the calendar period that is now, if that is news. What is leased and not spent is in it.
    pub fn news(&mut self, now: Now) -> Option<(Slot, u64)> {
        if self.period == Period::Minute {
            return None;
        }
        let slot = self.slot(now);
        let counted = (slot, self.used(slot));
        (core::mem::replace(&mut self.kept, counted) != counted).then_some(counted)
    }

    /// Goes on with what counted before a restart.
    pub fn restore(&mut self, slot: Slot, amount: u64) {
        if self.period != Period::Minute {
            self.add(slot, amount);
        }
    }

    /// What counts now.
    pub fn counted(&self, now: Now) -> u64 {
        self.used(self.slot(now))
    }

    /// What is known of the limit here.
    pub fn state(&self, now: Now) -> LimitState {
        LimitState { counted: self.counted(now), whole_in_ms: self.whole_in_ms(now), ..LimitState::default() }
    }

    /// In how many milliseconds nothing counts that counts now.
    fn whole_in_ms(&self, now: Now) -> u64 {
        match self.granted.back() {
            Some((latest, _)) if self.period == Period::Minute => {
                self.period.freed_in_ms(*latest, now) + (self.slots - MINUTE_SLOTS) * SLOT_MS
            }
            None if self.period == Period::Minute => 0,
            _ => self.period.whole_in_ms(now),
        }
    }

    /// Whether nothing is known that a new ledger would not know.
    pub fn is_empty(&mut self, now: Now) -> bool {
        self.forget(now);
        self.granted.is_empty()
    }

    fn slot(&self, now: Now) -> Slot {
        let slot = self.period.slot(now);
        match (self.period, self.granted.back()) {
            (Period::Minute, Some((latest, _))) => slot.max(*latest),
            _ => slot,
        }
    }

    fn used(&self, slot: Slot) -> u64 {
        let counts = |at: Slot| match self.period {
            Period::Minute => at.saturating_add(self.slots) > slot,
            Period::Day | Period::Week | Period::Month => at == slot,
        };
        self.granted.iter().filter(|(at, _)| counts(*at)).fold(0, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// What was granted, by slot, for another process that keeps the ledger from now on.
    pub fn counts(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.granted.iter().copied()
    }

    /// Counts what was granted elsewhere.
    pub fn add(&mut self, slot: Slot, amount: u64) {
        match self.granted.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(place) => self.granted[place].1 = self.granted[place].1.saturating_add(amount),
            Err(_) if amount == 0 => {}
            Err(place) => {
                self.granted.insert(place, (slot, amount));
                if self.period != Period::Minute && self.granted.len() > PERIODS_MAX {
                    self.granted.pop_front();
                }
            }
        }
    }

    /// Drops what no longer counts; the slot of `now`.
    fn forget(&mut self, now: Now) -> Slot {
        let slot = self.slot(now);
        while self.period == Period::Minute
            && self.granted.front().is_some_and(|(at, _)| at.saturating_add(self.slots) <= slot)
        {
            self.granted.pop_front();
        }
        slot
    }

    /// In how many milliseconds there is room for what `ask` needs.
    pub(super) fn freed_in_ms(&self, mut used: u64, ask: Ask, now: Now) -> u64 {
        let later = self.period.freed_in_ms(self.slot(now), now);
        if self.period != Period::Minute {
            return later;
        }
        for (slot, amount) in &self.granted {
            used = used.saturating_sub(*amount);
            if used.saturating_add(ask.need) <= ask.limit {
                let more_ms = (self.slots - MINUTE_SLOTS) * SLOT_MS;
                return self.period.freed_in_ms(*slot, now) + more_ms;
            }
        }
        later
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        let slots = || self.granted.iter().map(|(slot, _)| *slot);
        assert!(slots().zip(slots().skip(1)).all(|(one, next)| one < next), "slots in order");
        let most = if self.period == Period::Minute { self.slots as usize + 1 } else { PERIODS_MAX };
        assert!(self.granted.len() <= most, "{} slots", self.granted.len());
    }
}
