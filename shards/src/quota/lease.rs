//! What one core may spend of one limit. Owned by that core; sends nothing itself, but returns what to ask for and what to give
//! back. Must never spend a slice that its ledger may have stopped counting, nor the same unit twice.

use alloc::vec::Vec;

use super::{Ask, Grant, Now, Period, Returned, Slot};
use crate::Millis;

/// An answer that has not come for so long was lost.
const ANSWER_MS: u64 = 1_000;
/// What a home core said of a limit is kept in mind for so long.
const KNOWN_MS: u64 = 60_000;
/// When a limit is used up, how often it is looked for what was given back meanwhile.
const AGAIN_MS: u64 = 250;

/// A core's part of a limit.
#[derive(Clone, Debug)]
pub struct Lease {
    period: Period,
    limit: u64,
    /// Slices by the slot of their grant, older first. One with nothing left is none.
    slices: [(Slot, u64); 2],
    /// Since when an answer is waited for, and how much was asked for.
    asked: Option<(Millis, u64)>,
    /// What was needed since then by others.
    wanted: u64,
    /// What is not there, until when not to ask again, and until when it will not be there.
    short: Option<Short>,
    /// The size of the last slice, if there was more in it than was asked for.
    last: Option<u64>,
    /// What was free at the last word of the home core.
    free: u64,
    /// When that was.
    told: Option<Millis>,
    returned: Returned,
    used: bool,
}

#[derive(Clone, Copy, Debug)]
struct Short {
    need: u64,
    again: Millis,
    until: Millis,
}

/// The result of [`Lease::look`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is there, granted in this slot.
    There(Slot),
    /// Tell the home core what is returned, send it this, and look again when its answer has come.
    Ask(Ask),
    /// Look again when the answer has come.
    Wait,
    /// There will be enough in so many milliseconds.
    Short { in_ms: u64 },
    /// More than the whole limit.
    TooMuch,
}

impl Lease {
    pub const fn new(period: Period, limit: u64) -> Self {
        let returned = Returned { unspent: Vec::new(), overspent: 0 };
        let slices = [(0, 0); 2];
        Self {
            period,
            limit,
            slices,
            asked: None,
            wanted: 0,
            short: None,
            last: None,
            free: limit,
            told: None,
            returned,
            used: false,
        }
    }

    /// Whether `need` can be taken. `limit` is that of the configuration in force.
    pub fn look(&mut self, need: u64, limit: u64, now: Now) -> Look {
        self.used = true;
        if limit != self.limit {
            // Another configuration: what was said of the old limit is void.
            self.limit = limit;
            self.short = None;
            self.free = self.free.min(limit);
        }
        let slot = self.period.slot(now);
        if need == 0 {
            return Look::There(slot);
        }
        if need > limit {
            return Look::TooMuch;
        }
        self.expire(slot);
        if let Some((granted, _)) = self.slices.iter().find(|slice| self.has(**slice, need, slot)) {
            return Look::There(*granted);
        }
        if let Some(short) = self.short.filter(|short| need >= short.need && now.mono < short.again) {
            return Look::Short { in_ms: short.until.since(now.mono).max(1) };
        }
        if self.asked.is_some_and(|(asked, _)| now.mono.since(asked) < ANSWER_MS) {
            self.wanted = self.wanted.saturating_add(need);
            return Look::Wait;
        }
        // What is here is too little by itself, and may be what is missing there.
        for (granted, left) in core::mem::take(&mut self.slices) {
            self.give_back(granted, left);
        }
        let want = core::mem::take(&mut self.wanted).max(need);
        self.asked = Some((now.mono, want));
        Look::Ask(Ask { period: self.period, limit, need, want })
    }

    /// Takes what [`Lease::look`] found in `slot`.
    pub fn take(&mut self, slot: Slot, need: u64) {
        if let Some(slice) = self.slices.iter_mut().find(|slice| slice.0 == slot && slice.1 >= need) {
            slice.1 -= need;
        } else {
            debug_assert!(need == 0, "taken without a look");
        }
    }

    /// Puts back what was just taken: as if it had not been.
    pub(super) fn untake(&mut self, slot: Slot, need: u64) {
        self.hold(slot, need);
    }

    /// Takes `target` of the larger slice, but at least `need` and at most what is in it; `None` if that is too little.
    pub(super) fn cut(&mut self, need: u64, target: u64, now: Now) -> Option<(Slot, u64)> {
        self.used = true;
        let slot = self.period.slot(now);
        self.expire(slot);
        let period = self.period;
        let live = self.slices.iter_mut().filter(|slice| slice.1 > 0 && period.is_live(slice.0, slot));
        let slice = live.max_by_key(|slice| slice.1).filter(|slice| slice.1 >= need)?;
        let amount = target.clamp(need, slice.1);
        slice.1 -= amount;
        Some((slice.0, amount))
    }

    /// When it was asked what has not been answered.
    pub(super) fn asked(&self) -> Option<Millis> {
        self.asked.map(|(at, _)| at)
    }

    /// There will be no answer.
    pub(super) fn unanswered(&mut self) {
        self.asked = None;
        self.last = None;
    }

