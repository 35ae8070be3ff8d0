//! Converts a non-streaming answer to the chunks of an equivalent stream. Each text is sent in one chunk. Owns nothing
//! beyond one call; must never drop a member.

use super::{Shape, Streamed, object_of};
use crate::dialect::facts::Endpoint;
use crate::limits::CONVERTED_BYTES;
use crate::wire::sse;
use serde_json::{Map, Value, json};

/// The stream equivalent to an answer; `None` if it cannot be determined exactly, exceeds `limits::CONVERTED_BYTES`, or
/// the endpoint has no streams.
///
/// `whole_of` of the result yields the answer again. Unknown members of the root go into the first chunk, those of a
/// choice into its last, so that none is repeated.
pub fn streamed_of(endpoint: Endpoint, whole: &[u8]) -> Option<Streamed> {
    if whole.len() > CONVERTED_BYTES {
        return None;
    }
    let shape = Shape::of(endpoint)?;
    let mut root = object_of(whole)?;
    if root.get("object")? != shape.whole_object() || root.get("error").is_some_and(|error| !error.is_null()) {
        return None;
    }
    let Some(Value::Array(choices)) = root.shift_remove("choices") else { return None };
    let usage = root.shift_remove("usage").filter(|usage| !usage.is_null());
    let mut common = Map::new();
    let mut others = Map::new();
    for (name, value) in root {
        match name.as_str() {
            "object" => drop(common.insert(name, shape.chunk_object().into())),
            "id" | "created" | "model" | "service_tier" | "system_fingerprint" => drop(common.insert(name, value)),
            // Streams use this member for padding: clients would drop it.
            "obfuscation" => return None,
            // In the first chunk, clients that did not ask for usage would get it.
            "x_groq" if value.get("usage").is_some() => return None,
            _ => drop(others.insert(name, value)),
        }
    }
    let mut to_chunks = ToChunks { common, others, events: Vec::new() };
    let mut seen = Vec::new();
    for choice in choices {
        let Value::Object(choice) = choice else { return None };
        let index = choice.get("index")?.as_u64()?;
        if seen.contains(&index) {
            return None;
        }
        seen.push(index);
        to_chunks.choice(shape, index, choice)?;
    }
    if seen.is_empty() {
        return None;
    }
    let usage_event = match usage {
        Some(usage) => {
            let mut chunk = to_chunks.common.clone();
            chunk.insert("choices".to_owned(), Value::Array(Vec::new()));
            chunk.insert("usage".to_owned(), usage);
            let mut event = Vec::new();
            write_event(&chunk, &mut event)?;
            Some(event)
        }
        None => None,
    };
    Some(Streamed { events: to_chunks.events, usage_event })
}

struct ToChunks {
    /// Members that every chunk has.
    common: Map<String, Value>,
    /// Members for the next chunk only.
    others: Map<String, Value>,
    events: Vec<u8>,
}

/// What the chunks of one choice have in common.
struct Frame {
    index: u64,
    /// The answer's log probabilities, for the chunk with the text.
    logprobs: Option<Value>,
    /// Whether chunks without log probabilities have the member as null.
    logprobs_named: bool,
}

impl ToChunks {
    fn choice(&mut self, shape: Shape, index: u64, mut choice: Map<String, Value>) -> Option<()> {
        // In a chunk, clients that did not ask for usage would get it.
        if choice.get("usage").is_some_and(|usage| !usage.is_null()) {
            return None;
        }
        choice.shift_remove("index");
        let finish_reason = choice.shift_remove("finish_reason").unwrap_or(Value::Null);
        let logprobs = choice.shift_remove("logprobs");
        let logprobs_named = logprobs.is_some();
        let mut frame = Frame { index, logprobs, logprobs_named };
        let last = match shape {
            Shape::Chat => {
                let Some(Value::Object(message)) = choice.shift_remove("message") else { return None };
                if choice.contains_key("delta") {
                    return None;
                }
                self.message(&mut frame, message)?;
                json!({})
            }
            Shape::Text => {
                let text @ Value::String(_) = choice.shift_remove("text")? else { return None };
                let logprobs = frame.logprobs.take();
                self.chunk(&frame, "text", text, logprobs, Value::Null, Map::new())?;
                json!("")
            }
        };
        let payload = if shape == Shape::Chat { "delta" } else { "text" };
        self.chunk(&frame, payload, last, None, finish_reason, choice)
    }

