//! The facts of one event of a streamed response. A response is one choice; the stream's own end is tracked as a second one, so
//! that nothing is complete before its last event has come.

use super::answer::{is_full, may_store, part_says, says};
use crate::dialect::facts::{EventFacts, EventKind, NotStored, Substance};
use crate::dialect::openai;
use crate::wire::json::{Kind, Tape, Value, parse_unchecked_names};

/// The response, and the stream that it comes in.
const RESPONSE: u128 = 1;
const STREAM: u128 = 2;

/// Reads one event; `name` may be empty, for the data says its type. `tape` is scratch and holds the parsed data afterwards.
pub fn event_facts(name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
    if let Err(fault) = parse_unchecked_names(data, tape) {
        return EventFacts::of_unreadable(data, fault.kind);
    }
    let mut facts = EventFacts::of(Substance::Preamble);
    let root = tape.root();
    match root.get(data, "type").and_then(|kind| kind.plain(data)).unwrap_or(name) {
        b"error" => facts.note_error(openai::error_of(root, data).kind),
        _ if name == b"error" => facts.note_error(openai::error_of(root, data).kind),
        b"response.failed" => facts.note_error(openai::error_of(root.get(data, "response").unwrap_or(root), data).kind),
        b"response.created" | b"response.queued" | b"response.in_progress" => {
            facts.kind = EventKind::Empty;
            facts.choices = RESPONSE | STREAM;
        }
        b"response.completed" | b"response.incomplete" => ended(root, data, &mut facts),
        kind if kind.starts_with(b"response.") => note(kind, root, data, &mut facts),
        _ if root.get(data, "error").is_some_and(|error| error.kind() == Kind::Object) => {
            facts.note_error(openai::error_of(root, data).kind)
        }
        _ => facts.substance = Substance::Unknown(openai::error_of(root, data).kind),
    }
    facts
}

/// The last event, with the whole response in it.
fn ended(root: Value<'_>, data: &[u8], facts: &mut EventFacts) {
    facts.kind = EventKind::Done;
    facts.substance = Substance::Content;
    facts.choices = RESPONSE | STREAM;
    facts.ended = RESPONSE | STREAM;
    facts.said = RESPONSE | STREAM;
    let response = root.get(data, "response");
    facts.usage = response.and_then(|response| openai::usage_of(response, data));
    facts.not_stored = match response.map(|response| may_store(response, data)) {
        Some(may) => may.err(),
        None => Some(NotStored::NoContent),
    };
}

/// What comes on the way: content as soon as there is anything of the model's in it.
fn note(kind: &[u8], root: Value<'_>, data: &[u8], facts: &mut EventFacts) {
    let is_there = match kind {
        b"response.output_item.added" | b"response.output_item.done" => {
            root.get(data, "item").is_some_and(|item| says(item, data))
        }
        b"response.content_part.added" | b"response.content_part.done" => {
            root.get(data, "part").is_some_and(|part| part_says(part, data))
        }
        _ => ["delta", "text", "refusal", "arguments"].iter().any(|name| root.get(data, name).is_some_and(is_full)),
    };
    facts.note_content(is_there, RESPONSE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::facts::{ErrorKind, StreamVerdict};

    const CREATED: &str =
        r#"{"type":"response.created","response":{"id":"r","status":"in_progress","output":[]},"sequence_number":0}"#;
    const ITEM: &str =
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#;
    const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"a","sequence_number":4}"#;

    fn completed(status: &str, text: &str) -> String {
        format!(
            r#"{{"type":"response.{status}","response":{{"status":"{status}","incomplete_details":{{"reason":"max_output_tokens"}},"output":[{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}],"usage":{{"input_tokens":3,"output_tokens":2}}}}}}"#
        )
    }

    fn facts(data: &str) -> EventFacts {
        event_facts(b"", data.as_bytes(), &mut Tape::new())
    }

    fn verdict(events: &[&str]) -> StreamVerdict {
        let mut verdict = StreamVerdict::new();
        events.iter().for_each(|event| verdict.note(&facts(event)));
        verdict
    }

    #[test]
    fn an_event_is_content_only_with_something_in_it() {
        for (data, kind) in [
            (CREATED, EventKind::Empty),
            (r#"{"type":"response.in_progress","response":{}}"#, EventKind::Empty),
            (ITEM, EventKind::Empty),
            (r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}"#, EventKind::Empty),
            (
                r#"{"type":"response.output_item.added","item":{"type":"function_call","arguments":""}}"#,
                EventKind::Content,
            ),
            (r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#, EventKind::Empty),
            (DELTA, EventKind::Content),
            (r#"{"type":"response.output_text.delta","delta":""}"#, EventKind::Empty),
            (r#"{"type":"response.refusal.delta","delta":"no"}"#, EventKind::Content),
            (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, EventKind::Content),
            (r#"{"type":"response.output_text.done","text":"a"}"#, EventKind::Content),
            (r#"{"type":"response.web_search_call.searching"}"#, EventKind::Empty),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                EventKind::Error,
            ),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#, EventKind::Error),
            (r#"{"error":{"message":"m"}}"#, EventKind::Error),
            (r#"{"type":"keepalive"}"#, EventKind::Other),
            (r#"{"type":"respon"#, EventKind::Cut),
            ("[DONE]", EventKind::Other),
        ] {
            assert_eq!(facts(data).kind, kind, "{data}");
        }
        assert_eq!(event_facts(b"error", b"{}", &mut Tape::new()).kind, EventKind::Error);
        let limited =
            facts(r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"m"}}}"#);
        assert_eq!(limited.substance, Substance::Error(ErrorKind::RateLimited));
    }

    #[test]
    fn a_stream_is_complete_with_its_last_event_alone() {
        let good = completed("completed", "a");
        assert_eq!(verdict(&[CREATED, ITEM, DELTA, &good]).stored(), Ok(()));
        for (events, why, is_complete) in [
            (vec![CREATED, ITEM, DELTA], NotStored::NoTerminal, false),
            (vec![CREATED, &completed("completed", "")], NotStored::Empty, true),
            (vec![CREATED, DELTA, &completed("incomplete", "a")], NotStored::LengthCut, true),
            (vec![CREATED, r#"{"type":"response.failed"}"#], NotStored::Error, false),
            (vec![CREATED, &good, DELTA], NotStored::AfterTerminal, true),
            (vec![r#"{"type":"response.completed"}"#], NotStored::NoContent, true),
        ] {
            let verdict = verdict(&events);
            assert_eq!(verdict.stored(), Err(why), "{events:?}");
            assert_eq!(verdict.is_complete(), is_complete, "{events:?}");
        }
        let usage = facts(&good).usage.unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.total), (3, 2, 5));
    }
}
