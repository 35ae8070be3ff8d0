//! HTTP/2 from clients: the answers of HTTP/1.1, windows, resets, floods, and the end of connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;

use super::kit::*;
use super::secure::{Authority, FILES, files};

/// The lines of a head but the first, without what differs between any two answers, and what HTTP/2 cannot have.
fn fields(response: &Response) -> Vec<String> {
    let differs = ["date", "x-request-id", "transfer-encoding", "connection", "age"];
    let lines = response.head.lines().skip(1).filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.split("; ttl=").next().unwrap().to_owned());
    let mut lines: Vec<String> =
        lines.filter(|line| !differs.contains(&line.split(':').next().unwrap().to_lowercase().as_str())).collect();
    lines.sort();
    lines
}

#[test]
fn answers_are_those_of_http1() {
    let backend = Backend::answering(|request| match request.line() {
        line if line.contains("/v1/files") => answer(404, "{\"error\":{\"message\":\"none\"}}"),
        _ => echo(request),
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let (mut http1, mut http2) = (gateway.client(), Http2::connect(gateway.address));
    let requests: Vec<Vec<u8>> = vec![
        chat("a miss"),
        chat("a miss"),
        chat_stream("a stream"),
        chat_stream("a stream"),
        post(CHAT, "{"),
        post(CHAT, &question("other").replace("\"m\"", "\"none\"")),
        post("/v1/nothing", "{}"),
        b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"GET /v1/models/m HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"GET /v1/files/x HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"PUT /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        post_with(CHAT, "Cache-Control: only-if-cached\r\n", &question("not there")),
        post_with(CHAT, "Content-Encoding: whatever\r\n", &question("coded")),
    ];
    for request in requests {
        // What the first is answered from a backend, the second is from the cache: each kind twice.
        http1.send(&request);
        http1.response();
        http1.send(&request);
        let (one, two) = (http1.response(), http2.ask(&request));
        let request = String::from_utf8_lossy(&request);
        assert_eq!((one.status, one.text(), one.ending), (two.status, two.text(), two.ending), "{request}");
        assert_eq!(fields(&one), fields(&two), "{request}");
    }
    let answer = http2.ask(chat("by itself")).expect(200);
    assert_eq!((answer.text(), answer.cache()), (&*completion("by itself!"), "MISS"));
    let answer = http2.ask(chat_stream("a stream of its own")).expect(200);
    assert_eq!(answer.text(), stream_seen(&["a stream of its own", "!"]));
    let head = http2.ask("HEAD /livez HTTP/1.1\r\nHost: gateway\r\n\r\n").expect(200);
    assert!(head.body.is_empty() && head.field("content-length") == Some("3"));
}

#[test]
fn alpn_agrees_on_what_both_speak() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(echo);
    for (protocol, expected) in [("auto", true), ("http2", true), ("http1", false)] {
        let gateway = Setup::with(&backend)
            .listener(&format!("{FILES}protocol = \"{protocol}\""))
            .start_after(|directory| files(directory, &own));
        match Http2::connect_tls(gateway.listener(), &authority.client(), "gateway.test") {
            Ok(mut client) => {
                assert!(expected, "{protocol}");
                let large = "x".repeat(1 << 20);
                for what in ["hi", &large, "hi"] {
                    let answer = client.ask(chat(what)).expect(200);
                    assert_eq!(answer.text(), completion(&format!("{what}!")));
                }
                let answer = client.ask(chat_stream("stream")).expect(200);
                assert_eq!(answer.text(), stream_seen(&["stream", "!"]));
            }
            Err(agreed) => {
                assert!(!expected, "{protocol}");
                assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
            }
        }
    }
}

#[test]
fn a_listener_of_one_protocol_refuses_the_other() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).listener("protocol = \"http1\"").listener("protocol = \"http2\"").start();
    let [http1, http2] = [0, 1].map(|place| gateway.listeners[place].unwrap());
    let mut client = Client::connect(http1);
    client.send(chat("hi"));
    client.response().expect(200);
    let mut client = Client::connect(http1);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.response().status, 505);
    assert_eq!(Http2::connect(http2).ask(chat("hi")).expect(200).text(), completion("hi!"));
    let mut client = Client::connect(http2);
    client.send(chat("hi"));
    assert!(!client.reads("200 OK"));
}

