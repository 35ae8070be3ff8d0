//! A request of Anthropic's messages as one of OpenAI's chat completions.

use serde_json::{Value, json};

use super::Untranslatable;
use crate::dialect::translate::value::{
    Object, arguments_text, count, keep_rest, take, take_list, take_object, take_text, text,
};

/// Thinking budgets up to these are a low and a medium effort; OpenAI names no numbers.
const LOW_TOKENS: u64 = 4 << 10;
const MEDIUM_TOKENS: u64 = 16 << 10;
/// Longest `user` that OpenAI accepts.
const USER_CHARS: usize = 64;

/// Members of the root without a counterpart: how a prompt is cached, edited or billed.
const DROPPED: [&str; 4] = ["cache_control", "context_management", "speed", "betas"];

/// A request to count the tokens of a message as one to vLLM's `/tokenize`, which applies the model's chat template.
pub fn to_tokenizer(root: Object) -> Result<Object, Untranslatable> {
    let mut out = to_openai(root)?;
    // What else a client says has to do with the answer.
    out.retain(|name, _| matches!(name.as_str(), "model" | "messages" | "tools" | "chat_template_kwargs"));
    out.insert("add_generation_prompt".to_owned(), true.into());
    Ok(out)
}

pub fn to_openai(mut root: Object) -> Result<Object, Untranslatable> {
    for param in ["mcp_servers", "container", "inference_geo"] {
        let asked = take(&mut root, param);
        if asked.is_some_and(|asked| asked.as_array().is_none_or(|list| !list.is_empty())) {
            return Err(refused(param, "there is no counterpart"));
        }
    }
    let mut out = Object::new();
    out.extend(root.shift_remove_entry("model"));
    let mut messages = Vec::new();
    if let Some(system) = take(&mut root, "system").map(without_billing)
        && let Some(said) = joined_text(system, "system")?
    {
        messages.push(json!({"role": "system", "content": said}));
    }
    let Some(Value::Array(turns)) = root.shift_remove("messages") else {
        return Err(Untranslatable::Type { param: "messages", expected: "an array" });
    };
    for turn in turns {
        message(turn, &mut messages)?;
    }
    out.insert("messages".to_owned(), Value::Array(messages));
    if let Some(most) = take(&mut root, "max_tokens") {
        out.insert("max_completion_tokens".to_owned(), most);
    }
    if let Some(stop) = take(&mut root, "stop_sequences")
        && stop.as_array().is_none_or(|list| !list.is_empty())
    {
        out.insert("stop".to_owned(), stop);
    }
    tools(&mut root, &mut out)?;
    if let Some(user) = take_text(&mut take_object(&mut root, "metadata"), "user_id") {
        let end = user.char_indices().nth(USER_CHARS).map_or(user.len(), |(at, _)| at);
        out.insert("user".to_owned(), user[..end].into());
    }
    effort_and_format(&mut root, &mut out);
    match take_text(&mut root, "service_tier").as_deref() {
        Some("auto") => drop(out.insert("service_tier".to_owned(), "auto".into())),
        Some("standard_only") => drop(out.insert("service_tier".to_owned(), "default".into())),
        _ => {}
    }
    for name in DROPPED {
        root.shift_remove(name);
    }
    // What both know by one name, and what this gateway does not know.
    keep_rest(&mut out, root);
    Ok(out)
}

fn refused(param: &'static str, why: &'static str) -> Untranslatable {
    Untranslatable::Member { param, api: "OpenAI", why }
}

/// Claude Code's first block, which is for Anthropic's billing and another one in each request: in front of all others it would
/// defeat the prompt caches of model servers.
fn without_billing(system: Value) -> Value {
    const BILLING: &str = "x-anthropic-billing-header:";
    let is_billing = |block: &Value| block["text"].as_str().is_some_and(|text| text.starts_with(BILLING));
    match system {
        Value::Array(blocks) => blocks.into_iter().filter(|block| !is_billing(block)).collect(),
        other => other,
    }
}

fn effort_and_format(root: &mut Object, out: &mut Object) {
    let thinking = take_object(root, "thinking");
    let mut output = take_object(root, "output_config");
    let effort = match take_text(&mut output, "effort").as_deref() {
        Some("low") => Some("low"),
        Some("medium") => Some("medium"),
        Some("high" | "xhigh" | "max") => Some("high"),
        _ => None,
    };
    let by_budget = count(&thinking, "budget_tokens").filter(|_| text(&thinking, "type") == Some("enabled"));
    let by_budget = by_budget.map(|budget| {
        if budget <= LOW_TOKENS {
            "low"
        } else if budget <= MEDIUM_TOKENS {
            "medium"
        } else {
            "high"
        }
    });
    if let Some(effort) = by_budget.or(effort) {
        out.insert("reasoning_effort".to_owned(), effort.into());
    }
    let mut format = take_object(&mut output, "format");
    if format.is_empty() {
        format = take_object(root, "output_format");
    } else {
        root.shift_remove("output_format");
    }
    if text(&format, "type") == Some("json_schema")
        && let Some(schema) = take(&mut format, "schema")
    {
        let schema = json!({"name": "answer", "schema": schema, "strict": true});
        out.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": schema}));
    }
}

