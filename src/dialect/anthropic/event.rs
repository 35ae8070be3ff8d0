//! The facts of one event of a stream of messages. A message is one choice; the stream's own end is tracked as a second one, so
//! that nothing is complete before it has come.

use crate::dialect::facts::{ErrorKind, EventFacts, EventKind, NotStored, Substance, TokenUsage, UsageMembers};
use crate::dialect::openai;
use crate::wire::json::{JsonFaultKind, Kind, Tape, Value, parse_unchecked_names};

/// The message, and the stream that it comes in.
const MESSAGE: u128 = 1;
const STREAM: u128 = 2;

/// Reads one event; `name` may be empty, for the data says its type. `tape` is scratch and holds the parsed data afterwards.
pub fn event_facts(name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
    let mut facts = EventFacts {
        kind: EventKind::Other,
        substance: Substance::Preamble,
        usage: None,
        usage_members: UsageMembers::None,
        choices: 0,
        said: 0,
        ended: 0,
        not_stored: None,
    };
    if let Err(fault) = parse_unchecked_names(data, tape) {
        let is_cut = data.trim_ascii().starts_with(b"{") && fault.kind == JsonFaultKind::UnexpectedEnd;
        facts.kind = if is_cut { EventKind::Cut } else { EventKind::Other };
        facts.substance = if is_cut { Substance::Cut } else { Substance::Unknown(ErrorKind::Unknown) };
        return facts;
    }
    let root = tape.root();
    let kind = root.get(data, "type").and_then(|kind| kind.plain(data)).unwrap_or(name);
    match kind {
        b"error" => failed(root, data, &mut facts),
        _ if name == b"error" => failed(root, data, &mut facts),
        b"message_start" => {
            facts.kind = EventKind::Empty;
            facts.choices = MESSAGE | STREAM;
            facts.usage = root.get(data, "message").and_then(|message| usage(message, data));
        }
        b"content_block_start" => {
            let block = root.get(data, "content_block");
            note_content(block.is_some_and(|block| says(block, data)), &mut facts);
        }
        b"content_block_delta" => {
            let delta = root.get(data, "delta");
            note_content(delta.is_some_and(|delta| says(delta, data)), &mut facts);
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
            failed(root, data, &mut facts)
        }
        _ => facts.substance = Substance::Unknown(openai::error_of(root, data).kind),
    }
    facts
}

fn failed(root: Value<'_>, data: &[u8], facts: &mut EventFacts) {
    facts.kind = EventKind::Error;
    facts.substance = Substance::Error(openai::error_of(root, data).kind);
    facts.not_stored = Some(NotStored::Error);
}

fn note_content(is_there: bool, facts: &mut EventFacts) {
    facts.kind = EventKind::Empty;
    if is_there {
        facts.kind = EventKind::Content;
        facts.substance = Substance::Content;
        facts.choices = MESSAGE;
        facts.said = MESSAGE;
    }
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
    Some(TokenUsage::counted(prompt, output, None).with_parts(Some(read), None))
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
