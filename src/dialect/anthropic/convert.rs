//! Conversion between the two forms of a message. Off the request path, so it builds values. Must never guess: blocks of server
//! tools, and any member that is not known here and says something, give `None`, and the entry serves its own form only.

mod aggregate;
#[cfg(test)]
mod tests;
mod to_events;

pub use aggregate::whole_of;
use serde_json::{Map, Value};
pub use to_events::streamed_of;

type Object = Map<String, Value>;

/// A block of content that both forms can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    ToolUse,
    Thinking,
    Redacted,
}

impl Block {
    /// The block with these members, if all of them are understood.
    fn of(members: &Object) -> Option<Block> {
        let (block, needed): (Block, &[&str]) = match members.get("type")?.as_str()? {
            "text" => (Block::Text, &["text"]),
            "tool_use" => (Block::ToolUse, &["id", "name", "input"]),
            "thinking" => (Block::Thinking, &["thinking"]),
            "redacted_thinking" => (Block::Redacted, &["data"]),
            _ => return None,
        };
        let is_understood = |(name, value): (&String, &Value)| match (block, name.as_str()) {
            (_, "type") => true,
            (Block::Text, "text") => value.is_string(),
            (Block::Text, "citations") => value.is_array() || value.is_null(),
            (Block::ToolUse, "id" | "name") => value.is_string(),
            (Block::ToolUse, "input") => value.is_object(),
            // Who calls the tool: comes with the block's start.
            (Block::ToolUse, "caller") => true,
            (Block::Thinking, "thinking" | "signature") => value.is_string(),
            (Block::Redacted, "data") => value.is_string(),
            _ => value.is_null(),
        };
        let has_all = needed.iter().all(|name| members.contains_key(*name));
        (has_all && members.iter().all(is_understood)).then_some(block)
    }
}

/// Whether it is a message of which all members are understood. Its content, its end and its usage are for the caller to judge.
fn is_message(message: &Object) -> bool {
    message.get("type").is_some_and(|kind| kind == "message")
        && message.get("role").is_some_and(|role| role == "assistant")
        && message.iter().all(|(name, value)| match name.as_str() {
            "type" | "role" | "content" | "stop_reason" | "stop_sequence" | "usage" => true,
            "id" | "model" => value.is_string(),
            // What translated answers keep of vLLM's, llama.cpp's and others'.
            "system_fingerprint" | "timings" => true,
            _ => value.is_null(),
        })
}
