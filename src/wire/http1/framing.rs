//! What a head's fields say about message framing and connection persistence, gathered field by field. State: one
//! `Claims` per head, on the stack. Never chooses between two framings: that is a fault.

use super::fault::FieldFault;
use super::fields::{elements, is_name, list_has};
use super::{Framing, Persistence, Version};
use crate::limits;
use crate::wire::Span;

/// The framing and connection fields seen so far.
#[derive(Default)]
pub(super) struct Claims {
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
}

struct Coding;

impl Claims {
    /// Evaluates one field.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldFault> {
        match name.len() {
            10 if is_name(name, "connection") => {
                // Some parsers skip a Connection field with bytes above 0x7F, so the peers might disagree about
                // persistence: close.
                self.close |= list_has(value, "close") || !value.is_ascii();
                self.keep_alive |= list_has(value, "keep-alive");
            }
            14 if is_name(name, "content-length") => {
                // RFC 9112 6.3, rule 5, permits merging identical repeats; they are refused, because a hop that sends
                // them frames messages differently.
                if self.length.is_some() {
                    return Err(FieldFault::LengthRepeated);
                }
                self.length = Some(decimal(value).ok_or(FieldFault::LengthInvalid)?);
            }
            17 if is_name(name, "transfer-encoding") => {
                if self.coding.is_some() {
                    return Err(FieldFault::CodingInvalid);
                }
                self.coding = Some(coding(value)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The announced length, if any.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The framing given by the fields; `None` if they give none.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, FieldFault> {
        match (&self.coding, self.length, version) {
            // RFC 9112 6.3, rule 3: request smuggling.
            (Some(_), Some(_), _) => Err(FieldFault::FramingConflict),
            // RFC 9112 6.1: HTTP/1.0 has no chunked coding, so the framing is faulty.
            (Some(_), None, Version::Http10) => Err(FieldFault::CodingInHttp10),
            (Some(_), None, Version::Http11) => Ok(Some(Framing::Chunked)),
            (None, Some(length), _) => Ok(Some(Framing::Length(length))),
            (None, None, _) => Ok(None),
        }
    }

    /// RFC 9112 9.3: `close` wins; otherwise 1.1 persists and 1.0 only on request.
    pub(super) fn persistence(&self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::KeepAlive,
            Version::Http10 if self.keep_alive => Persistence::KeepAlive,
            Version::Http10 => Persistence::Close,
        }
    }
}

/// RFC 9110 8.6: digits only. Above 2^63 - 1 it is refused, since some parsers use signed numbers.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (number <= i64::MAX as u64).then_some(number)
}

/// RFC 9112 6.1: only a single `chunked` is accepted. A list that ends in one `chunked` is well formed but unsupported;
/// anything else has no reliable end.
fn coding(value: &[u8]) -> Result<Coding, FieldFault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding);
    }
    let is_chunked = |element: &[u8]| element.eq_ignore_ascii_case(b"chunked");
    let chunked_count = elements(value).filter(|element| is_chunked(element)).count();
    let others = elements(value).any(|element| !element.is_empty() && !is_chunked(element));
    match elements(value).last().is_some_and(is_chunked) && chunked_count == 1 && others {
        true => Err(FieldFault::CodingUnsupported),
        false => Err(FieldFault::CodingInvalid),
    }
}

/// Converts one of httparse's slices, which lie inside `input`, to a span.
pub(super) fn span_in(input: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().saturating_sub(input.as_ptr().addr());
    Span::new(start, start + part.len())
}

/// The part of `input` that a head may occupy. With this limit the verdict does not depend on how many bytes arrived
/// with the head.
pub(super) fn window(input: &[u8]) -> &[u8] {
    &input[..input.len().min(limits::HEAD_BYTES)]
}

/// RFC 9112 2.2 permits a bare LF as a line terminator, and httparse accepts it; we do not. Names, values and the start
/// line contain no LF, so checking before each field name and at the end of the head is enough.
pub(super) fn ends_line(input: &[u8], line_start: usize) -> bool {
    line_start.checked_sub(2).and_then(|end| input.get(end..line_start)) == Some(b"\r\n")
}

/// The same for the last line and the blank line.
pub(super) fn ends_head(input: &[u8], length: usize) -> bool {
    length.checked_sub(4).and_then(|end| input.get(end..length)) == Some(b"\r\n\r\n")
}
