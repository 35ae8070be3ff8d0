//! Usage, wherever servers put it: in the root of a chunk or an answer, in a choice, in Groq's own member. Finds it,
//! removes it from a chunk, and writes the usage event for clients that asked for it. Reads tapes; owns nothing.

use smallvec::SmallVec;

use super::event::is_full;
use crate::dialect::facts::{Parts, TokenUsage};
use crate::wire::Span;
use crate::wire::json::{Kind, Member, Tape, Value};

/// The counts of a `usage` object; `None` if it is not one or has no counts. A missing total is the sum. Some servers
/// use Anthropic's names.
pub(super) fn token_usage(usage: Value<'_>, data: &[u8]) -> Option<TokenUsage> {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    let mut parts = Parts::default();
    for member in usage.members() {
        let count = member.value.as_u64(data);
        match member.name.plain(data) {
            Some(b"prompt_tokens") => prompt = count.or(prompt),
            Some(b"completion_tokens") => completion = count.or(completion),
            Some(b"input_tokens") => prompt = prompt.or(count),
            Some(b"output_tokens") => completion = completion.or(count),
            Some(b"total_tokens") => total = count,
            Some(name) => {
                let Some(details) = Details::of(name) else { continue };
                for detail in member.value.members() {
                    let part = detail.name.plain(data).and_then(|name| details.part(name));
                    let (Some(part), Some(count)) = (part, detail.value.as_u64(data)) else { continue };
                    match part {
                        Part::Cached => parts.cached = count,
                        Part::CacheWritten => parts.cache_written = count,
                        Part::Reasoning => parts.reasoning = count,
                    }
                }
            }
            None => {}
        }
    }
    if prompt.is_none() && completion.is_none() && total.is_none() {
        return None;
    }
    Some(TokenUsage::counted(prompt, completion, total).with_parts(parts))
}

/// The counts of the `usage` of an answer, in its own root.
pub fn usage_of(holder: Value<'_>, data: &[u8]) -> Option<TokenUsage> {
    holder.get(data, "usage").and_then(|usage| token_usage(usage, data))
}

/// A part of a count, in an object of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Cached,
    CacheWritten,
    Reasoning,
}

/// The objects that have parts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Details {
    Prompt,
    Completion,
}

impl Details {
    /// The object that is the member `name` of a usage object.
    pub(super) fn of(name: &[u8]) -> Option<Details> {
        match name {
            b"prompt_tokens_details" | b"input_tokens_details" => Some(Details::Prompt),
            b"completion_tokens_details" | b"output_tokens_details" => Some(Details::Completion),
            _ => None,
        }
    }

    /// The part that its member `name` tells. What was written into a cache has no name in OpenAI's API: gateways to others give
    /// it one of two.
    pub(super) fn part(self, name: &[u8]) -> Option<Part> {
        match (self, name) {
            (Details::Prompt, b"cached_tokens") => Some(Part::Cached),
            (Details::Prompt, b"cache_creation_tokens" | b"cache_write_tokens") => Some(Part::CacheWritten),
            (Details::Completion, b"reasoning_tokens") => Some(Part::Reasoning),
            _ => None,
        }
    }
}

/// The members that hold usage, the root's first; null ones are skipped.
pub(super) fn usage_members<'t>(root: Value<'t>, data: &[u8]) -> impl Iterator<Item = Member<'t>> {
    let named = move |value: Value<'t>, name: &'static [u8]| {
        value.members().filter(move |member| member.name.plain(data) == Some(name))
    };
    let choices = named(root, b"choices").flat_map(|choices: Member<'t>| choices.value.elements());
    let in_choices = choices.flat_map(move |choice| named(choice, b"usage"));
    let in_groq = named(root, b"x_groq").flat_map(move |member| named(member.value, b"usage"));
    named(root, b"usage").chain(in_groq).chain(in_choices).filter(|member| !member.value.is_null())
}

/// The member and the comma before it, otherwise the one after it.
pub(super) fn with_comma(member: Member<'_>, before: Option<Member<'_>>, after: Option<Member<'_>>) -> Span {
    let mut span = member.span();
    match (before, after) {
        (Some(before), _) => span.start = before.span().end,
        (None, Some(after)) => span.end = after.span().start,
        (None, None) => {}
    }
    span
}

/// Appends a chunk without its usage, whatever else it contains; `tape` is the parsed chunk.
pub fn without_usage(data: &[u8], tape: &Tape, out: &mut Vec<u8>) {
    let mut cuts: SmallVec<[Span; 4]> = SmallVec::new();
    let root = tape.root();
    cut_usage(root, data, &mut cuts);
    for member in root.members() {
        match member.name.plain(data) {
            Some(b"x_groq") => cut_usage(member.value, data, &mut cuts),
            Some(b"choices") => member.value.elements().for_each(|choice| cut_usage(choice, data, &mut cuts)),
            _ => {}
        }
    }
    cuts.sort_unstable_by_key(|cut| cut.start);
    let mut at = 0;
    for cut in cuts {
        out.extend_from_slice(&data[at..cut.start as usize]);
        at = cut.end as usize;
    }
    out.extend_from_slice(&data[at..]);
}

