//! HTTP/1.1 heads and written bytes: strict, without I/O, without allocation once the vectors have grown.
//! httparse splits a head into tokens; everything two parsers could read differently is refused on top of it.
//! State: none, the caller owns the buffers and the reusable heads. Never guesses where a message ends:
//! what is not plainly framed is a fault, and after a fault the connection must close.

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

/// The two versions this codec speaks (RFC 9112 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// Where the body ends (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body follows the head.
    #[default]
    Empty,
    /// Exactly so many bytes follow; zero is possible and differs from `Empty` in that the peer said so.
    Length(u64),
    /// Chunks, a last chunk, and a trailer section follow.
    Chunked,
    /// Everything until the peer closes belongs to the body; in responses only.
    UntilClose,
}

/// Whether the connection may carry another message after this one (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    #[default]
    KeepAlive,
    Close,
}

/// Whether a head was there in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is filled in and ends at its `length`; later bytes are body or the next message.
    Complete,
    /// Nothing wrong so far, but the blank line has not come; the head's contents mean nothing yet.
    Partial,
}
