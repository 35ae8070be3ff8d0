//! How many requests may be with a model, and how many connections open to a backend: caps of the node, lent to the
//! cores that need them. A core holds the permits that it uses and returns the others. The counts are relaxed atomics, each
//! on its own cache line: no locks, no blocking, and never more permits out than the cap.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shards::{Front, PASSED_MAX, Who};

use crate::config::snapshot::{Backend, Model};

/// Priorities of requests; what is beyond counts as the last.
const PRIORITIES: usize = 10;
/// Places in which the waiting requests of a cap are counted by tenant. Tenants with numbers that far apart share one, and then
/// each weighs less than it should on a core where the other does not wait.
const TENANTS: usize = 1024;
/// The weight 1 of a tenant of whom nothing waits on other cores; less than one of these is no weight.
const WEIGHT_UNIT: u64 = 128;

/// A cap of the node. Any core may use all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub u32);

impl Cap {
    /// Requests with a model.
    pub fn of_model(model: &Model) -> Cap {
        Cap(model.max_concurrent_requests)
    }

    /// HTTP/1.1 connections to a backend.
    pub fn of_http1(backend: &Backend) -> Cap {
        Cap(backend.connections.max)
    }

    /// HTTP/2 connections to a backend: streams are bounded by those. One that is shared by many streams does not pass from core
    /// to core at every request, so that there is at least one for each core.
    pub fn of_http2(backend: &Backend, cores: u16) -> Cap {
        Cap(backend.http2_connections.max.max(cores.into()))
    }
}

/// What the cores share of one cap. No other memory is published by these counts, so relaxed order is enough.
#[repr(align(64))]
pub struct NodePermits {
    cap: Cap,
    cores: u32,
    /// Permits that no core holds.
    free: AtomicU32,
    /// Cores on which a request waits for a permit.
    wanting: AtomicU32,
    /// The same by the most urgent priority that waits there.
    wanting_at: [AtomicU32; PRIORITIES],
    /// Those of them that hold less than their part.
    below_part_at: [AtomicU32; PRIORITIES],
    /// The weight of the tenants that wait on them, together.
    weight_at: [AtomicU64; PRIORITIES],
    /// Requests that wait, by tenant.
    waiting_of: Box<[AtomicU32]>,
}

impl NodePermits {
    pub fn new(cap: Cap, cores: u16) -> NodePermits {
        let cores = u32::from(cores.max(1));
        // A core without others holds the whole cap for good.
        let free = if cores == 1 { 0 } else { cap.0 };
        let [wanting_at, below_part_at] = Default::default();
        let tenants = if free == 0 { 0 } else { TENANTS };
        NodePermits {
            cap,
            cores,
            free: free.into(),
            wanting: 0.into(),
            wanting_at,
            below_part_at,
            weight_at: Default::default(),
            waiting_of: (0..tenants).map(|_| AtomicU32::default()).collect(),
        }
    }
}

/// One core's permits of one cap.
pub struct CorePermits {
    node: Arc<NodePermits>,
    held: Cell<u32>,
    /// The most urgent priority that waits here, and how much of it.
    front: Cell<Option<Front>>,
    /// How many permits have gone to more urgent requests of other cores since one was served here.
    passed: Cell<u32>,
    /// What the node's counts include of this core.
    is_wanting: Cell<bool>,
    wanting_at: Cell<Option<u8>>,
    below_part_at: Cell<Option<u8>>,
    weight_at: Cell<Option<(u8, u64)>>,
}

/// A request that is counted among those of its tenant that wait, while this lives.
pub struct Waits(Option<(Arc<NodePermits>, usize)>);

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some((node, place)) = &self.0 {
            node.waiting_of[*place].fetch_sub(1, Relaxed);
        }
    }
}

impl CorePermits {
    pub fn new(node: Arc<NodePermits>) -> CorePermits {
        let held = if node.cores == 1 { node.cap.0 } else { 0 };
        CorePermits {
            node,
            held: Cell::new(held),
            front: Cell::default(),
            passed: Cell::default(),
            is_wanting: Cell::default(),
            wanting_at: Cell::default(),
            below_part_at: Cell::default(),
            weight_at: Cell::default(),
        }
    }

