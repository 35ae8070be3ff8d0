//! Parses one request head from the bytes received so far. State: none; the caller keeps and reuses the `RequestHead`.
//! Never accepts what it cannot frame.

use std::mem::MaybeUninit;

use super::fault::{FieldFault, RequestFault};
use super::framing::{Claims, ends_head, ends_line, span_in, window};
use super::target::{self, Asterisk};
use super::{Field, Fields, Framing, Persistence, Progress, Version};
use crate::limits;
use crate::wire::Span;
use crate::wire::format::{Accepted, Format};

/// Methods with special treatment; any other token is `Other`, readable in `method_span`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other,
}

impl Method {
    /// As a request line has it; none of a method that is not known.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Other => return None,
        })
    }

    /// Methods are case-sensitive (RFC 9110 9.1).
    fn read(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// Whether the client waits for 100 (Continue) before it sends the body (RFC 9110 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    #[default]
    None,
    /// Send `encode::CONTINUE` before reading the body, or a final response instead.
    Continue,
}

/// One request head. Spans and fields point into the buffer it was parsed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub method_span: Span,
    /// The target as received: `/path?query`, `http://host/path?query`, or `*`.
    pub target: Span,
    /// The part of `target` from the path on, with the query; empty if an absolute form ends after the host, which
    /// means `/` (RFC 9112 3.2.1).
    pub path: Span,
    pub version: Version,
    /// Never `UntilClose`.
    pub framing: Framing,
    pub persistence: Persistence,
    pub expect_continue: Expectation,
    /// The Host field's value. In HTTP/1.0, where the field may be missing, the host of an absolute target, or empty.
    pub host: Span,
    /// How the body is written, and how an answer is to be.
    pub body_format: Format,
    pub answer_format: Format,
    pub fields: Fields,
    /// Length of the head in bytes, from the start of the input through the blank line.
    pub length: usize,
}

impl RequestHead {
    /// Clears it, but keeps the memory of its fields.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = RequestHead { fields, ..RequestHead::default() };
    }
}

/// Parses the head at the start of `input`, which holds all bytes of the message so far. After `Partial`, call again
/// with the same bytes and more.
///
/// The verdict depends on the head alone: later bytes do not change it, and a refused prefix is never accepted later.
/// After a fault the connection must close once the response is sent.
///
/// No state is kept between calls: a head that arrives byte by byte is parsed again for each byte, which the bound on
/// heads keeps cheaper than the system calls that read them.
pub fn parse_request(input: &[u8], head: &mut RequestHead) -> Result<Progress, RequestFault> {
    head.clear();
    let window = window(input);
    let Some(skipped) = leading_line(window)? else { return Ok(Progress::Partial) };
    let mut slots = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS];
    let mut tokens = httparse::Request::new(&mut []);
    match tokens.parse_with_uninit_headers(&window[skipped..], &mut slots) {
        Ok(httparse::Status::Complete(length)) => head.length = skipped + length,
        Ok(httparse::Status::Partial) => return check_partial(window, skipped, &tokens),
        Err(error) => return Err(refusal(error, &window[skipped..])),
    }
    let (Some(method), Some(target), Some(minor)) = (tokens.method, tokens.path, tokens.version) else {
        return Err(RequestFault::RequestLine);
    };
    if target.len() > limits::TARGET_BYTES {
        return Err(RequestFault::TargetTooLong);
    }
    head.method = Method::read(method.as_bytes());
    head.method_span = span_in(input, method.as_bytes());
    head.target = span_in(input, target.as_bytes());
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let host_count = take_fields(input, tokens.headers, head)?;
    check_target(input, host_count, head)?;
    Ok(Progress::Complete)
}

/// RFC 9112 2.2: a robust server ignores at least one empty line before the request. `None`: it may still be one.
fn leading_line(input: &[u8]) -> Result<Option<usize>, RequestFault> {
    match input {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => Err(RequestFault::LeadingLines),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(RequestFault::Field(FieldFault::LineEnd)),
        _ => Ok(Some(0)),
    }
}

