//! What a client may cost while its request arrives and while it takes its answer: nothing without a credential, and no
//! more time than its bytes are worth.

use std::io::{Read, Write};
use std::net::TcpStream;
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

/// Sends `first`, then `again` and again without a pause that would be too long; all that is answered.
fn drip(gateway: &Gateway, first: &str, again: &'static str) -> String {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let dripper = std::thread::spawn(move || {
        while dripping.write_all(again.as_bytes()).is_ok() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    let (mut answer, mut step) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut step) {
            Ok(read) if read > 0 => answer.extend_from_slice(&step[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it drips for ever"),
            _ => break,
        }
    }
    drop(stream);
    dripper.join().unwrap();
    String::from_utf8(answer).unwrap()
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
        let answer = drip(&gateway, &format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\n{fields}"), again);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{what}: {answer}");
    }
    assert_eq!(backend.connections(), 0);
    // What is refused is read no longer, however it comes.
    let answer = drip(&gateway, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", "x");
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
