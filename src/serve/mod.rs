//! Client connections, from the accepted socket to the protocol that is spoken on it: handshake, ALPN, and then the loop that
//! hands each request to `exchange`. Knows nothing of models, caches or backends.

use std::rc::Rc;

use crate::exchange::core::Core;
use crate::exchange::generation::Current;
use crate::exchange::run;
use crate::net::tls::{self, AcceptSettings, TlsAcceptor, TlsError, TlsFault, TlsStream};
use crate::net::{Socket, Transport};
use crate::observe::counters::HandshakeResult;

/// What one core needs to serve the connections of one listener.
#[derive(Debug)]
pub struct Acceptor {
    tls: Option<TlsAcceptor>,
}

impl Acceptor {
    /// Plain text.
    pub fn plain() -> Acceptor {
        Acceptor { tls: None }
    }

    /// Errors: the settings are of no use.
    pub fn new(tls: Option<&AcceptSettings>) -> Result<Acceptor, TlsError> {
        Ok(Acceptor { tls: tls.map(TlsAcceptor::new).transpose()? })
    }
}

/// Serves one client connection to its end.
pub async fn connection(current: Rc<Current>, socket: Socket, acceptor: Rc<Acceptor>) {
    let core = current.core();
    let _open = core.counters.connections.hold();
    let mut transport = match &acceptor.tls {
        None => Transport::Plain(socket),
        Some(tls) => match Box::pin(secured(core, socket, tls)).await {
            Some(transport) => transport,
            None => return,
        },
    };
    drop(acceptor);
    run::connection(&current, &mut transport).await;
}

/// After the handshake; `None` if it failed, which is counted.
async fn secured(core: &Core, socket: Socket, acceptor: &TlsAcceptor) -> Option<Transport> {
    match tls::accept(socket, acceptor).await {
        Ok((stream, _)) => {
            core.counters.handshakes(result(&stream)).add(1);
            Some(Transport::Tls(Box::new(stream)))
        }
        Err(fault) => {
            core.counters.handshakes(why(&fault)).add(1);
            None
        }
    }
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
