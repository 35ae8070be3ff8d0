//! The facts of one event of a stream of messages. A message is one choice; the stream's own end is tracked as a second one, so
//! that nothing is complete before it has come.

use crate::dialect::facts::{EventFacts, EventKind, NotStored, Parts, Substance, TokenUsage};
use crate::dialect::openai;
use crate::wire::json::{Kind, Tape, Value, parse_unchecked_names};

/// The message, and the stream that it comes in.
const MESSAGE: u128 = 1;
const STREAM: u128 = 2;

/// Reads one event; `name` may be empty, for the data says its type. `tape` is scratch and holds the parsed data afterwards.
pub fn event_facts(name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
    if let Err(fault) = parse_unchecked_names(data, tape) {
        return EventFacts::of_unreadable(data, fault.kind);
    }
    let mut facts = EventFacts::of(Substance::Preamble);
    let root = tape.root();
    let kind = root.get(data, "type").and_then(|kind| kind.plain(data)).unwrap_or(name);
    match kind {
        b"error" => facts.note_error(openai::error_of(root, data).kind),
        _ if name == b"error" => facts.note_error(openai::error_of(root, data).kind),
        b"message_start" => {
            facts.kind = EventKind::Empty;
            facts.choices = MESSAGE | STREAM;
            facts.usage = root.get(data, "message").and_then(|message| usage(message, data));
        }
        b"content_block_start" => {
            let block = root.get(data, "content_block");
            facts.note_content(block.is_some_and(|block| says(block, data)), MESSAGE);
        }
        b"content_block_delta" => {
            let delta = root.get(data, "delta");
            facts.note_content(delta.is_some_and(|delta| says(delta, data)), MESSAGE);
        }
        b"message_delta" => {
            facts.kind = EventKind::Empty;
            facts.usage = usage(root, data);
            let reason = root.get(data, "delta").and_then(|delta| delta.get(data, "stop_reason"));
            if let Some(reason) = reason.filter(|reason| !reason.is_null()) {
                facts.kind = EventKind::Finish;
                facts.substance = Substance::Content;
                facts.choices = MESSAGE;
                facts.ended = MESSAGE;
                facts.not_stored = may_store(reason, data).err();
            }
        }
        b"message_stop" => {
            facts.kind = EventKind::Done;
            facts.choices = STREAM;
            facts.said = STREAM;
            facts.ended = STREAM;
        }
        b"content_block_stop" | b"ping" => facts.kind = EventKind::Empty,
        _ if root.get(data, "error").is_some_and(|error| error.kind() == Kind::Object) => {
            facts.note_error(openai::error_of(root, data).kind)
        }
        _ => facts.substance = Substance::Unknown(openai::error_of(root, data).kind),
    }
    facts
}

/// Whether a block, or a delta of one, has anything of the model's: a text, or whatever is not one.
pub(super) fn says(block: Value<'_>, data: &[u8]) -> bool {
    let is_full = |name| block.get(data, name).is_some_and(|text| text.inside().is_some_and(|text| !text.is_empty()));
    match block.get(data, "type").and_then(|kind| kind.plain(data)) {
        Some(b"text" | b"text_delta") => is_full("text"),
        Some(b"thinking" | b"thinking_delta") => is_full("thinking"),
        Some(b"input_json_delta") => is_full("partial_json"),
        Some(_) => true,
        None => false,
    }
}

