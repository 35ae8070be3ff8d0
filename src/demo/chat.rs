//! `/v1/chat/completions`: an answer in words or a tool call, whole or streamed.
//! Pure but for the date. Both forms must say the same.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::prompt::{Form, Options, UsageEvent, content_text, count_tokens};
use super::reply::{Failure, Reply};
use super::routes::Call;
use super::text;
use super::tools::{self, ToolCall};

/// What the model says: words, or a call.
enum Said {
    Words { tokens: Vec<String>, finish: &'static str },
    Tool(ToolCall),
}

/// Answers one chat request.
///
/// # Errors
/// When a member is missing or of the wrong type.
pub fn answer(call: &Call) -> Result<Reply, Failure> {
    let options = Options::read(&call.body)?;
    let messages = match call.body.get("messages").and_then(Value::as_array) {
        Some(messages) if !messages.is_empty() => messages,
        _ => return Err(Failure::invalid("messages", "`messages` must be a list with at least one message.")),
    };
    if messages.iter().any(|message| message.get("role").and_then(Value::as_str).is_none()) {
        return Err(Failure::invalid("messages", "Each message must have a `role`."));
    }
    let said = say(call, messages, &options);
    let prompt_tokens: usize = messages.iter().map(|message| count_tokens(&content_text(message.get("content")))).sum();
    let completion_tokens = options.choices * said.tokens();
    let usage = usage(prompt_tokens, completion_tokens);
    let frame = Frame { id: format!("chatcmpl-demo-{}", call.number), created: now(), model: &call.model };
    Ok(match options.form {
        Form::NonStreaming => Reply::Whole { status: 200, body: frame.whole(&said, &options, usage), pace: call.pace },
        Form::Streaming => Reply::Stream { events: frame.events(&said, &options, usage), pace: call.pace },
    })
}

fn say(call: &Call, messages: &[Value], options: &Options) -> Said {
    let last = &messages[messages.len() - 1];
    let asked = content_text(last.get("content"));
    if last["role"] == "user"
        && let Some(tool) = tools::choose(&call.body, &asked, call.number)
    {
        return Said::Tool(tool);
    }
    let text = match last["role"].as_str() {
        Some("tool") => format!("The tool said: {} That is all I needed; yours is call number {}.", asked, call.number),
        _ => text::answer(&asked, call.number),
    };
    let mut tokens: Vec<String> = text::tokens(&text).into_iter().map(str::to_owned).collect();
    let finish = if tokens.len() > options.tokens_max { "length" } else { "stop" };
    tokens.truncate(options.tokens_max);
    Said::Words { tokens, finish }
}

impl Said {
    fn tokens(&self) -> usize {
        match self {
            Said::Words { tokens, .. } => tokens.len(),
            Said::Tool(call) => 1 + call.pieces().len(),
        }
    }

    fn finish(&self) -> &'static str {
        match self {
            Said::Words { finish, .. } => finish,
            Said::Tool(_) => "tool_calls",
        }
    }
}

/// What every form of an answer repeats.
struct Frame<'a> {
    id: String,
    created: u64,
    model: &'a str,
}

impl Frame<'_> {
    fn whole(&self, said: &Said, options: &Options, usage: Value) -> Value {
        let message = match said {
            Said::Words { tokens, .. } => json!({"role": "assistant", "content": tokens.concat(), "refusal": null}),
            Said::Tool(call) => {
                json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call.whole()]})
            }
        };
        let choice =
            |index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": said.finish()});
        let choices: Vec<Value> = (0..options.choices).map(choice).collect();
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": choices, "usage": usage, "system_fingerprint": "fp_ringway_demo",
        })
    }

    fn events(&self, said: &Said, options: &Options, usage: Value) -> Vec<Value> {
        let deltas = match said {
            Said::Words { tokens, .. } => {
                let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
                deltas.extend(tokens.iter().map(|token| json!({ "content": token })));
                deltas
            }
            Said::Tool(call) => {
                let mut deltas = vec![
                    json!({"role": "assistant", "content": null, "tool_calls": [call.opening()], "refusal": null}),
                ];
                deltas.extend(
                    call.pieces()
                        .iter()
                        .map(|piece| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})),
                );
                deltas
            }
        };
        let mut events = Vec::new();
        for delta in &deltas {
            events.extend((0..options.choices).map(|index| self.event(index, delta, None, options)));
        }
        let nothing = json!({});
        events.extend((0..options.choices).map(|index| self.event(index, &nothing, Some(said.finish()), options)));
        if options.usage == UsageEvent::Sent {
            let mut last = self.chunk(json!([]));
            last["usage"] = usage;
            events.push(last);
        }
        events
    }

    fn event(&self, index: usize, delta: &Value, finish: Option<&str>, options: &Options) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
        let mut event = self.chunk(json!([choice]));
        if options.usage == UsageEvent::Sent {
            event["usage"] = Value::Null; // OpenAI sends it so on every event but the last
        }
        event
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": "fp_ringway_demo", "choices": choices,
        })
    }
}

/// The usage object of an answer.
pub fn usage(prompt_tokens: usize, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

/// Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
