//! `google.protobuf.Struct` (google/protobuf/struct.proto), read and written on the wire without being built: a value takes 24
//! times as much in memory as in a message.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::msgpack::numbers;
use super::{FormatFault, check_length, descend, take, write_float};
use crate::wire::json::{Kind, Value, write_json_bytes};

/// Fields of `Struct`, of its map's entries, and of `ListValue`.
const FIELDS: u32 = 1;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const VALUES: u32 = 1;
/// Fields of `Value`, of which it has one.
const NULL_VALUE: u32 = 1;
const NUMBER_VALUE: u32 = 2;
const STRING_VALUE: u32 = 3;
const BOOL_VALUE: u32 = 4;
const STRUCT_VALUE: u32 = 5;
const LIST_VALUE: u32 = 6;

/// Integers up to here are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub fn to_json(input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    write_struct(input, max, 0, out)
}

/// What a field holds.
enum Held<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// The next field of a message, which is passed over.
fn field<'a>(input: &mut &'a [u8]) -> Result<(u32, Held<'a>), FormatFault> {
    let (tag, wire_type) = decode_key(input).map_err(|_| FormatFault::Malformed)?;
    let held = match wire_type {
        WireType::Varint => Held::Varint(decode_varint(input).map_err(|_| FormatFault::Malformed)?),
        WireType::SixtyFourBit => Held::Fixed64(*take(input, 8)?.first_chunk().ok_or(FormatFault::Truncated)?),
        WireType::LengthDelimited => {
            let length = decode_varint(input).map_err(|_| FormatFault::Malformed)?;
            Held::Bytes(take(input, usize::try_from(length).map_err(|_| FormatFault::Truncated)?)?)
        }
        // None of these messages has such fields.
        WireType::ThirtyTwoBit | WireType::StartGroup | WireType::EndGroup => return Err(FormatFault::Malformed),
    };
    Ok((tag, held))
}

fn write_struct(mut input: &[u8], max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let depth = descend(depth)?;
    out.push(b'{');
    let mut is_first = true;
    while input.has_remaining() {
        let (FIELDS, Held::Bytes(entry)) = field(&mut input)? else { return Err(FormatFault::Malformed) };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write_entry(entry, max, depth, out)?;
    }
    out.push(b'}');
    check_length(out, max)
}

fn write_entry(mut entry: &[u8], max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    // A field that is its type's default may be left out.
    let (mut key, mut value) = (&b""[..], &b""[..]);
    while entry.has_remaining() {
        match field(&mut entry)? {
            (KEY, Held::Bytes(bytes)) => key = bytes,
            (VALUE, Held::Bytes(bytes)) => value = bytes,
            _ => return Err(FormatFault::Malformed),
        }
    }
    write_text(key, out)?;
    out.push(b':');
    write_value(value, max, depth, out)
}

fn write_text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FormatFault> {
    write_json_bytes(out, simdutf8::basic::from_utf8(bytes).map_err(|_| FormatFault::NotUtf8)?.as_bytes());
    Ok(())
}

fn write_value(mut input: &[u8], max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    if input.is_empty() {
        return Err(FormatFault::Malformed); // a Value without any
    }
    let held = field(&mut input)?;
    if input.has_remaining() {
        return Err(FormatFault::Malformed); // which of them holds?
    }
    match held {
        (NULL_VALUE, Held::Varint(_)) => out.extend_from_slice(b"null"),
        (NUMBER_VALUE, Held::Fixed64(bytes)) => write_number(f64::from_le_bytes(bytes), out)?,
        (STRING_VALUE, Held::Bytes(text)) => write_text(text, out)?,
        (BOOL_VALUE, Held::Varint(truth)) => out.extend_from_slice(if truth == 0 { b"false" } else { b"true" }),
        (STRUCT_VALUE, Held::Bytes(inner)) => write_struct(inner, max, depth, out)?,
        (LIST_VALUE, Held::Bytes(inner)) => write_list(inner, max, depth, out)?,
        _ => return Err(FormatFault::Malformed),
    }
    check_length(out, max)
}

fn write_list(mut input: &[u8], max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let depth = descend(depth)?;
    out.push(b'[');
    let mut is_first = true;
    while input.has_remaining() {
        let (VALUES, Held::Bytes(value)) = field(&mut input)? else { return Err(FormatFault::Malformed) };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write_value(value, max, depth, out)?;
    }
    out.push(b']');
    Ok(())
}

/// All numbers are floating: those that are integers are written as such, as `max_tokens` and the like have to be.
fn write_number(number: f64, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    if number.fract() == 0.0 && number.abs() < EXACT {
        out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
        return Ok(());
    }
    write_float(number, out)
}

pub fn from_json(root: Value<'_>, input: &[u8]) -> Result<Vec<u8>, FormatFault> {
    if root.kind() != Kind::Object {
        return Err(FormatFault::NotAnObject);
    }
    let mut out = Vec::with_capacity(input.len());
    append_struct(root, input, 0, &mut out)?;
    Ok(out)
}

/// Appends a field whose content `write` appends. Its length stands in front of it and is known behind it: it is moved there.
fn nested(
    tag: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FormatFault>,
) -> Result<(), FormatFault> {
    encode_key(tag, WireType::LengthDelimited, out);
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(10);
    encode_varint((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
    Ok(())
}

fn append_struct(object: Value<'_>, input: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let depth = descend(depth)?;
    for member in object.members() {
        nested(FIELDS, out, |out| {
            append_text(KEY, member.name, input, out);
            nested(VALUE, out, |out| append_value(member.value, input, depth, out))
        })?;
    }
    Ok(())
}

fn append_text(tag: u32, text: Value<'_>, input: &[u8], out: &mut Vec<u8>) {
    let mut scratch = Vec::new();
    let text = String::from_utf8_lossy(text.text(input, &mut scratch).unwrap_or_default());
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn append_value(value: Value<'_>, input: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    match value.kind() {
        Kind::Null => append_varint(NULL_VALUE, 0, out),
        Kind::Bool => append_varint(BOOL_VALUE, u64::from(value.as_bool() == Some(true)), out),
        Kind::Number => append_number(value.span().of(input), out)?,
        Kind::String => append_text(STRING_VALUE, value, input, out),
        Kind::Object => nested(STRUCT_VALUE, out, |out| append_struct(value, input, depth, out))?,
        Kind::Array => nested(LIST_VALUE, out, |out| {
            let depth = descend(depth)?;
            if value.is_numbers() {
                return numbers(value, input)
                    .try_for_each(|number| nested(VALUES, out, |out| append_number(number, out)));
            }
            value.elements().try_for_each(|element| nested(VALUES, out, |out| append_value(element, input, depth, out)))
        })?,
    }
    Ok(())
}

fn append_varint(tag: u32, number: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(number, out);
}

fn append_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    let number = number.filter(|number| number.is_finite()).ok_or(FormatFault::NotFinite)?;
    encode_key(NUMBER_VALUE, WireType::SixtyFourBit, out);
    out.extend_from_slice(&number.to_le_bytes());
    Ok(())
}
