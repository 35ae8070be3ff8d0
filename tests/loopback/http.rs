//! HTTP/1.1 towards clients and backends, on whole and broken-up connections.

use super::kit::*;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn one_connection_serves_many_requests() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for round in 0..20 {
        client.send(chat(&format!("question {round}")));
        let response = client.response().expect(200);
        assert_eq!(response.text(), completion(&format!("question {round}!")));
        assert_eq!(response.field("connection"), None);
    }
    assert_eq!(backend.connections(), 1, "and so does one connection to the backend");
}

#[test]
fn pipelined_hits_and_misses_are_answered_in_order() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("known")).expect(200);
    let mut client = gateway.client();
    let mut together = Vec::new();
    for round in 0..10 {
        together.extend(chat("known"));
        together.extend(chat(&format!("new {round}")));
        together.extend(HEALTH.bytes());
    }
    client.send(&together);
    for round in 0..10 {
        let hit = client.response().expect(200);
        assert_eq!((hit.cache(), hit.text()), ("HIT", completion("known!").as_str()));
        let miss = client.response().expect(200);
        assert_eq!((miss.cache(), miss.text()), ("MISS", completion(&format!("new {round}!")).as_str()));
        assert_eq!(client.response().expect(200).text(), "ok\n");
    }
    assert_eq!(backend.count(), 11);
}

#[test]
fn an_answer_is_not_held_back_by_the_start_of_the_next_request() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("known")).expect(200);
    let mut client = gateway.client();
    let next = chat("known");
    let (head, rest) = next.split_at(30);
    client.send([&chat("known")[..], head].concat());
    assert_eq!(client.response().expect(200).cache(), "HIT");
    client.send(rest);
    assert_eq!(client.response().expect(200).cache(), "HIT");
    // The same with a body that is not whole.
    let (most, last) = next.split_at(next.len() - 1);
    client.send([&chat("known")[..], most].concat());
    assert_eq!(client.response().expect(200).cache(), "HIT");
    client.send(last);
    assert_eq!(client.response().expect(200).cache(), "HIT");
}

#[test]
fn an_answer_is_not_held_back_by_a_backend_that_thinks_about_the_next() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("silence") {
                return peer.await_close();
            }
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("known")).expect(200);
    let mut client = gateway.client();
    client.send([chat("known"), chat("silence")].concat());
    assert_eq!(client.response().expect(200).cache(), "HIT");
    drop(client);
    backend.await_left(1);
}

#[test]
fn a_failure_behind_a_pipelined_hit_is_an_honest_answer() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("break") {
                return;
            }
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("known")).expect(200);
    let mut client = gateway.client();
    client.send([chat("known"), chat("break"), chat("known")].concat());
    assert_eq!(client.response().expect(200).cache(), "HIT");
    client.response().expect(502);
    assert_eq!(client.response().expect(200).cache(), "HIT");
}

