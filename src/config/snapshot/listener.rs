//! The addresses that clients connect to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{CertificateFiles, Protocol, Server};

impl Server {
    /// Every address that clients connect to, and its table in `listeners` if it has one.
    pub fn addresses(&self) -> impl Iterator<Item = (&Listen, Option<usize>)> {
        let further = self.listeners.iter().enumerate();
        let further = further.map(|(place, listener)| (&listener.address, Some(place)));
        self.listen.iter().map(|listen| (listen, None)).chain(further)
    }

    /// The configuration key of an address.
    pub fn address_key(listener: Option<usize>) -> &'static str {
        if listener.is_some() { "listener.address" } else { "server.listen" }
    }
}

/// A further address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    pub address: Listen,
    /// How connections are secured; `None` for plain text.
    pub tls: Option<ListenerTls>,
    pub protocol: Protocol,
    pub proxy_header: ProxyHeader,
    /// From the acceptance of a connection to the end of its TLS handshake.
    pub timeout_handshake_ms: u64,
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    Required,
    Never,
}

/// The files behind TLS from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one, with an OCSP response where there is one; the first serves clients that ask for no name, or for an unknown
    /// one.
    pub certificates: Vec<(CertificateFiles, Option<PathBuf>)>,
    /// Clients must present a certificate of one of these authorities.
    pub client_ca: Option<PathBuf>,
}

/// One address to accept connections on. Port 0 asks the system for a free port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}
