//! Client connections, from the accepted socket to the protocol that is spoken on it: handshake, ALPN, and then the loop that
//! hands each request to `exchange`. Knows nothing of models, caches or backends.

mod http2; // the streams of an HTTP/2 connection

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::snapshot::{Listen, Protocol};
use crate::exchange::core::Core;
use crate::exchange::generation::{Current, Generation};
use crate::exchange::run::{self, Left, Preface};
use crate::net::tls::{self, AcceptSettings, Agreed, TicketChain, TlsAcceptor, TlsError, TlsFault, TlsStream};
use crate::net::{Socket, Transport};
use crate::observe::counters::HandshakeResult;

/// What one core needs to serve the connections of one listener.
#[derive(Debug)]
pub struct Acceptor {
    tls: Option<TlsAcceptor>,
    protocol: Protocol,
}

impl Acceptor {
    /// Plain text, any protocol.
    pub fn plain() -> Acceptor {
        Acceptor { tls: None, protocol: Protocol::Auto }
    }

    /// Errors: the settings are of no use.
    pub fn new(
        protocol: Protocol,
        tls: Option<&AcceptSettings>,
        tickets: &Arc<TicketChain>,
    ) -> Result<Acceptor, TlsError> {
        let tls = tls.map(|settings| TlsAcceptor::new(settings, tickets)).transpose()?;
        Ok(Acceptor { tls, protocol })
    }
}

/// What the listening sockets of one address are served by: made anew when the configuration says something else.
#[derive(Debug)]
pub struct Acceptors {
    /// Of a `[[listener]]`.
    address: Option<Listen>,
    tickets: Arc<TicketChain>,
    latest: RefCell<Latest>,
}

#[derive(Debug)]
struct Latest {
    generation: u64,
    protocol: Protocol,
    tls: Option<AcceptSettings>,
    acceptor: Rc<Acceptor>,
}

impl Acceptors {
    /// For the `place`th of `server.listeners`, or for an address of `server.listen`. Errors: as `Acceptor::new`.
    pub fn new(
        generation: &Generation,
        place: Option<usize>,
        tickets: &Arc<TicketChain>,
    ) -> Result<Acceptors, TlsError> {
        let settings = place.and_then(|place| generation.snapshot.server.listeners.get(place));
        let protocol = settings.map_or(Protocol::Auto, |settings| settings.protocol);
        let tls = place.and_then(|place| generation.listeners().get(place).cloned().flatten());
        let acceptor = Rc::new(Acceptor::new(protocol, tls.as_ref(), tickets)?);
        let latest = RefCell::new(Latest { generation: generation.number(), protocol, tls, acceptor });
        Ok(Acceptors { address: settings.map(|settings| settings.address.clone()), tickets: tickets.clone(), latest })
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
        if (settings.protocol, tls) == (latest.protocol, &latest.tls) {
            return;
        }
        // What cannot be secured was found before it was sent.
        if let Ok(acceptor) = Acceptor::new(settings.protocol, tls.as_ref(), &self.tickets) {
            (latest.protocol, latest.tls, latest.acceptor) = (settings.protocol, tls.clone(), Rc::new(acceptor));
        }
    }
}

/// Serves one client connection to its end.
pub async fn connection(current: Rc<Current>, socket: Socket, acceptor: Rc<Acceptor>) {
    let core = current.core();
    let _open = core.counters.connections.hold();
    let (mut transport, spoken) = match &acceptor.tls {
        None => (Transport::Plain(socket), acceptor.protocol),
        Some(tls) => match Box::pin(secured(core, socket, tls)).await {
            Some((stream, Agreed::Http1)) => (Transport::Tls(Box::new(stream)), Protocol::Http1),
            Some((stream, Agreed::Http2)) => (Transport::Tls(Box::new(stream)), Protocol::Http2),
            None => return,
        },
    };
    drop(acceptor);
    let early = match spoken {
        Protocol::Http1 => return drop(run::connection(&current, &mut transport, Preface::Refused).await),
        Protocol::Http2 => Bytes::new(),
        Protocol::Auto => match run::connection(&current, &mut transport, Preface::Awaited).await {
            Left::Closed => return,
            Left::Preface(early) => early.into(),
        },
    };
    Box::pin(http2::connection(current.clone(), transport.into(), early)).await;
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
