//! The single pass over the input. Iterative: open containers are on a stack of at most `JSON_DEPTH` entries. It must
//! never be quadratic: names of large objects are sorted in parts, strings are skipped in blocks.

mod slices;

use super::text::{append_text, eight_bytes, leading_bytes, order_of};
use super::{FIRST_SHIFT, FLAG, JsonFault, JsonFaultKind, Kind, NOTHING, Node, Tape};
use crate::limits::{JSON_DEPTH, JSON_NODES};
use smallvec::SmallVec;
use std::cmp::Ordering;
use wide::u8x16;

use slices::Pause;
pub use slices::Slices;

// The index of the first name shares a word with the kind.
const _: () = assert!(JSON_NODES < 1 << (32 - FIRST_SHIFT));

const NULL: u32 = 0;
const BOOL: u32 = 1;
const NUMBER: u32 = 2;
const STRING: u32 = 3;
const OBJECT: u32 = 4;
const ARRAY: u32 = 5;

/// Up to this depth the stack needs no heap memory: enough for nearly every body.
pub(super) const FEW_OPEN: usize = 32;

/// Up to this many names are sorted by insertion on the stack, which beats a general sort on ordinary objects.
const FEW_NAMES: usize = 16;

/// Whether member names are sorted, which also finds duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Checked,
    Unchecked,
}

/// Parses `input`; values inside more than `levels` containers are checked, but get no node.
pub(super) fn scan(input: &[u8], tape: &mut Tape, names: Names, levels: usize) -> Result<(), JsonFault> {
    tape.nodes.clear();
    let (mut open, mut pause) = (Open::new(), Pause::Never);
    let mut scan = Scan { input, at: 0, tape, names, levels, depth: 0, until: usize::MAX, pause: &mut pause };
    let result = scan.check_text().and_then(|()| scan.run::<false>(&mut open));
    forget_faulty(tape, result)
}

fn forget_faulty(tape: &mut Tape, result: Result<(), JsonFault>) -> Result<(), JsonFault> {
    if result.is_err() {
        tape.nodes.clear();
        tape.nodes.push(NOTHING);
    }
    result
}

/// Per open container: its node, and whether it is an object.
type Open = SmallVec<[(u32, Kind); FEW_OPEN]>;

/// What the elements of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    All,
    NotAll,
    /// The slice ends among them.
    Paused,
}

struct Scan<'a> {
    input: &'a [u8],
    at: usize,
    tape: &'a mut Tape,
    names: Names,
    levels: usize,
    /// Number of open containers.
    depth: usize,
    /// In slices: where this one ends, and what it ended in.
    until: usize,
    pause: &'a mut Pause,
}

