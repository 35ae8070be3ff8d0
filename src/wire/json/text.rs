//! The text of JSON strings: escapes to bytes and back. Lone surrogates become WTF-8, so that different texts stay
//! different. For strings that the scanner has accepted; for anything else the result is unspecified, without panic.

use super::Node;
use std::cmp::Ordering;

/// Whether the string `node` has exactly the text `text`.
pub(super) fn same_text(input: &[u8], node: &Node, text: &[u8]) -> bool {
    let inside = node.inside(input);
    if node.flag() { Decoded::new(inside).eq(text.iter().copied()) } else { inside == text }
}

/// Compares the texts of two strings by bytes.
pub(super) fn order_of(input: &[u8], one: &Node, other: &Node) -> Ordering {
    let (left, right) = (one.inside(input), other.inside(input));
    if one.flag() || other.flag() { Decoded::new(left).cmp(Decoded::new(right)) } else { left.cmp(right) }
}

/// The first eight bytes of a string's text, big endian, padded with zeros: ordered like the text itself as far as
/// these bytes differ.
pub(super) fn leading_bytes(input: &[u8], node: &Node) -> u64 {
    let inside = node.inside(input);
    if node.flag() {
        let mut bytes = [0u8; 8];
        for (place, byte) in bytes.iter_mut().zip(Decoded::new(inside)) {
            *place = byte;
        }
        return u64::from_be_bytes(bytes);
    }
    // A short name is mostly followed by enough other bytes for an eight-byte read, which is masked.
    let with_rest = input.get(node.start as usize + 1..).and_then(|rest| rest.first_chunk::<8>());
    match with_rest {
        Some(bytes) if inside.len() < 8 => u64::from_be_bytes(*bytes) & !(u64::MAX >> (8 * inside.len())),
        _ => eight_bytes(inside),
    }
}

/// The first eight bytes as a number, big endian, padded with zeros.
pub(super) fn eight_bytes(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None if text.is_empty() => 0,
        None => text.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte)) << (64 - 8 * text.len()),
    }
}

/// Appends the text of the string `node`.
pub(super) fn append_text(input: &[u8], node: &Node, out: &mut Vec<u8>) {
    let inside = node.inside(input);
    if node.flag() { append_unescaped(inside, out) } else { out.extend_from_slice(inside) }
}

/// Appends the text of a string given without its quotes.
pub fn append_unescaped(inside: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(run) = memchr::memchr(b'\\', &inside[at..]) {
        out.extend_from_slice(&inside[at..at + run]);
        let (code, length) = escape_at(inside, at + run);
        let (bytes, count) = encode(code);
        out.extend_from_slice(&bytes[..count]);
        at = (at + run + length).min(inside.len());
    }
    out.extend_from_slice(&inside[at..]);
}

/// The first offset from `until` on, up to `end`, at which the inside of a string that goes on at `at` can be cut: between two
/// escapes, or within plain text.
pub(super) fn escape_end(input: &[u8], at: usize, until: usize, end: usize) -> usize {
    let inside = input.get(..end).unwrap_or(input);
    let mut at = at;
    while at < until {
        match memchr::memchr(b'\\', &inside[at..until]) {
            Some(run) => at += run + escape_at(inside, at + run).1,
            None => return until,
        }
    }
    at.min(inside.len())
}

/// The text of a string given without its quotes, byte by byte, without a buffer.
pub fn unescaped(inside: &[u8]) -> impl Iterator<Item = u8> {
    Decoded::new(inside)
}

struct Decoded<'a> {
    inside: &'a [u8],
    at: usize,
    pending: [u8; 4],
    pending_at: usize,
    pending_end: usize,
}

