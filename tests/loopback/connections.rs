//! Connections to backends: reuse, stale ones, failures, time-outs, and answers that are not HTTP.

use super::kit::*;

#[test]
fn a_stale_connection_is_exchanged_once_for_a_new_one() {
    // The first connection answers once and then closes on the next request, as a server does whose idle time is over.
    let backend = Backend::run(|peer| {
        let mut served = 0;
        while let Some(request) = peer.request() {
            if peer.number == 0 && served == 1 {
                return;
            }
            served += 1;
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("first")).expect(200);
    gateway.ask(chat("second")).expect(200);
    let asked: Vec<_> = backend.requests().iter().map(|request| request.text().to_owned()).collect();
    assert_eq!(asked, [question("first"), question("second"), question("second")]);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_stale_connection_is_exchanged_no_more_than_once() {
    let backend = Backend::run(|peer| {
        let first = peer.request();
        if peer.number == 0 {
            peer.write(echo(&first.unwrap()));
            peer.request();
        }
    });
    let gateway = Setup::once(&backend).start();
    gateway.ask(chat("first")).expect(200);
    assert_eq!(gateway.ask(chat("second")).expect(502).code(), "backend_closed");
    assert_eq!((backend.count(), backend.connections()), (3, 2));
}

#[test]
fn a_new_connection_that_fails_is_no_stale_one() {
    let backend = Backend::run(|peer| {
        peer.request();
    });
    let gateway = Setup::once(&backend).start();
    let response = gateway.ask(chat("x")).expect(502);
    assert_eq!(response.code(), "backend_closed");
    assert_eq!(backend.connections(), 1);
    // And a reset is no different.
    let backend = Backend::run(|peer| {
        peer.request();
        peer.reset();
    });
    let gateway = Setup::once(&backend).start();
    assert_eq!(gateway.ask(chat("x")).expect(502).code(), "backend_closed");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_connection_that_breaks_inside_an_answer_is_no_stale_one() {
    let backend = Backend::run(|peer| {
        let mut served = 0;
        while let Some(request) = peer.request() {
            if served == 1 {
                peer.write("HTTP/1.1 200");
                return;
            }
            served += 1;
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::once(&backend).start();
    gateway.ask(chat("first")).expect(200);
    assert_eq!(gateway.ask(chat("second")).expect(502).code(), "backend_closed");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_stream_gives_its_connection_back_even_if_the_last_chunk_comes_late() {
    let backend = Backend::run(|peer| {
        while peer.request().is_some() {
            let all = stream(&["a"]);
            let (most, last) = all.split_at(all.len() - LAST_CHUNK.len());
            peer.write(most);
            if peer.number == 0 {
                peer.write(last);
            }
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    // One round is not enough: the last chunk may come with the rest.
    for round in 0..20 {
        client.send(chat_stream(&format!("round {round}")));
        assert_eq!(client.response().expect(200).text(), stream_seen(&["a"]));
        // Another request passes the core's loop, which has read the last chunk by then.
        client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        client.response().expect(200);
    }
    assert!(backend.connections() < 10, "{} connections for 20 streams", backend.connections());
}

#[test]
fn a_backend_that_is_not_there_is_unreachable() {
    let backend = Backend::absent();
    let gateway = Setup::with(&backend).start();
    let response = gateway.ask(chat("x")).expect(502);
    assert_eq!(response.code(), "backend_unreachable");
    assert!(!response.text().contains(&backend.address.to_string()), "addresses stay here");
}

#[test]
fn answers_that_are_not_http_are_a_bad_gateway() {
    let answers: [&str; 16] = [
        "garbage\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ];
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(answers[peer.number]);
            peer.finish();
        }
    });
    let gateway = Setup::once(&backend).start();
    for (place, bytes) in answers.iter().enumerate() {
        let response = gateway.ask(chat(&format!("{place}"))).expect(502);
        assert_eq!(response.code(), "backend_invalid", "{bytes:?}");
    }
    assert_eq!(backend.connections(), answers.len(), "none of these connections is used again");
}

#[test]
fn interim_answers_are_passed_over() {
    let backend = Backend::answering(|request| {
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec(), echo(request)].concat()
    });
    let gateway = Setup::with(&backend).start();
    assert_eq!(gateway.ask(chat("x")).expect(200).text(), completion("x!"));
}

#[test]
fn a_backend_that_says_nothing_times_out() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "timeout_request = \"100ms\"\ntimeout_head = \"100ms\"")
        .model("m", "backends = [\"b\"]\nretries = 0")
        .start();
    for (round, request) in [chat("x"), chat_stream("x")].into_iter().enumerate() {
        let response = gateway.ask(request).expect(504);
        assert_eq!(response.code(), "backend_timeout");
        backend.await_left(round + 1);
    }
}

#[test]
fn a_body_that_stops_inside_ends_uncleanly() {
    let whole = completion("x");
    let half = whole[..whole.len() / 2].to_owned();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", whole.len());
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(format!("{head}{half}"));
        // The first closes, the second stalls.
        if peer.number > 0 {
            peer.await_close();
        }
    });
    let gateway = Setup::with_backend(&backend, "timeout_request = \"300ms\"").start();
    for _ in 0..2 {
        let response = gateway.ask(chat("x"));
        // Either nothing had been sent, and it is an error, or it is visibly not whole.
        match response.status {
            200 => assert_ne!(response.ending, Ending::Whole),
            status => assert!(matches!(status, 502 | 504), "{status}"),
        }
    }
    let again = gateway.ask(chat("x"));
    assert_ne!(again.cache(), "HIT");
}

#[test]
fn requests_are_spread_over_the_backends_of_a_model() {
    let (one, two) = (Backend::answering(echo), Backend::answering(echo));
    let gateway = Setup::bare()
        .backend("one", &one, "weight = 3")
        .backend("two", &two, "")
        .model("m", "balance = \"round-robin\"\nbackends = [\"one\", \"two\"]")
        .start();
    for round in 0..40 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((one.count(), two.count()), (30, 10));
}

#[test]
fn errors_of_a_backend_are_passed_on_and_not_kept() {
    let body = r#"{"error":{"message":"slow down","type":"rate_limit","code":"x"}}"#;
    let backend = Backend::answering(move |_| {
        let length = body.len();
        format!(
            "HTTP/1.1 429 Too Many\r\nContent-Type: application/json\r\nRetry-After: 7\r\nSet-Cookie: a=b\r\n\
             Server: inner\r\nX-Internal: 10.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    });
    let gateway = Setup::once(&backend).start();
    for _ in 0..2 {
        let response = gateway.ask(chat("x")).expect(429);
        assert_eq!((response.text(), response.cache(), response.field("retry-after")), (body, "MISS", Some("7")));
        for hidden in ["set-cookie", "server", "x-internal"] {
            assert_eq!(response.field(hidden), None);
        }
    }
    assert_eq!((backend.count(), backend.connections()), (2, 1));
}

#[test]
fn other_paths_go_to_the_models_backend() {
    let backend = Backend::answering(|request| {
        let body = format!("{} {}", request.line(), String::from_utf8_lossy(&request.body));
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    for _ in 0..2 {
        let body = "\0\x01binary";
        let response = gateway.ask(post("/v1/audio/x?y=z", body)).expect(200);
        assert_eq!((response.text(), response.cache()), ("POST /v1/audio/x?y=z HTTP/1.1 \0\x01binary", "BYPASS"));
        assert_eq!(response.field("content-type"), Some("text/plain"));
    }
    gateway.ask("GET /v1/files HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    assert_eq!(backend.requests()[2].field("content-length"), None);
}

#[test]
fn a_connection_that_the_backend_closes_or_wants_to_close_is_not_used_again() {
    // The first answer says so, the second is followed by the close alone, the third by bytes nobody asked for.
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            let answer = String::from_utf8(echo(&request)).unwrap();
            match peer.number {
                0 => peer.write(answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)),
                2 => peer.write(answer + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"),
                _ => peer.write(answer),
            };
            if peer.number == 1 {
                return;
            }
        }
    });
    let gateway = Setup::with(&backend).start();
    for round in 0..6 {
        let what = format!("round {round}");
        assert_eq!(gateway.ask(chat(&what)).expect(200).text(), completion(&format!("{what}!")));
    }
    assert_eq!(backend.count(), 6, "no request was sent twice");
    assert_eq!(backend.connections(), 4);
}

#[test]
fn unix_sockets_on_both_sides() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (directory.path().join("front"), directory.path().join("back"));
    let listener = std::os::unix::net::UnixListener::bind(&back).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.ends_with(question("local").as_bytes()) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0);
            seen.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(&json(&completion("local!"))).unwrap();
        String::from_utf8(seen).unwrap()
    });
    let gateway = Setup::bare()
        .backend_at("b", &format!("unix:{}", back.display()))
        .model("m", "backends = [\"b\"]")
        .listen(&format!("unix:{}", front.display()))
        .start();
    let mut client = std::os::unix::net::UnixStream::connect(&front).unwrap();
    client.set_read_timeout(Some(GUARD)).unwrap();
    client.write_all(&post_with(CHAT, "Connection: close\r\n", &question("local"))).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&completion("local!")), "{answer}");
    assert!(served.join().unwrap().contains("\r\nhost: localhost\r\n"));
    gateway.terminate();
    assert!(gateway.ended().0.success());
    assert!(!front.exists(), "the socket's file goes with the program");
}