    pub fn held(&self) -> u32 {
        self.held.get()
    }

    /// Whether permits go from core to core.
    pub fn are_lent(&self) -> bool {
        self.node.cores > 1
    }

    /// Takes one more permit, for a request of this priority. Whether there was one: none is free, or those that are free are for
    /// more urgent requests of other cores, or for a core with less than its part.
    pub fn take(&self, priority: u8) -> bool {
        if !self.are_lent() || self.node.free.load(Relaxed) == 0 {
            return false;
        }
        let rank = self.rank(priority);
        if self.are_for_others(rank, self.held.get() >= self.part(rank).max(1)) {
            // It has none to pass on, and this is the same.
            if self.held.get() == 0 && self.is_wanting.get() {
                self.pass();
            }
            return false;
        }
        let taken = self.node.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).is_ok();
        if taken {
            self.held.set(self.held.get() + 1);
            self.publish();
        }
        taken
    }

    /// Returns all but `keep`.
    pub fn keep(&self, keep: u32) {
        let returned = self.held.get().saturating_sub(keep);
        if returned > 0 && self.are_lent() {
            self.held.set(keep);
            self.node.free.fetch_add(returned, Relaxed);
            self.publish();
        }
    }

    /// A request waits on this core. Whether that is new.
    pub fn begin_wanting(&self) -> bool {
        let is_new = !self.is_wanting.get();
        self.count_wanting(true);
        is_new
    }

    /// No request waits any more.
    pub fn end_wanting(&self) {
        self.count_wanting(false);
    }

    /// What waits on this core.
    pub fn show(&self, front: Option<Front>) {
        if self.front.replace(front) != front {
            self.publish();
        }
    }

    /// One more request of a tenant waits here.
    pub fn count_waiting(&self, tenant: u32) -> Waits {
        let place = tenant as usize % TENANTS;
        let counted = self.node.waiting_of.get(place).map(|count| {
            count.fetch_add(1, Relaxed);
            (self.node.clone(), place)
        });
        Waits(counted)
    }

    /// A tenant with as much of its weight as there is of its requests on this core, where `here` wait already. So all cores
    /// together serve it by its weight.
    pub fn who_here(&self, who: Who, here: usize) -> Who {
        let Some(all) = self.node.waiting_of.get(who.tenant as usize % TENANTS) else { return who };
        let (all, here) = (u64::from(all.load(Relaxed)) + 1, here as u64 + 1);
        let weight = u64::from(who.weight.max(1)) * WEIGHT_UNIT * here / all.max(here);
        Who { weight: weight.clamp(1, u64::from(u32::MAX)) as u32, ..who }
    }

    /// A request that waited on this core was served.
    pub fn served(&self, front: Option<Front>) {
        self.passed.set(0);
        self.front.set(front);
        self.publish();
    }

    /// Whether the next permit that is not used goes to another core: one on which a more urgent request waits, or one that waits
    /// with less than its part. So that none waits for ever, a core that has passed on its turn so many times takes one.
    pub fn owes_one(&self) -> bool {
        let Some(front) = self.front.get() else { return false };
        // With fewer permits than cores they go round.
        let rank = self.rank(front.priority);
        let owes = self.are_for_others(rank, self.held.get() > self.part(rank));
        if owes {
            self.pass();
        }
        owes
    }

    fn pass(&self) {
        self.passed.set(self.passed.get().saturating_add(1));
        self.publish();
    }

    /// Whether one goes to another core although nobody waits on this one: others want some, and this core has more than its part
    /// with theirs.
    pub fn owes_unasked(&self) -> bool {
        let others = self.node.wanting.load(Relaxed).saturating_sub(u32::from(self.is_wanting.get()));
        others > 0 && self.front.get().is_none() && self.held.get() > (self.node.cap.0 / (others + 1)).max(1)
    }

    /// Whether a permit for which nobody waits on this core goes to another one. That core has announced its wait once, when
    /// this one may have had none to give.
    pub fn owes_idle(&self) -> bool {
        self.are_lent() && self.front.get().is_none() && self.are_wanted_elsewhere()
    }

    /// Whether a request waits on another core.
    pub fn are_wanted_elsewhere(&self) -> bool {
        self.node.wanting.load(Relaxed) > u32::from(self.is_wanting.get())
    }

    /// Permits of the node that no core holds.
    #[cfg(any(test, sim))]
    pub fn free(&self) -> u32 {
        self.node.free.load(Relaxed)
    }

    /// The part of this core among those on which requests of `rank` wait: by the weight of their tenants.
    fn part(&self, rank: usize) -> u32 {
        let own = self.front.get().map_or(WEIGHT_UNIT, |front| front.weight.max(1));
        let shown = self.weight_at.get().filter(|(at, _)| usize::from(*at) == rank).map_or(0, |(_, weight)| weight);
        let others = self.node.weight_at[rank].load(Relaxed).saturating_sub(shown);
        let part = u128::from(self.node.cap.0) * u128::from(own) / (u128::from(own) + u128::from(others));
        part as u32
    }

    /// How urgent a request of this core is among those of all.
    fn rank(&self, priority: u8) -> usize {
        if self.passed.get() >= PASSED_MAX { 0 } else { usize::from(priority).min(PRIORITIES - 1) }
    }

    /// Whether a free permit is for another core: there a more urgent request than one of `rank` waits; or, where this core has
    /// what is its part, one as urgent waits with less.
    fn are_for_others(&self, rank: usize, has_its_part: bool) -> bool {
        let beside = |counts: &[AtomicU32], own: Option<u8>| {
            let own = own.map(usize::from);
            counts.iter().enumerate().any(|(at, count)| count.load(Relaxed) > u32::from(own == Some(at)))
        };
        beside(&self.node.wanting_at[..rank], self.wanting_at.get())
            || has_its_part && beside(&self.node.below_part_at[..=rank], self.below_part_at.get())
    }

    fn count_wanting(&self, now: bool) {
        adjust(&self.node.wanting, self.is_wanting.replace(now), now);
        self.publish();
    }

    /// Shows the others what waits here, and whether that has less than its part.
    pub fn publish(&self) {
        let front = self.front.get().unwrap_or(Front { priority: PRIORITIES as u8, weight: 0 });
        let now = self.is_wanting.get().then(|| self.rank(front.priority) as u8);
        change(&self.node.wanting_at, self.wanting_at.replace(now), now);
        let weight = now.map(|rank| (rank, front.weight.max(1)));
        let before = self.weight_at.replace(weight);
        if before != weight {
            before
                .into_iter()
                .for_each(|(at, weight)| _ = self.node.weight_at[usize::from(at)].fetch_sub(weight, Relaxed));
            weight
                .into_iter()
                .for_each(|(at, weight)| _ = self.node.weight_at[usize::from(at)].fetch_add(weight, Relaxed));
        }
        let below = now.filter(|rank| self.held.get() < self.part(usize::from(*rank)).max(1));
        change(&self.node.below_part_at, self.below_part_at.replace(below), below);
    }
}

/// Moves what is counted of a core from one priority to another.
fn change(counts: &[AtomicU32; PRIORITIES], before: Option<u8>, now: Option<u8>) {
    if before != now {
        before.into_iter().for_each(|at| _ = counts[usize::from(at)].fetch_sub(1, Relaxed));
        now.into_iter().for_each(|at| _ = counts[usize::from(at)].fetch_add(1, Relaxed));
    }
}

fn adjust(count: &AtomicU32, before: bool, now: bool) {
    match (before, now) {
        (false, true) => _ = count.fetch_add(1, Relaxed),
        (true, false) => _ = count.fetch_sub(1, Relaxed),
        (true, true) | (false, false) => {}
    }
}

#[cfg(test)]
mod tests;
