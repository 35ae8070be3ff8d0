//! Non-streaming answers that may be stored: of their values, only the token counts change from one to the next.

use super::{Pattern, Slot, TEMPLATE_BYTES};
use crate::dialect::facts::{AnswerFacts, Endpoint, Parts, Substance, TokenUsage};
use crate::dialect::openai::usage::{Details, Part};
use crate::wire::Span;
use crate::wire::json::{Tape, Value};

#[derive(PartialEq, Eq)]
pub(super) struct AnswerTemplate {
    pattern: Pattern,
    /// `None` for an answer without usage.
    usage: Option<Counts>,
}

/// The source of each count.
#[derive(Default, PartialEq, Eq)]
struct Counts {
    prompt: Count,
    completion: Count,
    total: Count,
    cached: Count,
    cache_written: Count,
    reasoning: Count,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Count {
    #[default]
    Absent,
    Zero,
    /// The number of a slot.
    Slot(usize),
}

impl AnswerTemplate {
    /// The template of an answer whose outline, up to the members of its messages, is on `tape`; `None` for one that
    /// may not be stored, or whose usage is not where the API puts it.
    pub(super) fn of(endpoint: Endpoint, body: &[u8], tape: &Tape, facts: &AnswerFacts) -> Option<AnswerTemplate> {
        if facts.stored.is_err() || facts.substance != Substance::Content {
            return None;
        }
        // The span of each slot in the body, in order.
        let mut spans: Vec<(Span, Slot)> = Vec::new();
        let mut counts = None;
        for member in tape.root().members() {
            match member.name.plain(body) {
                Some(b"id" | b"created" | b"model" | b"system_fingerprint") => spans.extend(slot(member.value, body)),
                Some(b"usage") if !member.value.is_null() => counts = Some(counts_of(member.value, body, &mut spans)?),
                Some(b"choices") => member.value.elements().for_each(|choice| texts_of(choice, body, &mut spans)),
                // Whether it is an error may depend on any other member.
                _ => {}
            }
        }
        if facts.usage.is_some() != counts.is_some() {
            return None;
        }
        let pattern = Pattern::cut(endpoint, body, &spans);
        (pattern.literal.len() <= TEMPLATE_BYTES && !spans.is_empty())
            .then_some(AnswerTemplate { pattern, usage: counts })
    }

    /// The facts of `body` if it matches.
    pub(super) fn fits(&self, endpoint: Endpoint, body: &[u8]) -> Option<AnswerFacts> {
        let Some(counts) = &self.usage else {
            return self.pattern.fits(endpoint, body, |_, _| {}).then_some(facts(None));
        };
        let Counts { prompt, completion, total, cached, cache_written, reasoning } = *counts;
        let all = [prompt, completion, total, cached, cache_written, reasoning];
        let mut values = all.map(|count| (count == Count::Zero).then_some(0));
        let fits = self.pattern.fits(endpoint, body, |number, span| {
            if let Some(place) = all.iter().position(|count| *count == Count::Slot(number)) {
                values[place] = Some(integer(span.of(body)));
            }
        });
        let [prompt, completion, total, parts @ ..] = values;
        let [cached, cache_written, reasoning] = parts.map(|part| part.unwrap_or(0));
        let parts = Parts { cached, cache_written, reasoning };
        fits.then(|| facts(Some(TokenUsage::counted(prompt, completion, total).with_parts(parts))))
    }
}

fn facts(usage: Option<TokenUsage>) -> AnswerFacts {
    AnswerFacts { usage, substance: Substance::Content, stored: Ok(()) }
}

/// The value of digits that fill a slot: too few to overflow.
fn integer(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// The slot of a non-empty string or a number other than 0.
fn slot(value: Value<'_>, body: &[u8]) -> Option<(Span, Slot)> {
    match value.as_u64(body) {
        Some(0) => None,
        Some(_) => Some((value.span(), Slot::Digits)),
        None => value.inside().filter(|inside| !inside.is_empty()).map(|inside| (inside, Slot::SaidNonEmpty)),
    }
}

/// The counts of a usage object; `None` if it has names of another API or no counts.
fn counts_of(usage: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Slot)>) -> Option<Counts> {
    let mut counts = Counts::default();
    for member in usage.members() {
        let count = count_of(member.value, body, spans);
        match member.name.plain(body) {
            Some(b"prompt_tokens") => counts.prompt = count,
            Some(b"completion_tokens") => counts.completion = count,
            Some(b"total_tokens") => counts.total = count,
            Some(b"input_tokens" | b"output_tokens") => return None,
            _ => {}
        }
        let details = member.name.plain(body).and_then(Details::of);
        spans.extend(slot(member.value, body));
        for detail in member.value.members() {
            let count = count_of(detail.value, body, spans);
            let part = details.zip(detail.name.plain(body)).and_then(|(details, name)| details.part(name));
            match part.filter(|_| count != Count::Absent) {
                Some(Part::Cached) => counts.cached = count,
                Some(Part::CacheWritten) => counts.cache_written = count,
                Some(Part::Reasoning) => counts.reasoning = count,
                None => {}
            }
            spans.extend(slot(detail.value, body));
        }
    }
    let is_any = [counts.prompt, counts.completion, counts.total].iter().any(|count| *count != Count::Absent);
    is_any.then_some(counts)
}

/// The count that `value` is, before its slot is among `spans`.
fn count_of(value: Value<'_>, body: &[u8], spans: &[(Span, Slot)]) -> Count {
    match value.as_u64(body) {
        None => Count::Absent,
        Some(0) => Count::Zero,
        Some(_) => Count::Slot(spans.len()),
    }
}

/// The texts of a choice: only whether they are empty matters.
fn texts_of(choice: Value<'_>, body: &[u8], spans: &mut Vec<(Span, Slot)>) {
    for member in choice.members() {
        match member.name.plain(body) {
            Some(b"text") => spans.extend(slot(member.value, body)),
            Some(b"message") => spans.extend(member.value.members().filter_map(|part| slot(part.value, body))),
            _ => {}
        }
    }
}
