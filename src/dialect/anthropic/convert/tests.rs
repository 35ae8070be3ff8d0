//! Golden files in both directions, what is refused, and the law: what is converted and back is what it was.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{streamed_of, whole_of};
use crate::dialect::anthropic::{answer_facts, event_facts};
use crate::dialect::facts::StreamVerdict;
use crate::wire::json::Tape;
use crate::wire::sse::{self, Splitter};

fn inputs(folder: &str, end: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/anthropic").join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder of golden files");
    let paths = entries.map(|entry| entry.expect("a file").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert!(!paths.is_empty());
    paths.sort();
    paths
}

#[test]
fn streams_become_whole_messages() {
    for path in inputs("streamed", ".in.sse") {
        let stream = std::fs::read(&path).expect("readable");
        let (mut splitter, mut verdict, mut tape) = (Splitter::new(), StreamVerdict::new(), Tape::new());
        while let Some(event) = splitter.next(&stream).expect("short events") {
            verdict.note(&event_facts(b"", splitter.data(&event, &stream), &mut tape));
        }
        assert_eq!(verdict.stored(), Ok(()), "{}", path.display());
        let mut whole = whole_of(&stream).unwrap_or_else(|| panic!("{} cannot be aggregated", path.display()));
        assert_eq!(answer_facts(&whole, &mut tape).stored, Ok(()));
        let streamed = streamed_of(&whole).expect("and back");
        assert_eq!(whole_of(&streamed.events).as_ref(), Some(&whole));
        whole.push(b'\n');
        crate::golden::check(path.with_extension("").with_extension("out.json"), &whole);
    }
}

#[test]
fn whole_messages_become_streams() {
    for path in inputs("whole", ".in.json") {
        let whole = std::fs::read(&path).expect("readable");
        let streamed = streamed_of(&whole).unwrap_or_else(|| panic!("{} cannot be converted", path.display()));
        assert_eq!(streamed.usage_event, None);
        crate::golden::check(path.with_extension("").with_extension("out.sse"), &streamed.events);
    }
}

fn message(content: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 2},
    })
}

fn streamed(message: &Value) -> Option<String> {
    Some(String::from_utf8(streamed_of(message.to_string().as_bytes())?.events).unwrap())
}

fn whole(events: &str) -> Option<Value> {
    Some(serde_json::from_slice(&whole_of(events.as_bytes())?).unwrap())
}

#[test]
fn what_is_not_understood_is_not_converted() {
    let good = message(json!([{"type": "text", "text": "a"}]));
    assert!(streamed(&good).is_some());
    let with = |name: &str, value: Value| {
        let mut message = good.clone();
        message[name] = value;
        message
    };
    for (wrong, why) in [
        (message(json!([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}])), "server tool"),
        (message(json!([{"type": "web_search_tool_result", "tool_use_id": "s", "content": []}])), "its result"),
        (message(json!([{"type": "text", "text": "a", "new": 1}])), "member of a block"),
        (message(json!([{"type": "text", "text": "a", "citations": ["b"]}])), "citation"),
        (message(json!([{"type": "tool_use", "id": "t", "name": "f", "input": []}])), "input"),
        (message(json!(["text"])), "block"),
        (message(json!("text")), "content"),
        (with("container", json!({"id": "c"})), "member of the message"),
        (with("stop_reason", json!(null)), "no end"),
        (with("stop_sequence", json!(1)), "sequence"),
        (with("usage", json!(null)), "no usage"),
        (with("usage", json!({"input_tokens": 1})), "half of a usage"),
        (with("role", json!("user")), "role"),
        (with("type", json!("error")), "type"),
        (json!([]), "no object"),
    ] {
        assert_eq!(streamed(&wrong), None, "{why}");
    }
    let stream = streamed(&good).unwrap();
    let text = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    assert!(stream.contains(text));
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for (from, to, why) in [
        ("text_delta", "new_delta", "delta"),
        ("\"text\":\"a\"", "\"text\":\"a\",\"new\":1", "member of a delta"),
        ("\"index\":0,\"delta\"", "\"index\":1,\"delta\"", "delta of no block"),
        ("\"index\":0,\"content_block\"", "\"index\":1,\"content_block\"", "gap"),
        ("\"content\":[]", "\"content\":[{\"type\":\"text\",\"text\":\"b\"}]", "content before it has begun"),
        ("\"stop_reason\":\"end_turn\"", "\"stop_reason\":null", "no end"),
        ("\"stop_reason\":\"end_turn\"", "\"stop_reason\":\"end_turn\",\"container\":{\"id\":\"c\"}", "new at the end"),
        ("\"type\":\"text\",", "\"type\":\"mcp_tool_use\",", "block"),
        (stop, "", "no stop"),
        (stop, "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n", "error"),
        ("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n", "", "open block"),
    ] {
        assert_eq!(stream.matches(from).count(), 1, "{from}");
        assert_eq!(whole(&stream.replace(from, to)), None, "{why}");
    }
    assert_eq!(whole(&(stream.clone() + text)), None, "behind the end");
    assert_eq!(whole(&(stream.clone() + &stream)), None, "two messages");
    assert_eq!(whole(stream.trim_end()), None, "a broken end");
    assert_eq!(whole(""), None);
    // What says nothing is no obstacle.
    let nothing = with("container", json!(null));
    assert_eq!(whole(&streamed(&nothing).unwrap()), Some(nothing));
}

