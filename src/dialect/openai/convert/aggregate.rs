//! Aggregates the chunks of a stream into a non-streaming answer. Each rule either merges exactly or gives `None`. Owns
//! nothing beyond one call; must never invent content.

use super::{Shape, object_of};
use crate::dialect::facts::Endpoint;
use crate::dialect::openai::DONE;
use crate::limits::CONVERTED_BYTES;
use crate::wire::sse::{Ending, EventData, Splitter};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The answer that a stream amounts to; `None` if it cannot be determined exactly, exceeds `limits::CONVERTED_BYTES`,
/// or the endpoint has no streams.
///
/// `events` is a sequence of `data: ...` events; terminal events are skipped. `usage` is the usage event or its data,
/// and overrides usage in `events`.
pub fn whole_of(endpoint: Endpoint, events: &[u8], usage: Option<&[u8]>) -> Option<Vec<u8>> {
    if events.len() > CONVERTED_BYTES {
        return None;
    }
    let mut aggregate =
        Aggregate { shape: Shape::of(endpoint)?, root: Map::new(), choices: BTreeMap::new(), usage: None };
    aggregate.events(events)?;
    match usage {
        None => {}
        Some(data) if data.trim_ascii_start().starts_with(b"{") => aggregate.chunk(object_of(data)?)?,
        Some(event) => aggregate.events(event)?,
    }
    serde_json::to_vec(&aggregate.finish()?).ok()
}

struct Aggregate {
    shape: Shape,
    root: Map<String, Value>,
    choices: BTreeMap<u64, Choice>,
    usage: Option<Value>,
}

#[derive(Default)]
struct Choice {
    /// The message (chat); empty for text completions.
    message: Map<String, Value>,
    text: String,
    /// By index; `Some` once a list of calls was seen, even an empty one.
    tool_calls: Option<BTreeMap<u64, Map<String, Value>>>,
    /// Calls whose arguments came in several parts.
    pieced: BTreeSet<u64>,
    logprobs: Option<Value>,
    finish_reason: Option<Value>,
    others: Map<String, Value>,
}

impl Aggregate {
    fn events(&mut self, events: &[u8]) -> Option<()> {
        let mut splitter = Splitter::new();
        while let Some(event) = splitter.next(events).ok()? {
            let data = splitter.data(&event, events);
            if event.data != EventData::Absent && data.trim_ascii() != DONE {
                self.chunk(object_of(data)?)?;
            }
        }
        (splitter.ending(events) == Ending::Complete).then_some(())
    }

    fn chunk(&mut self, chunk: Map<String, Value>) -> Option<()> {
        for (name, value) in chunk {
            match name.as_str() {
                "choices" => {
                    // Reserves its position among the members.
                    self.root.entry(name).or_insert(Value::Null);
                    let Value::Array(choices) = value else { return None };
                    for choice in choices {
                        self.choice(choice)?;
                    }
                }
                "object" => {
                    if value != self.shape.chunk_object() {
                        return None;
                    }
                    self.root.insert(name, self.shape.whole_object().into());
                }
                "usage" if value.is_null() => {}
                // Servers with running counts send growing numbers: the last ones apply.
                "usage" => self.usage = Some(value),
                // Random padding against traffic analysis, different in each chunk.
                "obfuscation" => {}
                "id" | "model" => once(&mut self.root, name, value)?,
                // Some servers set it anew in each chunk; the first one is the start of the answer.
                "created" => match self.root.get(&name) {
                    Some(Value::Number(earlier)) if earlier.as_u64() != Some(0) => {}
                    _ => drop(self.root.insert(name, value)),
                },
                _ => same(&mut self.root, name, value)?,
            }
        }
        Some(())
    }

    fn choice(&mut self, choice: Value) -> Option<()> {
        let Value::Object(members) = choice else { return None };
        let index = members.get("index")?.as_u64()?;
        let merged = self.choices.entry(index).or_default();
        for (name, value) in members {
            match (self.shape, name.as_str()) {
                (_, "index") => {}
                (_, "finish_reason") => match &merged.finish_reason {
                    Some(earlier) if !is_empty(earlier) && !is_empty(&value) && *earlier != value => return None,
                    Some(_) if is_empty(&value) => {}
                    _ => merged.finish_reason = Some(if is_empty(&value) { Value::Null } else { value }),
                },
                (_, "logprobs") => merge_logprobs(&mut merged.logprobs, value)?,
                (Shape::Chat, "delta") => match value {
                    Value::Object(delta) => merged.delta(delta)?,
                    Value::Null => {}
                    _ => return None,
                },
                (Shape::Text, "text") => match value {
                    Value::String(text) => merged.text.push_str(&text),
                    Value::Null => {}
                    _ => return None,
                },
                (Shape::Chat, "message") => return None,
                _ => same(&mut merged.others, name, value)?,
            }
        }
        Some(())
    }

