//! What a body asks for: its options, checked once, and the words of its prompt.
//! Pure. Must never guess: a member of the wrong type is a failure that names it.

use serde_json::Value;

use super::reply::Failure;

/// Most choices a request may ask for; each is built in memory.
const CHOICES: u64 = 8;

/// Most bytes of text that count as the prompt's own words in an answer.
const EXCERPT_BYTES: usize = 80;

/// The options that chat and legacy completions share.
pub struct Options {
    pub form: Form,
    pub usage: UsageEvent,
    pub choices: usize,
    /// Most tokens in an answer.
    pub tokens_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    NonStreaming,
    Streaming,
}

/// Whether a stream ends with a usage event (`stream_options.include_usage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageEvent {
    Sent,
    Left,
}

impl Options {
    pub fn read(body: &Value) -> Result<Options, Failure> {
        let form = if boolean(body, "stream")? { Form::Streaming } else { Form::NonStreaming };
        let usage = match body.get("stream_options") {
            None | Some(Value::Null) => UsageEvent::Left,
            Some(_) if form == Form::NonStreaming => {
                return Err(Failure::invalid("stream_options", "`stream_options` needs `stream` to be true."));
            }
            Some(options) if boolean(options, "include_usage")? => UsageEvent::Sent,
            Some(_) => UsageEvent::Left,
        };
        let choices = match number(body, "n")?.unwrap_or(1) {
            choices @ 1..=CHOICES => choices as usize,
            _ => return Err(Failure::invalid("n", format!("`n` must lie between 1 and {CHOICES}."))),
        };
        let tokens_max = match number(body, "max_completion_tokens")?.or(number(body, "max_tokens")?) {
            Some(0) => return Err(Failure::invalid("max_tokens", "`max_tokens` must be at least 1.")),
            limit => limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        };
        Ok(Options { form, usage, choices, tokens_max })
    }
}

fn boolean(body: &Value, name: &'static str) -> Result<bool, Failure> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(Failure::invalid(name, format!("`{name}` must be true or false."))),
    }
}

/// A whole number of `body`, if it has one of this name.
pub fn number(body: &Value, name: &'static str) -> Result<Option<u64>, Failure> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(value) => Ok(Some(value)),
            None => Err(Failure::invalid(name, format!("`{name}` must be a whole number, not negative."))),
        },
    }
}

/// The text of a message's content: a string, or the text parts of a list joined by spaces.
pub fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// The beginning of `text` on one line, with an ellipsis if there was more.
pub fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= EXCERPT_BYTES {
        return line;
    }
    let end = line.floor_char_boundary(EXCERPT_BYTES);
    format!("{}…", line[..end].trim_end())
}

/// The demo's stand-in for a tokenizer: one token a word.
pub fn count_tokens(text: &str) -> usize {
    text.split_whitespace().count()
}
