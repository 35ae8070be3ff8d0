//! Opens connections to a backend: by its addresses, secured where it wants that, in the HTTP version that both speak.
//! Owns what is being opened, and the tasks that drive HTTP/2 connections; several requests share one of those.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use shards::breaker::Gate;
use shards::{ConnectionId, Fault, Millis, Slot, Take};

use super::deadlines::Deadlines;
use super::message::UpstreamMessage;
use super::queue::{self, ConnectionWanted};
use super::upstreams::{Done, Upstreams};
use crate::config::snapshot::{FastOpen, Protocol};
use crate::net::http2::{self, Http2Settings, News, handshake};
use crate::net::tls::{self, Agreed, TlsContext, TlsFault};
use crate::net::{Dial, DialOptions, Duplex, dial_any, now_ms, now_us, spawn, within};

/// So many dials that fail while a request waits for a connection, and it waits no longer. One may be mere bad luck;
/// without a bound, those who wait would find out one after the other that a backend is not there.
const DIALS_MAX: u32 = 2;

/// RFC 8305 5: how long one address has before the next is tried beside it.
const STAGGER_MS: u64 = 250;

/// A connection that was just opened, and the address that it leads to.
pub struct Opened {
    pub socket: Duplex,
    pub address: Dial,
}

/// What is spoken on a connection that was just opened.
pub enum Fresh {
    Http1(Opened),
    /// Nothing of HTTP/2 was said on it yet.
    Http2(Opened),
}

/// What a request goes on.
pub enum Found {
    Stream(ConnectionId, http2::Connection),
    /// The backend speaks HTTP/1.1; a connection, if that was found out by opening one just now.
    Http1(Option<Opened>),
}

/// A place on an HTTP/2 connection that is open, if there is one.
pub fn stream_now(upstreams: &Upstreams, backend: usize) -> Option<(ConnectionId, http2::Connection)> {
    let (id, connection) = upstreams.backends[backend].streams.streams.borrow_mut().take_open()?;
    if connection.is_open() {
        return Some((id, connection));
    }
    upstreams.backends[backend].streams.streams.borrow_mut().retire(id);
    upstreams.backends[backend].streams.give_back(id, upstreams.now());
    None
}

/// A place on an HTTP/2 connection, opening one if need be; or the news that the backend speaks HTTP/1.1.
/// Errors: none could be opened, or none became free in time.
pub async fn stream(upstreams: &Rc<Upstreams>, backend: usize, deadlines: Deadlines) -> Result<Found, Fault> {
    let mut failed = 0;
    let mut wanted = None;
    while upstreams.backends[backend].may_speak_http2() {
        match slot(upstreams, backend) {
            Slot::Use { id, connection } if connection.is_open() => return Ok(Found::Stream(id, connection)),
            Slot::Use { id, .. } => {
                upstreams.backends[backend].streams.streams.borrow_mut().retire(id);
                upstreams.backends[backend].streams.give_back(id, upstreams.now());
            }
            Slot::Dial => {
                let dialling = Dialling { upstreams, backend, over: Cell::new(false) };
                match open(upstreams, backend, deadlines).await {
                    Ok(Fresh::Http2(opened)) => {
                        return dialling.settle(opened, deadlines).await.map(|(id, it)| Found::Stream(id, it));
                    }
                    Ok(Fresh::Http1(opened)) => return Ok(Found::Http1(Some(opened))),
                    Err(fault) => return Err(dialling.failed(fault)),
                }
            }
            full @ (Slot::Wait | Slot::Full) => {
                let (shared, left_ms) =
                    (&upstreams.backends[backend].streams, deadlines.head_ms.saturating_sub(now_ms()));
                let (before, _) = shared.failed.get();
                // Of a permit that another core returns, nobody tells.
                let look_ms = if matches!(full, Slot::Full) { left_ms.min(LOOK_MS) } else { left_ms };
                if matches!(full, Slot::Full) {
                    wanted.get_or_insert_with(|| ConnectionWanted::new(upstreams, backend)).ask();
                }
                let changed = within(shared.change(), look_ms).await;
                if changed.is_none() && look_ms == left_ms {
                    return Err(Fault::QueueTimeout);
                }
                let (now, fault) = shared.failed.get();
                failed += now.wrapping_sub(before);
                if failed >= DIALS_MAX {
                    return Err(fault);
                }
            }
        }
    }
    Ok(Found::Http1(None))
}

/// How often a request that has its turn looks whether a connection may be opened for it.
const LOOK_MS: u64 = 20;

/// Where to open a stream, with one more permit for a connection if that is what it takes.
fn slot(upstreams: &Upstreams, backend: usize) -> Slot<http2::Connection> {
    let backend = &upstreams.backends[backend];
    let take = || {
        let mut streams = backend.streams.streams.borrow_mut();
        streams.resize(backend.http2_permits.held() as usize);
        streams.take()
    };
    match take() {
        Slot::Full if backend.take_http2() => take(),
        slot => slot,
    }
}