#[test]
fn the_preface_may_come_in_pieces_and_nothing_else_is_taken_for_it() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for cut in [1, 3, 16, 18, 23] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(&preface[..cut]).unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(5));
        stream.write_all(&preface[cut..]).unwrap();
        let mut header = [0; 9];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[3], 4, "SETTINGS come first: {header:?}, cut at {cut}");
    }
    for other in ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI / HTTP/2.0\r\n\r\n", "PRY * HTTP/2.0\r\n\r\n"] {
        let mut client = gateway.client();
        client.send(other);
        assert!(!client.reads("200 OK"), "{other}");
    }
    // Only at the beginning.
    let mut client = gateway.client();
    client.send(chat("hi"));
    client.response().expect(200);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.response().status, 505);
}

#[test]
fn streams_run_side_by_side_and_a_slow_reader_holds_itself_alone() {
    let backend = Backend::answering(|request| match request.text().contains("large") {
        true => json(&completion(&"x".repeat(2 << 20))),
        false => echo(request),
    });
    let gateway = Setup::with(&backend).start();
    let mut client = Http2::connect_with(gateway.address, |builder| {
        builder.initial_window_size(16 << 10).initial_connection_window_size(1 << 20);
    });
    // Not read: it fills its own window and no more.
    let asked = client.send(chat("large"));
    let mut slow = client.head(asked).unwrap();
    let more: Vec<_> = (0..50).map(|number| client.send(chat_stream(&format!("question {number}")))).collect();
    for (number, asked) in more.into_iter().enumerate() {
        let answer = client.response(asked).expect(200);
        assert_eq!(answer.text(), stream_seen(&[&format!("question {number}"), "!"]));
    }
    while client.read(&mut slow).unwrap() {}
    assert_eq!(slow.response.body.len(), completion(&"x".repeat(2 << 20)).len());
}

#[test]
fn a_client_that_reads_nothing_of_a_stream_loses_that_stream() {
    let backend = Backend::answering(|_| json(&completion(&"x".repeat(2 << 20))));
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").start();
    let mut client = Http2::connect_with(gateway.address, |builder| {
        builder.initial_window_size(1 << 10);
    });
    let asked = client.send(chat("large"));
    let slow = client.head(asked).unwrap();
    let mut taken = slow;
    let ended = loop {
        // Nothing is released, so the window stays shut.
        match client.read_without_window(&mut taken) {
            Ok(true) => {}
            other => break other,
        }
    };
    assert!(ended.is_err(), "it was reset");
    assert!(taken.response.body.len() < 2 << 10);
    client.ask("GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n").expect(200);
}

#[test]
fn bodies_come_with_and_without_their_length() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = Http2::connect(gateway.address);
    let body = question("in pieces");
    for with_length in [true, false] {
        let mut request = Request::post(format!("http://gateway{CHAT}"));
        if with_length {
            request = request.header("content-length", body.len());
        }
        let mut asked = client.open(request.body(()).unwrap(), false);
        for (place, part) in body.as_bytes().chunks(7).enumerate() {
            let is_last = (place + 1) * 7 >= body.len();
            asked.upload.send_data(Bytes::copy_from_slice(part), is_last).unwrap();
            if place % 3 == 0 {
                client.drive();
            }
        }
        assert_eq!(client.response(asked).expect(200).text(), completion("in pieces!"));
    }
    // A body that is too large is refused before it is here, and the connection goes on.
    let request = Request::post(format!("http://gateway{CHAT}")).header("content-length", 1 << 30);
    let asked = client.open(request.body(()).unwrap(), false);
    assert_eq!(client.response(asked).status, 413);
    client.ask(chat("still there")).expect(200);
}