    /// First the role with all unsplit members, then each text, `content` after the others, then the calls.
    fn message(&mut self, frame: &mut Frame, message: Map<String, Value>) -> Option<()> {
        let mut first = Map::new();
        let mut texts = Vec::new();
        let mut content = None;
        let mut calls = Vec::new();
        for (name, value) in message {
            match (name.as_str(), value) {
                ("role", role @ Value::String(_)) => drop(first.insert(name, role)),
                ("role", _) => return None,
                ("content", Value::String(text)) if !text.is_empty() => {
                    first.insert(name, "".into());
                    content = Some(text);
                }
                ("tool_calls", Value::Array(list)) if !list.is_empty() => {
                    for (place, call) in list.into_iter().enumerate() {
                        calls.push(("tool_calls", Value::Array(vec![numbered(place, call)?])));
                    }
                }
                ("function_call", call @ Value::Object(_)) => calls.push(("function_call", call)),
                (_, Value::String(text)) if !text.is_empty() => texts.push((name, text)),
                (_, value) => drop(first.insert(name, value)),
            }
        }
        // Without a chunk for the content, the first chunk carries its log probabilities.
        let logprobs = if content.is_none() { frame.logprobs.take() } else { None };
        self.delta(frame, first, logprobs)?;
        for (name, text) in texts {
            self.delta(frame, Map::from_iter([(name, Value::String(text))]), None)?;
        }
        if let Some(text) = content {
            let logprobs = frame.logprobs.take();
            self.delta(frame, Map::from_iter([("content".to_owned(), Value::String(text))]), logprobs)?;
        }
        for (name, call) in calls {
            self.delta(frame, Map::from_iter([(name.to_owned(), call)]), None)?;
        }
        Some(())
    }

    fn delta(&mut self, frame: &Frame, delta: Map<String, Value>, logprobs: Option<Value>) -> Option<()> {
        self.chunk(frame, "delta", Value::Object(delta), logprobs, Value::Null, Map::new())
    }

    fn chunk(
        &mut self,
        frame: &Frame,
        payload: &str,
        value: Value,
        logprobs: Option<Value>,
        finish_reason: Value,
        others: Map<String, Value>,
    ) -> Option<()> {
        let mut choice = Map::new();
        choice.insert("index".to_owned(), frame.index.into());
        choice.insert(payload.to_owned(), value);
        if frame.logprobs_named {
            choice.insert("logprobs".to_owned(), logprobs.unwrap_or(Value::Null));
        }
        choice.insert("finish_reason".to_owned(), finish_reason);
        choice.extend(others);
        let mut chunk = self.common.clone();
        chunk.insert("choices".to_owned(), Value::Array(vec![Value::Object(choice)]));
        chunk.append(&mut self.others);
        write_event(&chunk, &mut self.events)
    }
}

/// A call with its index, which identifies it in a stream.
fn numbered(place: usize, call: Value) -> Option<Value> {
    let Value::Object(members) = call else { return None };
    if members.get("index").is_some_and(|index| index.as_u64() != Some(place as u64)) {
        return None;
    }
    let mut numbered = Map::new();
    numbered.insert("index".to_owned(), place.into());
    numbered.extend(members);
    Some(Value::Object(numbered))
}

fn write_event(chunk: &Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    sse::event(out, &serde_json::to_vec(chunk).ok()?);
    Some(())
}
