//! What must not be got past the gateway by spelling it another way.

use super::kit::*;

#[test]
fn what_the_backend_may_answer_differently_shares_nothing() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let body = question("the same");
    for path in [CHAT.to_owned(), format!("{CHAT}?version=1"), format!("{CHAT}?version=2"), format!("{CHAT}?version=1")]
    {
        gateway.ask(post(&path, &body)).expect(200);
    }
    assert_eq!(backend.count(), 4, "a query is the backend's business");
    for fields in ["OpenAI-Beta: a\r\n", "OpenAI-Beta: b\r\n", "Anthropic-Version: 1\r\n", "Anthropic-Beta: 1\r\n"] {
        assert_eq!(gateway.ask(post_with(CHAT, fields, &body)).expect(200).cache(), "MISS", "{fields}");
        assert_eq!(gateway.ask(post_with(CHAT, fields, &body)).expect(200).cache(), "HIT", "{fields}");
    }
    // Nothing of this goes upstream, so nothing of it can matter.
    let other = "Accept: text/plain\r\nX-Whatever: 1\r\nUser-Agent: another\r\n";
    assert_eq!(gateway.ask(post_with(CHAT, other, &body)).expect(200).cache(), "HIT");
}

#[test]
fn a_path_cannot_climb_out() {
    let backend = Backend::answering(|_| json("{}"));
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    for path in ["/v1/../secret", "/v1/./models", "/v1/a/%2e%2E/b", "/v1/.%2e", "/v1/..\\x", "/v1/%2e?x"] {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).expect(400);
    }
    for path in ["/v1/...", "/v1/a..b", "/v1/.well-known", "/v1/files?path=../x"] {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).expect(200);
    }
    assert_eq!(backend.count(), 4);
}

#[test]
fn another_label_does_not_hide_a_model() {
    let backend = Backend::answering(|_| json("{}"));
    let gateway = Setup::with(&backend)
        .server("default_model = \"m\"")
        .model("dear", "backends = [\"b\"]")
        .tenant("t", "key", "models = [\"m\"]")
        .start();
    let ask = |content_type: &str, body: &str| {
        let fields = format!("Authorization: Bearer key\r\nContent-Type: {content_type}\r\n");
        gateway.ask(post_with("/v1/moderations", &fields, body))
    };
    for content_type in ["application/json", "text/plain", "application/octet-stream"] {
        ask(content_type, "  {\"model\":\"dear\",\"input\":\"x\"}").expect(404);
        ask(content_type, "{\"model\":\"m\",\"input\":\"x\"}").expect(200);
    }
    ask("text/plain", "no object at all").expect(400);
    ask("text/plain", "").expect(200);
}

#[test]
fn an_event_too_long_to_read_breaks_the_stream() {
    let backend = Backend::run(|peer| {
        while peer.request().is_some() {
            let long = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(32 << 20));
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("first")));
            // Its end comes apart, so that it is found too long before and after it is whole.
            let (front, back) = long.split_at(long.len() - 10);
            peer.write(chunk(front));
            peer.write(chunk(back));
            peer.write(chunk(&piece("last")));
            peer.write(chunk(&finish("stop")));
            peer.write(chunk(&done()));
            peer.write(LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).start();
    for _ in 0..2 {
        let mut client = gateway.client();
        client.send(chat_stream("long"));
        let mut response = client.head();
        if response.status == 200 {
            client.body(&mut response);
            assert!(!response.text().contains("[DONE]"), "a stream with a hole looked whole");
        } else {
            assert_eq!(response.status, 502);
        }
    }
    assert_eq!(backend.count(), 2, "nothing of it was kept");
}

#[test]
fn usage_that_no_backend_was_asked_for_is_not_shared() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with_backend(&backend, "include_usage = false").start();
    let plain = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"u"}]}"#;
    let asking = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"u"}]}"#;
    for (body, cache) in [(plain, "MISS"), (asking, "MISS"), (plain, "HIT"), (asking, "HIT")] {
        assert_eq!(gateway.ask(post(CHAT, body)).expect(200).cache(), cache, "{body}");
    }
}

#[test]
fn no_backend_shows_what_was_added_to_a_request() {
    let backend = Backend::answering(|request| json(&request.head));
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let refused = gateway.ask("TRACE /v1/files HTTP/1.1\r\nHost: h\r\n\r\n").expect(405);
    assert!(refused.field("allow").unwrap().contains("GET, HEAD"));
    gateway.ask("OPTIONS /v1/files HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    assert_eq!(backend.count(), 1);
}
