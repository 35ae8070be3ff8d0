//! Documents in other formats than JSON, to JSON and back: MessagePack, and Protocol Buffers as `google.protobuf.Struct`, the
//! message that stands for a JSON object. What one format has and the other has not (binary data, infinities, keys that are no
//! text) is refused, never rewritten into something else.

mod msgpack;
mod protobuf;

#[cfg(test)]
mod tests;

use super::json::{JsonFault, Tape, parse_unchecked_names};
use crate::limits::FORMAT_DEPTH;

/// How a document is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    MessagePack,
    /// `google.protobuf.Struct`.
    Protobuf,
}

/// Why a document was refused. The texts may be shown to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    #[error("it ends too early")]
    Truncated,
    #[error("there are bytes behind its end")]
    TrailingBytes,
    #[error("it is malformed")]
    Malformed,
    #[error("it is nested more than {FORMAT_DEPTH} levels deep")]
    TooDeep,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("it has binary data or an extension type; send text, for instance in base64")]
    Binary,
    #[error("it has a number that is infinite or not a number")]
    NotFinite,
    #[error("a map has a key that is not a string")]
    KeyNotText,
    #[error("only an object can be a Struct")]
    NotAnObject,
    #[error("it is too large")]
    TooLarge,
    #[error(transparent)]
    Json(#[from] JsonFault),
}

impl Format {
    /// By the registered media type, and by those that were used before there was one. Anything else is taken for JSON, as it was
    /// before there were formats.
    pub fn of_content_type(content_type: &[u8]) -> Format {
        Format::of_media_type(media_type(content_type)).unwrap_or_default()
    }

    fn of_media_type(name: &[u8]) -> Option<Format> {
        const NAMES: [(&str, Format); 10] = [
            ("application/json", Format::Json),
            ("application/*", Format::Json),
            ("*/*", Format::Json),
            ("application/vnd.msgpack", Format::MessagePack),
            ("application/msgpack", Format::MessagePack),
            ("application/x-msgpack", Format::MessagePack),
            ("application/protobuf", Format::Protobuf),
            ("application/x-protobuf", Format::Protobuf),
            ("application/vnd.google.protobuf", Format::Protobuf),
            ("application/x-google-protobuf", Format::Protobuf),
        ];
        NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, format)| *format)
    }

    /// For `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::MessagePack => "application/vnd.msgpack",
            Format::Protobuf => "application/protobuf",
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::MessagePack => "MessagePack",
            Format::Protobuf => "a google.protobuf.Struct",
        }
    }

    /// Appends the document in JSON to `out`, which is not to be longer than `max` bytes then. Duplicate keys are passed on: who
    /// reads the JSON decides. Errors: see [`FormatFault`]; `out` has a part by then.
    pub fn to_json(self, document: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
        match self {
            Format::Json if document.len() > max.saturating_sub(out.len()) => Err(FormatFault::TooLarge),
            Format::Json => {
                out.extend_from_slice(document);
                Ok(())
            }
            Format::MessagePack => msgpack::to_json(document, max, out),
            Format::Protobuf => protobuf::to_json(document, max, out),
        }
    }

    /// The JSON `document` in this format. Numbers become the nearest one that the format has. Errors: no JSON; nested too deeply; no
    /// object, where only that can be said.
    pub fn from_json(self, document: &[u8]) -> Result<Vec<u8>, FormatFault> {
        let mut tape = Tape::new();
        parse_unchecked_names(document, &mut tape)?;
        match self {
            Format::Json => Ok(document.to_vec()),
            Format::MessagePack => msgpack::from_json(tape.root(), document),
            Format::Protobuf => protobuf::from_json(tape.root(), document),
        }
    }
}

/// Without parameters.
fn media_type(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii()
}

/// What a client accepts, gathered from the values of `Accept` (RFC 9110 12.5.1): the format with the highest weight, of several
/// the first. One that is not named is not chosen, and without a name that is known it is JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accepted {
    best: Option<(u16, Format)>,
}

impl Accepted {
    /// Adds a value.
    pub fn note(&mut self, accept: &[u8]) {
        for range in accept.split(|byte| *byte == b',') {
            let Some(format) = Format::of_media_type(media_type(range)) else { continue };
            let weight = range.split(|byte| *byte == b';').skip(1).find_map(weight).unwrap_or(1000);
            if weight > 0 && self.best.is_none_or(|(best, _)| weight > best) {
                self.best = Some((weight, format));
            }
        }
    }

    pub fn format(self) -> Format {
        self.best.map_or(Format::Json, |(_, format)| format)
    }
}

/// `q=0.5` in thousandths; what cannot be read is 0, the least it may mean.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = match parameter.trim_ascii() {
        [b'q' | b'Q', b'=', value @ ..] => std::str::from_utf8(value).ok(),
        _ => return None,
    };
    let number = value.and_then(|value| value.parse::<f32>().ok()).filter(|number| (0.0..=1.0).contains(number));
    Some(number.map_or(0, |number| (number * 1000.0) as u16))
}

/// A number in JSON. Errors: JSON has none like it.
fn write_float(number: f64, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    if !number.is_finite() {
        return Err(FormatFault::NotFinite);
    }
    serde_json::to_writer(out, &number).map_err(|_| FormatFault::NotFinite)
}

/// Fails once `out` is longer than it may be.
fn check_length(out: &[u8], max: usize) -> Result<(), FormatFault> {
    if out.len() > max { Err(FormatFault::TooLarge) } else { Ok(()) }
}

/// One level deeper.
fn descend(depth: usize) -> Result<usize, FormatFault> {
    if depth == FORMAT_DEPTH { Err(FormatFault::TooDeep) } else { Ok(depth + 1) }
}

/// The front of `input`, which is passed over.
fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], FormatFault> {
    let (front, rest) = input.split_at_checked(length).ok_or(FormatFault::Truncated)?;
    *input = rest;
    Ok(front)
}
