//! Chunks of OpenAI's chat completions as events of Anthropic's messages: blocks that begin and end one after the other. Usage
//! comes last there and may come after the end of the choice, so the message's own end waits for the stream's.

use serde_json::{Value, json};

use super::{State, StreamFault, write_data};
use crate::dialect::translate::answer::{stop_reason, stop_sequence, thought, usage_to_anthropic};
use crate::dialect::translate::value::{Object, call_id, count, take, take_list, take_object, take_text};
use crate::limits::TRANSLATED_CALLS;

#[derive(Debug, Default)]
pub(super) struct ToAnthropic {
    has_begun: bool,
    /// Blocks that have ended; the number of the one that is open.
    ended: u64,
    open: Option<Open>,
    /// A call whose name has not come.
    unnamed: Option<Call>,
    /// Numbers of all calls that came.
    calls: Vec<u64>,
    is_refusal: bool,
    finish: Option<String>,
    sequence: Option<String>,
    usage: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// With the call's number.
    Call(u64),
}

#[derive(Debug)]
struct Call {
    number: u64,
    id: String,
    arguments: String,
}

impl ToAnthropic {
    /// Takes one event's data, which `root` is if it is an object.
    pub fn event(&mut self, data: &[u8], root: Option<Object>, out: &mut Vec<u8>) -> Result<State, StreamFault> {
        if data == b"[DONE]" {
            self.end(out)?;
            return Ok(State::Ended);
        }
        let mut root = root.ok_or(StreamFault::Garbage)?;
        let choices = take_list(&mut root, "choices");
        let usage = take_object(&mut root, "usage");
        if !usage.is_empty() {
            self.usage = usage;
        }
        if !self.has_begun {
            self.begin(root, out);
        }
        for choice in choices {
            let Value::Object(mut choice) = choice else { continue };
            if count(&choice, "index").unwrap_or(0) != 0 {
                continue;
            }
            self.delta(take_object(&mut choice, "delta"), out)?;
            if let Some(finish) = take_text(&mut choice, "finish_reason") {
                self.sequence = stop_sequence(&finish, &mut choice);
                self.finish = Some(finish);
                self.close(out);
            }
        }
        Ok(State::Running)
    }

    /// The stream is over without its last event. Errors: the answer was not.
    pub fn end_unsaid(&mut self, out: &mut Vec<u8>) -> Result<(), StreamFault> {
        if self.finish.is_none() {
            return Err(StreamFault::Truncated);
        }
        self.end(out)
    }

    fn begin(&mut self, mut root: Object, out: &mut Vec<u8>) {
        self.has_begun = true;
        let message = json!({
            "id": take(&mut root, "id").unwrap_or_default(),
            "type": "message",
            "role": "assistant",
            "model": take(&mut root, "model").unwrap_or_default(),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            // Not known yet; the last event has it.
            "usage": usage_to_anthropic(&self.usage),
        });
        self.write("message_start", [("message", message)], out);
    }

    fn delta(&mut self, mut delta: Object, out: &mut Vec<u8>) -> Result<(), StreamFault> {
        if let Some(thought) = thought(&mut delta) {
            self.open(Open::Thinking, json!({"type": "thinking", "thinking": "", "signature": ""}), out);
            self.write_delta(json!({"type": "thinking_delta", "thinking": thought}), out);
        }
        let refusal = take_text(&mut delta, "refusal");
        self.is_refusal |= refusal.is_some();
        for said in [take_text(&mut delta, "content"), refusal].into_iter().flatten() {
            self.open(Open::Text, json!({"type": "text", "text": ""}), out);
            self.write_delta(json!({"type": "text_delta", "text": said}), out);
        }
        for call in take_list(&mut delta, "tool_calls") {
            if let Value::Object(call) = call {
                self.call(call, out)?;
            }
        }
        Ok(())
    }

    /// A part of a call. Blocks cannot be taken up again: calls that come in turns cannot be told.
    fn call(&mut self, mut call: Object, out: &mut Vec<u8>) -> Result<(), StreamFault> {
        let mut function = take_object(&mut call, "function");
        let number = count(&call, "index").unwrap_or_else(|| match self.open {
            // Servers that leave it out send each call whole.
            _ if call.contains_key("id") => self.calls.len() as u64,
            Some(Open::Call(number)) => number,
            _ => 0,
        });
        let arguments = match take(&mut function, "arguments") {
            Some(Value::String(part)) => part,
            Some(whole @ Value::Object(_)) => whole.to_string(),
            _ => String::new(),
        };
        let name = take_text(&mut function, "name");
        if self.open == Some(Open::Call(number)) {
            self.arguments(arguments, out);
            return Ok(());
        }
        let waiting = self.unnamed.take_if(|waiting| waiting.number == number);
        if waiting.is_none() {
            if self.calls.contains(&number) || self.calls.len() >= TRANSLATED_CALLS || self.unnamed.is_some() {
                return Err(StreamFault::Garbage);
            }
            self.calls.push(number);
        }
        let waiting = waiting.unwrap_or(Call { number, id: String::new(), arguments: String::new() });
        let id = take_text(&mut call, "id").unwrap_or(waiting.id);
        let arguments = waiting.arguments + &arguments;
        let Some(name) = name else {
            self.unnamed = Some(Call { number, id, arguments });
            return Ok(());
        };
        let id = if id.is_empty() { format!("call_{number}") } else { call_id(&id) };
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        self.open(Open::Call(number), block, out);
        self.arguments(arguments, out);
        Ok(())
    }

    fn arguments(&mut self, part: String, out: &mut Vec<u8>) {
        if !part.is_empty() {
            self.write_delta(json!({"type": "input_json_delta", "partial_json": part}), out);
        }
    }

    /// Opens a block, unless it is open.
    fn open(&mut self, open: Open, block: Value, out: &mut Vec<u8>) {
        if self.open != Some(open) {
            self.close(out);
            self.open = Some(open);
            self.write("content_block_start", [("index", self.ended.into()), ("content_block", block)], out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            self.write("content_block_stop", [("index", self.ended.into())], out);
            self.ended += 1;
        }
    }

    /// Errors: there was nothing, or a call without a name.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), StreamFault> {
        if !self.has_begun || self.unnamed.is_some() {
            return Err(StreamFault::Truncated);
        }
        self.close(out);
        let finish = self.finish.take().unwrap_or_default();
        let reason = stop_reason(&finish, self.sequence.is_some(), !self.calls.is_empty(), self.is_refusal);
        let delta = json!({"stop_reason": reason, "stop_sequence": self.sequence.take()});
        let usage = usage_to_anthropic(&self.usage).into();
        self.write("message_delta", [("delta", delta), ("usage", usage)], out);
        self.write("message_stop", [], out);
        Ok(())
    }

    fn write_delta(&self, delta: Value, out: &mut Vec<u8>) {
        self.write("content_block_delta", [("index", self.ended.into()), ("delta", delta)], out);
    }

    fn write<const N: usize>(&self, name: &str, members: [(&str, Value); N], out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
        let mut event = Object::from_iter([("type".to_owned(), name.into())]);
        event.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
        write_data(&event, out);
    }
}
