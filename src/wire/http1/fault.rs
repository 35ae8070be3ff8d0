//! Why a head was refused: one variant per reason, one stable sentence per variant, safe to show to the peer.
//! Never carries bytes of the message, so that a refusal cannot echo a credential.

use crate::limits;
use thiserror::Error;

/// Faults in the fields of a head, request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldFault {
    #[error("The head is larger than {} KiB.", limits::HEAD_BYTES >> 10)]
    HeadTooLarge,
    #[error("The head has more than {} header fields.", limits::HEAD_FIELDS)]
    TooManyFields,
    #[error("A header field name is empty, folded, followed by a space, or holds a character that is not allowed.")]
    Name,
    #[error("A header field value holds a control character.")]
    Value,
    #[error("A line of the head does not end in CR LF.")]
    LineEnd,
    #[error("Content-Length is not a single decimal number.")]
    LengthInvalid,
    #[error("Content-Length is given more than once.")]
    LengthRepeated,
    #[error("Content-Length and Transfer-Encoding are both given.")]
    FramingConflict,
    #[error("Transfer-Encoding is not exactly one chunked coding.")]
    CodingInvalid,
    #[error("Transfer-Encoding names a coding other than chunked.")]
    CodingUnsupported,
    #[error("Transfer-Encoding is not allowed in HTTP/1.0.")]
    CodingInHttp10,
}

/// Why a request was refused. The connection must close after any of them: what follows cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestFault {
    #[error(transparent)]
    Field(#[from] FieldFault),
    #[error("The request begins with more than one empty line.")]
    LeadingLines,
    #[error("The request line is not a method, a target and a version, each separated by one space.")]
    RequestLine,
    #[error("The HTTP version is not 1.0 or 1.1.")]
    Version,
    #[error("The method CONNECT is not offered.")]
    Connect,
    #[error("The request target is longer than {} KiB.", limits::TARGET_BYTES >> 10)]
    TargetTooLong,
    #[error("The request target is not a path, an http or https URL, or * with OPTIONS.")]
    Target,
    #[error("The Host header field is missing.")]
    HostMissing,
    #[error("The Host header field is given more than once.")]
    HostRepeated,
    #[error("The Host header field is not a host name or address with an optional port.")]
    HostInvalid,
    #[error("The Host header field and the request target name different hosts.")]
    HostDiffers,
    #[error("The Expect header field asks for something other than 100-continue.")]
    Expectation,
}

impl RequestFault {
    /// The status of the response to the client.
    pub fn status(self) -> u16 {
        match self {
            // RFC 6585 5.
            Self::Field(FieldFault::HeadTooLarge | FieldFault::TooManyFields) => 431,
            // RFC 9112 6.1: a transfer coding the server does not understand.
            Self::Field(FieldFault::CodingUnsupported) => 501,
            // RFC 9112 3.2, RFC 9110 5.5, RFC 9112 6.1 and 6.3: malformed or ambiguous.
            Self::Field(
                FieldFault::Name
                | FieldFault::Value
                | FieldFault::LineEnd
                | FieldFault::LengthInvalid
                | FieldFault::LengthRepeated
                | FieldFault::FramingConflict
                | FieldFault::CodingInvalid
                | FieldFault::CodingInHttp10,
            ) => 400,
            // RFC 9110 15.6.6.
            Self::Version => 505,
            // RFC 9110 9.1: a method the server does not implement.
            Self::Connect => 501,
            // RFC 9112 3.
            Self::TargetTooLong => 414,
            // RFC 9110 10.1.1.
            Self::Expectation => 417,
            Self::LeadingLines
            | Self::RequestLine
            | Self::Target
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::HostDiffers => 400,
        }
    }
}

/// Why a backend's response was refused. The connection must close; the client gets 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseFault {
    #[error(transparent)]
    Field(#[from] FieldFault),
    #[error("The status line is not a version, a status between 100 and 599, and an optional reason.")]
    StatusLine,
    #[error("The HTTP version is not 1.0 or 1.1.")]
    Version,
    #[error("The response switches protocols without a request to.")]
    Switching,
}
