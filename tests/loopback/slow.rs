//! Clients that come, or take, a byte at a time by every way in but HTTP/1.1 (that is in `intake`): each ends in bounded time, and
//! many of them in bounded memory.

use super::kit::frames::{ACK, CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, SETTINGS};
use super::kit::frames::{field, fields, frame, setting, window};
use super::kit::*;
use super::secure::{Authority, FILES, files};

/// What an HTTP/2 client begins with, and further frames.
fn begun(more: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(SETTINGS, ACK, 0, b""), more].concat()
}

fn head(path: &str) -> Vec<u8> {
    fields(&[(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "g")])
}

#[test]
fn what_comes_before_a_request_has_an_end() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let gateway = Setup::bare()
        .server("timeout_head = \"300ms\"")
        .server("timeout_idle = \"300ms\"")
        .listener(&format!("{FILES}timeout_handshake = \"300ms\""))
        .listener("proxy_protocol = true\ntimeout_handshake = \"300ms\"")
        .listener("protocol = \"http2\"")
        .start_after(|directory| files(directory, &own));
    let [tls, proxied, http2] = [0, 1, 2].map(|place| gateway.listeners[place].unwrap());
    // A record of 16 KiB that says it is the beginning of a handshake.
    drip(tls, "a handshake", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", |_| vec![0]);
    drip(proxied, "a PROXY header", b"PROXY TCP6 ", |_| vec![b'0']);
    drip(http2, "a preface", &PREFACE[..1], |step| {
        // Slower than the others, for there is little of it.
        if step % 10 == 0 { PREFACE.get(1 + step / 10..2 + step / 10).unwrap_or(b"x").to_vec() } else { Vec::new() }
    });
    let first = begun(&frame(HEADERS, 0, 1, head("/v1/chat/completions")));
    drip(gateway.address, "a field block", &first, |_| frame(CONTINUATION, 0, 1, field("a", "b")));
    drip(gateway.address, "a connection of pings", &begun(b""), |_| frame(PING, 0, 0, [0; 8]));
}

#[test]
fn a_body_in_frames_of_a_byte_has_an_end() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .server("timeout_idle = \"300ms\"")
        .server("timeout_body = \"300ms\"")
        .server("rate_min = \"1GiB\"")
        .start();
    let first = begun(&frame(HEADERS, END_HEADERS, 1, head(CHAT)));
    let said = drip(gateway.address, "a body", &first, |_| frame(DATA, 0, 1, b"x"));
    assert!(said.windows(12).any(|window| window == b"body_timeout"), "{said:?}");
    assert_eq!(backend.count(), 0);
}

#[test]
fn an_answer_that_is_taken_by_bytes_has_an_end() {
    let part = chunk(&piece(&"x".repeat(60_000)));
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(STREAM_HEAD);
        while peer.write(&part) {}
        peer.left();
    });
    let gateway = Setup::with(&backend)
        .server("timeout_idle = \"300ms\"")
        .server("timeout_write = \"300ms\"")
        .server("rate_min = \"1GiB\"")
        .start();
    let asked = [frame(HEADERS, END_HEADERS, 1, head(CHAT)), frame(DATA, 1, 1, streamed_question("endless"))].concat();
    // No window but what each step gives.
    drip(gateway.address, "an answer", &begun(&[setting(4, 0), asked].concat()), |_| window(1, 1));
    backend.await_left(1);
}

#[test]
fn answers_that_are_complete_and_not_taken_have_an_end() {
    // Hits: no stream waits for anything, and no window is closed. The connection alone is stuck.
    let backend = Backend::answering(|_| json(&completion(&"x".repeat(60_000))));
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").start();
    // One to the backend stays.
    let quiet = gateway.descriptors() + 1;
    gateway.ask(chat("one")).expect(200);
    eventually("its client is gone", || gateway.descriptors() == quiet);
    let ask = |stream: u32| {
        [frame(HEADERS, END_HEADERS, stream, head(CHAT)), frame(DATA, 1, stream, question("one"))].concat()
    };
    let windows = [setting(4, i32::MAX as u32), window(0, 1 << 30)].concat();
    let asked: Vec<u8> = (0..100).flat_map(|number| ask(2 * number + 1)).collect();
    let mut client = Client::connect_tiny(gateway.address);
    client.send(begun(&[windows, asked].concat()));
    eventually("it is there", || gateway.descriptors() > quiet);
    eventually("it is cut off", || gateway.descriptors() == quiet);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_websocket_that_is_not_read_has_an_end() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        while peer.write([0; 64 << 10]) {}
        peer.left();
    });
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").start();
    let mut client = Client::connect_narrow(gateway.address);
    client.send(
        "GET /v1/realtime?model=m HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.head().status, 101);
    backend.await_left(1);
}

#[test]
fn a_thousand_that_never_end_their_heads_cost_little() {
    let gateway = Setup::bare().server("timeout_head = \"60s\"").start();
    let before_kib = gateway.resident_kib();
    let long = "x".repeat(8_000);
    let mut clients = Vec::new();
    for number in 0..1_000 {
        let mut client = gateway.client();
        match number % 2 {
            0 => client.send(format!("GET /livez HTTP/1.1\r\nX-Long: {long}")),
            _ => client.send(begun(&frame(HEADERS, 0, 1, field("x-long", &long)))),
        }
        clients.push(client);
    }
    gateway.ask("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    let each_kib = gateway.resident_kib().saturating_sub(before_kib) / 1_000;
    assert!(each_kib < 48, "{each_kib} KiB for each");
}
