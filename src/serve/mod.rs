//! Client connections, from the accepted socket to the protocol that is spoken on it: handshake, ALPN, and then the loop that
//! hands each request to `exchange`. Knows nothing of models, caches or backends.

mod http2; // the streams of an HTTP/2 connection

use std::rc::Rc;

use bytes::Bytes;

use crate::config::snapshot::Protocol;
use crate::exchange::core::Core;
use crate::exchange::generation::Current;
use crate::exchange::run::{self, Left, Preface};
use crate::net::tls::{self, AcceptSettings, Agreed, TlsAcceptor, TlsError, TlsFault, TlsStream};
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
    pub fn new(protocol: Protocol, tls: Option<&AcceptSettings>) -> Result<Acceptor, TlsError> {
        Ok(Acceptor { tls: tls.map(TlsAcceptor::new).transpose()?, protocol })
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