fn tools(root: &mut Object, out: &mut Object) -> Result<(), Untranslatable> {
    let mut tools = Vec::new();
    for tool in take_list(root, "tools") {
        let Value::Object(mut tool) = tool else {
            return Err(Untranslatable::Type { param: "tools", expected: "objects" });
        };
        if take_text(&mut tool, "type").is_some_and(|kind| kind != "custom") {
            return Err(refused("tools", "a tool of the provider's own has no counterpart"));
        }
        let mut function = Object::new();
        for name in ["name", "description"] {
            function.extend(tool.shift_remove_entry(name));
        }
        if let Some(schema) = take(&mut tool, "input_schema") {
            function.insert("parameters".to_owned(), schema);
        }
        function.extend(tool.shift_remove_entry("strict"));
        tools.push(json!({"type": "function", "function": function}));
    }
    let has_tools = !tools.is_empty();
    if has_tools {
        out.insert("tools".to_owned(), Value::Array(tools));
    }
    let mut choice = take_object(root, "tool_choice");
    if !has_tools {
        return Ok(());
    }
    let translated = match text(&choice, "type") {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => {
            let name = take(&mut choice, "name").unwrap_or_default();
            json!({"type": "function", "function": {"name": name}})
        }
        Some(_) => return Err(Untranslatable::Type { param: "tool_choice", expected: "auto, any, tool or none" }),
        None => Value::Null,
    };
    if !translated.is_null() {
        out.insert("tool_choice".to_owned(), translated);
    }
    if let Some(Value::Bool(disabled)) = choice.get("disable_parallel_tool_use") {
        out.insert("parallel_tool_calls".to_owned(), (!disabled).into());
    }
    Ok(())
}

fn message(turn: Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let Value::Object(mut turn) = turn else {
        return Err(Untranslatable::Type { param: "messages", expected: "objects" });
    };
    let role = take_text(&mut turn, "role");
    let content = turn.shift_remove("content").unwrap_or_default();
    match role.as_deref() {
        Some("user") => user(content, messages),
        Some("assistant") => assistant(content, messages),
        Some("system") => {
            let said = joined_text(content, "messages")?;
            messages.extend(said.map(|said| json!({"role": "system", "content": said})));
            Ok(())
        }
        _ => Err(Untranslatable::Type { param: "messages", expected: "the roles user and assistant" }),
    }
}

/// The results of tools become messages of their own, which have to follow the calls at once; then comes what else was said.
fn user(content: Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let blocks = match content {
        Value::Array(blocks) => blocks,
        said @ Value::String(_) => {
            messages.push(json!({"role": "user", "content": said}));
            return Ok(());
        }
        _ => return Err(Untranslatable::Type { param: "messages", expected: "text or an array as content" }),
    };
    let mut parts = Vec::new();
    for block in blocks {
        let Value::Object(mut block) = block else {
            return Err(Untranslatable::Type { param: "messages", expected: "objects as content blocks" });
        };
        if text(&block, "type") == Some("tool_result") {
            let result = tool_result(&mut block, &mut parts)?;
            messages.push(result);
        } else {
            part(block, &mut parts)?;
        }
    }
    if !parts.is_empty() {
        messages.push(json!({"role": "user", "content": plain_if_one(parts)}));
    }
    Ok(())
}

/// Pictures of a result go into the turn that follows it: a message of a tool has text only.
fn tool_result(block: &mut Object, parts: &mut Vec<Value>) -> Result<Value, Untranslatable> {
    let mut said = match take(block, "content") {
        None => String::new(),
        Some(Value::String(said)) => said,
        Some(Value::Array(inner)) => {
            let mut texts = Vec::new();
            for inner in inner {
                let Value::Object(mut inner) = inner else { continue };
                match text(&inner, "type") {
                    Some("text") => texts.extend(take_text(&mut inner, "text")),
                    // Found by a client's tool, for the model to read.
                    Some("tool_reference") => {}
                    _ => part(inner, parts)?,
                }
            }
            texts.join("\n")
        }
        Some(_) => return Err(Untranslatable::Type { param: "messages", expected: "text or blocks as tool result" }),
    };
    // There is no flag for it: the model has to read it.
    if block.get("is_error").is_some_and(|error| error == true) && !said.starts_with("Error") {
        said = if said.is_empty() { "Error".to_owned() } else { format!("Error: {said}") };
    }
    let id = take(block, "tool_use_id").unwrap_or_default();
    Ok(json!({"role": "tool", "tool_call_id": id, "content": said}))
}

