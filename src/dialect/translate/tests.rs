//! Pairs of what goes in and what comes out, each way; what keeps its meaning there and back; and that nothing that comes in
//! makes it fail otherwise than by saying so.

use proptest::prelude::*;
use serde_json::{Value, json};

use self::streams::streamed;
use super::{Direction, Settings, Untranslatable};

mod streams;

const SETTINGS: Settings = Settings { answer_tokens: 4096 };

fn request(direction: Direction, body: &Value) -> Result<Value, Untranslatable> {
    let translated = direction.request(body.to_string().as_bytes(), SETTINGS)?;
    Ok(serde_json::from_slice(&translated).expect("JSON"))
}

#[track_caller]
fn asks(direction: Direction, body: Value, expected: Value) {
    assert_eq!(request(direction, &body).expect("translatable"), expected);
}

/// With a model and one turn of the user's, which both APIs have alike.
fn with(members: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
    body.as_object_mut().expect("object").extend(members.as_object().expect("object").clone());
    body
}

fn messages(direction: Direction, list: Value) -> Value {
    let members = if direction == Direction::ToAnthropic { json!({"max_tokens": 1}) } else { json!({}) };
    let mut body = with(members);
    body["messages"] = list;
    request(direction, &body).expect("translatable")
}

fn answer(direction: Direction, body: &Value) -> Value {
    let translated = direction.answer(body.to_string().as_bytes(), 7).expect("an answer");
    serde_json::from_slice(&translated).expect("JSON")
}

#[test]
fn a_request_for_a_message_becomes_one_for_a_chat_completion() {
    let members = json!({
        "max_tokens": 10, "system": [{"type": "text", "text": "x-anthropic-billing-header: 7"}, {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}],
        "temperature": 0.50, "top_p": 0.9, "top_k": 3, "stop_sequences": ["x"], "stream": true,
        "metadata": {"user_id": "u".repeat(70)}, "service_tier": "standard_only", "seed": 7,
        "thinking": {"type": "enabled", "budget_tokens": 5000}, "context_management": {"edits": []}, "min_p": 0.05,
    });
    let expected = json!({
        "model": "m", "messages": [{"role": "system", "content": "a\nb"}, {"role": "user", "content": "q"}],
        "max_completion_tokens": 10, "stop": ["x"], "user": "u".repeat(64), "reasoning_effort": "medium", "service_tier": "default",
        "temperature": 0.50, "top_p": 0.9, "top_k": 3, "stream": true, "seed": 7, "min_p": 0.05,
    });
    asks(Direction::ToOpenAi, with(members), expected);
    // Numbers keep their spelling.
    let body = br#"{"model":"m","messages":[],"temperature":0.50,"seed":123456789012345678901234567890}"#;
    let translated = Direction::ToOpenAi.request(body, SETTINGS).expect("translatable");
    assert_eq!(translated, body, "nothing has another place");
}

