//! Client connections, from the accepted socket to the protocol that is spoken on it: handshake, ALPN, and then the loop that
//! hands each request to `exchange`. Knows nothing of models, caches or backends.

mod http2; // the streams of an HTTP/2 connection
pub mod moves; // connections that go to another core
pub mod peers; // how many connections clients have
mod proxied; // the PROXY header

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use self::moves::Served;
use self::peers::{Caps, Full, Peers};
use crate::config::snapshot::{Listen, ListenerSettings, Protocol, ProxyHeader, certificate_credential};
use crate::exchange::accept::Preface;
use crate::exchange::client::Peer;
use crate::exchange::connection::{self, Left};
use crate::exchange::core::Core;
use crate::exchange::generation::{Current, Generation};
use crate::exchange::moved::Spoken;
use crate::net::tls::{self, AcceptSettings, Agreed, TicketChain, TlsAcceptor, TlsError, TlsFault, TlsStream};
use crate::net::{Socket, Transport, now_ms};
use crate::observe::counters::{HandshakeResult, Held, RefusedConnection};

/// What one core needs to serve the connections of one listener.
#[derive(Debug)]
pub struct Acceptor {
    tls: Option<TlsAcceptor>,
    protocol: Protocol,
    /// How long the PROXY header may take, where there is one.
    proxy_header_ms: Option<u64>,
    peers: Arc<Peers>,
}

impl Acceptor {
    /// Plain text, any protocol.
    pub fn plain() -> Acceptor {
        Acceptor { tls: None, protocol: Protocol::Auto, proxy_header_ms: None, peers: Arc::default() }
    }

    /// Errors: the settings are of no use.
    pub fn new(
        settings: Option<&ListenerSettings>,
        tls: Option<&AcceptSettings>,
        shared: &Shared,
    ) -> Result<Acceptor, TlsError> {
        let tls = tls.map(|settings| TlsAcceptor::new(settings, &shared.tickets)).transpose()?;
        let is_proxied = settings.is_some_and(|settings| settings.proxy_header == ProxyHeader::Required);
        let proxy_header_ms = settings.filter(|_| is_proxied).map(|settings| settings.timeout_handshake_ms);
        let protocol = settings.map_or(Protocol::Auto, |settings| settings.protocol);
        Ok(Acceptor { tls, protocol, proxy_header_ms, peers: shared.peers.clone() })
    }
}

/// What all listeners of a core share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub tickets: Arc<TicketChain>,
    /// All cores' connections.
    pub peers: Arc<Peers>,
}

/// What the listening sockets of one address are served by: made anew when the configuration says something else.
#[derive(Debug)]
pub struct Acceptors {
    /// Of a `[[listener]]`.
    address: Option<Listen>,
    shared: Shared,
    latest: RefCell<Latest>,
}

#[derive(Debug)]
struct Latest {
    generation: u64,
    settings: Option<ListenerSettings>,
    tls: Option<AcceptSettings>,
    acceptor: Rc<Acceptor>,
}

impl Acceptors {
    /// For the `place`th of `server.listeners`, or for an address of `server.listen`. Errors: as `Acceptor::new`.
    pub fn new(generation: &Generation, place: Option<usize>, shared: &Shared) -> Result<Acceptors, TlsError> {
        let settings = place.and_then(|place| generation.snapshot.server.listeners.get(place));
        let tls = place.and_then(|place| generation.listeners().get(place).cloned().flatten());
        let acceptor = Rc::new(Acceptor::new(settings, tls.as_ref(), shared)?);
        let latest =
            RefCell::new(Latest { generation: generation.number(), settings: settings.cloned(), tls, acceptor });
        Ok(Acceptors { address: settings.map(|settings| settings.address.clone()), shared: shared.clone(), latest })
    }

    /// By the configuration in force.
    pub fn get(&self, current: &Current) -> Rc<Acceptor> {
        let latest = &mut *self.latest.borrow_mut();
        let generation = current.get();
        if latest.generation != generation.number() {
            latest.generation = generation.number();
            self.follow(&generation, latest);
        }
        latest.acceptor.clone()
    }

    /// An address that is configured no more is served as before, until the sockets close with the process.
    fn follow(&self, generation: &Generation, latest: &mut Latest) {
        let listeners = generation.snapshot.server.listeners.iter().zip(generation.listeners());
        let found = listeners.into_iter().find(|(settings, _)| Some(&settings.address) == self.address.as_ref());
        let Some((settings, tls)) = found else { return };
        if latest.settings.as_ref() == Some(settings) && latest.tls == *tls {
            return;
        }
        // What cannot be secured was found before it was sent.
        if let Ok(acceptor) = Acceptor::new(Some(settings), tls.as_ref(), &self.shared) {
            latest.settings = Some(settings.clone());
            (latest.tls, latest.acceptor) = (tls.clone(), Rc::new(acceptor));
        }
    }
}

