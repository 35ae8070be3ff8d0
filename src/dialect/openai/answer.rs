//! The facts of a whole answer: its usage, and whether it may be stored. Reads a tape, builds nothing.
//! Must never let through what a client should not get twice: errors, cut answers, unknown ends.

use super::event::{may_store, token_usage};
use crate::dialect::facts::{AnswerFacts, Endpoint, NotStored};
use crate::limits::CHOICES;
use crate::wire::json::{Kind, Tape, Value, parse_outline};

/// Root, its members, the embeddings, their members: the numbers lie deeper, and may be millions.
const LEVELS: usize = 3;
/// Root, its members, the choices, their members, and those of messages.
const LEVELS_OF_CHOICES: usize = 4;

/// Reads a whole JSON answer. `tape` is scratch and holds the answer's outline afterwards.
pub fn answer_facts(endpoint: Endpoint, body: &[u8], tape: &mut Tape) -> AnswerFacts {
    let levels = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => LEVELS_OF_CHOICES,
        Endpoint::Embeddings | Endpoint::Models | Endpoint::Other => LEVELS,
    };
    if parse_outline(body, tape, levels).is_err() {
        return AnswerFacts { usage: None, stored: Err(NotStored::Unreadable) };
    }
    let root = tape.root();
    let usage = root.get(body, "usage").and_then(|usage| token_usage(usage, body));
    AnswerFacts { usage, stored: stored(endpoint, root, body) }
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
            let mut count = 0;
            for choice in choices.elements() {
                count += 1;
                let reason = choice.get(body, "finish_reason").filter(|reason| !reason.is_null());
                may_store(reason.ok_or(NotStored::MissingFinish)?, body)?;
            }
            match count {
                0 => Err(NotStored::NoContent),
                1..=CHOICES => Ok(()),
                _ => Err(NotStored::TooManyChoices),
            }
        }
        Endpoint::Embeddings => {
            let data = root.get(body, "data").ok_or(NotStored::NoContent)?;
            data.elements().next().map(|_| ()).ok_or(NotStored::NoContent)
        }
        Endpoint::Models | Endpoint::Other => Err(NotStored::Endpoint),
    }
}