/// Each `usage` member of an object, with a comma.
fn cut_usage(object: Value<'_>, data: &[u8], cuts: &mut SmallVec<[Span; 4]>) {
    let (mut before, mut kept) = (None, false);
    let mut members = object.members();
    while let Some(member) = members.next() {
        if member.name.plain(data) == Some(b"usage") {
            cuts.push(with_comma(member, before.filter(|_| kept), members.clone().next()));
        } else {
            kept = true;
        }
        before = Some(member);
    }
}

/// Members that all chunks of one answer share.
const COMMON: [&[u8]; 6] = [b"id", b"object", b"created", b"model", b"system_fingerprint", b"service_tier"];

/// Appends the data of the usage event: the chunk itself if it is one, otherwise one with the chunk's usage in the
/// API's place. Nothing is appended if there is no usage. `tape` is the parsed chunk.
pub fn usage_event(data: &[u8], tape: &Tape, out: &mut Vec<u8>) {
    let root = tape.root();
    let Some(usage) = usage_members(root, data).find(|member| token_usage(member.value, data).is_some()) else {
        return;
    };
    let choices = root.get(data, "choices");
    let in_root = root.members().any(|member| member.span() == usage.span());
    if in_root && choices.is_some_and(|choices| choices.kind() == Kind::Array && !is_full(choices, data)) {
        return out.extend_from_slice(data);
    }
    out.push(b'{');
    for member in root.members().filter(|member| member.name.plain(data).is_some_and(|name| COMMON.contains(&name))) {
        out.extend_from_slice(member.span().of(data));
        out.push(b',');
    }
    out.extend_from_slice(br#""choices":[],"usage":"#);
    out.extend_from_slice(usage.value.span().of(data));
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::parse_unchecked_names;

    fn tape(data: &str) -> Tape {
        let mut tape = Tape::new();
        parse_unchecked_names(data.as_bytes(), &mut tape).expect("JSON");
        tape
    }

    #[test]
    fn usage_goes_from_wherever_it_stands() {
        for (data, rest) in [
            (r#"{"id":1, "usage":null ,"choices":[]}"#, r#"{"id":1 ,"choices":[]}"#),
            (r#"{"choices":[] , "usage" : {}}"#, r#"{"choices":[]}"#),
            (r#"{ "usage":null , "choices":[]}"#, r#"{ "choices":[]}"#),
            (r#"{"usage":null}"#, r#"{}"#),
            (r#"{"usage":1,"usage":2,"id":3}"#, r#"{"id":3}"#),
            (r#"{"usage":1,"usage":2}"#, r#"{}"#),
            (r#"{"id":3,"usage":1,"usage":2}"#, r#"{"id":3}"#),
            (r#"{"usage":1,"id":3,"usage":2}"#, r#"{"id":3}"#),
            (
                r#"{"choices":[{"usage":{"prompt_tokens":1},"index":0},{"index":1,"usage":{}}],"usage":{}}"#,
                r#"{"choices":[{"index":0},{"index":1}]}"#,
            ),
            (r#"{"x_groq":{"id":"r","usage":{"total_tokens":1}}}"#, r#"{"x_groq":{"id":"r"}}"#),
            (r#"{"x_usage":{"usage":1},"delta":{"usage":2}}"#, r#"{"x_usage":{"usage":1},"delta":{"usage":2}}"#),
        ] {
            let mut out = Vec::new();
            without_usage(data.as_bytes(), &tape(data), &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), rest, "{data}");
        }
    }

    #[test]
    fn the_usage_event_has_the_shape_of_the_api() {
        for (data, expected) in [
            // As it came, whatever else is in it.
            (
                r#"{"choices":[],"usage":{"total_tokens":1},"timings":{"a":1}}"#,
                r#"{"choices":[],"usage":{"total_tokens":1},"timings":{"a":1}}"#,
            ),
            (r#"{"id":"a","usage":{"total_tokens":1}}"#, r#"{"id":"a","choices":[],"usage":{"total_tokens":1}}"#),
            (r#"{"choices":null,"usage":{"total_tokens":1}}"#, r#"{"choices":[],"usage":{"total_tokens":1}}"#),
            (
                r#"{"id":"a","model":"m","choices":[{"index":0,"finish_reason":"stop"}],"usage":{"total_tokens":1},"created":7}"#,
                r#"{"id":"a","model":"m","created":7,"choices":[],"usage":{"total_tokens":1}}"#,
            ),
            (
                r#"{"object":"o","choices":[{"usage":{"total_tokens":1}}],"usage":null}"#,
                r#"{"object":"o","choices":[],"usage":{"total_tokens":1}}"#,
            ),
            (
                r#"{"choices":[],"x_groq":{"id":"r","usage":{"total_tokens":1}}}"#,
                r#"{"choices":[],"usage":{"total_tokens":1}}"#,
            ),
            (r#"{"choices":[],"usage":{}}"#, ""),
        ] {
            let mut out = Vec::new();
            usage_event(data.as_bytes(), &tape(data), &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected, "{data}");
        }
    }
}