/// Serves one client connection to its end.
pub async fn connection(current: Rc<Current>, mut socket: Socket, acceptor: Rc<Acceptor>) {
    let core = current.core();
    let open = core.counters.connections.hold();
    let mut address = socket.peer();
    if let Some(timeout_ms) = acceptor.proxy_header_ms {
        match Box::pin(proxied::client(&mut socket, timeout_ms)).await {
            Ok(told) => address = told.or(address),
            Err(_) => return core.counters.proxy_errors.add(1),
        }
    }
    let admitted = match acceptor.peers.admit(address, caps(&current, address)) {
        Ok(admitted) => admitted,
        Err(full) => return core.counters.connections_refused(reason(full)).add(1),
    };
    let mut peer = Peer { address, certificate: None };
    let (transport, spoken) = match &acceptor.tls {
        None => (Transport::Plain(socket), acceptor.protocol),
        Some(tls) => {
            let Some((stream, agreed)) = Box::pin(secured(core, socket, tls)).await else { return };
            let names = stream.client_names();
            peer.certificate = names.map(|names| names.iter().map(|name| certificate_credential(name)).collect());
            let protocol = if agreed == Agreed::Http2 { Protocol::Http2 } else { Protocol::Http1 };
            (Transport::Tls(Box::new(stream)), protocol)
        }
    };
    drop(acceptor);
    let counted = admitted.map(|admitted| Box::new(admitted) as Box<dyn Send>);
    let served = Served { transport, peer, counted, spoken: Spoken::Http1 };
    let preface = match spoken {
        Protocol::Http1 => Preface::Refused,
        Protocol::Auto => Preface::Awaited,
        Protocol::Http2 => return placed(&current, served, Vec::new(), open).await,
    };
    self::served(&current, served, preface, open).await;
}

/// Serves requests of HTTP/1.1, and HTTP/2 if it begins with that.
async fn served(current: &Rc<Current>, mut served: Served, mut preface: Preface, open: Held<'_>) {
    loop {
        match connection::connection(current, &mut served.transport, preface, &served.peer).await {
            Left::Closed => return,
            Left::Preface(early) => return placed(current, served, early, open).await,
            Left::Moves(to) => match Box::pin(moves::give(current.core(), to.0.into(), served)).await {
                Ok(()) => return open.leave(),
                Err(stays) => (served, preface) = (stays, Preface::Refused),
            },
        }
    }
}

/// A new connection of HTTP/2, of which `early` was read: it can still be served by another core.
async fn placed(current: &Rc<Current>, mut served: Served, mut early: Vec<u8>, open: Held<'_>) {
    let core = current.core();
    let to = core.balance.place(now_ms()).filter(|_| !core.is_draining());
    if to.is_some() {
        early.extend_from_slice(&served.transport.take_early());
    }
    served.spoken = Spoken::Http2(early.into());
    if let Some(to) = to {
        match Box::pin(moves::give(core, to.0.into(), served)).await {
            Ok(()) => return open.leave(),
            Err(stays) => served = stays,
        }
    }
    many(current, served).await;
}

/// Serves the streams of HTTP/2.
async fn many(current: &Rc<Current>, served: Served) {
    let Served { transport, peer, counted, spoken } = served;
    let early = match spoken {
        Spoken::Http1 => Bytes::new(),
        Spoken::Http2(early) => early,
    };
    Box::pin(http2::connection(current.clone(), transport.into(), early, peer)).await;
    drop(counted);
}

/// What applies to a connection of this client.
fn caps(current: &Current, client: Option<IpAddr>) -> Caps {
    let server = &current.get().snapshot.server;
    let is_trusted = server.trusted_proxies.as_ref().is_some_and(|proxies| proxies.has(client));
    Caps { node: server.connections_max, address: server.connections_per_client_max.filter(|_| !is_trusted) }
}

fn reason(full: Full) -> RefusedConnection {
    match full {
        Full::Node => RefusedConnection::Node,
        Full::Address => RefusedConnection::Client,
    }
}

/// After the handshake; `None` if it failed, which is counted.
async fn secured(core: &Core, socket: Socket, acceptor: &TlsAcceptor) -> Option<(TlsStream, Agreed)> {
    let accepted = tls::accept(socket, acceptor).await;
    let result = match &accepted {
        Ok((stream, _)) => result(stream),
        Err(fault) => why(fault),
    };
    core.counters.handshakes(result).add(1);
    accepted.ok()
}

fn result(stream: &TlsStream) -> HandshakeResult {
    if stream.is_resumed() { HandshakeResult::Resumed } else { HandshakeResult::Full }
}

fn why(fault: &TlsFault) -> HandshakeResult {
    match fault {
        TlsFault::UnknownAuthority
        | TlsFault::Expired { .. }
        | TlsFault::NotYetValid
        | TlsFault::WrongName { .. }
        | TlsFault::BadCertificate { .. } => HandshakeResult::BadCertificate,
        TlsFault::NoCertificate => HandshakeResult::NoCertificate,
        TlsFault::NoProtocol | TlsFault::NoHttp2 => HandshakeResult::NoProtocol,
        TlsFault::ClientCertificateRefused { .. } | TlsFault::Alert { .. } => HandshakeResult::Alert,
        TlsFault::Incompatible { .. } => HandshakeResult::Incompatible,
        TlsFault::NotTls { .. } => HandshakeResult::NotTls,
        TlsFault::Protocol { .. } => HandshakeResult::Protocol,
        TlsFault::TimedOut => HandshakeResult::Timeout,
        TlsFault::Closed | TlsFault::Truncated | TlsFault::Transport { .. } => HandshakeResult::Closed,
    }
}
