//! The HTTP/2 connections of one core to one backend, and the streams on each. Owned by that core; holds no timer. Must
//! never exceed the streams that a peer allows, nor open one on a connection that is going away or whose address the
//! backend no longer has.

use crate::Millis;
use alloc::sync::Arc;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBounds {
    /// At first; see [`Streams::resize`].
    pub connections_max: usize,
    /// Streams per connection; the peer may allow fewer.
    pub streams_max: u32,
    /// How long a connection without streams is kept.
    pub idle_ms: u64,
}

/// Identifies a connection; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Connections `C`, each with the address `A` that it was dialled to, and one that is being opened.
pub struct Streams<C, A> {
    bounds: StreamBounds,
    /// Current addresses of the backend.
    addresses: Arc<[A]>,
    open: Vec<Connection<C, A>>,
    dialling: usize,
    serial: u64,
    /// How many streams a connection is expected to have room for: as many as the last one.
    expected: u32,
}

struct Connection<C, A> {
    id: ConnectionId,
    connection: C,
    address: A,
    streams: u32,
    limit: u32,
    /// Its peer is going away, or the backend has left its address.
    retired: bool,
    /// Its place is wanted for another core: no new streams, closed with the last one.
    yielding: bool,
    idle_since: Millis,
}

/// Where to open a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Slot<C> {
    /// On this connection; it ends in [`Streams::give_back`].
    Use { id: ConnectionId, connection: C },
    /// Open a connection; it ends in [`Streams::dialled`] or [`Streams::dial_failed`].
    Dial,
    /// One is being opened: ask again when it is open.
    Wait,
    /// All streams are in use: ask again when one is given back.
    Full,
}

impl<C: Clone, A: PartialEq> Streams<C, A> {
    pub const fn new(bounds: StreamBounds, addresses: Arc<[A]>) -> Self {
        Self { bounds, addresses, open: Vec::new(), dialling: 0, serial: 0, expected: bounds.streams_max }
    }

    /// Reserves a stream on the fullest open connection with room, so that few connections are needed and the others
    /// can close.
    pub fn take_open(&mut self) -> Option<(ConnectionId, C)> {
        let with_room = self.open.iter_mut().filter(|one| one.takes_streams() && one.streams < one.limit);
        with_room.max_by_key(|one| one.streams).map(|fullest| {
            fullest.streams += 1;
            (fullest.id, fullest.connection.clone())
        })
    }

    /// Reserves a stream, or says how to get one.
    pub fn take(&mut self) -> Slot<C> {
        if let Some((id, connection)) = self.take_open() {
            return Slot::Use { id, connection };
        }
        // One dial at a time: waiting requests find room on that connection, or open the next.
        if self.dialling > 0 {
            return Slot::Wait;
        }
        if self.counted() >= self.bounds.connections_max {
            return Slot::Full;
        }
        self.dialling += 1;
        Slot::Dial
    }

    /// A connection was opened; the peer allows `limit` streams. One stream is reserved for the request that opened it;
    /// if the backend no longer has `address`, that is the only one.
    pub fn dialled(&mut self, connection: C, address: A, limit: u32, now: Millis) -> ConnectionId {
        self.dialling = self.dialling.saturating_sub(1);
        self.serial += 1;
        let id = ConnectionId(self.serial);
        // Treats a limit of 0 as 1: the opening request needs one stream.
        let limit = limit.min(self.bounds.streams_max).max(1);
        self.expected = limit;
        let retired = !self.addresses.contains(&address);
        let yielding = false;
        self.open.push(Connection { id, connection, address, streams: 1, limit, retired, yielding, idle_since: now });
        id
    }

    /// The connection could not be opened.
    pub fn dial_failed(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
    }

    /// A stream has ended. No effect if its connection is lost.
    pub fn give_back(&mut self, id: ConnectionId, now: Millis) {
        let Some(place) = self.place(id) else { return };
        let one = &mut self.open[place];
        debug_assert!(one.streams > 0, "a stream is given back once");
        one.streams = one.streams.saturating_sub(1);
        one.idle_since = now;
        if !one.takes_streams() && one.streams == 0 {
            self.open.swap_remove(place);
        }
    }

    /// The peer's new limit on streams. Open streams beyond it stay.
    pub fn limit(&mut self, id: ConnectionId, limit: u32) {
        if let Some(place) = self.place(id) {
            self.open[place].limit = limit.min(self.bounds.streams_max);
            self.expected = limit.clamp(1, self.bounds.streams_max.max(1));
        }
    }

    /// The peer is going away (GOAWAY, RFC 9113 6.8): no new streams, and removed with the last one.
    pub fn retire(&mut self, id: ConnectionId) {
        let Some(place) = self.place(id) else { return };
        self.open[place].retired = true;
        if self.open[place].streams == 0 {
            self.open.swap_remove(place);
        }
    }

