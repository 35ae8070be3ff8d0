//! MessagePack (msgpack.org), by the markers of the `rmp` crate.

use rmp::Marker;
use rmp::encode;

use super::{FormatFault, check_length, descend, take, write_float};
use crate::wire::json::{Kind, Value, write_json_bytes};

pub fn to_json(mut input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    write_value(&mut input, max, 0, out)?;
    if input.is_empty() { Ok(()) } else { Err(FormatFault::TrailingBytes) }
}

/// A big-endian number of `N` bytes.
fn number<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], FormatFault> {
    let bytes = take(input, N)?;
    bytes.first_chunk().copied().ok_or(FormatFault::Truncated)
}

fn length_8(input: &mut &[u8]) -> Result<usize, FormatFault> {
    Ok(u8::from_be_bytes(number(input)?).into())
}

fn length_16(input: &mut &[u8]) -> Result<usize, FormatFault> {
    Ok(u16::from_be_bytes(number(input)?).into())
}

fn length_32(input: &mut &[u8]) -> Result<usize, FormatFault> {
    Ok(u32::from_be_bytes(number(input)?) as usize)
}

fn write_value(input: &mut &[u8], max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let marker = Marker::from_u8(u8::from_be_bytes(number(input)?));
    match marker {
        Marker::Null => out.extend_from_slice(b"null"),
        Marker::True => out.extend_from_slice(b"true"),
        Marker::False => out.extend_from_slice(b"false"),
        Marker::FixPos(value) => unsigned(value.into(), out),
        Marker::U8 => unsigned(u8::from_be_bytes(number(input)?).into(), out),
        Marker::U16 => unsigned(u16::from_be_bytes(number(input)?).into(), out),
        Marker::U32 => unsigned(u32::from_be_bytes(number(input)?).into(), out),
        Marker::U64 => unsigned(u64::from_be_bytes(number(input)?), out),
        Marker::FixNeg(value) => signed(value.into(), out),
        Marker::I8 => signed(i8::from_be_bytes(number(input)?).into(), out),
        Marker::I16 => signed(i16::from_be_bytes(number(input)?).into(), out),
        Marker::I32 => signed(i32::from_be_bytes(number(input)?).into(), out),
        Marker::I64 => signed(i64::from_be_bytes(number(input)?), out),
        Marker::F32 => {
            let value = f32::from_be_bytes(number(input)?);
            if !value.is_finite() {
                return Err(FormatFault::NotFinite);
            }
            // The shortest text that is this number again: 0.1, where the nearest of 64 bits is 0.10000000149011612.
            serde_json::to_writer(&mut *out, &value).map_err(|_| FormatFault::NotFinite)?;
        }
        Marker::F64 => write_float(f64::from_be_bytes(number(input)?), out)?,
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            write_json_bytes(out, text(marker, input)?);
        }
        Marker::FixArray(length) => array(input, length.into(), max, depth, out)?,
        Marker::Array16 => {
            let length = length_16(input)?;
            array(input, length, max, depth, out)?;
        }
        Marker::Array32 => {
            let length = length_32(input)?;
            array(input, length, max, depth, out)?;
        }
        Marker::FixMap(length) => map(input, length.into(), max, depth, out)?,
        Marker::Map16 => {
            let length = length_16(input)?;
            map(input, length, max, depth, out)?;
        }
        Marker::Map32 => {
            let length = length_32(input)?;
            map(input, length, max, depth, out)?;
        }
        Marker::Bin8
        | Marker::Bin16
        | Marker::Bin32
        | Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => return Err(FormatFault::Binary),
        Marker::Reserved => return Err(FormatFault::Malformed),
    }
    check_length(out, max)
}

