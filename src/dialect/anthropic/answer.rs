//! The facts of a whole message: whether it is one, its usage, and whether it may be stored. Must never pass anything that
//! should not be served twice.

use super::event::{may_store, says, usage};
use crate::dialect::facts::{AnswerFacts, NotStored, Substance};
use crate::dialect::openai;
use crate::wire::json::{Kind, Tape, Value, parse_outline};

/// Root, its members, the blocks, their members.
const LEVELS: usize = 3;

/// Reads a complete JSON answer. `tape` is scratch and holds the answer's outline afterwards.
pub fn answer_facts(body: &[u8], tape: &mut Tape) -> AnswerFacts {
    if let Err(fault) = parse_outline(body, tape, LEVELS) {
        let substance = openai::unreadable(body, fault.kind);
        return AnswerFacts { usage: None, substance, stored: Err(NotStored::Unreadable) };
    }
    let root = tape.root();
    let content = root.get(body, "content").filter(|content| content.kind() == Kind::Array);
    let is_message = root.get(body, "type").is_some_and(|kind| kind.is_text(body, "message"));
    let substance = match openai::kind_of(root, body) {
        Some(kind) if !is_message => Substance::Error(kind),
        _ if root.kind() != Kind::Object => Substance::Preamble,
        _ if content.is_some() => Substance::Content,
        _ => Substance::Unknown(openai::error_of(root, body).kind),
    };
    let stored = match (substance, content) {
        (Substance::Content, Some(content)) => stored(root, content, body),
        (Substance::Error(_), _) => Err(NotStored::Error),
        _ => Err(NotStored::NoContent),
    };
    AnswerFacts { usage: usage(root, body), substance, stored }
}

fn stored(root: Value<'_>, content: Value<'_>, body: &[u8]) -> Result<(), NotStored> {
    let reason = root.get(body, "stop_reason").filter(|reason| !reason.is_null());
    may_store(reason.ok_or(NotStored::MissingFinish)?, body)?;
    if content.elements().any(|block| says(block, body)) { Ok(()) } else { Err(NotStored::Empty) }
}
