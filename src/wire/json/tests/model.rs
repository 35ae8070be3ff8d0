//! A naive model of JSON values, and of all ways to spell them.

use crate::wire::json::{Kind, Value};
use proptest::prelude::*;

/// An abstract value. Texts are code points, lone surrogates included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// Sign, digits without leading or trailing zeros, power of ten. Zero has no digits.
    Number(bool, String, i32),
    Text(Vec<u32>),
    Array(Vec<Json>),
    /// Sorted by name, names unique.
    Object(Vec<(Vec<u32>, Json)>),
}

/// A pseudo-random sequence of choices from a seed (splitmix64).
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}

pub(crate) fn text() -> impl Strategy<Value = Vec<u32>> {
    let point = prop_oneof![
        8 => 0x61u32..0x64,
        2 => prop::sample::select(vec![0, 8, 0x0a, 0x1f, 0x22, 0x2f, 0x5c, 0x7f, 0x80, 0x7ff, 0x800, 0xffff]),
        1 => prop::sample::select(vec![0xd800, 0xdbff, 0xdc00, 0xdfff]),
        1 => prop::sample::select(vec![0x10000, 0x1f600, 0x10ffff]),
    ];
    prop_oneof![
        6 => prop::collection::vec(point.clone(), 0..6),
        1 => prop::collection::vec(point, 20..90),
    ]
    .prop_map(paired)
}

/// A high surrogate followed by a low one is the code point of the pair.
fn paired(points: Vec<u32>) -> Vec<u32> {
    let mut out: Vec<u32> = Vec::new();
    for point in points {
        match out.last_mut() {
            Some(last) if (0xd800..0xdc00).contains(last) && (0xdc00..0xe000).contains(&point) => {
                *last = 0x10000 + ((*last - 0xd800) << 10) + (point - 0xdc00);
            }
            _ => out.push(point),
        }
    }
    out
}

fn number() -> impl Strategy<Value = Json> {
    let digits = prop_oneof![8 => "[1-9]{0,3}", 1 => "[1-9][0-9]{18,40}[1-9]"];
    let power = prop_oneof![6 => -3i32..4, 1 => -400i32..400];
    (any::<bool>(), digits, power).prop_map(|(negative, digits, power)| {
        let zero = digits.is_empty();
        Json::Number(negative && !zero, digits, if zero { 0 } else { power })
    })
}

pub(crate) fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        3 => number(),
        3 => text().prop_map(Json::Text),
    ];
    leaf.prop_recursive(5, 60, 24, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::btree_map(text(), inner, 0..24)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes `value` in one of its many spellings.
pub(crate) fn spell(value: &Json, rng: &mut Rng, out: &mut Vec<u8>) {
    space(rng, out);
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(negative, digits, power) => spell_number(*negative, digits, *power, rng, out),
        Json::Text(points) => spell_text(points, rng, out),
        Json::Array(elements) => {
            out.push(b'[');
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                spell(element, rng, out);
            }
            space(rng, out);
            out.push(b']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for place in (1..members.len()).rev() {
                members.swap(place, rng.below(place + 1));
            }
            out.push(b'{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                space(rng, out);
                spell_text(name, rng, out);
                space(rng, out);
                out.push(b':');
                spell(value, rng, out);
            }
            space(rng, out);
            out.push(b'}');
        }
    }
    space(rng, out);
}

fn space(rng: &mut Rng, out: &mut Vec<u8>) {
    while rng.below(4) == 0 {
        out.push(b" \t\r\n"[rng.below(4)]);
    }
}

