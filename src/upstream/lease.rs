//! A connection to a backend for one request: one of HTTP/1.1, kept alive from before or new, or a stream of HTTP/2.
//! It comes back to its pool once, and only in a certain state.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use shards::{ConnectionId, Fault, Take};

use super::connect::{self, Found, Fresh, Opened};
use super::deadlines::Deadlines;
use super::queue::{self, At, QueuePermit};
use super::route::Plan;
use super::upstreams::Upstreams;
use crate::net::http2::{self, Http2Fault};
use crate::net::watch::Watch;
use crate::net::{Dial, Duplex, now_ms};

/// Where a leased connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It served before and may have gone stale: one free retry.
    Reused,
    Fresh,
}

/// Which connections are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Fresh,
}

/// What carries the request and its answer.
pub enum Carrier {
    Http1(Duplex),
    /// A place on a connection, until the request is sent.
    Http2(http2::Connection),
    /// The request's own stream.
    Stream(Box<http2::Stream>),
}

/// How a lease is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// A connection of its own.
    Whole,
    /// One stream on this connection.
    Stream(ConnectionId),
    /// It has ended.
    Nothing,
}

/// A leased connection. Dropped, it is closed and counted as lost.
pub struct Lease {
    upstreams: Rc<Upstreams>,
    backend: usize,
    carrier: Option<Carrier>,
    /// Where a connection of its own leads.
    address: Option<Dial>,
    held: Held,
    pub origin: Origin,
    /// The right to one of the backend's connections or streams.
    _turn: QueuePermit,
}

/// Leases a connection for `plan` that is there already. `None`: something has to be waited for, as [`connection`] does.
/// Errors: too many wait already.
pub fn connection_now(upstreams: &Rc<Upstreams>, plan: &Plan, wanted: Wanted) -> Result<Option<Lease>, Fault> {
    let Some(permit) = queue::permit_now(upstreams, At::Backend(plan.backend), plan.claim)? else { return Ok(None) };
    let mut lease = Lease::new(upstreams, plan.backend, permit);
    Ok((lease.find_stream() || wanted == Wanted::Any && lease.find_idle()).then_some(lease))
}

/// Leases a connection for `plan`, waiting for one if the backend has as many as it may. Errors: every address refused,
/// no secure connection, or the wait or the dial took too long.
pub async fn connection(
    upstreams: &Rc<Upstreams>,
    plan: &Plan,
    wanted: Wanted,
    deadlines: Deadlines,
) -> Result<Lease, Fault> {
    let backend = plan.backend;
    let permit = permit(upstreams, plan, deadlines).await?;
    let mut lease = Lease::new(upstreams, backend, permit);
    if upstreams.backends[backend].may_speak_http2() {
        if lease.find_stream() {
            return Ok(lease);
        }
        let found = Box::pin(connect::stream(upstreams, backend, deadlines)).await;
        match found.map_err(|fault| deadlines.fault(fault))? {
            Found::Stream(id, connection) => {
                lease.take((id, connection));
                return Ok(lease);
            }
            Found::Http1(Some(opened)) => {
                if !matches!(upstreams.backends[backend].pool.borrow_mut().take_fresh(), Take::Dial) {
                    return Err(Fault::Connect);
                }
                lease.held = Held::Whole;
                lease.carry(opened);
                return Ok(lease);
            }
            Found::Http1(None) => {}
        }
    }
    if wanted == Wanted::Any && lease.find_idle() {
        return Ok(lease);
    }
    queue::make_room(upstreams, backend);
    let Take::Dial = upstreams.backends[backend].pool.borrow_mut().take_fresh() else {
        return Err(Fault::Connect); // bounded by the permits: there is always room
    };
    lease.held = Held::Whole;
    let opened = Box::pin(connect::open(upstreams, backend, deadlines)).await;
    match opened.map_err(|fault| deadlines.fault(fault))? {
        Fresh::Http1(opened) => lease.carry(opened),
        Fresh::Http2(opened) => {
            // Agreed on by ALPN just now: from here on its requests go as streams.
            lease.let_go();
            let found = Box::pin(connect::settle(upstreams, backend, opened, deadlines)).await;
            lease.take(found.map_err(|fault| deadlines.fault(fault))?);
        }
    }
    Ok(lease)
}