/// The counts of the `usage` of a message, or of an event. What was read from and written to the provider's cache is input.
pub(super) fn usage(holder: Value<'_>, data: &[u8]) -> Option<TokenUsage> {
    let usage = holder.get(data, "usage")?;
    let of = |name| usage.get(data, name).and_then(|count| count.as_u64(data));
    let (input, output) = (of("input_tokens"), of("output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (read, written) = (of("cache_read_input_tokens").unwrap_or(0), of("cache_creation_input_tokens").unwrap_or(0));
    let prompt = input.map(|input| input.saturating_add(read).saturating_add(written));
    Some(TokenUsage::counted(prompt, output, None).with_parts(Parts {
        cached: read,
        cache_written: written,
        reasoning: 0,
    }))
}

/// Whether an answer that ended for this reason may be stored.
pub(super) fn may_store(reason: Value<'_>, data: &[u8]) -> Result<(), NotStored> {
    match reason.plain(data) {
        Some(b"end_turn" | b"tool_use" | b"stop_sequence") => Ok(()),
        Some(b"max_tokens" | b"model_context_window_exceeded") => Err(NotStored::LengthCut),
        Some(b"refusal") => Err(NotStored::ContentFilter),
        _ => Err(NotStored::UnknownFinish),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::facts::StreamVerdict;

    const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_read_input_tokens":4,"cache_creation_input_tokens":5,"output_tokens":1}}}"#;
    const BLOCK: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    const TEXT: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;

    fn end(reason: &str) -> String {
        format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":2}}}}"#)
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
        let content = |block: &str| format!(r#"{{"type":"content_block_start","content_block":{block}}}"#);
        for (data, kind) in [
            (START.to_owned(), EventKind::Empty),
            (r#"{"type":"ping"}"#.to_owned(), EventKind::Empty),
            (BLOCK.to_owned(), EventKind::Empty),
            (content(r#"{"type":"thinking","thinking":"","signature":""}"#), EventKind::Empty),
            (content(r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#), EventKind::Content),
            (content(r#"{"type":"redacted_thinking","data":"x"}"#), EventKind::Content),
            (TEXT.to_owned(), EventKind::Content),
            (TEXT.replace("\"a\"", "\"\""), EventKind::Empty),
            (end("end_turn"), EventKind::Finish),
            (STOP.to_owned(), EventKind::Done),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#.to_owned(), EventKind::Error),
            (r#"{"type":"new"}"#.to_owned(), EventKind::Other),
            (r#"{"type":"mess"#.to_owned(), EventKind::Cut),
            ("words".to_owned(), EventKind::Other),
        ] {
            assert_eq!(facts(&data).kind, kind, "{data}");
        }
        assert_eq!(event_facts(b"error", b"{}", &mut Tape::new()).kind, EventKind::Error);
    }

    #[test]
    fn a_stream_is_complete_with_its_last_event_alone() {
        let good = end("end_turn");
        assert_eq!(verdict(&[START, BLOCK, TEXT, &good, STOP]).stored(), Ok(()));
        for (events, why) in [
            (vec![START, BLOCK, TEXT], NotStored::NoTerminal),
            (vec![START, BLOCK, TEXT, &good], NotStored::NoTerminal),
            (vec![START, BLOCK, TEXT, STOP], NotStored::MissingFinish),
            (vec![START, BLOCK, &good, STOP], NotStored::Empty),
            (vec![START, TEXT, &end("max_tokens"), STOP], NotStored::LengthCut),
            (vec![START, TEXT, &end("refusal"), STOP], NotStored::ContentFilter),
            (vec![START, TEXT, &end("pause_turn"), STOP], NotStored::UnknownFinish),
            (vec![START, TEXT, &good, STOP, TEXT], NotStored::AfterTerminal),
        ] {
            let verdict = verdict(&events);
            assert_eq!(verdict.stored(), Err(why), "{events:?}");
            assert_eq!(verdict.is_complete(), events.contains(&STOP), "{events:?}");
        }
    }

    #[test]
    fn usage_counts_what_the_providers_cache_had_as_input() {
        let (first, last) = (facts(START).usage.unwrap(), facts(&end("end_turn")).usage.unwrap());
        let whole = last.after(first);
        assert_eq!((whole.prompt, whole.completion, whole.total), (12, 2, 14));
        assert_eq!(whole.parts(), Parts { cached: 4, cache_written: 5, reasoning: 0 });
    }
}
