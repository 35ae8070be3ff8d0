//! Why a stream or a connection ended, by what may be done next.

use std::io;

use h2::Reason;

/// Why there is no answer, or only a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Http2Fault {
    /// The peer has certainly not processed the request (RFC 9113 8.7): it may be retried anywhere.
    #[error("the stream was refused before it was processed")]
    Refused,
    /// The peer reset the stream with this code (RFC 9113 7).
    #[error("the stream was reset with code {0}")]
    Reset(u32),
    /// The connection was lost while the stream was open.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The peer violated the protocol, or would have made us do so.
    #[error("broken HTTP/2")]
    Protocol,
    /// The stream's deadline passed.
    #[error("the deadline of the stream passed")]
    TimedOut,
    /// The stream's alarm was triggered.
    #[error("the stream was given up")]
    Abandoned,
}

impl From<Http2Fault> for io::Error {
    fn from(fault: Http2Fault) -> io::Error {
        let kind = match fault {
            Http2Fault::Refused => io::ErrorKind::ConnectionRefused,
            Http2Fault::Reset(_) => io::ErrorKind::ConnectionReset,
            Http2Fault::ConnectionLost => io::ErrorKind::UnexpectedEof,
            Http2Fault::Protocol => io::ErrorKind::InvalidData,
            Http2Fault::TimedOut => io::ErrorKind::TimedOut,
            Http2Fault::Abandoned => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, fault)
    }
}

/// Classifies the library's error on a stream that got no response yet.
pub(super) fn of(error: &h2::Error) -> Http2Fault {
    if error.is_io() {
        return Http2Fault::ConnectionLost;
    }
    match error.reason() {
        // A stream gets the peer's GOAWAY as its error only if its id is above GOAWAY's last stream id; all others
        // continue and end with the transport (RFC 9113 6.8).
        Some(_) if error.is_go_away() && error.is_remote() => Http2Fault::Refused,
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Http2Fault::Refused,
        Some(reason) if error.is_remote() => Http2Fault::Reset(reason.into()),
        _ => Http2Fault::Protocol,
    }
}

/// A connection's error as an error of the transport.
pub(super) fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}