    fn finish(mut self) -> Option<Value> {
        if self.choices.is_empty() || !self.root.contains_key("object") {
            return None;
        }
        let mut choices = Vec::with_capacity(self.choices.len());
        for (index, choice) in self.choices {
            choices.push(choice.finish(self.shape, index)?);
        }
        self.root.insert("choices".to_owned(), Value::Array(choices));
        if let Some(usage) = self.usage {
            self.root.insert("usage".to_owned(), usage);
        }
        Some(Value::Object(self.root))
    }
}

impl Choice {
    fn delta(&mut self, delta: Map<String, Value>) -> Option<()> {
        // Anything after the end of a choice may or may not belong to it.
        let has_ended = self.finish_reason.as_ref().is_some_and(|reason| !is_empty(reason));
        if has_ended && delta.iter().any(|(name, value)| name != "role" && !is_nothing(value)) {
            return None;
        }
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("role", value) => once(&mut self.message, name, value)?,
                ("tool_calls", Value::Array(calls)) => {
                    // Reserves its position among the members.
                    self.message.insert(name, Value::Null);
                    self.tool_calls.get_or_insert_default();
                    for call in calls {
                        self.tool_call(call)?;
                    }
                }
                ("tool_calls", Value::Null) => drop(self.message.entry(name).or_insert(Value::Null)),
                ("tool_calls", _) => return None,
                ("function_call", value @ Value::Object(_)) => {
                    merge_call(self.message.entry(name).or_insert(Value::Null), value, "arguments")?;
                }
                (known, Value::String(text)) if TEXTS.contains(&known) => {
                    concatenate(&mut self.message, name, text)?;
                }
                (_, value) => part(&mut self.message, name, value)?,
            }
        }
        Some(())
    }

    fn tool_call(&mut self, call: Value) -> Option<()> {
        let Value::Object(members) = call else { return None };
        let index = members.get("index")?.as_u64()?;
        let merged = self.tool_calls.get_or_insert_default().entry(index).or_default();
        let is_named = |call: &Map<String, Value>| {
            ["function", "custom"].iter().any(|kind| call.get(*kind).is_some_and(|inner| !is_empty(&inner["name"])))
        };
        // A second start at the same index is another call, unless both have the same id.
        let is_same = members.get("id").is_some_and(|id| !is_empty(id) && merged.get("id") == Some(id));
        if is_named(merged) && is_named(&members) && !is_same {
            return None;
        }
        let has_begun =
            |call: &Map<String, Value>| call.get("function").is_some_and(|function| !is_empty(&function["arguments"]));
        if has_begun(merged) && has_begun(&members) {
            self.pieced.insert(index);
        }
        for (name, value) in members {
            match name.as_str() {
                "index" => {}
                "id" | "type" => once(merged, name, value)?,
                "function" => merge_call(merged.entry(name).or_insert(Value::Null), value, "arguments")?,
                "custom" => merge_call(merged.entry(name).or_insert(Value::Null), value, "input")?,
                _ => same(merged, name, value)?,
            }
        }
        Some(())
    }

    fn finish(mut self, shape: Shape, index: u64) -> Option<Value> {
        let mut choice = Map::new();
        choice.insert("index".to_owned(), index.into());
        match shape {
            Shape::Chat => {
                if let Some(calls) = self.tool_calls {
                    // A gap would be lost with the indices.
                    if calls.keys().copied().ne(0..calls.len() as u64) {
                        return None;
                    }
                    // Parts of two calls do not form one JSON value.
                    if !self.pieced.iter().all(|index| calls.get(index).is_some_and(is_whole_call)) {
                        return None;
                    }
                    let calls = calls.into_values().map(Value::Object).collect();
                    self.message.insert("tool_calls".to_owned(), Value::Array(calls));
                }
                // Deltas may omit these, messages must not; each has only one possible value.
                self.message.entry("role").or_insert_with(|| "assistant".into());
                self.message.entry("content").or_insert(Value::Null);
                choice.insert("message".to_owned(), Value::Object(self.message));
            }
            Shape::Text => drop(choice.insert("text".to_owned(), Value::String(self.text))),
        }
        if let Some(logprobs) = self.logprobs {
            choice.insert("logprobs".to_owned(), logprobs);
        }
        choice.insert("finish_reason".to_owned(), self.finish_reason.unwrap_or(Value::Null));
        for (name, value) in self.others {
            choice.insert(name, value);
        }
        Some(Value::Object(choice))
    }
}

