//! Request heads: the accepted forms, every refusal with its status, and splits at every byte.

use crate::limits;
use crate::wire::http1::{
    Expectation, FieldFault, Framing, Method, Persistence, Progress, RequestFault, RequestHead, Version, parse_request,
};

fn accept(input: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    let verdict = parse_request(input, &mut head);
    assert_eq!(verdict, Ok(Progress::Complete), "{}", input.escape_ascii());
    head
}

fn refuse(input: &[u8]) -> RequestFault {
    let mut head = RequestHead::default();
    match parse_request(input, &mut head) {
        Err(fault) => fault,
        Ok(progress) => panic!("{progress:?}: {}", input.escape_ascii()),
    }
}

/// A request line and a Host, followed by more fields.
fn with(fields: &str) -> Vec<u8> {
    format!("POST /v1/embeddings HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

/// The same in HTTP/1.0.
fn with_http10(fields: &str) -> Vec<u8> {
    format!("POST /v1/embeddings HTTP/1.0\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn reads_every_part() {
    let input = b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: Gate.example:8080\r\nContent-Length: 12\r\n\
        Expect: 100-Continue\r\nX-Empty:\r\nx-padded: \t two  words \t\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\n{\"body\": 1}";
    let head = accept(input);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_span.of(input), b"POST");
    assert_eq!(head.target.of(input), b"/v1/chat/completions?a=b");
    assert_eq!(head.path, head.target);
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(12));
    assert_eq!(head.persistence, Persistence::KeepAlive);
    assert_eq!(head.expect_continue, Expectation::Continue);
    assert_eq!(head.host.of(input), b"Gate.example:8080");
    assert_eq!(&input[head.length..], b"{\"body\": 1}");
    assert_eq!(head.fields.len(), 7);
    assert_eq!(head.fields.get(input, "x-empty"), Some(&b""[..]));
    assert_eq!(head.fields.get(input, "X-Padded"), Some(&b"two  words"[..]));
    assert_eq!(head.fields.get(input, "x-twice"), Some(&b"1"[..]));
    assert_eq!(head.fields.get_all(input, "x-twice").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.fields.get(input, "x-absent"), None);
}

#[test]
fn fields_of_any_name_are_found() {
    let input = with("x_session~id: a\r\nX_Session^Id: b\r\n");
    let head = accept(&input);
    assert_eq!(head.fields.find(&input, "x_session^id"), Some(&b"b"[..]));
    assert_eq!(head.fields.find(&input, "x_SESSION~id"), Some(&b"a"[..]));
    assert_eq!(head.fields.find(&input, "x-session-id"), None);
}

#[test]
fn a_head_is_used_again() {
    let mut head = accept(&with("Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n"));
    let next = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(parse_request(next, &mut head), Ok(Progress::Complete));
    assert_eq!(head, accept(next));
}

#[test]
fn knows_the_methods() {
    let cases = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Other),
        ("get", Method::Other),
        ("M-SEARCH", Method::Other),
    ];
    for (name, method) in cases {
        let input = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let head = accept(&input);
        assert_eq!(head.method, method);
        assert_eq!(head.method_span.of(&input), name.as_bytes());
    }
}

#[test]
fn frames_bodies() {
    let cases = [
        (with(""), Framing::Empty),
        (with("Content-Length: 0\r\n"), Framing::Length(0)),
        (with("content-length: 0042\r\n"), Framing::Length(42)),
        (with("Content-Length: 9223372036854775807\r\n"), Framing::Length(i64::MAX as u64)),
        (with("Transfer-Encoding: chunked\r\n"), Framing::Chunked),
        (with("TRANSFER-ENCODING: CHUNKED\r\n"), Framing::Chunked),
        (with_http10("Content-Length: 7\r\n"), Framing::Length(7)),
        (with_http10(""), Framing::Empty),
    ];
    for (input, framing) in cases {
        assert_eq!(accept(&input).framing, framing, "{}", input.escape_ascii());
    }
}

#[test]
fn decides_persistence() {
    let cases = [
        (with(""), Persistence::KeepAlive),
        (with("Connection: close\r\n"), Persistence::Close),
        (with("Connection: x-hop , CLOSE\r\n"), Persistence::Close),
        (with("Connection: x-hop\r\nConnection: keep-alive, close\r\n"), Persistence::Close),
        (with("Connection: ,,\r\nConnection: closed\r\n"), Persistence::KeepAlive),
        (with("Connection: \u{e9}\r\n"), Persistence::Close),
        (with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), Persistence::KeepAlive),
        (with_http10(""), Persistence::Close),
        (with_http10("Connection: Keep-Alive\r\n"), Persistence::KeepAlive),
        (with_http10("Connection: keep-alive\r\nConnection: close\r\n"), Persistence::Close),
    ];
    for (input, persistence) in cases {
        assert_eq!(accept(&input).persistence, persistence, "{}", input.escape_ascii());
    }
}

