//! Faults of TLS: in settings, found at start, and on a connection. Each message is one line that
//! tells an operator what to check; none contains a secret.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError};

/// A fault in the TLS settings of a backend or a listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: contains no PEM certificate")]
    NoCertificate { file: String },
    #[error("{file}: not PEM: {what}")]
    BadPem { file: String, what: String },
    /// Numbered from 1 in the order of the file.
    #[error("{file}: certificate {number} cannot be used: {what}")]
    BadCertificate { file: String, number: usize, what: String },
    #[error("{file}: the private key cannot be used: {what}")]
    BadPrivateKey { file: String, what: String },
    #[error("{private_key} is not the private key of the first certificate in {chain}")]
    KeyMismatch { chain: String, private_key: String },
    #[error("{file}: the certificate expired {days} days ago, or this host's clock is wrong")]
    Expired { file: String, days: u64 },
    #[error("{file}: the certificate is not valid yet, or this host's clock is wrong")]
    NotYetValid { file: String },
    #[error("{file}: cannot be stapled: {what}")]
    BadStaple { file: String, what: String },
    #[error("`{name}` is neither a DNS name nor an IP address, so no certificate can be checked for it")]
    BadName { name: String },
    #[error("the system's certificate store cannot be used ({what}): install ca-certificates or name a CA file")]
    NoSystemRoots { what: String },
    #[error("TLS could not be set up: {what}")]
    Library { what: String },
}

/// A fault on a connection. The texts are about backends; of clients, faults are only counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("the backend's certificate is not signed by a trusted authority; name its CA file if it is private")]
    UnknownAuthority,
    #[error("the backend's certificate expired {days} days ago, or this host's clock is wrong")]
    Expired { days: u64 },
    #[error("the backend's certificate is not valid yet, or this host's clock is wrong")]
    NotYetValid,
    #[error("the backend's certificate is not for `{expected}` but for {}", list(.presented))]
    WrongName { expected: String, presented: Vec<String> },
    #[error("the backend's certificate cannot be used: {what}")]
    BadCertificate { what: String },
    #[error("the backend wants a client certificate that it can accept (its alert: {alert})")]
    ClientCertificateRefused { alert: String },
    #[error("the backend speaks none of the HTTP versions that were offered")]
    NoProtocol,
    #[error("the backend does not speak HTTP/2 over TLS, and nothing else is allowed")]
    NoHttp2,
    #[error("the backend ended TLS with the alert {alert}")]
    Alert { alert: String },
    #[error("the backend and Ringway have no TLS version or cipher in common: {what}")]
    Incompatible { what: String },
    #[error("the backend sent something that is not TLS: {what}")]
    NotTls { what: String },
    #[error("the backend presented no certificate")]
    NoCertificate,
    #[error("the backend sends invalid TLS data: {what}")]
    Protocol { what: String },
    #[error("the TLS handshake took too long")]
    TimedOut,
    #[error("the backend closed the connection during the TLS handshake; does it speak TLS on this port?")]
    Closed,
    #[error("the backend closed the connection without close_notify")]
    Truncated,
    #[error("the connection failed during the TLS handshake: {what}")]
    Transport { what: String },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

impl TlsFault {
    /// The fault behind an error of a [`Duplex`](crate::net::Duplex), if it is one of TLS and not of the socket.
    pub fn of(error: &io::Error) -> Option<&TlsFault> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn into_error(self) -> io::Error {
        let kind = match self {
            TlsFault::Truncated => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    pub(super) fn from_io(error: &io::Error) -> TlsFault {
        match TlsFault::of(error) {
            Some(fault) => fault.clone(),
            None => TlsFault::Transport { what: error.to_string() },
        }
    }
}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> TlsFault {
        match error {
            rustls::Error::InvalidCertificate(error) => certificate(error),
            rustls::Error::AlertReceived(alert) => alerted(alert),
            rustls::Error::NoApplicationProtocol => TlsFault::NoProtocol,
            rustls::Error::PeerIncompatible(what) => TlsFault::Incompatible { what: format!("{what:?}") },
            rustls::Error::InvalidMessage(what) => TlsFault::NotTls { what: format!("{what:?}") },
            rustls::Error::NoCertificatesPresented => TlsFault::NoCertificate,
            error => TlsFault::Protocol { what: error.to_string() },
        }
    }
}

fn certificate(error: CertificateError) -> TlsFault {
    match error {
        CertificateError::UnknownIssuer => TlsFault::UnknownAuthority,
        CertificateError::Expired => TlsFault::Expired { days: 0 },
        CertificateError::ExpiredContext { time, not_after } => {
            TlsFault::Expired { days: time.as_secs().saturating_sub(not_after.as_secs()) / 86_400 }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented = presented.iter().map(|name| bare(name).to_owned()).collect();
            TlsFault::WrongName { expected: expected.to_str().into_owned(), presented }
        }
        CertificateError::BadSignature => TlsFault::BadCertificate {
            what: "a signature is wrong, as when an authority has a new key under its old name".to_owned(),
        },
        error => TlsFault::BadCertificate { what: error.to_string() },
    }
}

/// The library formats names as `DnsName("backend.test")`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.map_or(name, |inside| inside.trim_matches('"'))
}

fn alerted(alert: Alert) -> TlsFault {
    let name = format!("{alert:?}");
    match alert {
        // RFC 8446 6.2: the server rejects the client certificate, or the lack of one.
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::CertificateRequired => TlsFault::ClientCertificateRefused { alert: name },
        Alert::NoApplicationProtocol => TlsFault::NoProtocol,
        _ => TlsFault::Alert { alert: name },
    }
}
