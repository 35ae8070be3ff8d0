//! Conversion between the two forms of an answer. Off the request path, so it builds values. Must never guess: what
//! cannot be converted exactly gives `None`, and the entry serves its own form only.

mod aggregate;
mod to_chunks;

pub use aggregate::whole_of;
pub use to_chunks::streamed_of;

use crate::dialect::facts::Endpoint;
use serde_json::{Map, Value};

/// A non-streaming answer converted to events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// A sequence of `data: ...` events, without usage and terminal event.
    pub events: Vec<u8>,
    /// The usage event, for clients that asked for it; `None` if the answer has no usage.
    pub usage_event: Option<Vec<u8>>,
}

/// The two endpoints whose answers have two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Text,
}

impl Shape {
    fn of(endpoint: Endpoint) -> Option<Shape> {
        match endpoint {
            Endpoint::ChatCompletions => Some(Shape::Chat),
            Endpoint::Completions => Some(Shape::Text),
            Endpoint::Embeddings | Endpoint::Messages | Endpoint::Responses | Endpoint::Models | Endpoint::Other => {
                None
            }
        }
    }

    /// The `object` member of a non-streaming answer.
    fn whole_object(self) -> &'static str {
        match self {
            Shape::Chat => "chat.completion",
            Shape::Text => "text_completion",
        }
    }

    /// The `object` member of a chunk.
    fn chunk_object(self) -> &'static str {
        match self {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        }
    }
}

/// Parses an object, preserving the order of its members and the spelling of its numbers.
pub fn object_of(bytes: &[u8]) -> Option<Map<String, Value>> {
    // The parser marks numbers internally with a member of this name; an answer that contains it would not round-trip.
    if memchr::memmem::find(bytes, b"$serde_json::private::").is_some() {
        return None;
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}
