//! Bodies: every fault, splits at every byte, round trips, and truncation.

use super::{Body, BodyFault, Decoder, Step};
use crate::limits;
use crate::wire::http1::tests::rng;
use crate::wire::http1::{Framing, encode};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq};

/// Content, bytes consumed, and the final state; pieces are passed one after the other.
fn decode<'a>(
    framing: Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, usize, Body), BodyFault> {
    let mut decoder = Decoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    let mut state = if decoder.is_done() { Body::Done } else { Body::More };
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() && state == Body::More {
            let step = decoder.decode(rest)?;
            assert!(step.consumed > 0, "no progress");
            assert!(step.data.start <= step.data.end && step.data.end <= step.consumed);
            content.extend_from_slice(&rest[step.data.clone()]);
            consumed += step.consumed;
            state = step.state;
            rest = &rest[step.consumed..];
        }
    }
    assert_eq!(decoder.is_done(), state == Body::Done);
    Ok((content, consumed, state))
}

fn chunked(input: &[u8]) -> Result<(Vec<u8>, usize, Body), BodyFault> {
    let whole = decode(Framing::Chunked, [input]);
    assert_eq!(decode(Framing::Chunked, input.chunks(1)), whole, "{}", input.escape_ascii());
    for cut in 0..input.len() {
        assert_eq!(decode(Framing::Chunked, [&input[..cut], &input[cut..]]), whole, "{}", input.escape_ascii());
    }
    whole
}

#[test]
fn empty_bodies_are_done_at_once() {
    for framing in [Framing::Empty, Framing::Length(0)] {
        let mut decoder = Decoder::new(framing);
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(b"GET /next"), Ok(Step { consumed: 0, data: 0..0, state: Body::Done }));
        assert_eq!(decoder.eof(), Ok(()));
    }
}

#[test]
fn counted_bodies_end_by_their_length() {
    let input = b"hello, and the next message";
    for cut in 0..input.len() {
        let found = decode(Framing::Length(5), [&input[..cut], &input[cut..]]);
        assert_eq!(found, Ok((b"hello".to_vec(), 5, Body::Done)));
    }
    assert_eq!(decode(Framing::Length(5), [&b"hell"[..]]), Ok((b"hell".to_vec(), 4, Body::More)));
    assert_eq!(decode(Framing::Length(u64::MAX), [&b"x"[..]]), Ok((b"x".to_vec(), 1, Body::More)));
}

#[test]
fn chunked_bodies_end_by_their_last_chunk() {
    let cases = [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("00000000000000A\r\n0123456789\r\n0000000000000000\r\n\r\n", "0123456789"),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1;a=b;c=\"d;e\";\t f\r\nx\r\n0;last\r\n\r\n", "x"),
        ("1;\r\nx\r\n0\r\n\r\n", "x"),
        ("1\r\nx\r\n0\r\nExpires: never\r\nx-empty:\r\nX: \u{fc}\t \r\n\r\n", "x"),
    ];
    for (input, content) in cases {
        let with_next = format!("{input}GET / HTTP/1.1\r\n");
        let found = chunked(with_next.as_bytes());
        assert_eq!(found, Ok((content.as_bytes().to_vec(), input.len(), Body::Done)), "{input:?}");
    }
}

#[test]
fn a_whole_chunk_is_one_step() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let input = b"5\r\nhello\r\n3\r\nabc\r\n";
    assert_eq!(decoder.decode(input), Ok(Step { consumed: 10, data: 3..8, state: Body::More }));
    assert_eq!(decoder.decode(&input[10..]), Ok(Step { consumed: 8, data: 3..6, state: Body::More }));
}

#[test]
fn refuses_bad_chunks() {
    let cases = [
        ("\r\n", BodyFault::ChunkSize),
        ("\n", BodyFault::ChunkSize),
        ("g\r\n", BodyFault::ChunkSize),
        ("-1\r\n", BodyFault::ChunkSize),
        ("+1\r\n", BodyFault::ChunkSize),
        (" 1\r\n", BodyFault::ChunkSize),
        ("1 \r\n", BodyFault::ChunkSize),
        ("1\t\r\n", BodyFault::ChunkSize),
        ("1 ;a\r\n", BodyFault::ChunkSize),
        ("0x1\r\n", BodyFault::ChunkSize),
        ("1_0\r\n", BodyFault::ChunkSize),
        (";a\r\n", BodyFault::ChunkSize),
        ("00000000000000001\r\n", BodyFault::ChunkSize),
        ("8000000000000000\r\n", BodyFault::ChunkSize),
        ("ffffffffffffffff\r\n", BodyFault::ChunkSize),
        ("fffffffffffffffff\r\n", BodyFault::ChunkSize),
        ("1\nx\r\n", BodyFault::LineEnd),
        ("1\rx\r\n", BodyFault::LineEnd),
        ("1;a\nx\r\n", BodyFault::LineEnd),
        ("1;a\r\r\nx\r\n", BodyFault::LineEnd),
        ("1;a\0\r\n", BodyFault::Extension),
        ("1;a\x7f\r\n", BodyFault::Extension),
        ("1\r\nxy\r\n", BodyFault::ChunkEnd),
        ("1\r\nx\n", BodyFault::ChunkEnd),
        ("1\r\nx\rX", BodyFault::ChunkEnd),
        ("1\r\nx0\r\n\r\n", BodyFault::ChunkEnd),
        ("0\r\n\n", BodyFault::LineEnd),
        ("0\r\n\rX", BodyFault::LineEnd),
        ("0\n\r\n", BodyFault::LineEnd),
        ("0\r\n X: a\r\n", BodyFault::Trailer),
        ("0\r\nX : a\r\n", BodyFault::Trailer),
        ("0\r\n: a\r\n", BodyFault::Trailer),
        ("0\r\nX\r\n", BodyFault::Trailer),
        ("0\r\nX: a\0\r\n", BodyFault::Trailer),
        ("0\r\nX: a\r\n folded\r\n", BodyFault::Trailer),
        ("0\r\nX: a\n\r\n", BodyFault::LineEnd),
        ("0\r\nX: a\rY\r\n", BodyFault::LineEnd),
        ("0\r\nX\n: a\r\n", BodyFault::LineEnd),
        ("0\r\nGET / HTTP/1.1\r\n", BodyFault::Trailer),
    ];
    for (input, fault) in cases {
        assert_eq!(chunked(input.as_bytes()), Err(fault), "{input:?}");
        assert!(fault.to_string().ends_with('.'));
    }
}

