//! WebSockets at `/v1/realtime`: opened as requests are, then bytes both ways to the end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::kit::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn upgrade_with(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
    )
}

fn upgrade() -> String {
    upgrade_with("/v1/realtime?model=m", "")
}

fn agreed(behind: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n{behind}"
    )
}

/// Agrees, and says everything that comes a second time.
fn echoing() -> Backend {
    Backend::run(|peer| {
        if peer.request().is_some() {
            peer.write(agreed(""));
            while let Some(bytes) = peer.some() {
                peer.write(&bytes);
            }
            peer.left();
        }
    })
}

#[track_caller]
fn open(client: &mut Client) -> Response {
    client.send(upgrade());
    let head = client.head();
    assert_eq!(head.status, 101, "{}", head.head);
    head
}

#[test]
fn bytes_go_both_ways_as_they_are() {
    let backend = echoing();
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    let head = open(&mut client);
    assert_eq!(head.field("upgrade"), Some("websocket"));
    assert_eq!(head.field("connection"), Some("upgrade"));
    assert_eq!(head.field("sec-websocket-accept"), Some(ACCEPT));
    assert!(head.field("x-request-id").is_some() && head.field("content-length").is_none());
    // Byte by byte, and as a frame of a mebibyte.
    for byte in b"\x81\x85abcd\x00\x01\r\n\r\n" {
        client.send([*byte]);
        assert_eq!(client.exactly(1), [*byte]);
    }
    let large: Vec<u8> = (0..1 << 20).map(|place: u32| (place % 251) as u8).collect();
    std::thread::scope(|scope| {
        let sent = large.clone();
        let mut writer = client.beside();
        scope.spawn(move || writer.send(sent));
        assert_eq!(client.exactly(large.len()), large);
    });
    // Half closed, the other direction goes on.
    client.send("last words");
    client.finish();
    assert_eq!(client.exactly(10), b"last words");
    client.expect_closed();
    backend.await_left(1);
}

#[test]
fn what_comes_right_behind_either_head_is_relayed() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.write(agreed("from the backend"));
        assert_eq!(peer.some().unwrap(), b"from the client");
        peer.write("and the end");
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(upgrade() + "from the client");
    assert_eq!(client.head().status, 101);
    assert_eq!(client.exactly(27), b"from the backendand the end");
    client.expect_closed();
}

