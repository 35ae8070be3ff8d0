//! Clients of one API in front of backends of the other: what the backend gets, what the client gets, and what is kept.

use serde_json::{Value, json};

use super::answers::log_of;
use super::kit::*;

const MESSAGES: &str = "/v1/messages";

/// A gateway whose model `m` is at a backend that speaks `api`.
fn before(backend: &Backend, api: &str) -> Gateway {
    Setup::with_backend(backend, &format!("api = \"{api}\"")).log("access = \"$DIRECTORY/access.log\"").start()
}

/// A request for a message.
pub fn message(what: &str, members: &str) -> Vec<u8> {
    post(MESSAGES, &message_body(what, members))
}

pub fn message_body(what: &str, members: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":50,"messages":[{{"role":"user","content":"{what}"}}]{members}}}"#)
}

/// An answer of Anthropic's API.
pub fn message_answer(what: &str) -> String {
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{{"type":"text","text":"{what}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":3,"output_tokens":2}}}}"#
    )
}

fn named(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// The events of such an answer, up to where it may break off.
pub fn message_events(pieces: &[&str]) -> Vec<String> {
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#;
    let mut events = vec![named("message_start", start), named("ping", r#"{"type":"ping"}"#)];
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    events.push(named("content_block_start", block));
    for text in pieces {
        let delta =
            format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#);
        events.push(named("content_block_delta", &delta));
    }
    events
}

pub fn message_end() -> Vec<String> {
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#;
    vec![
        named("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        named("message_delta", delta),
        named("message_stop", r#"{"type":"message_stop"}"#),
    ]
}

/// A stream with each of `events` in a chunk of its own, ended properly.
pub fn framed(events: &[String]) -> Vec<u8> {
    let chunks: String = events.iter().map(|event| chunk(event)).collect();
    (STREAM_HEAD.to_owned() + &chunks + LAST_CHUNK).into_bytes()
}

/// Answers as Anthropic does, in the form asked for.
fn anthropic(request: &Request) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    match asked["stream"] == true {
        true => framed(&[message_events(&["Hello", "!"]), message_end()].concat()),
        false => json(&message_answer("Hello!")),
    }
}

fn value(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{}", response.text()))
}

/// The data of each event.
pub fn events(response: &Response) -> Vec<Value> {
    let data = response.text().lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

fn asked(backend: &Backend, place: usize) -> Value {
    serde_json::from_slice(&backend.requests()[place].body).unwrap()
}

#[test]
fn a_message_is_answered_by_a_chat_completion_and_kept() {
    let backend = Backend::answering(echo);
    let gateway = before(&backend, "openai");
    for cache in ["MISS", "HIT"] {
        let fields = "anthropic-version: 2023-06-01\r\nanthropic-beta: x\r\n";
        let response = gateway.ask(post_with(MESSAGES, fields, &message_body("Hello", r#","top_k":7"#))).expect(200);
        assert_eq!((response.cache(), response.field("content-type")), (cache, Some("application/json")));
        let expected = json!({
            "id": "c1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "Hello!"}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {
                "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2,
            },
        });
        assert_eq!(value(&response), expected);
    }
    assert_eq!(backend.count(), 1);
    let request = &backend.requests()[0];
    assert_eq!(request.line(), "POST /v1/chat/completions HTTP/1.1");
    assert_eq!((request.field("anthropic-version"), request.field("anthropic-beta")), (None, None));
    let expected = json!({
        "model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 50, "top_k": 7,
    });
    assert_eq!(asked(&backend, 0), expected);
    for line in &log_of(gateway)[..2] {
        assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(2)), "{line}");
    }
}

#[test]
fn a_chat_completion_is_answered_by_a_message_and_kept() {
    let backend = Backend::answering(anthropic);
    let gateway =
        Setup::with_backend(&backend, "api = \"anthropic\"\napi_key = \"k\"\nmax_tokens_default = 77").start();
    for cache in ["MISS", "HIT"] {
        let response = gateway.ask(chat("Hello")).expect(200);
        assert_eq!(response.cache(), cache);
        let answer = value(&response);
        assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("claude")));
        let choice = &answer["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hello!"), &json!("stop")));
        assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]), (&json!(3), &json!(5)));
    }
    // The same answer as a stream, from what is kept.
    let response = gateway.ask(chat_stream("Hello")).expect(200);
    assert_eq!(response.cache(), "HIT");
    assert_eq!(events(&response).last(), Some(&json!("[DONE]")));
    assert_eq!(backend.count(), 1);
    let request = &backend.requests()[0];
    assert_eq!(request.line(), "POST /v1/messages HTTP/1.1");
    assert_eq!((request.field("anthropic-version"), request.field("x-api-key")), (Some("2023-06-01"), Some("k")));
    assert_eq!(request.field("authorization"), None);
    let expected = json!({"model": "m", "max_tokens": 77, "messages": [{"role": "user", "content": "Hello"}]});
    assert_eq!(asked(&backend, 0), expected);
}

