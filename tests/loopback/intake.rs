//! What a client may cost while its request arrives and while it takes its answer: nothing without a credential, and no
//! more time than its bytes are worth.

use std::time::Duration;

use super::kit::*;

#[test]
fn a_body_is_not_waited_for_without_a_credential() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_body = \"5m\"").tenant("t", "key", "").start();
    for (line, fields, status) in [
        ("POST /x", "", 404),
        ("PUT /", "", 404),
        ("POST /x", "Authorization: Bearer key\r\n", 404),
        ("POST /healthz", "", 405),
        ("GET /healthz", "", 200),
        ("POST /v1/chat/completions", "", 401),
        ("POST /v1/chat/completions", "Authorization: Bearer wrong\r\n", 401),
        ("POST /v1/files", "", 401),
        ("GET /v1/models", "", 401),
    ] {
        for framing in ["Content-Length: 8388608\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut client = gateway.client();
            client.send(format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}{framing}\r\n"));
            let response = client.response().expect(status);
            assert_eq!(response.field("connection"), Some("close"), "{line}");
            client.expect_closed();
        }
    }
    let before_kib = gateway.resident_kib();
    let clients: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = gateway.client();
            client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 8388608\r\n\r\n");
            client.try_send(vec![b'x'; 4 << 20]);
            client
        })
        .collect();
    let grown_kib = gateway.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "{grown_kib} KiB for bodies that nobody may send");
    drop(clients);
    gateway.ask(post_with(CHAT, "Authorization: Bearer key\r\n", &question("still there"))).expect(200);
}

/// What is answered to a client that sends `first`, then `again` and again.
fn dripped(gateway: &Gateway, what: &str, first: &str, again: &str) -> String {
    String::from_utf8(drip(gateway.address, what, first.as_bytes(), |_| again.into())).unwrap()
}

#[test]
fn what_comes_a_byte_at_a_time_has_an_end() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .server("timeout_head = \"300ms\"")
        .server("timeout_body = \"300ms\"")
        .server("rate_min = \"1GiB\"")
        .start();
    for (what, fields, again) in [
        ("a body", "Content-Length: 1000000\r\n\r\n", "x"),
        ("chunks", "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("a head", "X-Long: ", "x"),
    ] {
        let answer = dripped(&gateway, what, &format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\n{fields}"), again);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{what}: {answer}");
    }
    assert_eq!(backend.connections(), 0);
    // What is refused is read no longer, however it comes.
    let answer =
        dripped(&gateway, "a refused body", "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", "x");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_slow_body_that_keeps_the_pace_arrives() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_body = \"10s\"").server("rate_min = \"10KiB\"").start();
    let mut client = gateway.client();
    let request = chat(&"slow".repeat(500));
    for part in request.chunks(100) {
        client.send(part);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    client.response().expect(200);
}

#[test]
fn a_reader_that_takes_too_little_is_cut_whatever_it_takes() {
    let part = chunk(&piece(&"x".repeat(60_000)));
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(STREAM_HEAD);
        while peer.write(&part) {}
        peer.left();
    });
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").server("rate_min = \"1GiB\"").start();
    let mut client = Client::connect_narrow(gateway.address);
    client.send(chat_stream("endless"));
    client.step(10_000);
    client.pause(Duration::from_millis(5));
    let mut response = client.head();
    client.body(&mut response);
    assert_ne!(response.ending, Ending::Whole);
    backend.await_left(1);
}

#[test]
fn a_reader_for_whom_there_is_nothing_is_not_slow() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.write(STREAM_HEAD);
        for _ in 0..20 {
            peer.write(chunk(&piece("x")));
            std::thread::park_timeout(Duration::from_millis(50));
        }
        peer.write(chunk(&(finish("stop") + &done())) + LAST_CHUNK);
    });
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").server("rate_min = \"1GiB\"").start();
    assert_eq!(gateway.ask(chat_stream("slowly")).expect(200).text(), stream_seen(&["x"; 20]));
}

#[test]
fn a_head_may_be_as_large_as_that_of_other_proxies() {
    let gateway = Setup::bare().start();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", "x".repeat(31 << 10));
    gateway.ask(head).expect(200);
}

/// Asks whether a body of 9 MiB may come; the connection with which it may.
fn asks_for_nine(gateway: &Gateway, fields: &str) -> Result<Client, Response> {
    let mut client = gateway.client();
    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 9437184\r\nExpect: 100-continue\r\n{fields}\r\n"
    ));
    let mut response = client.head();
    if response.status == 100 {
        return Ok(client);
    }
    client.body(&mut response);
    Err(response)
}

