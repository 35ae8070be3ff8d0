//! What an answer says of itself, for spans: its id, the model that gave it, why it ended. Reads a whole answer, in either form;
//! only of requests that are recorded. Copies a bounded amount, and nothing of what a client or a model said.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::limits::{SPAN_ANSWER_BYTES, SPAN_REASONS, SPAN_WORD_BYTES};

/// Empty where the answer does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub id: Option<Box<str>>,
    pub model: Option<Box<str>>,
    /// By choice, in the order of their numbers.
    pub finish_reasons: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    model: Value,
    choices: Option<Vec<Choice>>,
    /// Of Anthropic's API: the reason in a whole message, the message at a stream's beginning, the reason at its end.
    #[serde(default)]
    stop_reason: Value,
    message: Option<Message>,
    /// Of the responses API: the response at a stream's beginning.
    response: Option<Message>,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    model: Value,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    stop_reason: Value,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Value,
    #[serde(default)]
    finish_reason: Value,
}

/// Of an answer in one piece, or as events without their end. One that is too long, or cannot be read, says nothing.
pub fn identity(answer: &[u8]) -> Identity {
    if answer.len() > SPAN_ANSWER_BYTES {
        return Identity::default();
    }
    let mut reasons = BTreeMap::new();
    let mut found = Identity::default();
    let mut is_first = true;
    if answer.trim_ascii_start().first() == Some(&b'{') {
        read(answer, &mut found, &mut reasons);
    } else {
        for line in answer.split(|&byte| byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            // Most chunks say nothing that the first one has not said.
            if std::mem::take(&mut is_first) || finishes(data) {
                read(data, &mut found, &mut reasons);
            }
        }
    }
    found.finish_reasons = reasons.into_values().take(SPAN_REASONS).collect();
    found
}

fn read(json: &[u8], found: &mut Identity, reasons: &mut BTreeMap<u64, Box<str>>) {
    let Ok(Answer { id, model, choices, stop_reason, message, response, delta }) = serde_json::from_slice(json) else {
        return;
    };
    let (in_id, in_model) =
        message.or(response).map_or((Value::Null, Value::Null), |message| (message.id, message.model));
    found.id = found.id.take().or_else(|| word(&id)).or_else(|| word(&in_id));
    found.model = found.model.take().or_else(|| word(&model)).or_else(|| word(&in_model));
    if let Some(reason) = word(&stop_reason).or_else(|| delta.and_then(|delta| word(&delta.stop_reason))) {
        reasons.insert(0, reason);
    }
    for (place, choice) in choices.into_iter().flatten().enumerate() {
        if let Some(reason) = word(&choice.finish_reason) {
            reasons.insert(choice.index.as_u64().unwrap_or(place as u64), reason);
        }
    }
}

/// Whether a chunk may have a finish reason.
fn finishes(data: &[u8]) -> bool {
    [&b"\"finish_reason\""[..], b"\"stop_reason\""].iter().any(|name| {
        memchr::memmem::find_iter(data, name).any(|at| {
            let rest = data[at + name.len()..].trim_ascii_start();
            let value = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start();
            !value.starts_with(b"null")
        })
    })
}

fn word(value: &Value) -> Option<Box<str>> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(text[..text.floor_char_boundary(SPAN_WORD_BYTES)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &str) -> (Option<String>, Option<String>, Vec<String>) {
        let Identity { id, model, finish_reasons } = identity(answer.as_bytes());
        (id.map(Into::into), model.map(Into::into), finish_reasons.into_iter().map(Into::into).collect())
    }

    #[test]
    fn both_forms_say_the_same_in_the_order_of_choices() {
        let whole = r#"{"id":"a","model":"m","choices":[{"index":1,"finish_reason":"length"},{"index":0,"finish_reason":"stop"}]}"#;
        let streamed = "data: {\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n\
                        data: {\"id\":\"a\",\"choices\":[{\"index\":1,\"finish_reason\" : \"length\"}]}\n\n\
                        : a comment\n\ndata: {\"id\":\"b\",\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
        let expected = (Some("a".to_owned()), Some("m".to_owned()), vec!["stop".to_owned(), "length".to_owned()]);
        assert_eq!(told(whole), expected);
        assert_eq!(told(streamed), expected);
    }

    #[test]
    fn messages_say_the_same_in_both_forms() {
        let whole = r#"{"id":"a","type":"message","model":"m","content":[],"stop_reason":"end_turn"}"#;
        let streamed = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"model\":\"m\",\"stop_reason\":null}}\n\n\
                        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n";
        let expected = (Some("a".to_owned()), Some("m".to_owned()), vec!["end_turn".to_owned()]);
        assert_eq!(told(whole), expected);
        assert_eq!(told(streamed), expected);
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_what_is_long_is_cut() {
        let long = "é".repeat(SPAN_WORD_BYTES);
        for nothing in ["", "{", "[]", "data: [DONE]\n\n", r#"{"id":7,"model":null,"choices":null}"#, "plain text"] {
            assert_eq!(identity(nothing.as_bytes()), Identity::default(), "{nothing}");
        }
        let (id, _, reasons) = told(&format!(r#"{{"id":"{long}","choices":[{{"finish_reason":""}}]}}"#));
        assert_eq!((id.unwrap().len(), reasons), (SPAN_WORD_BYTES, Vec::new()));
        let many = vec![r#"{"finish_reason":"stop"}"#; 2 * SPAN_REASONS].join(",");
        assert_eq!(told(&format!(r#"{{"choices":[{many}]}}"#)).2.len(), SPAN_REASONS);
        let too_long = format!(r#"{{"id":"a","text":"{}"}}"#, "x".repeat(SPAN_ANSWER_BYTES));
        assert_eq!(identity(too_long.as_bytes()), Identity::default());
    }
}
