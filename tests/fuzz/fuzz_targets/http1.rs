//! Heads of any bytes: no panic, all spans inside the head, no prefix that contradicts the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::limits;
use ringway::wire::Span;
use ringway::wire::http1::{
    Asked, Fields, Framing, KnownHeads, Progress, RequestFault, RequestHead, ResponseHead, parse_request,
    parse_response,
};

fuzz_target!(|input: &[u8]| {
    requests(input);
    responses(input, Asked::Other);
    responses(input, Asked::Head);
});

fn requests(input: &[u8]) {
    let (mut whole, mut part) = (RequestHead::default(), RequestHead::default());
    let verdict = parse_request(input, &mut whole);
    if verdict == Ok(Progress::Complete) {
        assert!(whole.framing != Framing::UntilClose);
        assert!(whole.target.len() <= limits::TARGET_BYTES);
        check_fields(&whole.fields, input, whole.length);
        for span in [whole.method_span, whole.target, whole.path, whole.host] {
            check_span(span, whole.length);
        }
        assert!(!whole.method_span.is_empty() && !whole.target.is_empty());
        assert!(whole.path.end == whole.target.end && whole.path.start >= whole.target.start);
    }
    by_shape(input, verdict, &whole);
    for cut in cuts(input) {
        let early = parse_request(&input[..cut], &mut part);
        check_pair((early.ok(), part.length), (verdict.ok(), whole.length), cut);
        if early == Ok(Progress::Complete) {
            assert!(part == whole);
        }
    }
}

/// A head is the same by its shape, learnt from itself or from one that has the input for values.
fn by_shape(input: &[u8], verdict: Result<Progress, RequestFault>, read: &RequestHead) {
    const FRAME: [&[u8]; 4] = [
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nAuthorization: ",
        b"\r\nContent-Length: ",
        b"\r\nExpect: 100-continue\r\nX-Request-Id: ",
        b"\r\n\r\n{}",
    ];
    let (mut known, mut head) = (KnownHeads::default(), RequestHead::default());
    let (credential, rest) = input.split_at(input.len() / 2);
    let (length, id) = rest.split_at(rest.len() / 3);
    let learnt = [FRAME[0], b"a", FRAME[1], b"7", FRAME[2], b"b", FRAME[3]].concat();
    let filled = [FRAME[0], credential, FRAME[1], length, FRAME[2], id, FRAME[3]].concat();
    let one = [FRAME[0], input, FRAME[1], b"5", FRAME[2], b"c", FRAME[3]].concat();
    for head_bytes in [&learnt, &filled, &one] {
        let mut own = RequestHead::default();
        let verdict = parse_request(head_bytes, &mut own);
        assert!(known.parse_request(head_bytes, &mut head) == verdict);
        assert!(verdict != Ok(Progress::Complete) || head == own);
    }
    for _ in 0..2 {
        assert!(known.parse_request(input, &mut head) == verdict);
        assert!(verdict != Ok(Progress::Complete) || head == *read);
    }
}

fn responses(input: &[u8], asked: Asked) {
    let (mut whole, mut part) = (ResponseHead::default(), ResponseHead::default());
    let verdict = parse_response(input, asked, &mut whole);
    if verdict == Ok(Progress::Complete) {
        assert!((100..600).contains(&whole.status));
        assert!(asked == Asked::Other || whole.framing == Framing::Empty);
        check_fields(&whole.fields, input, whole.length);
    }
    response_by_shape(input, asked);
    for cut in cuts(input) {
        let early = parse_response(&input[..cut], asked, &mut part);
        check_pair((early.ok(), part.length), (verdict.ok(), whole.length), cut);
        if early == Ok(Progress::Complete) {
            assert!(part == whole);
        }
    }
}

/// The same of a response.
fn response_by_shape(input: &[u8], asked: Asked) {
    const FRAME: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nDate: ",
        b"\r\nContent-Length: ",
        b"\r\nKeep-Alive: timeout=5\r\nX-Request-Id: ",
        b"\r\n\r\n{}",
    ];
    let mut known = KnownHeads::default();
    let (date, rest) = input.split_at(input.len() / 2);
    let (length, id) = rest.split_at(rest.len() / 3);
    let learnt = [FRAME[0], b"a", FRAME[1], b"7", FRAME[2], b"b", FRAME[3]].concat();
    let filled = [FRAME[0], date, FRAME[1], length, FRAME[2], id, FRAME[3]].concat();
    let one = [FRAME[0], input, FRAME[1], b"5", FRAME[2], b"c", FRAME[3]].concat();
    for bytes in [&learnt[..], &filled, &one, input, input] {
        let (mut read, mut head) = (ResponseHead::default(), ResponseHead::default());
        let verdict = parse_response(bytes, asked, &mut read);
        assert!(known.parse_response(bytes, asked, &mut head) == verdict);
        assert!(verdict != Ok(Progress::Complete) || head == read);
    }
}

/// Every cut of a short input; of a long one about a hundred and the last few.
fn cuts(input: &[u8]) -> impl Iterator<Item = usize> {
    let length = input.len();
    let stride = length / 128 + 1;
    (0..length).filter(move |cut| cut % stride == 0 || length - cut < 8)
}

/// A refused beginning is refused for good, and a head that is complete stays what it was. `None` is a refusal.
fn check_pair(early: (Option<Progress>, usize), late: (Option<Progress>, usize), cut: usize) {
    match (early.0, late.0) {
        (Some(Progress::Complete), found) => assert!(found == Some(Progress::Complete) && early.1 == late.1),
        (Some(Progress::Partial), Some(Progress::Complete)) => assert!(cut < late.1),
        (Some(Progress::Partial), _) => {}
        (None, found) => assert!(found.is_none()),
    }
}

fn check_fields(fields: &Fields, input: &[u8], length: usize) {
    assert!(length <= limits::HEAD_BYTES && fields.len() <= limits::HEAD_FIELDS);
    assert!(input[..length].ends_with(b"\r\n\r\n"));
    for field in fields.iter() {
        check_span(field.name, length);
        check_span(field.value, length);
        let (name, value) = (field.name.of(input), field.value.of(input));
        assert!(!name.is_empty() && !name.contains(&b':') && name.iter().all(u8::is_ascii_graphic));
        assert!(value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F)));
        assert!(!value.starts_with(b" ") && !value.ends_with(b" "));
    }
    // Every LF of the head ends a line.
    let head = &input[..length];
    assert!((0..length).all(|at| head[at] != b'\n' || (at > 0 && head[at - 1] == b'\r')));
}

fn check_span(span: Span, length: usize) {
    assert!(span.start <= span.end && span.end as usize <= length);
}
