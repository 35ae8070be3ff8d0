//! Converts a whole message to the events of an equivalent stream. Each text is sent in one event. Owns nothing beyond one call;
//! must never drop a member.

use serde_json::{Value, json};

use super::{Block, Object, is_message};
use crate::dialect::openai::{Streamed, object_of};
use crate::limits::CONVERTED_BYTES;
use crate::wire::sse;

/// The stream equivalent to a message; `None` if it cannot be determined exactly, or exceeds `limits::CONVERTED_BYTES`.
///
/// `whole_of` of the result yields the message again.
pub fn streamed_of(whole: &[u8]) -> Option<Streamed> {
    if whole.len() > CONVERTED_BYTES {
        return None;
    }
    let mut message = object_of(whole)?;
    if !is_message(&message) {
        return None;
    }
    let Value::Array(content) = message.insert("content".to_owned(), Value::Array(Vec::new()))? else { return None };
    let mut end = Object::new();
    let reason @ Value::String(_) = message.get_mut("stop_reason")?.take() else { return None };
    end.insert("stop_reason".to_owned(), reason);
    if let Some(sequence) = message.get_mut("stop_sequence") {
        let sequence = sequence.take();
        if !(sequence.is_null() || sequence.is_string()) {
            return None;
        }
        end.insert("stop_sequence".to_owned(), sequence);
    }
    let usage = message.get_mut("usage")?.as_object_mut()?;
    // Those of the last event are counts of the whole message.
    let counts: Object =
        usage.iter().filter(|(_, count)| count.is_u64()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let said = usage.get_mut("output_tokens").filter(|count| count.is_u64())?;
    *said = json!(0); // none yet
    let mut events = Vec::new();
    write(&mut events, "message_start", json!({"message": message}))?;
    for (index, block) in content.into_iter().enumerate() {
        let Value::Object(members) = block else { return None };
        write_block(&mut events, index, members)?;
    }
    write(&mut events, "message_delta", json!({"delta": end, "usage": counts}))?;
    write(&mut events, "message_stop", json!({}))?;
    Some(Streamed { events, usage_event: None })
}

fn write_block(events: &mut Vec<u8>, index: usize, mut members: Object) -> Option<()> {
    let mut deltas = Vec::new();
    match Block::of(&members)? {
        Block::Text => {
            let text = empty(&mut members, "text", json!(""));
            deltas.extend(text.map(|text| json!({"type": "text_delta", "text": text})));
            let Value::Array(citations) = empty(&mut members, "citations", json!([])).unwrap_or(json!([])) else {
                return None;
            };
            deltas
                .extend(citations.into_iter().map(|citation| json!({"type": "citations_delta", "citation": citation})));
            if deltas.iter().any(|delta| delta.get("citation").is_some_and(|citation| !citation.is_object())) {
                return None;
            }
        }
        Block::ToolUse => {
            let input = empty(&mut members, "input", json!({}));
            let parts = input.and_then(|input| serde_json::to_string(&input).ok());
            deltas.extend(parts.map(|parts| json!({"type": "input_json_delta", "partial_json": parts})));
        }
        Block::Thinking => {
            let thinking = empty(&mut members, "thinking", json!(""));
            deltas.extend(thinking.map(|thinking| json!({"type": "thinking_delta", "thinking": thinking})));
            let signature = empty(&mut members, "signature", json!(""));
            deltas.extend(signature.map(|signature| json!({"type": "signature_delta", "signature": signature})));
        }
        Block::Redacted => {}
    }
    write(events, "content_block_start", json!({"index": index, "content_block": members}))?;
    for delta in deltas {
        write(events, "content_block_delta", json!({"index": index, "delta": delta}))?;
    }
    write(events, "content_block_stop", json!({"index": index}))
}

/// Puts `nothing` in the place of a member that says something, and gives that.
fn empty(members: &mut Object, name: &str, nothing: Value) -> Option<Value> {
    let value = members.get_mut(name).filter(|value| !value.is_null() && **value != nothing)?;
    Some(std::mem::replace(value, nothing))
}

fn write(events: &mut Vec<u8>, kind: &str, members: Value) -> Option<()> {
    let mut event = Object::from_iter([("type".to_owned(), kind.into())]);
    let Value::Object(members) = members else { return None };
    event.extend(members);
    events.extend_from_slice(b"event: ");
    events.extend_from_slice(kind.as_bytes());
    events.push(b'\n');
    sse::event(events, &serde_json::to_vec(&event).ok()?);
    Some(())
}