/// Begins HTTP/2 on a connection that was opened for HTTP/1.1 and turned out to be one of HTTP/2.
pub async fn settle(
    upstreams: &Rc<Upstreams>,
    backend: usize,
    opened: Opened,
    deadlines: Deadlines,
) -> Result<(ConnectionId, http2::Connection), Fault> {
    match slot(upstreams, backend) {
        Slot::Dial => Dialling { upstreams, backend, over: Cell::new(false) }.settle(opened, deadlines).await,
        Slot::Use { id, connection } => Ok((id, connection)),
        // Others found the same out at this moment: one connection does for all.
        Slot::Wait | Slot::Full => match Box::pin(stream(upstreams, backend, deadlines)).await? {
            Found::Stream(id, connection) => Ok((id, connection)),
            // And another one since then.
            Found::Http1(_) => Err(Fault::Refused),
        },
    }
}

/// An HTTP/2 connection being opened. Dropped, it was not.
struct Dialling<'a> {
    upstreams: &'a Rc<Upstreams>,
    backend: usize,
    over: Cell<bool>,
}

impl Dialling<'_> {
    /// Tells those who wait.
    fn failed(&self, fault: Fault) -> Fault {
        let failed = &self.upstreams.backends[self.backend].streams.failed;
        failed.set((failed.get().0.wrapping_add(1), fault));
        fault
    }

    async fn settle(self, opened: Opened, deadlines: Deadlines) -> Result<(ConnectionId, http2::Connection), Fault> {
        let (upstreams, backend) = (self.upstreams, self.backend);
        let left_ms = deadlines.head_ms.min(now_ms() + upstreams.snapshot.backends[backend].timeout_connect_ms);
        let settings = Http2Settings::for_streams(upstreams.snapshot.backends[backend].http2_streams as usize);
        let Opened { socket, address } = opened;
        let shaken = within(handshake(socket, settings), left_ms.saturating_sub(now_ms())).await;
        let (connection, driver) = match shaken {
            Some(Ok(opened)) => opened,
            broken => {
                upstreams.core.counters.connect_errors.add(1);
                if let Some(Err(error)) = broken {
                    is_refused(upstreams, backend, &error);
                }
                return Err(self.failed(Fault::Handshake));
            }
        };
        let shared = &upstreams.backends[backend].streams;
        let limit = connection.streams_limit() as u32;
        let id = shared.streams.borrow_mut().dialled(connection.clone(), address, limit, upstreams.now());
        self.over.set(true);
        spawn(&upstreams.core.panics, async move {
            let _ = driver.await;
        });
        // A backend that is gone closes its connections; until then, what becomes of them concerns it.
        let (watcher, mut lookout) = (Rc::downgrade(&upstreams.backends[backend]), connection.lookout());
        spawn(&upstreams.core.panics, async move {
            loop {
                let news = lookout.news().await;
                let Some(backend) = watcher.upgrade() else { return };
                let shared = &backend.streams;
                match news {
                    News::StreamsLimit(limit) => shared.streams.borrow_mut().limit(id, limit as u32),
                    News::Retiring => shared.streams.borrow_mut().retire(id),
                    News::Dead => shared.streams.borrow_mut().lost(id),
                }
                // What the permits are good for has changed.
                if backend.speaks_http2() {
                    backend.fit(Millis(now_ms()));
                }
                backend.streams.changed();
                if news == News::Dead {
                    return;
                }
            }
        });
        if upstreams.backends[backend].speaks_http2() {
            upstreams.backends[backend].fit(upstreams.now());
        }
        shared.changed();
        Ok((id, connection))
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if !self.over.get() {
            self.upstreams.backends[self.backend].streams.streams.borrow_mut().dial_failed();
            self.upstreams.backends[self.backend].streams.changed();
        }
    }
}

/// Opens a connection. Errors: every address refused, it took too long, or no secure one could be made.
pub async fn open(upstreams: &Upstreams, backend: usize, deadlines: Deadlines) -> Result<Fresh, Fault> {
    let settings = &upstreams.snapshot.backends[backend];
    let (opened, agreed) = open_with(upstreams, backend, upstreams.backends[backend].tls.as_ref(), deadlines).await?;
    Ok(match (agreed, settings.protocol) {
        (Some(agreed), _) => {
            upstreams.backends[backend].learn(agreed, upstreams.now());
            match agreed {
                Agreed::Http1 => Fresh::Http1(opened),
                Agreed::Http2 => Fresh::Http2(opened),
            }
        }
        (None, Protocol::Http2) => Fresh::Http2(opened),
        (None, Protocol::Auto | Protocol::Http1) => Fresh::Http1(opened),
    })
}

/// As `open`, for HTTP/1.1, whatever else the backend speaks.
pub async fn open_http1(upstreams: &Upstreams, backend: usize, deadlines: Deadlines) -> Result<Opened, Fault> {
    let context = upstreams.backends[backend].tls.as_ref().map(TlsContext::http1);
    open_with(upstreams, backend, context.as_ref(), deadlines).await.map(|(opened, _)| opened)
}

