//! The binary form that a fingerprint hashes: equal for two texts if and only if they denote the same value. Members
//! are in byte order of their names, strings are decoded, numbers are exact decimals; no floats are involved. It must
//! never map different values to the same bytes: every part is tagged, and length-prefixed or terminated.

use super::scan::FEW_OPEN;
use super::text::{append_unescaped, escape_end, same_text};
use super::{Kind, Node, Tape};
use crate::wire::Span;
use smallvec::SmallVec;

/// Exponents with more digits keep their text: such numbers do not occur in practice, and sums of shorter ones stay far
/// within 64 bits.
const EXPONENT_DIGITS: usize = 17;

/// Appends the canonical form of the tape's root to `out`, without members of the root whose name is in `skip`. The
/// tape must come from `parse` on the same `input`.
///
/// Format: `n`, `t`, `f`; `s` length(4, little endian) bytes; `[` elements `]`; `{` (string value)* `}`; numbers `0`,
/// or `+`/`-` exponent(zigzag varint) digit count(varint) digits; `x` length(varint) text for huge exponents.
pub fn canonical(input: &[u8], tape: &Tape, skip: &[&str], out: &mut Vec<u8>) {
    canonical_by_strings(input, tape, skip, out, |_, _| {});
}

/// As `canonical`, but calls `tell` for each string value, with the offset of its inside in the input and the offset in
/// `out` where its form begins. The form is what `canonical_string` appends.
pub fn canonical_by_strings(
    input: &[u8],
    tape: &Tape,
    skip: &[&str],
    out: &mut Vec<u8>,
    mut tell: impl FnMut(Span, usize),
) {
    // Per open container: its node, and the next child (arrays) or the next name (objects).
    let mut open: SmallVec<[(u32, u32); FEW_OPEN]> = SmallVec::new();
    let mut index = 0u32;
    loop {
        let node = tape.nodes[index as usize];
        match node.kind() {
            Kind::Null => out.push(b'n'),
            Kind::Bool => out.push(if node.flag() { b't' } else { b'f' }),
            Kind::String => {
                tell(Span { start: node.start + 1, end: node.end - 1 }, out.len());
                append_string(input, &node, out);
            }
            Kind::Number => append_number(input.get(node.start as usize..node.end as usize).unwrap_or(&[]), out),
            Kind::Object => {
                out.push(b'{');
                open.push((index, node.first_name()));
            }
            Kind::Array if node.flag() => append_numbers(node.inside(input), out),
            Kind::Array => {
                out.push(b'[');
                open.push((index, index + 1));
            }
        }
        loop {
            let is_root = open.len() == 1;
            let Some((container, at)) = open.last_mut() else { return };
            let (node, child) = (tape.nodes[*container as usize], *at);
            if node.kind() == Kind::Array {
                if child < node.next {
                    *at = tape.nodes[child as usize].next;
                    index = child;
                    break;
                }
                out.push(b']');
                open.pop();
                continue;
            }
            if child == 0 {
                out.push(b'}');
                open.pop();
                continue;
            }
            let name = tape.nodes[child as usize];
            *at = name.next;
            if is_root && is_any(input, &name, skip) {
                continue;
            }
            append_string(input, &name, out);
            index = child + 1;
            break;
        }
    }
}

/// The canonical form of a large tape in slices: [`canonical`] in pieces.
#[derive(Debug, Default)]
pub struct CanonicalSlices {
    /// As in [`canonical_by_strings`].
    open: SmallVec<[(u32, u32); FEW_OPEN]>,
    index: u32,
    rest: Rest,
}

/// What is left of the value at hand.
#[derive(Clone, Copy, Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Plain(Span),
    /// Text with escapes, first its length: of what stands before `at`, that is `length`.
    Measured {
        inside: Span,
        at: u32,
        length: u32,
    },
    Escaped {
        inside: Span,
        at: u32,
    },
    /// Of an array of numbers.
    Numbers(Span),
}

