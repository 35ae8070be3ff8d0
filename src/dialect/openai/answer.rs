//! The facts of a non-streaming answer: whether it is one, its usage, and whether it may be stored. Reads a tape,
//! builds nothing. Must never pass anything that should not be served twice: errors, truncated or empty answers,
//! unknown finish reasons.

use super::event::{finish_of, is_full, may_store, says};
use super::fault::{error_of, is_error, kind_of, said_by};
use super::usage::{token_usage, usage_members};
use crate::dialect::facts::{AnswerFacts, Endpoint, NotStored, Substance};
use crate::limits::CHOICES;
use crate::wire::json::{JsonFault, JsonFaultKind, Kind, Tape, Value, parse_outline, parse_unchecked_names};

/// Root, its members, the embeddings, their members: the numbers are nested deeper and may be millions.
const LEVELS: usize = 3;
/// Root, its members, the choices, their members, and those of messages.
const LEVELS_OF_CHOICES: usize = 4;

/// What an answer is that the scanner refuses.
pub fn unreadable(body: &[u8], fault: JsonFaultKind) -> Substance {
    match body.trim_ascii_start().first() {
        None => Substance::Cut,
        Some(b'{') if fault == JsonFaultKind::UnexpectedEnd => Substance::Cut,
        // Clients may parse what this scanner refuses: other numbers, deeper nesting.
        Some(b'{') => Substance::Content,
        _ => Substance::Preamble,
    }
}

/// Reads a complete JSON answer. `tape` is scratch and holds the answer's outline afterwards.
pub fn answer_facts(endpoint: Endpoint, body: &[u8], tape: &mut Tape) -> AnswerFacts {
    let parsed = parse_outline(body, tape, levels(endpoint));
    parsed_answer_facts(endpoint, body, tape, parsed)
}

/// How deep an answer has to be known.
pub fn levels(endpoint: Endpoint) -> usize {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => LEVELS_OF_CHOICES,
        Endpoint::Embeddings | Endpoint::Messages | Endpoint::Responses | Endpoint::Models | Endpoint::Other => LEVELS,
    }
}

/// As [`answer_facts`], of an outline of so many [`levels`] that was `parsed`.
pub fn parsed_answer_facts(
    endpoint: Endpoint,
    body: &[u8],
    tape: &mut Tape,
    parsed: Result<(), JsonFault>,
) -> AnswerFacts {
    if let Err(fault) = parsed {
        let is_readable = fault.kind == JsonFaultKind::DuplicateMember && parse_unchecked_names(body, tape).is_ok();
        let substance = match is_readable {
            true if body.trim_ascii_start().starts_with(b"{") => substance(endpoint, tape.root(), body),
            _ => unreadable(body, fault.kind),
        };
        return AnswerFacts { usage: None, substance, stored: Err(NotStored::Unreadable) };
    }
    let root = tape.root();
    AnswerFacts {
        usage: usage_members(root, body).find_map(|usage| token_usage(usage.value, body)),
        substance: substance(endpoint, root, body),
        stored: stored(endpoint, root, body),
    }
}

/// Whether it contains an answer.
fn substance(endpoint: Endpoint, root: Value<'_>, body: &[u8]) -> Substance {
    let choices = root.get(body, "choices").filter(|choices| choices.kind() == Kind::Array && is_full(*choices, body));
    let error = root.get(body, "error").filter(|error| choices.is_none() || is_error(*error, body));
    if let Some(kind) = kind_of(root, body)
        && (error.is_some() || choices.is_none())
    {
        return Substance::Error(kind);
    }
    if root.kind() != Kind::Object {
        return Substance::Preamble;
    }
    let has_answer = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            match choices.and_then(|choices| choices.elements().next()) {
                Some(choice) => {
                    let error = choice.get(body, "error").filter(|error| is_error(*error, body));
                    if let Some(error) = error {
                        return Substance::Error(said_by(error, body));
                    }
                    true
                }
                None => false,
            }
        }
        Endpoint::Embeddings => root.get(body, "data").is_some_and(|data| data.kind() == Kind::Array),
        Endpoint::Messages | Endpoint::Responses | Endpoint::Models | Endpoint::Other => true,
    };
    if has_answer { Substance::Content } else { Substance::Unknown(error_of(root, body).kind) }
}

fn stored(endpoint: Endpoint, root: Value<'_>, body: &[u8]) -> Result<(), NotStored> {
    if root.kind() != Kind::Object {
        return Err(NotStored::Unreadable);
    }
    let failed = root.get(body, "error").is_some_and(|error| !error.is_null())
        || root.get(body, "object").is_some_and(|object| object.is_text(body, "error"));
    if failed {
        return Err(NotStored::Error);
    }
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            let choices = root.get(body, "choices").ok_or(NotStored::NoContent)?;
            let (mut count, mut empty) = (0, false);
            for choice in choices.elements() {
                count += 1;
                if choice.get(body, "error").is_some_and(|error| !error.is_null()) {
                    return Err(NotStored::Error);
                }
                let reason = choice.get(body, "finish_reason").and_then(finish_of);
                may_store(reason.ok_or(NotStored::MissingFinish)?, body)?;
                let said = choice.get(body, "message").is_some_and(|message| says(message, body));
                empty |= !said && !choice.get(body, "text").is_some_and(|text| is_full(text, body));
            }
            match count {
                0 => Err(NotStored::NoContent),
                1..=CHOICES if empty => Err(NotStored::Empty),
                1..=CHOICES => Ok(()),
                _ => Err(NotStored::TooManyChoices),
            }
        }
        Endpoint::Embeddings => {
            let data = root.get(body, "data").ok_or(NotStored::NoContent)?;
            data.elements().next().ok_or(NotStored::NoContent)?;
            // Numbers, or their bytes in base64.
            let is_there = |item: Value<'_>| item.get(body, "embedding").is_some_and(|numbers| is_full(numbers, body));
            if data.elements().all(is_there) { Ok(()) } else { Err(NotStored::Empty) }
        }
        Endpoint::Messages | Endpoint::Responses | Endpoint::Models | Endpoint::Other => Err(NotStored::Endpoint),
    }
}
