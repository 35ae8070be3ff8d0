//! A request of OpenAI's chat completions as one of Anthropic's messages.

use serde_json::{Value, json};

use super::Untranslatable;
use crate::dialect::translate::Settings;
use crate::dialect::translate::value::{
    Object, arguments, call_id, keep_rest, take, take_list, take_object, take_text, text,
};

/// Members of the root without a counterpart: they shape the choice of tokens, or are about the provider's own business.
const DROPPED: [&str; 16] = [
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "seed",
    "stream_options",
    "store",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "verbosity",
    "logprobs",
    "top_logprobs",
    "modalities",
    "n",
    "safety_identifier",
];

/// Budgets of thinking for OpenAI's efforts. Anthropic's least is 1,024.
const LEAST_BUDGET: u64 = 1 << 10;
const BUDGETS: [(&str, u64); 4] = [("low", LEAST_BUDGET), ("medium", 4 << 10), ("high", 16 << 10), ("xhigh", 32 << 10)];

/// What a model is told that is asked for JSON in no certain shape.
const JSON_ONLY: &str = "Answer with one JSON object and nothing else: no text around it, no code fence.";

pub fn to_anthropic(mut root: Object, settings: Settings) -> Result<Object, Untranslatable> {
    refuse_what_has_no_place(&root)?;
    let mut out = Object::new();
    out.extend(root.shift_remove_entry("model"));
    let most = take(&mut root, "max_completion_tokens");
    let most = most.or(take(&mut root, "max_tokens")).map_or(Ok(None), |most| match most.as_u64() {
        Some(most) => Ok(Some(most)),
        None => Err(Untranslatable::Type { param: "max_tokens", expected: "a whole number" }),
    })?;
    root.shift_remove("max_tokens");
    let thinking = thinking(&mut root, most);
    // A budget stands inside of the answer's bound.
    let most = most.unwrap_or(settings.answer_tokens.saturating_add(thinking.unwrap_or(0)));
    out.insert("max_tokens".to_owned(), most.into());
    let Some(Value::Array(said)) = root.shift_remove("messages") else {
        return Err(Untranslatable::Type { param: "messages", expected: "an array" });
    };
    let mut turns = Turns::default();
    for message in said {
        turns.message(message)?;
    }
    let mut output = take_object(&mut root, "output_config");
    format(&mut root, &mut output, &mut turns)?;
    if !output.is_empty() {
        out.insert("output_config".to_owned(), output.into());
    }
    let Turns { mut system, messages } = turns;
    if !system.is_empty() {
        let system = match &mut system[..] {
            [only] => only["text"].take(),
            _ => Value::Array(system),
        };
        out.insert("system".to_owned(), system);
    }
    out.insert("messages".to_owned(), Value::Array(messages.into_iter().map(Value::Object).collect()));
    if let Some(stop) = take(&mut root, "stop") {
        out.insert("stop_sequences".to_owned(), if stop.is_string() { json!([stop]) } else { stop });
    }
    sampling(&mut root, thinking.is_some(), &mut out);
    tools(&mut root, &mut out)?;
    let user = take_text(&mut root, "user").or_else(|| take_text(&mut root, "safety_identifier"));
    if let Some(user) = user {
        out.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
    match take_text(&mut root, "service_tier").as_deref() {
        Some("auto") => drop(out.insert("service_tier".to_owned(), "auto".into())),
        Some("default" | "standard_only") => drop(out.insert("service_tier".to_owned(), "standard_only".into())),
        _ => {}
    }
    if let Some(budget) = thinking {
        out.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": budget}));
    }
    for name in DROPPED {
        root.shift_remove(name);
    }
    // What both know by one name, and what this gateway does not know.
    keep_rest(&mut out, root);
    Ok(out)
}

fn refused(param: &'static str, why: &'static str) -> Untranslatable {
    Untranslatable::Member { param, api: "Anthropic", why }
}

/// What asks for something in the answer that cannot be there.
fn refuse_what_has_no_place(root: &Object) -> Result<(), Untranslatable> {
    let is_set = |name: &str| root.get(name).is_some_and(|value| !value.is_null() && *value != false && *value != 0);
    if root.get("n").is_some_and(|n| !n.is_null() && n.as_u64() != Some(1)) {
        return Err(refused("n", "there is one answer to a request; send several requests"));
    }
    for param in ["logprobs", "top_logprobs"] {
        if is_set(param) {
            return Err(refused(param, "answers have no log probabilities"));
        }
    }
    let only_text = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(|kind| kind == "text"));
    if root.get("modalities").is_some_and(|list| !list.is_null() && !only_text(list)) || is_set("audio") {
        return Err(refused("modalities", "answers are text"));
    }
    for param in ["functions", "function_call"] {
        if is_set(param) {
            return Err(refused(param, "use tools and tool_choice"));
        }
    }
    if is_set("web_search_options") {
        return Err(refused("web_search_options", "there is no counterpart"));
    }
    Ok(())
}

