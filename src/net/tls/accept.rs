//! TLS from clients: what one core needs to accept connections on one listener, and the handshake. As for backends, this
//! module gets the contents of files, never paths.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, ServerConfig, ServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::tickets::{TicketChain, Tickets};
use super::turns::Turns;
use super::{Agreed, Identity, Now, Offer, Roots, TlsError, TlsFault, TlsStream};
use crate::net::watch::Interrupt;
use crate::net::{Socket, now_ms, unix_ms};

/// How long a client may take to end its side when its handshake has failed.
const LINGER_MS: u64 = 1_000;

/// Everything a core needs to create its [`TlsAcceptor`] of one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptSettings {
    /// At least one; see [`Certificates`].
    pub identities: Vec<Identity>,
    /// Clients must present a certificate of one of these authorities.
    pub client_roots: Option<Roots>,
    pub offer: Offer,
    /// Sessions are resumed at listeners of the same scope only: what is verified of clients must be the same.
    pub scope: [u8; 32],
    pub timeout_ms: u64,
}

/// Accepts TLS connections of one listener on one core.
pub struct TlsAcceptor {
    server: Arc<ServerConfig>,
    offer: Offer,
    timeout_ms: u64,
    turns: Turns,
}

impl TlsAcceptor {
    /// Errors: the client authorities are of no use, or the library refuses something.
    pub fn new(settings: &AcceptSettings, tickets: &Arc<TicketChain>) -> Result<TlsAcceptor, TlsError> {
        let library = |what: String| TlsError::Library { what };
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Both versions, and of TLS 1.2 the forward-secret AEAD suites alone: Mozilla's intermediate profile.
        let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(Now))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| library(error.to_string()))?;
        let builder = match &settings.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.store(), provider)
                    .build()
                    .map_err(|error| library(error.to_string()))?,
            ),
        };
        let mut server = builder.with_cert_resolver(Arc::new(Certificates(settings.identities.clone())));
        server.alpn_protocols = settings.offer.alpn();
        // Sessions live in tickets alone: a cache would belong to one core, or need a lock.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Arc::new(Tickets::new(tickets, settings.scope));
        let (server, offer, timeout_ms) = (Arc::new(server), settings.offer, settings.timeout_ms);
        Ok(TlsAcceptor { server, offer, timeout_ms, turns: Turns::default() })
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

/// The certificates of a listener, chosen by the name that the client asks for (RFC 6066 3): the first that is valid for
/// it and whose key the client can verify, otherwise the first of all that it can verify.
#[derive(Debug)]
struct Certificates(Vec<Identity>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_verify = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_named = |key: &CertifiedKey| {
            let certificate = key.end_entity_cert().ok().and_then(|own| ParsedCertificate::try_from(own).ok());
            name.as_ref().zip(certificate).is_some_and(|(name, own)| verify_server_name(&own, name).is_ok())
        };
        // Usually there is one, and nothing to choose.
        let find = |fits: &dyn Fn(&CertifiedKey) -> bool| self.0.iter().find(|own| fits(own.certified_key()));
        let named = if self.0.len() > 1 { find(&|key| is_named(key) && can_verify(key)) } else { None };
        let found = named.or_else(|| find(&can_verify)).or(self.0.first())?;
        Some(match found.stapled() {
            Some(stapled) if stapled.until_ms > unix_ms() => stapled.certified.clone(),
            _ => found.certified_key().clone(),
        })
    }
}

/// Performs the handshake on an accepted `socket` in time. Afterwards the socket's watch has no deadline.
pub async fn accept(socket: Socket, acceptor: &TlsAcceptor) -> Result<(TlsStream, Agreed), TlsFault> {
    let session = ServerConnection::new(acceptor.server.clone())?;
    socket.watch().shut_down_at(now_ms().saturating_add(acceptor.timeout_ms));
    // What is expensive, the key exchange and the signature, follows the client's first message, which mostly comes whole.
    // Errors show in the handshake.
    let _ = socket.readable().await;
    let mut stream = TlsStream::new(socket, session);
    let shaken = {
        let mut shaking = pin!(stream.shake_hands());
        let first = acceptor.turns.take(async || poll_fn(|context| Poll::Ready(shaking.as_mut().poll(context))).await);
        match first.await {
            Poll::Ready(shaken) => shaken,
            Poll::Pending => shaking.await,
        }
    };
    match stream.watch().take_interrupt() {
        Some(Interrupt::Deadline) => return Err(TlsFault::TimedOut),
        Some(_) => return Err(TlsFault::Closed),
        None => stream.watch().clear(),
    }
    if let Err(fault) = shaken {
        if !matches!(fault, TlsFault::Closed | TlsFault::Transport { .. }) {
            stream.linger(LINGER_MS).await;
        }
        return Err(fault);
    }
    Ok(match (stream.protocol().as_deref(), acceptor.offer) {
        // A client without ALPN that was configured for this listener.
        (Some(b"h2"), _) | (None, Offer::Http2) => (stream, Agreed::Http2),
        _ => (stream, Agreed::Http1),
    })
}
