//! Requests: what differs from one to the next is mostly what is said in them, and who says it.
//! Their canonical form, which the fingerprint hashes, is cut at the same strings as they are.

use super::{Hole, Pattern, SHAPE_BYTES};
use crate::dialect::facts::{Endpoint, RequestFacts};
use crate::wire::Span;
use crate::wire::json::{self, Tape, Value};

/// Requests with more strings that may differ are read.
const HOLES: usize = 8;

/// Where what fills each hole is.
pub(super) type Holes = [Span; HOLES];

/// How a request was read: from what its canonical form is made.
#[derive(Debug)]
pub enum Reading {
    /// It was parsed, and has a tape.
    Tape,
    /// It was compared with the shape of this index.
    Shape { index: usize, holes: Holes },
}

pub(super) struct RequestShape {
    pattern: Pattern,
    /// The facts of the request that it was learnt from, and where what filled each hole was.
    facts: RequestFacts,
    learnt: Vec<Span>,
    /// The canonical form without the forms of what fills holes, and where in it that of which hole is.
    form: Vec<u8>,
    fills: Vec<(usize, usize)>,
}

/// All else follows from the pattern, but for where things were.
impl PartialEq for RequestShape {
    fn eq(&self, other: &RequestShape) -> bool {
        self.pattern == other.pattern
    }
}

impl RequestShape {
    /// The shape of a request of which `tape` is the tape; none of one that says nothing, or too much.
    pub(super) fn of(endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &RequestFacts) -> Option<RequestShape> {
        let mut spans: Vec<(Span, Hole)> = Vec::new();
        for member in tape.root().members() {
            match member.name.plain(body) {
                Some(b"messages") => member.value.elements().for_each(|message| texts_of(message, body, &mut spans)),
                Some(b"prompt" | b"input") => {
                    spans.extend(said(member.value));
                    spans.extend(member.value.elements().filter_map(said));
                }
                // Its spelling is a fact.
                Some(b"user") if member.value.plain(body).is_some_and(|user| !user.is_empty()) => {
                    spans.extend(member.value.inside().map(|inside| (inside, Hole::Text)));
                }
                Some(b"safety_identifier" | b"prompt_cache_key") => spans.extend(said(member.value)),
                _ => {}
            }
        }
        let pattern = Pattern::cut(endpoint, body, &spans);
        if spans.is_empty() || spans.len() > HOLES || pattern.literal.len() > SHAPE_BYTES {
            return None;
        }
        let learnt: Vec<Span> = spans.iter().map(|(span, _)| *span).collect();
        let (mut whole, mut begins) = (Vec::new(), Vec::new());
        json::canonical_by_strings(body, tape, facts.not_in_key, &mut whole, |inside, at| {
            begins.extend(learnt.iter().position(|span| *span == inside).map(|hole| (at, hole)));
        });
        let (mut form, mut fills, mut at, mut fill) = (Vec::new(), Vec::new(), 0, Vec::new());
        for (begin, hole) in begins {
            form.extend_from_slice(&whole[at..begin]);
            fills.push((form.len(), hole));
            fill.clear();
            json::canonical_string(learnt[hole].of(body), &mut fill);
            at = begin + fill.len();
        }
        form.extend_from_slice(&whole[at..]);
        Some(RequestShape { pattern, facts: *facts, learnt, form, fills })
    }

    /// The facts of `body`, if it has this shape, and where what fills the holes is.
    pub(super) fn fits(&self, endpoint: Endpoint, body: &[u8]) -> Option<(RequestFacts, Holes)> {
        let mut holes = Holes::default();
        if !self.pattern.fits(endpoint, body, |number, span| holes[number] = span) {
            return None;
        }
        // A place is moved by what fills the holes in front of it.
        let facts = self.facts.moved(|at| {
            let in_front = self.learnt.iter().zip(&holes).take_while(|(learnt, _)| learnt.end <= at);
            in_front.last().map_or(at, |(learnt, hole)| hole.end + (at - learnt.end))
        });
        Some((facts, holes))
    }

    /// Appends the canonical form of a body of this shape.
    pub(super) fn canonical(&self, body: &[u8], holes: &Holes, out: &mut Vec<u8>) {
        let mut at = 0;
        for &(until, hole) in &self.fills {
            out.extend_from_slice(&self.form[at..until]);
            json::canonical_string(holes[hole].of(body), out);
            at = until;
        }
        out.extend_from_slice(&self.form[at..]);
    }
}

/// The inside of a string.
fn said(value: Value<'_>) -> Option<(Span, Hole)> {
    value.inside().map(|inside| (inside, Hole::Said))
}

/// What a message says, as one string or in parts.
fn texts_of(message: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Hole)>) {
    for member in message.members().filter(|member| member.name.plain(body) == Some(b"content")) {
        spans.extend(said(member.value));
        for part in member.value.elements() {
            let texts = part.members().filter(|member| member.name.plain(body) == Some(b"text"));
            spans.extend(texts.filter_map(|text| said(text.value)));
        }
    }
}