impl Scan<'_> {
    fn check_text(&self) -> Result<(), JsonFault> {
        if self.input.len() >= u32::MAX as usize {
            return Err(JsonFault { offset: 0, kind: JsonFaultKind::TooLong });
        }
        if simdutf8::basic::from_utf8(self.input).is_err() {
            // The slower check reports the offset.
            let offset = simdutf8::compat::from_utf8(self.input).err().map_or(0, |error| error.valid_up_to());
            return Err(JsonFault { offset, kind: JsonFaultKind::NotUtf8 });
        }
        Ok(())
    }

    /// With `SLICED` until about `until`, and `pause` says where that is; else to the end.
    fn run<const SLICED: bool>(&mut self, open: &mut Open) -> Result<(), JsonFault> {
        let mut behind_value = false;
        if SLICED {
            match self.go_on(open)? {
                Some(ended) => behind_value = ended,
                None => return Ok(()),
            }
        }
        'value: loop {
            if !(SLICED && std::mem::take(&mut behind_value)) {
                if SLICED && self.at >= self.until {
                    *self.pause = Pause::Value;
                    return Ok(());
                }
                self.skip_space();
                let start = self.at;
                match self.input.get(self.at).copied() {
                    Some(b'"') => {
                        if !self.string::<SLICED>(false)? {
                            return Ok(());
                        }
                    }
                    Some(bracket @ (b'{' | b'[')) => {
                        let (tag, kind, end) =
                            if bracket == b'{' { (OBJECT, Kind::Object, b'}') } else { (ARRAY, Kind::Array, b']') };
                        if self.depth >= JSON_DEPTH {
                            return Err(JsonFault { offset: start, kind: JsonFaultKind::TooDeep });
                        }
                        let container = self.tape.nodes.len() as u32;
                        self.at += 1;
                        self.push(start, tag)?;
                        self.skip_space();
                        let mut numbers = Numbers::NotAll;
                        if kind == Kind::Array {
                            numbers = self.numbers::<SLICED>(container, self.at, None)?;
                        }
                        if SLICED && numbers == Numbers::Paused {
                            return Ok(());
                        }
                        if self.input.get(self.at) == Some(&end) || numbers == Numbers::All {
                            self.at += 1;
                            self.close(container)?;
                        } else {
                            open.push((container, kind));
                            self.depth += 1;
                            if kind == Kind::Object && !self.name::<SLICED>()? {
                                return Ok(());
                            }
                            continue 'value;
                        }
                    }
                    Some(b'-' | b'0'..=b'9') => self.number()?,
                    Some(b't') => self.word(b"true", BOOL | FLAG)?,
                    Some(b'f') => self.word(b"false", BOOL)?,
                    Some(b'n') => self.word(b"null", NULL)?,
                    _ => return Err(self.unexpected()),
                }
            }
            // A value has ended: what follows belongs to the enclosing container.
            loop {
                self.skip_space();
                if self.depth == 0 {
                    if self.at < self.input.len() {
                        return Err(self.fault(JsonFaultKind::TrailingBytes));
                    }
                    if SLICED {
                        *self.pause = Pause::Over;
                    }
                    return Ok(());
                }
                let (container, kind) = open[self.depth - 1];
                match (self.input.get(self.at).copied(), kind) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if kind == Kind::Object {
                            self.skip_space();
                            if !self.name::<SLICED>()? {
                                return Ok(());
                            }
                        }
                        continue 'value;
                    }
                    (Some(b'}'), Kind::Object) | (Some(b']'), Kind::Array) => {
                        self.at += 1;
                        self.depth -= 1;
                        open.truncate(self.depth);
                        self.close(container)?;
                    }
                    _ => return Err(self.unexpected()),
                }
            }
        }
    }

    fn fault(&self, kind: JsonFaultKind) -> JsonFault {
        JsonFault { offset: self.at, kind }
    }

    fn unexpected(&self) -> JsonFault {
        let ended = self.at >= self.input.len();
        self.fault(if ended { JsonFaultKind::UnexpectedEnd } else { JsonFaultKind::UnexpectedByte })
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.input.get(self.at) {
            self.at += 1;
        }
    }

    /// Appends a node from `start` to the current offset, unless it is nested too deeply to be kept.
    fn push(&mut self, start: usize, tag: u32) -> Result<(), JsonFault> {
        if self.depth > self.levels {
            return Ok(());
        }
        let index = self.tape.nodes.len();
        if index >= JSON_NODES {
            return Err(JsonFault { offset: start, kind: JsonFaultKind::TooManyNodes });
        }
        self.tape.nodes.push(Node { start: start as u32, end: self.at as u32, next: index as u32 + 1, tag });
        Ok(())
    }

    fn word(&mut self, word: &[u8], tag: u32) -> Result<(), JsonFault> {
        let start = self.at;
        if self.input[start..].starts_with(word) {
            self.at += word.len();
            return self.push(start, tag);
        }
        while word.get(self.at - start) == self.input.get(self.at) {
            self.at += 1;
        }
        Err(self.unexpected())
    }

    /// A member's name and its colon, without the value. False: the slice ends in it.
    fn name<const SLICED: bool>(&mut self) -> Result<bool, JsonFault> {
        if self.input.get(self.at) != Some(&b'"') {
            return Err(self.unexpected());
        }
        if !self.string::<SLICED>(true)? {
            return Ok(false);
        }
        self.colon()?;
        Ok(true)
    }

    fn colon(&mut self) -> Result<(), JsonFault> {
        self.skip_space();
        if self.input.get(self.at) != Some(&b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    /// RFC 8259 7. The input is valid UTF-8, so only quotes, escapes and control characters stop the skip. False: the slice ends
    /// in it.
    fn string<const SLICED: bool>(&mut self, is_name: bool) -> Result<bool, JsonFault> {
        let start = self.at;
        // Nearly every name and many values end in this block.
        if let Some(block) = self.input.get(start + 1..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let length = special_in(*block);
            if block.get(length) == Some(&b'"') {
                self.at = start + length + 2;
                self.push(start, STRING)?;
                return Ok(true);
            }
        }
        if SLICED {
            self.at += 1;
            return self.long_string(start, false, is_name);
        }
        let (end, has_escapes) = string_end(self.input, start + 1)?;
        self.at = end + 1;
        self.push(start, if has_escapes { STRING | FLAG } else { STRING })?;
        Ok(true)
    }

    /// If the elements of the array `container`, whose first begins at `start`, are all numbers, skips them up to its bracket and
    /// gives only the first a node: a list of a million tokens would fill the tape. Otherwise skips nothing.
    fn numbers<const SLICED: bool>(
        &mut self,
        container: u32,
        start: usize,
        mut first_end: Option<usize>,
    ) -> Result<Numbers, JsonFault> {
        while let Some(b'-' | b'0'..=b'9') = self.input.get(self.at) {
            if SLICED && self.at >= self.until {
                *self.pause = Pause::Numbers { container, start, first_end };
                return Ok(Numbers::Paused);
            }
            if self.pass_number().is_err() {
                break;
            }
            first_end.get_or_insert(self.at);
            self.skip_space();
            match self.input.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    let (bracket, end) = (self.at, first_end.unwrap_or(self.at));
                    self.at = end;
                    self.depth += 1; // the number's own level
                    self.push(start, NUMBER)?;
                    self.depth -= 1;
                    self.at = bracket;
                    if self.depth < self.levels {
                        self.tape.nodes[container as usize].tag |= FLAG;
                    }
                    return Ok(Numbers::All);
                }
                _ => break,
            }
            self.skip_space();
        }
        // Parsing them one by one reports the fault, if there is one.
        self.at = start;
        Ok(Numbers::NotAll)
    }

    fn number(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        self.pass_number()?;
        self.push(start, NUMBER)
    }

    /// RFC 8259 6. Any length and exponent; evaluating the number is up to the caller.
    fn pass_number(&mut self) -> Result<(), JsonFault> {
        if self.input[self.at] == b'-' {
            self.at += 1;
        }
        if self.input.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.input.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.input.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.input.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One or more digits.
    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.input.get(self.at) {
            self.at += 1;
        }
        if self.at > start {
            return Ok(());
        }
        let ended = self.at >= self.input.len();
        Err(self.fault(if ended { JsonFaultKind::UnexpectedEnd } else { JsonFaultKind::BadNumber }))
    }

    /// Completes a container that was closed.
    fn close(&mut self, container: u32) -> Result<(), JsonFault> {
        if self.depth > self.levels {
            return Ok(());
        }
        let next = self.tape.nodes.len() as u32;
        let node = &mut self.tape.nodes[container as usize];
        node.end = self.at as u32;
        node.next = next;
        if node.tag == OBJECT && next > container + 1 {
            self.order_names(container, next)?;
        }
        Ok(())
    }

    /// Links the names of the object in byte order: the first from the object's tag, each next from the name before.
    fn order_names(&mut self, object: u32, end: u32) -> Result<(), JsonFault> {
        let (input, tape) = (self.input, &mut *self.tape);
        let nodes = &mut tape.nodes[..];
        if self.names == Names::Unchecked {
            chain_as_written(nodes, object, end);
            return Ok(());
        }
        let mut few = [(0u64, 0u32); FEW_NAMES];
        let mut count = 0;
        let mut name = object + 1;
        while name < end && count < FEW_NAMES {
            let entry = (leading_bytes(input, &nodes[name as usize]), name);
            let mut place = count;
            while place > 0 {
                match compare(input, nodes, &few[place - 1], &entry) {
                    Ordering::Less => break,
                    Ordering::Equal => return Err(duplicate(nodes, name)),
                    Ordering::Greater => few[place] = few[place - 1],
                }
                place -= 1;
            }
            few[place] = entry;
            count += 1;
            name = nodes[name as usize + 1].next;
        }
        if name >= end {
            chain(nodes, object, few[..count].iter().map(|entry| entry.1));
            return Ok(());
        }
        order_many(input, tape, object, end)
    }
}

