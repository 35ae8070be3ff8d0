//! All limits that one core spends from. A request takes from all of its limits or from none. Owned by one core.

use alloc::vec::Vec;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{Ask, Grant, Lease, LimitId, Look, Now, Period, Returned, Slot};
use crate::spread;

/// What a request takes from one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub id: LimitId,
    pub period: Period,
    /// What it counts, for who settles it.
    pub what: u8,
    pub limit: u64,
    pub need: u64,
}

/// What was taken from one limit, to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub cost: Cost,
    slot: Slot,
    /// What is left of the limit besides, as far as this core knows.
    pub left: u64,
}

/// The result of [`Leases::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// All was taken.
    Yes,
    /// Nothing was taken: try again once an answer has come for one of the limits.
    Wait,
    /// Nothing was taken. `place` is that of the cost that cannot be met; `None` for never, as it is more than the limit.
    No { place: usize, in_ms: Option<u64> },
}

impl Admitted {
    /// Of two limits the one that has the last word: the longest wait is told, and that it would be in vain first of all.
    fn or(self, other: Admitted) -> Admitted {
        let rank = |admitted| match admitted {
            Admitted::Yes => (0, 0),
            Admitted::Wait => (1, 0),
            Admitted::No { in_ms: Some(in_ms), .. } => (2, in_ms),
            Admitted::No { in_ms: None, .. } => (3, 0),
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// Hashes an identity that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity(u64);

impl core::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        spread(self.0 as u32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// A table by limit.
pub type ByLimit<T> = HashMap<LimitId, T, core::hash::BuildHasherDefault<Identity>>;

/// So many parts of a table: a hundred thousand limits are walked through in steps of some hundred microseconds.
pub const PARTS: usize = 32;

/// A table by limit in parts, for one that is walked through a part at a time.
#[derive(Debug)]
pub struct InParts<T>([ByLimit<T>; PARTS]);

impl<T> Default for InParts<T> {
    fn default() -> Self {
        Self(core::array::from_fn(|_| ByLimit::default()))
    }
}

impl<T> InParts<T> {
    const fn place(id: LimitId) -> usize {
        // The tables' own hashes are of the other half.
        (id.0 >> 32) as usize % PARTS
    }

    pub fn get(&self, id: LimitId) -> Option<&T> {
        self.0[Self::place(id)].get(&id)
    }

    pub fn get_mut(&mut self, id: LimitId) -> Option<&mut T> {
        self.0[Self::place(id)].get_mut(&id)
    }

    pub fn get_or_insert_with(&mut self, id: LimitId, new: impl FnOnce() -> T) -> &mut T {
        match self.0[Self::place(id)].entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(new()),
        }
    }

    /// The limits of one part, from 0 to [`PARTS`].
    pub fn part(&mut self, place: usize) -> &mut ByLimit<T> {
        &mut self.0[place % PARTS]
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(ByLimit::values)
    }
}

impl<T> IntoIterator for InParts<T> {
    type Item = (LimitId, T);
    type IntoIter = core::iter::Flatten<core::array::IntoIter<ByLimit<T>, PARTS>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// The leases of one core.
#[derive(Debug, Default)]
pub struct Leases {
    leases: InParts<Lease>,
}

impl Leases {
    /// Takes all of `costs`, or nothing. `taken` gets what was taken, and `asks` what is to be sent to the limits' home cores.
    pub fn admit(
        &mut self,
        costs: impl Iterator<Item = Cost>,
        now: Now,
        taken: &mut Vec<Taken>,
        asks: &mut Vec<(LimitId, Ask)>,
    ) -> Admitted {
        let (mut admitted, begun) = (Admitted::Yes, taken.len());
        costs.enumerate().for_each(|(place, cost)| {
            let lease = self.lease(&cost);
            // In one pass, as almost always all is there: what turns out to be of no use is put back.
            match lease.look(cost.need, cost.limit, now) {
                Look::There(slot) => {
                    lease.take(slot, cost.need);
                    asks.extend(lease.ahead(now).map(|ask| (cost.id, ask)));
                    taken.push(Taken { cost, slot, left: lease.remaining() });
                }
                Look::Ask(ask) => {
                    asks.push((cost.id, ask));
                    admitted = admitted.or(Admitted::Wait);
                }
                Look::Wait => admitted = admitted.or(Admitted::Wait),
                Look::Short { in_ms } => admitted = admitted.or(Admitted::No { place, in_ms: Some(in_ms) }),
                Look::TooMuch => admitted = admitted.or(Admitted::No { place, in_ms: None }),
            }
        });
        if admitted != Admitted::Yes {
            for Taken { cost, slot, .. } in taken.drain(begun..) {
                self.lease(&cost).untake(slot, cost.need);
            }
        }
        admitted
    }

    /// Settles what was taken on what was really used. What is left of the limit, as far as this core knows.
    pub fn settle(&mut self, taken: &Taken, used: u64, now: Now) -> u64 {
        let need = taken.cost.need;
        let lease = self.lease(&taken.cost);
        if used < need {
            lease.put_back(taken.slot, need - used, now);
        } else if used > need {
            lease.overspend(used - need, now);
        }
        lease.remaining()
    }

    /// The answer of a limit's home core.
    pub fn granted(&mut self, id: LimitId, grant: Grant, now: Now) {
        // One that came too late may find its lease forgotten; what is in it is still to be given back.
        self.leases.get_or_insert_with(id, || Lease::new(grant.period, grant.limit)).granted(grant, now);
    }

    /// What to tell the home core of a limit along with a question.
    pub fn take_returned(&mut self, id: LimitId) -> Option<Returned> {
        self.leases.get_mut(id)?.take_returned()
    }

    /// About once a second for each of [`PARTS`]: what to tell the home cores. Forgets limits that nobody spends from.
    pub fn sweep(&mut self, part: usize, now: Now, mut tell: impl FnMut(LimitId, Period, Returned)) {
        self.leases.part(part).retain(|id, lease| {
            lease.sweep(now);
            if let Some(returned) = lease.take_returned() {
                tell(*id, lease.period(), returned);
            }
            !lease.is_empty(now)
        });
    }

    /// How many limits are in a part.
    pub fn count(&self, part: usize) -> usize {
        self.leases.0[part % PARTS].len()
    }

    /// What is left of a limit, as far as this core knows.
    #[inline]
    pub fn remaining(&self, id: LimitId, limit: u64) -> u64 {
        self.leases.get(id).map_or(limit, Lease::remaining).min(limit)
    }

    /// What this core holds of a limit.
    pub fn left(&self, id: LimitId) -> u64 {
        self.leases.get(id).map_or(0, Lease::left)
    }

    fn lease(&mut self, cost: &Cost) -> &mut Lease {
        self.leases.get_or_insert_with(cost.id, || Lease::new(cost.period, cost.limit))
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        self.leases.values().for_each(Lease::check);
    }
}
