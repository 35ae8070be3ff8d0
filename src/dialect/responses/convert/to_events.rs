//! Converts a whole response to the events of an equivalent stream. Each text is sent in one event, and the last event has the
//! response itself. Owns nothing beyond one call; items that are not understood give `None`.

use serde_json::{Map, Value, json};

use crate::dialect::openai::{Streamed, object_of};
use crate::limits::CONVERTED_BYTES;
use crate::wire::sse;

type Object = Map<String, Value>;

/// The stream equivalent to a completed response; `None` if an item of its output is not understood, or it exceeds
/// `limits::CONVERTED_BYTES`.
///
/// `whole_of` of the result yields the response again.
pub fn streamed_of(whole: &[u8]) -> Option<Streamed> {
    if whole.len() > CONVERTED_BYTES {
        return None;
    }
    let response = object_of(whole)?;
    if response.get("object")? != "response" || response.get("status")? != "completed" {
        return None;
    }
    // A text that some servers repeat here would be told before it comes.
    if response.get("output_text").is_some_and(|text| !text.is_null()) {
        return None;
    }
    let output = response.get("output")?.as_array()?;
    let mut begun = response.clone();
    begun.insert("status".to_owned(), "in_progress".into());
    begun.insert("output".to_owned(), json!([]));
    for later in ["usage", "completed_at"] {
        if let Some(value) = begun.get_mut(later) {
            *value = Value::Null;
        }
    }
    let mut events = Events::default();
    events.write("response.created", json!({"response": begun}))?;
    events.write("response.in_progress", json!({"response": begun}))?;
    for (index, item) in output.iter().enumerate() {
        events.item(index, item.as_object()?)?;
    }
    events.write("response.completed", json!({"response": response}))?;
    Some(Streamed { events: events.out, usage_event: None })
}

#[derive(Default)]
struct Events {
    out: Vec<u8>,
    /// How many there are: each has its number.
    count: u64,
}

/// Where a part belongs.
#[derive(Clone, Copy)]
struct Place<'a> {
    item: &'a str,
    output: usize,
    /// What parts are counted by, and this one's number; none for what is no part of a list.
    part: Option<(&'static str, usize)>,
}

impl Events {
    fn item(&mut self, index: usize, item: &Object) -> Option<()> {
        let place = Place { item: item.get("id")?.as_str()?, output: index, part: None };
        let mut empty = item.clone();
        if empty.contains_key("status") {
            empty.insert("status".to_owned(), "in_progress".into());
        }
        let lists: &[(&str, &str)] = match item.get("type")?.as_str()? {
            "message" => &[("content", "content_index")],
            "reasoning" => &[("summary", "summary_index"), ("content", "content_index")],
            "function_call" => {
                empty.insert("arguments".to_owned(), "".into());
                self.added(index, &empty)?;
                self.text(place, "response.function_call_arguments", "arguments", item, json!({}))?;
                return self.done(index, item);
            }
            "custom_tool_call" => {
                empty.insert("input".to_owned(), "".into());
                self.added(index, &empty)?;
                self.text(place, "response.custom_tool_call_input", "input", item, json!({}))?;
                return self.done(index, item);
            }
            _ => return None,
        };
        for (list, _) in lists {
            if empty.get(*list).is_some_and(Value::is_array) {
                empty.insert((*list).to_owned(), json!([]));
            }
        }
        self.added(index, &empty)?;
        for (list, counted) in lists {
            let parts = match item.get(*list) {
                Some(Value::Array(parts)) => &parts[..],
                None | Some(Value::Null) => &[],
                Some(_) => return None,
            };
            for (number, part) in parts.iter().enumerate() {
                self.part(Place { part: Some((*counted, number)), ..place }, part.as_object()?)?;
            }
        }
        self.done(index, item)
    }

    fn part(&mut self, place: Place<'_>, part: &Object) -> Option<()> {
        let (prefix, name, with) = match (place.part?.0, part.get("type")?.as_str()?) {
            ("content_index", "output_text") => {
                let logprobs = part.get("logprobs").filter(|list| list.is_array()).cloned().unwrap_or(json!([]));
                ("response.output_text", "text", json!({"logprobs": logprobs}))
            }
            ("content_index", "refusal") => ("response.refusal", "refusal", json!({})),
            ("content_index", "reasoning_text") => ("response.reasoning_text", "text", json!({})),
            ("summary_index", "summary_text") => ("response.reasoning_summary_text", "text", json!({})),
            _ => return None,
        };
        let list =
            if place.part?.0 == "summary_index" { "response.reasoning_summary_part" } else { "response.content_part" };
        let mut empty = part.clone();
        empty.insert(name.to_owned(), "".into());
        for later in ["annotations", "logprobs"] {
            if empty.get(later).is_some_and(Value::is_array) {
                empty.insert(later.to_owned(), json!([]));
            }
        }
        self.write_at(&format!("{list}.added"), place, json!({"part": empty}))?;
        let said = self.text_delta(place, prefix, name, part, &with)?;
        let annotations = part.get("annotations").and_then(Value::as_array);
        for (number, annotation) in annotations.into_iter().flatten().enumerate() {
            let members = json!({"annotation_index": number, "annotation": annotation});
            self.write_at("response.output_text.annotation.added", place, members)?;
        }
        self.text_done(place, prefix, name, &said, with)?;
        self.write_at(&format!("{list}.done"), place, json!({"part": part}))
    }