/// The budget that OpenAI's effort stands for, unless the client has set one in Anthropic's own words.
fn thinking(root: &mut Object, most: Option<u64>) -> Option<u64> {
    let effort = take_text(root, "reasoning_effort")?;
    if root.contains_key("thinking") {
        return None;
    }
    let budget = BUDGETS.iter().find(|(word, _)| *word == effort).map(|(_, budget)| *budget)?;
    // Below the bound of the answer, and not below the least there is.
    let budget = most.map_or(budget, |most| budget.min(most.saturating_sub(1)));
    (budget >= LEAST_BUDGET).then_some(budget)
}

/// With thinking on, Anthropic's API takes no other temperature than its default.
fn sampling(root: &mut Object, is_thinking: bool, out: &mut Object) {
    if is_thinking {
        for name in ["temperature", "top_p", "top_k"] {
            root.shift_remove(name);
        }
    }
    if let Some(temperature) = take(root, "temperature") {
        let is_hotter = temperature.as_f64().is_some_and(|degrees| degrees > 1.0);
        out.insert("temperature".to_owned(), if is_hotter { 1.into() } else { temperature });
    }
}

fn format(root: &mut Object, output: &mut Object, turns: &mut Turns) -> Result<(), Untranslatable> {
    let mut format = take_object(root, "response_format");
    match take_text(&mut format, "type").as_deref() {
        None | Some("text") => {}
        Some("json_object") => turns.system.push(json!({"type": "text", "text": JSON_ONLY})),
        Some("json_schema") => {
            let schema = take(&mut take_object(&mut format, "json_schema"), "schema");
            let schema =
                schema.ok_or(Untranslatable::Type { param: "response_format", expected: "a schema in json_schema" })?;
            output.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
        }
        Some(_) => return Err(refused("response_format", "there is no counterpart of this type")),
    }
    Ok(())
}

