//! Heads matched by templates: the same result as by parsing.

use proptest::prelude::*;

use super::rng;
use crate::wire::http1::known::SLOTS;
use crate::wire::http1::{Asked, KnownHeads, Progress, RequestHead, ResponseHead, parse_request, parse_response};

/// Parses `input` both ways and compares the results.
fn check_request(known: &mut KnownHeads<RequestHead>, head: &mut RequestHead, input: &[u8]) {
    let mut read = RequestHead::default();
    let verdict = parse_request(input, &mut read);
    assert_eq!(known.parse_request(input, head), verdict, "{}", input.escape_ascii());
    if verdict == Ok(Progress::Complete) {
        assert_eq!(*head, read, "{}", input.escape_ascii());
    }
}

/// The same for a response.
fn check_response(known: &mut KnownHeads<ResponseHead>, asked: Asked, input: &[u8]) {
    let (mut read, mut head) = (ResponseHead::default(), ResponseHead::default());
    let verdict = parse_response(input, asked, &mut read);
    assert_eq!(known.parse_response(input, asked, &mut head), verdict, "{}", input.escape_ascii());
    if verdict == Ok(Progress::Complete) {
        assert_eq!(head, read, "{}", input.escape_ascii());
    }
}

/// Parses `inputs` in order; whether the last one had to be parsed.
fn is_read(inputs: &[&[u8]]) -> bool {
    let (mut known, mut head) = (KnownHeads::default(), RequestHead::default());
    inputs.iter().for_each(|input| check_request(&mut known, &mut head, input));
    known.reads() as usize == inputs.len()
}

