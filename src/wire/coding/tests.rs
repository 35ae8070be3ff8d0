//! Decoders against real encoders: pieces of every size, splits at every byte, flush points, corruption, bombs.

use super::*;
use crate::limits::GZIP_HEADER_BYTES;
use crate::wire::json::tests::law;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compression, Crc, GzBuilder};
use proptest::prelude::*;
use std::io::Write;

const EVENTS: [&[u8]; 3] = [
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n",
    b"data: [DONE]\n\n",
];

/// `EVENTS` from the reference encoder, quality 5: in one piece, and flushed after each event.
const BROTLI_WHOLE: &str = "\
                            1b95000004fef3d6af247b59907f66935837419469b7d3c981c3ed82df4ec72c2ab288f21c3e2752ecd33064b192d3bc\
                            a0e58804954cc4851cd31571debbdb8bf3c9fc82fb2188d8614637b0ec876213b455e768db0c";
const BROTLI_FLUSHED: [&str; 4] = [
    "0b250000044a3daf50735c183fe932188e3bfb141c72e010595b74cc320a36c6ce96a0a62491254ab33cd03610d02a2a6e644237e2763ff7\
     e23ec517dc0a66ce4418",
    "e001004002a90b510418632476810797d6510018",
    "68000040c043d65f3395755304e81280a6c60703",
    "03",
];
/// 64 MiB of zeros, with a window of 16 MiB.
const BROTLI_BOMB: &str = "\
                           cfffff7f002400e2b14072effff9ffff0f8004401c1680eefd3fffffff01900088c302d0bdffe7ffff3f001200715800\
                           baf7ff03";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd_with(content: &[u8], level: i32, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd_with(content, 3, 17)
}

/// One content in all codings. Brotli has no encoder here: its streams are the constants above.
fn coded(content: &[u8]) -> Vec<(Coding, Vec<u8>)> {
    vec![
        (Coding::Gzip, gzip(content)),
        (Coding::Deflate, zlib(content)),
        (Coding::Deflate, bare_deflate(content)),
        (Coding::Zstd, zstd(content)),
    ]
}

/// The streams of `EVENTS` in every coding.
fn coded_events() -> Vec<(Coding, Vec<u8>)> {
    let mut all = coded(&EVENTS.concat());
    all.push((Coding::Brotli, unhex(BROTLI_WHOLE)));
    all.push((Coding::Brotli, unhex(&BROTLI_FLUSHED.concat())));
    all
}

/// Decodes `input` in pieces of `size` with at most `most` bytes per call, and checks each call.
fn decode_all(
    decompressor: &mut Decompressor,
    input: &[u8],
    size: usize,
    most: usize,
) -> Result<Vec<u8>, (CodingFault, Vec<u8>)> {
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        let mut rest = piece;
        loop {
            let before = out.len();
            let progress = decompressor.decode(rest, &mut out, most).map_err(|fault| (fault, out.clone()))?;
            rest = &rest[progress.consumed..];
            let given = out.len() - before;
            assert!(given <= most);
            match progress.output {
                Output::Held => assert_eq!(given, most),
                Output::Given => break,
            }
        }
        assert!(rest.is_empty());
        let before = out.len();
        let nothing = Progress { consumed: 0, output: Output::Given };
        assert_eq!(decompressor.decode(&[], &mut out, most), Ok(nothing));
        assert_eq!(out.len(), before, "available content was withheld");
    }
    Ok(out)
}

fn read(coding: Coding, input: &[u8]) -> Result<Vec<u8>, CodingFault> {
    let mut decompressor = Decompressor::new(coding);
    let out = decode_all(&mut decompressor, input, usize::MAX, usize::MAX).map_err(|(fault, _)| fault)?;
    decompressor.finish().map(|()| out)
}

#[test]
fn names_of_codings() {
    for (value, expected) in [
        ("", Ok(None)),
        ("identity", Ok(None)),
        (" Identity , ", Ok(None)),
        ("gzip", Ok(Some(Coding::Gzip))),
        ("x-gzip", Ok(Some(Coding::Gzip))),
        ("GZip", Ok(Some(Coding::Gzip))),
        ("\tdeflate ", Ok(Some(Coding::Deflate))),
        ("br", Ok(Some(Coding::Brotli))),
        ("zstd", Ok(Some(Coding::Zstd))),
        (",gzip,identity", Ok(Some(Coding::Gzip))),
        ("gzip, br", Err(UnknownCoding)),
        ("gzip,gzip", Err(UnknownCoding)),
        ("compress", Err(UnknownCoding)),
        ("dcb", Err(UnknownCoding)),
        ("gzip;q=1", Err(UnknownCoding)),
        ("\u{1f4a5}", Err(UnknownCoding)),
    ] {
        assert_eq!(Coding::of(value.as_bytes()), expected, "{value:?}");
    }
}