/// A connection, and what was agreed on where it is secured.
async fn open_with(
    upstreams: &Upstreams,
    backend: usize,
    context: Option<&TlsContext>,
    deadlines: Deadlines,
) -> Result<(Opened, Option<Agreed>), Fault> {
    let settings = &upstreams.snapshot.backends[backend];
    let begun_us = now_us();
    let connected = || upstreams.backends[backend].counters().connect.record(now_us().saturating_sub(begun_us));
    let until_ms = deadlines.head_ms.min(now_ms() + settings.timeout_connect_ms);
    let left_ms = || until_ms.saturating_sub(now_ms()).max(1);
    let mut addresses = upstreams.backends[backend].addresses.borrow().to_vec();
    // Another one each time.
    let next = upstreams.backends[backend]
        .next_address
        .replace(upstreams.backends[backend].next_address.get().wrapping_add(1));
    let count = addresses.len().max(1);
    addresses.rotate_left(next % count);
    let fast_open = match settings.fast_open {
        FastOpen::On => crate::net::FastOpen::On,
        FastOpen::Off => crate::net::FastOpen::Off,
    };
    let options = DialOptions { timeout_ms: left_ms(), fast_open, stagger_ms: STAGGER_MS };
    let Ok((socket, address)) = dial_any(&addresses, options).await else {
        upstreams.core.counters.connect_errors.add(1);
        return Err(Fault::Connect);
    };
    let Some(context) = context else {
        connected();
        return Ok((Opened { socket: socket.into(), address }, None));
    };
    match tls::connect(socket, context, left_ms()).await {
        Ok((stream, agreed)) => {
            connected();
            Ok((Opened { socket: stream.into(), address }, Some(agreed)))
        }
        Err(fault) => {
            upstreams.core.counters.connect_errors.add(1);
            upstreams.core.tell_background(UpstreamMessage::Insecure {
                backend: upstreams.backends[backend].id(),
                from: upstreams.core.id,
                fault,
            });
            Err(Fault::Handshake)
        }
    }
}

/// Whether `error` says that the backend wants another client certificate, or one at all: in TLS 1.3 it says so after the
/// handshake (RFC 8446 2), where requests meet it. Nothing of them was looked at.
pub fn is_refused(upstreams: &Upstreams, backend: usize, error: &io::Error) -> bool {
    let Some(fault @ TlsFault::ClientCertificateRefused { .. }) = TlsFault::of(error) else { return false };
    upstreams.core.tell_background(UpstreamMessage::Insecure {
        backend: upstreams.backends[backend].id(),
        from: upstreams.core.id,
        fault: fault.clone(),
    });
    true
}

/// The backend is at `addresses` now. Connections that lead elsewhere finish what they have pending and get no new request;
/// those that have nothing to do are closed. The others stay.
pub fn moved(upstreams: &Upstreams, backend: usize, addresses: Arc<[Dial]>) {
    let backend = &upstreams.backends[backend];
    backend.addresses.replace(addresses.clone());
    let (mut idle, mut unused) = (Vec::new(), Vec::new());
    backend.pool.borrow_mut().moved(addresses.clone(), &mut idle);
    backend.streams.streams.borrow_mut().moved(addresses, &mut unused);
    upstreams.core.counters.connections_outdated.add((idle.len() + unused.len()) as u64);
    // A connection that takes no stream any more leaves its place to another one.
    backend.streams.changed();
}

/// Opens what the pools lack ahead of need, one backend after the other, so that requests find connections that are
/// open. For a timer; it does nothing while it still runs.
pub async fn warm(upstreams: Rc<Upstreams>) {
    if upstreams.core.warming.replace(true) {
        return;
    }
    // Also when it panics: otherwise nothing would be opened ahead of need any more.
    let _done = Done(&upstreams.core.warming);
    for backend in 0..upstreams.backends.len() {
        let serves = upstreams.backends[backend].breaker.borrow().gate(upstreams.now()) == Gate::Open;
        let known = upstreams.backends[backend].tls.is_none()
            || upstreams.backends[backend].agreed.get() == Some(Agreed::Http1);
        let mut lacks = upstreams.backends[backend].pool.borrow().lacks();
        while lacks > 0
            && serves
            && known
            && !upstreams.backends[backend].speaks_http2()
            && !upstreams.core.draining.get()
        {
            lacks -= 1;
            let Some(_permit) = queue::permit_to_warm(&upstreams, backend) else { break };
            if !matches!(upstreams.backends[backend].pool.borrow_mut().take_fresh(), Take::Dial) {
                break;
            }
            let until_ms = now_ms() + upstreams.snapshot.backends[backend].timeout_connect_ms;
            let deadlines = Deadlines::until(until_ms);
            match open(&upstreams, backend, deadlines).await {
                Ok(Fresh::Http1(Opened { socket, address })) => {
                    socket.rest();
                    let closing =
                        upstreams.backends[backend].pool.borrow_mut().give_back(socket, address, upstreams.now());
                    drop(closing);
                }
                Ok(Fresh::Http2(_)) | Err(_) => {
                    upstreams.backends[backend].pool.borrow_mut().lost();
                    break;
                }
            }
        }
    }
}