#[test]
fn events_arrive_one_by_one_over_every_transport() {
    const EVENTS: usize = 20;
    let seen = Arc::new(AtomicUsize::new(0));
    let passed = seen.clone();
    let backend = Backend::run(move |peer| {
        while peer.request().is_some() {
            let before = passed.load(Ordering::SeqCst);
            peer.write(STREAM_HEAD);
            for number in 0..EVENTS {
                peer.write(chunk(&piece(&format!("event {number}."))));
                eventually("the client has it", || passed.load(Ordering::SeqCst) == before + number + 1);
            }
            peer.write([chunk(&finish("stop")), chunk(&done()), LAST_CHUNK.to_owned()].concat());
        }
    });
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let gateway = Setup::with(&backend).listener(FILES).start_after(|directory| files(directory, &own));
    let secure = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    for (place, mut client) in [gateway.client(), secure].into_iter().enumerate() {
        client.send(chat_stream(&format!("by HTTP/1.1, {place}")));
        for number in 0..EVENTS {
            assert!(client.reads(&format!("event {number}.")));
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let answer = client.response().expect(200);
        assert_eq!(answer.text().matches("event ").count(), EVENTS);
    }
    let secure = Http2::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    for (place, mut client) in [Http2::connect(gateway.address), secure].into_iter().enumerate() {
        let asked = client.send(chat_stream(&format!("by HTTP/2, {place}")));
        let mut reading = client.head(asked).unwrap();
        for number in 0..EVENTS {
            while !reading.response.text().contains(&format!("event {number}.")) {
                assert!(client.read(&mut reading).unwrap());
            }
            seen.fetch_add(1, Ordering::SeqCst);
        }
        while client.read(&mut reading).unwrap() {}
        assert_eq!(reading.response.text().matches("event ").count(), EVENTS);
    }
}

#[test]
fn a_stream_that_is_reset_cancels_its_upstream_call() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("quick") {
                peer.write(echo(&request));
                continue;
            }
            peer.write(format!("{STREAM_HEAD}{}", chunk(&piece("first"))));
            return peer.await_close();
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = Http2::connect(gateway.address);
    let mut early = client.send(chat_stream("not a part is read"));
    client.drive();
    backend.await_requests(1);
    early.upload.send_reset(h2::Reason::CANCEL);
    client.drive();
    backend.await_left(1);
    let Asked { response, mut upload } = client.send(chat_stream("a part is read"));
    let mut reading = client.head_of(response).unwrap();
    assert!(client.read(&mut reading).unwrap());
    upload.send_reset(h2::Reason::CANCEL);
    client.drive();
    backend.await_left(2);
    client.ask(chat("quick")).expect(200);
    // All that run, when the connection ends.
    let _open: Vec<_> = (0..3).map(|number| client.send(chat_stream(&format!("lost {number}")))).collect();
    client.drive();
    backend.await_requests(6);
    drop(client);
    backend.await_left(5);
}

#[test]
fn a_stream_that_breaks_off_is_reset_behind_its_error() {
    let seen = Arc::new(AtomicUsize::new(0));
    let passed = seen.clone();
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(format!("{STREAM_HEAD}{}", chunk(&piece("half"))));
        eventually("the client has a part", || passed.load(Ordering::SeqCst) == 1);
        peer.finish();
    });
    let gateway = Setup::with(&backend).start();
    let mut client = Http2::connect(gateway.address);
    let asked = client.send(chat_stream("x"));
    let mut reading = client.head(asked).unwrap();
    assert!(client.read(&mut reading).unwrap());
    seen.store(1, Ordering::SeqCst);
    let ended = loop {
        match client.read(&mut reading) {
            Ok(true) => {}
            other => break other,
        }
    };
    let text = reading.response.text();
    assert!(text.contains("half") && text.contains("\"error\""), "{text}");
    assert!(ended.is_err(), "it does not look whole");
}

