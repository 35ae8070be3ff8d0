//! A limit that several nodes share, at its home core on one of them. What the nodes were granted stands in a store: for each node
//! how much in all, as that node says it itself with every question. So nothing that gets lost between them is lost for long, in
//! neither direction. Without the store a node grants no more than its part. Owned by the limit's home core; sends nothing itself.

use alloc::vec::Vec;

use super::{Ask, Grant, Lease, Ledger, LimitState, Look, Now, Period, Slot};
use crate::Millis;

/// An answer that took longer is void: what it grants is too old.
const ANSWER_MS: u64 = 1_000;
/// Whoever asks while the store has been silent for so long gets of this node's part. More than the store is given to answer, so
/// that this is so only where nobody says in time that there is no answer.
const SILENCE_MS: u64 = 700;
/// What is said of a request that is larger than the part of a node, which is all there is without the store.
const AGAIN_MS: u64 = 1_000;
/// Of what the node holds, a core gets for those that wait this part at most, and ahead of need this part divided by the cores.
const WANTED: u64 = 2;
const AHEAD: u64 = 4;

/// The store, as far as a core knows, and how many nodes share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Up { nodes: u16 },
    Down { nodes: u16 },
}

impl Store {
    fn nodes(self) -> u64 {
        let (Store::Up { nodes } | Store::Down { nodes }) = self;
        u64::from(nodes.max(1))
    }

    fn down(self) -> Store {
        Store::Down { nodes: self.nodes() as u16 }
    }
}

/// A question to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub asked: Millis,
    pub period: Period,
    /// Of a calendar period, which one.
    pub slot: Slot,
    pub limit: u64,
    /// Both 0: nothing is asked for, the store is only told.
    pub need: u64,
    pub want: u64,
    /// What counts of all that this node was granted.
    pub mine: u64,
    /// Whether something is to be granted.
    pub is_ask: bool,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub amount: u64,
    /// What is left of the limit besides.
    pub free: u64,
}

/// What is to be said.
#[derive(Debug, Default)]
pub struct Told {
    /// To cores, in answer to what they asked.
    pub grants: Vec<(u16, Grant)>,
    /// To the store.
    pub fetch: Option<Fetch>,
}

/// A node's part of a limit.
#[derive(Debug)]
pub struct Share {
    period: Period,
    limit: u64,
    /// Of what the store granted, what no core has.
    lease: Lease,
    /// All that this node was granted, by the store or by itself, and has not given back.
    own: Ledger,
    /// Cores that wait, and what for.
    waiting: Vec<(u16, Ask)>,
    /// What the store has of this node, as far as is known.
    reported: Option<u64>,
    /// Since when something was asked for and nothing was heard.
    silent: Option<Millis>,
}

impl Share {
    pub fn new(period: Period, limit: u64) -> Self {
        let (lease, own) = (Lease::new(period, limit), Ledger::of_node(period));
        Self { period, limit, lease, own, waiting: Vec::new(), reported: Some(0), silent: None }
    }

    /// One of `cores` asks for a slice. What it asked for before is void: it asks again because there was no answer.
    pub fn ask(&mut self, from: u16, ask: Ask, cores: u16, store: Store, now: Now) -> Told {
        self.limit = ask.limit;
        self.waiting.retain(|(core, _)| *core != from);
        self.waiting.push((from, ask));
        let is_silent = self.silent.is_some_and(|since| now.mono.since(since) >= SILENCE_MS);
        self.serve(cores, if is_silent { store.down() } else { store }, now)
    }

    /// The store has answered `fetch`, or will not: then those that wait get of this node's part. They must not ask again at once,
    /// for whoever says that there is no answer may be ahead of the news that the store is down.
    pub fn fetched(&mut self, fetch: &Fetch, answer: Option<Fetched>, cores: u16, store: Store, now: Now) -> Told {
        let is_late = now.mono.since(fetch.asked) >= ANSWER_MS;
        let answer = answer.filter(|_| !is_late);
        self.silent = self.silent.filter(|_| is_late);
        // A late grant is not counted here, so that the store hears of it with the next question.
        self.reported = answer.map(|answer| fetch.mine.saturating_add(answer.amount));
        if !fetch.is_ask {
            return Told::default();
        }
        // Unless it was asked again since then.
        if self.lease.asked() == Some(fetch.asked) {
            match answer {
                Some(answer) => self.granted(fetch, answer, now),
                None => self.lease.unanswered(),
            }
        }
        let store = if answer.is_some() { store } else { store.down() };
        self.serve(cores, store, now)
    }

    fn granted(&mut self, fetch: &Fetch, answer: Fetched, now: Now) {
        // It lives from when it was asked for: the store has counted it since then at the latest.
        let slot = match self.period {
            Period::Minute => self.period.slot(Now { mono: fetch.asked, ..now }),
            Period::Day | Period::Week | Period::Month => fetch.slot,
        };
        let Fetched { amount, free } = answer;
        self.own.add(slot, amount);
        let is_short = fetch.need > 0 && amount < fetch.need;
        let short = is_short.then(|| (fetch.need, self.freed_in_ms(fetch, free, now)));
        let (period, limit) = (self.period, fetch.limit);
        self.lease.granted(Grant { period, limit, slot, amount, free, short }, now);
        self.count_returned(now);
    }

