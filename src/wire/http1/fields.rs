//! The header fields of one head as spans, in order of arrival. The vector belongs to its head and is reused; no name
//! or value is copied.

use wide::u8x16;

use crate::wire::Span;

/// One header field. `value` is without surrounding white space (RFC 9110 5.5); it may contain bytes above 0x7F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
}

/// The header fields of one head. Look-ups take the buffer that the head was parsed from; it may have moved as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<Field>,
    /// Union of the marks of all names: a name whose mark is missing is absent, the result of most look-ups.
    marks: u64,
}

/// One bit of 64, independent of case.
fn mark(name: &[u8]) -> u64 {
    let last = name.last().map_or(0, u8::to_ascii_lowercase);
    1 << ((name.len() + usize::from(last) * 7) % 64)
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.marks = 0;
    }

    /// Adds a field with name and value in `buffer`.
    pub(super) fn push(&mut self, field: Field, buffer: &[u8]) {
        self.marks |= mark(field.name.of(buffer));
        self.list.push(field);
    }

    /// Copies the fields of another head, with other values for the fields at the indices in `filled`, in order.
    /// Everything after such a value shifts with its end.
    pub(super) fn fill(&mut self, from: &Fields, filled: impl Iterator<Item = (usize, Span)>) {
        self.marks = from.marks;
        self.list.clear();
        let (mut filled, mut by) = (filled.peekable(), 0);
        for (index, field) in from.list.iter().enumerate() {
            let (name, mut value) = (field.name.moved(by), field.value.moved(by));
            if let Some((_, other)) = filled.next_if(|(place, _)| *place == index) {
                by = other.end.wrapping_sub(field.value.end);
                value = other;
            }
            self.list.push(Field { name, value });
        }
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

    /// The value of the first field called `name`, ignoring case. The name has letters, digits and hyphens only.
    #[inline]
    pub fn get<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.get_all(buffer, name).next()
    }

    /// The same for a name that is not a constant: any token.
    pub fn find<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let field = self.list.iter().find(|field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(field.value.of(buffer))
    }

    /// The values of all fields called `name`, in order.
    #[inline]
    pub fn get_all<'a>(&self, buffer: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
        let list = if self.marks & mark(name.as_bytes()) == 0 { &[] } else { &self.list[..] };
        list.iter().filter(move |field| is_named(field, buffer, name)).map(move |field| field.value.of(buffer))
    }

    /// Removes every field called `name`.
    pub fn remove(&mut self, buffer: &[u8], name: &str) {
        self.list.retain(|field| !is_named(field, buffer, name));
    }

    /// Whether any field called `name`, read as a comma-separated list (RFC 9110 5.6.1), contains the element `token`,
    /// ignoring case.
    pub fn has_token(&self, buffer: &[u8], name: &str, token: &str) -> bool {
        self.get_all(buffer, name).any(|value| list_has(value, token))
    }
}

fn is_named(field: &Field, buffer: &[u8], name: &str) -> bool {
    // The length alone rules out nearly every field.
    field.name.len() == name.len() && is_name(field.name.of(buffer), name)
}

/// Whether the field name `name` is `known`, ignoring case. Compares whole words with bit 0x20 set: among token
/// characters this maps no other byte to a letter, digit or hyphen.
#[inline]
pub(super) fn is_name(name: &[u8], known: &str) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let known = known.as_bytes();
    debug_assert!(known.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-'));
    if name.len() != known.len() {
        return false;
    }
    let (Some(last), Some(known_last)) = (name.last_chunk::<8>(), known.last_chunk::<8>()) else {
        return name.eq_ignore_ascii_case(known);
    };
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes) | CASE;
    let mut words = name.as_chunks().0.iter().zip(known.as_chunks().0);
    word(last) == word(known_last) && words.all(|(one, other)| word(one) == word(other))
}

/// Whether the comma-separated `list` contains the element `token`; empty elements are skipped (RFC 9110 5.6.1.2).
pub(super) fn list_has(list: &[u8], token: &str) -> bool {
    elements(list).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated list without surrounding white space, empty ones included.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim)
}

/// Strips optional white space: spaces and tabs only (RFC 9110 5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether `byte` is allowed in a field name or a method: tchar (RFC 9110 5.6.2).
pub(in crate::wire) const fn is_token(byte: u8) -> bool {
    TOKENS[byte as usize]
}

/// A table: names are checked byte by byte, and branches would dominate the cost.
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

/// Whether `byte` is allowed in a field value: HTAB, SP, VCHAR or obs-text (RFC 9110 5.5).
pub(in crate::wire) const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

/// Whether every byte is allowed in a field value, sixteen at a time.
pub(super) fn are_values(value: &[u8]) -> bool {
    const BLOCK: usize = 16;
    let is_good = |block: [u8; BLOCK]| {
        let bytes = u8x16::new(block);
        let is_control = bytes.min(u8x16::splat(0x1F)).simd_eq(bytes).to_bitmask();
        let is_tab = bytes.simd_eq(u8x16::splat(b'\t')).to_bitmask();
        is_control & !is_tab | bytes.simd_eq(u8x16::splat(0x7F)).to_bitmask() == 0
    };
    let (blocks, rest) = value.as_chunks::<BLOCK>();
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    blocks.iter().all(|block| is_good(*block)) && is_good(last)
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_token};

    #[test]
    fn names_are_the_same_in_any_case_and_no_other() {
        for known in ["te", "host", "expect", "x-cache1", "user-agent", "content-length", "transfer-encoding"] {
            assert!(is_name(known.to_uppercase().as_bytes(), known));
            for place in 0..known.len() {
                for byte in (0..=u8::MAX).filter(|&byte| is_token(byte)) {
                    let mut name = known.as_bytes().to_vec();
                    name[place] = byte;
                    let same = name.eq_ignore_ascii_case(known.as_bytes());
                    assert_eq!(is_name(&name, known), same, "{} {known}", name.escape_ascii());
                }
            }
            assert!(!is_name(format!("{known}a").as_bytes(), known) && !is_name(&known.as_bytes()[1..], known));
        }
    }
}
