//! `/v1/responses`: what is kept and what is not, both forms, errors before the first content, limits and usage.

use serde_json::{Value, json};

use super::answers::log_of;
use super::kit::*;

const RESPONSES: &str = "/v1/responses";

/// A request that its provider keeps nothing of.
fn ask(what: &str, members: &str) -> Vec<u8> {
    post(RESPONSES, &format!(r#"{{"model":"m","input":"{what}","store":false{members}}}"#))
}

fn response(status: &str, text: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","status":"{status}","error":null,"incomplete_details":{{"reason":"max_output_tokens"}},"model":"m","output":[{{"type":"message","id":"msg_1","role":"assistant","status":"{status}","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}],"usage":{{"input_tokens":7,"input_tokens_details":{{"cached_tokens":4}},"output_tokens":5,"output_tokens_details":{{"reasoning_tokens":3}},"total_tokens":12}}}}"#
    )
}

fn named(kind: &str, members: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{members}}}\n\n")
}

/// The events of a response, up to where it may break off.
fn begun(pieces: &[&str]) -> Vec<String> {
    let mut events = vec![
        named(
            "response.created",
            r#","response":{"id":"resp_1","status":"in_progress","output":[]},"sequence_number":0"#,
        ),
        named("response.in_progress", r#","response":{"id":"resp_1","status":"in_progress"},"sequence_number":1"#),
        named("response.output_item.added", r#","item":{"type":"message","content":[]},"sequence_number":2"#),
    ];
    for (place, text) in pieces.iter().enumerate() {
        let members = format!(r#","delta":"{text}","sequence_number":{}"#, 3 + place);
        events.push(named("response.output_text.delta", &members));
    }
    events
}

fn end(status: &str, text: &str) -> String {
    named(&format!("response.{status}"), &format!(r#","response":{},"sequence_number":9"#, response(status, text)))
}

fn framed(events: &[String]) -> Vec<u8> {
    let chunks: String = events.iter().map(|event| chunk(event)).collect();
    (STREAM_HEAD.to_owned() + &chunks + LAST_CHUNK).into_bytes()
}

fn whole_stream() -> Vec<String> {
    [begun(&["Hel", "lo"]), vec![end("completed", "Hello")]].concat()
}

/// Answers in the form asked for.
fn provider(request: &Request) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    match asked["stream"] == true {
        true => framed(&whole_stream()),
        false if asked["input"] == "unknown" => {
            json(&response("completed", "Hello").replace("\"output_text\"", "\"new\""))
        }
        false => json(&response("completed", "Hello")),
    }
}

#[test]
fn a_question_that_nothing_is_kept_of_is_answered_from_the_cache() {
    let backend = Backend::answering(provider);
    let gateway = Setup::with(&backend).log("access = \"$DIRECTORY/access.log\"").start();
    for cache in ["MISS", "HIT"] {
        let answer = gateway.ask(ask("a", r#","temperature":0.50"#)).expect(200);
        assert_eq!((answer.cache(), answer.text()), (cache, response("completed", "Hello").as_str()));
    }
    // A stream is kept as its events; what its last event has serves the other form, byte for byte.
    for cache in ["MISS", "HIT"] {
        let answer = gateway.ask(ask("b", r#","stream":true"#)).expect(200);
        assert_eq!((answer.cache(), answer.text()), (cache, whole_stream().concat().as_str()));
    }
    let answer = gateway.ask(ask("b", "")).expect(200);
    assert_eq!((answer.cache(), answer.text()), ("HIT", response("completed", "Hello").as_str()));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    // And the reverse: each text in one event, and the response at the end.
    let answer = gateway.ask(ask("a", r#","stream":true,"temperature":0.5"#)).expect(200);
    assert_eq!((answer.cache(), answer.field("content-type")), ("HIT", Some("text/event-stream")));
    let data: Vec<Value> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let kinds: Vec<&str> =
        data.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    assert!(data.iter().zip(0..).all(|(event, number)| event["sequence_number"] == number), "{data:?}");
    assert_eq!(data[4]["delta"], "Hello");
    assert_eq!(data[8]["response"], serde_json::from_str::<Value>(&response("completed", "Hello")).unwrap());
    // What is not understood goes upstream for the other form.
    let unknown = r#","temperature":0.25"#;
    assert_eq!(gateway.ask(ask("unknown", unknown)).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(ask("unknown", &format!("{unknown},\"stream\":true"))).expect(200).cache(), "MISS");
    assert_eq!(backend.count(), 4);
    for line in log_of(gateway) {
        let told = (&line["endpoint"], &line["prompt_tokens"], &line["completion_tokens"]);
        assert_eq!(told, (&json!("responses"), &json!(7), &json!(5)), "{line}");
        let parts = (&line["cached_prompt_tokens"], &line["reasoning_tokens"]);
        assert_eq!(parts, (&json!(4), &json!(3)), "{line}");
    }
}

#[test]
fn what_has_to_do_with_state_is_passed_on_and_never_kept() {
    let backend = Backend::answering(provider);
    let gateway = Setup::with(&backend).start();
    for body in [
        r#"{"model":"m","input":"a"}"#,
        r#"{"model":"m","input":"a","store":true}"#,
        r#"{"model":"m","input":"a","store":false,"previous_response_id":"resp_1"}"#,
        r#"{"model":"m","input":"a","store":false,"background":true}"#,
        r#"{"model":"m","input":[{"type":"item_reference","id":"i"}],"store":false}"#,
        r#"{"model":"m","input":"a","store":false,"tools":[{"type":"web_search"}]}"#,
    ] {
        let before = backend.count();
        for _ in 0..2 {
            let answer = gateway.ask(post(RESPONSES, body)).expect(200);
            assert_eq!(answer.field("x-cache"), Some("BYPASS"), "{body}");
            assert!(answer.field("cache-status").unwrap().ends_with("detail=stateful"), "{body}");
        }
        assert_eq!(backend.count(), before + 2);
        assert_eq!(backend.requests()[before].text(), body);
    }
    // What belongs to a response that is kept there goes where it went.
    let backend = Backend::answering(|_| json("{}"));
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    for line in ["GET /v1/responses/resp_1", "DELETE /v1/responses/resp_1", "GET /v1/responses/resp_1/input_items"] {
        gateway.ask(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n")).expect(200);
        assert_eq!(backend.requests().pop().unwrap().line(), format!("{line} HTTP/1.1"));
    }
}

#[test]
fn what_is_not_whole_or_empty_is_not_kept() {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("long") => json(&response("incomplete", "Hel")),
        text if text.contains("streamed") => framed(&[begun(&["Hel"]), vec![end("incomplete", "Hel")]].concat()),
        _ => json(&response("completed", "")),
    });
    let gateway = Setup::with(&backend).log("access = \"$DIRECTORY/access.log\"").start();
    for _ in 0..2 {
        assert_eq!(gateway.ask(ask("long", "")).expect(200).cache(), "MISS");
        let streamed = gateway.ask(ask("streamed", r#","stream":true"#)).expect(200);
        assert!(streamed.text().contains("response.incomplete"), "{}", streamed.text());
        assert_eq!(gateway.ask(ask("nothing", "")).expect(200).cache(), "MISS");
    }
    assert_eq!(backend.count(), 6);
    let reasons: Vec<Value> = log_of(gateway).iter().map(|line| line["not_stored"].clone()).collect();
    assert_eq!(reasons[..3], [json!("length_cut"), json!("length_cut"), json!("empty")]);
}

#[test]
fn an_error_in_the_place_of_an_answer_is_a_failed_attempt() {
    let error = r#""error":{"code":"server_error","message":"it broke"}"#;
    let failed = named("response.failed", &format!(r#","response":{{"status":"failed",{error}}}"#));
    let bare = named("error", r#","code":"server_error","message":"it broke","sequence_number":3"#);
    let whole = response("failed", "").replace("\"error\":null", error);
    let answers = [
        framed(&[begun(&[]), vec![failed]].concat()),
        framed(&[begun(&[]), vec![bare]].concat()),
        framed(&begun(&[])),
        json(&whole),
        json("{}"),
    ];
    for (place, first) in answers.into_iter().enumerate() {
        let sick = Backend::answering(move |_| first.clone());
        let well = Backend::answering(provider);
        let gateway = Setup::bare()
            .backend("sick", &sick, "")
            .backend("well", &well, "priority = 1")
            .model("m", "backends = [\"sick\", \"well\"]")
            .start();
        let stream = if place < 3 { r#","stream":true"# } else { "" };
        let answer = gateway.ask(ask("a", stream)).expect(200);
        let expected = if place < 3 { whole_stream().concat() } else { response("completed", "Hello") };
        assert_eq!(answer.text(), expected, "{place}");
        assert_eq!((sick.count(), well.count()), (1, 1), "{place}");
    }
}

#[test]
fn limits_reserve_what_may_be_used_and_settle_on_what_was() {
    let backend = Backend::answering(provider);
    let gateway = Setup::with(&backend).tenant("t", "key", "tokens_per_minute = 100").start();
    let request = |most: u32, stream: &str| {
        let body = format!(r#"{{"model":"m","input":"a","max_output_tokens":{most}{stream}}}"#);
        post_with(RESPONSES, "Authorization: Bearer key\r\n", &body)
    };
    gateway.ask(request(500, "")).expect(429);
    // Each has used 12 of what it has reserved.
    for stream in ["", r#","stream":true"#] {
        gateway.ask(request(50, stream)).expect(200);
    }
    let left = gateway.ask(request(50, "")).expect(200);
    let left: u64 = left.field("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!(left < 100 - 24 && left > 10, "{left}");
    assert_eq!(backend.count(), 3);
}

#[test]
fn a_prompt_template_stands_in_front_of_the_input() {
    let backend = Backend::answering(provider);
    let gateway = Setup::with(&backend).start();
    let template = "[[template]]\nname = \"t\"\nsystem = \"Be brief.\"\nuser = \"{{ a }}\"";
    let with_template = Setup::with(&backend).table(template).start();
    let items =
        r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"why"},{"role":"user","content":"own"}]"#;
    let prompt = r#"{"id":"t","variables":{"a":"why"}}"#;
    let rendered = format!(r#"{{"model":"m","input":"own","store":false,"prompt":{prompt}}}"#);
    assert_eq!(with_template.ask(post(RESPONSES, &rendered)).expect(200).cache(), "MISS");
    assert_eq!(backend.requests()[0].text(), format!(r#"{{"model":"m","input":{items},"store":false}}"#));
    assert_eq!(with_template.ask(post(RESPONSES, &rendered)).expect(200).cache(), "HIT");
    // Where there is no template, a prompt is the provider's, and may change there.
    let theirs = gateway.ask(post(RESPONSES, &rendered)).expect(200);
    assert_eq!(theirs.field("x-cache"), Some("BYPASS"));
}
