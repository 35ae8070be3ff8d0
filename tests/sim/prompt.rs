//! Prompts and the only right answer to each. An answer names the upstream call it came from, so that a client can tell
//! that every byte it got was meant for its own prompt, and from which call.

use serde_json::{Value, json};

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    NonStreaming,
    /// With or without the usage event.
    Streaming {
        usage: bool,
    },
}

/// A prompt whose streamed answer is longer than the window of one stream of HTTP/2.
pub const LONG: u64 = 9999;

/// The words of the answer to prompt `number`.
pub fn words(number: u64) -> Vec<String> {
    let count = match number % 10 {
        _ if number == LONG => 2500,
        8 => 600,
        9 => 200,
        short => 1 + short * 3,
    };
    (0..count).map(|index| format!("q{number}w{index} ")).collect()
}

/// What prompt `number` looks like from a client: the same prompt in other spellings, chosen by `spelling`.
pub fn request_body(number: u64, form: Form, spelling: u64) -> Vec<u8> {
    let space = ["", " ", "\n  "][(spelling % 3) as usize];
    let mut members = vec![
        format!("\"model\":{space}\"m\""),
        format!("\"messages\":{space}[{{\"role\":\"user\",{space}\"content\":\"prompt {number}\"}}]"),
        format!("\"temperature\":{}", ["0.5", "5e-1", "0.50"][(spelling / 3 % 3) as usize]),
    ];
    match form {
        Form::NonStreaming if (spelling / 9).is_multiple_of(2) => members.push("\"stream\":false".to_owned()),
        Form::NonStreaming => {}
        Form::Streaming { usage } => {
            members.push("\"stream\":true".to_owned());
            if usage {
                members.push("\"stream_options\":{\"include_usage\":true}".to_owned());
            }
        }
    }
    let turn = (spelling / 18) as usize % members.len();
    members.rotate_left(turn);
    format!("{{{space}{}{space}}}", members.join(&format!(",{space}"))).into_bytes()
}

/// What a backend reads from a request's body: number, whether streamed, whether with usage.
pub fn read_request(body: &[u8]) -> (u64, Form) {
    let value: Value = serde_json::from_slice(body).expect("a backend gets JSON");
    assert_eq!(value["model"], "real-m", "the model is renamed for the backend");
    let text = value["messages"][0]["content"].as_str().expect("a backend gets the prompt");
    let number = text.strip_prefix("prompt ").and_then(|digits| digits.parse().ok()).expect("the whole prompt");
    let form = match value["stream"].as_bool() {
        Some(true) => Form::Streaming { usage: value["stream_options"]["include_usage"] == true },
        _ => Form::NonStreaming,
    };
    (number, form)
}

fn usage(words: usize) -> Value {
    json!({"prompt_tokens": 3, "completion_tokens": words, "total_tokens": words + 3})
}

/// The whole answer of call `call`; the first `count` words of it.
pub fn whole_answer(number: u64, call: usize, count: usize, finish: &str) -> Vec<u8> {
    let words = words(number);
    let content: String = words[..count.min(words.len())].concat();
    let message = json!({"role": "assistant", "content": content});
    json!({
        "id": format!("call-{call}"), "object": "chat.completion", "created": 7, "model": "real-m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage(count),
    })
    .to_string()
    .into_bytes()
}

/// Where a provider puts the usage of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsagePlace {
    Own,
    /// On the chunk that ends the answer.
    Last,
    InChoice,
    WithoutChoices,
    /// A growing one on each chunk.
    Each,
}

/// By the call's number, so that it is the same whenever it is asked.
fn usage_place(call: usize) -> UsagePlace {
    use UsagePlace::*;
    [Own, Last, InChoice, Own, WithoutChoices, Each][call % 6]
}

/// Longer than a buffer of the gateway.
const HUGE_BYTES: usize = 70 << 10;

