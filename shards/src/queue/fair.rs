//! The order in which waiters are served: by priority, then fairly over tenants by weight, then by arrival. Owned by a
//! [`Queue`](super::Queue). Start-time fair queueing (Goyal, Vin, Cheng 1996): a tenant's next request carries a tag on
//! a virtual time that advances with what is served, and the lowest tag is first. So a tenant that asks for less than
//! its share is served next, however many requests the others have queued.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// For whom a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// 0 is served first, 9 last.
    pub priority: u8,
    pub tenant: u32,
    /// Its share among the tenants of the same priority, which may be another one each time; 0 counts as 1.
    pub weight: u32,
}

/// What is served first: its priority, and the weight of the tenants of that priority together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    pub priority: u8,
    pub weight: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) serial: u64,
    pub(super) priority: u8,
    pub(super) tenant: u32,
}

/// A priority that waits is served at the latest after so many others (and after those that are due as well): the more
/// urgent ones keep 15/16 or more, and no priority waits for ever.
pub const PASSED_MAX: u32 = 16;

/// Virtual time that one request takes at weight 1. Above the largest weight, so that each weight counts.
const ROUND: u64 = 1 << 20;

/// Tenants that are kept for their last tag though none of their requests waits, before they are looked through.
const IDLE_MAX: usize = 32;

#[derive(Debug)]
pub struct Fair<W> {
    /// By priority, each from its first use on.
    classes: Vec<Class<W>>,
    waiting: usize,
    serial: u64,
}

/// The waiters of one priority.
#[derive(Debug)]
struct Class<W> {
    priority: u8,
    flows: BTreeMap<u32, Flow<W>>,
    /// Tenants of whom a request waits, by tag.
    order: BTreeSet<(Tag, u32)>,
    /// The same by how long their queues are, relative to their weights.
    by_length: BTreeSet<(u64, u32)>,
    waiting: usize,
    /// Of those tenants together.
    weight: u64,
    /// Virtual time: the tag that was served last.
    now: u64,
    /// Requests of other priorities served since one of this priority was.
    passed: u32,
    /// At how many tenants the idle ones are looked through.
    prune_at: usize,
}

/// When a tenant's next request is due, and which one was there first if several are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    start: u64,
    serial: u64,
}

/// The waiters of one tenant, in order of arrival.
#[derive(Debug)]
struct Flow<W> {
    waiting: VecDeque<(u64, W)>,
    weight: u32,
    /// Of the first; meaningless if none waits.
    tag: Tag,
    /// The tag of its next request, if that comes soon.
    finish: u64,
}

impl<W> Flow<W> {
    fn stride(&self) -> u64 {
        stride(self.weight)
    }

    fn length(&self) -> u64 {
        length(self.waiting.len(), self.weight)
    }
}

fn stride(weight: u32) -> u64 {
    (ROUND / u64::from(weight.max(1))).max(1)
}

fn length(waiting: usize, weight: u32) -> u64 {
    (waiting as u64).saturating_mul(stride(weight))
}

impl<W> Fair<W> {
    pub const fn new() -> Self {
        Self { classes: Vec::new(), waiting: 0, serial: 0 }
    }

    pub fn len(&self) -> usize {
        self.waiting
    }

    /// The most urgent priority that waits.
    pub fn front(&self) -> Option<Front> {
        let first = self.classes.iter().find(|class| class.waiting > 0)?;
        Some(Front { priority: first.priority, weight: first.weight })
    }

    /// How many of a tenant's requests of a priority wait.
    pub fn waiting_of(&self, who: Who) -> usize {
        let class = self.classes.iter().find(|class| class.priority == who.priority);
        class.and_then(|class| class.flows.get(&who.tenant)).map_or(0, |flow| flow.waiting.len())
    }

    pub fn push(&mut self, who: Who, waiter: W) -> Place {
        let place = match self.classes.binary_search_by_key(&who.priority, |class| class.priority) {
            Ok(place) => place,
            Err(place) => {
                self.classes.insert(place, Class::new(who.priority));
                place
            }
        };
        self.serial += 1;
        self.waiting += 1;
        self.classes[place].push(self.serial, who, waiter);
        Place { serial: self.serial, priority: who.priority, tenant: who.tenant }
    }

