//! Parses one response head from the bytes received so far. State: none; the caller keeps and reuses the
//! `ResponseHead`. Never trusts a backend more than a client.

use std::mem::MaybeUninit;

use super::fault::{FieldFault, ResponseFault};
use super::framing::{Claims, ends_head, ends_line, span_in, window};
use super::{Field, Fields, Framing, Persistence, Progress, Version};
use crate::limits;

/// The request's method, as far as it decides whether a body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Head,
    /// Another protocol, by a GET: 101 is an answer like any other (RFC 9110 7.8).
    Upgrade,
    Other,
}

/// One response head. The fields point into the buffer it was parsed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 599; 101 only where it was asked for. Below 200 it is interim: the caller skips it and parses the next head after it, a bounded
    /// number of times.
    pub status: u16,
    pub version: Version,
    pub framing: Framing,
    /// `Close` whenever the connection's state after this response is uncertain.
    pub persistence: Persistence,
    pub fields: Fields,
    /// Length of the head in bytes, from the start of the input through the blank line.
    pub length: usize,
}

impl ResponseHead {
    /// Clears it, but keeps the memory of its fields.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = ResponseHead { fields, ..ResponseHead::default() };
    }
}

/// Parses the head at the start of `input`, as `parse_request` does. After a fault the connection must close and no
/// part of the response may be used.
pub fn parse_response(input: &[u8], asked: Asked, head: &mut ResponseHead) -> Result<Progress, ResponseFault> {
    head.clear();
    let window = window(input);
    if let [b'\r' | b'\n', ..] = window {
        // Only a server may skip empty lines (RFC 9112 2.2); before a response they are the rest of a body.
        return Err(ResponseFault::StatusLine);
    }
    let mut slots = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS];
    let mut tokens = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut tokens, window, &mut slots) {
        Ok(httparse::Status::Complete(length)) => head.length = length,
        Ok(httparse::Status::Partial) if window.len() == limits::HEAD_BYTES => {
            return Err(FieldFault::HeadTooLarge.into());
        }
        Ok(httparse::Status::Partial) => return Ok(Progress::Partial),
        Err(error) => return Err(refusal(error, window)),
    }
    let (Some(status), Some(minor)) = (tokens.code, tokens.version) else {
        return Err(ResponseFault::StatusLine);
    };
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    head.status = match status {
        101 if asked != Asked::Upgrade => return Err(ResponseFault::Switching),
        // RFC 9110 15: codes outside this range are invalid.
        100..=599 => status,
        _ => return Err(ResponseFault::StatusLine),
    };
    let claims = take_fields(input, tokens.headers, head)?;
    settle(&claims, asked, head)?;
    Ok(Progress::Complete)
}

/// Maps httparse's error to a fault.
fn refusal(error: httparse::Error, response: &[u8]) -> ResponseFault {
    match error {
        httparse::Error::HeaderName => FieldFault::Name.into(),
        httparse::Error::HeaderValue => FieldFault::Value.into(),
        httparse::Error::NewLine => FieldFault::LineEnd.into(),
        httparse::Error::TooManyHeaders => FieldFault::TooManyFields.into(),
        httparse::Error::Version if response.starts_with(b"HTTP/") => ResponseFault::Version,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => ResponseFault::StatusLine,
    }
}

/// Takes over the fields and evaluates them.
fn take_fields(input: &[u8], headers: &[httparse::Header<'_>], head: &mut ResponseHead) -> Result<Claims, FieldFault> {
    let mut claims = Claims::default();
    for header in headers {
        let (name, value) = (header.name.as_bytes(), header.value);
        let field = Field { name: span_in(input, name), value: span_in(input, value) };
        if !ends_line(input, field.name.start as usize) {
            return Err(FieldFault::LineEnd);
        }
        claims.note(name, value)?;
        head.fields.push(field, input);
    }
    if !ends_head(input, head.length) {
        return Err(FieldFault::LineEnd);
    }
    Ok(claims)
}

/// RFC 9112 6.3: how the body ends, and whether the connection is reusable after it.
fn settle(claims: &Claims, asked: Asked, head: &mut ResponseHead) -> Result<(), FieldFault> {
    let framing = claims.framing(head.version)?;
    head.persistence = claims.persistence(head.version);
    let never_has_body = head.status < 200 || head.status == 204;
    head.framing = match framing {
        // Rule 1: these end at the blank line whatever their fields say.
        _ if never_has_body || head.status == 304 || asked == Asked::Head => Framing::Empty,
        Some(framing) => framing,
        // Rule 8.
        None => Framing::UntilClose,
    };
    // RFC 9110 8.6 and RFC 9112 6.1 forbid both fields in 1xx and 204. A backend that sends them may send the body too,
    // which would be read as the next response: close the connection.
    let announces_forbidden_body = never_has_body && framing.is_some() && claims.length() != Some(0);
    if head.framing == Framing::UntilClose || announces_forbidden_body {
        head.persistence = Persistence::Close;
    }
    Ok(())
}
