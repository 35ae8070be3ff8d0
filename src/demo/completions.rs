//! `/v1/completions`: the legacy form, one or several prompts, whole or streamed.
//! Pure but for the date. Both forms must say the same.

use serde_json::{Value, json};

use super::chat::{now, usage};
use super::prompt::{Form, Options, UsageEvent, count_tokens};
use super::reply::{Failure, Reply};
use super::routes::Call;
use super::text;

/// Most prompts in one request.
const PROMPTS: usize = 64;

struct Choice {
    tokens: Vec<String>,
    finish: &'static str,
}

/// Answers one request for completions.
///
/// # Errors
/// When the prompt is missing or not text.
pub fn answer(call: &Call) -> Result<Reply, Failure> {
    let options = Options::read(&call.body)?;
    let prompts = prompts(call.body.get("prompt"))?;
    let mut choices = Vec::new();
    for prompt in &prompts {
        for _ in 0..options.choices {
            choices.push(say(prompt, call.number, options.tokens_max));
        }
    }
    let prompt_tokens = prompts.iter().map(|prompt| count_tokens(prompt)).sum();
    let usage = usage(prompt_tokens, choices.iter().map(|choice| choice.tokens.len()).sum());
    let frame = |choices: Value| {
        json!({
            "id": format!("cmpl-demo-{}", call.number), "object": "text_completion", "created": now(),
            "model": call.model, "choices": choices,
        })
    };
    if options.form == Form::NonStreaming {
        let list: Vec<Value> = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| one(index, &choice.tokens.concat(), Some(choice.finish)))
            .collect();
        let mut body = frame(json!(list));
        body["usage"] = usage;
        return Ok(Reply::Whole { status: 200, body, pace: call.pace });
    }
    let mut events = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        events.extend(choice.tokens.iter().map(|token| frame(json!([one(index, token, None)]))));
        events.push(frame(json!([one(index, "", Some(choice.finish))])));
    }
    if options.usage == UsageEvent::Sent {
        events.iter_mut().for_each(|event| event["usage"] = Value::Null);
        let mut last = frame(json!([]));
        last["usage"] = usage;
        events.push(last);
    }
    Ok(Reply::Stream { events, pace: call.pace })
}

fn say(prompt: &str, number: u64, tokens_max: usize) -> Choice {
    let text = format!(" {}", text::answer(prompt, number));
    let mut tokens: Vec<String> = text::tokens(&text).into_iter().map(str::to_owned).collect();
    let finish = if tokens.len() > tokens_max { "length" } else { "stop" };
    tokens.truncate(tokens_max);
    Choice { tokens, finish }
}

fn one(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn prompts(prompt: Option<&Value>) -> Result<Vec<&str>, Failure> {
    let wrong =
        || Failure::invalid("prompt", format!("`prompt` must be a string or a list of 1 to {PROMPTS} strings."));
    match prompt {
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) if (1..=PROMPTS).contains(&list.len()) => {
            list.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}