#[test]
fn what_is_not_http2_ends_the_connection() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }
    // HPACK: indexed :method GET, :scheme http, :path /livez (literal), :authority g (literal).
    let head: &[u8] = b"\x82\x86\x04\x06/livez\x01\x01g";
    let headers = |stream: u32, flags: u8| frame(1, flags, stream, head);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", vec![0xff; 100]),
        ("a frame before SETTINGS", frame(6, 0, 0, &[0; 8])),
        ("a frame too large", [SETTINGS, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("DATA on stream 0", [SETTINGS, &frame(0, 0, 0, b"x")].concat()),
        ("DATA on an idle stream", [SETTINGS, &frame(0, 0, 1, b"x")].concat()),
        ("an even stream", [SETTINGS, &headers(2, 5)].concat()),
        ("HPACK that is none", [SETTINGS, &frame(1, 5, 1, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff])].concat()),
        ("PING of 7 bytes", [SETTINGS, &frame(6, 0, 0, &[0; 7])].concat()),
        ("WINDOW_UPDATE of 0", [SETTINGS, &frame(8, 0, 0, &[0; 4])].concat()),
        ("a window that overflows", [SETTINGS, &frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat()),
        ("CONTINUATION without HEADERS", [SETTINGS, &frame(9, 4, 1, head)].concat()),
        ("another frame within a head", [SETTINGS, &headers(1, 1), &frame(6, 0, 0, &[0; 8])].concat()),
        ("PUSH_PROMISE", [SETTINGS, &frame(5, 4, 1, &[0, 0, 0, 2, 0x82])].concat()),
        ("RST_STREAM of an idle stream", [SETTINGS, &frame(3, 0, 7, &[0; 4])].concat()),
        ("rapid reset", {
            let mut bytes = SETTINGS.to_vec();
            for stream in 0..2_000 {
                bytes.extend(headers(2 * stream + 1, 5));
                bytes.extend(frame(3, 0, 2 * stream + 1, &[0, 0, 0, 8]));
            }
            bytes
        }),
        ("CONTINUATION flood", {
            let mut bytes = [SETTINGS, &headers(1, 1)].concat();
            for _ in 0..100_000 {
                bytes.extend(frame(9, 0, 1, b"\x40\x01a\x08aaaaaaaa"));
            }
            bytes
        }),
        ("empty CONTINUATION flood", {
            let mut bytes = [SETTINGS, &headers(1, 1)].concat();
            (0..100_000).for_each(|_| bytes.extend(frame(9, 0, 1, b"")));
            bytes
        }),
    ];
    for (what, bytes) in &cases {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let read = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ =
                reader.read_to_end(&mut all).map_err(|error| assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock));
            all
        });
        let _ = stream.write_all(PREFACE).and_then(|()| stream.write_all(bytes));
        read.join().unwrap_or_else(|_| panic!("{what}: the connection stays open"));
    }
    // The node is as before.
    Http2::connect(gateway.address).ask(chat("hi")).expect(200);
    assert!(gateway.resident_kib() < 200 << 10, "{} KiB", gateway.resident_kib());
}

#[test]
fn floods_that_are_allowed_cost_no_memory() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for frame in [&b"\0\0\x08\x06\0\0\0\0\0pingpong"[..], b"\0\0\0\x04\0\0\0\0\0"] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Nothing is read: sooner or later the gateway stops reading, too.
        let flood = frame.repeat(4096);
        let mut sent = 0;
        let _ = stream.write(START).unwrap();
        for _ in 0..200 {
            match stream.write(&flood) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(std::time::Duration::from_millis(2));
                }
                Err(_) => break,
            }
        }
        assert!(sent > 0);
        gateway.ask(chat("others are served")).expect(200);
    }
    assert!(gateway.resident_kib() < 200 << 10, "{} KiB", gateway.resident_kib());
}

#[test]
fn a_drain_ends_idle_connections_and_lets_streams_finish() {
    let gate = Arc::new(AtomicUsize::new(0));
    let opened = gate.clone();
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            peer.write(format!("{STREAM_HEAD}{}", chunk(&piece("first"))));
            eventually("the drain has begun", || opened.load(Ordering::SeqCst) == 1);
            let rest = stream(&["second"]);
            peer.write(&rest[STREAM_HEAD.len()..]);
            drop(request);
        }
    });
    let gateway = Setup::with(&backend).start();
    let idle = Http2::connect(gateway.address);
    let mut busy = Http2::connect(gateway.address);
    let asked = busy.send(chat_stream("x"));
    let mut reading = busy.head(asked).unwrap();
    assert!(busy.read(&mut reading).unwrap());
    gateway.terminate();
    assert_eq!(idle.ended(), None, "GOAWAY without an error");
    gate.store(1, Ordering::SeqCst);
    while busy.read(&mut reading).unwrap() {}
    assert!(reading.response.text().ends_with(&done()), "{}", reading.response.text());
    assert_eq!(busy.ended(), None);
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}

#[test]
fn a_connection_without_streams_is_closed_after_a_while() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("timeout_idle = \"200ms\"").server("timeout_head = \"200ms\"").start();
    let mut client = Http2::connect(gateway.address);
    client.ask(chat("hi")).expect(200);
    assert_eq!(client.ended(), None);
    // One that never says its preface.
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    drop(gateway);
    let gateway = Setup::with(&backend)
        .server("timeout_head = \"200ms\"")
        .listener(&format!("{FILES}protocol = \"http2\""))
        .start_after(|directory| files(directory, &own));
    let mut silent = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    assert!(!silent.reads("anything"));
}