#[test]
fn the_model_decides_where_it_goes_and_under_which_name() {
    let (own, other) = (echoing(), echoing());
    let gateway = Setup::bare()
        .backend("own", &own, "api_key = \"upstream-secret\"")
        .backend("other", &other, "")
        .model("m", "backends = [{ backend = \"own\", model = \"org/real model\" }]")
        .model("n", "backends = [\"other\"]")
        .tenant("t", "key", "models = [\"m\"]")
        .start();
    let protocols = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.key, openai-beta.realtime-v1\r\n";
    let secrets = "Cookie: a=secret\r\nOrigin: https://page\r\nOpenAI-Beta: realtime=v1\r\n";
    let mut client = gateway.client();
    client.send(upgrade_with("/v1/realtime?voice=a&model=m&x=y", &format!("{protocols}{secrets}")));
    assert_eq!(client.head().status, 101);
    let seen = own.requests().remove(0);
    assert_eq!(seen.line(), "GET /v1/realtime?voice=a&model=org%2Freal%20model&x=y HTTP/1.1");
    assert_eq!(seen.field("authorization"), Some("Bearer upstream-secret"));
    assert_eq!(seen.field("sec-websocket-protocol"), Some("realtime, openai-beta.realtime-v1"));
    assert_eq!(seen.field("sec-websocket-key"), Some(KEY));
    assert_eq!(seen.field("sec-websocket-version"), Some("13"));
    assert_eq!((seen.field("upgrade"), seen.field("connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(seen.field("openai-beta"), Some("realtime=v1"));
    assert!(!seen.head.contains("insecure") && !seen.head.contains("secret\r\nc"), "{}", seen.head);
    assert!(seen.field("cookie").is_none() && seen.field("origin").is_none());

    let refused = |fields: &str, target: &str| gateway.ask(upgrade_with(target, fields));
    let bearer = "Authorization: Bearer key\r\n";
    assert_eq!(refused("", "/v1/realtime?model=m").expect(401).code(), "missing_api_key");
    assert_eq!(refused("Authorization: Bearer no\r\n", "/v1/realtime?model=m").expect(401).code(), "invalid_api_key");
    // A credential that a page sets in vain does not replace the one that is there.
    let both = format!("Authorization: Bearer no\r\n{protocols}");
    assert_eq!(refused(&both, "/v1/realtime?model=m").expect(401).code(), "invalid_api_key");
    assert_eq!(refused(bearer, "/v1/realtime?model=n").expect(404).code(), "model_not_found");
    assert_eq!(refused(bearer, "/v1/realtime").expect(400).code(), "model_required");
    // The key among the protocols is a WebSocket's alone.
    let plain = format!("GET /v1/realtime?model=m HTTP/1.1\r\nHost: h\r\n{protocols}\r\n");
    assert_eq!(gateway.ask(plain).expect(401).code(), "missing_api_key");
    assert_eq!((own.count(), other.count()), (1, 0));
}

#[test]
fn what_opens_no_websocket_is_refused_here() {
    let backend = echoing();
    let gateway = Setup::with(&backend).start();
    let head =
        |fields: &str| format!("GET /v1/realtime?model=m HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n{fields}\r\n");
    for fields in [
        "Connection: Upgrade\r\n".to_owned(),
        "Connection: Upgrade\r\nSec-WebSocket-Key: short\r\n".to_owned(),
        format!("Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Key: {KEY}\r\n"),
        format!("Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nContent-Length: 1\r\n"),
        format!("Sec-WebSocket-Key: {KEY}\r\n"),
    ] {
        assert_eq!(gateway.ask(head(&fields)).expect(400).code(), "bad_request_head", "{fields}");
    }
    assert_eq!(backend.count(), 0);
    // What only speaks HTTP/2 is not asked for what it does not have.
    let gateway = Setup::with_backend(&backend, "protocol = \"http2\"").start();
    assert_eq!(gateway.ask(upgrade()).expect(426).code(), "upgrade_unavailable");
}

#[test]
fn a_refusal_is_passed_on_and_the_connection_goes_on() {
    let backend = Backend::answering(|request| {
        let target = request.line().to_owned();
        match () {
            () if target.contains("version") => {
                b"HTTP/1.1 426 X\r\nSec-WebSocket-Version: 13, 8\r\nContent-Length: 2\r\n\r\nno".to_vec()
            }
            () if target.contains("chunked") => {
                b"HTTP/1.1 403 X\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n\
                  2\r\nno\r\n1\r\n!\r\n0\r\n\r\n"
                    .to_vec()
            }
            () if target.contains("fine") => json("{}"),
            () if target.contains("other") => b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_vec(),
            () if target.contains("long") => answer(400, &"x".repeat(1 << 20)),
            () if target.contains("ours") => answer(401, "{\"error\":{\"message\":\"upstream-secret is bad\"}}"),
            () if target.contains("interim") => {
                [b"HTTP/1.1 103 Early Hints\r\n\r\n", &answer(404, "{\"error\":{\"code\":\"not_here\"}}")[..]].concat()
            }
            () => answer(500, "{\"error\":{\"code\":\"broken\"}}"),
        }
    });
    let gateway = Setup::once(&backend).start();
    let mut client = gateway.client();
    let mut ask = |what: &str| {
        client.send(upgrade_with(&format!("/v1/realtime?model=m&{what}"), ""));
        client.response()
    };
    let version = ask("version").expect(426);
    assert_eq!((version.text(), version.field("sec-websocket-version")), ("no", Some("13, 8")));
    let chunked = ask("chunked").expect(403);
    assert_eq!((chunked.text(), chunked.field("content-type")), ("no!", Some("text/plain")));
    assert_eq!(chunked.field("set-cookie"), None);
    assert_eq!(ask("fine").expect(200).text(), "{}");
    assert_eq!(ask("interim").expect(404).code(), "not_here");
    assert_eq!(ask("other").expect(502).code(), "backend_invalid");
    assert_eq!(ask("long").expect(502).code(), "backend_invalid");
    let ours = ask("ours").expect(502);
    assert_eq!(ours.code(), "backend_refused");
    assert_eq!(ask("500").expect(500).code(), "broken");
}

#[test]
fn another_backend_is_asked_until_one_agrees() {
    let (absent, full, good) = (Backend::absent(), Backend::answering(|_| answer(503, "{}")), echoing());
    let gateway = Setup::bare()
        .backend("absent", &absent, "")
        .backend("full", &full, "")
        .backend("good", &good, "")
        .model("m", "backends = [\"absent\", \"full\"]\nfallback = [\"n\"]")
        .model("n", "backends = [\"good\"]")
        .start();
    let mut client = gateway.client();
    open(&mut client);
    client.send("hello");
    assert_eq!(client.exactly(5), b"hello");
    assert!(full.count() > 0);
    assert_eq!(good.requests()[0].line(), "GET /v1/realtime?model=n HTTP/1.1");
}

#[test]
fn a_side_that_leaves_takes_the_other_with_it() {
    let backend = Backend::run(|peer| {
        let Some(request) = peer.request() else { return };
        if request.line().contains("never") {
            return peer.await_close();
        }
        peer.write(agreed(if request.line().contains("whole") { "\u{2}\u{5}hello" } else { "hello" }));
        if request.line().contains("reset") {
            peer.some();
            return peer.reset();
        }
        peer.await_close();
    });
    let gateway = Setup::once(&backend).start();
    // Before it is open.
    let mut client = gateway.client();
    client.send(upgrade_with("/v1/realtime?model=m&never", ""));
    backend.await_requests(1);
    drop(client);
    backend.await_left(1);
    // By a close, and by a reset.
    for left in [2, 3] {
        let mut client = gateway.client();
        open(&mut client);
        assert_eq!(client.exactly(5), b"hello");
        if left == 2 {
            drop(client)
        } else {
            client.reset()
        }
        backend.await_left(left);
    }
    // The backend.
    let mut client = gateway.client();
    client.send(upgrade_with("/v1/realtime?model=m&reset", ""));
    assert_eq!(client.head().status, 101);
    assert_eq!(client.exactly(5), b"hello");
    client.send("die");
    client.expect_closed();
    let mut client = gateway.client();
    client.send(upgrade_with("/v1/realtime?model=m&reset&whole", ""));
    assert_eq!(client.head().status, 101);
    assert_eq!(client.exactly(7), b"\x02\x05hello");
    client.send("die");
    assert_eq!(client.exactly(4), b"\x88\x02\x03\xf6");
    client.expect_closed();
    // A backend that was only ever lost in the middle of a WebSocket serves on.
    let mut client = gateway.client();
    open(&mut client);
}

#[test]
fn a_side_that_does_not_read_holds_the_other_back() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(agreed(""));
        peer.patience(Duration::from_millis(300));
        let mut written = 0u64;
        // Until nobody takes more.
        while written < 1 << 30 && peer.write([7; 64 << 10]) {
            written += 64 << 10;
        }
        assert!(written < 64 << 20, "{written} bytes were taken that nobody reads");
        // Nor does this one read, until it is told.
        wait.lock().unwrap().recv_timeout(GUARD).unwrap();
        peer.await_close();
    });
    let gateway = Setup::with(&backend).start();
    let before = gateway.resident_kib();
    let mut client = Client::connect_narrow(gateway.address);
    open(&mut client);
    client.guard_writes(Duration::from_millis(300));
    let mut written = 0u64;
    while written < 1 << 30 && client.try_send([9; 64 << 10]) {
        written += 64 << 10;
    }
    assert!(written < 64 << 20, "{written} bytes were taken that nobody reads");
    let grown = gateway.resident_kib().saturating_sub(before);
    // Of hundreds that both sides would write; with what a process that has just begun grows by itself.
    assert!(grown < 16 << 10, "{grown} KiB");
    // A client that leaves is seen all the same.
    client.reset();
    go.send(()).unwrap();
    backend.await_left(1);
}