#[test]
fn the_input_of_a_call_has_to_be_an_object() {
    let call = message(json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]));
    let stream = streamed(&call).unwrap();
    for (part, expected) in
        [("{\\\"a\\\":1}", true), ("{\\\"a\\\":1", false), ("[1]", false), ("{\\\"a\\\":1}{}", false)]
    {
        assert_eq!(whole(&stream.replace("{\\\"a\\\":1}", part)).is_some(), expected, "{part}");
    }
    // Numbers stay as they are spelled.
    let exact = stream.replace("{\\\"a\\\":1}", "{\\\"a\\\":1.50, \\\"b\\\":12345678901234567890123}");
    let whole = String::from_utf8(whole_of(exact.as_bytes()).unwrap()).unwrap();
    assert!(whole.contains("\"input\":{\"a\":1.50,\"b\":12345678901234567890123}"), "{whole}");
}

/// Content of all kinds.
fn content() -> impl Strategy<Value = Value> {
    let text = "[a-zé\"\\\\\n ]{0,6}";
    let plain = text.prop_map(|text| json!({"type": "text", "text": text}));
    let cited = (text, proptest::collection::vec(text, 0..3)).prop_map(|(text, cited)| {
        let citations =
            cited.iter().map(|cited| json!({"type": "char_location", "cited_text": cited, "file_id": null}));
        json!({"citations": citations.collect::<Vec<_>>(), "type": "text", "text": text})
    });
    let call =
        ("[a-z]{1,3}", proptest::collection::vec(("[a-z]{1,3}", any::<i64>()), 0..3)).prop_map(|(name, input)| {
            let input: Value =
                input.into_iter().map(|(name, value)| (name, value.into())).collect::<serde_json::Map<_, _>>().into();
            json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": input, "caller": {"type": "direct"}})
        });
    let thought = (text, text)
        .prop_map(|(thinking, signature)| json!({"type": "thinking", "thinking": thinking, "signature": signature}));
    let redacted = text.prop_map(|data| json!({"type": "redacted_thinking", "data": data}));
    proptest::collection::vec(prop_oneof![plain, cited, call, thought, redacted], 0..5).prop_map(Value::from)
}

/// The stream with each text in two events, and a ping between all of them.
fn in_parts(stream: &str) -> String {
    let mut out = Vec::new();
    for event in stream.split_terminator("\n\n") {
        let (_, data) = event.split_once("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        let parts = ["text", "thinking", "partial_json"].into_iter().find_map(|name| {
            let text = data["delta"][name].as_str()?;
            let (middle, _) = text.char_indices().nth(text.chars().count() / 2)?;
            Some([&text[..middle], &text[middle..]].map(|part| {
                let mut data = data.clone();
                data["delta"][name] = part.into();
                data
            }))
        });
        for data in parts.map_or(vec![data], Vec::from) {
            out.extend_from_slice(b"event: ping\n");
            sse::event(&mut out, b"{\"type\": \"ping\"}");
            sse::event(&mut out, data.to_string().as_bytes());
        }
    }
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn a_message_is_what_its_stream_amounts_to(
        content in content(),
        sequence in proptest::option::of("[a-z]{1,3}"),
        cached in proptest::option::of(0..9_u64),
        output in any::<u32>(),
    ) {
        let mut message = message(content);
        message["stop_sequence"] = sequence.into();
        message["usage"] = json!({
            "input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 0}, "cache_read_input_tokens": cached,
            "output_tokens": output, "service_tier": "standard",
        });
        let stream = streamed(&message).unwrap();
        let expected = Some(message.to_string());
        prop_assert_eq!(whole_of(stream.as_bytes()).map(|whole| String::from_utf8(whole).unwrap()), expected.clone());
        let parts = in_parts(&stream);
        prop_assert_eq!(whole_of(parts.as_bytes()).map(|whole| String::from_utf8(whole).unwrap()), expected);
    }

    #[test]
    fn nothing_that_comes_makes_it_fail(events in proptest::collection::vec("[ -~]{0,30}", 0..6), at in any::<prop::sample::Index>()) {
        let noise: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let _ = whole_of(noise.as_bytes());
        let stream = streamed(&message(json!([{"type": "text", "text": "abc"}]))).unwrap();
        let at = at.index(stream.len());
        prop_assert_eq!(whole_of(&stream.as_bytes()[..at]), None, "a part is no message");
        let _ = whole_of(format!("{}{noise}{}", &stream[..at], &stream[at..]).as_bytes());
        let _ = streamed_of(noise.as_bytes());
    }
}