fn with(credential: &str, length: &str, more: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gate:8080\r\nAuthorization: {credential}\r\nContent-Length: {length}\r\nX-Stainless-OS: Linux\r\n{more}\r\n{{\"a\":1}}"
    )
    .into_bytes()
}

#[test]
fn what_differs_in_values_that_say_nothing_of_the_frame_is_not_read_again() {
    let first = with("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n");
    for (credential, length, more, read) in [
        ("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", false),
        ("Bearer another-key", "123456", "Expect: 100-continue\r\nX-Request-Id: another id\r\n", false),
        ("B", "1", "Expect: 100-continue\r\nX-Request-Id: \u{fc}\r\n", false),
        ("a\tb", "1", "Expect: 100-continue\r\nX-Request-Id: 0\r\n", false),
        // Other fields, other names, other framing.
        ("Bearer sk-1", "7", "X-Request-Id: one\r\n", true),
        ("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-ID: one\r\n", true),
        ("Bearer sk-1", "7", "expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\nConnection: close\r\n", true),
        ("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\nContent-Length: 7\r\n", true),
        ("Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\nTransfer-Encoding: chunked\r\n", true),
        // Invalid values, or values with surrounding white space.
        (" Bearer sk-1", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1 ", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("a\nb: c", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("a\rb", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("a\r\n b", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("a\u{7f}", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("a\0", "7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        // Lengths that change the meaning of other fields, and invalid ones.
        ("Bearer sk-1", "0", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "00", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "+7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "7, 7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "0x7", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
        ("Bearer sk-1", "9223372036854775808", "Expect: 100-continue\r\nX-Request-Id: one\r\n", true),
    ] {
        let input = with(credential, length, more);
        assert_eq!(is_read(&[&first, &input]), read, "{}", input.escape_ascii());
    }
    for cut in 0..first.len() - 7 {
        assert!(is_read(&[&first, &first[..cut]]), "cut at {cut}");
    }
    for place in 0..first.len() - 7 {
        for byte in [b'\r', b'\n', b' ', b':', 0, b'a', b'0', 0x7f, 0xff] {
            let mut input = first.clone();
            input[place] = byte;
            is_read(&[&first, &input]);
        }
    }
}

#[test]
fn a_length_of_nothing_teaches_nothing() {
    let more = "Expect: 100-continue\r\n";
    assert!(is_read(&[&with("a", "0", more), &with("a", "5", more)]));
    assert!(!is_read(&[&with("a", "4", more), &with("a", "5", more)]));
}

#[test]
fn long_heads_are_read() {
    let more = |length| format!("X-Id: {}\r\n", "a".repeat(length));
    assert!(!is_read(&[&with("a", "1", &more(1)), &with("a", "1", &more(1024 - 1))]));
    assert!(is_read(&[&with("a", "1", &more(1)), &with("a", "1", &more(1024))]));
    let many = |count: usize| (0..count).map(|index| format!("X-{index}: a\r\n")).collect::<String>();
    assert!(!is_read(&[&with("a", "1", &many(SLOTS - 2)), &with("b", "1", &many(SLOTS - 2))]));
    assert!(is_read(&[&with("a", "1", &many(SLOTS - 1)), &with("b", "1", &many(SLOTS - 1))]));
    let agent = format!("User-Agent: {}\r\n", "a".repeat(4 << 10));
    assert!(is_read(&[&with("a", "1", &agent), &with("b", "1", &agent)]));
}

fn answer(status: &str, length: &str, more: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nserver: uvicorn\r\ndate: Fri, 27 Nov 2026 08:40:20 GMT\r\nContent-Length: {length}\r\ncontent-type: application/json\r\n{more}\r\n{{\"a\":1}}"
    )
    .into_bytes()
}

#[test]
fn responses_that_match_a_template_are_not_parsed() {
    let first = answer("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\n");
    for (status, length, more, read) in [
        ("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\n", false),
        ("200 OK", "123456", "Keep-Alive: timeout=5\r\nx-request-id: another\r\n", false),
        ("200 OK", "1", "Keep-Alive: timeout=5\r\nx-request-id: \u{fc}\r\n", false),
        // Whether and how long the connection is kept.
        ("200 OK", "7", "Keep-Alive: timeout=6\r\nx-request-id: one\r\n", true),
        ("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\nConnection: close\r\n", true),
        ("429 Too Many Requests", "7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\n", true),
        ("200 OK", "0", "Keep-Alive: timeout=5\r\nx-request-id: one\r\n", true),
        ("200 OK", "7, 7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\n", true),
        ("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: one\r\nTransfer-Encoding: chunked\r\n", true),
        ("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: a\nb\r\n", true),
        ("200 OK", "7", "Keep-Alive: timeout=5\r\nx-request-id: \r\n", true),
    ] {
        let input = answer(status, length, more);
        let mut known = KnownHeads::default();
        check_response(&mut known, Asked::Other, &first);
        check_response(&mut known, Asked::Other, &input);
        assert_eq!(known.reads() == 2, read, "{}", input.escape_ascii());
        // A response to HEAD has no body, whatever it announces.
        check_response(&mut known, Asked::Head, &input);
        check_response(&mut known, Asked::Head, &first);
        check_response(&mut known, Asked::Other, &first);
    }
    for place in 0..first.len() - 7 {
        check_response(&mut KnownHeads::default(), Asked::Other, &first[..place]);
        for byte in [b'\r', b'\n', b' ', b':', 0, b'a', b'0', 0x7f, 0xff] {
            let mut input = first.clone();
            input[place] = byte;
            let mut known = KnownHeads::default();
            check_response(&mut known, Asked::Other, &first);
            check_response(&mut known, Asked::Other, &input);
        }
    }
}

#[test]
fn answers_without_a_body_teach_nothing() {
    for head in [
        "HTTP/1.1 204 No Content\r\nx-id: @\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nx-id: @\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: @\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-id: @\r\n\r\n",
    ] {
        let mut known = KnownHeads::default();
        check_response(&mut known, Asked::Other, head.replace('@', "a").as_bytes());
        check_response(&mut known, Asked::Other, head.replace('@', "bc").as_bytes());
        assert_eq!(known.reads(), 2, "{head}");
    }
    for head in
        ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-id: @\r\n\r\n", "HTTP/1.0 200 OK\r\nx-id: @\r\n\r\n"]
    {
        let mut known = KnownHeads::default();
        check_response(&mut known, Asked::Other, head.replace('@', "a").as_bytes());
        check_response(&mut known, Asked::Other, head.replace('@', "bc").as_bytes());
        assert_eq!(known.reads(), 1, "{head}");
    }
}

#[test]
fn no_credential_is_kept() {
    let secrets =
        "Cookie: secret-1\r\nX-Api-Key: secret-2\r\nProxy-Authorization: secret-3\r\nX-Anything: secret-4\r\n";
    let mut known = KnownHeads::default();
    let input = with("Bearer secret-5", "7", secrets);
    check_request(&mut known, &mut RequestHead::default(), &input);
    assert!(!known.literals().any(|literal| literal.windows(6).any(|part| part == b"secret")));
    assert!(known.literals().any(|literal| literal.ends_with(b"X-Anything: \r\n\r\n")));
    check_request(&mut known, &mut RequestHead::default(), b"GET /v1/models?key=secret-6 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(known.literals().count(), 1);
}

/// Heads of a few clients, with arbitrary values.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        4 => Just("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: @\r\ncontent-length: #\r\n\r\n"),
        3 => Just("POST /v1/embeddings HTTP/1.1\r\nauthorization: @\r\nContent-Length: #\r\nHost: b:80\r\nx-id: @\r\n\r\n"),
        2 => Just("GET /v1/models HTTP/1.1\r\nx-a: @\r\nHost: c\r\nx-b: @\r\nConnection: close\r\n\r\n"),
        2 => Just("\r\nPOST http://d/e HTTP/1.0\r\nx-a: @\r\ncontent-length: #\r\nconnection: keep-alive\r\nx-b:@\r\n\r\n"),
        1 => Just("POST / HTTP/1.1\r\nx-a: @\r\nhost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\nx-b: @\r\n\r\n"),
        1 => Just("POST / HTTP/1.1\r\nhost: @\r\ncontent-length: #\r\nx-a: @\r\nuser-agent: @\r\n\r\n"),
        1 => Just("OPTIONS * HTTP/1.1\r\nhost: a\r\nx-a: @\r\n\r\n"),
        2 => Just("POST /a HTTP/1.1\r\nx-a: @\r\nhost: a\r\nconnection: %\r\ncontent-length: #\r\n\r\n"),
        2 => Just("POST /b HTTP/1.1\r\nx-a: @\r\nhost: a\r\ntransfer-encoding: %\r\n\r\n"),
        2 => Just("POST /c HTTP/1.1\r\nx-a: @\r\nhost: a\r\nexpect: %\r\ncontent-length: #\r\n\r\n"),
    ];
    filled(frame)
}

/// Heads of a few backends.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    filled(prop_oneof![
        2 => Just("HTTP/1.1 200 OK\r\nx-id: @\r\nconnection: %\r\ncontent-length: #\r\n\r\n"),
        2 => Just("HTTP/1.1 200 OK\r\nx-id: @\r\ntransfer-encoding: %\r\n\r\n"),
        4 => Just("HTTP/1.1 200 OK\r\ndate: @\r\ncontent-length: #\r\ncontent-type: application/json\r\n\r\n"),
        3 => Just("HTTP/1.1 200 OK\r\nServer: a\r\nx-id: @\r\nContent-Length: #\r\nx-left: @\r\nkeep-alive: timeout=5\r\n\r\n"),
        2 => Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-id: @\r\ncontent-type: text/event-stream\r\n\r\n"),
        1 => Just("HTTP/1.0 200\r\nx-id: @\r\nconnection: keep-alive\r\ncontent-length: #\r\n\r\n"),
        1 => Just("HTTP/1.1 429 @\r\nretry-after: @\r\ncontent-length: #\r\nconnection: close\r\n\r\n"),
        1 => Just("HTTP/1.1 204 No Content\r\nx-id: @\r\n\r\n"),
        1 => Just("HTTP/1.1 200 OK\r\nx-id: @\r\n\r\n"),
    ])
}

