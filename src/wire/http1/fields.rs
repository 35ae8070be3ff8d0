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
    /// For each name of [`INDEXED`], one more than the place of its first field; 0 for none.
    first: [u16; INDEXED.len()],
}

/// Names that every request is asked for. Where they stand is found out once, and kept with a head that comes again.
const INDEXED: [&str; 9] = [
    "x-request-id",
    "authorization",
    "x-api-key",
    "api-key",
    "content-type",
    "content-encoding",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
];

/// The bit of a name among 64, independent of case.
const fn bit(name: &[u8]) -> usize {
    let last = match name.last() {
        Some(last) => last.to_ascii_lowercase(),
        None => 0,
    };
    (name.len() + last as usize * 3) % 64
}

const fn mark(name: &[u8]) -> u64 {
    1 << bit(name)
}

/// By bit, one more than the place in [`INDEXED`]; 0 for none.
const PLACES: [u8; 64] = {
    let mut places = [0; 64];
    let mut place = 0;
    while place < INDEXED.len() {
        let bit = bit(INDEXED[place].as_bytes());
        assert!(places[bit] == 0, "two indexed names share a bit");
        place += 1;
        places[bit] = place as u8;
    }
    places
};

/// The place in [`INDEXED`] of a name in lower case.
#[inline(always)]
fn indexed(name: &str) -> Option<usize> {
    let place = usize::from(PLACES[bit(name.as_bytes())]).checked_sub(1)?;
    (INDEXED[place] == name).then_some(place)
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        (self.marks, self.first) = (0, Default::default());
    }

    /// Adds a field with name and value in `buffer`.
    pub(super) fn push(&mut self, field: Field, buffer: &[u8]) {
        let name = field.name.of(buffer);
        self.marks |= mark(name);
        self.list.push(field);
        if let Some(place) = usize::from(PLACES[bit(name)]).checked_sub(1)
            && self.first[place] == 0
            && is_name(name, INDEXED[place])
        {
            self.first[place] = u16::try_from(self.list.len()).unwrap_or(0); // a head has no room for so many
        }
    }

    /// Copies the fields of another head, with other values for the fields at the indices in `filled`, in order.
    /// Everything after such a value shifts with its end.
    pub(super) fn fill(&mut self, from: &Fields, filled: impl Iterator<Item = (usize, Span)>) {
        (self.marks, self.first) = (from.marks, from.first);
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

    /// The marks of several names, for [`may_have`](Self::may_have).
    pub const fn marks(names: &[&str]) -> u64 {
        let (mut marks, mut place) = (0, 0);
        while place < names.len() {
            marks |= mark(names[place].as_bytes());
            place += 1;
        }
        marks
    }

    /// Whether any of the names with these marks may be here: false is certain, and found out at once.
    pub fn may_have(&self, marks: u64) -> bool {
        self.marks & marks != 0
    }

    /// The value of the first field called `name`, ignoring case. The name has letters, digits and hyphens only.
    #[inline(always)]
    pub fn get<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        match indexed(name) {
            Some(place) => {
                let first = usize::from(self.first[place]).checked_sub(1)?;
                self.list.get(first).map(|field| field.value.of(buffer))
            }
            None => self.get_all(buffer, name).next(),
        }
    }

    /// The same for a name that is not a constant: any token.
    pub fn find<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let field = self.list.iter().find(|field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(field.value.of(buffer))
    }

    /// The values of all fields called `name`, in order.
    #[inline(always)]
    pub fn get_all<'a>(&self, buffer: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
        let start = match indexed(name) {
            // Of none, behind the last.
            Some(place) => usize::from(self.first[place]).wrapping_sub(1),
            None if self.marks & mark(name.as_bytes()) == 0 => usize::MAX,
            None => 0,
        };
        let list = self.list.get(start..).unwrap_or(&[]);
        list.iter().filter(move |field| is_named(field, buffer, name)).map(move |field| field.value.of(buffer))
    }

    /// Removes every field called `name`.
    pub fn remove(&mut self, buffer: &[u8], name: &str) {
        let mut list = std::mem::take(&mut self.list);
        list.retain(|field| !is_named(field, buffer, name));
        self.clear();
        self.list.reserve(list.len());
        list.into_iter().for_each(|field| self.push(field, buffer));
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
    use super::{Field, Fields, INDEXED, is_name, is_token};
    use crate::wire::Span;

    #[test]
    fn look_ups_find_what_a_look_at_every_field_finds() {
        let names = [&INDEXED[..], &["x-stainless-os", "accept", "x-api-kez", "content-typf", "a"]].concat();
        for seed in 0..2_000_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut below = |most: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % most as u64) as usize
            };
            let (mut buffer, mut fields, mut naive) = (Vec::new(), Fields::default(), Vec::new());
            for number in 0..below(12) {
                let mut name = names[below(names.len())].to_owned();
                if below(2) == 0 {
                    name.make_ascii_uppercase();
                }
                let start = buffer.len();
                buffer.extend_from_slice(name.as_bytes());
                let middle = buffer.len();
                buffer.extend_from_slice(number.to_string().as_bytes());
                naive.push((name.to_lowercase(), number.to_string().into_bytes()));
                fields.push(Field { name: Span::new(start, middle), value: Span::new(middle, buffer.len()) }, &buffer);
            }
            if below(3) == 0 {
                let gone = names[below(names.len())];
                fields.remove(&buffer, gone);
                naive.retain(|(name, _)| name != gone);
            }
            let mut copy = Fields::default();
            copy.fill(&fields, std::iter::empty());
            for name in &names {
                let all: Vec<&[u8]> = naive.iter().filter(|(of, _)| of == name).map(|(_, value)| &value[..]).collect();
                for fields in [&fields, &copy] {
                    assert_eq!(fields.get_all(&buffer, name).collect::<Vec<_>>(), all, "seed {seed}, {name}");
                    assert_eq!(fields.get(&buffer, name), all.first().copied(), "seed {seed}, {name}");
                    assert_eq!(fields.find(&buffer, name), all.first().copied(), "seed {seed}, {name}");
                }
            }
        }
    }

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
