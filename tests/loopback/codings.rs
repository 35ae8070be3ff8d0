//! Requests whose bodies are compressed: what is read here is decoded, what is not passes as it is.

use std::io::Write;

use super::kit::*;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// One meta-block that is not compressed, and an empty last one: RFC 7932 9.2.
fn brotli(content: &[u8]) -> Vec<u8> {
    let header = (content.len() as u32 - 1) << 4 | 1 << 20;
    [&header.to_le_bytes()[..3], content, &[3]].concat()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn coded(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

type Encoder = fn(&[u8]) -> Vec<u8>;

const CODINGS: [(&str, Encoder); 5] =
    [("gzip", gzip), ("x-gzip", gzip), ("deflate", deflate), ("br", brotli), ("zstd", zstd)];

#[test]
fn a_compressed_question_is_the_plain_one() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for (coding, encode) in CODINGS {
        let what = format!("packed as {coding} {}", "and long ".repeat(1000));
        let body = encode(question(&what).as_bytes());
        let field = format!("Content-Encoding: {coding}\r\nContent-Type: application/json\r\n");
        let mut client = gateway.client();
        // Another request behind it, to see that exactly this one is taken.
        client.send([coded(CHAT, &field, &body), chat(&what)].concat());
        let answer = completion(&format!("{what}!"));
        assert_eq!(client.response().expect(200).text(), answer, "{coding}");
        assert_eq!(client.response().expect(200).cache(), "HIT", "{coding}");
        let seen = backend.requests().pop().unwrap();
        assert!(seen.text() == question(&what), "{coding}");
        assert_eq!(seen.field("content-encoding"), None, "{coding}");
        // In chunks, and in pieces.
        let mut head =
            format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{field}\r\n").into_bytes();
        for part in body.chunks(7) {
            head.extend([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        }
        head.extend(LAST_CHUNK.bytes());
        for part in head.chunks(100) {
            client.send(part);
        }
        assert_eq!(client.response().expect(200).cache(), "HIT", "{coding}, in chunks");
    }
    assert_eq!(backend.count(), CODINGS.len());
}

#[test]
fn what_is_passed_through_is_decoded_where_it_is_read() {
    let backend = Backend::answering(|request| json(&format!("{{\"got\":{}}}", request.body.len())));
    let gateway = Setup::with(&backend).model("other", "backends = [{ backend = \"b\", model = \"real\" }]").start();
    let (plain, renamed) = (r#"{"model":"other","x":1}"#, r#"{"model":"real","x":1}"#);
    let field = "Content-Type: application/json; charset=utf-8\r\nContent-Encoding: zstd\r\n";
    gateway.ask(coded("/v1/moderations", field, &zstd(plain.as_bytes()))).expect(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!((seen.text(), seen.field("content-encoding")), (renamed, None));
    // A list in two lines is one list.
    let twice = "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n";
    gateway.ask(coded("/v1/moderations", twice, &gzip(plain.as_bytes()))).expect(200);
    assert_eq!(backend.requests().pop().unwrap().text(), renamed);
}

#[test]
fn bodies_that_are_not_what_they_are_said_to_be_are_refused_and_the_connection_lives() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("body_max = \"1MiB\"").start();
    let mut client = gateway.client();
    for (coding, encode) in CODINGS {
        let body = encode(question("broken").as_bytes());
        let field = format!("Content-Encoding: {coding}\r\n");
        let cut = &body[..body.len() - 1];
        let longer = [&body[..], b"x"].concat();
        for (what, body) in [("cut", cut), ("longer", &longer), ("another", b"{\"model\":\"m\"}")] {
            client.send(coded(CHAT, &field, body));
            let response = client.response().expect(400);
            assert_eq!(response.code(), "bad_content_encoding", "{coding}, {what}");
        }
        // A body above the bound, once it is decoded.
        let zeros = question(&"0".repeat(if coding == "br" { 65_000 } else { 8 << 20 }));
        client.send(coded(CHAT, &field, &encode(zeros.as_bytes())));
        if coding == "br" {
            client.response().expect(200);
        } else {
            assert_eq!(client.response().expect(413).code(), "body_too_large", "{coding}");
        }
    }
    // Nothing is nothing, whatever it is said to be in.
    client.send(coded(CHAT, "Content-Encoding: gzip\r\n", b""));
    assert_eq!(client.response().expect(400).code(), "bad_json");
    client.send(chat("after all that"));
    client.response().expect(200);
}

#[test]
fn codings_that_are_not_understood_are_named() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for coding in ["compress", "gzip, br", "gzip, gzip", "x"] {
        let mut client = gateway.client();
        // Refused at the head: the body is not waited for.
        client.send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\nContent-Encoding: {coding}\r\n\r\n"
        ));
        let response = client.response().expect(415);
        assert_eq!(response.code(), "unsupported_content_encoding");
        assert_eq!(response.field("accept-encoding"), Some("gzip, deflate, br, zstd"));
        client.expect_closed();
    }
    assert_eq!(backend.count(), 0);
}