    /// What to ask for ahead of need, if it is time, and if the home core had something to spare the last time.
    pub fn ahead(&mut self, now: Now) -> Option<Ask> {
        self.last.filter(|last| self.asked.is_none() && self.left() <= last / 2)?;
        self.asked = Some((now.mono, 0));
        Some(Ask { period: self.period, limit: self.limit, need: 0, want: 0 })
    }

    /// The home core has answered. Those that wait look again.
    pub fn granted(&mut self, grant: Grant, now: Now) {
        let (_, want) = self.asked.take().unwrap_or((now.mono, 0));
        (self.free, self.told) = (grant.free, Some(now.mono));
        self.last = (grant.amount > want).then_some(grant.amount);
        if let Some((need, in_ms)) = grant.short {
            // Not at once, whatever is said: whoever asks itself would not come to an end.
            self.short =
                Some(Short { need, again: now.mono.after(AGAIN_MS.min(in_ms).max(1)), until: now.mono.after(in_ms) });
        } else if grant.amount > 0 {
            self.short = None;
        }
        self.expire(self.period.slot(now));
        self.hold(grant.slot, grant.amount);
    }

    /// Gives back what was taken in `slot` and not used.
    pub fn put_back(&mut self, slot: Slot, amount: u64, now: Now) {
        if amount == 0 {
            return;
        }
        let current = self.period.slot(now);
        self.expire(current);
        match self.period.is_live(slot, current) {
            true => self.hold(slot, amount),
            false => self.give_back(slot, amount),
        }
        self.short = None;
    }

    /// More was used than was taken.
    pub fn overspend(&mut self, mut amount: u64, now: Now) {
        self.expire(self.period.slot(now));
        let slot = self.period.slot(now);
        for slice in self.slices.iter_mut().filter(|slice| self.period.is_live(slice.0, slot)) {
            let part = slice.1.min(amount);
            slice.1 -= part;
            amount -= part;
        }
        self.returned.overspent = self.returned.overspent.saturating_add(amount);
    }

    /// About once a second: gives back what is out of date, and what was not asked for since the last time.
    pub fn sweep(&mut self, now: Now) {
        let slot = self.period.slot(now);
        self.expire(slot);
        if !core::mem::replace(&mut self.used, false) {
            for (slot, left) in core::mem::take(&mut self.slices) {
                self.free = self.free.saturating_add(left);
                self.give_back(slot, left);
            }
            self.last = None;
        }
        self.asked = self.asked.filter(|(asked, _)| now.mono.since(*asked) < ANSWER_MS);
    }

    /// What to tell the home core, if anything.
    pub fn take_returned(&mut self) -> Option<Returned> {
        (!self.returned.is_empty()).then(|| core::mem::take(&mut self.returned))
    }

    /// Whether nothing is known that a new lease would not know.
    pub fn is_empty(&self, now: Now) -> bool {
        let is_short = self.short.is_some_and(|short| now.mono < short.again);
        // Answers that are still on their way say what is left.
        let is_known = self.told.is_some_and(|told| now.mono.since(told) < KNOWN_MS);
        !is_known && !self.used && self.left() == 0 && self.asked.is_none() && self.returned.is_empty() && !is_short
    }

    /// What is left of the limit, as far as this core knows.
    pub fn remaining(&self) -> u64 {
        self.free.saturating_add(self.left()).min(self.limit)
    }

    /// What the home core said was left besides, if it has said so within the last minute.
    pub(super) fn free(&self, now: Now) -> Option<u64> {
        self.told.filter(|told| now.mono.since(*told) < KNOWN_MS).map(|_| self.free)
    }

    pub const fn period(&self) -> Period {
        self.period
    }

    /// What this core may still spend.
    pub fn left(&self) -> u64 {
        self.slices.iter().fold(0, |sum, slice| sum.saturating_add(slice.1))
    }

    fn has(&self, (granted, left): (Slot, u64), need: u64, slot: Slot) -> bool {
        left > 0 && left >= need && self.period.is_live(granted, slot)
    }

    /// Adds to the slices. Should there be a third one, which takes a clock that is set, the oldest goes back.
    fn hold(&mut self, slot: Slot, amount: u64) {
        if amount == 0 {
            return;
        }
        if let Some(slice) = self.slices.iter_mut().find(|slice| slice.0 == slot && slice.1 > 0) {
            slice.1 = slice.1.saturating_add(amount);
            return;
        }
        let place = if self.slices[0].1 == 0 { 0 } else { 1 };
        let (older, left) = core::mem::replace(&mut self.slices[place], (slot, amount));
        self.give_back(older, left);
        self.slices.sort_unstable_by_key(|slice| (slice.1 == 0, slice.0));
    }

    /// What is for a period to come stays: only a clock that was set back makes such.
    fn expire(&mut self, slot: Slot) {
        for place in 0..self.slices.len() {
            let (granted, left) = self.slices[place];
            if left > 0 && granted < slot && !self.period.is_live(granted, slot) {
                self.slices[place] = (0, 0);
                self.give_back(granted, left);
            }
        }
    }

    fn give_back(&mut self, slot: Slot, amount: u64) {
        if amount == 0 {
            return;
        }
        match self.returned.unspent.iter_mut().find(|(at, _)| *at == slot) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => self.returned.unspent.push((slot, amount)),
        }
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        let [one, other] = self.slices;
        assert!(one.1 == 0 || other.1 == 0 || one.0 < other.0, "two slices of different slots, older first");
    }
}