/// Members of a delta that are split into parts. For any other, a second value may or may not continue the first.
const TEXTS: [&str; 5] = ["content", "refusal", "reasoning", "reasoning_content", "thinking"];

/// Whether the arguments of a call are one JSON value.
fn is_whole_call(call: &Map<String, Value>) -> bool {
    let arguments = call.get("function").and_then(|function| function.get("arguments"));
    match arguments.and_then(Value::as_str) {
        None | Some("") => true,
        Some(text) => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        other => is_empty(other),
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == ""
}

/// A member that has one value; later chunks may repeat it, or leave it null or empty.
fn once(object: &mut Map<String, Value>, name: String, value: Value) -> Option<()> {
    match object.get_mut(&name) {
        None => drop(object.insert(name, value)),
        Some(earlier) if is_empty(earlier) && !is_empty(&value) => *earlier = value,
        Some(earlier) => return (is_empty(&value) || *earlier == value).then_some(()),
    }
    Some(())
}

/// An unknown member: it must have the same value wherever it is not null.
fn same(object: &mut Map<String, Value>, name: String, value: Value) -> Option<()> {
    match object.get_mut(&name) {
        None => drop(object.insert(name, value)),
        Some(earlier) if earlier.is_null() => *earlier = value,
        Some(earlier) => return (value.is_null() || *earlier == value).then_some(()),
    }
    Some(())
}

/// An unknown member of a delta: a second text, list or object may continue the first or repeat it.
fn part(object: &mut Map<String, Value>, name: String, value: Value) -> Option<()> {
    match object.get_mut(&name) {
        None => drop(object.insert(name, value)),
        Some(earlier) if is_nothing(earlier) => {
            if !value.is_null() {
                *earlier = value;
            }
        }
        Some(_) if is_nothing(&value) => {}
        Some(Value::String(_) | Value::Array(_) | Value::Object(_)) => return None,
        Some(earlier) => return (*earlier == value).then_some(()),
    }
    Some(())
}

/// A text that comes in parts.
fn concatenate(object: &mut Map<String, Value>, name: String, text: String) -> Option<()> {
    match object.get_mut(&name) {
        None => drop(object.insert(name, Value::String(text))),
        Some(Value::String(earlier)) => earlier.push_str(&text),
        Some(earlier) if earlier.is_null() => *earlier = Value::String(text),
        Some(_) => return None,
    }
    Some(())
}

/// A call's inner object: the name comes once, the member `parts` in parts.
fn merge_call(merged: &mut Value, call: Value, parts: &str) -> Option<()> {
    let Value::Object(members) = call else { return call.is_null().then_some(()) };
    if merged.is_null() {
        *merged = Value::Object(Map::new());
    }
    let merged = merged.as_object_mut()?;
    for (name, value) in members {
        match value {
            Value::String(text) if name == parts => concatenate(merged, name, text)?,
            value if name == "name" => once(merged, name, value)?,
            value => same(merged, name, value)?,
        }
    }
    Some(())
}

/// Each chunk continues the lists of log probabilities.
fn merge_logprobs(merged: &mut Option<Value>, incoming: Value) -> Option<()> {
    match (merged, incoming) {
        (merged @ None, incoming) => *merged = Some(incoming),
        (Some(_), Value::Null) => {}
        (Some(merged), incoming) if merged.is_null() => *merged = incoming,
        (Some(Value::Object(merged)), Value::Object(incoming)) => {
            for (name, value) in incoming {
                match (merged.get_mut(&name), value) {
                    (Some(Value::Array(earlier)), Value::Array(later)) => earlier.extend(later),
                    (_, value) => same(merged, name, value)?,
                }
            }
        }
        _ => return None,
    }
    Some(())
}
