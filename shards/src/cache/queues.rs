//! The slots of the cache and the two queues that choose the victim. Owned by the cache; a slot is in exactly one
//! queue, linked by index. Must never lose count of a slot's bytes: the budget is checked against the sums of the
//! queues.

use super::arena::Arena;
use crate::{Fingerprint, Millis};

/// No slot. Arena indices stay below it.
pub(crate) const NONE: u32 = u32::MAX;

/// Uses are counted up to this number. A large entry pays up to this many for staying; see `Queues::price`.
const USES_MAX: u8 = 7;

/// How many entries a search for a victim may spare. Without a bound one insert into a cache of much used entries would
/// visit all of them; sparing fewer than a few dozen costs hits.
const SPARED_MAX: u32 = 32;

pub(crate) struct Slot<V> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) value: V,
    /// The value's size and the overhead.
    pub(crate) charge_bytes: u64,
    pub(crate) stored: Millis,
    pub(crate) expires: Millis,
    pub(crate) due_position: u32,
    pub(crate) links: Links,
}

pub(crate) struct Links {
    newer: u32,
    older: u32,
    queue: Which,
    uses: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// New, and not yet used again.
    Probation,
    /// Used at least once after it was stored.
    Proven,
}

/// A slot's queue and use count: what a replacement inherits.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) queue: Which,
    pub(crate) uses: u8,
}

/// How likely an entry is asked for again, by its queue and its uses; hottest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heat {
    /// Used lately, after it was used before.
    Hot,
    /// New, and used.
    Warm,
    /// Not used lately.
    Cool,
    /// Not used since it was stored.
    Cold,
}

impl Heat {
    pub const ALL: [Heat; 4] = [Heat::Hot, Heat::Warm, Heat::Cool, Heat::Cold];

    pub(crate) const fn standing(self) -> Standing {
        match self {
            Heat::Hot => Standing { queue: Which::Proven, uses: 1 },
            Heat::Warm => Standing { queue: Which::Probation, uses: 1 },
            Heat::Cool => Standing { queue: Which::Proven, uses: 0 },
            Heat::Cold => Standing { queue: Which::Probation, uses: 0 },
        }
    }
}

impl Links {
    pub(crate) const fn heat(&self) -> Heat {
        match (self.queue, self.uses) {
            (Which::Proven, 0) => Heat::Cool,
            (Which::Proven, _) => Heat::Hot,
            (Which::Probation, 0) => Heat::Cold,
            (Which::Probation, _) => Heat::Warm,
        }
    }

    pub(crate) const fn new(standing: Standing) -> Self {
        Self { newer: NONE, older: NONE, queue: standing.queue, uses: standing.uses }
    }

    pub(crate) fn used(&mut self) {
        self.uses = (self.uses + 1).min(USES_MAX);
    }

    pub(crate) const fn standing(&self) -> Standing {
        Standing { queue: self.queue, uses: self.uses }
    }
}

/// One first-in-first-out queue.
struct Queue {
    newest: u32,
    oldest: u32,
    len: u32,
    bytes: u64,
}

pub(crate) struct Queues {
    probation: Queue,
    proven: Queue,
    /// The share of the budget up to which new entries may stay unproven.
    probation_bytes: u64,
}

/// Which slot is evicted, and from which queue.
pub(crate) struct Victim {
    pub(crate) slot: u32,
    pub(crate) queue: Which,
}

impl Queues {
    pub(crate) const fn new(budget_bytes: u64) -> Self {
        const EMPTY: Queue = Queue { newest: NONE, oldest: NONE, len: 0, bytes: 0 };
        Self { probation: EMPTY, proven: EMPTY, probation_bytes: budget_bytes / 20 }
    }

    /// Bytes of all slots in both queues.
    pub(crate) const fn used_bytes(&self) -> u64 {
        self.probation.bytes + self.proven.bytes
    }

    pub(crate) const fn proven_len(&self) -> u32 {
        self.proven.len
    }