/// With arbitrary values and lengths in their places, occasionally truncated or corrupted.
fn filled(frame: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        8 => "[a-zA-Z0-9 .=-]{1,12}",
        2 => "[1-9][0-9]{0,5}",
        1 => "[ \t]?[a-z]{0,3}[ \t]?",
        1 => any::<String>(),
    ];
    let length = prop_oneof![8 => "[1-9][0-9]{0,8}", 1 => "[0-9]{1,20}", 1 => "[ -~]{0,4}"];
    let said =
        prop::sample::select(vec!["close", "keep-alive", "a, close", "chunked", "gzip, chunked", "100-continue"]);
    let fills = (prop::collection::vec(value, 4), said, length, any::<prop::sample::Index>(), 0..20u8);
    (frame, fills).prop_map(|(frame, (values, said, length, cut, rng))| {
        let (mut text, mut values) = (String::new(), values.into_iter());
        for part in frame.chars() {
            match part {
                '@' => text.extend(values.next()),
                '#' => text.push_str(&length),
                '%' => text.push_str(said),
                other => text.push(other),
            }
        }
        let mut bytes = text.into_bytes();
        match rng {
            0 => bytes.truncate(cut.index(bytes.len() + 1)),
            1 => {
                let place = cut.index(bytes.len());
                bytes[place] ^= 0x20;
            }
            _ => bytes.extend_from_slice(b"{}"),
        }
        bytes
    })
}

#[test]
fn request_heads_from_templates_equal_parsed_ones() {
    let compared = std::cell::Cell::new(0);
    let verdict = rng::runner(500).run(&prop::collection::vec(heads(), 1..60), |heads| {
        let (mut known, mut head) = (KnownHeads::default(), RequestHead::default());
        heads.iter().for_each(|input| check_request(&mut known, &mut head, input));
        compared.set(compared.get() + heads.len() as u64 - known.reads());
        Ok(())
    });
    assert!(verdict.is_ok(), "{verdict:?}");
    assert!(compared.get() > 2000, "{} heads matched a template", compared.get());
}

#[test]
fn response_heads_from_templates_equal_parsed_ones() {
    let compared = std::cell::Cell::new(0);
    let asked = prop_oneof![5 => Just(Asked::Other), 1 => Just(Asked::Head)];
    let verdict = rng::runner(500).run(&prop::collection::vec((answers(), asked), 1..60), |answers| {
        let mut known = KnownHeads::default();
        answers.iter().for_each(|(input, asked)| check_response(&mut known, *asked, input));
        let others = answers.iter().filter(|(_, asked)| *asked == Asked::Other).count();
        compared.set(compared.get() + others as u64 - known.reads());
        Ok(())
    });
    assert!(verdict.is_ok(), "{verdict:?}");
    assert!(compared.get() > 2000, "{} heads matched a template", compared.get());
}
