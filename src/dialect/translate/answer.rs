//! Whole answers, both ways, and what they share with streams: why an answer ended, and its usage.

use serde_json::{Value, json};

use super::value::{
    Object, arguments, arguments_text, call_id, count, keep_rest, take, take_list, take_object, take_text, text,
};

/// An answer of OpenAI's chat completions as a message of Anthropic's.
pub fn to_anthropic(mut root: Object) -> Option<Object> {
    let choices = take_list(&mut root, "choices");
    let Some(Value::Object(mut choice)) = choices.into_iter().next() else { return None };
    let mut message = take_object(&mut choice, "message");
    let mut content = Vec::new();
    if let Some(thought) = thought(&mut message) {
        content.push(json!({"type": "thinking", "thinking": thought, "signature": ""}));
    }
    let said = match take(&mut message, "content") {
        Some(Value::String(said)) => Some(said),
        Some(Value::Array(parts)) => Some(parts.into_iter().filter_map(part_text).collect::<String>()),
        _ => None,
    };
    content.extend(said.filter(|said| !said.is_empty()).map(|said| json!({"type": "text", "text": said})));
    let refusal = take_text(&mut message, "refusal");
    let is_refusal = refusal.is_some();
    content.extend(refusal.map(|said| json!({"type": "text", "text": said})));
    let calls = take_list(&mut message, "tool_calls");
    let calls_tools = !calls.is_empty();
    for call in calls {
        let Value::Object(mut call) = call else { continue };
        let mut function = take_object(&mut call, "function");
        let input = match take(&mut function, "arguments") {
            Some(Value::String(written)) => arguments(&written),
            Some(input @ Value::Object(_)) => input,
            _ => json!({}),
        };
        let id = call_id(&take_text(&mut call, "id").unwrap_or_default());
        let name = take(&mut function, "name").unwrap_or_default();
        content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
    }
    let finish = take_text(&mut choice, "finish_reason").unwrap_or_default();
    let sequence = stop_sequence(&finish, &mut choice);
    let reason = stop_reason(&finish, sequence.is_some(), calls_tools, is_refusal);
    let usage = take_object(&mut root, "usage");
    let mut out = Object::new();
    out.insert("id".to_owned(), take(&mut root, "id").unwrap_or_default());
    out.insert("type".to_owned(), "message".into());
    out.insert("role".to_owned(), "assistant".into());
    out.insert("model".to_owned(), take(&mut root, "model").unwrap_or_default());
    out.insert("content".to_owned(), Value::Array(content));
    out.insert("stop_reason".to_owned(), reason);
    out.insert("stop_sequence".to_owned(), sequence.into());
    out.insert("usage".to_owned(), usage_to_anthropic(&usage).into());
    for known in ["object", "created", "service_tier"] {
        root.shift_remove(known);
    }
    keep_rest(&mut out, root);
    Some(out)
}

/// The count of vLLM's tokenizer as one of Anthropic's API.
pub fn counted(root: &Object) -> Option<Object> {
    let count = count(root, "count")?;
    Some(Object::from_iter([("input_tokens".to_owned(), count.into())]))
}

