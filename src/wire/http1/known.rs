//! Templates of recent heads. A peer sends nearly the same head again and again: one that differs from a cached one
//! only in its length, credential, date or an id is matched against that, at a fraction of the cost of parsing. Must
//! never differ from the result of parsing, nor keep a value that may be secret.

use super::framing::{decimal, window};
use super::request::parse_request;
use super::response::parse_response;
use super::{Asked, Fields, Framing, Progress, RequestFault, RequestHead, ResponseFault, ResponseHead, are_values};
use crate::limits::HEAD_BYTES;
use crate::wire::Span;
use crate::wire::known::TemplateCache;

/// Fields whose values are part of the template and must be equal: they affect framing, or rarely change. Any other
/// value becomes a slot.
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
/// A head with more slots is parsed. Providers send about twenty rate-limit fields.
pub(super) const SLOTS: usize = 32;
/// A head with more literal bytes is not cached.
const TEMPLATE_BYTES: usize = 4 << 10;
/// A longer value makes the head be parsed.
const VALUE_BYTES: usize = 1 << 10;

/// The templates of one core, for one kind of head.
pub struct KnownHeads<H> {
    shapes: TemplateCache<HeadTemplate<H>>,
    #[cfg(test)]
    reads: u64,
}

impl<H> Default for KnownHeads<H> {
    fn default() -> KnownHeads<H> {
        KnownHeads {
            shapes: TemplateCache::default(),
            #[cfg(test)]
            reads: 0,
        }
    }
}

#[cfg(test)]
impl<H: Head> KnownHeads<H> {
    /// How many heads were parsed, incomplete ones included.
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
            // The same head has another meaning for a HEAD request and for an upgrade.
            Asked::Head | Asked::Upgrade => parse_response(input, asked, head),
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
            self.shapes.learn(|| HeadTemplate::of(input, head));
        }
        Ok(progress)
    }
}

/// What this file needs of a head.
pub trait Head: Clone {
    fn fields(&self) -> &Fields;

    fn fields_mut(&mut self) -> &mut Fields;

    fn framing(&self) -> Framing;

    /// Length of the head in bytes.
    fn length(&self) -> usize;

    /// Whether heads that differ from this one only in slots, and in a non-zero body length, have the same meaning.
    fn is_typical(&self, input: &[u8]) -> bool;

    /// Becomes a copy of the cached head with this framing and length; `place` maps each cached span to its new place.
    fn become_like(&mut self, cached: &Self, framing: Framing, length: usize, place: impl Fn(Span) -> Span);
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
        // Expect has no effect with an empty body, but would have one with another length.
        // A query may contain a secret, and rarely recurs.
        self.framing != Framing::Length(0) && !self.target.of(input).contains(&b'?')
    }

    fn become_like(&mut self, cached: &RequestHead, framing: Framing, length: usize, place: impl Fn(Span) -> Span) {
        *self = RequestHead {
            // The start line is before everything that may shift.
            method: cached.method,
            method_span: cached.method_span,
            target: cached.target,
            path: cached.path,
            version: cached.version,
            framing,
            persistence: cached.persistence,
            expect_continue: cached.expect_continue,
            // Both fields are part of the template.
            body_format: cached.body_format,
            answer_format: cached.answer_format,
            host: place(cached.host),
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

    fn become_like(&mut self, cached: &ResponseHead, framing: Framing, length: usize, _: impl Fn(Span) -> Span) {
        *self = ResponseHead {
            status: cached.status,
            version: cached.version,
            framing,
            persistence: cached.persistence,
            fields: std::mem::take(&mut self.fields),
            length,
        };
    }
}

/// A head without the values in its slots.
struct HeadTemplate<H> {
    literal: Vec<u8>,
    slots: Vec<Slot>,
    /// The slot that holds Content-Length.
    length: Option<usize>,
    /// The head it was made from.
    head: H,
}

struct Slot {
    /// Its offset in the literal.
    at: usize,
    /// The field whose value fills it, and the span in the original head.
    field: usize,
    cached: Span,
}

/// Everything else follows from these, except the spans.
impl<H> PartialEq for HeadTemplate<H> {
    fn eq(&self, other: &HeadTemplate<H>) -> bool {
        self.literal == other.literal
            && self.slots.iter().map(|slot| slot.at).eq(other.slots.iter().map(|slot| slot.at))
    }
}

impl<H: Head> HeadTemplate<H> {
    fn of(input: &[u8], head: &H) -> Option<HeadTemplate<H>> {
        if !head.is_typical(input) {
            return None;
        }
        let (mut literal, mut slots, mut length, mut at) = (Vec::new(), Vec::new(), None, 0);
        for (index, field) in head.fields().iter().enumerate() {
            let name = field.name.of(input).to_ascii_lowercase();
            let is_kept = KEPT.iter().any(|kept| kept.as_bytes() == name) || name.starts_with(KEPT_PREFIX);
            if is_kept || field.value.is_empty() {
                continue;
            }
            if name == b"content-length" {
                length = Some(slots.len());
            }
            literal.extend_from_slice(input.get(at..field.value.start as usize)?);
            slots.push(Slot { at: literal.len(), field: index, cached: field.value });
            at = field.value.end as usize;
        }
        literal.extend_from_slice(input.get(at..head.length())?);
        let is_usable = slots.len() <= SLOTS && literal.len() <= TEMPLATE_BYTES;
        is_usable.then(|| HeadTemplate { literal, slots, length, head: head.clone() })
    }

    /// Fills in `head` if the input begins with a head that matches.
    fn fits(&self, input: &[u8], head: &mut H) -> Option<()> {
        let mut values = [Span::default(); SLOTS];
        let (mut rest, mut at) = (window(input), 0);
        let window_length = rest.len();
        for (slot, value) in self.slots.iter().zip(&mut values) {
            rest = rest.strip_prefix(&self.literal[at..slot.at])?;
            let length = value_length(rest)?;
            let start = window_length - rest.len();
            *value = Span::new(start, start + length);
            (rest, at) = (&rest[length..], slot.at);
        }
        rest = rest.strip_prefix(&self.literal[at..])?;
        let framing = match self.length {
            None => self.head.framing(),
            Some(slot) => Framing::Length(decimal(values[slot].of(input)).filter(|&length| length > 0)?),
        };
        let length = window_length - rest.len();
        debug_assert!(length <= HEAD_BYTES);
        let filled = self.slots.iter().zip(&values);
        head.fields_mut().fill(self.head.fields(), filled.clone().map(|(slot, value)| (slot.field, *value)));
        head.become_like(&self.head, framing, length, |cached| {
            let before = filled.clone().take_while(|(slot, _)| slot.cached.end <= cached.start).last();
            cached.moved(before.map_or(0, |(slot, value)| value.end.wrapping_sub(slot.cached.end)))
        });
        Some(())
    }
}

/// The length of the value at the start of `rest`; `None` if the head has to be parsed.
fn value_length(rest: &[u8]) -> Option<usize> {
    let length = memchr::memchr(b'\r', &rest[..rest.len().min(VALUE_BYTES)])?;
    let value = &rest[..length];
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    // Surrounding white space is not part of a value.
    let is_bare = !value.first().is_none_or(is_space) && !value.last().is_none_or(is_space);
    (is_bare && are_values(value)).then_some(length)
}
