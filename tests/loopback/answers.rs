//! Answers of backends as they really are: errors in a 200, ends without `[DONE]`, usage in odd places, huge events, and
//! why an answer is not kept.

use super::kit::*;

/// A stream with each of `events` in a chunk of its own, ended properly.
fn framed(events: &[String]) -> Vec<u8> {
    let chunks: String = events.iter().map(|event| chunk(event)).collect();
    (STREAM_HEAD.to_owned() + &chunks + LAST_CHUNK).into_bytes()
}

fn asking_for_usage(what: &str) -> Vec<u8> {
    let question = streamed_question(what);
    post(CHAT, &question.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\""))
}

const ROLE: &str = r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;

/// What is no answer though its status says so; how it fails where nothing else is left; what the client then reads.
fn failures_in_a_200() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let whole = |body: &str| json(body);
    let stream = |events: &[&str]| framed(&events.iter().map(|data| event(data)).collect::<Vec<_>>());
    vec![
        ("an error", whole(r#"{"error":{"message":"it broke","type":"server_error"}}"#), 502, "it broke"),
        ("with a status", whole(r#"{"error":{"message":"slow down","code":429}}"#), 429, "slow down"),
        (
            "with a status in quotes",
            whole(r#"{"error":{"message":"slow down","code":"503"},"choices":[{"message":{"content":"a"}}]}"#),
            503,
            "slow down",
        ),
        ("too long", whole(r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#), 400, "too long"),
        ("an error that is a text", whole(r#"{"error":"out of memory"}"#), 502, "backend_refused"),
        ("Google's list", whole(r#"[{"error":{"code":503,"message":"x"}}]"#), 502, "backend_refused"),
        (
            "MiniMax",
            whole(r#"{"choices":null,"base_resp":{"status_code":1000,"status_msg":"x"}}"#),
            502,
            "backend_refused",
        ),
        ("FastAPI", whole(r#"{"detail":"Internal Server Error"}"#), 502, "backend_refused"),
        ("one choice failed", whole(r#"{"choices":[{"error":{"code":502,"message":"x"}}]}"#), 502, "backend_refused"),
        ("null choices", whole(r#"{"id":"c1","choices":null}"#), 502, "backend_refused"),
        ("no choices", whole(r#"{"id":"c1","choices":[]}"#), 502, "backend_refused"),
        ("an empty object", whole("{}"), 502, "backend_refused"),
        ("no body", whole(""), 502, "backend_truncated"),
        ("no body by its status", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 502, "backend_truncated"),
        (
            "an error that was accepted",
            answer(202, r#"{"error":{"message":"slow down","code":429}}"#),
            429,
            "slow down",
        ),
        ("a page", whole("<html>Bad gateway</html>"), 502, "backend_invalid"),
        ("half of it", whole(r#"{"id":"c1","choices":[{"index":0,"mess"#), 502, "backend_truncated"),
        ("stream: an error", stream(&[r#"{"error":{"message":"it broke"}}"#]), 502, "it broke"),
        ("stream: behind a role", stream(&[ROLE, r#"{"error":{"message":"it broke"}}"#, "[DONE]"]), 502, "it broke"),
        (
            "stream: with a status",
            stream(&[r#"{"id":"gen-1","error":{"code":429,"message":"slow down"},"choices":[]}"#]),
            429,
            "slow down",
        ),
        ("stream: DashScope", stream(&[r#"{"code":"InternalError","message":"x"}"#]), 502, "backend_refused"),
        (
            "stream: MiniMax",
            stream(&[r#"{"base_resp":{"status_code":1000,"status_msg":"x"}}"#, "[DONE]"]),
            502,
            "backend_refused",
        ),
        ("stream: a text", stream(&["upstream connect error"]), 502, "backend_refused"),
        ("stream: [DONE]", stream(&["[DONE]"]), 502, "backend_invalid"),
        ("stream: a role and [DONE]", stream(&[ROLE, "[DONE]"]), 502, "backend_invalid"),
        ("stream: a role", stream(&[ROLE]), 502, "backend_truncated"),
        ("stream: nothing", stream(&[]), 502, "backend_truncated"),
    ]
}

#[test]
fn what_is_no_answer_is_asked_for_elsewhere() {
    for (title, bytes, ..) in failures_in_a_200() {
        let sick = Backend::answering(move |_| bytes.clone());
        let well = Backend::answering(echo);
        let gateway = Setup::bare()
            .backend("sick", &sick, "")
            .backend("well", &well, "")
            .model("spare", "backends = [\"well\"]")
            .model("m", "backends = [\"sick\"]\nretries = 0\nfallback = [\"spare\"]")
            .start();
        for (request, form) in [(chat("a"), "application/json"), (chat_stream("b"), "text/event-stream")] {
            let client_error = title.contains("too long");
            let response = gateway.ask(request).expect(200);
            assert_eq!(response.field("content-type"), Some(form), "{title}");
            assert!(response.text().contains('!'), "{title}: {}", response.text());
            assert!(!client_error || well.count() > 0, "a longer window may help");
        }
        assert_eq!((sick.count(), well.count()), (2, 2), "{title}");
    }
}

#[test]
fn what_is_no_answer_is_an_honest_error() {
    for (title, bytes, status, word) in failures_in_a_200() {
        let sick = Backend::answering(move |_| bytes.clone());
        let gateway = Setup::once(&sick).start();
        for (place, request) in [chat("a"), chat_stream("a"), chat("a")].into_iter().enumerate() {
            let response = gateway.ask(request).expect(status);
            assert_eq!(response.cache(), "MISS", "{title}");
            let value: serde_json::Value = serde_json::from_slice(&response.body).expect(title);
            let error = &value["error"];
            assert!(error["message"] == word || error["code"] == word, "{title}: {}", response.text());
            assert_eq!(sick.count(), place + 1, "{title}");
        }
    }
}

#[test]
fn a_receipt_for_a_later_answer_is_passed_on() {
    let backend = Backend::answering(|_| answer(202, r#"{"id":"c1","status":"queued"}"#));
    let gateway = Setup::with(&backend).start();
    for count in 1..=2 {
        assert_eq!(gateway.ask(chat("later")).expect(202).text(), r#"{"id":"c1","status":"queued"}"#);
        assert_eq!(backend.count(), count, "it is asked for once, and not kept");
    }
}

/// Things beside an answer that make it no failure.
#[test]
fn answers_with_odd_members_are_answers() {
    let odd = [
        completion("a").replace("\"created\"", "\"error\":null,\"created\""),
        completion("a").replace("\"created\"", "\"error\":{},\"code\":0,\"created\""),
        completion("a").replace("\"created\"", "\"base_resp\":{\"status_code\":0,\"status_msg\":\"\"},\"created\""),
        completion("a").replace("\"created\"", "\"timings\":{\"prompt_n\":1,\"predicted_ms\":0.5},\"created\""),
        completion("a").replace("\"created\":1", "\"created\":1,\"created\":1"),
        completion("a").replace("\"index\":0", "\"index\":0,\"logprobs\":NaN"),
        format!("\n {}\r\n", completion("a")),
    ];
    for body in odd {
        let sent = body.clone();
        let backend = Backend::answering(move |_| json(&sent));
        let gateway = Setup::once(&backend).start();
        assert_eq!(gateway.ask(chat("x")).expect(200).text(), body);
        assert_eq!(backend.count(), 1, "{body}");
    }
}

#[test]
fn news_in_front_of_an_answer_is_passed_on_with_it() {
    let news = [event(r#"{"object":"sources","data":[1]}"#), event("not JSON"), event("")];
    let sent: Vec<String> = news.iter().cloned().chain([piece("a"), finish("stop"), done()]).collect();
    let backend = Backend::answering(move |_| framed(&sent));
    let gateway = Setup::once(&backend).start();
    let expected = news[..2].concat() + &piece("a") + &finish("stop") + &done();
    assert_eq!(gateway.ask(chat_stream("x")).expect(200).text(), expected);
}

#[test]
fn a_stream_is_whole_when_its_choices_have_ended() {
    let until_close = STREAM_HEAD.replace("Transfer-Encoding: chunked\r\n", "");
    let events = [piece("a"), finish("stop")];
    let with_usage = [piece("a"), finish("stop"), usage()];
    let two = |index: usize, text: String| text.replace("\"index\":0", &format!("\"index\":{index}"));
    let choices = [two(0, piece("a")), two(1, piece("b")), two(1, finish("stop")), two(0, finish("length"))];
    let seen = events.concat() + &done();
    let unended = STREAM_HEAD.to_owned() + &chunk(&piece("a")) + &chunk(finish("stop").trim_end()) + LAST_CHUNK;
    let undone = STREAM_HEAD.to_owned() + &chunk(&events.concat()) + &chunk("data: [DONE]") + LAST_CHUNK;
    // What the backend sends in one write, what the client sees of it, and what the next one gets.
    for (title, bytes, seen, next) in [
        ("chunked", framed(&events), seen.clone(), "HIT"),
        ("with usage", framed(&with_usage), seen.clone(), "HIT"),
        ("choices", framed(&choices), choices.concat() + &done(), "MISS"),
        ("until the connection ends", (until_close + &events.concat()).into_bytes(), seen.clone(), "MISS"),
        ("without its last blank line", unended.into_bytes(), seen.clone(), "HIT"),
        ("[DONE] without its last blank line", undone.into_bytes(), seen, "HIT"),
    ] {
        for step in [usize::MAX, 1 << 10, 97] {
            let (bytes, is_closed) = (bytes.clone(), title.contains("connection"));
            let backend = Backend::run(move |peer| {
                while peer.request().is_some() {
                    for part in bytes.chunks(step.min(bytes.len())) {
                        peer.write(part);
                    }
                    if is_closed {
                        return;
                    }
                }
            });
            let gateway = Setup::with(&backend).start();
            let response = gateway.ask(chat_stream("x")).expect(200);
            assert_eq!((response.text(), backend.count()), (seen.as_str(), 1), "{title} by {step}");
            assert_eq!(gateway.ask(chat_stream("x")).expect(200).cache(), next, "{title}");
        }
    }
}

#[test]
fn a_stream_with_a_choice_that_has_not_ended_is_not_whole() {
    let second = piece("b").replace("\"index\":0", "\"index\":1");
    for events in [vec![piece("a"), second, finish("stop")], vec![piece("a")], vec![piece("a"), finish("")]] {
        let backend = Backend::answering(move |_| framed(&events));
        let gateway = Setup::once(&backend).start();
        assert_eq!(gateway.ask(chat_stream("x")).expect(502).code(), "backend_truncated");
    }
}

#[test]
fn an_event_as_large_as_an_image_is_passed_on() {
    let image = piece(&"QUJD".repeat(3 << 18));
    let sent = image.clone();
    let backend = Backend::answering(move |_| framed(&[piece("a"), sent.clone(), finish("stop"), done()]));
    let gateway = Setup::once(&backend).start();
    let response = gateway.ask(chat_stream("x")).expect(200);
    assert!(response.text() == piece("a") + &image + &finish("stop") + &done(), "{} bytes", response.body.len());
}

const USAGE: &str = r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;

/// The pieces of a stream with usage where servers put it, and what of them is for everybody.
fn places_of_usage() -> Vec<(&'static str, Vec<String>, Vec<String>)> {
    let with = |event: String, member: &str| event.replace("}\n\n", &format!(",{member}}}\n\n"));
    let in_root = format!("\"usage\":{USAGE}");
    let end = finish("stop");
    let in_choice = end.replace("\"stop\"}", &format!("\"stop\",{in_root}}}"));
    let alone = event(&format!(r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",{in_root}}}"#));
    let counting = with(piece("a"), r#""usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}"#);
    let groq = with(end.clone(), &format!("\"x_groq\":{{\"id\":\"r\",{in_root}}}"));
    let plain = vec![piece("a"), end.clone()];
    vec![
        ("an event of its own", vec![piece("a"), end.clone(), usage()], plain.clone()),
        ("on the chunk that ends", vec![piece("a"), with(end.clone(), &in_root)], plain.clone()),
        ("in the choice", vec![piece("a"), in_choice], plain.clone()),
        ("without choices", vec![piece("a"), end.clone(), alone.clone()], plain.clone()),
        ("null choices", vec![piece("a"), end.clone(), with(alone, "\"choices\":null")], plain.clone()),
        ("in each chunk", vec![counting, with(end.clone(), &in_root)], plain.clone()),
        ("Groq", vec![piece("a"), groq], vec![piece("a"), with(end.clone(), "\"x_groq\":{\"id\":\"r\"}")]),
        ("twice", vec![piece("a"), with(end, &in_root), usage()], plain),
    ]
}

#[test]
fn usage_is_found_wherever_it_is_and_shown_once_to_those_who_ask() {
    for (title, sent, seen) in places_of_usage() {
        for done_is_sent in [true, false] {
            let mut events = sent.clone();
            if done_is_sent {
                events.push(done());
            }
            let backend = Backend::answering(move |_| framed(&events));
            let unasked = seen.concat() + &done();
            let asked = seen.concat() + &usage() + &done();
            // Whoever asks first.
            for turn in 0..2 {
                let gateway = Setup::with(&backend).log("access = \"$DIRECTORY/access.log\"").start();
                let before = backend.count();
                for place in 0..4 {
                    let (request, expected) = if (place + turn) % 2 == 0 {
                        (chat_stream("x"), &unasked)
                    } else {
                        (asking_for_usage("x"), &asked)
                    };
                    let response = gateway.ask(request).expect(200);
                    assert_eq!(response.text(), expected, "{title}, {place}");
                    assert_eq!(response.cache(), if place == 0 { "MISS" } else { "HIT" }, "{title}, {place}");
                }
                // The other form has it, too.
                let whole = gateway.ask(chat("x")).expect(200);
                let value: serde_json::Value = serde_json::from_slice(&whole.body).unwrap();
                let expected: serde_json::Value = serde_json::from_str(USAGE).unwrap();
                assert_eq!((whole.cache(), &value["usage"]), ("HIT", &expected), "{title}");
                assert_eq!(backend.count(), before + 1, "{title}");
                let log = log_of(gateway);
                assert!(log.iter().all(|line| line["prompt_tokens"] == 3 && line["completion_tokens"] == 2), "{log:?}");
            }
        }
    }
}

pub fn log_of(gateway: Gateway) -> Vec<serde_json::Value> {
    gateway.terminate();
    gateway.into_lines()
}

#[test]
fn a_null_in_the_place_of_usage_stays_for_those_who_ask() {
    let with_null = |event: String| event.replace("}\n\n", ",\"usage\":null}\n\n");
    let events = [with_null(piece("a")), with_null(finish("stop")), usage(), done()];
    let all = events.concat();
    let backend = Backend::answering(move |_| framed(&events));
    for cache in ["", "enabled = false"] {
        let gateway = Setup::with(&backend).cache(cache).start();
        for _ in 0..2 {
            assert_eq!(gateway.ask(asking_for_usage("x")).expect(200).text(), all);
        }
        // The gateway's own asking leaves no trace.
        let unasked = gateway.ask(chat_stream("y")).expect(200);
        assert_eq!(unasked.text(), piece("a") + &finish("stop") + &done());
    }
}

#[test]
fn usage_in_each_chunk_stays_where_options_may_ask_for_it() {
    let counting = piece("a").replace("}\n\n", &format!(",\"usage\":{USAGE}}}\n\n"));
    let events = [counting, finish("stop"), usage(), done()];
    let all = events.concat();
    let backend = Backend::answering(move |_| framed(&events));
    let gateway = Setup::with(&backend).start();
    let options = "\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true},\"stream\"";
    let request = post(CHAT, &streamed_question("x").replace("\"stream\"", options));
    for _ in 0..2 {
        assert_eq!(gateway.ask(&request).expect(200).text(), all);
    }
}

#[test]
fn nothing_of_an_answer_follows_an_error_in_it() {
    let error = event(r#"{"error":{"message":"it broke","type":"server_error"}}"#);
    let events = [piece("a"), error.clone(), usage(), done()];
    let backend = Backend::answering(move |_| framed(&events));
    let gateway = Setup::with(&backend).start();
    for _ in 0..2 {
        let response = gateway.ask(asking_for_usage("x")).expect(200);
        assert_eq!(response.text(), piece("a") + &error + &done());
        assert_eq!(response.cache(), "MISS");
    }
}

#[test]
fn a_content_type_keeps_its_parameters() {
    let backend = Backend::answering(|request| {
        let bytes = String::from_utf8(echo(request)).unwrap();
        bytes
            .replace("application/json", "application/json; charset=utf-8")
            .replace("event-stream", "event-stream; charset=utf-8")
            .into_bytes()
    });
    let gateway = Setup::with(&backend).start();
    for (request, kind) in [(chat("a"), "application/json"), (chat_stream("b"), "text/event-stream")] {
        for cache in ["MISS", "HIT"] {
            let response = gateway.ask(&request).expect(200);
            assert_eq!(response.cache(), cache);
            assert_eq!(response.field("content-type"), Some(format!("{kind}; charset=utf-8").as_str()));
        }
    }
    // Of the other form, the gateway's own.
    assert_eq!(gateway.ask(chat_stream("a")).expect(200).field("content-type"), Some("text/event-stream"));
}

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

const EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
                     {\"type\":\"text_delta\",\"text\":\"a\"},\"sequence_number\":6}\n\n";

/// The end of a stream of `path` whose backend dies within an event.
fn broken_end(path: &'static str, kind: &str) -> (String, Ending) {
    let own = EVENT.replace("content_block_delta", kind).replace("{\"type\":\"text_delta\",\"text\":\"a\"}", "\"a\"");
    let whole = if path == RESPONSES { own } else { EVENT.to_owned() };
    let sent = whole.clone();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&format!("{sent}event: y\ndata: {{\"ty")));
            let _ = wait.lock().unwrap().recv_timeout(GUARD);
        }
    });
    let gateway = Setup::once(&backend).start();
    let mut client = gateway.client();
    client.send(post_with(path, "X-Request-Id: req-7\r\n", r#"{"model":"m","stream":true}"#));
    let mut response = client.head();
    assert_eq!(client.chunk().unwrap(), whole.as_bytes(), "whole events alone");
    end.send(()).unwrap();
    client.body(&mut response);
    (response.text().to_owned(), response.ending)
}

#[test]
fn a_stream_that_breaks_ends_in_the_error_of_its_api() {
    let message = "The model's backend broke off in the middle of its answer.";
    let (text, ending) = broken_end(RESPONSES, "response.output_text.delta");
    let data = text.strip_prefix("event: error\ndata: ").expect(&text).trim_end();
    let value: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((&value["type"], &value["sequence_number"]), (&"error".into(), &7.into()));
    assert_eq!((&value["code"], &value["message"]), (&"backend_truncated".into(), &message.into()), "{text}");
    assert_eq!(ending, Ending::Cut);
    let (text, ending) = broken_end(MESSAGES, "content_block_delta");
    let data = text.strip_prefix("event: error\ndata: ").expect(&text).trim_end();
    let value: serde_json::Value = serde_json::from_str(data).unwrap();
    let expected = serde_json::json!({
        "type": "error", "error": {"type": "api_error", "message": message}, "request_id": "req-7",
    });
    assert_eq!((value, ending), (expected, Ending::Cut));
}

#[test]
fn a_refusal_has_the_shape_of_its_api() {
    let gateway = Setup::bare().tenant("t", "key", "").start();
    for (fields, body, status, kind) in [
        ("", "{}", 401, "authentication_error"),
        ("Authorization: Bearer key\r\n", r#"{"model":"unknown"}"#, 404, "not_found_error"),
        ("Authorization: Bearer key\r\n", "{", 400, "invalid_request_error"),
    ] {
        let response =
            gateway.ask(post_with(MESSAGES, &format!("X-Request-Id: req-7\r\n{fields}"), body)).expect(status);
        let value: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((&value["type"], &value["error"]["type"]), (&"error".into(), &kind.into()), "{}", response.text());
        assert_eq!(value["request_id"], "req-7");
        assert!(value["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        let refused = gateway.ask(post_with(RESPONSES, fields, body)).expect(status);
        assert!(!refused.code().is_empty(), "{}", refused.text());
    }
}

#[test]
fn why_an_answer_is_not_kept_is_said() {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("length") => json(&completion_ended("a", "length")),
        text if text.contains("filtered") => json(&completion_ended("a", "content_filter")),
        text if text.contains("odd") => json(&completion_ended("a", "odd")),
        text if text.contains("empty") => json(&completion("")),
        text if text.contains("large") => json(&completion(&"x".repeat(70_000))),
        text if text.contains("status") => answer(404, "{}"),
        _ => echo(request),
    });
    let gateway =
        Setup::with(&backend).cache("max_entry = \"64KiB\"").log("access = \"$DIRECTORY/access.log\"").start();
    let no_store = "Cache-Control: no-store\r\n";
    let queried =
        String::from_utf8(chat("q")).unwrap().replace("completions HTTP", "completions?x=y HTTP").into_bytes();
    let cases = [
        (chat("length"), "length_cut"),
        (chat("filtered"), "content_filter"),
        (chat("odd"), "unknown_finish"),
        (chat("empty"), "empty"),
        (chat("large"), "too_large"),
        (chat("status"), "status"),
        (post_with(CHAT, no_store, &question("x")), "no_store"),
        (queried, "query"),
        (post("/v1/other", r#"{"model":"m"}"#), "endpoint"),
    ];
    for (request, reason) in &cases {
        for _ in 0..2 {
            let response = gateway.ask(request);
            let status = response.field("cache-status").unwrap();
            assert!(status.ends_with(&format!("; detail={reason}")), "{reason}: {status}");
        }
    }
    // Of a stream it is known at its end, and of a good answer there is nothing to say.
    let backend_of_streams = Backend::answering(|_| framed(&[piece("a"), finish("length"), done()]));
    let kept = gateway.ask(chat("good")).expect(200);
    assert_eq!(kept.field("cache-status"), Some("ringway; fwd=uri-miss"));
    let log = log_of(gateway);
    for (place, (_, reason)) in cases.iter().enumerate() {
        assert_eq!(log[2 * place]["not_stored"], *reason, "{}", log[2 * place]);
        assert_eq!(log[2 * place + 1]["not_stored"], *reason);
    }
    assert_eq!(log[2 * cases.len()].get("not_stored"), None);
    let gateway = Setup::with(&backend_of_streams).log("access = \"$DIRECTORY/access.log\"").start();
    gateway.ask(chat_stream("x")).expect(200);
    assert_eq!(log_of(gateway)[0]["not_stored"], "length_cut");
    let gateway = Setup::with(&backend).cache("enabled = false").start();
    let response = gateway.ask(chat("x")).expect(200);
    assert_eq!(response.field("cache-status"), Some("ringway; fwd=bypass; detail=off"));
}
