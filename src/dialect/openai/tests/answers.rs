//! Facts of non-streaming answers, and the round trip between the two forms.

use crate::dialect::facts::{Endpoint, ErrorKind, NotStored, StreamVerdict, Substance, TokenUsage};
use crate::dialect::openai::{answer_facts, event_facts, streamed_of, whole_of};
use crate::wire::json::Tape;
use crate::wire::json::tests::law;
use crate::wire::sse::Splitter;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn stored(endpoint: Endpoint, body: &str) -> Result<(), NotStored> {
    answer_facts(endpoint, body.as_bytes(), &mut Tape::new()).stored
}

#[test]
fn only_complete_answers_may_be_stored() {
    use Endpoint::*;
    for (endpoint, body, expected) in [
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"message":{"tool_calls":[{}]},"finish_reason":"tool_calls"}]}"#,
            Ok(()),
        ),
        (Completions, r#"{"error":null,"choices":[{"text":"a","finish_reason":"stop"}]}"#, Ok(())),
        (Completions, r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#, Err(NotStored::Empty)),
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"message":{"content":null},"finish_reason":"stop"}]}"#,
            Err(NotStored::Empty),
        ),
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"role":"assistant","content":"","tool_calls":[ ],"refusal":null,"x":"y"},"finish_reason":"stop"}]}"#,
            Err(NotStored::Empty),
        ),
        (ChatCompletions, r#"{"choices":[{"message":{"refusal":"no"},"finish_reason":"stop"}]}"#, Ok(())),
        (ChatCompletions, r#"{"choices":[{"message":{"reasoning_content":"hm"},"finish_reason":"stop"}]}"#, Ok(())),
        (ChatCompletions, r#"{"choices":[{"message":{"audio":{"data":"A"}},"finish_reason":"stop"}]}"#, Ok(())),
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":""}]}"#,
            Err(NotStored::MissingFinish),
        ),
        (Embeddings, r#"{"data":[{"embedding":"AAAA"}]}"#, Ok(())),
        (Embeddings, r#"{"data":[{"embedding":[0.1]},{"embedding":[]}]}"#, Err(NotStored::Empty)),
        (Embeddings, r#"{"data":[{"embedding":null}]}"#, Err(NotStored::Empty)),
        (Embeddings, r#"{"data":[{"embedding":[0.1]}]}"#, Ok(())),
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"finish_reason":"length"}]}"#,
            Err(NotStored::LengthCut),
        ),
        (ChatCompletions, r#"{"choices":[{"finish_reason":"content_filter"}]}"#, Err(NotStored::ContentFilter)),
        (ChatCompletions, r#"{"choices":[{"finish_reason":null}]}"#, Err(NotStored::MissingFinish)),
        (ChatCompletions, r#"{"choices":[{}]}"#, Err(NotStored::MissingFinish)),
        (ChatCompletions, r#"{"choices":[{"finish_reason":"error"}]}"#, Err(NotStored::UnknownFinish)),
        (ChatCompletions, r#"{"choices":[]}"#, Err(NotStored::NoContent)),
        (ChatCompletions, "{}", Err(NotStored::NoContent)),
        (ChatCompletions, r#"{"error":{"message":"x"},"choices":[{"finish_reason":"stop"}]}"#, Err(NotStored::Error)),
        (Embeddings, r#"{"object":"error","data":[1]}"#, Err(NotStored::Error)),
        (Embeddings, r#"{"data":[]}"#, Err(NotStored::NoContent)),
        (Embeddings, r#"{"choices":[{"finish_reason":"stop"}]}"#, Err(NotStored::NoContent)),
        (ChatCompletions, "[]", Err(NotStored::Unreadable)),
        (ChatCompletions, r#"{"choices":[{"finish_reason":"stop"}]"#, Err(NotStored::Unreadable)),
        (ChatCompletions, r#"{"choices":[],"choices":[{"finish_reason":"stop"}]}"#, Err(NotStored::Unreadable)),
        (Other, r#"{"choices":[{"finish_reason":"stop"}]}"#, Err(NotStored::Endpoint)),
        (Models, "{}", Err(NotStored::Endpoint)),
    ] {
        assert_eq!(stored(endpoint, body), expected, "{body}");
    }
    let body = br#"{"data":[1],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let usage = answer_facts(Embeddings, body, &mut Tape::new()).usage;
    assert_eq!(usage, Some(TokenUsage { prompt: 8, completion: 0, total: 8, ..TokenUsage::default() }));
}

#[test]
fn errors_and_empty_answers_are_distinguished_from_answers() {
    use Endpoint::*;
    use Substance::{Content, Cut, Error, Preamble, Unknown};
    for (endpoint, body, substance) in [
        (ChatCompletions, r#"{"choices":[{}]}"#, Content),
        (ChatCompletions, r#"{"choices":[{}],"error":{},"object":"chat.completion"}"#, Content),
        (ChatCompletions, r#"{"choices":[{}],"error":false}"#, Content),
        (ChatCompletions, r#"{"choices":[{}],"base_resp":{"status_code":0,"status_msg":""}}"#, Content),
        // Clients may parse what this scanner refuses.
        (ChatCompletions, r#"{"choices":[{"logprob":NaN}]}"#, Content),
        (ChatCompletions, r#"{"id":1,"id":2,"choices":[{}]}"#, Content),
        (ChatCompletions, r#"{"error":{"code":429},"error":{"code":429}}"#, Error(ErrorKind::RateLimited)),
        (ChatCompletions, r#"{"error":{"message":"x"}}"#, Error(ErrorKind::Unknown)),
        (ChatCompletions, r#"{"error":"Model overloaded","error_type":"overloaded"}"#, Error(ErrorKind::Overloaded)),
        (ChatCompletions, r#"{"error":{"message":"x","code":502},"choices":[{}]}"#, Error(ErrorKind::Server)),
        (
            ChatCompletions,
            r#"{"choices":[{"error":{"code":429},"finish_reason":"error"}]}"#,
            Error(ErrorKind::RateLimited),
        ),
        (ChatCompletions, r#"{"object":"error","message":"x","code":400}"#, Error(ErrorKind::Client)),
        (ChatCompletions, r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#, Error(ErrorKind::Overloaded)),
        (ChatCompletions, r#"{"choices":null}"#, Unknown(ErrorKind::Unknown)),
        (ChatCompletions, r#"{"choices":[]}"#, Unknown(ErrorKind::Unknown)),
        (ChatCompletions, "{}", Unknown(ErrorKind::Unknown)),
        (ChatCompletions, r#"{"detail":"Not Found"}"#, Unknown(ErrorKind::Unknown)),
        // MiniMax, DashScope, Cloudflare.
        (
            ChatCompletions,
            r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
            Unknown(ErrorKind::QuotaExhausted),
        ),
        (ChatCompletions, r#"{"code":"Throttling","message":"x","request_id":"r"}"#, Unknown(ErrorKind::RateLimited)),
        (
            ChatCompletions,
            r#"{"success":false,"errors":[{"code":429,"message":"x"}],"result":null}"#,
            Unknown(ErrorKind::RateLimited),
        ),
        (ChatCompletions, " ", Cut),
        (ChatCompletions, r#"{"choices":[{"#, Cut),
        (ChatCompletions, "null", Preamble),
        (ChatCompletions, "<html>", Preamble),
        (ChatCompletions, "[]", Preamble),
        (Embeddings, r#"{"data":[]}"#, Content),
        (Embeddings, r#"{"data":null}"#, Unknown(ErrorKind::Unknown)),
    ] {
        let facts = answer_facts(endpoint, body.as_bytes(), &mut Tape::new());
        assert_eq!(facts.substance, substance, "{body}");
        assert!(substance == Content || facts.stored.is_err(), "{body}");
    }
}

#[test]
fn usage_of_a_whole_answer_is_found_wherever_it_is() {
    let usage = |body: &str| answer_facts(Endpoint::ChatCompletions, body.as_bytes(), &mut Tape::new()).usage;
    let tokens = Some(TokenUsage { prompt: 3, completion: 4, total: 7, ..TokenUsage::default() });
    assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), tokens);
    assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), tokens);
    assert_eq!(usage(r#"{"usage":null,"choices":[{"usage":{"prompt_tokens":3,"completion_tokens":4}}]}"#), tokens);
    assert_eq!(usage(r#"{"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}"#), tokens);
    assert_eq!(usage(r#"{"usage":{},"choices":[{}]}"#), None);
}

/// Any JSON value a server might add.
fn extra() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z \n\"]{0,6}".prop_map(Value::from),
        Just(json!([1.50, {"a": "b"}])),
        Just(json!({"a": [], "b": null})),
        Just(serde_json::from_str("1234567890.12345678901234567890e0").expect("a number")),
    ]
}

fn extras() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("x_[a-c]", extra(), 0..3).prop_map(|members| members.into_iter().collect())
}

fn optional(name: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Map<String, Value>> {
    prop_oneof![Just(Map::new()), value.prop_map(move |value| Map::from_iter([(name.to_owned(), value)])),].boxed()
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), Just(json!("")), ".{1,12}".prop_map(Value::from)]
}

fn merged(parts: Vec<Map<String, Value>>) -> Map<String, Value> {
    parts.into_iter().flatten().collect()
}

fn call() -> impl Strategy<Value = Value> {
    let function = ("[a-z]{1,5}", ".{0,8}", extras()).prop_map(|(name, arguments, extras)| {
        merged(vec![object(json!({"name": name, "arguments": arguments})), extras])
    });
    let function = function.prop_map(|function| json!({"type": "function", "function": function}));
    let custom = ("[a-z]{1,5}", ".{0,8}")
        .prop_map(|(name, input)| json!({"type": "custom", "custom": {"name": name, "input": input}}));
    ("call_[a-z]{3}", prop_oneof![4 => function, 1 => custom], extras())
        .prop_map(|(id, call, extras)| Value::Object(merged(vec![object(json!({"id": id})), object(call), extras])))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn chat_logprobs() -> impl Strategy<Value = Value> {
    let list = || {
        prop::collection::vec(
            ".{0,3}".prop_map(|token| json!({"token": token, "logprob": -0.5, "top_logprobs": []})),
            0..3,
        )
    };
    prop_oneof![
        Just(Value::Null),
        list().prop_map(|list| json!({"content": list, "refusal": null})),
        list().prop_map(|list| json!({"content": null, "refusal": list})),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    (
        text().prop_map(|text| object(json!({"role": "assistant", "content": text}))),
        optional("refusal", text()),
        optional("reasoning_content", text()),
        optional("annotations", Just(json!([]))),
        optional("tool_calls", prop::collection::vec(call(), 0..4).prop_map(Value::from)),
        optional(
            "function_call",
            ("[a-z]{1,4}", ".{0,5}").prop_map(|(name, arguments)| json!({"name": name, "arguments": arguments})),
        ),
        extras(),
    )
        .prop_map(|parts| Value::Object(merged(vec![parts.0, parts.1, parts.2, parts.3, parts.4, parts.5, parts.6])))
}

fn finish_reason() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["stop", "tool_calls", "length", "else"]).prop_map(Value::from)
}

fn chat_choice() -> impl Strategy<Value = Map<String, Value>> {
    (message(), finish_reason(), optional("logprobs", chat_logprobs()), extras()).prop_map(
        |(message, reason, logprobs, extras)| {
            merged(vec![object(json!({"message": message, "finish_reason": reason})), logprobs, extras])
        },
    )
}

fn text_choice() -> impl Strategy<Value = Map<String, Value>> {
    let logprobs = prop_oneof![
        Just(Value::Null),
        Just(
            json!({"tokens": ["a", "b"], "token_logprobs": [-1.0, null], "top_logprobs": null, "text_offset": [0, 1]})
        ),
    ];
    (".{0,12}", finish_reason(), optional("logprobs", logprobs), extras()).prop_map(
        |(text, reason, logprobs, extras)| {
            merged(vec![object(json!({"text": text, "finish_reason": reason})), logprobs, extras])
        },
    )
}

fn answer(kind: &'static str, choice: BoxedStrategy<Map<String, Value>>) -> impl Strategy<Value = Value> {
    (
        prop::collection::vec(choice, 1..5),
        optional(
            "usage",
            Just(json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "x": {"y": 1.0}})),
        ),
        optional("system_fingerprint", text()),
        optional("service_tier", text()),
        extras(),
    )
        .prop_map(move |(choices, usage, fingerprint, tier, extras)| {
            let choices: Vec<Value> = choices
                .into_iter()
                .enumerate()
                .map(|(index, choice)| Value::Object(merged(vec![object(json!({"index": index})), choice])))
                .collect();
            let base = json!({"id": "c-1", "object": kind, "created": 1700000000, "model": "m", "choices": choices});
            Value::Object(merged(vec![object(base), usage, fingerprint, tier, extras]))
        })
}

fn round_trip(endpoint: Endpoint, answer: &Value) -> Result<(), TestCaseError> {
    let whole = serde_json::to_vec(answer).expect("a value");
    let streamed = streamed_of(endpoint, &whole);
    prop_assert!(streamed.is_some(), "not converted: {}", answer);
    let streamed = streamed.expect("checked");
    let back = whole_of(endpoint, &streamed.events, streamed.usage_event.as_deref());
    let back = back.map(|back| serde_json::from_slice::<Value>(&back).expect("JSON"));
    prop_assert_eq!(back.as_ref(), Some(answer), "{}", String::from_utf8_lossy(&streamed.events));

    // The facts of both forms are equal, too.
    let mut tape = Tape::new();
    let facts = answer_facts(endpoint, &whole, &mut tape);
    let mut stream = streamed.events;
    stream.extend(streamed.usage_event.unwrap_or_default());
    stream.extend_from_slice(b"data: [DONE]\n\n");
    let (mut splitter, mut verdict, mut usage) = (Splitter::new(), StreamVerdict::new(), None);
    while let Some(event) = splitter.next(&stream).expect("short events") {
        let facts = event_facts(endpoint, splitter.data(&event, &stream), &mut tape);
        verdict.note(&facts);
        usage = facts.usage.or(usage);
    }
    prop_assert_eq!((usage, verdict.stored()), (facts.usage, facts.stored));
    Ok(())
}

#[test]
fn chat_answers_survive_the_round_trip() {
    law(600, answer("chat.completion", chat_choice().boxed()), |answer| round_trip(Endpoint::ChatCompletions, &answer));
}

#[test]
fn text_answers_survive_the_round_trip() {
    law(300, answer("text_completion", text_choice().boxed()), |answer| round_trip(Endpoint::Completions, &answer));
}

#[test]
fn doubtful_streams_are_not_aggregated() {
    let chunk = |members: &str| format!(r#"data: {{"id":"1","object":"chat.completion.chunk",{members}}}{}"#, "\n\n");
    let choice = |members: &str| chunk(&format!(r#""choices":[{{"index":0,{members}}}]"#));
    let good = choice(r#""delta":{"role":"assistant","content":"a"},"finish_reason":"stop""#);
    let whole = |events: &[&str]| whole_of(Endpoint::ChatCompletions, events.concat().as_bytes(), None);
    assert!(whole(&[&good]).is_some());
    assert!(whole(&[&good, "data: [DONE]\n\n", ": comment\n\n"]).is_some());
    for doubtful in [
        "data: {\n\n".to_owned(),
        "data: 1".to_owned(),
        good[..good.len() - 1].to_owned(),
        chunk(r#""choices":7"#),
        chunk(r#""choices":[7]"#),
        chunk(r#""choices":[],"id":"2""#),
        chunk(r#""choices":[],"timings":1"#),
        r#"data: {"object":"chat.completion","choices":[]}"#.to_owned() + "\n\n",
        choice(r#""finish_reason":"length""#),
        choice(r#""delta":3"#),
        choice(r#""delta":{"content":["a"]}"#),
        choice(r#""delta":{"role":"user"}"#),
        choice(r#""delta":{"tool_calls":[{"id":"no index"}]}"#),
        choice(r#""delta":{"tool_calls":[{"index":1,"id":"gap"}]}"#),
        choice(r#""delta":{"tool_calls":[{"index":0,"id":"a"},{"index":0,"id":"b"}]}"#),
        choice(r#""delta":{"tool_calls":{}}"#),
        // After the end of the choice.
        choice(r#""delta":{"content":"b"}"#),
        choice(r#""message":{}"#),
        choice(r#""logprobs":7"#).replace("7", r#"{"content":[]}},{"index":0,"logprobs":{"content":1}"#),
        chunk(r#""choices":[{"delta":{}}]"#),
        choice(r#""x":{"$serde_json::private::Number":"1"}"#),
    ] {
        let first = chunk(r#""timings":0,"choices":[]"#);
        assert_eq!(whole(&[&first, &good, &doubtful]), None, "{doubtful}");
    }
    // A second value that may be a continuation or a repetition.
    let open = |delta: &str| choice(&format!(r#""delta":{delta},"finish_reason":null"#));
    let end = choice(r#""delta":{},"finish_reason":"stop""#);
    for (first, second) in [
        (r#"{"name":"x"}"#, r#"{"name":"x"}"#),
        (r#"{"speech":"ha"}"#, r#"{"speech":"ha"}"#),
        (r#"{"annotations":[1]}"#, r#"{"annotations":[1]}"#),
        (r#"{"details":{"a":1}}"#, r#"{"details":{"a":1}}"#),
        // Two calls with the same index.
        (
            r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}}]}"#,
        ),
        (
            r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}"#,
        ),
        (
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#,
        ),
    ] {
        assert_eq!(whole(&[&open(first), &open(second), &end]), None, "{first} {second}");
        assert_eq!(whole(&[&open(first), &open("{}"), &end]).is_some(), !first.contains("}}]}}"), "{first}");
    }
    let twice = r#"{"name":"x","speech":null,"safe":true,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#;
    assert!(whole(&[&open(twice), &open(twice), &end]).is_none(), "a name repeated without an id");
    let twice = twice.replace(r#""name":"x","#, "");
    assert!(whole(&[&open(&twice), &open(&twice), &end]).is_some(), "the same call by its id");
    let long = open(&format!(r#"{{"content":"{}"}}"#, "x".repeat(300 << 10)));
    assert_eq!(whole(&[&long, &end]), None, "above the bound");
    assert_eq!(whole(&[]), None);
    assert_eq!(whole(&[&chunk(r#""choices":[]"#)]), None);
    assert_eq!(whole_of(Endpoint::Embeddings, good.as_bytes(), None), None);

    for doubtful in [
        r#"{"choices":[]}"#,
        r#"{"object":"chat.completion","choices":[]}"#,
        r#"{"object":"chat.completion","choices":[{"message":{"role":"assistant"}}]}"#,
        r#"{"object":"chat.completion","choices":[{"index":0,"message":{}},{"index":0,"message":{}}]}"#,
        r#"{"object":"chat.completion","choices":[{"index":0,"message":"x"}]}"#,
        r#"{"object":"chat.completion","error":{},"choices":[{"index":0,"message":{}}]}"#,
        r#"{"object":"text_completion","choices":[{"index":0,"text":"x"}]}"#,
        r#"{"object":"chat.completion","choices":[{"index":0,"message":{"tool_calls":[{"index":3}]}}]}"#,
        r#"{"object":"chat.completion","choices":[{"index":0,"message":{},"usage":{"total_tokens":1}}]}"#,
        r#"{"object":"chat.completion","choices":[{"index":0,"message":{}}],"x_groq":{"usage":{}}}"#,
        "[]",
        "{",
    ] {
        assert_eq!(streamed_of(Endpoint::ChatCompletions, doubtful.as_bytes()), None, "{doubtful}");
    }
    let text = br#"{"object":"text_completion","choices":[{"index":0,"text":null}]}"#;
    assert_eq!(streamed_of(Endpoint::Completions, text), None);
}

#[test]
fn a_usage_event_may_come_in_any_dress() {
    let events = b"data: {\"object\":\"chat.completion.chunk\",\"usage\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = br#"{"object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":3},"timings":{"ms":1.0}}"#;
    let plain = whole_of(Endpoint::ChatCompletions, events, Some(usage)).unwrap();
    let dressed = [b"data: ", &usage[..], b"\n\n"].concat();
    assert_eq!(whole_of(Endpoint::ChatCompletions, events, Some(&dressed)), Some(plain.clone()));
    let value: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(value["usage"]["total_tokens"], 3);
    assert_eq!(value["timings"]["ms"].to_string(), "1.0");
    assert_eq!(value["choices"][0]["message"], json!({"role": "assistant", "content": "a"}));
}