/// The string that begins behind `marker`.
fn text<'a>(marker: Marker, input: &mut &'a [u8]) -> Result<&'a [u8], FormatFault> {
    let length = match marker {
        Marker::FixStr(length) => length.into(),
        Marker::Str8 => length_8(input)?,
        Marker::Str16 => length_16(input)?,
        Marker::Str32 => length_32(input)?,
        _ => return Err(FormatFault::KeyNotText),
    };
    let bytes = take(input, length)?;
    simdutf8::basic::from_utf8(bytes).map(str::as_bytes).map_err(|_| FormatFault::NotUtf8)
}

fn array(input: &mut &[u8], length: usize, max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let depth = descend(depth)?;
    out.push(b'[');
    for place in 0..length {
        if place > 0 {
            out.push(b',');
        }
        write_value(input, max, depth, out)?;
    }
    out.push(b']');
    Ok(())
}

fn map(input: &mut &[u8], length: usize, max: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let depth = descend(depth)?;
    out.push(b'{');
    for place in 0..length {
        if place > 0 {
            out.push(b',');
        }
        let marker = Marker::from_u8(u8::from_be_bytes(number(input)?));
        write_json_bytes(out, text(marker, input)?);
        out.push(b':');
        write_value(input, max, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn unsigned(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn signed(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub fn from_json(root: Value<'_>, input: &[u8]) -> Result<Vec<u8>, FormatFault> {
    let (mut out, mut scratch) = (Vec::with_capacity(input.len()), Vec::new());
    append(root, input, 0, &mut scratch, &mut out)?;
    Ok(out)
}

/// Writing to memory does not fail; what is too long for MessagePack is too long for the gateway.
fn append(
    value: Value<'_>,
    input: &[u8],
    depth: usize,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), FormatFault> {
    match value.kind() {
        Kind::Null => encode::write_nil(out).map_err(|_| FormatFault::TooLarge)?,
        Kind::Bool => encode::write_bool(out, value.as_bool() == Some(true)).map_err(|_| FormatFault::TooLarge)?,
        Kind::Number => append_number(value.span().of(input), out)?,
        Kind::String => append_text(value, input, scratch, out)?,
        Kind::Array => {
            let depth = descend(depth)?;
            let numbers = || numbers(value, input);
            let length = if value.is_numbers() { numbers().count() } else { value.elements().count() };
            let length = u32::try_from(length).map_err(|_| FormatFault::TooLarge)?;
            encode::write_array_len(out, length).map_err(|_| FormatFault::TooLarge)?;
            if value.is_numbers() {
                return numbers().try_for_each(|number| append_number(number, out));
            }
            for element in value.elements() {
                append(element, input, depth, scratch, out)?;
            }
        }
        Kind::Object => {
            let depth = descend(depth)?;
            let length = u32::try_from(value.members().count()).map_err(|_| FormatFault::TooLarge)?;
            encode::write_map_len(out, length).map_err(|_| FormatFault::TooLarge)?;
            for member in value.members() {
                append_text(member.name, input, scratch, out)?;
                append(member.value, input, depth, scratch, out)?;
            }
        }
    }
    Ok(())
}

fn append_text(text: Value<'_>, input: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let text = String::from_utf8_lossy(text.text(input, scratch).unwrap_or_default());
    encode::write_str(out, &text).map_err(|_| FormatFault::TooLarge)
}

fn append_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), FormatFault> {
    let text = std::str::from_utf8(text).map_err(|_| FormatFault::Malformed)?;
    if let Ok(number) = text.parse::<u64>() {
        return encode::write_uint(out, number).map(drop).map_err(|_| FormatFault::TooLarge);
    }
    if let Ok(number) = text.parse::<i64>() {
        return encode::write_sint(out, number).map(drop).map_err(|_| FormatFault::TooLarge);
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or(FormatFault::NotFinite)?;
    encode::write_f64(out, number).map_err(|_| FormatFault::TooLarge)
}

/// The numbers of an array of nothing else.
pub(super) fn numbers<'a>(array: Value<'_>, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let inside = array.span().of(input);
    let inside = inside.get(1..inside.len().saturating_sub(1)).unwrap_or(&[]);
    inside.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