impl CanonicalSlices {
    /// Appends the next piece to `out`, of about `most` bytes. True: it was the last. The same arguments each time, and not after
    /// its end.
    pub fn step(&mut self, input: &[u8], tape: &Tape, skip: &[&str], most: usize, out: &mut Vec<u8>) -> bool {
        let until = out.len() + most;
        loop {
            if !self.rest(input, until, out) {
                return false;
            }
            if self.index == u32::MAX {
                if !self.behind_value(input, tape, skip, out) {
                    return true;
                }
                continue;
            }
            if out.len() >= until {
                return false;
            }
            let node = tape.nodes[self.index as usize];
            match node.kind() {
                Kind::Null => out.push(b'n'),
                Kind::Bool => out.push(if node.flag() { b't' } else { b'f' }),
                Kind::String => self.string(&node, out),
                Kind::Number => append_number(input.get(node.start as usize..node.end as usize).unwrap_or(&[]), out),
                Kind::Object => {
                    out.push(b'{');
                    self.open.push((self.index, node.first_name()));
                }
                Kind::Array if node.flag() => {
                    out.push(b'[');
                    self.rest = Rest::Numbers(Span { start: node.start + 1, end: node.end - 1 });
                }
                Kind::Array => {
                    out.push(b'[');
                    self.open.push((self.index, self.index + 1));
                }
            }
            self.index = u32::MAX;
        }
    }

    /// Finds the value that comes next. False: there is none.
    fn behind_value(&mut self, input: &[u8], tape: &Tape, skip: &[&str], out: &mut Vec<u8>) -> bool {
        loop {
            let is_root = self.open.len() == 1;
            let Some((container, at)) = self.open.last_mut() else { return false };
            let (node, child) = (tape.nodes[*container as usize], *at);
            if node.kind() == Kind::Array {
                if child < node.next {
                    *at = tape.nodes[child as usize].next;
                    self.index = child;
                    return true;
                }
                out.push(b']');
                self.open.pop();
                continue;
            }
            if child == 0 {
                out.push(b'}');
                self.open.pop();
                continue;
            }
            let name = tape.nodes[child as usize];
            *at = name.next;
            if is_root && is_any(input, &name, skip) {
                continue;
            }
            self.index = child + 1;
            self.string(&name, out);
            return true;
        }
    }

    fn string(&mut self, node: &Node, out: &mut Vec<u8>) {
        let inside = Span { start: node.start + 1, end: node.end - 1 };
        if node.flag() {
            self.rest = Rest::Measured { inside, at: inside.start, length: 0 };
        } else {
            out.extend_from_slice(&tagged(inside.len()));
            self.rest = Rest::Plain(inside);
        }
    }

    /// Goes on with what is left of a value. True: nothing is left.
    fn rest(&mut self, input: &[u8], until: usize, out: &mut Vec<u8>) -> bool {
        // At least a byte, so that each step comes further.
        let room = until.saturating_sub(out.len()).max(1);
        let end_of = |at: u32, inside: Span| ((at as usize).saturating_add(room)).min(inside.end as usize);
        match self.rest {
            Rest::Nothing => return true,
            Rest::Plain(text) => {
                let end = end_of(text.start, text);
                out.extend_from_slice(Span::new(text.start as usize, end).of(input));
                self.rest = Rest::Plain(Span::new(end, text.end as usize));
                if end < text.end as usize {
                    return false;
                }
            }
            Rest::Measured { inside, at, length } => {
                let end = escape_end(input, at as usize, end_of(at, inside), inside.end as usize);
                let before = out.len();
                append_unescaped(Span::new(at as usize, end).of(input), out);
                let length = length + (out.len() - before) as u32;
                out.truncate(before);
                if end < inside.end as usize {
                    self.rest = Rest::Measured { inside, at: end as u32, length };
                    return false;
                }
                out.extend_from_slice(&tagged(length as usize));
                self.rest = Rest::Escaped { inside, at: inside.start };
                return self.rest(input, until, out);
            }
            Rest::Escaped { inside, at } => {
                let end = escape_end(input, at as usize, end_of(at, inside), inside.end as usize);
                append_unescaped(Span::new(at as usize, end).of(input), out);
                if end < inside.end as usize {
                    self.rest = Rest::Escaped { inside, at: end as u32 };
                    return false;
                }
            }
            Rest::Numbers(mut numbers) => {
                while out.len() < until {
                    let rest = numbers.of(input);
                    let length = memchr::memchr(b',', rest).unwrap_or(rest.len());
                    append_number(rest[..length].trim_ascii(), out);
                    if length == rest.len() {
                        out.push(b']');
                        self.rest = Rest::Nothing;
                        return true;
                    }
                    numbers.start += length as u32 + 1;
                }
                self.rest = Rest::Numbers(numbers);
                return false;
            }
        }
        self.rest = Rest::Nothing;
        true
    }
}

/// Whether the name is one of `names`.
fn is_any(input: &[u8], name: &Node, names: &[&str]) -> bool {
    if name.flag() {
        return names.iter().any(|other| same_text(input, name, other.as_bytes()));
    }
    let inside = name.inside(input);
    names.iter().any(|other| other.as_bytes() == inside)
}