fn tools(root: &mut Object, out: &mut Object) -> Result<(), Untranslatable> {
    let mut tools = Vec::new();
    for tool in take_list(root, "tools") {
        let Value::Object(mut tool) = tool else {
            return Err(Untranslatable::Type { param: "tools", expected: "objects" });
        };
        if text(&tool, "type") != Some("function") {
            return Err(refused("tools", "a tool of another type than function has no counterpart"));
        }
        let mut function = take_object(&mut tool, "function");
        let mut translated = Object::new();
        for name in ["name", "description"] {
            translated.extend(function.shift_remove_entry(name).filter(|(_, value)| !value.is_null()));
        }
        let schema = take(&mut function, "parameters").filter(|schema| schema.is_object());
        let schema = schema.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        translated.insert("input_schema".to_owned(), schema);
        translated.extend(function.shift_remove_entry("strict").filter(|(_, value)| !value.is_null()));
        // A mark of Anthropic's that some clients set here.
        translated.extend(tool.shift_remove_entry("cache_control"));
        tools.push(Value::Object(translated));
    }
    let has_tools = !tools.is_empty();
    if has_tools {
        out.insert("tools".to_owned(), Value::Array(tools));
    }
    let parallel = take(root, "parallel_tool_calls");
    let choice = match take(root, "tool_choice") {
        None => None,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Some(json!({"type": "auto"})),
            "required" => Some(json!({"type": "any"})),
            "none" => Some(json!({"type": "none"})),
            _ => {
                return Err(Untranslatable::Type {
                    param: "tool_choice",
                    expected: "auto, required, none or a function",
                });
            }
        },
        Some(Value::Object(mut named)) if text(&named, "type") == Some("function") => {
            let name = take(&mut take_object(&mut named, "function"), "name").unwrap_or_default();
            Some(json!({"type": "tool", "name": name}))
        }
        Some(_) => return Err(refused("tool_choice", "there is no counterpart of this type")),
    };
    if !has_tools {
        return Ok(());
    }
    let mut choice = choice;
    if let Some(Value::Bool(parallel)) = parallel {
        let choice = choice.get_or_insert_with(|| json!({"type": "auto"}));
        if choice["type"] != "none" {
            choice["disable_parallel_tool_use"] = (!parallel).into();
        }
    }
    out.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    Ok(())
}

/// The turns of a conversation as Anthropic's API has them.
#[derive(Default)]
struct Turns {
    system: Vec<Value>,
    messages: Vec<Object>,
}

impl Turns {
    fn message(&mut self, message: Value) -> Result<(), Untranslatable> {
        let Value::Object(mut message) = message else {
            return Err(Untranslatable::Type { param: "messages", expected: "objects" });
        };
        let role = take_text(&mut message, "role");
        let content = message.shift_remove("content").unwrap_or_default();
        match role.as_deref() {
            Some("system" | "developer") => {
                let blocks = blocks(content)?;
                self.system.extend(blocks);
            }
            Some("user") => {
                let blocks = blocks(content)?;
                self.add("user", blocks);
            }
            Some("tool") => {
                let id = take_text(&mut message, "tool_call_id").unwrap_or_default();
                let mut result = json!({"type": "tool_result", "tool_use_id": call_id(&id)});
                let mut blocks = blocks(content)?;
                match &mut blocks[..] {
                    [] => {}
                    [only] if only["type"] == "text" && only.get("cache_control").is_none() => {
                        result["content"] = only["text"].take();
                    }
                    _ => result["content"] = Value::Array(blocks),
                }
                self.add("user", vec![result]);
            }
            Some("assistant") => {
                let blocks = assistant(message, content)?;
                self.add("assistant", blocks);
            }
            Some("function") => {
                return Err(refused("messages", "results of functions are those of tools; use the role tool"));
            }
            _ => {
                let expected = "the roles system, developer, user, assistant and tool";
                return Err(Untranslatable::Type { param: "messages", expected });
            }
        }
        Ok(())
    }

    /// Several messages in a row of one side are one turn: the results of parallel calls have to stand together.
    fn add(&mut self, role: &str, mut blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        if let Some(last) = self.messages.last_mut()
            && text(last, "role") == Some(role)
            && let Some(content) = last.get_mut("content")
        {
            match content {
                Value::Array(before) => before.append(&mut blocks),
                before => {
                    let said = json!({"type": "text", "text": before.take()});
                    blocks.insert(0, said);
                    *before = Value::Array(blocks);
                }
            }
            return;
        }
        let content = match &mut blocks[..] {
            [only] if only["type"] == "text" && only.as_object().is_some_and(|only| only.len() == 2) => {
                only["text"].take()
            }
            _ => Value::Array(blocks),
        };
        let turn = [("role".to_owned(), role.into()), ("content".to_owned(), content)];
        self.messages.push(Object::from_iter(turn));
    }
}

