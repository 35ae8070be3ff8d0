//! Clients that speak MessagePack or Protocol Buffers: they get what clients of JSON get, from the same cache, and backends see
//! nothing of it.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use ringway::wire::format::Format;
use serde_json::Value as Json;

use super::kit::*;

const FORMATS: [(Format, &str); 2] =
    [(Format::MessagePack, "application/vnd.msgpack"), (Format::Protobuf, "application/protobuf")];

fn request(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A question in `format`, and its answer in the same.
fn asked(format: Format, body: &str) -> Vec<u8> {
    let fields = format!("Content-Type: {0}\r\nAccept: {0}\r\n", format.content_type());
    request(CHAT, &fields, &format.from_json(body.as_bytes()).unwrap())
}

fn read(format: Format, response: &Response) -> Json {
    assert_eq!(response.field("content-type"), Some(format.content_type()), "{}", response.head);
    assert_eq!(response.field("content-length"), Some(&*response.body.len().to_string()));
    let mut json = Vec::new();
    format.to_json(&response.body, 16 << 20, &mut json).expect("the format that it says");
    serde_json::from_slice(&json).unwrap()
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_question_in_any_format_is_the_same_question() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for (what, (format, name)) in ["packed", "buffered"].into_iter().zip(FORMATS) {
        // Together with one in JSON behind it: exactly the first is taken.
        client.send([asked(format, &question(what)), chat(what)].concat());
        let first = client.response().expect(200);
        assert_eq!((first.cache(), first.field("content-type")), ("MISS", Some(name)));
        assert_eq!(read(format, &first), json(&completion(&format!("{what}!"))));
        let second = client.response().expect(200);
        assert_eq!(second.text(), completion(&format!("{what}!")), "joined, or a hit");
        let seen = backend.requests().pop().unwrap();
        assert_eq!(json(seen.text()), json(&question(what)));
        assert_eq!(seen.field("content-type"), Some("application/json"));
        assert_eq!(seen.field("accept"), Some("application/json"));
        // A hit in each format, and in chunks.
        for (format, _) in FORMATS {
            client.send(asked(format, &question(what)));
            let hit = client.response().expect(200);
            assert_eq!((hit.cache(), read(format, &hit)), ("HIT", json(&completion(&format!("{what}!")))));
            let fields = format!("Content-Type: {0}\r\nAccept: {0}\r\n", format.content_type());
            let head = format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
            client.send(head);
            for part in format.from_json(question(what).as_bytes()).unwrap().chunks(7) {
                client.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
            assert_eq!(client.response().expect(200).cache(), "HIT");
        }
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn either_side_of_a_request_has_its_own_format() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for (format, name) in FORMATS {
        let packed = format.from_json(question("x").as_bytes()).unwrap();
        let answered = gateway.ask(request(CHAT, &format!("Content-Type: {name}\r\n"), &packed)).expect(200);
        assert_eq!(answered.text(), completion("x!"), "without `Accept`: JSON");
        let fields = format!("Content-Type: application/json\r\nAccept: {name}, application/json;q=0.9\r\n");
        let answered = gateway.ask(request(CHAT, &fields, question("x").as_bytes())).expect(200);
        assert_eq!(read(format, &answered), json(&completion("x!")));
        let models = gateway.ask(format!("GET /v1/models HTTP/1.1\r\nHost: h\r\nAccept: {name}\r\n\r\n")).expect(200);
        assert_eq!(read(format, &models)["object"], "list");
        let head = format!("HEAD /v1/models HTTP/1.1\r\nHost: h\r\nAccept: {name}\r\n\r\n");
        let mut client = gateway.client();
        client.send(head);
        assert_eq!(client.bodiless().expect(200).field("content-type"), Some("application/json"));
    }
    // What is not understood is passed on as it is.
    let other = request("/v1/audio/x", "Content-Type: application/msgpack\r\nAccept: application/msgpack\r\n", &[0x80]);
    let backend = Backend::answering(|request| {
        assert_eq!(
            (request.field("content-type"), request.body.as_slice()),
            (Some("application/msgpack"), &[0x80][..])
        );
        answer(200, "{}")
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    assert_eq!(gateway.ask(other).expect(200).text(), "{}");
}

#[test]
fn streams_stay_events_and_errors_are_converted() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).tenant("t", "key", "").start();
    for (format, name) in FORMATS {
        let fields = format!("Content-Type: {name}\r\nAccept: {name}\r\nAuthorization: Bearer key\r\n");
        let packed = |body: &str| request(CHAT, &fields, &format.from_json(body.as_bytes()).unwrap());
        let streamed = gateway.ask(packed(&streamed_question("s"))).expect(200);
        assert_eq!(streamed.field("content-type"), Some("text/event-stream"));
        assert_eq!(streamed.text(), stream_seen(&["s", "!"]));
        let unknown = gateway.ask(packed(r#"{"model":"nobody","messages":[]}"#)).expect(404);
        assert_eq!(read(format, &unknown)["error"]["code"], "model_not_found");
        let unauthenticated = gateway.ask(asked(format, &question("x"))).expect(401);
        assert_eq!(read(format, &unauthenticated)["error"]["code"], "missing_api_key");
        let cut = format.from_json(question("x").as_bytes()).unwrap();
        let refused = gateway.ask(request(CHAT, &fields, &cut[..cut.len() - 1])).expect(400);
        let error = &read(format, &refused)["error"];
        assert_eq!(error["code"], "bad_json");
        assert!(error["message"].as_str().unwrap().contains("it ends too early"), "{error}");
        // One that is told twice what it asks is refused as in JSON.
        let twice = format.from_json(br#"{"model":"m","messages":[],"model":"n"}"#).unwrap();
        gateway.ask(request(CHAT, &fields, &twice)).expect(400);
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn large_answers_and_other_transports() {
    const LENGTH: usize = 3 << 20;
    let text = "x".repeat(LENGTH);
    let large = completion(&text);
    let backend = {
        let large = large.clone();
        Backend::answering(move |_| answer(200, &large))
    };
    let gateway = Setup::with(&backend).start();
    for (format, _) in FORMATS {
        let answered = gateway.ask(asked(format, &question("large"))).expect(200);
        assert_eq!(answered.cache(), "MISS", "too large to be kept");
        assert_eq!(read(format, &answered), json(&large));
        let mut http2 = Http2::connect(gateway.address);
        let answered = http2.ask(asked(format, &question("h2"))).expect(200);
        assert_eq!(read(format, &answered), json(&large));
    }
}

#[test]
fn events_are_passed_on_as_they_come() {
    let (read, was_read) = channel::<()>();
    let was_read = Mutex::new(was_read);
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("first")));
            was_read.lock().unwrap().recv_timeout(GUARD).expect("the first event is read before there is another");
            peer.write(chunk(&[finish("stop"), done()].concat()));
            peer.write(LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(asked(Format::MessagePack, &streamed_question("live")));
    assert_eq!(client.head().field("content-type"), Some("text/event-stream"));
    assert_eq!(client.chunk().unwrap(), piece("first").as_bytes());
    read.send(()).unwrap();
    assert!(client.reads("[DONE]"));
}

#[test]
fn a_client_that_leaves_ends_its_call() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::once(&backend).start();
    let mut client = gateway.client();
    client.send(asked(Format::MessagePack, &question("slow")));
    backend.await_requests(1);
    client.reset();
    backend.await_left(1);
}
