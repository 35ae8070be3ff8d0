//! The facts of one streamed chunk. Runs on every event of every stream, so it reads a tape once and builds nothing.
//! Names with escapes are not looked for: no server writes them, and an answer that does is merely not stored.
//! Must never call a chunk finished that does not say so.

use super::DONE;
use super::fault::{kind_of, said_by};
use crate::dialect::facts::{Endpoint, ErrorKind, EventFacts, EventKind, NotStored, Substance, TokenUsage};
use crate::limits::CHOICES;
use crate::wire::Span;
use crate::wire::json::{JsonFaultKind, Kind, Member, Tape, Value, parse_unchecked_names};

// One bit a choice.
const _: () = assert!(CHOICES <= u128::BITS as usize);

/// The name of an event that is an error whatever its data looks like.
const ERROR_NAME: &[u8] = b"error";

/// Reads an event without a name.
#[cfg(test)]
pub fn event_facts(endpoint: Endpoint, data: &[u8], tape: &mut Tape) -> EventFacts {
    named_event_facts(endpoint, b"", data, tape)
}

/// Reads one event. Its `name` may be empty; one that is named `error` is an error. `tape` is scratch and holds the data's
/// tape afterwards.
pub fn named_event_facts(endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
    let mut facts = read(endpoint, data, tape);
    let kind = if name == ERROR_NAME { EventKind::Error } else { facts.kind };
    facts.substance = match kind {
        EventKind::Content | EventKind::Finish | EventKind::Cut | EventKind::Other => Substance::Content,
        EventKind::Empty | EventKind::UsageOnly | EventKind::Done => Substance::Preamble,
        // Nothing was parsed: the tape is still that of some event before.
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
    // The tape of what is not JSON holds a null, which says nothing.
    kind_of(tape.root(), data).unwrap_or_else(|| said_by(tape.root(), data))
}

/// Whether `data` is the beginning of an event rather than something of a shape of its own.
fn is_cut(data: &[u8], fault: JsonFaultKind) -> bool {
    match data.first() {
        Some(b'{') => fault == JsonFaultKind::UnexpectedEnd,
        Some(_) => DONE.starts_with(data),
        None => false,
    }
}

fn read(endpoint: Endpoint, data: &[u8], tape: &mut Tape) -> EventFacts {
    let mut facts = EventFacts {
        kind: EventKind::Other,
        substance: Substance::Content,
        usage: None,
        usage_member: None,
        choices: 0,
        finished: 0,
        not_stored: None,
    };
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
    let mut members = root.members();
    while let Some(member) = members.next() {
        match member.name.plain(data) {
            Some(b"choices") if member.value.kind() == Kind::Array => choices = Some(member.value),
            Some(b"usage") => {
                facts.usage = token_usage(member.value, data);
                facts.usage_member = Some(with_comma(member, before, members.clone().next()));
            }
            Some(b"error") if !member.value.is_null() => facts.not_stored = Some(NotStored::Error),
            Some(b"object" | b"type") if member.value.plain(data) == Some(b"error") => {
                facts.not_stored = Some(NotStored::Error);
            }
            _ => {}
        }
        before = Some(member);
    }
    if facts.not_stored.is_some() {
        facts.kind = EventKind::Error;
        return facts;
    }
    let (Endpoint::ChatCompletions | Endpoint::Completions, Some(choices)) = (endpoint, choices) else {
        return facts;
    };
    facts.kind = EventKind::Empty;
    let mut any = false;
    for choice in choices.elements() {
        any = true;
        note_choice(choice, data, &mut facts);
    }
    if !any && facts.usage.is_some() {
        facts.kind = EventKind::UsageOnly;
        facts.usage_member = None;
    }
    facts
}

/// The member and the comma before it, or else the one after it.
fn with_comma(member: Member<'_>, before: Option<Member<'_>>, after: Option<Member<'_>>) -> Span {
    let mut span = member.span();
    match (before, after) {
        (Some(before), _) => span.start = before.span().end,
        (None, Some(after)) => span.end = after.span().start,
        (None, None) => {}
    }
    span
}

fn note_choice(choice: Value<'_>, data: &[u8], facts: &mut EventFacts) {
    let mut index = None;
    let mut finish = None;
    let mut content = false;
    for member in choice.members() {
        let value = member.value;
        match member.name.plain(data) {
            Some(b"index") => index = value.as_u64(data),
            Some(b"finish_reason") if !value.is_null() => finish = Some(value),
            Some(b"delta") => content |= value.members().any(|delta| carries(&delta, data)),
            Some(b"text") => content |= value.inside().is_some_and(|text| !text.is_empty()),
            _ => {}
        }
    }
    if content {
        facts.kind = EventKind::Content;
    } else if finish.is_some() && facts.kind == EventKind::Empty {
        facts.kind = EventKind::Finish;
    }
    // A lone choice may leave its index out.
    let bit = match index.unwrap_or(0) {
        index if index < CHOICES as u64 => 1u128 << index,
        _ => {
            facts.not_stored = facts.not_stored.or(Some(NotStored::TooManyChoices));
            return;
        }
    };
    facts.choices |= bit;
    match finish.map(|reason| may_store(reason, data)) {
        None => {}
        Some(Ok(())) => facts.finished |= bit,
        Some(Err(reason)) => facts.not_stored = facts.not_stored.or(Some(reason)),
    }
}

/// Whether a member of a delta is part of the answer: anything but the role that is not empty.
fn carries(delta: &Member<'_>, data: &[u8]) -> bool {
    match delta.value.kind() {
        Kind::Null => false,
        Kind::String => {
            delta.value.inside().is_some_and(|text| !text.is_empty()) && delta.name.plain(data) != Some(b"role")
        }
        Kind::Array => delta.value.elements().next().is_some(),
        Kind::Object => delta.value.members().next().is_some(),
        Kind::Bool | Kind::Number => true,
    }
}

/// Whether an answer that finished so may be kept.
pub(super) fn may_store(finish_reason: Value<'_>, data: &[u8]) -> Result<(), NotStored> {
    match finish_reason.plain(data) {
        Some(b"stop" | b"tool_calls" | b"function_call") => Ok(()),
        Some(b"length") => Err(NotStored::LengthCut),
        Some(b"content_filter") => Err(NotStored::ContentFilter),
        _ => Err(NotStored::UnknownFinish),
    }
}

/// The numbers of a `usage` object; `None` if it is not one or has no numbers. A missing total is the sum.
pub(super) fn token_usage(usage: Value<'_>, data: &[u8]) -> Option<TokenUsage> {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    for member in usage.members() {
        match member.name.plain(data) {
            Some(b"prompt_tokens") => prompt = member.value.as_u64(data),
            Some(b"completion_tokens") => completion = member.value.as_u64(data),
            Some(b"total_tokens") => total = member.value.as_u64(data),
            _ => {}
        }
    }
    if prompt.is_none() && completion.is_none() && total.is_none() {
        return None;
    }
    Some(TokenUsage::counted(prompt, completion, total))
}
