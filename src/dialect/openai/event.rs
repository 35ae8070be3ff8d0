//! The facts of one streamed chunk. Runs on every event of every stream, so it reads a tape once and builds nothing.
//! Escaped member names are not recognized: no server writes them, and such an answer is merely not stored. Must never
//! consider a choice finished without a finish reason.

use super::DONE;
use super::fault::{error_of, is_error, kind_of, said_by};
use super::usage::{token_usage, usage_members, with_comma};
use crate::dialect::facts::{Endpoint, ErrorKind, EventFacts, EventKind, NotStored, Substance, UsageMembers};
use crate::limits::CHOICES;
use crate::wire::json::{JsonFaultKind, Kind, Member, Tape, Value, parse_unchecked_names};

// One bit per choice.
const _: () = assert!(CHOICES <= u128::BITS as usize);

/// The name of an event that is an error, whatever its data.
const ERROR_NAME: &[u8] = b"error";

/// Reads an unnamed event.
#[cfg(test)]
pub fn event_facts(endpoint: Endpoint, data: &[u8], tape: &mut Tape) -> EventFacts {
    named_event_facts(endpoint, b"", data, tape)
}

/// Reads one event. Its `name` may be empty; `error` makes it an error. `tape` is scratch and holds the parsed data
/// afterwards.
pub fn named_event_facts(endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
    let mut facts = read(endpoint, data, tape);
    let kind = if name == ERROR_NAME { EventKind::Error } else { facts.kind };
    facts.substance = match kind {
        EventKind::Content | EventKind::Finish => Substance::Content,
        EventKind::Cut => Substance::Cut,
        EventKind::Empty | EventKind::UsageOnly | EventKind::Done => Substance::Preamble,
        // After a parse fault the tape holds a null, which yields no kind.
        EventKind::Other => Substance::Unknown(error_of(tape.root(), data).kind),
        // Nothing was parsed: the tape is that of an earlier event.
        EventKind::Error if facts.kind == EventKind::Done => Substance::Error(ErrorKind::Unknown),
        EventKind::Error => Substance::Error(kind_of_event(data, tape)),
    };
    if kind == EventKind::Error {
        facts.kind = kind;
        facts.not_stored = Some(NotStored::Error);
    }
    facts
}

fn kind_of_event(data: &[u8], tape: &Tape) -> ErrorKind {
    kind_of(tape.root(), data).unwrap_or_else(|| said_by(tape.root(), data))
}

/// Whether `data` is a truncated event rather than an unknown format.
fn is_cut(data: &[u8], fault: JsonFaultKind) -> bool {
    match data.first() {
        Some(b'{') => fault == JsonFaultKind::UnexpectedEnd,
        Some(_) => DONE.starts_with(data),
        None => false,
    }
}

fn read(endpoint: Endpoint, data: &[u8], tape: &mut Tape) -> EventFacts {
    let mut facts = EventFacts::of(Substance::Content);
    if data.trim_ascii() == DONE {
        facts.kind = EventKind::Done;
        return facts;
    }
    if let Err(fault) = parse_unchecked_names(data, tape) {
        if is_cut(data.trim_ascii(), fault.kind) {
            facts.kind = EventKind::Cut;
        }
        return facts;
    }
    let root = tape.root();
    let mut choices = None;
    let mut before = None;
    let mut failed = root.kind() == Kind::Array && kind_of(root, data).is_some();
    let mut members = root.members();
    while let Some(member) = members.next() {
        match member.name.plain(data) {
            Some(b"choices") if member.value.kind() == Kind::Array => choices = Some(member.value),
            Some(b"usage") if member.value.is_null() && facts.usage_members == UsageMembers::None => {
                facts.usage_members = UsageMembers::Null(with_comma(member, before, members.clone().next()));
            }
            Some(b"usage") => {
                facts.usage = token_usage(member.value, data).or(facts.usage);
                facts.usage_members = UsageMembers::Some;
            }
            Some(b"x_groq") if member.value.get(data, "usage").is_some() => facts.usage_members = UsageMembers::Some,
            Some(b"error") => failed |= is_error(member.value, data),
            Some(b"object" | b"type") => failed |= member.value.plain(data) == Some(b"error"),
            _ => {}
        }
        before = Some(member);
    }
    let is_stream = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let said = choices.filter(|choices| choices.elements().next().is_some());
    // An empty error beside content is ignored.
    failed |= said.is_none() && root.get(data, "error").is_some_and(|error| !error.is_null());
    if !failed && is_stream {
        facts.kind = if choices.is_some() { EventKind::Empty } else { EventKind::Other };
        for choice in said.into_iter().flat_map(Value::elements) {
            failed |= note_choice(choice, data, &mut facts);
        }
        if facts.usage.is_none() && facts.usage_members == UsageMembers::Some {
            facts.usage = usage_members(root, data).find_map(|member| token_usage(member.value, data));
        }
        if said.is_none() && facts.usage.is_some() {
            facts.kind = EventKind::UsageOnly;
        }
    }
    if failed {
        facts.kind = EventKind::Error;
        facts.not_stored = Some(NotStored::Error);
    }
    facts
}

