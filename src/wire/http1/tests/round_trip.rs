//! Serialized messages parse to the same values, for any values; and no prefix of random bytes contradicts the whole.

use super::rng;
use crate::wire::http1::{
    Asked, Framing, Progress, RequestHead, ResponseHead, encode, is_value, parse_request, parse_response,
};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq};

type Pairs = Vec<(String, Vec<u8>)>;

/// Names that do not affect framing, and values of any bytes.
fn fields() -> impl Strategy<Value = Pairs> {
    vec(("x-[a-zA-Z0-9!#$%&'*+.^_`|~-]{0,20}", vec(any::<u8>(), 0..40)), 0..20)
}

/// A written value as a parser reads it.
fn as_read(value: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = value.iter().map(|&byte| if is_value(byte) { byte } else { b' ' }).collect();
    let is_text = |byte: &u8| *byte != b' ' && *byte != b'\t';
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    text[start..end].to_vec()
}

fn write_fields(out: &mut Vec<u8>, pairs: &Pairs) {
    for (name, value) in pairs {
        encode::field(out, name, value);
    }
}

fn expected(pairs: &Pairs) -> Pairs {
    pairs.iter().map(|(name, value)| (name.clone(), as_read(value))).collect()
}

#[test]
fn requests() {
    let input = ("[A-Z]{1,8}", "/[a-zA-Z0-9/?=&%._~-]{0,60}", fields(), any::<u32>());
    let verdict = rng::runner(500).run(&input, |(method, target, pairs, length)| {
        if method == "CONNECT" {
            return Ok(());
        }
        let mut out = Vec::new();
        encode::request_line(&mut out, method.as_bytes(), target.as_bytes());
        encode::field(&mut out, "host", b"a.example:80");
        encode::field_number(&mut out, "content-length", u64::from(length));
        write_fields(&mut out, &pairs);
        encode::head_end(&mut out);
        let head_bytes = out.len();
        out.extend_from_slice(b"body");
        let mut head = RequestHead::default();
        prop_assert_eq!(parse_request(&out, &mut head), Ok(Progress::Complete));
        prop_assert_eq!(head.length, head_bytes);
        prop_assert_eq!(head.method_span.of(&out), method.as_bytes());
        prop_assert_eq!(head.target.of(&out), target.as_bytes());
        prop_assert_eq!(head.framing, Framing::Length(u64::from(length)));
        let read = head.fields.iter().skip(2);
        let read: Pairs = read
            .map(|field| (String::from_utf8_lossy(field.name.of(&out)).into_owned(), field.value.of(&out).to_vec()))
            .collect();
        prop_assert_eq!(read, expected(&pairs));
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn responses() {
    let input = (200u16..600, fields());
    let verdict = rng::runner(500).run(&input, |(status, pairs)| {
        let mut out = Vec::new();
        encode::status_line(&mut out, status);
        encode::field(&mut out, "Transfer-Encoding", b"chunked");
        write_fields(&mut out, &pairs);
        encode::head_end(&mut out);
        let mut head = ResponseHead::default();
        prop_assert_eq!(parse_response(&out, Asked::Other, &mut head), Ok(Progress::Complete));
        prop_assert_eq!(head.length, out.len());
        prop_assert_eq!(head.status, status);
        let framing = if matches!(status, 204 | 304) { Framing::Empty } else { Framing::Chunked };
        prop_assert_eq!(head.framing, framing);
        let read = head.fields.iter().skip(1);
        let read: Pairs = read
            .map(|field| (String::from_utf8_lossy(field.name.of(&out)).into_owned(), field.value.of(&out).to_vec()))
            .collect();
        prop_assert_eq!(read, expected(&pairs));
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A request line and a field with arbitrary bytes still form exactly one head.
#[test]
fn hostile_values_make_one_head() {
    let input = (vec(any::<u8>(), 1..20), vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..60));
    let verdict = rng::runner(1000).run(&input, |(method, path, value)| {
        let mut out = Vec::new();
        encode::request_line(&mut out, &method, &[b"/", &path[..]].concat());
        encode::field(&mut out, "host", b"a");
        encode::field(&mut out, "x-any", &value);
        encode::head_end(&mut out);
        let ends: Vec<usize> = (0..out.len()).filter(|&at| out[at..].starts_with(b"\r\n\r\n")).collect();
        prop_assert_eq!(ends, [out.len() - 4]);
        let line_count = out.iter().filter(|&&byte| byte == b'\n').count();
        prop_assert_eq!(line_count, out.iter().filter(|&&byte| byte == b'\r').count());
        prop_assert_eq!(line_count <= 4, true);
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}