#[test]
fn limits_count_a_websocket_for_as_long_as_it_is_open() {
    let backend = echoing();
    let gateway = Setup::with(&backend).tenant("t", "key", "concurrent_requests = 1\nrequests_per_minute = 2").start();
    let ask = upgrade_with("/v1/realtime?model=m", "Authorization: Bearer key\r\n");
    let mut client = gateway.client();
    client.send(&ask);
    let head = client.head();
    assert_eq!((head.status, head.field("x-ratelimit-remaining-requests")), (101, Some("1")));
    assert_eq!(gateway.ask(&ask).expect(429).code(), "concurrent_requests_exceeded");
    drop(client);
    backend.await_left(1);
    let mut second = gateway.client();
    eventually("its place is free", || {
        second.send(&ask);
        let mut head = second.head();
        if head.status == 101 {
            return true;
        }
        second.body(&mut head);
        assert_eq!(head.code(), "concurrent_requests_exceeded");
        false
    });
    drop(second);
    backend.await_left(2);
    eventually("the minute is used up", || gateway.ask(&ask).code() == "requests_per_minute_exceeded");
}

#[test]
fn a_deadline_ends_its_opening_and_not_what_is_open() {
    let asked = AtomicU32::new(0);
    let backend = Backend::run(move |peer| {
        if peer.request().is_none() {
            return;
        }
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            peer.await_close();
            return;
        }
        peer.write(agreed(""));
        while let Some(bytes) = peer.some() {
            peer.write(&bytes);
        }
        peer.left();
    });
    let gateway = Setup::with_backend(&backend, "eject_errors = 1\neject_time = \"1h\"").start();
    let mut client = gateway.client();
    client.send(upgrade_with("/v1/realtime?model=m", "x-request-timeout: 50ms\r\n"));
    assert_eq!(client.response().expect(504).code(), "deadline_exceeded");
    // Nobody is blamed, and the connection serves on.
    client.send(upgrade_with("/v1/realtime?model=m", "x-request-timeout: 25\r\n"));
    assert_eq!(client.head().status, 101);
    client.send("beyond");
    assert_eq!(client.exactly(6), b"beyond");
}

