//! The cache as clients see it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::kit::*;

fn with(fields: &str, what: &str) -> Vec<u8> {
    post_with(CHAT, fields, &question(what))
}

#[test]
fn a_hit_is_the_miss_byte_for_byte() {
    for cores in [1, 2] {
        let backend = Backend::answering(echo);
        let gateway = Setup::with(&backend).cores(cores).start();
        for place in 0..8 {
            for request in [chat(&format!("whole {place}")), chat_stream(&format!("streamed {place}"))] {
                let miss = gateway.ask(&request).expect(200);
                assert_eq!(miss.cache(), "MISS");
                assert_eq!(miss.field("cache-status"), Some("ringway; fwd=uri-miss"));
                // Often enough that both cores answer, with their own entry or with a copy.
                for _ in 0..6 {
                    let hit = gateway.ask(&request).expect(200);
                    assert_eq!((hit.cache(), hit.text()), ("HIT", miss.text()));
                    assert!(hit.field("cache-status").unwrap().starts_with("ringway; hit; ttl="));
                    assert!(hit.field("age").unwrap().parse::<u64>().unwrap() < 300);
                    for same in ["content-type", "content-length", "transfer-encoding", "cache-control"] {
                        assert_eq!(hit.field(same), miss.field(same), "{same}");
                    }
                }
            }
        }
        assert_eq!(backend.count(), 16);
    }
}