    /// In how many milliseconds there may be room, by what this node was granted; of others it is not known when they were.
    fn freed_in_ms(&self, fetch: &Fetch, free: u64, now: Now) -> u64 {
        let ask = Ask { period: self.period, limit: fetch.limit, need: fetch.need, want: 0 };
        self.own.freed_in_ms(fetch.limit.saturating_sub(free), ask, now)
    }

    /// A core gives back what it was granted.
    pub fn settle(&mut self, returned: &super::Returned, now: Now) {
        for (slot, amount) in &returned.unspent {
            self.lease.put_back(*slot, *amount, now);
        }
        if returned.overspent > 0 {
            self.lease.overspend(returned.overspent, now);
        }
        self.count_returned(now);
    }

    /// About once a second: gives back what is idle, and tells the store what has changed.
    pub fn sweep(&mut self, now: Now) -> Option<Fetch> {
        self.lease.sweep(now);
        self.count_returned(now);
        let fetch = Fetch {
            is_ask: false,
            ..self.fetch(Ask { period: self.period, limit: self.limit, need: 0, want: 0 }, now)
        };
        let is_news = self.reported != Some(fetch.mine) || self.silent.is_some();
        (is_news && self.lease.asked().is_none()).then_some(fetch)
    }

    /// Whether nothing is known that a new one would not know.
    pub fn is_empty(&mut self, now: Now) -> bool {
        self.waiting.is_empty() && self.lease.is_empty(now) && self.own.is_empty(now) && self.reported == Some(0)
    }

    /// What counts of what this node was granted.
    pub fn counted(&self, now: Now) -> u64 {
        self.own.counted(now)
    }

    /// What is known of it, and held of it, here.
    pub fn state(&self, now: Now) -> LimitState {
        LimitState { held: self.lease.left(), left: self.lease.free(now), ..self.own.state(now) }
    }

    pub const fn period(&self) -> Period {
        self.period
    }

    fn serve(&mut self, cores: u16, store: Store, now: Now) -> Told {
        let mut told = Told::default();
        for (from, ask) in core::mem::take(&mut self.waiting) {
            match self.grant(ask, cores, store, now, &mut told.fetch) {
                Some(grant) => told.grants.push((from, grant)),
                None => self.waiting.push((from, ask)),
            }
        }
        told
    }

    /// `None` while the store is asked.
    fn grant(&mut self, ask: Ask, cores: u16, store: Store, now: Now, fetch: &mut Option<Fetch>) -> Option<Grant> {
        let (period, limit) = (self.period, ask.limit);
        let left = self.lease.left();
        let ahead = left / (AHEAD * u64::from(cores.max(1)));
        let target = ahead.max(ask.want.min(left / WANTED)).max(ask.need);
        if let Some((slot, amount)) = self.lease.cut(ask.need, target, now) {
            if let (Store::Up { .. }, Some(ahead)) = (store, self.lease.ahead(now)) {
                self.silent.get_or_insert(now.mono);
                *fetch = Some(self.fetch(Ask { limit, ..ahead }, now));
            }
            let free = self.lease.remaining().min(limit);
            return Some(Grant { period, limit, slot, amount, free, short: None });
        }
        let nothing = Grant { period, limit, slot: period.slot(now), amount: 0, free: 0, short: None };
        if ask.need == 0 {
            return Some(nothing);
        }
        match store {
            Store::Down { .. } => {
                let part = (limit / store.nodes()).max(1);
                if ask.need > part {
                    return Some(Grant { short: Some((ask.need, AGAIN_MS)), ..nothing });
                }
                let grant = self.own.grant(Ask { limit: part, ..ask }, cores, now);
                Some(Grant { limit, ..grant })
            }
            Store::Up { .. } => {
                let look = self.lease.look(ask.need, limit, now);
                self.count_returned(now);
                match look {
                    Look::Ask(ask) => {
                        self.silent.get_or_insert(now.mono);
                        *fetch = Some(self.fetch(ask, now));
                        None
                    }
                    Look::There(_) | Look::Wait => None,
                    Look::Short { in_ms } => Some(Grant { short: Some((ask.need, in_ms)), ..nothing }),
                    Look::TooMuch => Some(Grant { short: Some((ask.need, AGAIN_MS)), ..nothing }),
                }
            }
        }
    }

    fn fetch(&self, ask: Ask, now: Now) -> Fetch {
        let Ask { period, limit, need, want } = ask;
        Fetch {
            asked: now.mono,
            period,
            slot: period.slot(now),
            limit,
            need,
            want,
            mine: self.own.counted(now),
            is_ask: true,
        }
    }

    /// What is given back counts no longer; what was used beyond grants does.
    fn count_returned(&mut self, now: Now) {
        if let Some(returned) = self.lease.take_returned() {
            self.own.settle(&returned, now);
        }
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        self.lease.check();
        self.own.check();
    }
}