#[test]
fn silence_ends_it_and_so_does_the_time_it_may_take() {
    let backend = echoing();
    for line in ["timeout_stream_idle = \"300ms\"", "timeout_stream = \"1s\""] {
        let gateway = Setup::with_backend(&backend, line).log("access = \"$DIRECTORY/log\"").start();
        let mut client = gateway.client();
        open(&mut client);
        // Within a frame, nothing can be told.
        client.send("a");
        assert_eq!(client.exactly(1), b"a");
        client.expect_closed();
        let expected = if line.contains("idle") { "websocket_idle" } else { "backend_timeout" };
        let path = gateway.file("log");
        eventually("its line is written", || std::fs::read_to_string(&path).is_ok_and(|text| text.contains(expected)));
    }
}

#[test]
fn a_drain_lets_it_go_on_until_its_deadline() {
    let backend = echoing();
    let gateway = Setup::with(&backend).server("timeout_drain = \"1s\"").start();
    let mut idle = gateway.client();
    idle.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    idle.response().expect(200);
    let mut client = gateway.client();
    open(&mut client);
    gateway.terminate();
    idle.expect_closed();
    client.send("\x02\x05still");
    assert_eq!(client.exactly(7), b"\x02\x05still");
    // Between two frames it is told why.
    assert_eq!(client.exactly(4), b"\x88\x02\x03\xe9");
    client.expect_closed();
    let (status, said) = gateway.ended();
    assert!(status.success() || !said.is_empty(), "{status}: {said}");
    backend.await_left(1);
}