    /// Appends slot `at` to the newest end of the queue that its links name.
    pub(crate) fn push<V>(&mut self, slots: &mut Arena<Slot<V>>, at: u32) {
        let queue = self.queue(slots[at].links.queue);
        let older = queue.newest;
        slots[at].links.newer = NONE;
        slots[at].links.older = older;
        match older {
            NONE => queue.oldest = at,
            older => slots[older].links.newer = at,
        }
        queue.newest = at;
        queue.len += 1;
        queue.bytes += slots[at].charge_bytes;
    }

    /// Takes slot `at` out of its queue; its links are meaningless afterwards.
    pub(crate) fn unlink<V>(&mut self, slots: &mut Arena<Slot<V>>, at: u32) {
        let Links { newer, older, queue, .. } = slots[at].links;
        let queue = self.queue(queue);
        match newer {
            NONE => queue.newest = older,
            newer => slots[newer].links.older = older,
        }
        match older {
            NONE => queue.oldest = newer,
            older => slots[older].links.newer = newer,
        }
        queue.len -= 1;
        queue.bytes -= slots[at].charge_bytes;
    }

    /// The arena moved a slot to `to`: updates its neighbours.
    pub(crate) fn rename<V>(&mut self, slots: &mut Arena<Slot<V>>, to: u32) {
        let Links { newer, older, queue, .. } = slots[to].links;
        let queue = self.queue(queue);
        match newer {
            NONE => queue.newest = to,
            newer => slots[newer].links.older = to,
        }
        match older {
            NONE => queue.oldest = to,
            older => slots[older].links.newer = to,
        }
    }

    /// Chooses the victim, and moves the slots that are spared. `None` only if there is no slot.
    ///
    /// While probation exceeds its share, its oldest slot is taken: evicted if it was never used, moved to proven if it
    /// was. Otherwise the oldest proven slot is evicted, unless its uses pay for another round.
    pub(crate) fn victim<V>(&mut self, slots: &mut Arena<Slot<V>>) -> Option<Victim> {
        let mut spared = 0;
        loop {
            let from_probation = self.probation.bytes >= self.probation_bytes || self.proven.len == 0;
            let queue = if from_probation && self.probation.len > 0 { Which::Probation } else { Which::Proven };
            let at = self.queue(queue).oldest;
            if at == NONE {
                return None;
            }
            if slots[at].links.uses == 0 || spared == SPARED_MAX {
                return Some(Victim { slot: at, queue });
            }
            spared += 1;
            let price = self.price(slots[at].charge_bytes);
            self.unlink(slots, at);
            let links = &mut slots[at].links;
            links.uses = match queue {
                Which::Probation => 0,
                Which::Proven => links.uses.saturating_sub(price),
            };
            links.queue = Which::Proven;
            self.push(slots, at);
        }
    }

    /// What another round costs an entry, in uses: one, and one more for each half of the mean size. Without it many
    /// small answers would be evicted for one large answer that is requested no more often.
    fn price(&self, charge_bytes: u64) -> u8 {
        let len = u64::from(self.probation.len + self.proven.len).max(1);
        let half_mean = (self.used_bytes() / len / 2).max(1);
        (charge_bytes / half_mean).saturating_add(1).min(u64::from(USES_MAX)) as u8
    }

    fn queue(&mut self, which: Which) -> &mut Queue {
        match which {
            Which::Probation => &mut self.probation,
            Which::Proven => &mut self.proven,
        }
    }

    /// Panics unless the queues link every slot once, in both directions, and their sums are right.
    pub(crate) fn check<V>(&self, slots: &Arena<Slot<V>>) {
        let mut met = 0;
        for (which, queue) in [(Which::Probation, &self.probation), (Which::Proven, &self.proven)] {
            let (mut at, mut newer, mut len, mut bytes) = (queue.newest, NONE, 0, 0);
            while at != NONE {
                let slot = &slots[at];
                assert_eq!((slot.links.newer, slot.links.queue), (newer, which), "links of slot {at}");
                assert!(slot.links.uses <= USES_MAX);
                bytes += slot.charge_bytes;
                len += 1;
                assert!(len <= queue.len, "the links form a cycle");
                (newer, at) = (at, slot.links.older);
            }
            assert_eq!((newer, len, bytes), (queue.oldest, queue.len, queue.bytes), "ends and sums of a queue");
            met += len;
        }
        assert_eq!(met, slots.len(), "each slot is in a queue");
    }
}
