//! The HTTP/2 connections of one core to one backend, and the streams on each. Owned by that core; holds no timer.
//! Must never put more streams on a connection than its peer allows, nor new ones on a connection that is going away or
//! leads to an address that the backend has left.

use crate::Millis;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One core's part of a node's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBounds {
    pub connections_max: usize,
    /// Streams on one connection; the peer may allow fewer.
    pub streams_max: u32,
    /// How long a connection without a stream is kept.
    pub idle_ms: u64,
}

/// Names a connection as long as the machine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Connections `C`, each with the address `A` that it was dialled to, and one that is being opened.
pub struct Streams<C, A> {
    bounds: StreamBounds,
    /// Where the backend is now.
    addresses: Arc<[A]>,
    open: Vec<Connection<C, A>>,
    dialling: usize,
    serial: u64,
}

struct Connection<C, A> {
    id: ConnectionId,
    connection: C,
    address: A,
    streams: u32,
    limit: u32,
    retired: bool,
    idle_since: Millis,
}

/// Where a stream goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Slot<C> {
    /// On this connection; it ends in [`Streams::give_back`].
    Use { id: ConnectionId, connection: C },
    /// Open a connection; that ends in [`Streams::dialled`] or [`Streams::dial_failed`].
    Dial,
    /// One is being opened already: ask again when it is.
    Wait,
    /// Everything is taken: ask again when a stream is given back.
    Full,
}

impl<C: Clone, A: PartialEq> Streams<C, A> {
    pub const fn new(bounds: StreamBounds, addresses: Arc<[A]>) -> Self {
        Self { bounds, addresses, open: Vec::new(), dialling: 0, serial: 0 }
    }

    /// A place for a stream on the fullest open connection that has room, so that few are needed and the others may close.
    pub fn take_open(&mut self) -> Option<(ConnectionId, C)> {
        let with_room = self.open.iter_mut().filter(|one| !one.retired && one.streams < one.limit);
        with_room.max_by_key(|one| one.streams).map(|fullest| {
            fullest.streams += 1;
            (fullest.id, fullest.connection.clone())
        })
    }

    /// A place for a stream, or how to come by one.
    pub fn take(&mut self) -> Slot<C> {
        if let Some((id, connection)) = self.take_open() {
            return Slot::Use { id, connection };
        }
        // One at a time: whoever waits for it finds room on it, or opens the next one.
        if self.dialling > 0 {
            return Slot::Wait;
        }
        if self.live() >= self.bounds.connections_max {
            return Slot::Full;
        }
        self.dialling += 1;
        Slot::Dial
    }

    /// A connection was opened; the peer allows `limit` streams on it. One stream on it is taken, by whoever opened it;
    /// if the backend has left `address` meanwhile, that is the only one.
    pub fn dialled(&mut self, connection: C, address: A, limit: u32, now: Millis) -> ConnectionId {
        self.dialling = self.dialling.saturating_sub(1);
        self.serial += 1;
        let id = ConnectionId(self.serial);
        // Before its settings come, a peer may be thought to allow one.
        let limit = limit.min(self.bounds.streams_max).max(1);
        let retired = !self.addresses.contains(&address);
        self.open.push(Connection { id, connection, address, streams: 1, limit, retired, idle_since: now });
        id
    }

    /// It could not be opened.
    pub fn dial_failed(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
    }

    /// A stream is over. Nothing happens for a connection that is lost.
    pub fn give_back(&mut self, id: ConnectionId, now: Millis) {
        let Some(place) = self.place(id) else { return };
        let one = &mut self.open[place];
        debug_assert!(one.streams > 0, "a stream ends once");
        one.streams = one.streams.saturating_sub(1);
        one.idle_since = now;
        if one.retired && one.streams == 0 {
            self.open.swap_remove(place);
        }
    }

    /// The peer allows so many streams now. Those that are open beyond it stay.
    pub fn limit(&mut self, id: ConnectionId, limit: u32) {
        if let Some(place) = self.place(id) {
            self.open[place].limit = limit.min(self.bounds.streams_max);
        }
    }

    /// The peer is going away (GOAWAY, RFC 9113 6.8): no new stream, and forgotten with the last one.
    pub fn retire(&mut self, id: ConnectionId) {
        let Some(place) = self.place(id) else { return };
        self.open[place].retired = true;
        if self.open[place].streams == 0 {
            self.open.swap_remove(place);
        }
    }

    /// The connection is gone, with every stream on it.
    pub fn lost(&mut self, id: ConnectionId) {
        if let Some(place) = self.place(id) {
            self.open.swap_remove(place);
        }
    }

    /// Moves connections without a stream for too long to `closing`, as long as more than `kept` are there. For a timer.
    pub fn reap(&mut self, now: Millis, kept: usize, closing: &mut Vec<C>) {
        let (idle_ms, mut surplus) = (self.bounds.idle_ms, self.connections().saturating_sub(kept));
        let over = |one: &mut Connection<C, A>| {
            let over = surplus > 0 && one.streams == 0 && now.since(one.idle_since) >= idle_ms;
            surplus -= usize::from(over);
            over
        };
        closing.extend(self.open.extract_if(.., over).map(|one| one.connection));
    }

    /// The backend is at `addresses` now, in whatever order. Connections to one that it has left take no new stream; those
    /// without one are moved to `closing`, the others are forgotten with their last.
    pub fn moved(&mut self, addresses: Arc<[A]>, closing: &mut Vec<C>) {
        self.addresses = addresses;
        for one in self.open.iter_mut().filter(|one| !self.addresses.contains(&one.address)) {
            one.retired = true;
        }
        closing.extend(self.open.extract_if(.., |one| one.retired && one.streams == 0).map(|one| one.connection));
    }

    /// Moves every connection without a stream to `closing`, and takes no new stream on the others.
    pub fn drain(&mut self, closing: &mut Vec<C>) {
        closing.extend(self.open.extract_if(.., |one| one.streams == 0).map(|one| one.connection));
        self.open.iter_mut().for_each(|one| one.retired = true);
    }

    /// Streams that are open on live and on retired connections.
    pub fn streams(&self) -> u32 {
        self.open.iter().map(|one| one.streams).sum()
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> usize {
        self.open.len() + self.dialling
    }

    fn live(&self) -> usize {
        self.open.iter().filter(|one| !one.retired).count() + self.dialling
    }

    fn place(&self, id: ConnectionId) -> Option<usize> {
        self.open.iter().position(|one| one.id == id)
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.live() <= self.bounds.connections_max, "{} connections", self.live());
        assert!(self.dialling <= 1, "one dial at a time");
        assert!(self.open.iter().all(|one| one.streams <= self.bounds.streams_max.max(1)), "streams of a connection");
        assert!(self.open.iter().all(|one| !one.retired || one.streams > 0), "a retired one is there for its streams");
        let leads = |one: &Connection<C, A>| one.retired || self.addresses.contains(&one.address);
        assert!(self.open.iter().all(leads), "one that takes streams leads nowhere");
    }
}

#[cfg(test)]
mod tests;
