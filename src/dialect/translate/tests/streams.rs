//! The same of streams: event by event, cut anywhere, broken off, and ended by an error.

use serde_json::{Value, json};

use super::super::{Direction, Stream, StreamFault};

/// The data of the events that come out, with their names checked.
pub fn streamed(direction: Direction, events: &[Value]) -> Result<Vec<Value>, StreamFault> {
    let bytes: Vec<u8> = events
        .iter()
        .flat_map(|event| {
            match event {
                Value::String(text) => format!("data: {text}\n\n"),
                event => format!("data: {event}\n\n"),
            }
            .into_bytes()
        })
        .collect();
    let whole = translated(direction, &bytes, bytes.len().max(1));
    for step in [1, 7] {
        assert_eq!(translated(direction, &bytes, step), whole, "in steps of {step}");
    }
    let text = String::from_utf8(whole?).expect("UTF-8");
    let mut name = None;
    let mut out = Vec::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("event: ") {
            name = Some(said.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
            assert_eq!(
                name.take(),
                (direction == Direction::ToOpenAi).then(|| data["type"].as_str().unwrap().to_owned())
            );
            out.push(data);
        }
    }
    Ok(out)
}

fn translated(direction: Direction, bytes: &[u8], step: usize) -> Result<Vec<u8>, StreamFault> {
    let (mut stream, mut out) = (Stream::new(direction, 7), Vec::new());
    for part in bytes.chunks(step) {
        stream.take_in(part, &mut out)?;
    }
    stream.end(&mut out)?;
    Ok(out)
}

fn chunk(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

#[test]
fn a_stream_of_chunks_becomes_blocks_one_after_the_other() {
    let events = streamed(Direction::ToOpenAi, &[
        chunk(json!({"role": "assistant", "content": ""})),
        chunk(json!({"reasoning_content": "hm"})),
        chunk(json!({"content": "I "})),
        chunk(json!({"content": "call"})),
        chunk(json!({"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\""}}]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})),
        chunk(json!({"tool_calls": [{"index": 1, "id": "t2", "function": {"arguments": "{"}}]})),
        chunk(json!({"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": "}"}}]})),
        chunk(json!({"content": "done"})),
        finish("tool_calls"),
        json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 2}}}),
        json!("[DONE]"),
        json!("after the end"),
    ]).expect("whole");
    let start =
        |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
    let json_delta = |part: &str| json!({"type": "input_json_delta", "partial_json": part});
    let text_delta = |part: &str| json!({"type": "text_delta", "text": part});
    let usage = |input: u64, read: u64, output: u64| json!({"input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": read, "output_tokens": output});
    let message = json!({"id": "c", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": usage(0, 0, 0)});
    let expected = vec![
        json!({"type": "message_start", "message": message}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        stop(0),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, text_delta("I ")),
        delta(1, text_delta("call")),
        stop(1),
        start(2, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
        delta(2, json_delta("{\"a\"")),
        delta(2, json_delta(":1}")),
        stop(2),
        start(3, json!({"type": "tool_use", "id": "t2", "name": "g", "input": {}})),
        delta(3, json_delta("{}")),
        stop(3),
        start(4, json!({"type": "text", "text": ""})),
        delta(4, text_delta("done")),
        stop(4),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": usage(3, 2, 6)}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_stream_of_messages_becomes_chunks() {
    let events = streamed(Direction::ToAnthropic, &[
        json!({"type": "message_start", "message": {"id": "msg", "model": "c", "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t1", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "t2", "name": "g", "input": {}}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "something_new"}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ]).expect("whole");
    let deltas: Vec<Value> = events.iter().map(|event| event["choices"][0]["delta"].clone()).collect();
    let call = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let part = |index: u64, part: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]});
    let expected = vec![
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "hm"}),
        json!({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}),
        json!({"content": "a"}),
        call(0, "t1", "f"),
        part(0, "{\"a\":1}"),
        call(1, "t2", "g"),
        part(1, "{}"),
        json!({}),
    ];
    assert_eq!(deltas[..expected.len()], expected);
    let [.., finish, usage, done] = &events[..] else { panic!("{events:?}") };
    assert_eq!(finish["choices"][0]["finish_reason"], "tool_calls");
    let (expected, details) = (json!([]), json!({"cached_tokens": 2}));
    assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens_details"]), (&expected, &details));
    assert_eq!((&usage["usage"]["prompt_tokens"], &usage["usage"]["completion_tokens"]), (&json!(5), &json!(9)));
    assert_eq!(
        (done, &usage["object"], &usage["created"]),
        (&json!("[DONE]"), &json!("chat.completion.chunk"), &json!(7))
    );
}

#[test]
fn a_stream_without_its_end_has_none() {
    let start = json!({"type": "message_start", "message": {"id": "m"}});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}});
    let stopped = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    for events in [vec![], vec![start.clone()], vec![start.clone(), delta], vec![start.clone(), stopped]] {
        assert_eq!(streamed(Direction::ToAnthropic, &events), Err(StreamFault::Truncated), "{events:?}");
    }
    for events in [vec![], vec![chunk(json!({"content": "a"}))], vec![json!("[DONE]")]] {
        assert_eq!(streamed(Direction::ToOpenAi, &events), Err(StreamFault::Truncated), "{events:?}");
    }
    // Some servers leave the last event out.
    let events = streamed(Direction::ToOpenAi, &[chunk(json!({"content": "a"})), finish("stop")]).expect("ended");
    assert_eq!(events.last(), Some(&json!({"type": "message_stop"})));
    for (direction, garbage) in [
        (Direction::ToOpenAi, json!("words")),
        (Direction::ToAnthropic, json!("words")),
        (Direction::ToAnthropic, json!({"choices": []})),
        (Direction::ToAnthropic, json!({"type": "message_stop"})),
    ] {
        assert_eq!(streamed(direction, &[garbage]), Err(StreamFault::Garbage));
    }
    // Calls that come in turns cannot be told as blocks.
    let call = |index: u64| {
        chunk(json!({"tool_calls": [{"index": index, "id": "t", "function": {"name": "f", "arguments": "{"}}]}))
    };
    assert_eq!(streamed(Direction::ToOpenAi, &[call(0), call(1), call(0)]), Err(StreamFault::Garbage));
}

#[test]
fn an_error_in_a_stream_is_its_last_event() {
    let error = json!({"error": {"message": "m", "type": "server_error"}});
    let events =
        streamed(Direction::ToOpenAi, &[chunk(json!({"content": "a"})), error, finish("stop")]).expect("ended");
    assert_eq!(events.last(), Some(&json!({"type": "error", "error": {"type": "api_error", "message": "m"}})));
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}});
    let start = json!({"type": "message_start", "message": {"id": "m"}});
    let events = streamed(Direction::ToAnthropic, &[start, error]).expect("ended");
    assert_eq!(events.last().expect("one")["error"]["message"], "m");
}
