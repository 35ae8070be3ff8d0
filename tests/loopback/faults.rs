//! Malformed requests: each gets its status and a closed connection, and nothing of it reaches a backend.

use super::kit::*;

/// What is wrong, the bytes, the status.
fn cases() -> Vec<(&'static str, Vec<u8>, u16)> {
    let with = |fields: &str| format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n").into_bytes();
    let chunked = |body: &str| with("Transfer-Encoding: chunked\r\n").into_iter().chain(body.bytes()).collect();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("both framings", with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("both framings, the other way", with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400),
        ("two lengths", with("Content-Length: 3\r\nContent-Length: 4\r\n"), 400),
        ("two equal lengths", with("Content-Length: 3\r\nContent-Length: 3\r\n"), 400),
        ("a list of lengths", with("Content-Length: 3, 3\r\n"), 400),
        ("a signed length", with("Content-Length: +3\r\n"), 400),
        ("a negative length", with("Content-Length: -3\r\n"), 400),
        ("a hexadecimal length", with("Content-Length: 0x3\r\n"), 400),
        ("an empty length", with("Content-Length: \r\n"), 400),
        ("a length beyond 64 bits", with("Content-Length: 18446744073709551616\r\n"), 400),
        ("a coding other than chunked", with("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("identity", with("Transfer-Encoding: identity\r\n"), 400),
        ("chunked twice", with("Transfer-Encoding: chunked, chunked\r\n"), 400),
        ("chunked in two fields", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("chunked not last", with("Transfer-Encoding: chunked, gzip\r\n"), 400),
        ("a vertical tab before chunked", with("Transfer-Encoding: \x0bchunked\r\n"), 400),
        ("a coding in HTTP/1.0", text("POST /v1/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        ("a folded field", with("X-Folded: a\r\n b\r\n"), 400),
        ("a space before the colon", with("X-Name : a\r\n"), 400),
        ("a space before the first name", text("GET /healthz HTTP/1.1\r\n Host: h\r\n\r\n"), 400),
        ("no field name", with(": a\r\n"), 400),
        ("a field without a colon", with("X-Name\r\n"), 400),
        ("a NUL in a value", with("X-Name: a\0b\r\n"), 400),
        ("a control byte in a value", with("X-Name: a\x01b\r\n"), 400),
        ("a bare CR in a value", with("X-Name: a\rb\r\n"), 400),
        ("a bare LF as line end", text("GET /healthz HTTP/1.1\nHost: h\n\n"), 400),
        ("one bare LF among CR LF", with("X-Name: a\nX-Other: b\r\n"), 400),
        ("a bare LF as the empty line", text("GET /healthz HTTP/1.1\r\nHost: h\r\n\n"), 400),
        ("no host", text("GET /healthz HTTP/1.1\r\n\r\n"), 400),
        ("two hosts", text("GET /healthz HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"), 400),
        ("a host with a path", text("GET /healthz HTTP/1.1\r\nHost: h/x\r\n\r\n"), 400),
        ("an absolute target of another host", text("GET http://other/healthz HTTP/1.1\r\nHost: h\r\n\r\n"), 400),
        ("no version", line("GET /healthz"), 400),
        ("HTTP/1.2", line("GET /healthz HTTP/1.2"), 505),
        ("HTTP/2.0", line("GET /healthz HTTP/2.0"), 505),
        ("two spaces in the request line", line("GET  /healthz HTTP/1.1"), 400),
        ("a target that is no path", line("GET healthz HTTP/1.1"), 400),
        ("CONNECT", line("CONNECT h:443 HTTP/1.1"), 501),
        ("two empty lines in front", text("\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"), 400),
        ("an expectation other than 100-continue", with("Content-Length: 3\r\nExpect: 200-ok\r\n"), 417),
        ("a target of 9 KiB", line(&format!("GET /{} HTTP/1.1", "x".repeat(9 << 10))), 414),
        ("a field of 33 KiB", with(&format!("X-Long: {}\r\n", "x".repeat(33 << 10))), 431),
        ("101 fields", with(&"X-Many: a\r\n".repeat(101)), 431),
        ("a body above the bound", with("Content-Length: 2097153\r\n"), 413),
        ("a chunk above the bound", chunked(&format!("200001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x20_0001))), 413),
        ("an empty chunk size", chunked("\r\n\r\n"), 400),
        ("a signed chunk size", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400),
        ("a chunk size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400),
        ("a space before a chunk size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400),
        ("a chunk size beyond 64 bits", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        ("a bare LF behind a chunk size", chunked("5\nhello\r\n0\r\n\r\n"), 400),
        ("a chunk longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), 400),
        ("a bare LF behind a chunk", chunked("5\r\nhello\n0\r\n\r\n"), 400),
        ("a long chunk extension", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300))), 400),
        ("a bad trailer", chunked("0\r\nX Y: a\r\n\r\n"), 400),
    ]
}

#[test]
fn malformed_requests_get_their_status_and_a_closed_connection() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("body_max = \"2MiB\"").start();
    for (what, bytes, status) in cases() {
        let mut client = gateway.client();
        client.try_send(&bytes);
        // What follows on the same connection must never be taken for a request.
        client.try_send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, status, "{what}: {}{}", response.head, response.text());
        assert_eq!(response.field("connection"), Some("close"), "{what}");
        assert_eq!(response.field("content-type"), Some("application/json"), "{what}");
        client.expect_closed();
    }
    assert_eq!(backend.connections(), 0);
    gateway.ask(chat("still there")).expect(200);
}

#[test]
fn a_head_that_never_ends_is_refused_in_time() {
    let gateway = Setup::bare().server("timeout_head = \"50ms\"").start();
    let mut client = gateway.client();
    client.send("GET /healthz HTTP/1.1\r\nHost");
    let response = client.response().expect(408);
    assert_eq!(response.code(), "head_timeout");
    client.expect_closed();
}

#[test]
fn a_body_that_never_comes_is_refused_in_time() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_body = \"50ms\"").start();
    let mut client = gateway.client();
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345"));
    let response = client.response().expect(408);
    assert_eq!(response.code(), "body_timeout");
    client.expect_closed();
    assert_eq!(backend.connections(), 0);
}

#[test]
fn bodies_that_are_no_json_are_refused_and_the_connection_lives() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for (body, code) in [
        ("{", "bad_json"),
        ("", "bad_json"),
        ("[1,]", "bad_json"),
        ("{\"model\":\"m\",\"model\":\"m\"}", "bad_json"),
        ("{\"messages\":[]}", "bad_field"),
        ("{\"model\":1}", "bad_field"),
        ("{\"model\":\"m\",\"stream\":\"yes\"}", "bad_field"),
    ] {
        client.send(post(CHAT, body));
        let response = client.response().expect(400);
        assert_eq!(response.code(), code, "{body}");
    }
    let deep = format!("{{\"model\":\"m\",\"deep\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    client.send(post(CHAT, &deep));
    assert_eq!(client.response().expect(400).code(), "bad_json");
    client.send(chat("after all that"));
    client.response().expect(200);
    assert_eq!(backend.count(), 1);
}

/// Where an answer ends with its connection, only its format tells the end from a break.
#[test]
fn an_answer_without_a_length_that_breaks_off_is_not_taken_for_whole() {
    for (size, cut, status) in [(10, 0, 200), (10, 60, 502), (10, 400, 502), (600_000, 0, 200), (600_000, 60, 200)] {
        let backend = Backend::run(move |peer| {
            if peer.request().is_some() {
                let body = completion(&"a".repeat(size));
                let sent = &body[..body.len().saturating_sub(cut)];
                peer.write(format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n{sent}"));
                peer.finish();
            }
        });
        let gateway = Setup::once(&backend).start();
        let response = gateway.ask(chat("x"));
        assert_eq!(response.status, status, "{size} cut by {cut}");
        match (status, cut) {
            (200, 0) => assert_eq!((response.ending, gateway.ask(chat("x")).cache()), (Ending::Whole, "HIT")),
            // The first part was on its way when the end came.
            (200, _) => assert_ne!(response.ending, Ending::Whole),
            _ => assert_eq!(response.code(), "backend_truncated"),
        }
    }
}
