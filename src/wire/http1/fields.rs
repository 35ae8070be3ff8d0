//! The header fields of one head as spans, in the order they came.
//! The vector belongs to the head that holds it and is reused; nothing here copies a name or a value.

use crate::wire::Span;

/// One header field. `value` has no white space around it (RFC 9110 5.5); it may hold bytes above 0x7F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
}

/// The header fields of one head. Look-ups want the buffer that the head was parsed from, unmoved or moved as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<Field>,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    pub(super) fn push(&mut self, field: Field) {
        self.list.push(field);
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field> + '_ {
        self.list.iter().copied()
    }

    /// The value of the first field called `name`, whatever its case.
    pub fn get<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.get_all(buffer, name).next()
    }

    /// The values of all fields called `name`, in their order.
    pub fn get_all<'a>(&self, buffer: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |field| is_named(field, buffer, name)).map(move |field| field.value.of(buffer))
    }

    /// Whether any field called `name`, read as a comma-separated list (RFC 9110 5.6.1), has the element `token`,
    /// whatever its case.
    pub fn has_token(&self, buffer: &[u8], name: &str, token: &str) -> bool {
        self.get_all(buffer, name).any(|value| list_has(value, token))
    }
}

/// The length is compared first: it differs for nearly every field that is not the one.
fn is_named(field: &Field, buffer: &[u8], name: &str) -> bool {
    field.name.len() == name.len() && field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes())
}

/// Whether the comma-separated `list` has the element `token`; empty elements are skipped (RFC 9110 5.6.1.2).
pub(super) fn list_has(list: &[u8], token: &str) -> bool {
    elements(list).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated list without the white space around them, empty ones included.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim)
}

/// Strips optional white space: spaces and tabs, nothing else (RFC 9110 5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether `byte` may stand in a field name or a method: tchar (RFC 9110 5.6.2).
pub(in crate::wire) const fn is_token(byte: u8) -> bool {
    TOKENS[byte as usize]
}

/// By table: names are looked at byte by byte, and a jump for each costs more than all else about them.
const TOKENS: [bool; 256] = {
    let mut tokens = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        tokens[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut place = 0;
    while place < others.len() {
        tokens[others[place] as usize] = true;
        place += 1;
    }
    tokens
};

/// Whether `byte` may stand in a field value: HTAB, SP, VCHAR or obs-text (RFC 9110 5.5).
pub(in crate::wire) const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}