#[test]
fn turns_of_anthropics_become_messages() {
    let turns = json!([
        {"role": "user", "content": [{"type": "text", "text": "look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}},
            {"type": "document", "title": "t.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "I call"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
        {"role": "user", "content": [{"type": "text", "text": "go on"},
            {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [{"type": "text", "text": "two"},
                {"type": "image", "source": {"type": "url", "url": "https://h/b.png"}}]}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t3", "name": "g", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
    ]);
    let expected = json!([
        {"role": "user", "content": [{"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
            {"type": "file", "file": {"filename": "t.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
            {"type": "text", "text": "words"}]},
        {"role": "assistant", "content": "I call", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "one"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: two"},
        {"role": "user", "content": [{"type": "text", "text": "go on"}, {"type": "image_url", "image_url": {"url": "https://h/b.png"}}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "t3", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "t3", "content": ""},
    ]);
    assert_eq!(messages(Direction::ToOpenAi, turns)["messages"], expected);
}

#[test]
fn messages_of_openais_become_turns() {
    let list = json!([
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "and kind"}]},
        {"role": "user", "content": [{"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "file", "file": {"filename": "t.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call.1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{oops"}}]},
        {"role": "tool", "tool_call_id": "call.1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": null, "refusal": "no"},
        {"role": "user", "content": "please"},
    ]);
    let translated = messages(Direction::ToAnthropic, list);
    let system = json!([{"type": "text", "text": "be brief"}, {"type": "text", "text": "and kind"}]);
    assert_eq!(translated["system"], system);
    let expected = json!([
        {"role": "user", "content": [{"type": "text", "text": "look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}, "title": "t.pdf"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "c2", "name": "g", "input": {"raw_arguments": "{oops"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
            {"type": "text", "text": "go on"}]},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "please"},
    ]);
    assert_eq!(translated["messages"], expected);
}

#[test]
fn a_request_for_a_chat_completion_becomes_one_for_a_message() {
    let members = json!({
        "max_completion_tokens": 9000, "temperature": 1.5, "top_p": 0.9, "top_k": 3, "stop": "x", "stream": true,
        "stream_options": {"include_usage": true}, "user": "u", "n": 1, "seed": 7, "frequency_penalty": 0.1,
        "service_tier": "default", "parallel_tool_calls": false, "logprobs": false,
        "tools": [{"type": "function", "function": {"name": "f", "description": null}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    });
    let expected = json!({
        "model": "m", "max_tokens": 9000, "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "messages": [{"role": "user", "content": "q"}], "stop_sequences": ["x"], "temperature": 1,
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}, "metadata": {"user_id": "u"},
        "service_tier": "standard_only", "top_p": 0.9, "top_k": 3, "stream": true,
    });
    asks(Direction::ToAnthropic, with(members), expected);
    // What nothing is said of, and thinking, whose budget comes on top.
    let expected = json!({
        "model": "m", "max_tokens": 4096 + 16384, "messages": [{"role": "user", "content": "q"}],
        "thinking": {"type": "enabled", "budget_tokens": 16384},
    });
    asks(Direction::ToAnthropic, with(json!({"reasoning_effort": "high", "temperature": 0.3})), expected);
    // Within a bound that the client has set, or not at all.
    let bounded =
        |most: u64| request(Direction::ToAnthropic, &with(json!({"reasoning_effort": "low", "max_tokens": most})));
    assert_eq!(bounded(2000).unwrap()["thinking"]["budget_tokens"], 1024);
    assert_eq!(bounded(1000).unwrap().get("thinking"), None);
}

#[test]
fn tool_choices_go_both_ways() {
    let openai = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let anthropic = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    for (one, other) in [
        (json!("auto"), json!({"type": "auto"})),
        (json!("required"), json!({"type": "any"})),
        (json!("none"), json!({"type": "none"})),
        (json!({"type": "function", "function": {"name": "f"}}), json!({"type": "tool", "name": "f"})),
    ] {
        let there = request(Direction::ToAnthropic, &with(json!({"tools": openai, "tool_choice": one}))).unwrap();
        assert_eq!((&there["tools"], &there["tool_choice"]), (&anthropic, &other));
        let back = request(Direction::ToOpenAi, &there).unwrap();
        assert_eq!((&back["tools"], &back["tool_choice"]), (&openai, &one));
    }
}

#[test]
fn what_has_no_place_is_refused_by_its_name() {
    for (members, param) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"tools": [{"type": "custom", "custom": {}}]}), "tools"),
        (json!({"tool_choice": "perhaps", "tools": []}), "tool_choice"),
        (json!({"response_format": {"type": "grammar"}}), "response_format"),
        (json!({"max_tokens": "many"}), "max_tokens"),
        (json!({"messages": "q"}), "messages"),
        (json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}), "messages"),
        (json!({"messages": [{"role": "nobody"}]}), "messages"),
    ] {
        let fault = request(Direction::ToAnthropic, &with(members.clone())).expect_err(param);
        assert_eq!(fault.param(), Some(param), "{members}");
    }
    for (members, param) in [
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools"),
        (json!({"mcp_servers": [{"url": "https://h"}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
        (json!({"system": 7}), "system"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}),
            "messages",
        ),
        (json!({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}), "messages"),
    ] {
        let fault = request(Direction::ToOpenAi, &with(members.clone())).expect_err(param);
        assert_eq!(fault.param(), Some(param), "{members}");
    }
}

#[test]
fn a_message_becomes_a_chat_completion_and_back() {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"},
            {"type": "text", "text": "b"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null, "further": 1,
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4, "service_tier": "standard"},
    });
    let completion = json!({
        "id": "msg_1", "object": "chat.completion", "created": 7, "model": "claude",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab", "refusal": null, "reasoning_content": "hm",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            "logprobs": null, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_creation_tokens": 2}},
        "service_tier": "default", "further": 1,
    });
    assert_eq!(answer(Direction::ToAnthropic, &message), completion);
    let back = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "ab"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null, "further": 1,
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4},
    });
    assert_eq!(answer(Direction::ToOpenAi, &completion), back);
}

#[test]
fn reasons_for_an_end_go_both_ways() {
    for (stop, finish) in [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ] {
        let message = json!({"type": "message", "content": [], "stop_reason": stop});
        let completion = answer(Direction::ToAnthropic, &message);
        assert_eq!(completion["choices"][0]["finish_reason"], finish);
        assert_eq!(answer(Direction::ToOpenAi, &completion)["stop_reason"], stop);
    }
    let message = json!({"type": "message", "content": [], "stop_reason": "stop_sequence", "stop_sequence": "x"});
    let completion = answer(Direction::ToAnthropic, &message);
    assert_eq!(
        (&completion["choices"][0]["finish_reason"], &completion["choices"][0]["stop_reason"]),
        (&json!("stop"), &json!("x"))
    );
    let back = answer(Direction::ToOpenAi, &completion);
    assert_eq!((&back["stop_reason"], &back["stop_sequence"]), (&json!("stop_sequence"), &json!("x")));
    // Without a reason there is none on the other side either.
    let unended = json!({"choices": [{"message": {"content": "a"}, "finish_reason": null}]});
    assert_eq!(answer(Direction::ToOpenAi, &unended)["stop_reason"], Value::Null);
    let refused = json!({"choices": [{"message": {"content": null, "refusal": "no"}, "finish_reason": "stop"}]});
    let refused = answer(Direction::ToOpenAi, &refused);
    assert_eq!((&refused["stop_reason"], &refused["content"][0]["text"]), (&json!("refusal"), &json!("no")));
}

#[test]
fn errors_take_the_form_of_the_other_api() {
    let error = |direction: Direction, status, body: &str| -> Value {
        serde_json::from_slice(&direction.error(status, body.as_bytes())).expect("JSON")
    };
    let openai = r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota","param":null}}"#;
    let expected =
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m", "code": "insufficient_quota"}});
    assert_eq!(error(Direction::ToOpenAi, 429, openai), expected);
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}"#;
    let expected = json!({"error": {"message": "m", "type": "overloaded_error", "param": null, "code": null}});
    assert_eq!(error(Direction::ToAnthropic, 529, anthropic), expected);
    for (body, message) in [
        (r#"{"object":"error","message":"old","type":"BadRequestError","code":400}"#, "old"),
        (r#"{"error":"a text"}"#, "a text"),
        (r#"{"detail":"not found"}"#, "not found"),
        ("plain", "plain"),
        ("<html>", "The model's backend reported an error."),
        ("", "The model's backend reported an error."),
        ("[1]", "[1]"),
    ] {
        assert_eq!(error(Direction::ToOpenAi, 404, body)["error"]["message"], message, "{body}");
        assert_eq!(error(Direction::ToOpenAi, 404, body)["error"]["type"], "not_found_error", "{body}");
        assert_eq!(error(Direction::ToAnthropic, 404, body)["error"]["message"], message, "{body}");
    }
}

/// A conversation that both APIs can tell: texts, calls and their results.
fn conversation() -> impl Strategy<Value = Value> {
    let text = "[a-z\"\\\\ é]{1,9}";
    let input = proptest::collection::vec(("[a-z]{1,4}", any::<i64>()), 0..3);
    let turn = (text, proptest::collection::vec((text, input), 0..3), text);
    (proptest::option::of(text), proptest::collection::vec(turn, 1..4)).prop_map(|(system, turns)| {
        let mut messages = Vec::new();
        let mut number = 0;
        for (asked, calls, said) in turns {
            messages.push(json!({"role": "user", "content": asked}));
            let mut blocks = vec![json!({"type": "text", "text": said})];
            let mut results = Vec::new();
            for (result, input) in calls {
                number += 1;
                let id = format!("t{number}");
                let input: Value = Value::Object(input.into_iter().map(|(name, value)| (name, value.into())).collect());
                blocks.push(json!({"type": "tool_use", "id": id, "name": "f", "input": input}));
                results.push(json!({"type": "tool_result", "tool_use_id": id, "content": result}));
            }
            if results.is_empty() {
                messages.push(json!({"role": "assistant", "content": said}));
            } else {
                messages.push(json!({"role": "assistant", "content": blocks}));
                messages.push(json!({"role": "user", "content": results}));
                messages.push(json!({"role": "assistant", "content": "ok"}));
            }
        }
        let mut body = json!({"model": "m", "max_tokens": 5, "messages": messages});
        if let Some(system) = system {
            body["system"] = system.into();
        }
        body
    })
}

/// Anything that JSON can be, with the names that mean something here.
fn anything() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("type"),
        Just("content"),
        Just("role"),
        Just("messages"),
        Just("tools"),
        Just("tool_calls"),
        Just("function"),
        Just("choices"),
        Just("delta"),
        Just("message"),
        Just("index"),
        Just("id"),
        Just("name"),
        Just("arguments"),
        Just("input"),
        Just("text"),
        Just("source"),
        Just("usage"),
        Just("error"),
        Just("finish_reason"),
        Just("content_block"),
    ];
    let words = prop_oneof![
        Just("text"),
        Just("tool_use"),
        Just("tool_result"),
        Just("image"),
        Just("user"),
        Just("assistant"),
        Just("tool"),
        Just("message_start"),
        Just("content_block_start"),
        Just("content_block_delta"),
        Just("message_delta"),
        Just("message_stop"),
        Just("message"),
        Just("stop"),
        Just("input_json_delta"),
        Just("base64"),
        Just(""),
        Just("error"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn what_both_can_say_comes_back_as_it_was(body in conversation()) {
        let there = request(Direction::ToOpenAi, &body).expect("translatable");
        let back = request(Direction::ToAnthropic, &there).expect("translatable");
        prop_assert_eq!(back, body);
    }

    #[test]
    fn nothing_fails_otherwise_than_by_saying_so(values in proptest::collection::vec(anything(), 1..5)) {
        for direction in [Direction::ToOpenAi, Direction::ToAnthropic] {
            for value in &values {
                let bytes = value.to_string().into_bytes();
                let _ = direction.request(&bytes, SETTINGS);
                let _ = direction.answer(&bytes, 0);
                let error = direction.error(400, &bytes);
                prop_assert!(serde_json::from_slice::<Value>(&error).expect("JSON")["error"]["message"].is_string());
            }
            let _ = streamed(direction, &values);
        }
    }
}