fn append_string(input: &[u8], node: &Node, out: &mut Vec<u8>) {
    match node.flag() {
        false => append_plain(node.inside(input), out),
        true => append_escaped(node.inside(input), out),
    }
}

/// Appends the canonical form of a string given without its quotes.
pub fn canonical_string(inside: &[u8], out: &mut Vec<u8>) {
    match memchr::memchr(b'\\', inside) {
        None => append_plain(inside, out),
        Some(_) => append_escaped(inside, out),
    }
}

fn append_plain(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&tagged(text.len()));
    out.extend_from_slice(text);
}

fn append_escaped(inside: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&tagged(0));
    append_unescaped(inside, out);
    let length = out.len() - at - TAGGED;
    out[at..at + TAGGED].copy_from_slice(&tagged(length));
}

const TAGGED: usize = 5;

/// The tag of a string and its length.
fn tagged(length: usize) -> [u8; TAGGED] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [b's', a, b, c, d]
}

/// An array of numbers, of which the tape holds only the first.
fn append_numbers(inside: &[u8], out: &mut Vec<u8>) {
    out.push(b'[');
    inside.split(|&byte| byte == b',').for_each(|number| append_number(number.trim_ascii(), out));
    out.push(b']');
}

fn append_number(text: &[u8], out: &mut Vec<u8>) {
    let (sign, magnitude) = match text.split_first() {
        Some((b'-', rest)) => (b'-', rest),
        _ => (b'+', text),
    };
    if let Some(last) = last_of_integer(magnitude) {
        // Fast path for most numbers.
        append_decimal(sign, (magnitude.len() - last - 1) as i64, &magnitude[..=last], &[], out);
        return;
    }
    let mantissa_end = magnitude.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(magnitude.len());
    let (mantissa, exponent) = magnitude.split_at(mantissa_end);
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let fraction_digits = mantissa.len().saturating_sub(point + 1);

    let significant = |byte: &u8| matches!(byte, b'1'..=b'9');
    let (Some(first), Some(last)) = (mantissa.iter().position(significant), mantissa.iter().rposition(significant))
    else {
        // Every spelling of zero, with either sign and any exponent.
        out.push(b'0');
        return;
    };
    let Some(exponent) = exponent_of(exponent) else {
        out.push(b'x');
        append_varint(text.len() as u64, out);
        out.extend_from_slice(text);
        return;
    };
    // Value = digits * 10^exponent, with neither leading nor trailing zeros.
    let trailing_zeros = mantissa[last + 1..].iter().filter(|byte| **byte == b'0').count();
    let exponent = exponent + trailing_zeros as i64 - fraction_digits as i64;
    let digits = &mantissa[first..=last];
    let (whole, fraction) = if (first..=last).contains(&point) {
        (&mantissa[first..point], &mantissa[point + 1..=last])
    } else {
        (digits, &[][..])
    };
    append_decimal(sign, exponent, whole, fraction, out);
}

/// Index of the last non-zero digit; `None` if there is none, or anything but digits.
fn last_of_integer(magnitude: &[u8]) -> Option<usize> {
    let mut last = None;
    for (place, byte) in magnitude.iter().enumerate() {
        match byte {
            b'0' => {}
            b'1'..=b'9' => last = Some(place),
            _ => return None,
        }
    }
    last
}

fn append_decimal(sign: u8, exponent: i64, whole: &[u8], fraction: &[u8], out: &mut Vec<u8>) {
    let (zigzag, count) = ((exponent << 1 ^ exponent >> 63) as u64, whole.len() + fraction.len());
    if zigzag < 0x80 && count < 0x80 {
        // The same bytes as below, in a single append.
        out.extend_from_slice(&[sign, zigzag as u8, count as u8]);
    } else {
        out.push(sign);
        append_varint(zigzag, out);
        append_varint(count as u64, out);
    }
    out.extend_from_slice(whole);
    out.extend_from_slice(fraction);
}

/// The number after an `e`, 0 if there is none; `None` if it has too many digits.
fn exponent_of(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [_, b'-', digits @ ..] => (true, digits),
        [_, b'+', digits @ ..] | [_, digits @ ..] => (false, digits),
        [] => return Some(0),
    };
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let digits = &digits[first..];
    if digits.len() > EXPONENT_DIGITS {
        return None;
    }
    let number = digits.iter().fold(0i64, |number, digit| number * 10 + i64::from(digit.wrapping_sub(b'0')));
    Some(if negative { -number } else { number })
}

fn append_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
