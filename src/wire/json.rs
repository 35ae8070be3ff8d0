//! A strict JSON scanner for the request path: one pass fills a `Tape` of spans; nothing is copied or converted. The
//! caller owns the input and the tape, and reuses the tape: after warm-up, parsing allocates nothing. It never recurses
//! and never guesses: anything RFC 8259 does not allow, and every duplicate member name, is a fault.

mod canonical;
mod scan;
mod text;

#[cfg(test)]
pub(crate) mod tests;

pub use canonical::{CanonicalSlices, canonical, canonical_by_strings, canonical_string};
pub use scan::{Slices, inside_length, plain_length};
pub use text::{append_unescaped, json_string_len, unescaped, write_json_bytes, write_json_string};

use super::Span;
use crate::limits::JSON_DEPTH;
use text::same_text;

/// Why and where an input was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonFault {
    /// Byte offset into the input, from 0; the input's length if it ended too early.
    pub offset: usize,
    pub kind: JsonFaultKind,
}

/// Faults of an input. The texts may be shown to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFaultKind {
    #[error("not UTF-8")]
    NotUtf8,
    #[error("unexpected end of input")]
    UnexpectedEnd,
    #[error("unexpected character")]
    UnexpectedByte,
    #[error("malformed number")]
    BadNumber,
    #[error("malformed escape in a string")]
    BadEscape,
    #[error("control character in a string")]
    ControlInString,
    #[error("content after the JSON value")]
    TrailingBytes,
    #[error("nested too deeply")]
    TooDeep,
    #[error("too many values")]
    TooManyNodes,
    #[error("input too long")]
    TooLong,
    #[error("duplicate member name")]
    DuplicateMember,
}

/// The kinds of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Object,
    Array,
}

/// One value or member name, 16 bytes. An object is followed by its names and values in turn, an array by its elements,
/// or by the first one only if all are numbers.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Start of the value's bytes in the input; strings include their quotes.
    start: u32,
    end: u32,
    /// Values: index of the node after this value and its descendants. Names: the object's next name in byte order, or
    /// 0.
    next: u32,
    /// Bits 0 to 2: kind; bit 3: `FLAG`; bits 8 and up: index of an object's first name in byte order, or 0.
    tag: u32,
}

const KIND_MASK: u32 = 7;
/// Strings: has escapes. Booleans: is true. Arrays: all elements are numbers, of which only the first has a node.
const FLAG: u32 = 8;
const FIRST_SHIFT: u32 = 8;

impl Node {
    fn kind(&self) -> Kind {
        match self.tag & KIND_MASK {
            0 => Kind::Null,
            1 => Kind::Bool,
            2 => Kind::Number,
            3 => Kind::String,
            4 => Kind::Object,
            _ => Kind::Array,
        }
    }

    fn flag(&self) -> bool {
        self.tag & FLAG != 0
    }

    /// Index of the first name in byte order; 0 for an empty object.
    fn first_name(&self) -> u32 {
        self.tag >> FIRST_SHIFT
    }

    /// The bytes between the quotes of a string, or between the brackets of a container.
    fn inside<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(self.start as usize + 1..self.end as usize - 1).unwrap_or(&[])
    }
}

/// The values of one parsed input, in document order. Reused between bodies; keeps its memory.
#[derive(Debug)]
pub struct Tape {
    nodes: Vec<Node>,
    order: scan::Order,
}

impl Default for Tape {
    fn default() -> Tape {
        Tape::new()
    }
}

/// The contents of a new tape, and after a fault: null.
const NOTHING: Node = Node { start: 0, end: 0, next: 1, tag: 0 };

/// Parses all of `input` into `tape`, replacing its contents. After a fault the tape holds a single null.
///
/// Bounds: depth `limits::JSON_DEPTH`, values and names `limits::JSON_NODES`. Numbers of any size are accepted, as
/// text.
pub fn parse(input: &[u8], tape: &mut Tape) -> Result<(), JsonFault> {
    scan::scan(input, tape, scan::Names::Checked, JSON_DEPTH)
}

/// Like `parse`, for bytes from a backend whose names need no check: duplicates are accepted (`get` finds the first),
/// and `canonical` of such a tape keeps document order. About a third cheaper on small inputs.
pub fn parse_unchecked_names(input: &[u8], tape: &mut Tape) -> Result<(), JsonFault> {
    scan::scan(input, tape, scan::Names::Unchecked, JSON_DEPTH)
}

/// Like `parse`, but values nested more than `levels` deep (0: only the root) get no nodes, and their containers look
/// empty. For answers with millions of numbers of which only the outline matters.
pub fn parse_outline(input: &[u8], tape: &mut Tape, levels: usize) -> Result<(), JsonFault> {
    scan::scan(input, tape, scan::Names::Checked, levels)
}

impl Tape {
    /// An empty tape; it holds null until something is parsed.
    pub fn new() -> Tape {
        Tape { nodes: vec![NOTHING], order: scan::Order::default() }
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { tape: self, index: 0 }
    }

    /// Memory that the tape keeps between bodies, in bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.order.capacity_bytes()
    }

    /// Frees memory above `keep_bytes`; the tape then holds null. For use after an unusually large body.
    pub fn shrink(&mut self, keep_bytes: usize) {
        if self.capacity_bytes() > keep_bytes {
            *self = Tape::new();
        }
    }
}

/// One value on a tape. Spans point into the parsed input; pass the same bytes as `input`.
#[derive(Clone, Copy, Debug)]
pub struct Value<'t> {
    tape: &'t Tape,
    index: u32,
}

