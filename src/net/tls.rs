//! TLS to backends: what one core needs to open connections to one backend, and the handshake; TLS from clients is
//! `accept`. This module gets the contents of files, never paths: the caller reads them at start, so that no core touches
//! a disk and a bad file is reported at start.

mod accept; // TLS from clients
mod fault; // errors in settings and on connections
mod names; // in clients' certificates
mod records; // where records begin and end
mod resume; // session resumption, per backend and core
mod settings; // roots, client certificates and names, read from bytes
mod staple; // OCSP responses
mod stream; // bytes in and out of a session over a socket
#[cfg(all(test, not(sim)))]
pub(super) mod tests;
mod tickets;
mod turns; // one handshake at a time // session tickets for clients, the same on every core

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};

pub use self::accept::{AcceptSettings, TlsAcceptor, accept};
pub use self::fault::{TlsError, TlsFault};
pub use self::settings::{Identity, Offer, Roots, TlsSettings};
pub use self::stream::{DetachedStream, DirectWriter, TlsStream};
pub use self::tickets::{TicketChain, TicketSeed};
use super::{Socket, now_ms, unix_ms, watch::Interrupt};

/// Which HTTP version both sides use on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    Http1,
    Http2,
}

/// Opens TLS connections to one backend. Each core has its own, session cache included, so that cores never contend for
/// a lock.
pub struct TlsContext {
    client: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    offer: Offer,
}

/// Verifies certificates against the gateway's own clock.
#[derive(Debug)]
struct Now;

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(unix_ms())))
    }
}

impl TlsContext {
    /// Errors: the server name is neither a DNS name nor an IP address.
    pub fn new(settings: &TlsSettings) -> Result<TlsContext, TlsError> {
        let name = &settings.server_name;
        let server_name = ServerName::try_from(name.clone()).map_err(|_| TlsError::BadName { name: name.clone() })?;
        let builder = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), Arc::new(Now))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsError::Library { what: error.to_string() })?
            .with_root_certificates(settings.roots.store());
        let mut client = match &settings.client {
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified_key())))),
            None => builder.with_no_client_auth(),
        };
        client.alpn_protocols = settings.offer.alpn();
        client.resumption = Resumption::store(Arc::new(resume::Sessions::default()));
        Ok(TlsContext { client: Arc::new(client), server_name, offer: settings.offer })
    }
}

impl TlsContext {
    /// The same, but that nothing else than HTTP/1.1 is offered: there is no other way to a WebSocket at most servers.
    pub fn http1(&self) -> TlsContext {
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = Offer::Http1.alpn();
        TlsContext { client: Arc::new(client), server_name: self.server_name.clone(), offer: Offer::Http1 }
    }

    /// Configuration and server name for another TLS adapter that makes the same connections.
    pub fn client(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (self.client.clone(), self.server_name.clone())
    }
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsContext").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Performs the handshake on a connected `socket` within `timeout_ms`. Afterwards the socket's watch has no deadline.
/// In TLS 1.3 the server verifies the client's certificate after the client has finished (RFC 8446 2): a rejection
/// surfaces as the error of a later read or write, which [`TlsFault::of`] recognizes.
pub async fn connect(socket: Socket, context: &TlsContext, timeout_ms: u64) -> Result<(TlsStream, Agreed), TlsFault> {
    let session = ClientConnection::new(context.client.clone(), context.server_name.clone())?;
    socket.watch().shut_down_at(now_ms().saturating_add(timeout_ms));
    let mut stream = TlsStream::new(socket, session);
    let shaken = stream.shake_hands().await;
    match stream.watch().take_interrupt() {
        Some(Interrupt::Deadline) => return Err(TlsFault::TimedOut),
        Some(_) => return Err(TlsFault::Closed),
        None => stream.watch().clear(),
    }
    shaken?;
    let agreed = match (stream.protocol(), context.offer) {
        (Some(protocol), _) if protocol == b"h2" => Agreed::Http2,
        (_, Offer::Http2) => return Err(TlsFault::NoHttp2),
        // RFC 7301 3.2: a server without the extension does not reply to it; assume HTTP/1.1.
        (_, Offer::Http1 | Offer::Either) => Agreed::Http1,
    };
    Ok((stream, agreed))
}