fn spell_number(negative: bool, digits: &str, power: i32, rng: &mut Rng, out: &mut Vec<u8>) {
    if digits.is_empty() {
        let zeros = ["0", "-0", "0.0", "0e5", "-0.00E-9", "0e99999999999999999999"];
        out.extend_from_slice(zeros[rng.below(zeros.len())].as_bytes());
        return;
    }
    if negative {
        out.push(b'-');
    }
    // Appends zeros, inserts a point, and compensates with the exponent.
    let zeros = rng.below(4);
    let all = format!("{digits}{}", "0".repeat(zeros));
    let power = power - zeros as i32;
    let fraction = rng.below(all.len() + 3);
    let (whole, part) = if fraction < all.len() {
        (all[..all.len() - fraction].to_owned(), all[all.len() - fraction..].to_owned())
    } else {
        ("0".to_owned(), format!("{}{all}", "0".repeat(fraction - all.len())))
    };
    out.extend_from_slice(whole.as_bytes());
    if !part.is_empty() {
        out.push(b'.');
        out.extend_from_slice(part.as_bytes());
    }
    let exponent = power + part.len() as i32;
    if exponent != 0 || rng.below(3) == 0 {
        out.push(b"eE"[rng.below(2)]);
        let sign = if exponent < 0 { "-" } else { ["", "+"][rng.below(2)] };
        out.extend_from_slice(sign.as_bytes());
        out.extend_from_slice("0".repeat(rng.below(2)).as_bytes());
        out.extend_from_slice(exponent.unsigned_abs().to_string().as_bytes());
    }
}

fn spell_text(points: &[u32], rng: &mut Rng, out: &mut Vec<u8>) {
    out.push(b'"');
    for point in points {
        let plain = char::from_u32(*point).filter(|char| *char >= ' ' && *char != '"' && *char != '\\');
        match plain {
            Some(char) if rng.below(5) > 0 => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => {
                let short = match *point {
                    0x22 => Some(b'"'),
                    0x2f => Some(b'/'),
                    0x5c => Some(b'\\'),
                    0x08 => Some(b'b'),
                    0x0a => Some(b'n'),
                    _ => None,
                };
                match short {
                    Some(short) if rng.below(2) == 0 => out.extend_from_slice(&[b'\\', short]),
                    _ if *point >= 0x10000 => {
                        let offset = point - 0x10000;
                        let pair = format!("\\u{:04x}\\u{:04X}", 0xd800 + (offset >> 10), 0xdc00 + (offset & 0x3ff));
                        out.extend_from_slice(pair.as_bytes());
                    }
                    _ => out.extend_from_slice(format!("\\u{point:04x}").as_bytes()),
                }
            }
        }
    }
    out.push(b'"');
}

/// The abstract value of a value on a tape, read through the public methods.
pub(crate) fn read(value: Value<'_>, input: &[u8]) -> Json {
    match value.kind() {
        Kind::Null => Json::Null,
        Kind::Bool => Json::Bool(value.as_bool().expect("a boolean")),
        Kind::Number => read_number(std::str::from_utf8(value.span().of(input)).expect("ascii")),
        Kind::String => Json::Text(read_text(value, input)),
        Kind::Array if value.is_numbers() => {
            let text = std::str::from_utf8(value.span().of(input)).expect("ascii");
            let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).expect("brackets");
            let numbers: Vec<Json> = inside.split(',').map(|number| read_number(number.trim())).collect();
            let first: Vec<Json> = value.elements().map(|element| read(element, input)).collect();
            assert_eq!(numbers[..1], first);
            Json::Array(numbers)
        }
        Kind::Array => Json::Array(value.elements().map(|element| read(element, input)).collect()),
        Kind::Object => {
            let mut members: Vec<_> =
                value.members().map(|member| (read_text(member.name, input), read(member.value, input))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Json::Object(members)
        }
    }
}

fn read_number(text: &str) -> Json {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() {
        return Json::Number(false, String::new(), 0);
    }
    let exponent: i32 = exponent.parse().expect("a small exponent");
    let power = exponent - fraction.len() as i32 + (digits.len() - trimmed.len()) as i32;
    Json::Number(negative, trimmed.to_owned(), power)
}

/// Decodes WTF-8 by hand.
fn read_text(value: Value<'_>, input: &[u8]) -> Vec<u32> {
    let mut scratch = Vec::new();
    let bytes = value.text(input, &mut scratch).expect("a string");
    let mut points = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (mut point, length) = match bytes[at] {
            lead @ 0..0x80 => (u32::from(lead), 1),
            lead @ 0xc0..0xe0 => (u32::from(lead & 0x1f), 2),
            lead @ 0xe0..0xf0 => (u32::from(lead & 0x0f), 3),
            lead => (u32::from(lead & 0x07), 4),
        };
        for byte in &bytes[at + 1..at + length] {
            point = point << 6 | u32::from(byte & 0x3f);
        }
        points.push(point);
        at += length;
    }
    points
}
