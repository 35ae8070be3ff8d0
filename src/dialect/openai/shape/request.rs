//! Requests: most differ only in the texts of messages and in the user. Their canonical form, which the fingerprint
//! hashes, is cut at the same strings.

use super::{Pattern, Slot, TEMPLATE_BYTES};
use crate::dialect::facts::{Endpoint, RequestFacts};
use crate::wire::Span;
use crate::wire::json::{self, Tape, Value};

/// Requests with more variable strings are parsed.
const SLOTS: usize = 8;

/// The span that fills each slot.
pub(super) type Slots = [Span; SLOTS];

/// How a request was read, and so how its canonical form is made.
#[derive(Debug)]
pub enum Reading {
    /// It was parsed, and has a tape.
    Tape,
    /// It matched the template with this index.
    Shape { index: usize, slots: Slots },
}

pub(super) struct RequestTemplate {
    pattern: Pattern,
    /// The facts of the original request, and the span that filled each slot in it.
    facts: RequestFacts,
    cached: Vec<Span>,
    /// The canonical form without the parts from slots, and the offset and slot of each of these.
    form: Vec<u8>,
    fills: Vec<(usize, usize)>,
}

/// Everything else follows from the pattern, except offsets.
impl PartialEq for RequestTemplate {
    fn eq(&self, other: &RequestTemplate) -> bool {
        self.pattern == other.pattern
    }
}

impl RequestTemplate {
    /// The template of a request with this tape; `None` for one without texts or with too many.
    pub(super) fn of(endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &RequestFacts) -> Option<RequestTemplate> {
        let mut spans: Vec<(Span, Slot)> = Vec::new();
        for member in tape.root().members() {
            match member.name.plain(body) {
                Some(b"messages") => member.value.elements().for_each(|message| texts_of(message, body, &mut spans)),
                Some(b"prompt" | b"input") => {
                    spans.extend(said(member.value));
                    spans.extend(member.value.elements().filter_map(said));
                }
                // Whether it has escapes is one of the facts.
                Some(b"user") if member.value.plain(body).is_some_and(|user| !user.is_empty()) => {
                    spans.extend(member.value.inside().map(|inside| (inside, Slot::Text)));
                }
                Some(b"safety_identifier" | b"prompt_cache_key") => spans.extend(said(member.value)),
                _ => {}
            }
        }
        let pattern = Pattern::cut(endpoint, body, &spans);
        if spans.is_empty() || spans.len() > SLOTS || pattern.literal.len() > TEMPLATE_BYTES {
            return None;
        }
        let cached: Vec<Span> = spans.iter().map(|(span, _)| *span).collect();
        let (mut whole, mut begins) = (Vec::new(), Vec::new());
        json::canonical_by_strings(body, tape, facts.not_in_key, &mut whole, |inside, at| {
            begins.extend(cached.iter().position(|span| *span == inside).map(|slot| (at, slot)));
        });
        let (mut form, mut fills, mut at, mut fill) = (Vec::new(), Vec::new(), 0, Vec::new());
        for (begin, slot) in begins {
            form.extend_from_slice(&whole[at..begin]);
            fills.push((form.len(), slot));
            fill.clear();
            json::canonical_string(cached[slot].of(body), &mut fill);
            at = begin + fill.len();
        }
        form.extend_from_slice(&whole[at..]);
        Some(RequestTemplate { pattern, facts: *facts, cached, form, fills })
    }

    /// The facts of `body` if it matches, and the spans that fill the slots.
    pub(super) fn fits(&self, endpoint: Endpoint, body: &[u8]) -> Option<(RequestFacts, Slots)> {
        let mut slots = Slots::default();
        if !self.pattern.fits(endpoint, body, |number, span| slots[number] = span) {
            return None;
        }
        // An offset is shifted by the slots before it.
        let facts = self.facts.moved(|at| {
            let in_front = self.cached.iter().zip(&slots).take_while(|(cached, _)| cached.end <= at);
            in_front.last().map_or(at, |(cached, slot)| slot.end + (at - cached.end))
        });
        Some((facts, slots))
    }

    /// Appends the canonical form of a body that matches this template.
    pub(super) fn canonical(&self, body: &[u8], slots: &Slots, out: &mut Vec<u8>) {
        let mut at = 0;
        for &(until, slot) in &self.fills {
            out.extend_from_slice(&self.form[at..until]);
            json::canonical_string(slots[slot].of(body), out);
            at = until;
        }
        out.extend_from_slice(&self.form[at..]);
    }
}

/// The inside of a string.
fn said(value: Value<'_>) -> Option<(Span, Slot)> {
    value.inside().map(|inside| (inside, Slot::Said))
}

/// The texts of a message, one string or parts.
fn texts_of(message: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Slot)>) {
    for member in message.members().filter(|member| member.name.plain(body) == Some(b"content")) {
        spans.extend(said(member.value));
        for part in member.value.elements() {
            let texts = part.members().filter(|member| member.name.plain(body) == Some(b"text"));
            spans.extend(texts.filter_map(|text| said(text.value)));
        }
    }
}
