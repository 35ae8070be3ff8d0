//! Spans of sampled requests: made on a data core, collected there, and passed to the background core, which sends them. Plain
//! values; what they are called on the wire is OpenTelemetry's. The amount that waits is bounded: further spans are dropped and
//! counted.

use std::sync::Arc;

use crate::limits::SPANS_A_MESSAGE;

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    pub trace_id: [u8; 16],
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub parent_is: Parent,
    /// The `tracestate` of the request.
    pub trace_state: Box<str>,
    /// As in `traceparent`.
    pub flags: u8,
    pub name: Box<str>,
    pub side: Side,
    /// Microseconds since 1970.
    pub started_us: u64,
    pub ended_us: u64,
    pub attributes: Vec<(&'static str, Value)>,
    pub link: Option<Link>,
    pub status: Status,
}

/// Another span that this one has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub trace_id: [u8; 16],
    pub span: [u8; 8],
    /// As in `traceparent`.
    pub flags: u8,
}

/// Where the parent span was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    Here,
    Elsewhere,
}

/// Which side of a call it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// How it ended, as far as its side is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Unset,
    Error,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Value {
    Word(&'static str),
    Name(Arc<str>),
    Text(Box<str>),
    Words(Vec<Box<str>>),
    Number(u64),
    Seconds(f64),
    Flag(bool),
}

impl Span {
    /// Heap bytes, for the bound of messages.
    pub fn size_bytes(&self) -> u64 {
        let texts: usize = self.attributes.iter().map(|(_, value)| value.size_bytes()).sum();
        let list = self.attributes.capacity() * size_of::<(&'static str, Value)>();
        (size_of::<Span>() + self.name.len() + self.trace_state.len() + texts + list) as u64
    }

    /// Adds an attribute that is known.
    pub fn add(&mut self, name: &'static str, value: Option<Value>) {
        self.attributes.extend(value.map(|value| (name, value)));
    }
}

impl Value {
    pub fn text(bytes: &[u8]) -> Value {
        Value::Text(String::from_utf8_lossy(bytes).into())
    }

    fn size_bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Words(words) => words.iter().map(|word| word.len() + size_of::<Box<str>>()).sum(),
            Value::Word(_) | Value::Name(_) | Value::Number(_) | Value::Seconds(_) | Value::Flag(_) => 0,
        }
    }
}

/// The spans of one core that are not sent yet.
#[derive(Debug, Default)]
pub struct SpanBuffer {
    spans: Vec<Span>,
}

impl SpanBuffer {
    /// Adds one. True: they are as many as go into one message.
    pub fn push(&mut self, span: Span) -> bool {
        self.spans.push(span);
        self.spans.len() >= SPANS_A_MESSAGE
    }

    /// Takes all of them.
    pub fn take(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }
}

/// What became of spans, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    pub sent: u64,
    /// For want of room; without what data cores drop.
    pub dropped_full: u64,
    /// The receiver could not be reached, was too slow, or answered with an error.
    pub dropped_failed: u64,
    /// The receiver took the batch without them.
    pub dropped_rejected: u64,
}

/// OpenTelemetry's name of the backends' API.
pub const PROVIDER: &str = "openai";

/// OpenTelemetry's word for what is done at an endpoint, by the endpoint's own word; None for what is no inference.
pub fn operation(endpoint: &str) -> Option<&'static str> {
    match endpoint {
        "chat_completions" | "messages" | "responses" => Some("chat"),
        "completions" => Some("text_completion"),
        "embeddings" => Some("embeddings"),
        _ => None,
    }
}