/// One content block of a user's.
fn part(mut block: Object, parts: &mut Vec<Value>) -> Result<(), Untranslatable> {
    match text(&block, "type") {
        Some("text") => {
            let said = take_text(&mut block, "text");
            parts.extend(said.map(|said| json!({"type": "text", "text": said})));
        }
        Some("image") => {
            let url = source_url(take_object(&mut block, "source"))?;
            parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        Some("document") => document(block, parts)?,
        Some("search_result") => {
            let mut texts: Vec<String> =
                ["title", "source"].iter().filter_map(|name| take_text(&mut block, name)).collect();
            texts.extend(take(&mut block, "content").map_or(Ok(None), |inner| joined_text(inner, "messages"))?);
            parts.push(json!({"type": "text", "text": texts.join("\n")}));
        }
        _ => return Err(refused("messages", "a content block of this type has no counterpart")),
    }
    Ok(())
}

fn document(mut block: Object, parts: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let title = take_text(&mut block, "title");
    let mut source = take_object(&mut block, "source");
    match text(&source, "type") {
        Some("text") => {
            let said = take_text(&mut source, "data").unwrap_or_default();
            let said = title.map_or(said.clone(), |title| format!("{title}\n{said}"));
            parts.push(json!({"type": "text", "text": said}));
        }
        Some("content") => {
            parts.extend(title.map(|title| json!({"type": "text", "text": title})));
            match take(&mut source, "content") {
                Some(Value::String(said)) => parts.push(json!({"type": "text", "text": said})),
                Some(Value::Array(inner)) => {
                    for inner in inner {
                        if let Value::Object(inner) = inner {
                            part(inner, parts)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Some("base64") => {
            let name = title.unwrap_or_else(|| "document.pdf".to_owned());
            let url = source_url(source)?;
            parts.push(json!({"type": "file", "file": {"filename": name, "file_data": url}}));
        }
        _ => return Err(refused("messages", "a document has to be text, or base64 in the request itself")),
    }
    Ok(())
}

/// Where a picture or a file is, as a URL.
fn source_url(mut source: Object) -> Result<String, Untranslatable> {
    match text(&source, "type") {
        Some("base64") => {
            let media_type = take_text(&mut source, "media_type").unwrap_or_else(|| "image/png".to_owned());
            let bytes = take_text(&mut source, "data").unwrap_or_default();
            Ok(format!("data:{media_type};base64,{bytes}"))
        }
        Some("url") => Ok(take_text(&mut source, "url").unwrap_or_default()),
        _ => Err(refused("messages", "a file at the provider is not within reach; send it as base64 or by its URL")),
    }
}

fn assistant(content: Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let blocks = match content {
        Value::Array(blocks) => blocks,
        said => {
            messages.push(json!({"role": "assistant", "content": said}));
            return Ok(());
        }
    };
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for block in blocks {
        let Value::Object(mut block) = block else {
            return Err(Untranslatable::Type { param: "messages", expected: "objects as content blocks" });
        };
        match text(&block, "type") {
            Some("text") => texts.extend(take_text(&mut block, "text")),
            Some("tool_use") => {
                let arguments = arguments_text(&block.shift_remove("input").unwrap_or_default());
                let (id, name) = (take(&mut block, "id").unwrap_or_default(), take(&mut block, "name"));
                let function = json!({"name": name.unwrap_or_default(), "arguments": arguments});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            // Thoughts of earlier turns: OpenAI's API does not take them back.
            Some("thinking" | "redacted_thinking") => {}
            _ => return Err(refused("messages", "a content block of this type has no counterpart")),
        }
    }
    let said = if texts.is_empty() && !calls.is_empty() { Value::Null } else { texts.concat().into() };
    let mut message = json!({"role": "assistant", "content": said});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    messages.push(message);
    Ok(())
}

/// Text, or the texts of blocks one below the other.
fn joined_text(content: Value, param: &'static str) -> Result<Option<String>, Untranslatable> {
    let texts = match content {
        Value::String(said) => return Ok(Some(said).filter(|said| !said.is_empty())),
        Value::Array(blocks) => blocks.into_iter().map(|block| match block {
            Value::Object(mut block) if text(&block, "type") == Some("text") => {
                Ok(take_text(&mut block, "text").unwrap_or_default())
            }
            _ => Err(Untranslatable::Type { param, expected: "text blocks" }),
        }),
        _ => return Err(Untranslatable::Type { param, expected: "text or an array of text blocks" }),
    };
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    Ok(Some(texts.join("\n")).filter(|said| !said.is_empty()))
}

/// One text alone is said plainly: every server takes that.
fn plain_if_one(mut parts: Vec<Value>) -> Value {
    if let [only] = &mut parts[..]
        && only["type"] == "text"
    {
        return only["text"].take();
    }
    Value::Array(parts)
}