/// A message of Anthropic's as an answer of OpenAI's chat completions.
pub fn to_openai(mut root: Object, created: u64) -> Option<Object> {
    if text(&root, "type") != Some("message") {
        return None;
    }
    let Some(Value::Array(blocks)) = root.shift_remove("content") else { return None };
    let (mut said, mut thought, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new(), Vec::new());
    let mut has_said = false;
    for block in blocks {
        let Value::Object(mut block) = block else { continue };
        match text(&block, "type") {
            Some("text") => {
                has_said = true;
                said.push_str(&take_text(&mut block, "text").unwrap_or_default());
            }
            Some("thinking") => {
                thought.push_str(text(&block, "thinking").unwrap_or_default());
                thoughts.push(Value::Object(block));
            }
            Some("redacted_thinking") => thoughts.push(Value::Object(block)),
            Some("tool_use") => {
                let arguments = arguments_text(&block.shift_remove("input").unwrap_or_default());
                let (id, name) = (take(&mut block, "id"), take(&mut block, "name"));
                let function = json!({"name": name.unwrap_or_default(), "arguments": arguments});
                calls.push(json!({"id": id.unwrap_or_default(), "type": "function", "function": function}));
            }
            // What the provider's own tools did on the way.
            _ => {}
        }
    }
    let mut message = Object::from_iter([("role".to_owned(), "assistant".into())]);
    message.insert("content".to_owned(), if has_said { said.into() } else { Value::Null });
    message.insert("refusal".to_owned(), Value::Null);
    if !thought.is_empty() {
        message.insert("reasoning_content".to_owned(), thought.into());
    }
    if !thoughts.is_empty() {
        message.insert("thinking_blocks".to_owned(), Value::Array(thoughts));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    let mut choice = json!({"index": 0, "message": message, "logprobs": null});
    choice["finish_reason"] = finish_reason(root.shift_remove("stop_reason").unwrap_or_default());
    if let Some(sequence) = take(&mut root, "stop_sequence") {
        choice["stop_reason"] = sequence;
    }
    root.shift_remove("stop_sequence");
    let usage = take_object(&mut root, "usage");
    let mut out = Object::new();
    out.insert("id".to_owned(), take(&mut root, "id").unwrap_or_default());
    out.insert("object".to_owned(), "chat.completion".into());
    out.insert("created".to_owned(), created.into());
    out.insert("model".to_owned(), take(&mut root, "model").unwrap_or_default());
    out.insert("choices".to_owned(), Value::Array(vec![choice]));
    out.insert("usage".to_owned(), usage_to_openai(&usage).into());
    out.extend(service_tier(&usage));
    for known in ["type", "role"] {
        root.shift_remove(known);
    }
    keep_rest(&mut out, root);
    Some(out)
}

/// What a message or a delta says of the model's thoughts: servers call it by two names.
pub fn thought(message: &mut Object) -> Option<String> {
    let one = take_text(message, "reasoning_content");
    one.or_else(|| take_text(message, "reasoning"))
}

fn part_text(part: Value) -> Option<String> {
    match part {
        Value::Object(mut part) => take_text(&mut part, "text"),
        _ => None,
    }
}

/// The sequence that ended an answer, where the server says which: vLLM's member.
pub fn stop_sequence(finish: &str, choice: &mut Object) -> Option<String> {
    take_text(choice, "stop_reason").filter(|_| finish == "stop")
}

/// `stop_reason` for OpenAI's `finish_reason`. An unknown one stays as it is: nobody may take it for a good end.
pub fn stop_reason(finish: &str, has_sequence: bool, calls_tools: bool, is_refusal: bool) -> Value {
    match finish {
        "" => Value::Null,
        "length" => "max_tokens".into(),
        "content_filter" => "refusal".into(),
        "tool_calls" | "function_call" => "tool_use".into(),
        // Some servers say so after calls that they were told to make.
        "stop" if calls_tools => "tool_use".into(),
        "stop" if is_refusal => "refusal".into(),
        "stop" if has_sequence => "stop_sequence".into(),
        "stop" => "end_turn".into(),
        other => other.into(),
    }
}

/// `finish_reason` for Anthropic's `stop_reason`; an unknown one stays.
pub fn finish_reason(stop: Value) -> Value {
    let word = match stop.as_str() {
        Some("end_turn" | "stop_sequence") => "stop",
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("tool_use") => "tool_calls",
        Some("refusal") => "content_filter",
        _ => return stop,
    };
    word.into()
}

/// Anthropic counts what was read from and written to its cache apart from the other input, OpenAI within.
pub fn usage_to_openai(usage: &Object) -> Object {
    let of = |name: &str| count(usage, name).unwrap_or(0);
    let (read, written) = (of("cache_read_input_tokens"), of("cache_creation_input_tokens"));
    let prompt = of("input_tokens").saturating_add(read).saturating_add(written);
    let completion = of("output_tokens");
    let mut out = Object::new();
    out.insert("prompt_tokens".to_owned(), prompt.into());
    out.insert("completion_tokens".to_owned(), completion.into());
    out.insert("total_tokens".to_owned(), prompt.saturating_add(completion).into());
    let mut details = json!({"cached_tokens": read});
    if written > 0 {
        details["cache_creation_tokens"] = written.into();
    }
    out.insert("prompt_tokens_details".to_owned(), details);
    out
}

/// The other way. Reasoning is counted within the answer on both sides, and has no name of its own here.
pub fn usage_to_anthropic(usage: &Object) -> Object {
    let details = usage.get("prompt_tokens_details").and_then(Value::as_object);
    let of_details = |name: &str| details.and_then(|details| count(details, name)).unwrap_or(0);
    let prompt = count(usage, "prompt_tokens").unwrap_or(0);
    let read = of_details("cached_tokens").min(prompt);
    let written = of_details("cache_creation_tokens").max(of_details("cache_write_tokens")).min(prompt - read);
    let mut out = Object::new();
    out.insert("input_tokens".to_owned(), (prompt - read - written).into());
    out.insert("cache_creation_input_tokens".to_owned(), written.into());
    out.insert("cache_read_input_tokens".to_owned(), read.into());
    out.insert("output_tokens".to_owned(), count(usage, "completion_tokens").unwrap_or(0).into());
    out
}

/// OpenAI's tier for the one that a usage of Anthropic's names.
pub fn service_tier(usage: &Object) -> Option<(String, Value)> {
    let tier = match text(usage, "service_tier")? {
        "standard" => "default",
        other => other,
    };
    Some(("service_tier".to_owned(), tier.into()))
}
