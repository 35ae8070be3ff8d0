//! Limits over a time: requests, tokens, money. The home core of a limit keeps its [`Ledger`] and hands out slices; each core
//! spends from a [`Lease`] without asking anyone. A slice may be spent for as long as the ledger counts it beyond the period,
//! so that no 60 seconds and no calendar period see more than the limit, whichever cores spend, and however late messages are.

mod calendar;
mod estimate;
mod lease;
mod leases;
mod ledger;
mod share;

pub use estimate::Estimate;
pub use lease::{Lease, Look};
pub use leases::{Admitted, ByLimit, Cost, InParts, Leases, PARTS, Taken};
pub use ledger::Ledger;
pub use share::{Fetch, Fetched, Share, Store, Told};

use crate::Millis;

/// Names a limit on all cores, whatever the configuration in force: a hash of whose it is, of what, and of its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u64);

/// Over which time a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// Any 60 seconds.
    Minute,
    /// A day, a week from Monday on, a month: by the calendar, in UTC.
    Day,
    Week,
    Month,
}

/// The time by both clocks. Minutes are counted on the first, which never steps; the calendar is that of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Millis,
    pub unix_ms: u64,
}

/// A second of a minute, or a calendar period, by its number.
pub type Slot = u64;

const SLOT_MS: u64 = 1_000;
/// How many slots a slice of a minute's limit may be spent in: that of its grant, and the next.
const MINUTE_LIFE: u64 = 2;
/// Slots that count: 60 seconds touch 61 of them, and what is spent in the first may have been granted in the one before.
const MINUTE_SLOTS: u64 = 62;
/// The same of what a node was granted by the store of all nodes: another node's answer may have been on its way for a second.
const NODE_SLOTS: u64 = 63;

impl Period {
    /// The slot of `now`.
    pub fn slot(self, now: Now) -> Slot {
        match self {
            Period::Minute => now.mono.0 / SLOT_MS,
            Period::Day | Period::Week | Period::Month => calendar::number(self, now.unix_ms),
        }
    }

    /// Whether a slice granted in `granted` may be spent in `slot`.
    fn is_live(self, granted: Slot, slot: Slot) -> bool {
        match self {
            // Another core may be a moment ahead.
            Period::Minute => slot < granted.saturating_add(MINUTE_LIFE),
            Period::Day | Period::Week | Period::Month => granted == slot,
        }
    }

    /// Milliseconds until nothing that was spent by `now` counts any more.
    pub fn whole_in_ms(self, now: Now) -> u64 {
        self.freed_in_ms(self.slot(now), now)
    }

    /// Milliseconds until what was spent in `spent` counts no longer.
    fn freed_in_ms(self, spent: Slot, now: Now) -> u64 {
        match self {
            Period::Minute => spent.saturating_add(MINUTE_SLOTS).saturating_mul(SLOT_MS).saturating_sub(now.mono.0),
            Period::Day | Period::Week | Period::Month => {
                calendar::begin_ms(self, spent.saturating_add(1)).saturating_sub(now.unix_ms)
            }
        }
    }
}

/// What counts against a limit in one calendar period, for who keeps it over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub id: LimitId,
    pub period: Period,
    pub slot: Slot,
    pub amount: u64,
}

/// What one core knows of a limit, for who adds it up over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitState {
    /// At its home core: what counts against it, or what counts of what this node was granted; held slices included.
    pub counted: u64,
    /// Of that, what is here and not spent.
    pub held: u64,
    /// At its home core, where nodes share it: what the store last said is left, if that was within the last minute.
    pub left: Option<u64>,
    /// At its home core: milliseconds until nothing counts that counts now.
    pub whole_in_ms: u64,
}

/// A core asks for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub period: Period,
    pub limit: u64,
    /// What the request in hand needs; 0 when asking ahead of need.
    pub need: u64,
    /// What all that wait need.
    pub want: u64,
}

/// What the home core says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of the limit.
    pub period: Period,
    pub limit: u64,
    /// In which the amount was granted.
    pub slot: Slot,
    pub amount: u64,
    /// What is left of the limit besides.
    pub free: u64,
    /// What was needed and is not there, and in how many milliseconds it will be.
    pub short: Option<(u64, u64)>,
}

/// What a core tells of slices that it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// Not spent, by the slot of the grant.
    pub unspent: alloc::vec::Vec<(Slot, u64)>,
    /// Spent beyond what was granted.
    pub overspent: u64,
}

impl Returned {
    pub fn is_empty(&self) -> bool {
        self.unspent.is_empty() && self.overspent == 0
    }
}

#[cfg(test)]
mod tests;