#[test]
fn a_refused_request_takes_exactly_its_own_bytes() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    let refused = [
        ("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n".into(), 404),
        (post("/nothing", "some body"), 404),
        (post("/healthz", "x"), 405),
        ("DELETE /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n".into(), 405),
        ("GET /v1/models/none HTTP/1.1\r\nHost: h\r\n\r\n".into(), 404),
        (post("/v1/models", "body"), 405),
        (post("/v1/other", "{}"), 400),
        (post(CHAT, r#"{"model":"unknown"}"#), 404),
    ];
    let together: Vec<u8> = refused.iter().flat_map(|(bytes, _)| [bytes, HEALTH.as_bytes()].concat()).collect();
    client.send(&together);
    for (bytes, status) in &refused {
        let response = client.response();
        assert_eq!(response.status, *status, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(client.response().expect(200).text(), "ok\n", "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn chunked_requests_go_upstream_with_a_length_and_later_bytes_are_the_next_request() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    let body = question("in chunks");
    let (first, second) = body.split_at(11);
    let mut bytes = format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    bytes += &format!("{:X};ext=\"1\"\r\n{first}\r\n{}", first.len(), chunk(second));
    bytes += "0\r\nX-Trailer: dropped\r\n\r\n";
    bytes += HEALTH;
    client.send(&bytes);
    assert_eq!(client.response().expect(200).text(), completion("in chunks!"));
    assert_eq!(client.response().expect(200).text(), "ok\n");
    let seen = &backend.requests()[0];
    assert_eq!(seen.text(), body);
    assert_eq!(seen.field("x-trailer"), None);
    // And byte by byte.
    for byte in bytes.bytes() {
        client.send([byte]);
    }
    let hit = client.response().expect(200);
    assert_eq!((hit.cache(), hit.text()), ("HIT", completion("in chunks!").as_str()));
    assert_eq!(client.response().expect(200).text(), "ok\n");
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for byte in chat("slowly") {
        client.send([byte]);
    }
    assert_eq!(client.response().expect(200).text(), completion("slowly!"));
}

#[test]
fn large_bodies_arrive_byte_for_byte() {
    let backend = Backend::answering(|request| json(&completion(&request.body.len().to_string())));
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for (place, length) in [2 << 20, 8 << 20, 100].into_iter().enumerate() {
        let body = question(&"0123456789abcdef".repeat(length / 16));
        client.send(post(CHAT, &body));
        assert_eq!(client.response().expect(200).text(), completion(&body.len().to_string()));
        assert!(backend.requests()[place].body == body.as_bytes());
    }
    let body = question(&"chunked".repeat(1 << 18));
    let mut bytes = format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.as_bytes().chunks(10_000) {
        bytes += &chunk(std::str::from_utf8(part).unwrap());
    }
    bytes += LAST_CHUNK;
    client.send(bytes);
    client.response().expect(200);
    assert!(backend.requests()[3].body == body.as_bytes());
}

#[test]
fn continue_is_said_only_where_the_body_is_missing() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("body_max = \"1MiB\"").tenant("t", "key", "").start();
    let head = |length: usize, key: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let body = question("may I");
    let mut client = gateway.client();
    client.send(head(body.len(), "key"));
    assert_eq!(client.head().status, 100);
    client.send(&body);
    assert_eq!(client.head().status, 200);

    let mut client = gateway.client();
    client.send(head(body.len(), "key") + &body);
    assert_eq!(client.head().status, 200, "the body is here: nothing to go on with");

    let mut client = gateway.client();
    client.send(head(body.len(), "wrong"));
    assert_eq!(client.head().status, 401);

    let mut client = gateway.client();
    client.send(head(2 << 20, "key"));
    assert_eq!(client.head().status, 413);

    // With chunks.
    let mut client = gateway.client();
    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key\r\nTransfer-Encoding: chunked\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.head().status, 100);
    client.send(chunk(&body) + LAST_CHUNK);
    assert_eq!(client.head().status, 200);
}

#[test]
fn heads_have_no_body() {
    let backend = Backend::answering(|request| match request.line().split(' ').next() {
        Some("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1234\r\n\r\n".to_vec(),
        _ => json("{}"),
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let mut client = gateway.client();
    for path in ["/healthz", "/nothing", "/v1/models", "/v1/completions"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let head = client.bodiless();
        assert_ne!(head.field("content-length"), Some("0"), "{path}");
        client.send(HEALTH);
        assert_eq!(client.response().expect(200).text(), "ok\n", "{path}");
    }
    client.send("HEAD /v1/files/f HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.bodiless();
    assert_eq!((head.status, head.field("content-length")), (200, Some("1234")));
    client.send(HEALTH);
    assert_eq!(client.response().expect(200).text(), "ok\n");
    assert_eq!(backend.requests()[0].line(), "HEAD /v1/files/f HTTP/1.1");
}

#[test]
fn answers_without_content_stay_without() {
    let backend = Backend::answering(|request| match request.line() {
        line if line.contains("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        line if line.contains("/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n".to_vec(),
        line if line.contains("/empty") => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => json("{}"),
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let mut client = gateway.client();
    for (method, path, status, length) in [
        ("DELETE", "/v1/x/204", 204, None),
        ("GET", "/v1/x/304", 304, None),
        ("GET", "/v1/x/empty", 200, Some("0")),
        ("GET", "/v1/x/other", 200, Some("2")),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field("content-length")), (status, length), "{path}");
        assert_eq!(response.field("transfer-encoding"), None, "{path}");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", completion("to the end")));
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat("a"));
    assert_eq!(client.response().expect(200).text(), completion("to the end"));
    client.send(chat("a"));
    let hit = client.response().expect(200);
    assert_eq!((hit.cache(), hit.text()), ("HIT", completion("to the end").as_str()));
}

#[test]
fn clients_of_http_1_0_are_served_in_their_version() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let ask = |fields: &str, body: &str| {
        format!("POST {CHAT} HTTP/1.0\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut client = gateway.client();
    client.send(ask("", &question("old")));
    let response = client.response().expect(200);
    assert_eq!((response.field("connection"), response.text()), (Some("close"), completion("old!").as_str()));
    client.expect_closed();

    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(ask("Connection: keep-alive\r\n", &question("old")));
        assert_eq!(client.response().expect(200).field("connection"), Some("keep-alive"));
    }
    // A stream has no length: it ends with the connection, for a miss and for a hit.
    for _ in 0..2 {
        let mut client = gateway.client();
        client.send(ask("Connection: keep-alive\r\n", &streamed_question("older")));
        let response = client.response().expect(200);
        assert_eq!(response.field("transfer-encoding"), None);
        assert_eq!(response.text(), stream_seen(&["older", "!"]));
        client.expect_closed();
    }
}

#[test]
fn connection_close_is_honoured() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for _ in 0..2 {
        let mut client = gateway.client();
        client.send(post_with(CHAT, "Connection: close\r\n", &question("last")));
        assert_eq!(client.response().expect(200).field("connection"), Some("close"));
        client.expect_closed();
    }
}

#[test]
fn a_client_that_ended_its_direction_gets_its_answer() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).start();
    for request in [chat("half"), chat_stream("half closed")] {
        let mut client = gateway.client();
        client.send(request);
        client.finish();
        // An interim answer is how the gateway finds out whether anybody still reads.
        assert_eq!(client.head().status, 100);
        go.send(()).unwrap();
        client.response().expect(200);
        client.expect_closed();
    }
}

#[test]
fn an_absolute_target_is_a_path() {
    let gateway = Setup::bare().start();
    let response = gateway.ask("GET http://h/healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    assert_eq!(response.text(), "ok\n");
}

#[test]
fn the_list_of_models_is_sent_once_even_if_the_body_is_broken() {
    let gateway = Setup::bare().start();
    let mut client = gateway.client();
    client.send("GET /v1/models HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(client.response().status, 400);
    client.expect_closed();
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_idle = \"100ms\"").start();
    let mut never_used = gateway.client();
    let mut used = gateway.client();
    used.send(HEALTH);
    used.response().expect(200);
    never_used.expect_closed();
    used.expect_closed();
}

#[test]
fn a_request_in_many_packets_is_not_idle() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_idle = \"50ms\"").start();
    let mut client = gateway.client();
    for byte in chat("not idle") {
        client.send([byte]);
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    assert_eq!(client.response().expect(200).text(), completion("not idle!"));
}
