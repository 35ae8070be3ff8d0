//! HTTP/1.1 parsing and serialization: strict, without I/O, without allocation once the vectors have grown. httparse
//! tokenizes a head; on top, everything that two parsers could read differently is refused. State: none, the caller
//! owns the buffers and reusable heads. Never guesses where a message ends: ambiguous framing is a fault, and after a
//! fault the connection must close.

pub mod encode;
mod fault;
mod fields;
mod framing;
mod known;
mod request;
mod response;
mod target;

pub use fault::{FieldFault, RequestFault, ResponseFault};
use fields::are_values;
pub use fields::{Field, Fields};
pub(in crate::wire) use fields::{is_token, is_value};
pub use known::KnownHeads;
pub use request::{Expectation, Method, RequestHead, parse_request};
pub use response::{Asked, ResponseHead, parse_response};

#[cfg(test)]
pub(in crate::wire) mod tests;

/// The supported versions (RFC 9112 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// How the body ends (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body follows the head.
    #[default]
    Empty,
    /// Exactly this many bytes follow. Zero differs from `Empty` in that the peer announced it.
    Length(u64),
    /// Chunked: chunks, last chunk and trailer section follow.
    Chunked,
    /// Everything until the peer closes; in responses only.
    UntilClose,
}

/// Whether the connection may carry another message after this one (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    #[default]
    KeepAlive,
    Close,
}

/// Whether the head was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is filled in and ends at its `length`; later bytes are body or the next message.
    Complete,
    /// No fault so far, but the blank line has not arrived; the contents of the head are undefined.
    Partial,
}