    /// Takes the next one to serve.
    pub fn pop(&mut self) -> Option<(Place, W)> {
        let waits = |class: &&mut Class<W>| class.waiting > 0;
        let first = self.classes.iter().find(|class| class.waiting > 0)?.priority;
        // Of those that are due, the one that was passed over most often; the more urgent of two.
        let due = self.classes.iter().rev().filter(|class| class.waiting > 0 && class.passed >= PASSED_MAX);
        let priority = due.max_by_key(|class| class.passed).map_or(first, |class| class.priority);
        for class in self.classes.iter_mut().filter(waits) {
            class.passed = if class.priority == priority { 0 } else { class.passed.saturating_add(1) };
        }
        let class = self.class_mut(priority)?;
        let (serial, tenant, waiter) = class.pop()?;
        self.waiting -= 1;
        Some((Place { serial, priority, tenant }, waiter))
    }

    /// Takes one out of turn; none if it is not here.
    pub fn remove(&mut self, place: Place) -> Option<W> {
        let removed = self.class_mut(place.priority)?.remove(place.tenant, place.serial);
        self.waiting -= usize::from(removed.is_some());
        removed
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut W> {
        let flow = self.class_mut(place.priority)?.flows.get_mut(&place.tenant)?;
        let index = flow.waiting.binary_search_by_key(&place.serial, |(serial, _)| *serial).ok()?;
        Some(&mut flow.waiting[index].1)
    }

    /// Whether a newcomer may take the place of one that waits: of a less urgent one, or of a tenant with a longer
    /// queue for its weight. So no tenant can fill the queue against the others.
    pub fn yields_to(&self, who: Who) -> bool {
        let Some(last) = self.classes.iter().rfind(|class| class.waiting > 0) else { return false };
        if last.priority != who.priority {
            return last.priority > who.priority;
        }
        let own = last.flows.get(&who.tenant).map_or(0, |flow| flow.waiting.len());
        last.by_length.last().is_some_and(|(longest, _)| *longest > length(own + 1, who.weight))
    }

    /// Takes out the newcomer of the longest queue among the least urgent.
    pub fn displace(&mut self) -> Option<(Place, W)> {
        let class = self.classes.iter_mut().rfind(|class| class.waiting > 0)?;
        let (_, tenant) = *class.by_length.last()?;
        let (serial, _) = *class.flows.get(&tenant)?.waiting.back()?;
        let waiter = class.remove(tenant, serial)?;
        self.waiting -= 1;
        Some((Place { serial, priority: class.priority, tenant }, waiter))
    }

    /// About how many are served before a newcomer, if nobody else comes.
    pub fn ahead(&self, who: Who) -> u64 {
        let urgent = self.classes.iter().take_while(|class| class.priority < who.priority);
        let urgent: u64 = urgent.map(|class| class.waiting as u64).sum();
        let own = self.classes.iter().find(|class| class.priority == who.priority);
        urgent.saturating_add(own.map_or(0, |class| class.ahead(who)))
    }

    fn class_mut(&mut self, priority: u8) -> Option<&mut Class<W>> {
        self.classes.iter_mut().find(|class| class.priority == priority)
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert_eq!(self.waiting, self.classes.iter().map(|class| class.waiting).sum::<usize>(), "waiters by priority");
        assert!(self.classes.is_sorted_by(|one, next| one.priority < next.priority), "priorities in order");
        self.classes.iter().for_each(Class::check);
    }
}

impl<W> Class<W> {
    fn new(priority: u8) -> Class<W> {
        Class {
            priority,
            flows: BTreeMap::new(),
            order: BTreeSet::new(),
            by_length: BTreeSet::new(),
            waiting: 0,
            weight: 0,
            now: 0,
            passed: 0,
            prune_at: IDLE_MAX,
        }
    }