    /// The connection is lost, with every stream on it.
    pub fn lost(&mut self, id: ConnectionId) {
        if let Some(place) = self.place(id) {
            self.open.swap_remove(place);
        }
    }

    /// Moves connections that had no stream for too long to `closing`, but keeps at least `kept`. For a timer.
    pub fn reap(&mut self, now: Millis, kept: usize, closing: &mut Vec<C>) {
        let (idle_ms, mut surplus) = (self.bounds.idle_ms, self.connections().saturating_sub(kept));
        let over = |one: &mut Connection<C, A>| {
            let over = surplus > 0 && one.streams == 0 && now.since(one.idle_since) >= idle_ms;
            surplus -= usize::from(over);
            over
        };
        closing.extend(self.open.extract_if(.., over).map(|one| one.connection));
    }

    /// The backend now has `addresses`, in any order. Connections to other addresses get no new streams; those without
    /// streams are moved to `closing`, the others are removed with their last stream.
    pub fn moved(&mut self, addresses: Arc<[A]>, closing: &mut Vec<C>) {
        self.addresses = addresses;
        for one in self.open.iter_mut().filter(|one| !self.addresses.contains(&one.address)) {
            one.retired = true;
        }
        closing.extend(self.open.extract_if(.., |one| one.retired && one.streams == 0).map(|one| one.connection));
    }

    /// Moves every connection without streams to `closing`, and opens no new stream on the others.
    pub fn drain(&mut self, closing: &mut Vec<C>) {
        closing.extend(self.open.extract_if(.., |one| one.streams == 0).map(|one| one.connection));
        self.open.iter_mut().for_each(|one| one.retired = true);
    }

    /// There may be so many connections from now on. Never fewer than are [counted](Self::counted).
    pub fn resize(&mut self, connections_max: usize) {
        self.bounds.connections_max = connections_max;
    }

    /// Takes out a connection without streams, to be closed: the place of one is wanted elsewhere.
    pub fn close_idle(&mut self) -> Option<C> {
        let idle = self.open.iter().position(|one| one.streams == 0)?;
        Some(self.open.swap_remove(idle).connection)
    }

    /// The place of a connection is wanted elsewhere: the one with the fewest streams gets no new ones, and leaves with the last.
    pub fn yield_one(&mut self) {
        if self.open.iter().any(|one| one.yielding) {
            return;
        }
        let live = self.open.iter_mut().filter(|one| one.takes_streams());
        if let Some(emptiest) = live.min_by_key(|one| one.streams) {
            emptiest.yielding = true;
        }
    }

    /// None is wanted elsewhere any more.
    pub fn keep_all(&mut self) {
        self.open.iter_mut().for_each(|one| one.yielding = false);
    }

    /// How many streams there may be with so many connections: those that are open, and such as have to be opened yet.
    pub fn capacity(&self, connections: usize) -> u32 {
        let room = |one: &Connection<C, A>| if one.takes_streams() { one.limit.max(one.streams) } else { one.streams };
        let open: u32 = self.open.iter().map(room).fold(0, u32::saturating_add);
        let unopened = connections.saturating_sub(self.counted() - self.dialling) as u32;
        open.saturating_add(unopened.saturating_mul(self.expected))
    }

    /// How many connections it takes for so many streams.
    pub fn needed(&self, streams: u32) -> usize {
        let missing = streams.saturating_sub(self.capacity(0));
        self.counted().max(self.counted() - self.dialling + missing.div_ceil(self.expected.max(1)) as usize)
    }

    /// Connections without streams.
    pub fn idle(&self) -> usize {
        self.open.iter().filter(|one| one.streams == 0).count()
    }

    /// Connections that count: open ones, and those that are being opened. Not those that their peers are ending.
    pub fn counted(&self) -> usize {
        self.open.iter().filter(|one| !one.retired).count() + self.dialling
    }

    /// Open streams, on live and retired connections.
    pub fn streams(&self) -> u32 {
        self.open.iter().map(|one| one.streams).sum()
    }

    /// Connections open or being opened.
    pub fn connections(&self) -> usize {
        self.open.len() + self.dialling
    }

    fn place(&self, id: ConnectionId) -> Option<usize> {
        self.open.iter().position(|one| one.id == id)
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.counted() <= self.bounds.connections_max, "{} connections", self.counted());
        assert!(self.dialling <= 1, "one dial at a time");
        assert!(self.open.iter().all(|one| one.streams <= self.bounds.streams_max.max(1)), "streams per connection");
        let is_over = |one: &Connection<C, A>| !one.takes_streams() && one.streams == 0;
        assert!(!self.open.iter().any(is_over), "a connection that gets no streams and has none");
        let leads = |one: &Connection<C, A>| one.retired || self.addresses.contains(&one.address);
        assert!(self.open.iter().all(leads), "a live connection to a former address");
    }
}

impl<C, A> Connection<C, A> {
    fn takes_streams(&self) -> bool {
        !self.retired && !self.yielding
    }
}

#[cfg(test)]
mod tests;