#[track_caller]
fn may_come(gateway: &Gateway) -> Client {
    let mut client = None;
    eventually("memory was given back", || {
        client = asks_for_nine(gateway, "").ok();
        client.is_some()
    });
    client.unwrap()
}

fn nine_mib(what: &str) -> String {
    let frame = question(what).len();
    question(&(what.to_owned() + &"x".repeat((9 << 20) - frame)))
}

#[test]
fn the_bodies_of_all_requests_have_one_bound() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("wait") {
                wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            }
            peer.write(json(&completion("done")));
        }
    });
    let gateway = Setup::with(&backend).cores(2).server("request_memory = \"16MiB\"").start();
    let refused = |gateway: &Gateway| {
        let response = asks_for_nine(gateway, "").err().expect("no room for two of these").expect(503);
        assert_eq!((response.code().as_str(), response.field("retry-after")), ("memory_full", Some("1")));
        assert_eq!(response.field("connection"), Some("close"));
    };
    // A client that leaves in the middle.
    let mut client = may_come(&gateway);
    client.send(vec![b' '; 1 << 20]);
    refused(&gateway);
    gateway.ask(chat("small ones have room")).expect(200);
    client.reset();
    // One that sends something else than JSON.
    let mut client = may_come(&gateway);
    client.send(vec![b'x'; 9 << 20]);
    client.response().expect(400);
    // One whose answer is awaited, here and at the backend.
    let mut client = may_come(&gateway);
    client.send(nine_mib("wait"));
    backend.await_requests(2);
    refused(&gateway);
    go.send(()).unwrap();
    client.response().expect(200);
    // And one that leaves while it is.
    let mut client = may_come(&gateway);
    client.send(nine_mib("wait for me"));
    backend.await_requests(3);
    refused(&gateway);
    drop(client);
    drop(may_come(&gateway));
    go.send(()).unwrap();
    // Chunks count as they come.
    let held = may_come(&gateway);
    let mut client = gateway.client();
    let part = chunk(&"x".repeat(1 << 20));
    client.try_send(format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..9 {
        client.try_send(&part);
    }
    assert_eq!(client.response().expect(503).code(), "memory_full");
    drop(held);
    // And so does what comes out of a coding.
    let packed = zstd::encode_all(nine_mib("packed").as_bytes(), 1).unwrap();
    let coded = |packed: &[u8]| {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        );
        [head.as_bytes(), packed].concat()
    };
    let held = may_come(&gateway);
    assert_eq!(gateway.ask(coded(&packed)).expect(503).code(), "memory_full");
    drop(held);
    drop(may_come(&gateway));
    eventually("it is decoded", || gateway.ask(coded(&packed)).status == 200);
}

/// The end of its own direction is all that is seen of a client that leaves afterwards.
#[test]
fn a_client_that_leaves_after_it_ended_its_direction_is_noticed() {
    let backend = Backend::run(|peer| {
        if peer.request().is_some() {
            peer.await_close();
        }
    });
    let gateway = Setup::with_backend(&backend, "timeout_request = \"10m\"\ntimeout_head = \"10m\"").start();
    for (round, request) in [chat("half"), chat_stream("half closed")].into_iter().enumerate() {
        let mut client = gateway.client();
        client.send(request);
        client.finish();
        assert_eq!(client.head().status, 100, "the gateway asks whether anybody still reads");
        drop(client);
        backend.await_left(round + 1);
    }
}

#[test]
fn a_million_tokens_and_deep_schemas_are_ordinary() {
    let backend = Backend::answering(|request| match request.line().contains("embeddings") {
        true => json(r#"{"object":"list","data":[{"embedding":[1]}]}"#),
        false => json(&completion("a")),
    });
    let gateway = Setup::with(&backend).start();
    let tokens = format!(r#"{{"model":"m","input":[{}17]}}"#, "50256,".repeat(1_100_000));
    gateway.ask(post("/v1/embeddings", &tokens)).expect(200);
    assert!(backend.requests()[0].body == tokens.as_bytes());
    assert_eq!(gateway.ask(post("/v1/embeddings", &tokens.replace(':', ": "))).expect(200).cache(), "HIT");
    let other = tokens.replace("17]", "18]");
    assert_eq!(gateway.ask(post("/v1/embeddings", &other)).expect(200).cache(), "MISS");
    let deep = format!(r#"{{"model":"m","messages":[],"tools":{}1{}}}"#, r#"{"items":"#.repeat(200), "}".repeat(200));
    gateway.ask(post(CHAT, &deep)).expect(200);
}