#[test]
fn a_stream_of_chunks_becomes_one_of_messages_and_is_kept() {
    let backend = Backend::answering(echo);
    let gateway = before(&backend, "openai");
    let mut texts = Vec::new();
    for cache in ["MISS", "HIT"] {
        let response = gateway.ask(message("Hello", r#","stream":true"#)).expect(200);
        assert_eq!((response.cache(), response.field("content-type")), (cache, Some("text/event-stream")));
        let events = events(&response);
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        let expected = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(kinds, expected, "{}", response.text());
        assert_eq!(events[5]["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
        assert_eq!((&events[5]["usage"]["input_tokens"], &events[5]["usage"]["output_tokens"]), (&json!(3), &json!(2)));
        texts.push(response.text().to_owned());
    }
    assert_eq!(texts[0], texts[1]);
    assert!(!texts[0].contains("[DONE]"));
    assert_eq!(backend.count(), 1);
    assert_eq!(asked(&backend, 0)["stream_options"], json!({"include_usage": true}));
    // As Claude Code asks for it.
    let asked_for =
        post("/v1/messages?beta=true", &message_body("Hello", r#","stream":true,"metadata":{"user_id":"u"}"#));
    for cache in ["MISS", "HIT"] {
        assert_eq!(gateway.ask(&asked_for).expect(200).cache(), cache);
    }
    assert_eq!(backend.requests()[1].line(), "POST /v1/chat/completions HTTP/1.1");
    // The other form is the same answer.
    let whole = gateway.ask(message("Hello", "")).expect(200);
    let value: Value = serde_json::from_str(whole.text()).unwrap();
    assert_eq!((whole.cache(), &value["usage"]["output_tokens"]), ("HIT", &json!(2)), "{value}");
    assert_eq!(backend.count(), 2);
    let log = log_of(gateway);
    assert_eq!(log[0].get("not_stored"), None, "{}", log[0]);
}

#[test]
fn a_stream_of_messages_becomes_one_of_chunks_with_usage_for_those_who_asked() {
    let backend = Backend::answering(anthropic);
    let gateway = before(&backend, "anthropic");
    let response = gateway.ask(chat_stream("x")).expect(200);
    let chunks = events(&response);
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "Hello!");
    assert_eq!(chunks.last(), Some(&json!("[DONE]")));
    assert!(!response.text().contains("prompt_tokens"), "nobody asked: {}", response.text());
    assert_eq!(asked(&backend, 0).get("stream_options"), None);
    let asking = streamed_question("x").replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    let response = gateway.ask(post(CHAT, &asking)).expect(200);
    assert_eq!(response.cache(), "HIT");
    let chunks = events(&response);
    let usage = &chunks[chunks.len() - 2];
    assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens"]), (&json!([]), &json!(3)));
    assert_eq!((&usage["usage"]["completion_tokens"], &usage["usage"]["total_tokens"]), (&json!(2), &json!(5)));
}

#[test]
fn an_error_has_the_form_of_the_client() {
    let refuses = Backend::answering(|_| {
        answer(400, r#"{"error":{"message":"too long","type":"invalid_request_error","code":"x","param":null}}"#)
    });
    let response = before(&refuses, "openai").ask(message("a", "")).expect(400);
    let expected =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "too long", "code": "x"}});
    assert_eq!(value(&response), expected);
    let refuses = Backend::answering(|_| {
        answer(400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad"},"request_id":"r"}"#)
    });
    let response = before(&refuses, "anthropic").ask(chat("a")).expect(400);
    let error = json!({"message": "bad", "type": "invalid_request_error", "param": null, "code": null});
    assert_eq!(value(&response), json!({ "error": error }));
    // As the first event of a stream, and in a body that is none.
    let fails = Backend::answering(|_| framed(&[event(r#"{"error":{"message":"it broke","code":500}}"#)]));
    let gateway =
        Setup::bare().backend("b", &fails, "api = \"openai\"").model("m", "backends = [\"b\"]\nretries = 0").start();
    let response = gateway.ask(message("a", r#","stream":true"#));
    assert_eq!(
        (response.status, value(&response)["error"]["message"].as_str()),
        (500, Some("it broke")),
        "{}",
        response.text()
    );
    let page = Backend::answering(|_| answer(404, "<html>nothing here</html>"));
    let response = before(&page, "openai").ask(message("a", "")).expect(404);
    assert_eq!(value(&response)["error"]["type"], "not_found_error");
}

/// What the client of a stream reads whose backend dies behind `events`.
fn cut_behind(api: &str, events: Vec<String>, request: Vec<u8>) -> (String, Ending) {
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            let chunks: String = events.iter().map(|event| chunk(event)).collect();
            peer.write(STREAM_HEAD.to_owned() + &chunks);
            // A client that has read it all lets it die.
            let _ = peer.request();
        }
    });
    let gateway = Setup::bare()
        .backend("b", &backend, &format!("api = \"{api}\"\ntimeout_stream_idle = \"300ms\""))
        .model("m", "backends = [\"b\"]\nretries = 0")
        .start();
    let mut client = gateway.client();
    client.send(request);
    let mut response = client.head();
    client.body(&mut response);
    (response.text().to_owned(), response.ending)
}

#[test]
fn a_stream_that_breaks_ends_in_an_error_of_the_clients_api() {
    let (text, ending) = cut_behind("openai", vec![piece("a")], message("a", r#","stream":true"#));
    assert!(text.contains("content_block_delta") && text.contains("event: error\n"), "{text}");
    assert!(!text.contains("message_stop") && !text.contains("message_delta"), "{text}");
    assert_eq!(ending, Ending::Cut);
    let (text, ending) = cut_behind("anthropic", message_events(&["a"]), chat_stream("a"));
    assert!(text.contains(r#""content":"a""#) && text.contains(r#""error":"#), "{text}");
    assert!(!text.contains("[DONE]") && !text.contains(r#""finish_reason":"stop""#), "{text}");
    assert_eq!(ending, Ending::Cut);
}

#[test]
fn a_stream_that_ends_too_early_is_asked_for_again_or_is_no_answer() {
    for (api, events, request) in [
        ("openai", vec![piece("a")], message("a", r#","stream":true"#)),
        ("anthropic", message_events(&["a"]), chat_stream("a")),
        ("openai", vec![], message("a", r#","stream":true"#)),
        ("openai", vec![done()], message("a", r#","stream":true"#)),
    ] {
        let backend = Backend::answering(move |_| framed(&events));
        let gateway = Setup::bare()
            .backend("b", &backend, &format!("api = \"{api}\""))
            .model("m", "backends = [\"b\"]\nretries = 0")
            .start();
        let response = gateway.ask(&request);
        assert!(
            response.status == 502 || response.ending == Ending::Cut,
            "{api}: {} {}",
            response.status,
            response.text()
        );
        assert!(
            !response.text().contains("message_stop") && !response.text().contains("[DONE]"),
            "{}",
            response.text()
        );
    }
}

#[test]
fn attempts_go_from_one_api_to_the_other() {
    let sick = Backend::answering(|_| answer(503, r#"{"error":{"message":"x"}}"#));
    let (openai, claude) = (Backend::answering(echo), Backend::answering(anthropic));
    for (first, well, request) in [
        ("anthropic", ("openai", &openai), chat("Hello")),
        ("openai", ("anthropic", &claude), chat("Hello")),
        ("anthropic", ("openai", &openai), message("Hello", "")),
        ("openai", ("anthropic", &claude), message("Hello", "")),
    ] {
        let gateway = Setup::bare()
            .backend("sick", &sick, &format!("api = \"{first}\""))
            .backend("well", well.1, &format!("api = \"{}\"\npriority = 1", well.0))
            .model("m", "backends = [\"sick\", \"well\"]")
            .start();
        let response = gateway.ask(&request).expect(200);
        let answer = value(&response);
        let said = [&answer["choices"][0]["message"]["content"], &answer["content"][0]["text"]];
        assert!(said.contains(&&json!("Hello!")), "{}", response.text());
    }
}

#[test]
fn what_the_other_api_cannot_do_is_refused_or_asked_of_another_backend() {
    let claude = Backend::answering(anthropic);
    let gateway = before(&claude, "anthropic");
    let several = question("a").replace("\"model\"", "\"n\":2,\"model\"");
    let response = gateway.ask(post(CHAT, &several)).expect(400);
    let error = &value(&response)["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("untranslatable"), &json!("n")));
    for (path, body) in [
        ("/v1/embeddings", r#"{"model":"m","input":"a"}"#),
        ("/v1/completions", r#"{"model":"m","prompt":"a"}"#),
        ("/v1/responses", r#"{"model":"m","input":"a"}"#),
    ] {
        assert_eq!(gateway.ask(post(path, body)).expect(400).code(), "untranslatable", "{path}");
    }
    assert_eq!(claude.count(), 0);
    let openai = Backend::answering(echo);
    let response =
        before(&openai, "openai").ask(post("/v1/messages/batches", r#"{"model":"m","requests":[]}"#)).expect(400);
    assert_eq!(value(&response)["error"]["type"], "invalid_request_error");
    let gateway = Setup::bare()
        .backend("claude", &claude, "api = \"anthropic\"")
        .backend("well", &openai, "priority = 1")
        .model("m", "backends = [\"claude\", \"well\"]\nretries = 0")
        .start();
    gateway.ask(post(CHAT, &several)).expect(200);
    assert_eq!((claude.count(), openai.count()), (0, 1));
}

#[test]
fn a_client_of_the_same_api_gets_what_came() {
    let backend = Backend::answering(anthropic);
    let gateway = before(&backend, "anthropic");
    let request = post_with(MESSAGES, "anthropic-version: 2023-01-01\r\n", &message_body("a", r#","x": 1.50"#));
    for cache in ["MISS", "HIT"] {
        let response = gateway.ask(&request).expect(200);
        assert_eq!((response.text(), response.cache()), (message_answer("Hello!").as_str(), cache));
    }
    assert_eq!(backend.requests()[0].text(), message_body("a", r#","x": 1.50"#));
    assert_eq!(backend.requests()[0].field("anthropic-version"), Some("2023-01-01"));
    let whole = [message_events(&["Hello", "!"]), message_end()].concat().concat();
    for cache in ["MISS", "HIT"] {
        let response = gateway.ask(message("a", r#","stream":true"#)).expect(200);
        assert_eq!((response.text(), response.cache()), (whole.as_str(), cache));
    }
    for line in &log_of(gateway)[..4] {
        assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(2)), "{line}");
    }
}

#[test]
fn calls_of_tools_go_both_ways() {
    let calls = r#"{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":6}}}"#;
    let backend = Backend::answering(move |_| json(calls));
    let gateway = before(&backend, "openai");
    let tools = r#","tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"cache_control":{"type":"ephemeral"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}"#;
    let answer = value(&gateway.ask(message("a", tools)).expect(200));
    let call = json!({"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1.0}});
    assert_eq!((&answer["content"], &answer["stop_reason"]), (&json!([call]), &json!("tool_use")));
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["cache_read_input_tokens"]), (&json!(3), &json!(6)));
    let asked = asked(&backend, 0);
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
    assert_eq!(asked["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!((&asked["tool_choice"], &asked["parallel_tool_calls"]), (&json!("required"), &json!(false)));
}

const COUNT: &str = "/v1/messages/count_tokens";

#[test]
fn the_tokens_of_a_message_are_counted_by_who_has_the_tokenizer() {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("refuse") => {
            answer(400, r#"{"error":{"message":"too long","type":"BadRequestError","code":400}}"#)
        }
        text if text.contains("nonsense") => json(r#"{"tokens":[1]}"#),
        _ => json(r#"{"count":7,"max_model_len":4096,"tokens":[1,2,3,4,5,6,7],"token_strs":null}"#),
    });
    let gateway = Setup::with_backend(
        &backend,
        "api = \"openai\"\ncount_tokens = \"vllm\"\nbody = { chat_template_kwargs = { enable_thinking = false } }",
    )
    .model("own", "backends = [{ backend = \"b\", model = \"Qwen/Qwen3\" }]")
    .start();
    let tool = json!({"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}});
    let request = json!({
        "model": "own", "system": "Be brief.", "messages": [{"role": "user", "content": "Hello"}], "tools": [tool],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "enabled", "budget_tokens": 2000},
    });
    for path in [COUNT.to_owned(), format!("{COUNT}?beta=true")] {
        let response = gateway.ask(post(&path, &request.to_string())).expect(200);
        assert_eq!(response.field("content-type"), Some("application/json"));
        assert_eq!(value(&response), json!({"input_tokens": 7}));
    }
    assert_eq!(backend.requests()[0].line(), "POST /tokenize HTTP/1.1");
    let expected = json!({
        "model": "Qwen/Qwen3",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}],
        "add_generation_prompt": true, "chat_template_kwargs": {"enable_thinking": false},
    });
    assert_eq!(asked(&backend, 0), expected);

    let refused = gateway.ask(post(COUNT, &message_body("refuse", ""))).expect(400);
    assert_eq!(value(&refused)["error"]["message"], "too long");
    assert_eq!(value(&refused)["type"], "error");
    // No number is made up.
    let nonsense = gateway.ask(post(COUNT, &message_body("nonsense", ""))).expect(502);
    assert_eq!(value(&nonsense)["error"]["type"], "api_error");
    let unclear = gateway.ask(post(COUNT, r#"{"model":"m","messages":"text"}"#)).expect(400);
    assert_eq!(value(&unclear)["error"]["message"], "Invalid 'messages': expected an array.");
    let before_now = backend.count();
    gateway.ask(post("/v1/messages/batches", r#"{"model":"m"}"#)).expect(400);
    assert_eq!(backend.count(), before_now);
}

#[test]
fn tokens_that_cannot_be_counted_are_not_guessed() {
    let backend = Backend::answering(echo);
    let response = before(&backend, "openai").ask(post(COUNT, &message_body("a", ""))).expect(404);
    let error = &value(&response)["error"];
    assert_eq!(error["type"], "not_found_error");
    assert!(error["message"].as_str().unwrap().contains("cannot count tokens"), "{error}");
    assert_eq!(backend.count(), 0);
    // Where another backend of the model has the path, it counts.
    let claude = Backend::answering(|_| json(r#"{"input_tokens":9}"#));
    let gateway = Setup::bare()
        .backend("first", &backend, "api = \"openai\"")
        .backend("claude", &claude, "api = \"anthropic\"\npriority = 1")
        .model("m", "backends = [\"first\", \"claude\"]")
        .start();
    assert_eq!(value(&gateway.ask(post(COUNT, &message_body("a", ""))).expect(200)), json!({"input_tokens": 9}));
    assert_eq!((backend.count(), claude.requests()[0].line()), (0, "POST /v1/messages/count_tokens HTTP/1.1"));
}