impl<'a> Decoded<'a> {
    fn new(inside: &'a [u8]) -> Decoded<'a> {
        Decoded { inside, at: 0, pending: [0; 4], pending_at: 0, pending_end: 0 }
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.pending_at < self.pending_end {
            self.pending_at += 1;
            return self.pending.get(self.pending_at - 1).copied();
        }
        let byte = *self.inside.get(self.at)?;
        if byte != b'\\' {
            self.at += 1;
            return Some(byte);
        }
        let (code, length) = escape_at(self.inside, self.at);
        self.at += length;
        (self.pending, self.pending_end) = encode(code);
        self.pending_at = 1;
        Some(self.pending[0])
    }
}

/// The code point of the escape at `at` and its length in bytes. A surrogate without a partner yields itself.
fn escape_at(inside: &[u8], at: usize) -> (u32, usize) {
    let code = match inside.get(at + 1).copied() {
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(b'n') => 0x0a,
        Some(b'r') => 0x0d,
        Some(b't') => 0x09,
        Some(b'u') => {
            let high = hex4(inside, at + 2);
            if (0xd800..0xdc00).contains(&high) && inside.get(at + 6..at + 8) == Some(b"\\u") {
                let low = hex4(inside, at + 8);
                if (0xdc00..0xe000).contains(&low) {
                    return (0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12);
                }
            }
            return (high, 6);
        }
        Some(other) => u32::from(other),
        None => u32::from(b'\\'),
    };
    (code, 2)
}

fn hex4(inside: &[u8], at: usize) -> u32 {
    let digits = inside.get(at..at + 4).unwrap_or(&[]);
    digits.iter().fold(0, |code, digit| code << 4 | (*digit as char).to_digit(16).unwrap_or(0))
}

/// UTF-8, and the same encoding for surrogates (WTF-8).
fn encode(code: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
    match code {
        0..0x80 => ([code as u8, 0, 0, 0], 1),
        0x80..0x800 => ([0xc0 | (code >> 6) as u8, tail(0), 0, 0], 2),
        0x800..0x10000 => ([0xe0 | (code >> 12) as u8, tail(6), tail(0), 0], 3),
        _ => ([0xf0 | (code >> 18) as u8, tail(12), tail(6), tail(0)], 4),
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    match text.as_bytes() {
        plain if is_plain(plain) => out.extend_from_slice(plain),
        bytes => escape(out, bytes),
    }
    out.push(b'"');
}

/// The same for bytes that are nearly always ASCII. Of others, what is not UTF-8 becomes U+FFFD.
pub fn write_json_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    match bytes {
        plain if is_plain(plain) => out.extend_from_slice(plain),
        bytes => escape(out, String::from_utf8_lossy(bytes).as_bytes()),
    }
    out.push(b'"');
}

/// Whether these bytes are ASCII that stands in a string as it is. Eight are looked at in one go: most strings are short.
fn is_plain(bytes: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    /// The high bit of some byte is set if a byte is below `bound`, and of none otherwise. (Of bytes over 127 it tells nothing.)
    fn below(bytes: u64, bound: u8) -> u64 {
        bytes.wrapping_sub(EACH * u64::from(bound)) & !bytes
    }
    let special = |bytes: u64| {
        let is = |byte: u8| below(bytes ^ (EACH * u64::from(byte)), 1);
        (bytes | below(bytes, 0x20) | is(b'"') | is(b'\\') | is(0x7f)) & HIGH
    };
    let found = match (bytes.last_chunk(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), ..) => {
            let (whole, _) = bytes.as_chunks();
            whole.iter().fold(special(u64::from_ne_bytes(*last)), |any, part| any | special(u64::from_ne_bytes(*part)))
        }
        (None, Some(first), Some(last)) => {
            special(u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last)))
        }
        (None, ..) => bytes.iter().fold(0, |any, byte| any | special(EACH * u64::from(*byte))),
    };
    found == 0
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 | 0x7f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        if short == 0 {
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[written..]);
}

/// Number of bytes that `write_json_string` appends for `text`.
pub fn json_string_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | 0x08 | 0x0c | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 | 0x7f => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}
