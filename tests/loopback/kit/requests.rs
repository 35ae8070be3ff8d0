//! Requests and answers that many scripts use.

/// A POST with its length.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    post_with(path, "", body)
}

/// As `post`, with further header lines, each with its end.
pub fn post_with(path: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
        .into_bytes()
}

/// A chat request to the model `m` that asks `what`.
pub fn chat(what: &str) -> Vec<u8> {
    post(CHAT, &question(what))
}

/// The same as a stream.
pub fn chat_stream(what: &str) -> Vec<u8> {
    post(CHAT, &streamed_question(what))
}

pub const CHAT: &str = "/v1/chat/completions";

pub fn question(what: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{what}"}}]}}"#)
}

pub fn streamed_question(what: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{what}"}}],"stream":true}}"#)
}

/// An answer of status 200 with JSON.
pub fn json(body: &str) -> Vec<u8> {
    answer(200, body)
}

pub fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A complete chat answer that says `what`.
pub fn completion(what: &str) -> String {
    completion_ended(what, "stop")
}

pub fn completion_ended(what: &str, finish_reason: &str) -> String {
    format!(
        r#"{{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{what}"}},"finish_reason":"{finish_reason}"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
    )
}

/// The head of a chunked event stream.
pub const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

pub const LAST_CHUNK: &str = "0\r\n\r\n";

/// `text` as one chunk.
pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// One event with `data`.
pub fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// The event of one piece of a chat answer.
pub fn piece(text: &str) -> String {
    event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
    ))
}

/// The event that ends a chat answer.
pub fn finish(reason: &str) -> String {
    event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#
    ))
}

/// The usage event of a stream.
pub fn usage() -> String {
    event(
        r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
    )
}

pub fn done() -> String {
    event("[DONE]")
}

/// A whole stream of `pieces`, each event in a chunk of its own, with the usage event.
pub fn stream(pieces: &[&str]) -> Vec<u8> {
    let mut out = STREAM_HEAD.to_owned();
    for text in pieces {
        out += &chunk(&piece(text));
    }
    out += &chunk(&finish("stop"));
    out += &chunk(&usage());
    out += &chunk(&done());
    out += LAST_CHUNK;
    out.into_bytes()
}

/// What a client sees of [`stream`] that did not ask for usage.
pub fn stream_seen(pieces: &[&str]) -> String {
    let pieces: String = pieces.iter().map(|text| piece(text)).collect();
    pieces + &finish("stop") + &done()
}

/// Answers in the form asked for: `stream` or `completion`, saying what was asked.
pub fn echo(request: &super::Request) -> Vec<u8> {
    let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let what = asked["messages"][0]["content"].as_str().unwrap_or("nothing").to_owned();
    match asked["stream"].as_bool() {
        Some(true) => stream(&[&what, "!"]),
        _ => json(&completion(&(what + "!"))),
    }
}