#[test]
fn owes_a_continue_only_for_content() {
    let expect = "Expect: 100-continue\r\n";
    let cases = [
        (with(expect), Expectation::None),
        (with(&format!("{expect}Content-Length: 0\r\n")), Expectation::None),
        (with(&format!("{expect}Content-Length: 1\r\n")), Expectation::Continue),
        (with(&format!("{expect}Transfer-Encoding: chunked\r\n")), Expectation::Continue),
        (with_http10(&format!("{expect}Content-Length: 1\r\n")), Expectation::None),
        (with_http10("Expect: the unexpected\r\n"), Expectation::None),
    ];
    for (input, expectation) in cases {
        assert_eq!(accept(&input).expect_continue, expectation, "{}", input.escape_ascii());
    }
}

#[test]
fn accepts_the_target_forms() {
    let cases = [
        ("GET", "/", "a", "/"),
        ("GET", "/v1/models?include[]=x&q={1}|'2'", "a", "/v1/models?include[]=x&q={1}|'2'"),
        ("GET", "//a//b/../c", "a", "//a//b/../c"),
        ("GET", "http://a.example/v1?x", "A.example", "/v1?x"),
        ("GET", "HTTPS://a.example:443/", "a.example:443", "/"),
        ("GET", "http://a.example", "a.example", ""),
        ("GET", "http://[2001:db8::1]:80/x", "[2001:DB8::1]:80", "/x"),
        ("OPTIONS", "*", "a", "*"),
    ];
    for (method, target, host, path) in cases {
        let input = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let head = accept(&input);
        assert_eq!(head.target.of(&input), target.as_bytes());
        assert_eq!(head.path.of(&input), path.as_bytes());
        assert_eq!(head.host.of(&input), host.as_bytes());
    }
}

#[test]
fn accepts_one_empty_line_before_the_request() {
    let input = b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let head = accept(input);
    assert_eq!(head.target.of(input), b"/x");
    assert_eq!(&input[head.length..], b"rest");
}

#[test]
fn http10_needs_no_host() {
    let head = accept(b"OPTIONS / HTTP/1.0\r\n\r\n");
    assert!(head.host.is_empty());
    assert_eq!(head.version, Version::Http10);
    let input = b"GET http://a.example/x HTTP/1.0\r\n\r\n";
    assert_eq!(accept(input).host.of(input), b"a.example");
}