/// An unfinished head is refused as soon as it is too long, not when it ends.
fn check_partial(window: &[u8], skipped: usize, tokens: &httparse::Request<'_, '_>) -> Result<Progress, RequestFault> {
    let target_bytes = match (tokens.method, tokens.path) {
        (_, Some(target)) => target.len(),
        (Some(method), None) => window.len().saturating_sub(skipped + method.len() + 1),
        (None, None) => 0,
    };
    if target_bytes > limits::TARGET_BYTES {
        return Err(RequestFault::TargetTooLong);
    }
    if window.len() == limits::HEAD_BYTES {
        return Err(FieldFault::HeadTooLarge.into());
    }
    Ok(Progress::Partial)
}

/// Maps httparse's error to a fault.
fn refusal(error: httparse::Error, request: &[u8]) -> RequestFault {
    match error {
        httparse::Error::HeaderName => FieldFault::Name.into(),
        httparse::Error::HeaderValue => FieldFault::Value.into(),
        httparse::Error::NewLine => FieldFault::LineEnd.into(),
        httparse::Error::TooManyHeaders => FieldFault::TooManyFields.into(),
        httparse::Error::Version if names_version(request) => RequestFault::Version,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => RequestFault::RequestLine,
    }
}

/// Whether the third word of the request line is a version at all: 505 if so, otherwise 400.
fn names_version(request: &[u8]) -> bool {
    let third = request.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or(&[]);
    matches!(third, [b'H', b'T', b'T', b'P', b'/', digit, ..] if digit.is_ascii_digit())
}

/// Takes over the fields and evaluates them; returns the number of Host fields.
fn take_fields(input: &[u8], headers: &[httparse::Header<'_>], head: &mut RequestHead) -> Result<usize, RequestFault> {
    let mut claims = Claims::default();
    let (mut host_count, mut accepted) = (0, Accepted::default());
    for header in headers {
        let (name, value) = (header.name.as_bytes(), header.value);
        let field = Field { name: span_in(input, name), value: span_in(input, value) };
        if !ends_line(input, field.name.start as usize) {
            return Err(FieldFault::LineEnd.into());
        }
        claims.note(name, value)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                host_count += 1;
                head.host = field.value;
            }
            6 if name.eq_ignore_ascii_case(b"accept") => accepted.note(value),
            12 if name.eq_ignore_ascii_case(b"content-type") => head.body_format = Format::of_content_type(value),
            // RFC 9110 10.1.1: ignored in HTTP/1.0.
            6 if head.version == Version::Http11 && name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestFault::Expectation);
                }
                head.expect_continue = Expectation::Continue;
            }
            _ => {}
        }
        head.fields.push(field, input);
    }
    if !ends_head(input, head.length) {
        return Err(FieldFault::LineEnd.into());
    }
    // RFC 9112 6.3, rule 7: a request without framing fields has no body.
    head.framing = claims.framing(head.version)?.unwrap_or(Framing::Empty);
    head.persistence = claims.persistence(head.version);
    head.answer_format = accepted.format();
    if matches!(head.framing, Framing::Empty | Framing::Length(0)) {
        // RFC 9110 10.1.1: no 100 (Continue) for a request without content.
        head.expect_continue = Expectation::None;
    }
    Ok(host_count)
}

/// RFC 9112 3.2: a valid target form, and exactly one valid Host that agrees with it.
fn check_target(input: &[u8], host_count: usize, head: &mut RequestHead) -> Result<(), RequestFault> {
    if head.method_span.of(input) == b"CONNECT" {
        return Err(RequestFault::Connect);
    }
    let asterisk = if head.method == Method::Options { Asterisk::Allowed } else { Asterisk::Refused };
    let parts = target::split(head.target.of(input), asterisk).ok_or(RequestFault::Target)?;
    let target_start = head.target.start as usize;
    head.path = Span::new(target_start + parts.path_start, head.target.end as usize);
    let authority = parts.authority.map(|(start, end)| Span::new(target_start + start, target_start + end));
    match (host_count, head.version) {
        (1, _) => {}
        (0, Version::Http10) => {
            head.host = authority.unwrap_or_default();
            return Ok(());
        }
        (0, Version::Http11) => return Err(RequestFault::HostMissing),
        _ => return Err(RequestFault::HostRepeated),
    }
    let host = head.host.of(input);
    if !target::is_host(host) {
        return Err(RequestFault::HostInvalid);
    }
    // RFC 9112 3.2.2 lets the target override Host. Different names indicate an error or an attack, so they must be
    // equal.
    match authority {
        Some(authority) if !authority.of(input).eq_ignore_ascii_case(host) => Err(RequestFault::HostDiffers),
        _ => Ok(()),
    }
}