/// Whether the choice failed.
fn note_choice(choice: Value<'_>, data: &[u8], facts: &mut EventFacts) -> bool {
    let (mut index, mut finish) = (None, None);
    let (mut content, mut said, mut failed) = (false, false, false);
    for member in choice.members() {
        let value = member.value;
        match member.name.plain(data) {
            Some(b"index") => index = value.as_u64(data),
            Some(b"finish_reason") => finish = finish_of(value),
            Some(b"delta") => {
                content |= value.members().any(|delta| carries(&delta, data));
                said |= says(value, data);
            }
            Some(b"text") => {
                content |= is_full(value, data);
                said |= is_full(value, data);
            }
            Some(b"usage") if !value.is_null() => facts.usage_members = UsageMembers::Some,
            Some(b"error") => failed |= is_error(value, data),
            _ => {}
        }
    }
    if content {
        facts.kind = EventKind::Content;
    } else if finish.is_some() && facts.kind == EventKind::Empty {
        facts.kind = EventKind::Finish;
    }
    // A single choice may omit its index.
    let bit = match index.unwrap_or(0) {
        index if index < CHOICES as u64 => 1u128 << index,
        _ => {
            facts.not_stored = facts.not_stored.or(Some(NotStored::TooManyChoices));
            return failed;
        }
    };
    facts.choices |= bit;
    if said {
        facts.said |= bit;
    }
    if let Some(reason) = finish {
        facts.ended |= bit;
        facts.not_stored = facts.not_stored.or(may_store(reason, data).err());
    }
    failed
}

/// The finish reason, if there is one: some servers write an empty one until the choice ends.
pub(super) fn finish_of(value: Value<'_>) -> Option<Value<'_>> {
    let is_empty = value.is_null() || value.inside().is_some_and(|text| text.is_empty());
    (!is_empty).then_some(value)
}

/// Whether a member of a delta is part of the answer: anything non-empty except the role.
fn carries(delta: &Member<'_>, data: &[u8]) -> bool {
    match delta.value.kind() {
        Kind::Bool | Kind::Number => true,
        Kind::String => is_full(delta.value, data) && delta.name.plain(data) != Some(b"role"),
        Kind::Null | Kind::Array | Kind::Object => is_full(delta.value, data),
    }
}

/// Members of a message or a delta that carry output of the model. Provider-specific members are not listed: an answer
/// with nothing else is forwarded but not stored.
const SAYING: [&[u8]; 12] = [
    b"content",
    b"refusal",
    b"reasoning",
    b"reasoning_content",
    b"reasoning_details",
    b"thinking",
    b"thinking_blocks",
    b"tool_calls",
    b"function_call",
    b"audio",
    b"image",
    b"images",
];

/// Whether a message or a delta carries any output.
pub(super) fn says(message: Value<'_>, data: &[u8]) -> bool {
    let is_saying = |member: &Member<'_>| member.name.plain(data).is_some_and(|name| SAYING.contains(&name));
    message.members().any(|member| is_saying(&member) && is_full(member.value, data))
}

/// Whether a string, list or object is non-empty. Judged by its bytes: an outline has no nodes for the contents.
pub(super) fn is_full(value: Value<'_>, data: &[u8]) -> bool {
    match value.kind() {
        Kind::String => value.inside().is_some_and(|text| !text.is_empty()),
        Kind::Array | Kind::Object => {
            let bytes = value.span().of(data);
            !bytes[1..bytes.len() - 1].trim_ascii().is_empty()
        }
        Kind::Null | Kind::Bool | Kind::Number => false,
    }
}

/// Whether an answer with this finish reason may be stored.
pub(super) fn may_store(finish_reason: Value<'_>, data: &[u8]) -> Result<(), NotStored> {
    match finish_reason.plain(data) {
        Some(b"stop" | b"tool_calls" | b"function_call") => Ok(()),
        Some(b"length") => Err(NotStored::LengthCut),
        Some(b"content_filter") => Err(NotStored::ContentFilter),
        _ => Err(NotStored::UnknownFinish),
    }
}
