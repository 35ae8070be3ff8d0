//! The connections of one core to one backend: idle ones to reuse, leased ones by count. Owned by that core; a leased
//! connection is owned by its exchange. Holds no timer: the caller calls `reap`. Must never hand out a connection past
//! its idle limit or to an address that the backend no longer has, nor exceed the cap on open connections.

use crate::Millis;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bounds of one pool, for one core: the caller divides a node's caps by its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBounds {
    /// Idle connections kept; others are closed when they are given back.
    pub idle_max: usize,
    /// Idle and leased together; `None` leaves the bound to the limits on requests in flight.
    pub open_max: Option<usize>,
    /// Connections to open in advance; see [`Pool::lacks`].
    pub open_min: usize,
    /// How long a connection may be idle and still be reused.
    pub idle_ms: u64,
}

/// Idle connections `C`, most recently used on top: it is the most likely to be alive and warm, and the bottom ages
/// out. Each has the address `A` that it was dialled to.
pub struct Pool<C, A> {
    bounds: PoolBounds,
    /// Current addresses of the backend: few, and searched for each connection that is given back.
    addresses: Arc<[A]>,
    idle: Vec<Idle<C, A>>,
    leased: usize,
}

struct Idle<C, A> {
    connection: C,
    address: A,
    until: Millis,
}

/// Every `Reuse` and `Dial` is one lease: it ends in `give_back` or `lost`, exactly once.
#[derive(Debug, PartialEq, Eq)]
pub enum Take<C, A> {
    Reuse {
        connection: C,
        address: A,
    },
    /// Open a new connection. It counts as leased from now on; if dialling fails, call `lost`.
    Dial,
    /// The cap is reached and no connection is idle.
    Full,
}

impl<C, A: PartialEq> Pool<C, A> {
    pub const fn new(bounds: PoolBounds, addresses: Arc<[A]>) -> Self {
        Self { bounds, addresses, idle: Vec::new(), leased: 0 }
    }

    /// Leases a connection. Connections past their idle limit are dropped, which must close them.
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

    /// As [`take`](Self::take), but never opens a connection.
    pub fn take_idle(&mut self, now: Millis) -> Option<(C, A)> {
        while let Some(Idle { connection, address, until }) = self.idle.pop() {
            if now < until {
                self.leased += 1;
                return Some((connection, address));
            }
        }
        None
    }

    /// Leases a connection to be opened now, even if others are idle: `Dial` or `Full`.
    pub fn take_fresh(&mut self) -> Take<C, A> {
        if self.bounds.open_max.is_some_and(|open_max| self.open() >= open_max) {
            return Take::Full;
        }
        self.leased += 1;
        Take::Dial
    }

    /// Ends a lease with a reusable connection. Returns a connection to close: the same one if the backend no longer
    /// has its address, the one longest idle if the pool is full.
    pub fn give_back(&mut self, connection: C, address: A, now: Millis) -> Option<C> {
        self.give_back_for(connection, address, now, self.bounds.idle_ms)
    }

    /// Like [`give_back`](Self::give_back), with the peer's own idle time-out. The pool's limit still applies; the
    /// caller subtracts the travel time of a request.
    pub fn give_back_for(&mut self, connection: C, address: A, now: Millis, idle_ms: u64) -> Option<C> {
        self.lost();
        if self.bounds.idle_max == 0 || !self.addresses.contains(&address) {
            return Some(connection);
        }
        let closed = (self.idle.len() >= self.bounds.idle_max).then(|| self.idle.remove(0).connection);
        self.idle.push(Idle { connection, address, until: now.after(idle_ms.min(self.bounds.idle_ms)) });
        closed
    }

    /// The backend now has `addresses`, in any order. Moves idle connections to addresses it no longer has to
    /// `closing`; leased ones are closed when they are given back.
    pub fn moved(&mut self, addresses: Arc<[A]>, closing: &mut Vec<C>) {
        self.addresses = addresses;
        let gone = self.idle.extract_if(.., |idle| !self.addresses.contains(&idle.address));
        closing.extend(gone.map(|idle| idle.connection));
    }

    /// How many connections to open to reach `open_min`. Each is to be leased with [`take_fresh`](Self::take_fresh) and
    /// given back.
    pub fn lacks(&self) -> usize {
        let wanted = self.bounds.open_min.min(self.bounds.idle_max).min(self.bounds.open_max.unwrap_or(usize::MAX));
        wanted.saturating_sub(self.open())
    }

    /// Ends a lease without a connection: it failed, was closed, or was never opened.
    pub fn lost(&mut self) {
        debug_assert!(self.leased > 0, "a lease ends once");
        self.leased = self.leased.saturating_sub(1);
    }

    /// Moves connections past their idle limit to `closing`. For a timer.
    pub fn reap(&mut self, now: Millis, closing: &mut Vec<C>) {
        closing.extend(self.idle.extract_if(.., |idle| idle.until <= now).map(|idle| idle.connection));
    }

    /// Moves every idle connection to `closing`: the backend is removed, or the node drains.
    pub fn drain(&mut self, closing: &mut Vec<C>) {
        closing.extend(self.idle.drain(..).map(|idle| idle.connection));
    }

    /// Takes out the longest idle connection, to be closed.
    pub fn close_idle(&mut self) -> Option<C> {
        (!self.idle.is_empty()).then(|| self.idle.remove(0).connection)
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

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.idle.len() <= self.bounds.idle_max, "{} idle, at most {}", self.idle.len(), self.bounds.idle_max);
        if let Some(open_max) = self.bounds.open_max {
            assert!(self.open() <= open_max, "{} open, at most {open_max}", self.open());
        }
        assert!(
            self.idle.iter().all(|idle| self.addresses.contains(&idle.address)),
            "an idle connection to a former address"
        );
    }
}

#[cfg(test)]
mod tests;
