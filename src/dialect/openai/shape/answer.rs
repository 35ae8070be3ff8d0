//! Whole answers that may be stored: their facts are the token counts, and that they are complete.

use super::{Hole, Pattern, SHAPE_BYTES};
use crate::dialect::facts::{AnswerFacts, Endpoint, TokenUsage};
use crate::wire::Span;
use crate::wire::json::{Tape, Value};

#[derive(PartialEq, Eq)]
pub(super) struct AnswerShape {
    pattern: Pattern,
    /// None of an answer without usage.
    usage: Option<Counted>,
}

/// Where each count is; none where the answer has none, which is then to be found out as it is by reading.
#[derive(Default, PartialEq, Eq)]
struct Counted {
    prompt: Count,
    completion: Count,
    total: Count,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Count {
    #[default]
    Absent,
    Zero,
    /// The number of a hole.
    Hole(usize),
}

impl AnswerShape {
    /// The shape of an answer of which `tape` is the outline, the members of messages included; none of one that may not be
    /// stored.
    pub(super) fn of(endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &AnswerFacts) -> Option<AnswerShape> {
        facts.stored.ok()?;
        // Where each hole is in the body, in order.
        let mut spans: Vec<(Span, Hole)> = Vec::new();
        let mut counted = Counted::default();
        for member in tape.root().members() {
            match member.name.plain(body) {
                None | Some(b"error" | b"object") => {}
                Some(b"usage") => counts_of(member.value, body, &mut spans, &mut counted),
                Some(b"choices") => member.value.elements().for_each(|choice| texts_of(choice, body, &mut spans)),
                // The id, the time, the model, and whatever a provider adds.
                Some(_) => spans.extend(hole(member.value, body)),
            }
        }
        let pattern = Pattern::cut(endpoint, body, &spans);
        let usage = facts.usage.map(|_| counted);
        (pattern.literal.len() <= SHAPE_BYTES && !spans.is_empty()).then_some(AnswerShape { pattern, usage })
    }

    /// The facts of `body`, if it has this shape.
    pub(super) fn fits(&self, endpoint: Endpoint, body: &[u8]) -> Option<AnswerFacts> {
        let (mut prompt, mut completion, mut total) = (None, None, None);
        let fits = match &self.usage {
            None => self.pattern.fits(endpoint, body, |_, _| {}),
            Some(counted) => {
                (prompt, completion, total) =
                    (counted.prompt.fixed(), counted.completion.fixed(), counted.total.fixed());
                self.pattern.fits(endpoint, body, |number, digits| {
                    let digits = digits.of(body);
                    for (count, value) in [
                        (counted.prompt, &mut prompt),
                        (counted.completion, &mut completion),
                        (counted.total, &mut total),
                    ] {
                        if count == Count::Hole(number) {
                            *value = Some(whole_number(digits));
                        }
                    }
                })
            }
        };
        let usage = self.usage.as_ref().map(|_| TokenUsage::counted(prompt, completion, total));
        fits.then_some(AnswerFacts { usage, stored: Ok(()) })
    }
}

impl Count {
    fn of(value: Value<'_>, body: &[u8], hole: usize) -> Count {
        match value.as_u64(body) {
            None => Count::Absent,
            Some(0) => Count::Zero,
            Some(_) => Count::Hole(hole),
        }
    }

    fn fixed(self) -> Option<u64> {
        (self == Count::Zero).then_some(0)
    }
}

/// Of digits that fill a hole: too few for more than 64 bits.
fn whole_number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// A string, or a number that is not 0: that one mostly stays.
fn hole(value: Value<'_>, body: &[u8]) -> Option<(Span, Hole)> {
    match value.as_u64(body) {
        Some(0) => None,
        Some(_) => Some((value.span(), Hole::Digits)),
        None => value.inside().map(|inside| (inside, Hole::Said)),
    }
}

fn counts_of(usage: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Hole)>, counted: &mut Counted) {
    for member in usage.members() {
        let count = Count::of(member.value, body, spans.len());
        match member.name.plain(body) {
            Some(b"prompt_tokens") => counted.prompt = count,
            Some(b"completion_tokens") => counted.completion = count,
            Some(b"total_tokens") => counted.total = count,
            _ => {}
        }
        spans.extend(hole(member.value, body));
        spans.extend(member.value.members().filter_map(|detail| hole(detail.value, body)));
    }
}

/// What a choice says; how it ended stays as it is.
fn texts_of(choice: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Hole)>) {
    for member in choice.members() {
        match member.name.plain(body) {
            Some(b"text") => spans.extend(hole(member.value, body)),
            Some(b"message") => {
                spans.extend(member.value.members().filter_map(|part| hole(part.value, body)));
            }
            _ => {}
        }
    }
}