/// Opens a connection of HTTP/1.1 for `plan` alone, whatever else its backend speaks: what it becomes is no connection for
/// another request. Errors: as `connection`.
pub async fn own_connection(upstreams: &Rc<Upstreams>, plan: &Plan, deadlines: Deadlines) -> Result<Lease, Fault> {
    let backend = plan.backend;
    let permit = permit(upstreams, plan, deadlines).await?;
    let mut lease = Lease::new(upstreams, backend, permit);
    queue::make_room(upstreams, backend);
    let Take::Dial = upstreams.backends[backend].pool.borrow_mut().take_fresh() else {
        return Err(Fault::Connect); // as in `connection`
    };
    lease.held = Held::Whole;
    let opened = Box::pin(connect::open_http1(upstreams, backend, deadlines)).await;
    lease.carry(opened.map_err(|fault| deadlines.fault(fault))?);
    Ok(lease)
}

/// The right to one of the backend's connections, waiting for one.
async fn permit(upstreams: &Rc<Upstreams>, plan: &Plan, deadlines: Deadlines) -> Result<QueuePermit, Fault> {
    let at = At::Backend(plan.backend);
    match queue::permit_now(upstreams, at, plan.claim)? {
        Some(permit) => Ok(permit),
        None => {
            let patience_ms = upstreams.snapshot.models[plan.model].timeout_queue_ms;
            let left_ms = deadlines.head_ms.saturating_sub(now_ms());
            Box::pin(queue::wait(upstreams, at, plan.claim, patience_ms.min(left_ms))).await
        }
    }
}

impl Lease {
    fn new(upstreams: &Rc<Upstreams>, backend: usize, permit: QueuePermit) -> Lease {
        let (held, origin) = (Held::Nothing, Origin::Fresh);
        Lease { upstreams: upstreams.clone(), backend, carrier: None, address: None, held, origin, _turn: permit }
    }

    /// Takes a place on a connection of HTTP/2, if one is open.
    fn find_stream(&mut self) -> bool {
        if !self.upstreams.backends[self.backend].may_speak_http2() {
            return false;
        }
        let found = connect::stream_now(&self.upstreams, self.backend);
        found.map(|found| self.take(found)).is_some()
    }

    /// Takes a connection that lies idle, if there is one that can be used.
    fn find_idle(&mut self) -> bool {
        loop {
            let taken = self.upstreams.backends[self.backend].pool.borrow_mut().take_idle(self.upstreams.now());
            let Some((mut socket, address)) = taken else { return false };
            self.held = Held::Whole;
            // A look at each, however recently it served: a backend may have answered twice, and the second answer
            // would be taken for that of whoever asks next.
            if socket.is_quiet() {
                self.origin = Origin::Reused;
                self.carry(Opened { socket, address });
                return true;
            }
            // The backend has closed it, or said something unasked.
            self.let_go();
        }
    }

    fn take(&mut self, (id, connection): (ConnectionId, http2::Connection)) {
        self.held = Held::Stream(id);
        self.carrier = Some(Carrier::Http2(connection));
    }

    fn carry(&mut self, Opened { socket, address }: Opened) {
        (self.carrier, self.address) = (Some(Carrier::Http1(socket)), Some(address));
    }

    /// What carries the request.
    pub fn carrier(&mut self) -> &mut Carrier {
        // Taken only by those who consume the lease.
        self.carrier.as_mut().expect("a lease holds its connection")
    }

    /// Puts the request's stream in the place of its connection.
    pub fn sent(&mut self, stream: http2::Stream) {
        self.carrier = Some(Carrier::Stream(Box::new(stream)));
    }

