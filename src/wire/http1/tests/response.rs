//! Response heads: the framing of each kind, every refusal, and splits at every byte.

use crate::limits;
use crate::wire::http1::{
    Asked, FieldFault, Framing, Persistence, Progress, ResponseFault, ResponseHead, Version, parse_response,
};

fn accept(input: &[u8], asked: Asked) -> ResponseHead {
    let mut head = ResponseHead::default();
    let verdict = parse_response(input, asked, &mut head);
    assert_eq!(verdict, Ok(Progress::Complete), "{}", input.escape_ascii());
    head
}

fn refuse(input: &[u8]) -> ResponseFault {
    let mut head = ResponseHead::default();
    match parse_response(input, Asked::Other, &mut head) {
        Err(fault) => fault,
        Ok(progress) => panic!("{progress:?}: {}", input.escape_ascii()),
    }
}

fn with(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes()
}

#[test]
fn reads_every_part() {
    let input =
        b"HTTP/1.1 200 All is well\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n";
    let head = accept(input, Asked::Other);
    assert_eq!(head.status, 200);
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Chunked);
    assert_eq!(head.persistence, Persistence::KeepAlive);
    assert_eq!(head.fields.get(input, "content-type"), Some(&b"text/event-stream"[..]));
    assert_eq!(&input[head.length..], b"1a\r\n");
}

/// RFC 9112 6.3, rule by rule: `(input, asked, framing, persistence)`.
#[test]
fn frames_every_kind() {
    use Asked::{Head, Other};
    use Framing::{Chunked, Empty, Length, UntilClose};
    use Persistence::{Close, KeepAlive};
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "Content-Length: 5\r\n";
    let http10 = |fields: &str| format!("HTTP/1.0 200 OK\r\n{fields}\r\n").into_bytes();
    let cases = [
        (with("200 OK", length), Other, Length(5), KeepAlive),
        (with("200 OK", "Content-Length: 0\r\n"), Other, Length(0), KeepAlive),
        (with("200 OK", chunked), Other, Chunked, KeepAlive),
        (with("200 OK", ""), Other, UntilClose, Close),
        (with("200 OK", "Connection: keep-alive\r\n"), Other, UntilClose, Close),
        (with("200 OK", "Connection: close\r\nContent-Length: 5\r\n"), Other, Length(5), Close),
        (with("500 X", ""), Other, UntilClose, Close),
        // HEAD: the fields are those of the response to GET.
        (with("200 OK", length), Head, Empty, KeepAlive),
        (with("200 OK", chunked), Head, Empty, KeepAlive),
        (with("200 OK", ""), Head, Empty, KeepAlive),
        (with("304 Not Modified", length), Other, Empty, KeepAlive),
        (with("304 Not Modified", ""), Other, Empty, KeepAlive),
        // No body, and none may be announced.
        (with("204 No Content", ""), Other, Empty, KeepAlive),
        (with("204 No Content", "Content-Length: 0\r\n"), Other, Empty, KeepAlive),
        (with("204 No Content", length), Other, Empty, Close),
        (with("204 No Content", chunked), Other, Empty, Close),
        (with("100 Continue", ""), Other, Empty, KeepAlive),
        (with("103 Early Hints", "Link: </x>\r\n"), Other, Empty, KeepAlive),
        (with("100 Continue", length), Other, Empty, Close),
        (http10(length), Other, Length(5), Close),
        (http10("Connection: keep-alive\r\nContent-Length: 5\r\n"), Other, Length(5), KeepAlive),
        (http10(""), Other, UntilClose, Close),
    ];
    for (input, asked, framing, persistence) in cases {
        let head = accept(&input, asked);
        assert_eq!((head.framing, head.persistence), (framing, persistence), "{}", input.escape_ascii());
        check_cuts(&input, asked);
    }
}

#[test]
fn accepts_status_lines_without_a_reason() {
    for line in ["200", "200 ", "200 \u{fc}ber", "599 x"] {
        accept(&with(line, ""), Asked::Other);
    }
}