#[test]
fn what_cannot_change_the_answer_does_not_matter() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let base = r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":1,"n":10}"#;
    gateway.ask(post(CHAT, base)).expect(200);
    for (same, what) in [
        (r#"{"n":10,"temperature":1,"messages":[{"content":"same","role":"user"}],"model":"m"}"#, "order"),
        (
            "{ \"model\" :\t\"m\",\r\n\"messages\":[ {\"role\":\"user\",\"content\":\"same\"} ], \"temperature\":1, \"n\":10 }",
            "space",
        ),
        (r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":1.0,"n":1e1}"#, "numbers"),
        (r#"{"model":"m","messages":[{"role":"user","content":"s\u0061me"}],"temperature":1,"n":10}"#, "escapes"),
        (r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":1,"n":10,"user":"u"}"#, "user"),
    ] {
        assert_eq!(gateway.ask(post(CHAT, same)).expect(200).cache(), "HIT", "{what}");
    }
    for (other, what) in [
        (r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":0.9,"n":10}"#, "temperature"),
        (r#"{"model":"m","messages":[{"role":"user","content":"same "}],"temperature":1,"n":10}"#, "content"),
        (r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":1,"n":10,"x":null}"#, "unknown"),
        (r#"{"model":"m","messages":[{"role":"user","content":"same"}],"temperature":"1","n":10}"#, "type"),
    ] {
        assert_eq!(gateway.ask(post(CHAT, other)).expect(200).cache(), "MISS", "{what}");
    }
}

#[test]
fn what_is_fetched_for_one_who_wants_it_young_is_kept() {
    for cores in [1, 2] {
        let backend = Backend::answering(echo);
        let gateway = Setup::with(&backend).cores(cores).start();
        gateway.ask(chat("old")).expect(200);
        // Not even what was stored in this very millisecond, unless the clock stands still for both.
        let young = with("Cache-Control: max-age=0\r\n", "old");
        let old = with("Cache-Control: max-age=1000\r\n", "old");
        let mut refetched = 0;
        for _ in 0..64 {
            let answer = gateway.ask(&young).expect(200);
            if answer.cache() == "MISS" {
                assert_eq!(answer.field("cache-status"), Some("ringway; fwd=stale"));
                refetched += 1;
            }
            assert_eq!(gateway.ask(&old).expect(200).cache(), "HIT");
        }
        assert!(refetched > 0);
        assert_eq!(backend.count(), 1 + refetched);
    }
}

#[test]
fn no_core_serves_what_was_replaced() {
    let number = AtomicUsize::new(0);
    let backend =
        Backend::answering(move |_| json(&completion(&format!("answer {}", number.fetch_add(1, Ordering::SeqCst)))));
    let gateway = Setup::with(&backend).cores(2).start();
    let mut clients: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
    let mut ask = |at: usize, request: &[u8]| {
        let client: &mut Client = &mut clients[at];
        client.send(request);
        client.response().expect(200)
    };
    for place in 0..8 {
        let request = chat(&format!("replaced {place}"));
        let first = ask(0, &request).text().to_owned();
        // Each core gives its own entry or a copy.
        for at in 0..16 {
            let response = ask(at, &request);
            assert_eq!((response.cache(), response.text()), ("HIT", first.as_str()));
        }
        let fresh = ask(place, &with("Cache-Control: no-cache\r\n", &format!("replaced {place}"))).text().to_owned();
        assert_ne!(fresh, first);
        // The owner knows of it once the fetching core has had something else from the owner: some of these is the owner's.
        for other in 0..16 {
            ask(place, &chat(&format!("another {place} {other}")));
        }
        for at in 0..16 {
            let response = ask(at, &request);
            assert_eq!((response.cache(), response.text()), ("HIT", fresh.as_str()), "client {at}, place {place}");
        }
    }
}

#[test]
fn endpoints_do_not_share_answers() {
    let backend = Backend::answering(|request| match request.line().contains("embeddings") {
        true => json(
            r#"{"object":"list","data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        ),
        false => json(&completion("x")),
    });
    let gateway = Setup::with(&backend).start();
    let body = r#"{"model":"m","input":"x","messages":[],"prompt":"x"}"#;
    for path in ["/v1/embeddings", "/v1/completions", CHAT] {
        assert_eq!(gateway.ask(post(path, body)).expect(200).cache(), "MISS", "{path}");
        assert_eq!(gateway.ask(post(path, body)).expect(200).cache(), "HIT", "{path}");
    }
}

/// A tool call and two choices, as a stream.
fn tool_stream() -> Vec<u8> {
    let part = |choices: &str| {
        chunk(&event(&format!(
            r#"{{"id":"c9","object":"chat.completion.chunk","created":7,"model":"m","choices":[{choices}]}}"#
        )))
    };
    let mut out = STREAM_HEAD.to_owned();
    out += &part(
        r#"{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"look","arguments":""}}]},"finish_reason":null}"#,
    );
    out += &part(
        r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]},"finish_reason":null}"#,
    );
    out +=
        &part(r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}"#);
    out += &part(r#"{"index":0,"delta":{},"finish_reason":"tool_calls"}"#);
    out += &chunk(&usage().replace("\"c1\"", "\"c9\""));
    out += &chunk(&done());
    (out + LAST_CHUNK).into_bytes()
}

#[test]
fn a_streamed_answer_is_served_whole() {
    let backend = Backend::answering(|_| tool_stream());
    for cores in [1, 2] {
        let gateway = Setup::with(&backend).cores(cores).start();
        gateway.ask(chat_stream("tools")).expect(200);
        for _ in 0..4 {
            let whole = gateway.ask(chat("tools")).expect(200);
            assert_eq!((whole.cache(), whole.field("content-type")), ("HIT", Some("application/json")));
            let value: serde_json::Value = serde_json::from_slice(&whole.body).unwrap();
            let choice = &value["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls");
            assert_eq!(choice["message"]["role"], "assistant");
            let call = &choice["message"]["tool_calls"][0];
            assert_eq!((&call["id"], &call["type"]), (&"t1".into(), &"function".into()));
            assert_eq!(call["function"]["name"], "look");
            assert_eq!(call["function"]["arguments"], "{\"x\":1}");
            assert_eq!(value["object"], "chat.completion");
            assert_eq!(value["usage"]["total_tokens"], 5);
        }
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_whole_answer_is_served_as_a_stream() {
    let answer = r#"{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"look","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    let backend = Backend::answering(move |_| json(answer));
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("tools")).expect(200);
    let hit = gateway.ask(chat_stream("tools")).expect(200);
    assert_eq!((hit.cache(), hit.field("content-type")), ("HIT", Some("text/event-stream")));
    let text = hit.text();
    assert!(text.ends_with(&done()));
    assert!(!text.contains("\"usage\":{"), "not asked for: {text}");
    let events: Vec<serde_json::Value> =
        text.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect();
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    let finish: Vec<_> = events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finish, ["tool_calls"]);
    let calls: Vec<_> = events.iter().filter(|event| event["choices"][0]["delta"]["tool_calls"].is_array()).collect();
    assert_eq!(calls[0]["choices"][0]["delta"]["tool_calls"][0]["id"], "t1");
    // And with usage for one who asks.
    let asking =
        streamed_question("tools").replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    let hit = gateway.ask(post(CHAT, &asking)).expect(200);
    assert_eq!(hit.cache(), "HIT");
    assert!(hit.text().contains("\"total_tokens\":5"));
    assert_eq!(backend.count(), 1);
}

#[test]
fn what_is_not_a_good_and_whole_answer_is_not_kept() {
    let backend = Backend::answering(|request| {
        let text = request.text();
        let streamed = text.contains("\"stream\":true");
        let end = |reason: &str| {
            if streamed {
                (STREAM_HEAD.to_owned() + &chunk(&(piece("a") + &finish(reason) + &done())) + LAST_CHUNK).into_bytes()
            } else {
                json(&completion_ended("a", reason))
            }
        };
        match text {
            text if text.contains("length") => end("length"),
            text if text.contains("filter") => end("content_filter"),
            text if text.contains("news") => end("something_new"),
            text if text.contains("no end") && streamed => {
                (STREAM_HEAD.to_owned() + &chunk(&(piece("a") + &done())) + LAST_CHUNK).into_bytes()
            }
            text if text.contains("no end") => json(&completion("a").replace("\"stop\"", "null")),
            text if text.contains("no json") => json("this is not JSON"),
            text if text.contains("error in 200") => json(r#"{"error":{"message":"x"}}"#),
            text if text.contains("encoded") => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
                .to_vec(),
            text if text.contains("500") => answer(500, "{}"),
            text if text.contains("201") => answer(201, &completion("a")),
            _ => answer(404, "{}"),
        }
    });
    let gateway = Setup::once(&backend).start();
    for what in
        ["length", "filter", "news", "no end", "no json", "error in 200", "encoded", "status 500", "status 201", "404"]
    {
        for request in [chat(what), chat_stream(what)] {
            for _ in 0..2 {
                assert_eq!(gateway.ask(&request).cache(), "MISS", "{what}");
            }
        }
    }
    assert_eq!(backend.count(), 40);
}

#[test]
fn answers_above_the_bound_are_passed_on_and_not_kept() {
    let backend = Backend::answering(|_| json(&completion(&"x".repeat(100_000))));
    let gateway = Setup::with(&backend).cache("max_entry = \"64KiB\"").start();
    for _ in 0..2 {
        let response = gateway.ask(chat("big")).expect(200);
        assert_eq!((response.cache(), response.text()), ("MISS", completion(&"x".repeat(100_000)).as_str()));
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn directives_of_a_request() {
    for cores in [1, 2] {
        let backend = Backend::answering(echo);
        let gateway = Setup::with(&backend).cores(cores).start();
        let ask = |fields: &str, what: &str| gateway.ask(with(fields, what));
        for place in 0..6 {
            let what = format!("question {place}");
            let before = backend.count();
            // Nothing there: no call is made, and what comes next is not harmed.
            for _ in 0..2 {
                assert_eq!(ask("Cache-Control: only-if-cached\r\n", &what).expect(504).code(), "not_cached");
            }
            assert_eq!(backend.count(), before);
            // Not kept.
            assert_eq!(ask("Cache-Control: no-store\r\n", &what).expect(200).cache(), "BYPASS");
            assert_eq!(ask("Cache-Control: only-if-cached\r\n", &what).status, 504);
            // Not looked for, but kept.
            let fresh = ask("Cache-Control: no-cache\r\n", &what).expect(200);
            assert_eq!((fresh.cache(), fresh.field("cache-status")), ("MISS", Some("ringway; fwd=request")));
            assert_eq!(backend.count(), before + 2);
            assert_eq!(ask("", &what).expect(200).cache(), "HIT");
            assert_eq!(ask("Cache-Control: only-if-cached\r\n", &what).expect(200).cache(), "HIT");
            assert_eq!(ask("Cache-Control: no-cache\r\n", &what).expect(200).cache(), "MISS");
            assert_eq!(ask("Cache-Control: max-age=1000\r\n", &what).expect(200).cache(), "HIT");
            assert_eq!(ask("Cache-Control: foo, NO-STORE\r\n", &what).expect(200).cache(), "BYPASS");
            assert_eq!(backend.count(), before + 4);
        }
    }
}

#[test]
fn an_answer_lives_as_long_as_it_may() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).cache("ttl = \"100ms\"").start();
    gateway.ask(chat("short")).expect(200);
    let started = std::time::Instant::now();
    let mut client = gateway.client();
    loop {
        client.send(chat("short"));
        match client.response().expect(200).cache() {
            "MISS" => break,
            _ => assert!(started.elapsed() < GUARD, "it never expires"),
        }
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn too_old_for_the_client_is_not_served() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("aging")).expect(200);
    let started = std::time::Instant::now();
    let mut client = gateway.client();
    loop {
        client.send(with("Cache-Control: max-age=0\r\n", "aging"));
        match client.response().expect(200).cache() {
            "MISS" => break,
            _ => assert!(started.elapsed() < GUARD, "it never ages"),
        }
    }
    client.send(chat("aging"));
    assert_eq!(client.response().expect(200).cache(), "HIT");
}

#[test]
fn without_a_cache_every_request_goes_upstream() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).cache("enabled = false").start();
    for _ in 0..2 {
        assert_eq!(gateway.ask(chat("x")).expect(200).cache(), "BYPASS");
        assert_eq!(gateway.ask(chat_stream("x")).expect(200).cache(), "BYPASS");
    }
    assert_eq!(backend.count(), 4);
}

/// Who asks for a whole answer gets its usage, whoever asked before.
#[test]
fn a_stream_without_usage_serves_no_whole_answer() {
    let backend = Backend::answering(|request| {
        let streamed = String::from_utf8(echo(request)).unwrap();
        streamed.replace(&chunk(&usage()), "").into_bytes()
    });
    let gateway = Setup::with(&backend).start();
    assert_eq!(gateway.ask(chat_stream("x")).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(chat_stream("x")).expect(200).cache(), "HIT");
    let whole = gateway.ask(chat("x")).expect(200);
    assert!(whole.cache() == "MISS" && whole.text().contains("total_tokens"), "{}", whole.text());
    for again in [chat("x"), chat_stream("x")] {
        assert_eq!(gateway.ask(again).expect(200).cache(), "HIT");
    }
}
