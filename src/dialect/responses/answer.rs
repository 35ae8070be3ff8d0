//! The facts of a whole response: whether it is one, its usage, and whether it may be stored. Must never pass anything that should
//! not be served twice.

use crate::dialect::facts::{AnswerFacts, NotStored, Substance};
use crate::dialect::openai;
use crate::wire::json::{Kind, Tape, Value, parse_outline};

/// Root, its members, the items, their members, the parts, their members.
const LEVELS: usize = 5;

/// Reads a complete JSON answer. `tape` is scratch and holds the answer's outline afterwards.
pub fn answer_facts(body: &[u8], tape: &mut Tape) -> AnswerFacts {
    if let Err(fault) = parse_outline(body, tape, LEVELS) {
        let substance = openai::unreadable(body, fault.kind);
        return AnswerFacts { usage: None, substance, stored: Err(NotStored::Unreadable) };
    }
    let root = tape.root();
    let has_output = root.get(body, "output").is_some_and(|output| output.kind() == Kind::Array);
    let substance = if root.kind() != Kind::Object {
        Substance::Preamble
    } else if has_output && !has_failed(root, body) {
        Substance::Content
    } else {
        match openai::kind_of(root, body) {
            Some(kind) => Substance::Error(kind),
            None if has_failed(root, body) => Substance::Error(openai::error_of(root, body).kind),
            None => Substance::Unknown(openai::error_of(root, body).kind),
        }
    };
    let stored = match substance {
        Substance::Content => may_store(root, body),
        Substance::Error(_) => Err(NotStored::Error),
        _ => Err(NotStored::NoContent),
    };
    AnswerFacts { usage: openai::usage_of(root, body), substance, stored }
}

fn has_failed(response: Value<'_>, data: &[u8]) -> bool {
    response.get(data, "status").is_some_and(|status| status.is_text(data, "failed"))
}

/// Whether a response may be stored, whole or as events.
pub(super) fn may_store(response: Value<'_>, data: &[u8]) -> Result<(), NotStored> {
    if response.get(data, "error").is_some_and(|error| !error.is_null()) {
        return Err(NotStored::Error);
    }
    match response.get(data, "status").and_then(|status| status.plain(data)) {
        Some(b"completed") => {}
        Some(b"incomplete") => {
            let details = response.get(data, "incomplete_details");
            let reason = details.and_then(|details| details.get(data, "reason"));
            return Err(match reason.and_then(|reason| reason.plain(data)) {
                Some(b"max_output_tokens") => NotStored::LengthCut,
                Some(b"content_filter") => NotStored::ContentFilter,
                _ => NotStored::UnknownFinish,
            });
        }
        Some(_) => return Err(NotStored::UnknownFinish),
        None => return Err(NotStored::MissingFinish),
    }
    let output = response.get(data, "output").ok_or(NotStored::NoContent)?;
    if output.elements().any(|item| says(item, data)) { Ok(()) } else { Err(NotStored::Empty) }
}

/// Whether an item has anything of the model's: a text, a refusal, a thought, or whatever is none of these.
pub(super) fn says(item: Value<'_>, data: &[u8]) -> bool {
    let parts = |name| item.get(data, name).into_iter().flat_map(Value::elements);
    match item.get(data, "type").and_then(|kind| kind.plain(data)) {
        Some(b"message") => parts("content").any(|part| part_says(part, data)),
        Some(b"reasoning") => {
            parts("summary").chain(parts("content")).any(|part| part_says(part, data))
                || item.get(data, "encrypted_content").is_some_and(|content| is_full(content))
        }
        Some(_) => true,
        None => false,
    }
}

/// The same of a part of a message.
pub(super) fn part_says(part: Value<'_>, data: &[u8]) -> bool {
    match part.get(data, "type").and_then(|kind| kind.plain(data)) {
        Some(b"output_text" | b"refusal" | b"summary_text" | b"reasoning_text" | b"text") => {
            ["text", "refusal"].iter().any(|name| part.get(data, name).is_some_and(is_full))
        }
        Some(_) => true,
        None => false,
    }
}

/// Whether it is a text that is not empty.
pub(super) fn is_full(text: Value<'_>) -> bool {
    text.inside().is_some_and(|inside| !inside.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::facts::ErrorKind;

    fn facts(body: &str) -> AnswerFacts {
        answer_facts(body.as_bytes(), &mut Tape::new())
    }

    fn response(status: &str, more: &str, output: &str) -> String {
        format!(
            r#"{{"id":"resp_1","object":"response","status":"{status}","error":null{more},"output":[{output}],"usage":{{"input_tokens":7,"input_tokens_details":{{"cached_tokens":4}},"output_tokens":5,"output_tokens_details":{{"reasoning_tokens":3}},"total_tokens":12}}}}"#
        )
    }

    const TEXT: &str =
        r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}]}"#;

    #[test]
    fn usage_has_its_parts() {
        let usage = facts(&response("completed", "", TEXT)).usage.unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.completion, usage.reasoning, usage.total), (7, 4, 5, 3, 12));
    }

    #[test]
    fn only_a_complete_answer_that_says_something_may_be_stored() {
        let cut = r#","incomplete_details":{"reason":"max_output_tokens"}"#;
        let filtered = r#","incomplete_details":{"reason":"content_filter"}"#;
        for (body, stored) in [
            (response("completed", "", TEXT), Ok(())),
            (response("completed", "", r#"{"type":"function_call","name":"f","arguments":"{}"}"#), Ok(())),
            (
                response("completed", "", r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}]}"#),
                Ok(()),
            ),
            (response("completed", "", &TEXT.replace("\"a\"", "\"\"")), Err(NotStored::Empty)),
            (response("completed", "", r#"{"type":"reasoning","summary":[]}"#), Err(NotStored::Empty)),
            (response("completed", "", ""), Err(NotStored::Empty)),
            (response("incomplete", cut, TEXT), Err(NotStored::LengthCut)),
            (response("incomplete", filtered, TEXT), Err(NotStored::ContentFilter)),
            (response("incomplete", "", TEXT), Err(NotStored::UnknownFinish)),
            (response("queued", "", ""), Err(NotStored::UnknownFinish)),
            (r#"{"output":[]}"#.to_owned(), Err(NotStored::MissingFinish)),
            (r#"{"id":"x"}"#.to_owned(), Err(NotStored::NoContent)),
        ] {
            assert_eq!(facts(&body).stored, stored, "{body}");
        }
    }

    #[test]
    fn a_failed_response_is_an_error_and_a_queued_one_an_answer() {
        let failed = response("failed", "", "")
            .replace("\"error\":null", r#""error":{"code":"rate_limit_exceeded","message":"m"}"#);
        assert_eq!(facts(&failed).substance, Substance::Error(ErrorKind::RateLimited));
        assert_eq!(facts(&failed).stored, Err(NotStored::Error));
        let bare = r#"{"error":{"message":"m","type":"server_error"}}"#;
        assert_eq!(facts(bare).substance, Substance::Error(ErrorKind::Server));
        for (body, substance) in [
            (response("queued", "", ""), Substance::Content),
            (response("incomplete", "", TEXT), Substance::Content),
            ("[]".to_owned(), Substance::Preamble),
            (r#"{"output":[{"a""#.to_owned(), Substance::Cut),
            ("{}".to_owned(), Substance::Unknown(ErrorKind::Unknown)),
        ] {
            assert_eq!(facts(&body).substance, substance, "{body}");
        }
    }
}