#[test]
fn refuses() {
    use FieldFault as F;
    use ResponseFault as R;
    let raw = |bytes: &[u8]| bytes.to_vec();
    let ok = |fields: &str| with("200 OK", fields);
    let cases: Vec<(Vec<u8>, ResponseFault)> = vec![
        (ok("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), F::FramingConflict.into()),
        (ok("Content-Length: 4\r\nContent-Length: 4\r\n"), F::LengthRepeated.into()),
        (ok("Content-Length: 4,4\r\n"), F::LengthInvalid.into()),
        (ok("Content-Length: -1\r\n"), F::LengthInvalid.into()),
        (ok("Transfer-Encoding: gzip\r\n"), F::CodingInvalid.into()),
        (ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), F::CodingInvalid.into()),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), F::CodingUnsupported.into()),
        (raw(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), F::CodingInHttp10.into()),
        // Strict even if no body follows.
        (with("204 No Content", "Content-Length: x\r\n"), F::LengthInvalid.into()),
        (with("304 Not Modified", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), F::FramingConflict.into()),
        (ok("X: a\r\n b\r\n"), F::Name.into()),
        (ok("X : a\r\n"), F::Name.into()),
        (ok("X: a\0\r\n"), F::Value.into()),
        (ok("X: a\nY: b\r\n"), F::LineEnd.into()),
        (raw(b"HTTP/1.1 200 OK\nX: a\r\n\r\n"), F::LineEnd.into()),
        (raw(b"HTTP/1.1 200 OK\n\n"), F::LineEnd.into()),
        (raw(b"HTTP/1.1 200\n\r\n"), F::LineEnd.into()),
        (raw(b"HTTP/1.1 200 OK\r\n\n"), F::LineEnd.into()),
        (raw(b"HTTP/1.1 200 OK\r\n\rX"), F::LineEnd.into()),
        (raw(b"\r\nHTTP/1.1 200 OK\r\n\r\n"), R::StatusLine),
        (with("20 OK", ""), R::StatusLine),
        (with("2000 OK", ""), R::StatusLine),
        (with("099 X", ""), R::StatusLine),
        (with("600 X", ""), R::StatusLine),
        (with("+20 X", ""), R::StatusLine),
        (with(" 200 X", ""), R::StatusLine),
        (with("200 O\0K", ""), R::StatusLine),
        (raw(b"HTTP/1.1\r\n\r\n"), R::Version),
        (raw(b"HTTP/2.0 200 OK\r\n\r\n"), R::Version),
        (raw(b"ICY 200 OK\r\n\r\n"), R::StatusLine),
        (raw(b"{\"error\": \"not HTTP at all\"}"), R::StatusLine),
        (with("101 Switching Protocols", "Upgrade: h2c\r\n"), R::Switching),
    ];
    for (input, fault) in cases {
        assert_eq!(refuse(&input), fault, "{}", input.escape_ascii());
        check_cuts(&input, Asked::Other);
    }
}

#[test]
fn bounds_the_head() {
    let over = with("200 OK", &format!("X: {}\r\n", "y".repeat(limits::HEAD_BYTES)));
    assert_eq!(refuse(&over), FieldFault::HeadTooLarge.into());
    assert_eq!(refuse(&over[..limits::HEAD_BYTES]), FieldFault::HeadTooLarge.into());
    let many = with("200 OK", &"X: y\r\n".repeat(limits::HEAD_FIELDS + 1));
    assert_eq!(refuse(&many), FieldFault::TooManyFields.into());
}

/// The invariant of `parse_response`: no prefix contradicts the whole.
fn check_cuts(input: &[u8], asked: Asked) {
    let (mut whole, mut part) = (ResponseHead::default(), ResponseHead::default());
    let verdict = parse_response(input, asked, &mut whole);
    for cut in 0..input.len() {
        match (parse_response(&input[..cut], asked, &mut part), verdict) {
            (Ok(Progress::Complete), Ok(Progress::Complete)) => assert_eq!(part, whole),
            (Ok(Progress::Partial), Ok(Progress::Complete)) => assert!(cut < whole.length),
            (Ok(Progress::Partial), _) | (Err(_), Err(_)) => {}
            (early, late) => panic!("{early:?} at {cut}, then {late:?}: {}", input.escape_ascii()),
        }
    }
}