#[test]
fn the_log_and_the_metrics_tell_of_it() {
    let backend = echoing();
    let gateway = Setup::with(&backend).admin("listen = \"127.0.0.1:0\"").log("access = \"$DIRECTORY/log\"").start();
    let metrics = || {
        let mut client = Client::connect(gateway.admin.unwrap());
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.response().expect(200).text().to_owned()
    };
    let mut client = gateway.client();
    open(&mut client);
    client.send("twelve bytes");
    assert_eq!(client.exactly(12), b"twelve bytes");
    for line in [
        "ringway_websockets 1",
        "ringway_websocket_bytes_total{from=\"client\"} 12",
        "ringway_websocket_bytes_total{from=\"backend\"} 12",
        "ringway_backend_requests_in_flight{backend=\"b\"} 1",
    ] {
        // What is counted may be read a moment later than what was counted.
        eventually(line, || metrics().lines().any(|found| found == line));
    }
    client.finish();
    client.expect_closed();
    let path = gateway.file("log");
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("its line is written", || text().ends_with('\n'));
    let line: serde_json::Value = serde_json::from_str(text().trim()).unwrap();
    for (name, value) in [("status", 101), ("sent_bytes", 12), ("received_bytes", 12)] {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(
        (&line["model"], &line["backend"], &line["error"]),
        (&"m".into(), &"b".into(), &serde_json::Value::Null)
    );
    for part in ["ringway_websockets 0\n", "status=\"101\"} 1\n"] {
        eventually(part, || metrics().contains(part));
    }
}

#[test]
fn a_stream_of_http2_can_be_one() {
    let backend = Backend::run(|peer| {
        let Some(request) = peer.request() else { return };
        if request.line().contains("refuse") {
            peer.write(answer(404, "{\"error\":{\"code\":\"not_here\"}}"));
            return;
        }
        if request.line().contains("fine") {
            peer.write(json("{}"));
            return;
        }
        peer.write(agreed(""));
        while let Some(bytes) = peer.some() {
            peer.write(&bytes);
        }
        peer.left();
    });
    let gateway = Setup::with(&backend).tenant("t", "key", "").start();
    let mut client = Http2::connect(gateway.address);
    let fields = [("sec-websocket-protocol", "realtime, openai-insecure-api-key.key"), ("sec-websocket-version", "13")];
    let ask = |client: &mut Http2, query: &str| client.websocket(&format!("/v1/realtime?model=m{query}"), &fields);
    let Asked { response, mut upload } = ask(&mut client, "");
    let mut reading = client.head_of(response).unwrap();
    assert_eq!(reading.response.status, 200);
    for name in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
        assert_eq!(reading.response.field(name), None, "{name}");
    }
    let seen = backend.requests().remove(0);
    assert_eq!(seen.line(), "GET /v1/realtime?model=m HTTP/1.1");
    assert_eq!((seen.field("upgrade"), seen.field("sec-websocket-protocol")), (Some("websocket"), Some("realtime")));
    assert_eq!(seen.field("sec-websocket-key").map(str::len), Some(24));
    // Frame by frame, and a mebibyte that waits for windows.
    for part in [vec![1; 1], vec![2; 100], (0..1 << 20).map(|place: u32| (place % 251) as u8).collect()] {
        reading.response.body.clear();
        upload.send_data(part.clone().into(), false).unwrap();
        while reading.response.body.len() < part.len() {
            assert!(client.read(&mut reading).unwrap());
        }
        assert_eq!(reading.response.body, part);
    }
    // Other streams of the connection are requests as before.
    client.ask("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer key\r\n\r\n").expect(200);
    // Half closed, then closed.
    reading.response.body.clear();
    upload.send_data("last words".into(), true).unwrap();
    while client.read(&mut reading).unwrap() {}
    assert_eq!(reading.response.text(), "last words");
    backend.await_left(1);
    // A reset takes the backend's connection with it.
    let Asked { response, mut upload } = ask(&mut client, "");
    let reading = client.head_of(response).unwrap();
    assert_eq!(reading.response.status, 200);
    upload.send_reset(h2::Reason::CANCEL);
    client.drive();
    backend.await_left(2);
    // Refusals.
    let refused = ask(&mut client, "&refuse");
    assert_eq!(client.response(refused).expect(404).code(), "not_here");
    let refused = ask(&mut client, "&fine");
    assert_eq!(client.response(refused).expect(502).code(), "backend_invalid");
    let refused = client.websocket("/v1/responses", &fields);
    assert_eq!(client.response(refused).expect(426).code(), "upgrade_unavailable");
    let refused = client.websocket("/v1/realtime?model=m", &[]);
    assert_eq!(client.response(refused).expect(401).code(), "missing_api_key");
}
