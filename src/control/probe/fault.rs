//! The fault of a health check as one line that tells an operator what to check. Never contains a secret.

use std::error::Error;
use std::io;

use crate::net::tls::TlsFault;

/// The connection failed.
pub fn unreached(error: &io::Error) -> String {
    format!("it cannot be reached: {}", error.kind())
}

/// The TLS handshake failed.
pub fn insecure(fault: &TlsFault) -> String {
    format!("no secure connection: {fault}")
}

/// Why a handshake failed.
pub fn of_handshake(error: &io::Error) -> TlsFault {
    match inside(error) {
        Some(fault) => fault,
        None if error.kind() == io::ErrorKind::UnexpectedEof => TlsFault::Closed,
        None => TlsFault::Transport { what: error.kind().to_string() },
    }
}

/// The response is not valid HTTP.
pub fn broken(error: &hyper::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause {
        cause = inner.source();
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            // In TLS 1.3 a server rejects the client's certificate after the handshake is over (RFC 8446 2).
            return match inside(io) {
                Some(fault) => insecure(&fault),
                // The HTTP/2 library keeps only the text of an error.
                None if io.get_ref().is_some() => format!("the connection broke: {io}"),
                None => format!("the connection broke: {}", io.kind()),
            };
        }
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "it closes the connection without an answer".to_owned();
    }
    match error.source() {
        Some(cause) => format!("its answer is not HTTP: {cause}"),
        None => format!("its answer is not HTTP: {error}"),
    }
}

fn inside(error: &io::Error) -> Option<TlsFault> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned().map(TlsFault::from)
}