/// Every refusal, with its status: `(input, fault, status)`.
#[test]
fn refuses_with_the_right_status() {
    use FieldFault as F;
    use RequestFault as R;
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let absolute = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let raw = |bytes: &[u8]| bytes.to_vec();
    let cases: Vec<(Vec<u8>, RequestFault, u16)> = vec![
        // Two framings, invalid lengths.
        (with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), F::FramingConflict.into(), 400),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), F::FramingConflict.into(), 400),
        (with("Content-Length: 4\r\nContent-Length: 5\r\n"), F::LengthRepeated.into(), 400),
        (with("Content-Length: 4\r\ncontent-length: 4\r\n"), F::LengthRepeated.into(), 400),
        (with("Content-Length: 4, 4\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: +4\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: -4\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 4 4\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 0x4\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 4.0\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length:\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: \u{664}\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 9223372036854775808\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 18446744073709551620\r\n"), F::LengthInvalid.into(), 400),
        (with("Content-Length: 99999999999999999999999\r\n"), F::LengthInvalid.into(), 400),
        // Codings.
        (with("Transfer-Encoding: gzip\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: identity\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding:\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: chunked, chunked\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: chunked, gzip\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: ,chunked\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: chunked,\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: \"chunked\"\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: chunked;q=1\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: xchunked\r\n"), F::CodingInvalid.into(), 400),
        (with("Transfer-Encoding: gzip, chunked\r\n"), F::CodingUnsupported.into(), 501),
        (with_http10("Transfer-Encoding: chunked\r\n"), F::CodingInHttp10.into(), 400),
        (with_http10("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), F::FramingConflict.into(), 400),
        // Lines and fields.
        (with("X: a\r\n folded\r\n"), F::Name.into(), 400),
        (with("X: a\r\n\tfolded\r\n"), F::Name.into(), 400),
        (raw(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), F::Name.into(), 400),
        (with("X : a\r\n"), F::Name.into(), 400),
        (with("X\t: a\r\n"), F::Name.into(), 400),
        (with(": a\r\n"), F::Name.into(), 400),
        (with("no colon\r\n"), F::Name.into(), 400),
        (with("X\0: a\r\n"), F::Name.into(), 400),
        (with("X(y): a\r\n"), F::Name.into(), 400),
        (with("\u{e9}: a\r\n"), F::Name.into(), 400),
        (with("X: a\0b\r\n"), F::Value.into(), 400),
        (with("X: a\x01b\r\n"), F::Value.into(), 400),
        (with("X: a\x7fb\r\n"), F::Value.into(), 400),
        (with("X: a\x0bb\r\n"), F::Value.into(), 400),
        (with("X: a\rb\r\n"), F::Value.into(), 400),
        (with("X: a\r\r\n"), F::Value.into(), 400),
        (with("X: a\nY: b\r\n"), F::LineEnd.into(), 400),
        (with("X:\nY: b\r\n"), F::LineEnd.into(), 400),
        (with("X: a\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\nHost: a\n\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.0\n\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.0\n\r\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.0\r\n\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\rHost: a\r\n\r\n"), F::LineEnd.into(), 400),
        (raw(b"GET / HTTP/1.1\r\nHost: a\r\n\rX"), F::LineEnd.into(), 400),
        (raw(b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), F::LineEnd.into(), 400),
        (raw(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), R::LeadingLines, 400),
        (raw(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), R::LeadingLines, 400),
        (raw(b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), R::LeadingLines, 400),
        // The request line.
        (line("GET  / HTTP/1.1"), R::RequestLine, 400),
        (line("GET /  HTTP/1.1"), R::RequestLine, 400),
        (line(" GET / HTTP/1.1"), R::RequestLine, 400),
        (line("GET / HTTP/1.1 "), F::LineEnd.into(), 400),
        (line("GET / a HTTP/1.1"), R::RequestLine, 400),
        (line("GET\t/ HTTP/1.1"), R::RequestLine, 400),
        (line("GET /"), R::RequestLine, 400),
        (line("GET"), R::RequestLine, 400),
        (line("G(T / HTTP/1.1"), R::RequestLine, 400),
        (line("G\0T / HTTP/1.1"), R::RequestLine, 400),
        (line("GET /\0 HTTP/1.1"), R::RequestLine, 400),
        (line("GET /\x7f HTTP/1.1"), R::RequestLine, 400),
        (line("GET / http/1.1"), R::RequestLine, 400),
        (line("GET / HTTPS/1.1"), R::RequestLine, 400),
        (raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), R::RequestLine, 400),
        (line("GET / HTTP/1.2"), R::Version, 505),
        (line("GET / HTTP/2.0"), R::Version, 505),
        (line("GET / HTTP/0.9"), R::Version, 505),
        (line("GET / HTTP/11.1"), R::Version, 505),
        (raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), R::Version, 505),
        // The target.
        (line("CONNECT a:443 HTTP/1.1"), R::Connect, 501),
        (line("CONNECT / HTTP/1.1"), R::Connect, 501),
        (line("GET * HTTP/1.1"), R::Target, 400),
        (line("OPTIONS ** HTTP/1.1"), R::Target, 400),
        (line("GET a HTTP/1.1"), R::Target, 400),
        (line("GET ?a HTTP/1.1"), R::Target, 400),
        (line("GET /a#b HTTP/1.1"), R::Target, 400),
        (line("GET /a\\b HTTP/1.1"), R::Target, 400),
        (line("GET /<b> HTTP/1.1"), R::Target, 400),
        (line("GET /\"b HTTP/1.1"), R::Target, 400),
        (line("GET /\u{e9} HTTP/1.1"), R::Target, 400),
        (raw(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), R::RequestLine, 400),
        (line("GET ftp://a/ HTTP/1.1"), R::Target, 400),
        (line("GET http:a/ HTTP/1.1"), R::Target, 400),
        (line("GET http:// HTTP/1.1"), R::Target, 400),
        (line("GET http:///x HTTP/1.1"), R::Target, 400),
        (line("GET http://u:p@a/ HTTP/1.1"), R::Target, 400),
        (line("GET http://a?q HTTP/1.1"), R::Target, 400),
        (absolute("http://b/", "a"), R::HostDiffers, 400),
        (absolute("http://a:80/", "a"), R::HostDiffers, 400),
        // Host.
        (raw(b"GET / HTTP/1.1\r\n\r\n"), R::HostMissing, 400),
        (raw(b"GET http://a/ HTTP/1.1\r\n\r\n"), R::HostMissing, 400),
        (with("Host: a\r\n"), R::HostRepeated, 400),
        (with("host: b\r\n"), R::HostRepeated, 400),
        (with_http10("Host: a\r\n"), R::HostRepeated, 400),
        (host(""), R::HostInvalid, 400),
        (host("a b"), R::HostInvalid, 400),
        (host("a,b"), R::HostInvalid, 400),
        (host("u@a"), R::HostInvalid, 400),
        (host("a/b"), R::HostInvalid, 400),
        (host("a%41"), R::HostInvalid, 400),
        (host("a:"), R::HostInvalid, 400),
        (host(":80"), R::HostInvalid, 400),
        (host("a:b"), R::HostInvalid, 400),
        (host("a:+80"), R::HostInvalid, 400),
        (host("a:65536"), R::HostInvalid, 400),
        (host("a:000080"), R::HostInvalid, 400),
        (host("a:80:80"), R::HostInvalid, 400),
        (host("::1"), R::HostInvalid, 400),
        (host("[::1"), R::HostInvalid, 400),
        (host("[::1]x"), R::HostInvalid, 400),
        (host("[::1%25eth0]"), R::HostInvalid, 400),
        (host("[]"), R::HostInvalid, 400),
        (host("\u{e9}"), R::HostInvalid, 400),
        // Expectations.
        (with("Expect: 200-ok\r\nContent-Length: 1\r\n"), R::Expectation, 417),
        (with("Expect: 100-continue, x\r\n"), R::Expectation, 417),
        (with("Expect:\r\n"), R::Expectation, 417),
    ];
    for (input, fault, status) in cases {
        let found = refuse(&input);
        assert_eq!(found, fault, "{}", input.escape_ascii());
        assert_eq!(found.status(), status, "{}", input.escape_ascii());
        assert!(found.to_string().ends_with('.'), "{found} is not a sentence");
        check_cuts(&input);
    }
}