    fn text(&mut self, place: Place<'_>, prefix: &str, name: &str, of: &Object, with: Value) -> Option<()> {
        let said = self.text_delta(place, prefix, name, of, &with)?;
        self.text_done(place, prefix, name, &said, with)
    }

    /// The text, as it is sent.
    fn text_delta(&mut self, place: Place<'_>, prefix: &str, name: &str, of: &Object, with: &Value) -> Option<String> {
        let said = of.get(name)?.as_str()?;
        if !said.is_empty() {
            let mut members = with.clone();
            members["delta"] = said.into();
            self.write_at(&format!("{prefix}.delta"), place, members)?;
        }
        Some(said.to_owned())
    }

    fn text_done(&mut self, place: Place<'_>, prefix: &str, name: &str, said: &str, with: Value) -> Option<()> {
        let mut members = with;
        members[name] = said.into();
        self.write_at(&format!("{prefix}.done"), place, members)
    }

    fn added(&mut self, index: usize, item: &Object) -> Option<()> {
        self.write("response.output_item.added", json!({"output_index": index, "item": item}))
    }

    fn done(&mut self, index: usize, item: &Object) -> Option<()> {
        self.write("response.output_item.done", json!({"output_index": index, "item": item}))
    }

    fn write_at(&mut self, kind: &str, place: Place<'_>, members: Value) -> Option<()> {
        let mut all = json!({"item_id": place.item, "output_index": place.output});
        if let Some((counted, number)) = place.part {
            all[counted] = number.into();
        }
        let Value::Object(members) = members else { return None };
        all.as_object_mut()?.extend(members);
        self.write(kind, all)
    }

    fn write(&mut self, kind: &str, members: Value) -> Option<()> {
        let mut event = Object::from_iter([("type".to_owned(), kind.into())]);
        event.insert("sequence_number".to_owned(), self.count.into());
        self.count += 1;
        let Value::Object(members) = members else { return None };
        event.extend(members);
        self.out.extend_from_slice(b"event: ");
        self.out.extend_from_slice(kind.as_bytes());
        self.out.push(b'\n');
        sse::event(&mut self.out, &serde_json::to_vec(&event).ok()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dialect::facts::StreamVerdict;
    use crate::dialect::responses::{event_facts, whole_of};
    use crate::wire::json::Tape;
    use crate::wire::sse::Splitter;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/responses").join(name)
    }

    #[test]
    fn a_whole_response_becomes_a_stream_that_has_it_at_its_end() {
        let whole = std::fs::read(golden("all.in.json")).expect("readable");
        let events = streamed_of(&whole).expect("understood").events;
        crate::golden::check(golden("all.out.sse"), &events);
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
        assert_eq!(whole_of(&events).map(|again| value(&again)), Some(value(&whole)));
        // To the gateway it is a stream like any, complete and good to keep.
        let (mut splitter, mut verdict, mut tape) = (Splitter::new(), StreamVerdict::new(), Tape::new());
        while let Some(event) = splitter.next(&events).expect("short events") {
            verdict.note(&event_facts(b"", splitter.data(&event, &events), &mut tape));
        }
        assert_eq!(verdict.stored(), Ok(()));
    }

    #[test]
    fn what_is_not_understood_is_not_converted() {
        let item = json!({"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]});
        let good = json!({"object": "response", "status": "completed", "output": [item]});
        assert!(streamed_of(good.to_string().as_bytes()).is_some());
        for (place, value) in [
            ("/status", json!("incomplete")),
            ("/object", json!("chat.completion")),
            ("/output", json!({})),
            ("/output/0", json!("text")),
            ("/output/0/id", json!(null)),
            ("/output/0/type", json!("web_search_call")),
            ("/output/0/content", json!("a")),
            ("/output/0/content/0/type", json!("new")),
            ("/output/0/content/0/text", json!(1)),
        ] {
            let mut wrong = good.clone();
            *wrong.pointer_mut(place).unwrap() = value;
            assert_eq!(streamed_of(wrong.to_string().as_bytes()), None, "{place}");
        }
        let repeated = good.to_string().replacen('{', "{\"output_text\":\"a\",", 1);
        assert_eq!(streamed_of(repeated.as_bytes()), None);
    }
}