    /// The watch under which the answer is read; none before a stream was begun.
    pub fn watch(&self) -> Option<&Watch> {
        match self.carrier.as_ref()? {
            Carrier::Http1(socket) => Some(socket.watch()),
            Carrier::Stream(stream) => Some(stream.watch()),
            Carrier::Http2(_) => None,
        }
    }

    /// The answer has to go on until `at_ms`.
    pub fn shut_down_at(&self, at_ms: u64) {
        if let Some(watch) = self.watch() {
            watch.shut_down_at(at_ms);
        }
    }

    /// As `shut_down_at`, if no deadline has passed: one that has means that the socket is shut down. Whether that is so.
    pub fn go_on_until(&self, at_ms: u64) -> bool {
        self.watch().is_none_or(|watch| watch.go_on_until(at_ms))
    }

    /// Whether a deadline passed, or everybody left.
    pub fn was_interrupted(&self) -> bool {
        self.watch().is_some_and(|watch| watch.take_interrupt().is_some())
    }

    /// Reads what has come of the answer, in the form of HTTP/1.1.
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self.carrier() {
            Carrier::Http1(socket) => socket.read(buffer).await,
            Carrier::Stream(stream) => stream.read(buffer).await,
            Carrier::Http2(_) => (Err(io::ErrorKind::NotConnected.into()), buffer),
        }
    }

    /// As `read`, into a buffer that is taken when there is something to read: what thousands of streams wait
    /// for costs none of them memory, and the one buffer they all use in turn stays in the cache.
    pub fn poll_read_new(
        &mut self,
        take: impl Fn() -> Vec<u8>,
        buffer: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self.carrier() {
            Carrier::Http1(socket) => socket.poll_read_new(buffer, take, context),
            Carrier::Stream(stream) => {
                if buffer.capacity() == 0 {
                    *buffer = take();
                }
                stream.poll_read(buffer, context)
            }
            Carrier::Http2(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Whether the request was certainly not acted on.
    pub fn was_refused(&mut self) -> bool {
        matches!(self.carrier(), Carrier::Stream(stream) if stream.fault() == Some(Http2Fault::Refused))
    }

    /// Whether it is known that nothing more comes, so that the next read says at once how it ended.
    pub fn has_ended(&self) -> bool {
        matches!(&self.carrier, Some(Carrier::Stream(stream)) if stream.has_ended())
    }

    /// Whether the end of an answer is said beside its bytes, so that it has to be read to be known.
    pub fn is_stream(&self) -> bool {
        matches!(self.carrier, Some(Carrier::Stream(_)))
    }

    /// Ends the connection with a reset: a backend that is in the middle of a long answer, perhaps waiting for us to read
    /// on, learns of an orderly close only when it reads. A stream is reset by being dropped.
    pub fn break_off(mut self) {
        if let Carrier::Http1(socket) = self.carrier() {
            socket.make_close_unclean();
        }
    }

    /// Gives the connection back for reuse, for `idle_ms` at most where the peer said so: the answer was read to its end
    /// and both sides keep it alive. If the backend has left the address meanwhile, it is closed.
    pub fn give_back(mut self, idle_ms: Option<u64>) {
        let (Some(Carrier::Http1(socket)), Some(address)) = (self.carrier.take(), self.address.take()) else { return };
        // One whose deadline has passed, or that was given up, is shut down already.
        if socket.watch().take_interrupt().is_none() {
            socket.watch().clear();
            let mut pool = self.upstreams.backends[self.backend].pool.borrow_mut();
            let closing = pool.give_back_for(socket, address, self.upstreams.now(), idle_ms.unwrap_or(u64::MAX));
            drop(pool);
            drop(closing);
            self.held = Held::Nothing;
        }
    }

    fn let_go(&mut self) {
        drop(self.carrier.take());
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Whole => self.upstreams.backends[self.backend].pool.borrow_mut().lost(),
            Held::Stream(id) => self.upstreams.backends[self.backend].streams.give_back(id, self.upstreams.now()),
            Held::Nothing => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.let_go();
    }
}