#[test]
fn bounds_the_number_of_fields() {
    let fields = |count: usize| with(&"X: y\r\n".repeat(count - 1));
    assert_eq!(accept(&fields(limits::HEAD_FIELDS)).fields.len(), limits::HEAD_FIELDS);
    let fault = refuse(&fields(limits::HEAD_FIELDS + 1));
    assert_eq!((fault, fault.status()), (FieldFault::TooManyFields.into(), 431));
}

#[test]
fn bounds_the_head() {
    let padding = limits::HEAD_BYTES - with("X: \r\n").len();
    let full = with(&format!("X: {}\r\n", "y".repeat(padding)));
    assert_eq!(full.len(), limits::HEAD_BYTES);
    assert_eq!(accept(&full).length, limits::HEAD_BYTES);
    let over = with(&format!("X: {}\r\n", "y".repeat(padding + 1)));
    let fault = refuse(&over);
    assert_eq!((fault, fault.status()), (FieldFault::HeadTooLarge.into(), 431));
    // Incomplete, but too large already.
    assert_eq!(refuse(&over[..limits::HEAD_BYTES]), fault);
    let mut head = RequestHead::default();
    assert_eq!(parse_request(&over[..limits::HEAD_BYTES - 1], &mut head), Ok(Progress::Partial));
}

#[test]
fn bounds_the_target() {
    let request = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1)).into_bytes();
    assert_eq!(accept(&request(limits::TARGET_BYTES)).target.len(), limits::TARGET_BYTES);
    let over = request(limits::TARGET_BYTES + 1);
    let fault = refuse(&over);
    assert_eq!((fault, fault.status()), (RequestFault::TargetTooLong, 414));
    // Inside the target, but too long already.
    assert_eq!(refuse(&over[.."GET /".len() + limits::TARGET_BYTES]), fault);
    check_cuts(&over);
    assert_eq!(refuse(&[b'x'; limits::HEAD_BYTES]), FieldFault::HeadTooLarge.into());
}

#[test]
fn cuts_at_every_byte_agree() {
    for input in [
        &b"\r\nPOST /v1/x HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\nX: \r\n\r\nabcGET / HTTP/1.1\r\n\r\n"[..],
        b"GET http://a/ HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        accept(input);
        check_cuts(input);
    }
}

/// The invariant of `parse_request`: no prefix contradicts the whole.
fn check_cuts(input: &[u8]) {
    let (mut whole, mut part) = (RequestHead::default(), RequestHead::default());
    let verdict = parse_request(input, &mut whole);
    for cut in 0..input.len() {
        match (parse_request(&input[..cut], &mut part), verdict) {
            (Ok(Progress::Complete), Ok(Progress::Complete)) => assert_eq!(part, whole),
            (Ok(Progress::Partial), Ok(Progress::Complete)) => assert!(cut < whole.length),
            (Ok(Progress::Partial), _) | (Err(_), Err(_)) => {}
            (early, late) => panic!("{early:?} at {cut}, then {late:?}: {}", input.escape_ascii()),
        }
    }
}