/// One name of a large object; its text is copied next to the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// Eight bytes of the text, big endian, padded with zeros.
    part: u64,
    start: u32,
    end: u32,
    node: u32,
}

/// Scratch memory for large objects, reused between bodies.
#[derive(Debug, Default)]
pub(super) struct Order {
    names: Vec<Name>,
    texts: Vec<u8>,
    /// Ranges of `names` that are equal up to some byte of their text, and the offset of that byte.
    runs: Vec<(u32, u32, u32)>,
}

impl Order {
    pub(super) fn capacity_bytes(&self) -> usize {
        self.names.capacity() * size_of::<Name>() + self.texts.capacity() + self.runs.capacity() * 12
    }
}

/// Sorts names eight bytes at a time, going deeper only where they are equal: each byte is read only a few times for
/// any input. Comparing whole names repeatedly would let crafted input make it slow.
fn order_many(input: &[u8], tape: &mut Tape, object: u32, end: u32) -> Result<(), JsonFault> {
    let (nodes, order) = (&mut tape.nodes[..], &mut tape.order);
    order.names.clear();
    order.texts.clear();
    order.runs.clear();
    let mut node = object + 1;
    while node < end {
        let start = order.texts.len() as u32;
        append_text(input, &nodes[node as usize], &mut order.texts);
        order.names.push(Name { part: 0, start, end: order.texts.len() as u32, node });
        node = nodes[node as usize + 1].next;
    }
    order.runs.push((0, order.names.len() as u32, 0));
    while let Some((from, to, depth)) = order.runs.pop() {
        let names = &mut order.names[from as usize..to as usize];
        for name in names.iter_mut() {
            name.part = eight_bytes(&order.texts[name.start as usize + depth as usize..name.end as usize]);
        }
        // Bytes left for this part; 9 means that the text continues after it.
        let left = |name: &Name| (name.end - name.start - depth).min(9);
        names.sort_unstable_by_key(|name| (name.part, left(name), name.node));
        let mut at = 0;
        while at < names.len() {
            let (part, length) = (names[at].part, left(&names[at]));
            let run = names[at..].iter().take_while(|name| name.part == part && left(name) == length).count();
            if run > 1 && length <= 8 {
                return Err(duplicate(nodes, names[at + 1].node));
            }
            if run > 1 {
                order.runs.push((from + at as u32, from + (at + run) as u32, depth + 8));
            }
            at += run;
        }
    }
    chain(nodes, object, order.names.iter().map(|name| name.node));
    Ok(())
}

