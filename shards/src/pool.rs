//! The connections of one core to one backend: idle ones to reuse, leased ones by count.
//! Owned by that core; a leased connection is owned by its exchange. Holds no timer: the caller calls `reap`.
//! Must never hand out a connection past its idle limit or to an address that the backend has left, nor let more be open
//! than the cap allows.

use crate::Millis;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bounds of one pool. They are one core's part: the caller divides a node's caps over its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBounds {
    /// Idle connections kept; more are closed when they come back.
    pub idle_max: usize,
    /// Idle and leased together; `None` leaves it to the limits on requests in flight.
    pub open_max: Option<usize>,
    /// Connections to be opened ahead of need; see [`Pool::lacks`].
    pub open_min: usize,
    /// How long a connection may lie idle and still be reused.
    pub idle_ms: u64,
}

/// Idle connections `C`, the latest used on top: it is the likeliest to be alive and warm, and the bottom can age out.
/// Each has the address `A` that it was dialled to.
pub struct Pool<C, A> {
    bounds: PoolBounds,
    /// Where the backend is now: few, and looked through for each connection that comes back.
    addresses: Arc<[A]>,
    idle: Vec<Idle<C, A>>,
    leased: usize,
}

struct Idle<C, A> {
    connection: C,
    address: A,
    until: Millis,
}

/// Every `Reuse` and `Dial` is one lease: it ends in `give_back` or in `lost`, exactly once.
#[derive(Debug, PartialEq, Eq)]
pub enum Take<C, A> {
    Reuse {
        connection: C,
        address: A,
    },
    /// Open a new connection. It counts as leased from now on; if dialling fails, that is `lost`.
    Dial,
    /// The cap is reached and nothing is idle.
    Full,
}

impl<C, A: PartialEq> Pool<C, A> {
    pub const fn new(bounds: PoolBounds, addresses: Arc<[A]>) -> Self {
        Self { bounds, addresses, idle: Vec::new(), leased: 0 }
    }

    /// Leases a connection. Those found past their idle limit are dropped in here, which has to close them.
    pub fn take(&mut self, now: Millis) -> Take<C, A> {
        if let Some((connection, address)) = self.take_idle(now) {
            return Take::Reuse { connection, address };
        }
        if self.bounds.open_max.is_some_and(|open_max| self.leased >= open_max) {
            return Take::Full;
        }
        self.leased += 1;
        Take::Dial
    }

    /// As [`take`](Self::take), where none is to be opened.
    pub fn take_idle(&mut self, now: Millis) -> Option<(C, A)> {
        while let Some(Idle { connection, address, until }) = self.idle.pop() {
            if now < until {
                self.leased += 1;
                return Some((connection, address));
            }
        }
        None
    }

    /// Leases a connection that is opened now, whatever lies idle: `Dial` or `Full`.
    pub fn take_fresh(&mut self) -> Take<C, A> {
        if self.bounds.open_max.is_some_and(|open_max| self.open() >= open_max) {
            return Take::Full;
        }
        self.leased += 1;
        Take::Dial
    }

    /// Ends a lease with a connection that can serve again. Returns one that has to be closed: the same, if the backend
    /// has left its address, or the longest idle, if the pool has its fill.
    pub fn give_back(&mut self, connection: C, address: A, now: Millis) -> Option<C> {
        self.give_back_for(connection, address, now, self.bounds.idle_ms)
    }

    /// Like [`give_back`](Self::give_back), where the peer said how long it keeps an idle connection open. The pool's
    /// own limit still holds; the caller takes off what the last request may need to travel.
    pub fn give_back_for(&mut self, connection: C, address: A, now: Millis, idle_ms: u64) -> Option<C> {
        self.lost();
        if self.bounds.idle_max == 0 || !self.addresses.contains(&address) {
            return Some(connection);
        }
        let closed = (self.idle.len() >= self.bounds.idle_max).then(|| self.idle.remove(0).connection);
        self.idle.push(Idle { connection, address, until: now.after(idle_ms.min(self.bounds.idle_ms)) });
        closed
    }

    /// The backend is at `addresses` now, in whatever order. Moves idle connections to one that it has left to `closing`;
    /// those that are leased finish what they do and end when they come back.
    pub fn moved(&mut self, addresses: Arc<[A]>, closing: &mut Vec<C>) {
        self.addresses = addresses;
        let gone = self.idle.extract_if(.., |idle| !self.addresses.contains(&idle.address));
        closing.extend(gone.map(|idle| idle.connection));
    }

    /// How many more connections to open, so that as many are there as should be ahead of need. Each is to be taken with
    /// [`take_fresh`](Self::take_fresh) and given back.
    pub fn lacks(&self) -> usize {
        let wanted = self.bounds.open_min.min(self.bounds.idle_max).min(self.bounds.open_max.unwrap_or(usize::MAX));
        wanted.saturating_sub(self.open())
    }

    /// Ends a lease without a connection: it died, was closed, or was never opened.
    pub fn lost(&mut self) {
        debug_assert!(self.leased > 0, "a lease ends once");
        self.leased = self.leased.saturating_sub(1);
    }

    /// Moves the connections past their idle limit to `closing`. For a timer.
    pub fn reap(&mut self, now: Millis, closing: &mut Vec<C>) {
        closing.extend(self.idle.extract_if(.., |idle| idle.until <= now).map(|idle| idle.connection));
    }

    /// Moves every idle connection to `closing`: the backend is gone, or the node drains.
    pub fn drain(&mut self, closing: &mut Vec<C>) {
        closing.extend(self.idle.drain(..).map(|idle| idle.connection));
    }

    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    pub fn leased(&self) -> usize {
        self.leased
    }

    /// Idle and leased together.
    pub fn open(&self) -> usize {
        self.idle.len() + self.leased
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.idle.len() <= self.bounds.idle_max, "{} idle, at most {}", self.idle.len(), self.bounds.idle_max);
        if let Some(open_max) = self.bounds.open_max {
            assert!(self.open() <= open_max, "{} open, at most {open_max}", self.open());
        }
        assert!(self.idle.iter().all(|idle| self.addresses.contains(&idle.address)), "an idle one leads nowhere");
    }
}

#[cfg(test)]
mod tests;