/// The events of a streamed answer, one item an event, without `[DONE]`.
pub fn events(number: u64, call: usize, count: usize, finish: &str, with_usage: bool) -> Vec<Vec<u8>> {
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut value = json!({
            "id": format!("call-{call}"), "object": "chat.completion.chunk", "created": 7, "model": "real-m",
            "choices": choices,
        });
        match usage {
            Some(usage) => value["usage"] = usage,
            None if with_usage && call.is_multiple_of(2) => value["usage"] = Value::Null,
            None => {}
        }
        if choices == Value::Null {
            value.as_object_mut().map(|members| members.remove("choices"));
        }
        let text = value.to_string();
        // Some tell a member twice.
        let text = if call % 5 == 1 { text.replacen("\"created\":7", "\"created\":7,\"created\":7", 1) } else { text };
        format!("data: {text}\n\n").into_bytes()
    };
    let place = usage_place(call);
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let counting = |words: usize| (with_usage && place == UsagePlace::Each).then(|| usage(words));
    let words = words(number);
    let mut events = vec![chunk(delta(json!({"role": "assistant", "content": ""}), Value::Null), None)];
    if call % 16 == 5 {
        events.push(
            format!(
                "data: {}\n\n",
                json!({
                    "id": format!("call-{call}"), "object": "chat.completion.chunk", "created": 7, "model": "real-m",
                    "choices": [], "pad": "x".repeat(HUGE_BYTES),
                })
            )
            .into_bytes(),
        );
    }
    for (index, word) in words[..count.min(words.len())].iter().enumerate() {
        events.push(chunk(delta(json!({"content": word}), Value::Null), counting(index)));
    }
    let mut end = delta(json!({}), json!(finish));
    if with_usage && place == UsagePlace::InChoice {
        end[0]["usage"] = usage(count);
    }
    let last = with_usage && matches!(place, UsagePlace::Last | UsagePlace::Each);
    events.push(chunk(end, last.then(|| usage(count))));
    match place {
        UsagePlace::Own if with_usage => events.push(chunk(json!([]), Some(usage(count)))),
        UsagePlace::WithoutChoices if with_usage => events.push(chunk(Value::Null, Some(usage(count)))),
        _ => {}
    }
    events
}

/// What a client finds in an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub call: Option<usize>,
    pub content: String,
    pub finish: Option<String>,
    pub usage: Option<Value>,
    /// `[DONE]` came.
    pub done: bool,
    /// An error object came.
    pub error: Option<Value>,
}

fn call_of(value: &Value) -> Option<usize> {
    value["id"].as_str().and_then(|id| id.strip_prefix("call-")).and_then(|digits| digits.parse().ok())
}

/// Reads a whole answer; none if it is not JSON.
pub fn read_whole(body: &[u8]) -> Option<Found> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let choice = &value["choices"][0];
    Some(Found {
        call: call_of(&value),
        content: choice["message"]["content"].as_str().unwrap_or_default().to_owned(),
        finish: choice["finish_reason"].as_str().map(str::to_owned),
        usage: value.get("usage").filter(|usage| !usage.is_null()).cloned(),
        done: true,
        error: value.get("error").cloned(),
    })
}

/// Reads the events that have come whole. Panics on an event that is none, and on events of several calls.
pub fn read_events(body: &[u8]) -> Found {
    let mut found = Found::default();
    let text = std::str::from_utf8(body).expect("events are text");
    let mut parts: Vec<&str> = text.split("\n\n").collect();
    parts.pop(); // what stands behind the last blank line is no event yet
    for part in parts {
        if part.starts_with(':') {
            continue;
        }
        assert!(!found.done, "an event behind [DONE]: {part:?}");
        let data = part.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {part:?}"));
        if data == "[DONE]" {
            found.done = true;
            continue;
        }
        let value: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("an event is JSON: {data:?}"));
        if let Some(error) = value.get("error") {
            found.error = Some(error.clone());
            continue;
        }
        assert!(found.error.is_none(), "an event behind an error: {data:?}");
        let call = call_of(&value);
        assert!(found.call.is_none() || found.call == call, "two calls in one stream: {:?} and {call:?}", found.call);
        found.call = call;
        if let Some(usage) = value.get("usage").filter(|usage| !usage.is_null()) {
            assert!(found.usage.is_none(), "usage comes once: {data:?}");
            assert_eq!(value["choices"], json!([]), "and in its place: {data:?}");
            found.usage = Some(usage.clone());
        }
        assert!(value["choices"][0].get("usage").is_none(), "usage in a choice: {data:?}");
        let choice = &value["choices"][0];
        found.content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        if let Some(finish) = choice["finish_reason"].as_str() {
            found.finish = Some(finish.to_owned());
        }
    }
    found
}