fn duplicate(nodes: &[Node], name: u32) -> JsonFault {
    JsonFault { offset: nodes[name as usize].start as usize, kind: JsonFaultKind::DuplicateMember }
}

fn compare(input: &[u8], nodes: &[Node], one: &(u64, u32), other: &(u64, u32)) -> Ordering {
    one.0.cmp(&other.0).then_with(|| order_of(input, &nodes[one.1 as usize], &nodes[other.1 as usize]))
}

fn chain(nodes: &mut [Node], object: u32, order: impl DoubleEndedIterator<Item = u32>) {
    let mut next = 0;
    for name in order.rev() {
        nodes[name as usize].next = next;
        next = name;
    }
    nodes[object as usize].tag |= next << FIRST_SHIFT;
}

fn chain_as_written(nodes: &mut [Node], object: u32, end: u32) {
    nodes[object as usize].tag |= (object + 1) << FIRST_SHIFT;
    let mut name = object + 1;
    while name < end {
        let after = nodes[name as usize + 1].next;
        nodes[name as usize].next = if after < end { after } else { 0 };
        name = after;
    }
}

/// The offset of the closing quote of the string whose inside begins at `at`, and whether it has escapes.
fn string_end(input: &[u8], at: usize) -> Result<(usize, bool), JsonFault> {
    let mut has_escapes = false;
    let mut end = at;
    pass_string(input, &mut end, input.len(), &mut has_escapes)?;
    Ok((end, has_escapes))
}

