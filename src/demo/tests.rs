//! The backend over real loopback sockets on a port of the kernel's choice, `demo-fast` only: no test waits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use serde_json::{Value, json};

use super::backend::{self, Handle};

fn started() -> Handle {
    backend::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// One request as bytes; the connection closes after the answer if `after` says so.
fn request(method: &str, path: &str, body: &str, after: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: demo\r\nconnection: {after}\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Sends `bytes`, closes the sending side and reads to the end.
fn exchange(handle: &Handle, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(handle.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn post(handle: &Handle, path: &str, body: &Value) -> (u16, String) {
    split(&exchange(handle, &request("POST", path, &body.to_string(), "close")))
}

fn get(handle: &Handle, path: &str) -> (u16, Value) {
    let (status, body) = split(&exchange(handle, &request("GET", path, "", "close")));
    (status, parse(&body))
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The events of a chunked event stream, which must end with `[DONE]` and the last chunk.
fn events(body: &str) -> Vec<Value> {
    let body = body.strip_suffix("0\r\n\r\n").expect("the last chunk");
    let mut events = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let (chunk, after) = after.split_at(usize::from_str_radix(size, 16).unwrap());
        events.push(chunk.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap().to_owned());
        rest = after.strip_prefix("\r\n").unwrap();
    }
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    events.iter().map(|event| parse(event)).collect()
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "demo-fast", "messages": [{"role": "user", "content": "What is a ring?"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn whole_and_streamed_chat_say_the_same() {
    let handle = started();
    let (status, body) = post(&handle, "/v1/chat/completions", &chat(json!({})));
    let whole = parse(&body);
    assert_eq!(status, 200);
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("What is a ring?") && text.contains("call number 1"));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");

    let asked = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let (status, body) = post(&handle, "/v1/chat/completions", &asked);
    assert_eq!(status, 200);
    let mut events = events(&body);
    let last = events.pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(events.iter().all(|event| event["usage"].is_null()));
    let streamed: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, text.replace("call number 1", "call number 2").replace("still be 1,", "still be 2,"));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert_eq!(handle.calls(), 2);
}

#[test]
fn usage_stays_away_unless_asked_for() {
    let handle = started();
    let (_, body) = post(&handle, "/v1/chat/completions", &chat(json!({"stream": true})));
    assert!(events(&body).iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn a_limit_cuts_the_answer_and_says_so() {
    let handle = started();
    let whole = parse(&post(&handle, "/v1/chat/completions", &chat(json!({"max_tokens": 3, "n": 2}))).1);
    assert_eq!(whole["choices"][1]["finish_reason"], "length");
    assert_eq!(whole["choices"][1]["message"]["content"], "You asked: “What");
    assert_eq!(whole["usage"]["completion_tokens"], 6);
}

#[test]
fn tool_calls_are_the_same_in_both_forms() {
    let handle = started();
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function = json!({"name": "get_weather", "parameters": schema});
    let asked = json!({
        "tools": [{"type": "function", "function": function}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Use the tool for Paris"}]}],
    });
    let whole = parse(&post(&handle, "/v1/chat/completions", &chat(asked.clone())).1);
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "get_weather", "arguments": "{\"city\":\"Paris\"}"}));
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");

    let mut streamed = asked;
    streamed["stream"] = json!(true);
    let events = events(&post(&handle, "/v1/chat/completions", &chat(streamed)).1);
    let calls: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(calls[0]["function"]["name"], "get_weather");
    let arguments: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, "{\"city\":\"Paris\"}");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn legacy_completions_answer_every_prompt() {
    let handle = started();
    let body = json!({"model": "demo-fast", "prompt": ["one", "two"]});
    let whole = parse(&post(&handle, "/v1/completions", &body).1);
    assert!(whole["choices"][1]["text"].as_str().unwrap().contains("“two”"));
    let body =
        json!({"model": "demo-fast", "prompt": "one", "stream": true, "stream_options": {"include_usage": true}});
    let events = events(&post(&handle, "/v1/completions", &body).1);
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert!(text.contains("call number 2"));
    assert!(events.last().unwrap()["usage"]["total_tokens"].as_u64().unwrap() > 10);
}

#[test]
fn embeddings_do_not_depend_on_the_call() {
    let handle = started();
    let body = json!({"model": "demo-fast", "input": ["a ring", [1, 2]], "dimensions": 8});
    let (first, second) = (post(&handle, "/v1/embeddings", &body), post(&handle, "/v1/embeddings", &body));
    assert_eq!(first, second);
    let answer = parse(&first.1);
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 8);
    let body = json!({"model": "demo-fast", "input": "a ring", "encoding_format": "base64"});
    let text = parse(&post(&handle, "/v1/embeddings", &body).1)["data"][0]["embedding"].as_str().unwrap().to_owned();
    assert_eq!(text.len(), 344); // 64 floats are 256 bytes
}

#[test]
fn models_and_health_are_no_calls() {
    let handle = started();
    let (status, list) = get(&handle, "/v1/models");
    assert_eq!((status, &list["data"][0]["id"]), (200, &json!("demo")));
    assert_eq!(get(&handle, "/v1/models/demo-fast").1["id"], "demo-fast");
    assert_eq!(get(&handle, "/v1/models/none").0, 404);
    assert_eq!(get(&handle, "/health?x=1"), (200, json!({"status": "ok", "calls": 0})));
    let head = exchange(&handle, &request("HEAD", "/health", "", "close"));
    assert!(head.ends_with("\r\n\r\n"));
}

#[test]
fn wrong_requests_are_told_in_the_shape_clients_know() {
    let handle = started();
    let wrong = [
        ("/v1/chat/completions", json!([]), 400, Value::Null),
        ("/v1/chat/completions", json!({}), 400, json!("model")),
        ("/v1/chat/completions", json!({"model": "other", "messages": []}), 404, json!("model")),
        ("/v1/chat/completions", json!({"model": "demo-fast", "messages": []}), 400, json!("messages")),
        ("/v1/chat/completions", json!({"model": "demo-fast", "messages": [{}]}), 400, json!("messages")),
        ("/v1/chat/completions", chat(json!({"stream": 1})), 400, json!("stream")),
        ("/v1/chat/completions", chat(json!({"n": 99})), 400, json!("n")),
        ("/v1/chat/completions", chat(json!({"max_tokens": -1})), 400, json!("max_tokens")),
        ("/v1/completions", json!({"model": "demo-fast", "prompt": 1}), 400, json!("prompt")),
        ("/v1/embeddings", json!({"model": "demo-fast", "input": []}), 400, json!("input")),
        ("/v1/nothing", json!({}), 404, Value::Null),
        ("/health", json!({}), 405, Value::Null),
    ];
    for (path, body, status, param) in wrong {
        let (got, answer) = post(&handle, path, &body);
        let error = parse(&answer)["error"].clone();
        assert_eq!((got, &error["param"]), (status, &param), "{path} {body}");
        assert!(error["message"].is_string() && error["type"].is_string(), "{path} {body}");
    }
    assert_eq!(get(&handle, "/v1/completions").0, 405);
    let broken = exchange(&handle, &request("POST", "/v1/completions", "{\"model\":", "close"));
    assert_eq!(split(&broken).0, 400);
}

#[test]
fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let handle = started();
    let body = |prompt: &str| json!({"model": "demo-fast", "prompt": prompt}).to_string();
    let mut bytes = request("POST", "/v1/completions", &body("first"), "keep-alive");
    bytes.extend(request("POST", "/v1/completions", &body("second"), "keep-alive"));
    bytes.extend(b"POST /v1/completions HTTP/1.1\r\nhost: demo\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body("third").as_bytes().chunks(7) {
        bytes.extend(format!("{:x};note=1\r\n", piece.len()).as_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nsome-trailer: x\r\n\r\n");
    let answer = exchange(&handle, &bytes);
    let places: Vec<usize> =
        ["“first”", "“second”", "“third”"].iter().map(|prompt| answer.find(prompt).expect(prompt)).collect();
    assert!(places.is_sorted());
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3);
}

#[test]
fn expect_continue_is_answered() {
    let handle = started();
    let body = json!({"model": "demo-fast", "prompt": "x"}).to_string();
    let mut stream = TcpStream::connect(handle.address()).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: demo\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(split(&answer).0, 200);
}

#[test]
fn unclear_framing_is_refused_and_closes() {
    let handle = started();
    let long = "x".repeat(20_000);
    let refused = [
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n".to_owned(), 413),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), 501),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(), 413),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc".to_owned(), 400),
        ("no http at all\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nlong: {long}"), 431),
    ];
    for (bytes, status) in refused {
        let answer = exchange(&handle, bytes.as_bytes());
        assert_eq!(split(&answer).0, status, "{bytes:.80}");
        assert!(answer.contains("connection: close\r\n"));
    }
    assert_eq!(exchange(&handle, b"GET / HT"), "", "a cut request has no answer");
}

#[test]
fn stopping_ends_open_connections() {
    let handle = started();
    let mut stream = TcpStream::connect(handle.address()).unwrap();
    stream.write_all(&request("GET", "/health", "", "keep-alive")).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    drop(handle);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn switched_off_it_answers_nobody_until_it_is_switched_on() {
    let handle = started();
    let mut kept = TcpStream::connect(handle.address()).unwrap();
    kept.write_all(&request("GET", "/health", "", "keep-alive")).unwrap();
    let mut first = [0; 1];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(post(&handle, "/demo/off", &json!({})).0, 200);
    let mut rest = Vec::new();
    let _ = kept.read_to_end(&mut rest);
    assert_eq!(exchange(&handle, &request("GET", "/health", "", "close")), "", "open connections end, new ones too");
    assert_eq!(post(&handle, "/demo/on", &json!({})), (200, "{\"off\":false}\n".to_owned()));
    assert_eq!(get(&handle, "/health").0, 200);
}
