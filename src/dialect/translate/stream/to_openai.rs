//! Events of Anthropic's messages as chunks of OpenAI's chat completions. The usage is an event of its own before the end; who
//! did not ask for it is not shown it.

use serde_json::{Value, json};

use super::{State, StreamFault, write_data};
use crate::dialect::translate::answer::{finish_reason, service_tier, usage_to_openai};
use crate::dialect::translate::value::{Object, arguments_text, take, take_object, take_text, text};

#[derive(Debug)]
pub(super) struct ToOpenAi {
    created: u64,
    has_begun: bool,
    id: Value,
    model: Value,
    tier: Option<(String, Value)>,
    usage: Object,
    /// Calls that have begun.
    calls: u64,
    call: Open,
}

/// The call that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    None,
    WithoutArguments,
    WithArguments,
}

impl ToOpenAi {
    pub fn new(created: u64) -> ToOpenAi {
        ToOpenAi {
            created,
            has_begun: false,
            id: Value::Null,
            model: Value::Null,
            tier: None,
            usage: Object::new(),
            calls: 0,
            call: Open::None,
        }
    }

    pub fn event(&mut self, mut root: Object, out: &mut Vec<u8>) -> Result<State, StreamFault> {
        let kind = take_text(&mut root, "type").ok_or(StreamFault::Garbage)?;
        if !self.has_begun && !matches!(kind.as_str(), "message_start" | "ping") {
            return Err(StreamFault::Garbage);
        }
        match kind.as_str() {
            "message_start" => self.begin(take_object(&mut root, "message"), out),
            "content_block_start" => self.block(take_object(&mut root, "content_block"), out),
            "content_block_delta" => self.delta(take_object(&mut root, "delta"), out),
            "content_block_stop" => self.close(out),
            "message_delta" => {
                self.note_usage(take_object(&mut root, "usage"));
                let mut delta = take_object(&mut root, "delta");
                if let Some(reason) = take(&mut delta, "stop_reason") {
                    let mut choice = json!({"index": 0, "delta": {}, "logprobs": null});
                    choice["finish_reason"] = finish_reason(reason);
                    if let Some(sequence) = take(&mut delta, "stop_sequence") {
                        choice["stop_reason"] = sequence;
                    }
                    self.write([("choices", json!([choice]))], out);
                }
            }
            "message_stop" => {
                let usage = usage_to_openai(&self.usage);
                self.write([("choices", json!([])), ("usage", usage.into())], out);
                out.extend_from_slice(b"data: [DONE]\n\n");
                return Ok(State::Ended);
            }
            // Signs of life, and what may be added one day.
            _ => {}
        }
        Ok(State::Running)
    }

    /// Clients parse what has come of a call: without arguments that has to be an empty object.
    fn close(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.call, Open::None) == Open::WithoutArguments {
            self.arguments("{}", out);
        }
    }

    fn begin(&mut self, mut message: Object, out: &mut Vec<u8>) {
        self.has_begun = true;
        self.id = take(&mut message, "id").unwrap_or_default();
        self.model = take(&mut message, "model").unwrap_or_default();
        let usage = take_object(&mut message, "usage");
        self.tier = service_tier(&usage);
        self.note_usage(usage);
        self.write_delta(json!({"role": "assistant", "content": ""}), out);
    }

    /// Counts of a later event are those of the whole answer; some are said at its beginning alone.
    fn note_usage(&mut self, usage: Object) {
        self.usage.extend(usage.into_iter().filter(|(_, count)| !count.is_null()));
    }

    fn block(&mut self, mut block: Object, out: &mut Vec<u8>) {
        match text(&block, "type") {
            Some("text") => self.text("content", take_text(&mut block, "text"), out),
            Some("thinking") => self.text("reasoning_content", take_text(&mut block, "thinking"), out),
            Some("redacted_thinking") => self.write_delta(json!({"thinking_blocks": [block]}), out),
            Some("tool_use") => {
                let (id, name) = (take(&mut block, "id"), take(&mut block, "name"));
                let input = take_object(&mut block, "input");
                self.call = if input.is_empty() { Open::WithoutArguments } else { Open::WithArguments };
                let arguments = if input.is_empty() { String::new() } else { arguments_text(&input.into()) };
                let function = json!({"name": name.unwrap_or_default(), "arguments": arguments});
                let call = json!({
                    "index": self.calls, "id": id.unwrap_or_default(), "type": "function", "function": function,
                });
                self.calls += 1;
                self.write_delta(json!({"tool_calls": [call]}), out);
            }
            // What the provider's own tools do on the way.
            _ => {}
        }
    }

    fn delta(&mut self, mut delta: Object, out: &mut Vec<u8>) {
        match text(&delta, "type") {
            Some("text_delta") => self.text("content", take_text(&mut delta, "text"), out),
            Some("thinking_delta") => self.text("reasoning_content", take_text(&mut delta, "thinking"), out),
            Some("signature_delta") => {
                let signature = take(&mut delta, "signature").unwrap_or_default();
                let block = json!({"type": "thinking", "thinking": "", "signature": signature});
                self.write_delta(json!({"thinking_blocks": [block]}), out);
            }
            // Of a call of this message's, not of a tool of the provider's own.
            Some("input_json_delta") if self.call != Open::None => {
                if let Some(part) = take_text(&mut delta, "partial_json") {
                    self.call = Open::WithArguments;
                    self.arguments(&part, out);
                }
            }
            _ => {}
        }
    }

    fn text(&self, name: &str, said: Option<String>, out: &mut Vec<u8>) {
        if let Some(said) = said {
            self.write_delta(Object::from_iter([(name.to_owned(), said.into())]).into(), out);
        }
    }

    fn arguments(&self, part: &str, out: &mut Vec<u8>) {
        let number = self.calls.saturating_sub(1);
        self.write_delta(json!({"tool_calls": [{"index": number, "function": {"arguments": part}}]}), out);
    }

    fn write_delta(&self, delta: Value, out: &mut Vec<u8>) {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
        self.write([("choices", json!([choice]))], out);
    }

    fn write<const N: usize>(&self, members: [(&str, Value); N], out: &mut Vec<u8>) {
        let mut chunk = Object::new();
        chunk.insert("id".to_owned(), self.id.clone());
        chunk.insert("object".to_owned(), "chat.completion.chunk".into());
        chunk.insert("created".to_owned(), self.created.into());
        chunk.insert("model".to_owned(), self.model.clone());
        chunk.extend(self.tier.clone());
        chunk.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
        write_data(&chunk, out);
    }
}