    fn push(&mut self, serial: u64, who: Who, waiter: W) {
        let (now, tenant) = (self.now, who.tenant);
        let tag = Tag { start: 0, serial: 0 };
        let new = || Flow { waiting: VecDeque::new(), weight: who.weight.max(1), tag, finish: 0 };
        let flow = self.flows.entry(tenant).or_insert_with(new);
        if flow.waiting.is_empty() {
            flow.weight = who.weight.max(1);
            flow.tag = Tag { start: flow.finish.max(now), serial };
            self.weight += u64::from(flow.weight);
            self.order.insert((flow.tag, tenant));
        } else {
            self.by_length.remove(&(flow.length(), tenant));
            self.weight = self.weight - u64::from(flow.weight) + u64::from(who.weight.max(1));
            flow.weight = who.weight.max(1);
        }
        flow.waiting.push_back((serial, waiter));
        self.by_length.insert((flow.length(), tenant));
        self.waiting += 1;
    }

    fn pop(&mut self) -> Option<(u64, u32, W)> {
        let (tag, tenant) = self.order.pop_first()?;
        let flow = self.flows.get_mut(&tenant)?;
        self.by_length.remove(&(flow.length(), tenant));
        let (serial, waiter) = flow.waiting.pop_front()?;
        self.now = tag.start;
        flow.finish = tag.start.saturating_add(flow.stride());
        if let Some((next, _)) = flow.waiting.front() {
            flow.tag = Tag { start: flow.finish, serial: *next };
            self.order.insert((flow.tag, tenant));
            self.by_length.insert((flow.length(), tenant));
        } else {
            self.weight -= u64::from(flow.weight);
        }
        self.left();
        Some((serial, tenant, waiter))
    }

    fn remove(&mut self, tenant: u32, serial: u64) -> Option<W> {
        let flow = self.flows.get_mut(&tenant)?;
        let index = flow.waiting.binary_search_by_key(&serial, |(serial, _)| *serial).ok()?;
        self.by_length.remove(&(flow.length(), tenant));
        let (_, waiter) = flow.waiting.remove(index)?;
        if flow.waiting.is_empty() {
            self.order.remove(&(flow.tag, tenant));
            self.weight -= u64::from(flow.weight);
        } else {
            self.by_length.insert((flow.length(), tenant));
        }
        self.left();
        Some(waiter)
    }

    /// One has left.
    fn left(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            // A new beginning: whoever comes first then is served first.
            self.flows.clear();
            (self.now, self.passed, self.prune_at) = (0, 0, IDLE_MAX);
        } else if self.flows.len() > self.prune_at {
            let now = self.now;
            self.flows.retain(|_, flow| !flow.waiting.is_empty() || flow.finish > now);
            self.prune_at = self.flows.len().saturating_mul(2).max(IDLE_MAX);
        }
    }

    fn ahead(&self, who: Who) -> u64 {
        let own = self.flows.get(&who.tenant).filter(|flow| !flow.waiting.is_empty());
        let (weight, waiting) = own.map_or((who.weight.max(1), 0), |flow| (flow.weight, flow.waiting.len() as u64));
        let others = self.weight - own.map_or(0, |flow| u64::from(flow.weight));
        // By their weights, the others are served so many while this tenant is served all of its own.
        let before = (waiting + 1).saturating_mul(others).div_ceil(u64::from(weight));
        waiting + before.min(self.waiting as u64 - waiting)
    }

    fn check(&self) {
        let flows = || self.flows.iter().filter(|(_, flow)| !flow.waiting.is_empty());
        assert_eq!(self.waiting, flows().map(|(_, flow)| flow.waiting.len()).sum::<usize>(), "waiters by tenant");
        assert_eq!(self.weight, flows().map(|(_, flow)| u64::from(flow.weight)).sum::<u64>(), "weights");
        assert_eq!(self.order.len(), flows().count(), "a tag for each tenant");
        assert_eq!(self.by_length.len(), flows().count(), "a length for each tenant");
        for (tenant, flow) in flows() {
            assert!(self.order.contains(&(flow.tag, *tenant)), "its tag");
            assert!(self.by_length.contains(&(flow.length(), *tenant)), "its length");
            assert!(flow.tag.start >= self.now, "virtual time passes over nobody");
            assert!(flow.tag.start <= self.now.saturating_add(ROUND), "nobody is put off for more than a round");
            assert!(flow.waiting.iter().is_sorted_by_key(|(serial, _)| *serial), "in order of arrival");
        }
        assert!(self.waiting > 0 || self.flows.is_empty(), "idle tenants are forgotten");
    }
}

#[cfg(test)]
mod tests;