/// The same, of an inside that goes on at `at`, which becomes the offset. False: it goes on behind `until`, at `at`.
fn pass_string(input: &[u8], at: &mut usize, until: usize, has_escapes: &mut bool) -> Result<bool, JsonFault> {
    loop {
        *at = plain_end(&input[..until], *at);
        let here = *at;
        let fault = |kind| Err(JsonFault { offset: here, kind });
        if here >= until && until < input.len() {
            return Ok(false);
        }
        match input.get(here).copied() {
            Some(b'"') => return Ok(true),
            Some(b'\\') => {
                *has_escapes = true;
                *at += match input.get(here + 1).copied() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                    Some(b'u') => {
                        let digits = input.get(here + 2..here + 6);
                        if digits.is_none_or(|digits| !digits.iter().all(u8::is_ascii_hexdigit)) {
                            return fault(JsonFaultKind::BadEscape);
                        }
                        6
                    }
                    _ => return fault(JsonFaultKind::BadEscape),
                };
            }
            Some(_) => return fault(JsonFaultKind::ControlInString),
            None => return fault(JsonFaultKind::UnexpectedEnd),
        }
    }
}

/// Length of the string inside at the start of `input`; `None` if it has no end or is malformed.
pub fn inside_length(input: &[u8]) -> Option<usize> {
    let (end, _) = string_end(input, 0).ok()?;
    is_text(&input[..end]).then_some(end)
}

/// The same for an inside without escapes.
pub fn plain_length(input: &[u8]) -> Option<usize> {
    let end = plain_end(input, 0);
    (input.get(end) == Some(&b'"') && is_text(&input[..end])).then_some(end)
}

fn is_text(inside: &[u8]) -> bool {
    inside.is_ascii() || simdutf8::basic::from_utf8(inside).is_ok()
}

/// Index of the first quote, backslash or control character at or after `at`, or the input's length.
fn plain_end(input: &[u8], mut at: usize) -> usize {
    let rest = loop {
        let rest = input.get(at..).unwrap_or(&[]);
        let Some(block) = rest.first_chunk::<BLOCK>() else { break rest };
        match special_in(*block) {
            BLOCK => at += BLOCK,
            found => return at + found,
        }
    };
    let mut block = [b'"'; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    at + special_in(block)
}

const BLOCK: usize = 16;

/// Index of the first quote, backslash or control character; `BLOCK` if there is none.
fn special_in(block: [u8; BLOCK]) -> usize {
    let bytes = u8x16::new(block);
    let is_control = bytes.min(u8x16::splat(0x1F)).simd_eq(bytes);
    let marks = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | is_control;
    (marks.to_bitmask() | 1 << BLOCK).trailing_zeros() as usize
}
