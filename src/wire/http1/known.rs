//! Heads seen lately. A client, and a backend, sends nearly the same head again and again: one that differs from an earlier
//! one in its length, its credential, its date or an id is compared with that, which takes a fraction of reading it.
//! Must never tell another head than reading does, and keeps nothing that may be a secret.

use super::framing::{decimal, window};
use super::request::parse_request;
use super::response::parse_response;
use super::{Asked, Fields, Framing, Progress, RequestFault, RequestHead, ResponseFault, ResponseHead, are_values};
use crate::limits::HEAD_BYTES;
use crate::wire::Span;
use crate::wire::known::Known;

/// Fields whose values are kept, and have to be the same: they say how the message is framed, or seldom change. Any other
/// value is cut out.
const KEPT: [&str; 11] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "server",
    "transfer-encoding",
    "user-agent",
];
/// The same for the fields by which SDKs describe themselves.
const KEPT_PREFIX: &[u8] = b"x-stainless-";
/// A head with more other fields is read. Providers say in a score of them what is left of one's limits.
pub(super) const HOLES: usize = 32;
/// A head of which more stays the same is not learnt.
const SHAPE_BYTES: usize = 4 << 10;
/// A longer value is read.
const VALUE_BYTES: usize = 1 << 10;

/// Heads of one kind that one core has seen.
pub struct KnownHeads<H> {
    shapes: Known<HeadShape<H>>,
    #[cfg(test)]
    reads: u64,
}

impl<H> Default for KnownHeads<H> {
    fn default() -> KnownHeads<H> {
        KnownHeads {
            shapes: Known::default(),
            #[cfg(test)]
            reads: 0,
        }
    }
}

#[cfg(test)]
impl<H: Head> KnownHeads<H> {
    /// How many heads were read, the beginnings of heads included.
    pub(super) fn reads(&self) -> u64 {
        self.reads
    }

    pub(super) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.shapes.iter().map(|shape| &shape.literal[..])
    }
}

impl KnownHeads<RequestHead> {
    /// As [`parse_request`].
    pub fn parse_request(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Progress, RequestFault> {
        self.compare_or(input, head, |head| parse_request(input, head))
    }
}

impl KnownHeads<ResponseHead> {
    /// As [`parse_response`].
    pub fn parse_response(
        &mut self,
        input: &[u8],
        asked: Asked,
        head: &mut ResponseHead,
    ) -> Result<Progress, ResponseFault> {
        match asked {
            Asked::Other => self.compare_or(input, head, |head| parse_response(input, asked, head)),
            // A head of the same words means another thing there.
            Asked::Head => parse_response(input, asked, head),
        }
    }
}

impl<H: Head> KnownHeads<H> {
    fn compare_or<E>(
        &mut self,
        input: &[u8],
        head: &mut H,
        read: impl FnOnce(&mut H) -> Result<Progress, E>,
    ) -> Result<Progress, E> {
        if self.shapes.find(|shape| shape.fits(input, head)).is_some() {
            return Ok(Progress::Complete);
        }
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let progress = read(head)?;
        if progress == Progress::Complete {
            self.shapes.learn(|| HeadShape::of(input, head));
        }
        Ok(progress)
    }
}

/// What this file wants of a head.
pub trait Head: Clone {
    fn fields(&self) -> &Fields;

    fn fields_mut(&mut self) -> &mut Fields;

    fn framing(&self) -> Framing;

    /// Bytes of the head.
    fn length(&self) -> usize;

    /// Whether heads that differ from this one in values only, and in the length of a body that is not empty, mean the same.
    fn is_typical(&self, input: &[u8]) -> bool;

    /// Becomes `learnt`, but for this; what was at a span then is now where `place` says.
    fn become_like(&mut self, learnt: &Self, framing: Framing, length: usize, place: impl Fn(Span) -> Span);
}

impl Head for RequestHead {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn length(&self) -> usize {
        self.length
    }

    fn is_typical(&self, input: &[u8]) -> bool {
        // What is said with a body of no length counts for nothing, and would with another one.
        // A query may hold a key, and seldom comes again.
        self.framing != Framing::Length(0) && !self.target.of(input).contains(&b'?')
    }

    fn become_like(&mut self, learnt: &RequestHead, framing: Framing, length: usize, place: impl Fn(Span) -> Span) {
        *self = RequestHead {
            // The first line stands before everything that may move.
            method: learnt.method,
            method_span: learnt.method_span,
            target: learnt.target,
            path: learnt.path,
            version: learnt.version,
            framing,
            persistence: learnt.persistence,
            expect_continue: learnt.expect_continue,
            host: place(learnt.host),
            fields: std::mem::take(&mut self.fields),
            length,
        };
    }
}

impl Head for ResponseHead {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn length(&self) -> usize {
        self.length
    }

    fn is_typical(&self, _: &[u8]) -> bool {
        !matches!(self.framing, Framing::Empty | Framing::Length(0))
    }

    fn become_like(&mut self, learnt: &ResponseHead, framing: Framing, length: usize, _: impl Fn(Span) -> Span) {
        *self = ResponseHead {
            status: learnt.status,
            version: learnt.version,
            framing,
            persistence: learnt.persistence,
            fields: std::mem::take(&mut self.fields),
            length,
        };
    }
}

/// A head without some of its values.
struct HeadShape<H> {
    literal: Vec<u8>,
    holes: Vec<Hole>,
    /// The hole that is the length of the body.
    length: Option<usize>,
    /// What it was learnt from.
    head: H,
}

struct Hole {
    /// Where in the literal it is.
    at: usize,
    /// The field whose value fills it, and where that was.
    field: usize,
    learnt: Span,
}

/// All else follows from these, but for where things were.
impl<H> PartialEq for HeadShape<H> {
    fn eq(&self, other: &HeadShape<H>) -> bool {
        self.literal == other.literal
            && self.holes.iter().map(|hole| hole.at).eq(other.holes.iter().map(|hole| hole.at))
    }
}

impl<H: Head> HeadShape<H> {
    fn of(input: &[u8], head: &H) -> Option<HeadShape<H>> {
        if !head.is_typical(input) {
            return None;
        }
        let (mut literal, mut holes, mut length, mut at) = (Vec::new(), Vec::new(), None, 0);
        for (index, field) in head.fields().iter().enumerate() {
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
        literal.extend_from_slice(input.get(at..head.length())?);
        let is_usable = holes.len() <= HOLES && literal.len() <= SHAPE_BYTES;
        is_usable.then(|| HeadShape { literal, holes, length, head: head.clone() })
    }

    /// Fills `head` in, if the input begins with one of this shape.
    fn fits(&self, input: &[u8], head: &mut H) -> Option<()> {
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
            None => self.head.framing(),
            Some(hole) => Framing::Length(decimal(values[hole].of(input)).filter(|&length| length > 0)?),
        };
        let length = window_length - rest.len();
        debug_assert!(length <= HEAD_BYTES);
        let filled = self.holes.iter().zip(&values);
        head.fields_mut().fill(self.head.fields(), filled.clone().map(|(hole, value)| (hole.field, *value)));
        head.become_like(&self.head, framing, length, |learnt| {
            let before = filled.clone().take_while(|(hole, _)| hole.learnt.end <= learnt.start).last();
            learnt.moved(before.map_or(0, |(hole, value)| value.end.wrapping_sub(hole.learnt.end)))
        });
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
