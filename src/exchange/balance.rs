//! What a core has done in the last interval, published for the others, and how many of its connections it gives away in this one.
//! A request looks at two numbers of its own core; the rest happens once per interval.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use shards::CoreId;
use shards::rebalance::{CoreLoad, Gift, Giver};

use super::board::Board;

/// The number of an interval in which a connection has been counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen(u64);

/// How long a client of HTTP/2 may take to connect anew.
const RECONNECT_MS: u64 = 2_000;

/// See [`Balance::hold`].
pub struct Running<'a>(&'a Cell<u16>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

pub struct Balance {
    board: Arc<Board>,
    own: CoreId,
    giver: RefCell<Giver>,
    /// The number of this interval, and how many connections had a request in it.
    interval: Cell<u64>,
    active: Cell<u16>,
    /// What is still to be given, and to whom.
    left: Cell<u16>,
    to: Cell<u16>,
    /// Connections that have a request.
    running: Cell<u16>,
    /// Where the client goes that was asked to connect anew, if it does so by this time.
    expected: Cell<Option<(CoreId, u64)>>,
    /// When the interval began, and how long the core had waited until then.
    begun_us: Cell<u64>,
    waited_us: Cell<u64>,
    /// Who ends the intervals, while there is nothing to count.
    waiting: Cell<Option<Waker>>,
}

impl Balance {
    pub fn new(own: CoreId, board: Arc<Board>) -> Balance {
        Balance {
            board,
            own,
            giver: RefCell::default(),
            interval: Cell::new(1),
            active: Cell::default(),
            left: Cell::default(),
            to: Cell::default(),
            running: Cell::default(),
            expected: Cell::default(),
            begun_us: Cell::default(),
            waited_us: Cell::default(),
            waiting: Cell::default(),
        }
    }

    /// A connection has a request.
    pub fn note(&self, seen: &mut Seen) {
        if seen.0 != self.interval.get() {
            seen.0 = self.interval.get();
            self.active.set(self.active.get().saturating_add(1));
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
    }

    /// A connection has requests until this is dropped.
    pub fn hold(&self) -> Running<'_> {
        self.running.set(self.running.get().saturating_add(1));
        Running(&self.running)
    }

    /// Whether connections are to be given away.
    pub fn has_gift(&self) -> bool {
        self.left.get() > 0
    }

    /// Where one of them goes.
    pub fn take_gift(&self) -> Option<CoreId> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(CoreId(self.to.get()))
    }

    /// Whether a client of HTTP/2 is to connect anew, so that its connection can go where there is less to do: no more than one at
    /// a time, and one of those that are to be given away.
    pub fn take_reconnect(&self, now_ms: u64) -> bool {
        if self.expected.get().is_some_and(|(_, until_ms)| now_ms < until_ms) {
            return false;
        }
        let to = self.take_gift();
        self.expected.set(to.map(|to| (to, now_ms.saturating_add(RECONNECT_MS))));
        to.is_some()
    }

    /// Where a new connection of HTTP/2 goes, if not here.
    pub fn place(&self, now_ms: u64) -> Option<CoreId> {
        match self.expected.take() {
            Some((to, until_ms)) if now_ms < until_ms => Some(to),
            _ => self.take_gift(),
        }
    }

    /// Gives `count` of the next connections that have been served to core `to`.
    pub fn give(&self, to: CoreId, count: u16) {
        self.to.set(to.0);
        self.left.set(count);
    }

    /// Waits for a request.
    pub async fn noted(&self) {
        poll_fn(|context| {
            if self.active.get() > 0 {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Begins the first interval after a pause.
    pub fn begin(&self, now_us: u64, waited_us: u64) {
        self.begun_us.set(now_us);
        self.waited_us.set(waited_us);
    }

    /// Ends an interval: publishes it and decides for the next. Returns whether anything happened in it.
    pub fn end_interval(&self, now_us: u64, waited_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.begun_us.replace(now_us)).max(1);
        let waited = waited_us.saturating_sub(self.waited_us.replace(waited_us)).min(elapsed_us);
        // Some of those that run do so since before.
        let active = self.active.replace(0).max(self.running.get());
        let busy_permille = ((elapsed_us - waited) * 1000 / elapsed_us) as u16;
        let own = usize::from(self.own.0);
        self.board.publish_load(own, CoreLoad { busy_permille, active });
        self.interval.set(self.interval.get() + 1);
        let loads: Vec<CoreLoad> = (0..self.board.cores()).map(|core| self.board.load(core)).collect();
        match self.giver.borrow_mut().next(own, &loads) {
            Some(Gift { to, count }) => self.give(CoreId(to as u16), count),
            None => self.left.set(0),
        }
        active > 0
    }

    /// Publishes that there is nothing to do here, and gives nothing.
    pub fn rest(&self) {
        self.board.publish_load(usize::from(self.own.0), CoreLoad::default());
        self.left.set(0);
    }
}
