//! The shapes of messages seen lately: requests and events of streams. Most of them differ from one before
//! in a few strings and numbers: such a one is compared with what is known, which takes a fraction of reading it.
//! Must never tell other facts than reading does, and gives no opinion on anything it has not seen.

use super::event::named_event_facts;
use crate::dialect::facts::{Endpoint, EventFacts, RequestFacts};
use crate::wire::Span;
use crate::wire::json::{self, Tape, inside_length, plain_length};
use crate::wire::known::Known;

mod event; // content events
mod request; // what clients ask

use event::EventShape;
pub use request::Reading;
use request::RequestShape;

/// A longer event or request is not learnt.
const SHAPE_BYTES: usize = 4 << 10;
/// Longer requests are read: what they cost is in their strings, and these have to be looked at once for each shape.
const REQUEST_BYTES: usize = 4 << 10;
/// Longer numbers are read.
const DIGITS: usize = 19;

/// Shapes of one core.
#[derive(Default)]
pub struct Shapes {
    events: Known<EventShape>,
    requests: Known<RequestShape>,
}

impl Shapes {
    /// As [`named_event_facts`]. `tape` is scratch; what it holds afterwards is not said.
    pub fn event_facts(&mut self, endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
        if !name.is_empty() || data.len() > SHAPE_BYTES {
            return named_event_facts(endpoint, name, data, tape);
        }
        self.events.find(|shape| shape.fits(endpoint, data)).unwrap_or_else(|| {
            let facts = named_event_facts(endpoint, name, data, tape);
            self.events.learn(|| EventShape::of(endpoint, data, tape, &facts));
            facts
        })
    }
}

/// Requests.
impl Shapes {
    /// What [`request_facts`](super::request_facts) tells of a body that has a known shape, and that it is valid JSON; none
    /// of one that has to be read.
    pub fn known_request(&mut self, endpoint: Endpoint, body: &[u8]) -> Option<(RequestFacts, Reading)> {
        if body.len() > REQUEST_BYTES {
            return None;
        }
        let (facts, holes) = self.requests.find(|shape| shape.fits(endpoint, body))?;
        Some((facts, Reading::Shape { index: self.requests.last(), holes }))
    }

    /// Learns from a request that was read: from its tape, and what that says.
    pub fn learn_request(&mut self, endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &RequestFacts) {
        let is_known = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings);
        if is_known && body.len() <= REQUEST_BYTES {
            self.requests.learn(|| RequestShape::of(endpoint, body, tape, facts));
        }
    }

    /// Appends the canonical form of a request, see [`json::canonical`], without what does not count. Between the reading
    /// and this no other request is read.
    pub fn canonical(&self, reading: &Reading, body: &[u8], tape: &Tape, facts: &RequestFacts, out: &mut Vec<u8>) {
        match reading {
            Reading::Tape => json::canonical(body, tape, facts.not_in_key, out),
            Reading::Shape { index, holes } => self.requests.kept(*index).canonical(body, holes, out),
        }
    }
}

/// A message cut at the values on which its facts do not depend, or depend in a known way.
#[derive(PartialEq, Eq)]
struct Pattern {
    endpoint: Endpoint,
    /// Everything between the holes, and where in it each hole is.
    literal: Vec<u8>,
    holes: Vec<(usize, Hole)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The inside of a string without escapes that is not empty.
    Text,
    /// The inside of any string.
    Said,
    /// A whole number of a few digits that is not 0.
    Digits,
}

impl Pattern {
    /// `data` without what is at `spans`, which are in order.
    fn cut(endpoint: Endpoint, data: &[u8], spans: &[(Span, Hole)]) -> Pattern {
        let (mut literal, mut holes, mut at) = (Vec::new(), Vec::with_capacity(spans.len()), 0);
        for (span, hole) in spans {
            literal.extend_from_slice(&data[at..span.start as usize]);
            holes.push((literal.len(), *hole));
            at = span.end as usize;
        }
        literal.extend_from_slice(&data[at..]);
        Pattern { endpoint, literal, holes }
    }

    /// Whether `data` is cut so; `fill` gets where it is that fills each hole, with the hole's number.
    fn fits(&self, endpoint: Endpoint, data: &[u8], mut fill: impl FnMut(usize, Span)) -> bool {
        // The end first, for what is cut in two places looks the same up to there.
        let last = self.holes.last().map_or(0, |&(until, _)| until);
        if self.endpoint != endpoint || !data.ends_with(&self.literal[last..]) {
            return false;
        }
        let (mut rest, mut at) = (data, 0);
        for (number, &(until, hole)) in self.holes.iter().enumerate() {
            let Some(behind) = rest.strip_prefix(&self.literal[at..until]) else { return false };
            let Some(length) = hole.length(behind) else { return false };
            let start = data.len() - behind.len();
            fill(number, Span::new(start, start + length));
            (rest, at) = (&behind[length..], until);
        }
        rest == &self.literal[at..]
    }
}

impl Hole {
    /// How many bytes of `rest` fill it; none if what stands there has to be read.
    fn length(self, rest: &[u8]) -> Option<usize> {
        match self {
            Hole::Text => plain_length(rest).filter(|length| *length > 0),
            Hole::Said => inside_length(rest),
            Hole::Digits => {
                let length = rest.iter().position(|byte| !byte.is_ascii_digit())?;
                ((1..=DIGITS).contains(&length) && rest[0] != b'0').then_some(length)
            }
        }
    }
}
