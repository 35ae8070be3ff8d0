//! Heads of requests seen lately. A client sends nearly the same head again and again: one that differs from an earlier one
//! in its length, its credential or an id is compared with that, which takes a fraction of reading it.
//! Must never tell another head than reading does, and keeps nothing that may be a secret.

use super::framing::{decimal, window};
use super::request::parse_request;
use super::{Framing, Progress, RequestFault, RequestHead, are_values};
use crate::limits::HEAD_BYTES;
use crate::wire::Span;
use crate::wire::known::Known;

/// Fields whose values are kept, and have to be the same: they say how the message is framed, or seldom change. Any other
/// value is cut out.
const KEPT: [&str; 8] =
    ["accept", "accept-encoding", "connection", "content-type", "expect", "host", "transfer-encoding", "user-agent"];
/// The same for the fields by which SDKs describe themselves.
const KEPT_PREFIX: &[u8] = b"x-stainless-";
/// A head with more other fields is read.
const HOLES: usize = 8;
/// A head of which more stays the same is not learnt.
const SHAPE_BYTES: usize = 4 << 10;
/// A longer value is read.
const VALUE_BYTES: usize = 1 << 10;

/// Heads that one core has seen.
#[derive(Default)]
pub struct KnownHeads {
    shapes: Known<HeadShape>,
    #[cfg(test)]
    reads: u64,
}

#[cfg(test)]
impl KnownHeads {
    /// How many heads were read, the beginnings of heads included.
    pub(super) fn reads(&self) -> u64 {
        self.reads
    }

    pub(super) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.shapes.iter().map(|shape| &shape.literal[..])
    }
}

impl KnownHeads {
    /// As [`parse_request`].
    pub fn parse(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Progress, RequestFault> {
        if self.shapes.find(|shape| shape.fits(input, head)).is_some() {
            return Ok(Progress::Complete);
        }
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let progress = parse_request(input, head)?;
        if progress == Progress::Complete {
            self.shapes.learn(|| HeadShape::of(input, head));
        }
        Ok(progress)
    }
}

/// A head without some of its values.
struct HeadShape {
    literal: Vec<u8>,
    holes: Vec<Hole>,
    /// The hole that is the length of the body.
    length: Option<usize>,
    /// What it was learnt from.
    head: RequestHead,
}

struct Hole {
    /// Where in the literal it is.
    at: usize,
    /// The field whose value fills it, and where that was.
    field: usize,
    learnt: Span,
}

/// All else follows from these, but for where things were.
impl PartialEq for HeadShape {
    fn eq(&self, other: &HeadShape) -> bool {
        self.literal == other.literal
            && self.holes.iter().map(|hole| hole.at).eq(other.holes.iter().map(|hole| hole.at))
    }
}

impl HeadShape {
    fn of(input: &[u8], head: &RequestHead) -> Option<HeadShape> {
        // What is said with a body of no length counts for nothing, and would with another one.
        // A query may hold a key, and seldom comes again.
        if head.framing == Framing::Length(0) || head.target.of(input).contains(&b'?') {
            return None;
        }
        let (mut literal, mut holes, mut length, mut at) = (Vec::new(), Vec::new(), None, 0);
        for (index, field) in head.fields.iter().enumerate() {
            let name = field.name.of(input).to_ascii_lowercase();
            let is_kept = KEPT.iter().any(|kept| kept.as_bytes() == name) || name.starts_with(KEPT_PREFIX);
            if is_kept || field.value.is_empty() {
                continue;
            }
            if name == b"content-length" {
                length = Some(holes.len());
            }
            literal.extend_from_slice(input.get(at..field.value.start as usize)?);
            holes.push(Hole { at: literal.len(), field: index, learnt: field.value });
            at = field.value.end as usize;
        }
        literal.extend_from_slice(input.get(at..head.length)?);
        let is_usable = holes.len() <= HOLES && literal.len() <= SHAPE_BYTES;
        is_usable.then(|| HeadShape { literal, holes, length, head: head.clone() })
    }

    /// Fills `head` in, if the input begins with one of this shape.
    fn fits(&self, input: &[u8], head: &mut RequestHead) -> Option<()> {
        let mut values = [Span::default(); HOLES];
        let (mut rest, mut at) = (window(input), 0);
        let window_length = rest.len();
        for (hole, value) in self.holes.iter().zip(&mut values) {
            rest = rest.strip_prefix(&self.literal[at..hole.at])?;
            let length = value_length(rest)?;
            let start = window_length - rest.len();
            *value = Span::new(start, start + length);
            (rest, at) = (&rest[length..], hole.at);
        }
        rest = rest.strip_prefix(&self.literal[at..])?;
        let framing = match self.length {
            None => self.head.framing,
            Some(hole) => Framing::Length(decimal(values[hole].of(input)).filter(|&length| length > 0)?),
        };
        let filled = self.holes.iter().zip(&values);
        let before_host = filled.clone().take_while(|(hole, _)| hole.learnt.end <= self.head.host.start).last();
        let by = before_host.map_or(0, |(hole, value)| value.end.wrapping_sub(hole.learnt.end));
        let mut fields = std::mem::take(&mut head.fields);
        fields.fill(&self.head.fields, filled.map(|(hole, value)| (hole.field, *value)));
        // The first line stands before everything that may move.
        *head = RequestHead {
            method: self.head.method,
            method_span: self.head.method_span,
            target: self.head.target,
            path: self.head.path,
            version: self.head.version,
            framing,
            persistence: self.head.persistence,
            expect_continue: self.head.expect_continue,
            host: self.head.host.moved(by),
            fields,
            length: window_length - rest.len(),
        };
        debug_assert!(head.length <= HEAD_BYTES);
        Some(())
    }
}

/// How long a value is that `rest` begins with; none if what stands there has to be read.
fn value_length(rest: &[u8]) -> Option<usize> {
    let length = memchr::memchr(b'\r', &rest[..rest.len().min(VALUE_BYTES)])?;
    let value = &rest[..length];
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    // White space around a value is none of it.
    let is_bare = !value.first().is_none_or(is_space) && !value.last().is_none_or(is_space);
    (is_bare && are_values(value)).then_some(length)
}
