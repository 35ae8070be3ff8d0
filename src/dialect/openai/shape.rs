//! Templates of recent messages: requests, stream events and answers. Most messages differ from an earlier one only in a few
//! strings and numbers: matching one against a template takes a fraction of the time of parsing. Must never yield other
//! facts than parsing does, and yields none for anything that does not match.

use super::answer::answer_facts;
use super::event::named_event_facts;
use crate::dialect::facts::{AnswerFacts, Endpoint, EventFacts, RequestFacts};
use crate::wire::Span;
use crate::wire::json::{self, Tape, inside_length, plain_length};
use crate::wire::known::TemplateCache;

mod answer; // non-streaming answers
mod event; // content events of streams
mod request; // requests

use answer::AnswerTemplate;
use event::EventTemplate;
pub use request::Reading;
use request::RequestTemplate;

/// A longer event or request is not cached, nor an answer with more than this besides its texts.
const TEMPLATE_BYTES: usize = 4 << 10;
/// Longer requests are parsed: most of their cost is in their strings, which each template would have to scan again.
const REQUEST_BYTES: usize = 4 << 10;
/// Longer answers are parsed.
const ANSWER_BYTES: usize = 256 << 10;
/// Longer numbers make the message be parsed.
const DIGITS: usize = 19;

/// The templates of one core.
#[derive(Default)]
pub struct Shapes {
    events: TemplateCache<EventTemplate>,
    answers: TemplateCache<AnswerTemplate>,
    requests: TemplateCache<RequestTemplate>,
}

impl Shapes {
    /// As [`named_event_facts`]. `tape` is scratch; its contents afterwards are unspecified.
    pub fn event_facts(&mut self, endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
        if !name.is_empty() || data.len() > TEMPLATE_BYTES {
            return named_event_facts(endpoint, name, data, tape);
        }
        self.events.find(|shape| shape.fits(endpoint, data)).unwrap_or_else(|| {
            let facts = named_event_facts(endpoint, name, data, tape);
            self.events.learn(|| EventTemplate::of(endpoint, data, tape, &facts));
            facts
        })
    }

    /// As [`answer_facts`]. `tape` is scratch; its contents afterwards are unspecified.
    pub fn answer_facts(&mut self, endpoint: Endpoint, body: &[u8], tape: &mut Tape) -> AnswerFacts {
        if !matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) || body.len() > ANSWER_BYTES {
            return answer_facts(endpoint, body, tape);
        }
        self.answers.find(|shape| shape.fits(endpoint, body)).unwrap_or_else(|| {
            let facts = answer_facts(endpoint, body, tape);
            self.answers.learn(|| AnswerTemplate::of(endpoint, body, tape, &facts));
            facts
        })
    }
}

/// Requests.
impl Shapes {
    /// The result of [`request_facts`](super::request_facts) for a body that matches a template, and is therefore valid
    /// JSON; `None` if it has to be parsed.
    pub fn known_request(&mut self, endpoint: Endpoint, body: &[u8]) -> Option<(RequestFacts, Reading)> {
        if body.len() > REQUEST_BYTES {
            return None;
        }
        let (facts, slots) = self.requests.find(|shape| shape.fits(endpoint, body))?;
        Some((facts, Reading::Shape { index: self.requests.last(), slots }))
    }

    /// Caches a template of a parsed request, from its tape and facts.
    pub fn learn_request(&mut self, endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &RequestFacts) {
        let is_known = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings);
        if is_known && body.len() <= REQUEST_BYTES {
            self.requests.learn(|| RequestTemplate::of(endpoint, body, tape, facts));
        }
    }

    /// Appends the canonical form of a request, see [`json::canonical`], without members that do not affect the answer.
    /// No other request may be read between the reading and this call.
    pub fn canonical(&self, reading: &Reading, body: &[u8], tape: &Tape, facts: &RequestFacts, out: &mut Vec<u8>) {
        match reading {
            Reading::Tape => json::canonical(body, tape, facts.not_in_key, out),
            Reading::Shape { index, slots } => self.requests.kept(*index).canonical(body, slots, out),
        }
    }
}

/// A message cut at the values that do not affect its facts, or affect them in a known way.
#[derive(PartialEq, Eq)]
struct Pattern {
    endpoint: Endpoint,
    /// Everything between the slots, and the offset of each slot in it.
    literal: Vec<u8>,
    slots: Vec<(usize, Slot)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The inside of a non-empty string without escapes.
    Text,
    /// The inside of any string.
    Said,
    /// The inside of any non-empty string.
    SaidNonEmpty,
    /// A positive integer of a few digits.
    Digits,
}

impl Pattern {
    /// `data` without the bytes at `spans`, which are in order.
    fn cut(endpoint: Endpoint, data: &[u8], spans: &[(Span, Slot)]) -> Pattern {
        let (mut literal, mut slots, mut at) = (Vec::new(), Vec::with_capacity(spans.len()), 0);
        for (span, slot) in spans {
            literal.extend_from_slice(&data[at..span.start as usize]);
            slots.push((literal.len(), *slot));
            at = span.end as usize;
        }
        literal.extend_from_slice(&data[at..]);
        Pattern { endpoint, literal, slots }
    }

    /// Whether `data` matches; `fill` is called with the number of each slot and the span that fills it.
    fn fits(&self, endpoint: Endpoint, data: &[u8], mut fill: impl FnMut(usize, Span)) -> bool {
        // The end first: messages with the same literal up to there are told apart by it.
        let last = self.slots.last().map_or(0, |&(until, _)| until);
        if self.endpoint != endpoint || !data.ends_with(&self.literal[last..]) {
            return false;
        }
        let (mut rest, mut at) = (data, 0);
        for (number, &(until, slot)) in self.slots.iter().enumerate() {
            let Some(behind) = rest.strip_prefix(&self.literal[at..until]) else { return false };
            let Some(length) = slot.length(behind) else { return false };
            let start = data.len() - behind.len();
            fill(number, Span::new(start, start + length));
            (rest, at) = (&behind[length..], until);
        }
        rest == &self.literal[at..]
    }
}

impl Slot {
    /// Length of the prefix of `rest` that fills it; `None` if the message has to be parsed.
    fn length(self, rest: &[u8]) -> Option<usize> {
        match self {
            Slot::Text => plain_length(rest).filter(|length| *length > 0),
            Slot::Said => inside_length(rest),
            Slot::SaidNonEmpty => inside_length(rest).filter(|length| *length > 0),
            Slot::Digits => {
                let length = rest.iter().position(|byte| !byte.is_ascii_digit())?;
                ((1..=DIGITS).contains(&length) && rest[0] != b'0').then_some(length)
            }
        }
    }
}