impl<'t> Value<'t> {
    fn node(self) -> Node {
        self.tape.nodes[self.index as usize]
    }

    pub fn kind(self) -> Kind {
        self.node().kind()
    }

    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// All bytes of the value, including the quotes of a string or the brackets of an object or array.
    pub fn span(self) -> Span {
        let node = self.node();
        Span { start: node.start, end: node.end }
    }

    /// The bytes between the quotes of a string, not unescaped; `None` for other kinds.
    pub fn inside(self) -> Option<Span> {
        let node = self.node();
        (node.kind() == Kind::String).then(|| Span { start: node.start + 1, end: node.end - 1 })
    }

    /// Whether a string has escapes, so that its bytes are not its text.
    pub fn has_escapes(self) -> bool {
        let node = self.node();
        node.kind() == Kind::String && node.flag()
    }

    /// The text of a string without escapes, borrowed from `input`; `None` for other strings and kinds.
    pub fn plain(self, input: &[u8]) -> Option<&[u8]> {
        let node = self.node();
        (node.kind() == Kind::String && !node.flag()).then(|| node.inside(input))
    }

    /// The text of a string: borrowed from `input` if without escapes, otherwise decoded into `scratch` (lone
    /// surrogates as WTF-8). `None` for other kinds.
    pub fn text<'a>(self, input: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let inside = self.inside()?.of(input);
        if !self.has_escapes() {
            return Some(inside);
        }
        scratch.clear();
        append_unescaped(inside, scratch);
        Some(scratch)
    }

    /// Whether this is a string with exactly this text.
    pub fn is_text(self, input: &[u8], text: &str) -> bool {
        let node = self.node();
        node.kind() == Kind::String && same_text(input, &node, text.as_bytes())
    }

    pub fn as_bool(self) -> Option<bool> {
        let node = self.node();
        (node.kind() == Kind::Bool).then_some(node.flag())
    }

    /// A number written as plain digits that fits; `None` for signs, fractions, exponents and other kinds.
    pub fn as_u64(self, input: &[u8]) -> Option<u64> {
        if self.kind() != Kind::Number {
            return None;
        }
        let mut number: u64 = 0;
        for byte in self.span().of(input) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        Some(number)
    }

    /// The value of the member `name`; `None` if there is none or this is not an object.
    pub fn get(self, input: &[u8], name: &str) -> Option<Value<'t>> {
        self.members().find(|member| member.is_named(input, name)).map(|member| member.value)
    }

    /// The members of an object in document order; empty for other kinds.
    pub fn members(self) -> Members<'t> {
        let node = self.node();
        let end = if node.kind() == Kind::Object { node.next } else { 0 };
        Members { tape: self.tape, at: self.index + 1, end }
    }

    /// Whether this is a non-empty array of numbers only: then just the first is on the tape, and the others are in its
    /// span.
    pub fn is_numbers(self) -> bool {
        let node = self.node();
        node.kind() == Kind::Array && node.flag()
    }

    /// The elements of an array in order (of an array of numbers only the first); empty for other kinds.
    pub fn elements(self) -> Elements<'t> {
        let node = self.node();
        let end = if node.kind() == Kind::Array { node.next } else { 0 };
        Elements { tape: self.tape, at: self.index + 1, end }
    }
}

/// See `Member::short_name`.
pub const SHORT_NAME: usize = 32;

/// One member of an object.
#[derive(Clone, Copy, Debug)]
pub struct Member<'t> {
    /// The name, a string.
    pub name: Value<'t>,
    pub value: Value<'t>,
}

impl Member<'_> {
    /// Whether the name, unescaped, is `name`.
    pub fn is_named(&self, input: &[u8], name: &str) -> bool {
        same_text(input, &self.name.node(), name.as_bytes())
    }

    /// The name: borrowed from `input` if without escapes, otherwise decoded into `place` as far as it fits. For
    /// comparison with names that are shorter than `place`.
    pub fn short_name<'a>(&self, input: &'a [u8], place: &'a mut [u8; SHORT_NAME]) -> &'a [u8] {
        let node = self.name.node();
        if !node.flag() {
            return node.inside(input);
        }
        let mut length = 0;
        for (slot, byte) in place.iter_mut().zip(unescaped(node.inside(input))) {
            *slot = byte;
            length += 1;
        }
        &place[..length]
    }

    /// From the name's opening quote to the value's end.
    pub fn span(&self) -> Span {
        Span { start: self.name.span().start, end: self.value.span().end }
    }
}

/// See `Value::members`.
#[derive(Clone, Debug)]
pub struct Members<'t> {
    tape: &'t Tape,
    at: u32,
    end: u32,
}

impl<'t> Iterator for Members<'t> {
    type Item = Member<'t>;

    fn next(&mut self) -> Option<Member<'t>> {
        if self.at >= self.end {
            return None;
        }
        let name = Value { tape: self.tape, index: self.at };
        let value = Value { tape: self.tape, index: self.at + 1 };
        self.at = value.node().next;
        Some(Member { name, value })
    }
}

/// See `Value::elements`.
#[derive(Clone, Debug)]
pub struct Elements<'t> {
    tape: &'t Tape,
    at: u32,
    end: u32,
}

impl<'t> Iterator for Elements<'t> {
    type Item = Value<'t>;

    fn next(&mut self) -> Option<Value<'t>> {
        if self.at >= self.end {
            return None;
        }
        let element = Value { tape: self.tape, index: self.at };
        self.at = element.node().next;
        Some(element)
    }
}
