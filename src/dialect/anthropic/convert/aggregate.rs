//! Aggregates the events of a message into a whole one. Each rule either merges exactly or gives `None`. Owns nothing beyond one
//! call; must never invent content.

use serde_json::Value;

use super::{Block, Object, is_message};
use crate::dialect::openai::object_of;
use crate::limits::CONVERTED_BYTES;
use crate::wire::sse::{Ending, EventData, Splitter};

/// The message that a complete stream amounts to; `None` if it cannot be determined exactly, or exceeds
/// `limits::CONVERTED_BYTES`.
pub fn whole_of(events: &[u8]) -> Option<Vec<u8>> {
    if events.len() > CONVERTED_BYTES {
        return None;
    }
    let (mut splitter, mut aggregate) = (Splitter::new(), Aggregate::default());
    while let Some(event) = splitter.next(events).ok()? {
        if event.data != EventData::Absent {
            aggregate.event(object_of(splitter.data(&event, events))?)?;
        }
    }
    (splitter.ending(events) == Ending::Complete).then_some(())?;
    serde_json::to_vec(&aggregate.finish()?).ok()
}

#[derive(Default)]
struct Aggregate {
    /// Once it has begun.
    message: Option<Object>,
    blocks: Vec<Building>,
    is_over: bool,
}

struct Building {
    block: Block,
    members: Object,
    /// The JSON of a call's input, as it comes in parts.
    input: String,
    is_open: bool,
}

impl Aggregate {
    fn event(&mut self, mut event: Object) -> Option<()> {
        let Some(Value::String(kind)) = event.shift_remove("type") else { return None };
        if kind == "ping" {
            return Some(());
        }
        if self.is_over || self.message.is_some() == (kind == "message_start") {
            return None;
        }
        match kind.as_str() {
            "message_start" => {
                self.message = Some(begin(take_object(&mut event, "message")?)?);
                rest_says_nothing(&event)
            }
            "content_block_start" => {
                let index = event.shift_remove("index")?.as_u64()?;
                let members = take_object(&mut event, "content_block")?;
                let block = Block::of(&members)?;
                if index != self.blocks.len() as u64 {
                    return None;
                }
                self.blocks.push(Building { block, members, input: String::new(), is_open: true });
                rest_says_nothing(&event)
            }
            "content_block_delta" => {
                let delta = take_object(&mut event, "delta")?;
                self.open(&mut event)?.delta(delta)?;
                rest_says_nothing(&event)
            }
            "content_block_stop" => {
                self.open(&mut event)?.stop()?;
                rest_says_nothing(&event)
            }
            "message_delta" => self.delta(event),
            "message_stop" => {
                self.is_over = true;
                rest_says_nothing(&event)
            }
            _ => None,
        }
    }

    /// The block that an event is about.
    fn open(&mut self, event: &mut Object) -> Option<&mut Building> {
        let index = usize::try_from(event.shift_remove("index")?.as_u64()?).ok()?;
        self.blocks.get_mut(index).filter(|block| block.is_open)
    }

    fn delta(&mut self, mut event: Object) -> Option<()> {
        let message = self.message.as_mut()?;
        for (name, value) in take_object(&mut event, "delta")? {
            match name.as_str() {
                "stop_reason" | "stop_sequence" => once(message, name, value)?,
                _ => unknown(message, name, value)?,
            }
        }
        let Some(Value::Object(usage)) = message.get_mut("usage") else { return None };
        match event.shift_remove("usage") {
            None | Some(Value::Null) => {}
            Some(Value::Object(counts)) => {
                for (name, value) in counts {
                    count(usage, name, value)?;
                }
            }
            Some(_) => return None,
        }
        event.into_iter().try_for_each(|(name, value)| unknown(message, name, value))
    }

    fn finish(self) -> Option<Object> {
        let mut message = self.message.filter(|_| self.is_over)?;
        message.get("stop_reason")?.as_str()?;
        if self.blocks.iter().any(|block| block.is_open) {
            return None;
        }
        let content = self.blocks.into_iter().map(|block| Value::Object(block.members)).collect();
        message.insert("content".to_owned(), content);
        Some(message)
    }
}

/// What a stream begins with: a message without content and end.
fn begin(message: Object) -> Option<Object> {
    let is_absent = |name| message.get(name).is_none_or(Value::is_null);
    let is_empty = message.get("content")?.as_array()?.is_empty();
    (is_empty && is_message(&message) && is_absent("stop_reason") && is_absent("stop_sequence")).then_some(message)
}

impl Building {
    fn delta(&mut self, mut delta: Object) -> Option<()> {
        let Some(Value::String(kind)) = delta.shift_remove("type") else { return None };
        match (self.block, kind.as_str()) {
            (Block::Text, "text_delta") => append(&mut self.members, "text", &mut delta)?,
            (Block::Thinking, "thinking_delta") => append(&mut self.members, "thinking", &mut delta)?,
            (Block::Thinking, "signature_delta") => {
                let signature @ Value::String(_) = delta.shift_remove("signature")? else { return None };
                once(&mut self.members, "signature".to_owned(), signature)?;
            }
            (Block::Text, "citations_delta") => {
                let citation @ Value::Object(_) = delta.shift_remove("citation")? else { return None };
                let citations = self.members.entry("citations").or_insert(Value::Null);
                if citations.is_null() {
                    *citations = Value::Array(Vec::new());
                }
                citations.as_array_mut()?.push(citation);
            }
            (Block::ToolUse, "input_json_delta") => {
                let Value::String(part) = delta.shift_remove("partial_json")? else { return None };
                self.input.push_str(&part);
            }
            _ => return None,
        }
        rest_says_nothing(&delta)
    }

    fn stop(&mut self) -> Option<()> {
        self.is_open = false;
        if self.input.is_empty() {
            return Some(());
        }
        let input = self.members.get_mut("input")?.as_object_mut()?;
        if !input.is_empty() {
            return None;
        }
        *input = object_of(self.input.as_bytes())?;
        Some(())
    }
}

fn append(members: &mut Object, name: &str, delta: &mut Object) -> Option<()> {
    let Some(Value::String(part)) = delta.shift_remove(name) else { return None };
    let Some(Value::String(text)) = members.get_mut(name) else { return None };
    text.push_str(&part);
    Some(())
}

/// A member that has one value; it may be empty before, and repeated.
fn once(object: &mut Object, name: String, value: Value) -> Option<()> {
    let is_empty = |value: &Value| value.is_null() || value == "";
    match object.get_mut(&name) {
        None => drop(object.insert(name, value)),
        Some(earlier) if is_empty(earlier) => *earlier = value,
        Some(earlier) => return (is_empty(&value) || *earlier == value).then_some(()),
    }
    Some(())
}

/// A member of a usage. Counts are those of the whole message up to here: the last ones apply.
fn count(usage: &mut Object, name: String, value: Value) -> Option<()> {
    match usage.get_mut(&name) {
        None => drop(usage.insert(name, value)),
        Some(earlier) if earlier.is_null() || earlier.is_number() && value.is_number() => *earlier = value,
        Some(earlier) => return (value.is_null() || *earlier == value).then_some(()),
    }
    Some(())
}

/// A member of the message that is not known here: it must say nothing.
fn unknown(message: &mut Object, name: String, value: Value) -> Option<()> {
    if !value.is_null() {
        return None;
    }
    message.entry(name).or_insert(value);
    Some(())
}

fn take_object(of: &mut Object, name: &str) -> Option<Object> {
    match of.shift_remove(name) {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn rest_says_nothing(rest: &Object) -> Option<()> {
    rest.values().all(Value::is_null).then_some(())
}