fn assistant(mut message: Object, content: Value) -> Result<Vec<Value>, Untranslatable> {
    if message.get("function_call").is_some_and(|call| !call.is_null()) {
        return Err(refused("messages", "calls of functions are those of tools; use tool_calls"));
    }
    // As an answer of this gateway had them: signed, in Anthropic's own words.
    let mut said = take_list(&mut message, "thinking_blocks");
    said.extend(blocks(content)?);
    let refusal = take_text(&mut message, "refusal");
    said.extend(refusal.map(|refusal| json!({"type": "text", "text": refusal})));
    for call in take_list(&mut message, "tool_calls") {
        let Value::Object(mut call) = call else {
            return Err(Untranslatable::Type { param: "messages", expected: "objects as tool_calls" });
        };
        let mut function = take_object(&mut call, "function");
        let id = take_text(&mut call, "id").unwrap_or_default();
        let name = take(&mut function, "name").unwrap_or_default();
        let input = match take(&mut function, "arguments") {
            Some(Value::String(written)) => arguments(&written),
            Some(input @ Value::Object(_)) => input,
            _ => json!({}),
        };
        said.push(json!({"type": "tool_use", "id": call_id(&id), "name": name, "input": input}));
    }
    Ok(said)
}

/// The content of a message as blocks. Empty texts are none: Anthropic's API refuses them.
fn blocks(content: Value) -> Result<Vec<Value>, Untranslatable> {
    let parts = match content {
        Value::Null => return Ok(Vec::new()),
        Value::String(said) if said.is_empty() => return Ok(Vec::new()),
        said @ Value::String(_) => return Ok(vec![json!({"type": "text", "text": said})]),
        Value::Array(parts) => parts,
        _ => return Err(Untranslatable::Type { param: "messages", expected: "text or an array as content" }),
    };
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Object(mut part) = part else {
            return Err(Untranslatable::Type { param: "messages", expected: "objects as content parts" });
        };
        let mark = take(&mut part, "cache_control");
        let block = match text(&part, "type") {
            Some("text") => take_text(&mut part, "text").map(|said| json!({"type": "text", "text": said})),
            Some("refusal") => take_text(&mut part, "refusal").map(|said| json!({"type": "text", "text": said})),
            Some("image_url") => {
                let url = match take(&mut part, "image_url") {
                    Some(Value::String(url)) => Some(url),
                    Some(Value::Object(mut image)) => take_text(&mut image, "url"),
                    _ => None,
                };
                let url = url.ok_or(Untranslatable::Type { param: "messages", expected: "a url in image_url" })?;
                Some(json!({"type": "image", "source": source(url)}))
            }
            Some("file") => Some(file(take_object(&mut part, "file"))?),
            Some("input_audio") => return Err(refused("messages", "models take no audio")),
            _ => return Err(refused("messages", "a content part of this type has no counterpart")),
        };
        let Some(mut block) = block else { continue };
        if let Some(mark) = mark {
            block["cache_control"] = mark;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn file(mut file: Object) -> Result<Value, Untranslatable> {
    let Some(url) = take_text(&mut file, "file_data") else {
        return Err(refused("messages", "a file at the provider is not within reach; send it as file_data"));
    };
    let mut block = json!({"type": "document", "source": source(url)});
    if let Some(name) = take_text(&mut file, "filename") {
        block["title"] = name.into();
    }
    Ok(block)
}

/// RFC 2397: `data:TYPE;base64,DATA`.
fn source(url: String) -> Value {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, bytes)) => {
            // Parameters have no place.
            let media_type = media_type.split(';').next().unwrap_or(media_type);
            json!({"type": "base64", "media_type": media_type, "data": bytes})
        }
        None => json!({"type": "url", "url": url}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_taken_apart() {
        assert_eq!(
            source("data:image/png;base64,AAAA".to_owned()),
            json!({"type": "base64", "media_type": "image/png", "data": "AAAA"})
        );
        assert_eq!(
            source("data:image/jpeg;q=1;base64,AAAA".to_owned()),
            json!({"type": "base64", "media_type": "image/jpeg", "data": "AAAA"})
        );
        assert_eq!(source("https://host/a.png".to_owned()), json!({"type": "url", "url": "https://host/a.png"}));
    }
}
