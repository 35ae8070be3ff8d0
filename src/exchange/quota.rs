//! One core's part of the limits of tenants: what it has leased, and the ledgers of the limits whose home it is.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use memchr::memmem::Finder;
use shards::quota::{Ask, Grant, InParts, Leases, Ledger, LimitId, Now, Period, Returned, Share, Slot, Store, Taken};

use crate::net::{now_ms, unix_ms};

/// What stands in front of a file's data within a prompt.
pub const FILE_MARK: &str = ";base64,";

/// The clock of limits begins so many seconds before the process: it has numbers for what another process has counted.
pub const EARLIER_S: u64 = 100;

/// A ledger that passes to another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    pub id: LimitId,
    pub period: Period,
    pub counts: Vec<(Slot, u64)>,
}

/// One core's part of all limits.
pub struct Quota {
    pub(super) files: Finder<'static>,
    pub(super) leases: RefCell<Leases>,
    /// Of the limits whose home this core is, where this node has them to itself, and where several nodes share them.
    pub(super) ledgers: RefCell<InParts<Ledger>>,
    pub(super) shares: RefCell<InParts<Share>>,
    /// None where this node has its limits to itself.
    pub(super) store: Cell<Option<Store>>,
    /// Another process keeps the ledgers.
    pub(super) handed: Cell<bool>,
    /// Those that wait for a grant.
    waiting: RefCell<Vec<Waker>>,
    /// Lists for reuse.
    spare: RefCell<Vec<Vec<Taken>>>,
    /// Whether somebody keeps what counts over a restart.
    pub(super) is_kept: Cell<bool>,
    /// All that was ever used, for a simulation that compares it with what the ledgers count.
    #[cfg(sim)]
    used: RefCell<shards::quota::ByLimit<u64>>,
}

const SPARE_MAX: usize = 1024;

impl Default for Quota {
    fn default() -> Self {
        Quota {
            files: Finder::new(FILE_MARK),
            leases: RefCell::default(),
            ledgers: RefCell::default(),
            shares: RefCell::default(),
            store: Cell::new(None),
            handed: Cell::new(false),
            waiting: RefCell::default(),
            spare: RefCell::default(),
            is_kept: Cell::new(false),
            #[cfg(sim)]
            used: RefCell::default(),
        }
    }
}

impl Quota {
    /// The home core of a limit has answered.
    pub fn granted(&self, id: LimitId, grant: Grant) {
        self.leases.borrow_mut().granted(id, grant, now());
        for waker in std::mem::take(&mut *self.waiting.borrow_mut()) {
            waker.wake();
        }
    }

    pub(super) fn settled(&self, id: LimitId, period: Period, returned: &Returned) {
        if self.store.get().is_none() {
            let mut ledgers = self.ledgers.borrow_mut();
            ledgers.get_or_insert_with(id, || Ledger::new(period)).settle(returned, now());
        } else {
            let mut shares = self.shares.borrow_mut();
            shares.get_or_insert_with(id, || Share::new(period, 0)).settle(returned, now());
        }
    }

    pub(super) fn grant(&self, id: LimitId, ask: Ask, cores: u16) -> Grant {
        let mut ledgers = self.ledgers.borrow_mut();
        ledgers.get_or_insert_with(id, || Ledger::new(ask.period)).grant(ask, cores, now())
    }

    pub(super) fn give(&self, mut taken: Vec<Taken>) {
        let mut spare = self.spare.borrow_mut();
        if taken.capacity() > 0 && spare.len() < SPARE_MAX {
            taken.clear();
            spare.push(taken);
        }
    }

    #[cfg(sim)]
    pub(super) fn note_used(&self, id: LimitId, amount: u64) {
        *self.used.borrow_mut().entry(id).or_default() += amount;
    }

    #[cfg(not(sim))]
    pub(super) fn note_used(&self, _: LimitId, _: u64) {}

    /// What counts against a limit, where this core is its home; what this core holds of it; and what it has used.
    #[cfg(sim)]
    pub fn counted(&self, id: u64) -> (u64, u64, u64) {
        let id = LimitId(id);
        let counted = self.ledgers.borrow().get(id).map_or(0, |ledger| ledger.counted(now()));
        (counted, self.leases.borrow().left(id), self.used.borrow().get(&id).copied().unwrap_or(0))
    }

    /// A list for reuse.
    pub(super) fn list(&self) -> Vec<Taken> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Waits for a grant.
    pub(super) async fn next_grant(&self) {
        let mut begun = false;
        poll_fn(|context| {
            if std::mem::replace(&mut begun, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// By both clocks.
pub(super) fn now() -> Now {
    Now { mono: shards::Millis(now_ms() + EARLIER_S * 1_000), unix_ms: unix_ms() }
}