#[test]
fn pieces_of_every_size_give_the_whole() {
    for (coding, stream) in coded_events() {
        for size in 1..=stream.len() {
            for most in [1, 7, 1000] {
                let mut decompressor = Decompressor::new(coding);
                assert_eq!(decode_all(&mut decompressor, &stream, size, most).unwrap(), EVENTS.concat(), "{coding:?}");
                assert_eq!(decompressor.finish(), Ok(()), "{coding:?} {size}");
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_a_fault() {
    for (coding, stream) in coded_events() {
        for end in 0..stream.len() {
            assert_eq!(read(coding, &stream[..end]), Err(CodingFault::Truncated), "{coding:?} {end}");
        }
    }
}

#[test]
fn bytes_behind_the_end_are_a_fault() {
    for (coding, stream) in coded_events() {
        for garbage in [&b"\0"[..], b"x", b"\0\0\0\0\0\0\0\0\0\0\0\0", b"data: x\n\n"] {
            let long = [&stream, garbage].concat();
            assert_eq!(read(coding, &long), Err(CodingFault::TrailingBytes), "{coding:?} {garbage:?}");
            for size in [1, 3] {
                let mut decompressor = Decompressor::new(coding);
                let (fault, out) = decode_all(&mut decompressor, &long, size, 100).unwrap_err();
                assert_eq!(out, EVENTS.concat(), "valid content is returned");
                assert_eq!(decompressor.finish(), Err(fault));
            }
        }
    }
}

#[test]
fn each_flushed_event_comes_out_at_once() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let mut flushed: Vec<(Coding, Vec<Vec<u8>>)> = vec![
        (Coding::Gzip, Vec::new()),
        (Coding::Deflate, Vec::new()),
        (Coding::Zstd, Vec::new()),
        (Coding::Brotli, BROTLI_FLUSHED.iter().map(|piece| unhex(piece)).collect()),
    ];
    for event in EVENTS {
        gzip.write_all(event).unwrap();
        gzip.flush().unwrap();
        flushed[0].1.push(std::mem::take(gzip.get_mut()));
        zlib.write_all(event).unwrap();
        zlib.flush().unwrap();
        flushed[1].1.push(std::mem::take(zlib.get_mut()));
        zstd.write_all(event).unwrap();
        zstd.flush().unwrap();
        flushed[2].1.push(std::mem::take(zstd.get_mut()));
    }
    flushed[0].1.push(gzip.finish().unwrap());
    flushed[1].1.push(zlib.finish().unwrap());
    flushed[2].1.push(zstd.finish().unwrap());
    for (coding, pieces) in flushed {
        for size in [1, usize::MAX] {
            let mut decompressor = Decompressor::new(coding);
            for (piece, event) in pieces.iter().zip(EVENTS) {
                assert_eq!(decode_all(&mut decompressor, piece, size, 1000).unwrap(), event, "{coding:?}");
                assert_eq!(decompressor.finish(), Err(CodingFault::Truncated));
            }
            assert_eq!(decode_all(&mut decompressor, &pieces[3], size, 1000), Ok(Vec::new()), "{coding:?}");
            assert_eq!(decompressor.finish(), Ok(()));
        }
    }
}

/// A gzip member with every optional field; `damage` is added to its header checksum.
fn gzip_with_all_fields(content: &[u8], damage: u16) -> Vec<u8> {
    let mut encoder = GzBuilder::new()
        .extra(vec![0, 1, 2, 0x1f, 0x8b])
        .filename("name")
        .comment("some words")
        .write(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    let mut member = encoder.finish().unwrap();
    let header = 10 + 2 + 5 + 5 + 11;
    member[3] |= 2;
    let mut crc = Crc::new();
    crc.update(&member[..header]);
    let sum = (crc.sum() as u16 ^ damage).to_le_bytes();
    member.splice(header..header, sum);
    member
}

#[test]
fn gzip_headers_are_read() {
    let member = gzip_with_all_fields(b"content", 0);
    for size in 1..member.len() {
        let mut decompressor = Decompressor::new(Coding::Gzip);
        assert_eq!(decode_all(&mut decompressor, &member, size, 1000).unwrap(), b"content");
        assert_eq!(decompressor.finish(), Ok(()));
    }
    for damage in [1, 0x100, 0x8000] {
        let damaged = gzip_with_all_fields(b"content", damage);
        assert_eq!(read(Coding::Gzip, &damaged), Err(CodingFault::Checksum));
    }
    let plain = gzip(b"content");
    for (place, value) in [(0, 0x1e), (1, 0x8a), (2, 7), (3, 0x20), (3, 0x80)] {
        let mut damaged = plain.clone();
        damaged[place] = value;
        assert_eq!(read(Coding::Gzip, &damaged), Err(CodingFault::Malformed), "{place}");
    }
    // An empty extra field, and the flag for text.
    let mut extra = plain.clone();
    extra[3] = 1 | 4;
    extra.splice(10..10, [0, 0]);
    assert_eq!(read(Coding::Gzip, &extra).unwrap(), b"content");
    // A name without terminator.
    let mut endless = plain;
    endless[3] = 8;
    endless.truncate(10);
    endless.resize(GZIP_HEADER_BYTES + 1, b'x');
    assert_eq!(read(Coding::Gzip, &endless), Err(CodingFault::Malformed));
}

#[test]
fn members_and_frames_stand_in_a_row() {
    let gzips = [gzip(b"one "), gzip(b""), gzip_with_all_fields(b"two ", 0), gzip(b"three")].concat();
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(); // RFC 8878 3.1.2
    let zstds = [zstd(b"one "), skipped.clone(), zstd(b""), zstd(b"two "), zstd(b"three"), skipped].concat();
    for (coding, stream) in [(Coding::Gzip, gzips), (Coding::Zstd, zstds)] {
        for size in 1..=stream.len() {
            for most in [1, 100] {
                let mut decompressor = Decompressor::new(coding);
                assert_eq!(decode_all(&mut decompressor, &stream, size, most).unwrap(), b"one two three");
                assert_eq!(decompressor.finish(), Ok(()), "{coding:?} {size} {most}");
            }
        }
    }
}

#[test]
fn damage_is_never_taken_for_content() {
    // Brotli has no checksum: corruption can go unnoticed, as without any coding.
    for (coding, stream) in coded(&EVENTS.concat()) {
        if coding == Coding::Deflate && stream[0] != 0x78 {
            continue; // raw data has no checksum either
        }
        for bit in 0..stream.len() * 8 {
            let mut damaged = stream.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(content) = read(coding, &damaged) {
                assert_eq!(content, EVENTS.concat(), "{coding:?} {bit}");
            }
        }
    }
    let mut wrong = gzip(b"content");
    let sum = wrong.len() - 8;
    wrong[sum] ^= 1;
    assert_eq!(read(Coding::Gzip, &wrong), Err(CodingFault::Checksum));
    let mut wrong = gzip(b"content");
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(read(Coding::Gzip, &wrong), Err(CodingFault::Checksum));
}

#[test]
fn a_fault_stays() {
    let mut decompressor = Decompressor::new(Coding::Gzip);
    let mut out = Vec::new();
    assert_eq!(decompressor.decode(b"plain text", &mut out, 100), Err(CodingFault::Malformed));
    assert_eq!(decompressor.decode(&gzip(b"x"), &mut out, 100), Err(CodingFault::Malformed));
    assert_eq!(decompressor.finish(), Err(CodingFault::Malformed));
    assert!(out.is_empty());
}

#[test]
fn bombs_are_put_out() {
    let zeros = vec![0; 64 << 20];
    let mut bombs = coded(&zeros);
    bombs.push((Coding::Brotli, unhex(BROTLI_BOMB)));
    for (coding, bomb) in bombs {
        let mut decompressor = Decompressor::new(coding);
        let (fault, out) = decode_all(&mut decompressor, &bomb, 1 << 14, 1 << 16).unwrap_err();
        assert_eq!(fault, CodingFault::Bomb, "{coding:?}");
        let bound = DECODED_FREE_BYTES.max(bomb.len() as u64 * DECODED_RATIO) + DECODED_STEP_BYTES as u64;
        assert!(out.len() as u64 <= bound, "{coding:?} {}", out.len());
    }
    // Short answers are exempt from the ratio.
    let short = &zeros[..DECODED_FREE_BYTES as usize];
    for (coding, stream) in coded(short) {
        assert_eq!(read(coding, &stream).unwrap().len(), short.len(), "{coding:?}");
    }
}

#[test]
fn windows_of_zstd_have_a_bound() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(read(Coding::Zstd, &zstd_with(&content, 3, ZSTD_WINDOW_LOG)).unwrap(), content);
    assert_eq!(read(Coding::Zstd, &zstd_with(&content, 3, ZSTD_WINDOW_LOG + 1)), Err(CodingFault::Malformed));
}

#[test]
fn any_content_comes_back() {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        ("[a-c]{0,20}", 0..3000usize).prop_map(|(word, count)| word.repeat(count).into_bytes()),
    ];
    law(60, (content, 1..2000usize, 1..20_000usize), |(content, size, most)| {
        for (coding, stream) in coded(&content) {
            let mut decompressor = Decompressor::new(coding);
            let out = decode_all(&mut decompressor, &stream, size, most);
            prop_assert_eq!(out.as_ref(), Ok(&content));
            prop_assert_eq!(decompressor.finish(), Ok(()));
        }
        Ok(())
    });
}

#[test]
fn garbage_is_survived() {
    let streams = coded_events();
    let input =
        (prop::collection::vec(any::<u8>(), 0..300), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    law(1000, (input, 1..40usize), |((bytes, which, place), size)| {
        let (coding, stream) = &streams[which.index(streams.len())];
        let cut = place.index(stream.len());
        // From the start, and after a valid prefix.
        for input in [bytes.clone(), [&stream[..cut], &bytes].concat()] {
            let mut decompressor = Decompressor::new(*coding);
            let _ = decode_all(&mut decompressor, &input, size, 1 << 20);
            let _ = decompressor.finish();
        }
        Ok(())
    });
}