#[test]
fn a_fault_stays() {
    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.decode(b"x"), Err(BodyFault::ChunkSize));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(BodyFault::ChunkSize));
    assert_eq!(decoder.eof(), Err(BodyFault::ChunkSize));
}

#[test]
fn bounds_extensions_and_trailers() {
    let line = |length: usize| format!("1;{}\r\nx\r\n", "e".repeat(length - 2));
    let end = "0\r\n\r\n";
    let good = line(limits::CHUNK_LINE_BYTES) + end;
    assert_eq!(decode(Framing::Chunked, [good.as_bytes()]), Ok((b"x".to_vec(), good.len(), Body::Done)));
    let bad = line(limits::CHUNK_LINE_BYTES + 1) + end;
    assert_eq!(decode(Framing::Chunked, [bad.as_bytes()]), Err(BodyFault::ExtensionTooLong));
    let many = line(limits::CHUNK_LINE_BYTES).repeat(limits::CHUNK_EXTENSIONS_BYTES / limits::CHUNK_LINE_BYTES + 1);
    assert_eq!(decode(Framing::Chunked, [many.as_bytes()]), Err(BodyFault::ExtensionTooLong));

    let trailer = |length: usize| format!("0\r\nX:{}\r\n\r\n", "t".repeat(length - 6));
    let good = trailer(limits::TRAILER_BYTES);
    assert!(matches!(decode(Framing::Chunked, [good.as_bytes()]), Ok((_, _, Body::Done))));
    let bad = trailer(limits::TRAILER_BYTES + 3);
    assert_eq!(decode(Framing::Chunked, [bad.as_bytes()]), Err(BodyFault::TrailerTooLong));
}

#[test]
fn only_unframed_bodies_end_by_close() {
    let mut decoder = Decoder::new(Framing::UntilClose);
    assert_eq!(decoder.decode(b"abc"), Ok(Step { consumed: 3, data: 0..3, state: Body::More }));
    assert_eq!(decoder.eof(), Ok(()));
    assert!(decoder.is_done());

    let input = b"5\r\nhello\r\n0\r\n\r\n";
    for cut in 0..input.len() {
        let mut decoder = Decoder::new(Framing::Chunked);
        let mut rest = &input[..cut];
        while !rest.is_empty() {
            let step = decoder.decode(rest).expect("the body is good");
            rest = &rest[step.consumed..];
        }
        assert_eq!(decoder.eof(), Err(BodyFault::Truncated), "cut at {cut}");
        assert_eq!(decoder.decode(&input[cut..]), Err(BodyFault::Truncated));
    }
    let mut decoder = Decoder::new(Framing::Length(2));
    assert!(decoder.decode(b"a").is_ok());
    assert_eq!(decoder.eof(), Err(BodyFault::Truncated));
}

#[test]
fn written_chunks_are_read_back() {
    let input = (vec(vec(any::<u8>(), 0..600), 0..8), vec(1usize..700, 1..10));
    let verdict = rng::runner(500).run(&input, |(parts, sizes)| {
        let mut out = Vec::new();
        for part in &parts {
            encode::chunk(&mut out, part);
        }
        out.extend_from_slice(encode::LAST_CHUNK);
        let body_bytes = out.len();
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        let mut rest = &out[..];
        let mut pieces = Vec::new();
        for &size in sizes.iter().cycle() {
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decode(Framing::Chunked, pieces), Ok((parts.concat(), body_bytes, Body::Done)));
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Random sequences of chunked syntax: no panic, and splits do not change the result.
#[test]
fn random_bytes_decode_the_same_in_pieces() {
    let alphabet = proptest::sample::select(&b"0123af;x:\r\n\r\n\r\n \t\0"[..]);
    let verdict = rng::runner(2000).run(&(vec(alphabet, 0..60), 1usize..10), |(input, size)| {
        let whole = decode(Framing::Chunked, [&input[..]]);
        prop_assert_eq!(decode(Framing::Chunked, input.chunks(size)), whole);
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}
