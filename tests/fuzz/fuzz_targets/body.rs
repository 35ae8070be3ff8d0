//! Bodies of any bytes: no panic, progress in every step, and pieces give what the whole gives.
//! The first byte chooses the framing, the second the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::body::{Body, BodyFault, Decoder};
use ringway::wire::http1::{Framing, encode};

fuzz_target!(|input: &[u8]| {
    let [choice, cut, rest @ ..] = input else { return };
    let framing = match choice % 4 {
        0 => Framing::Length(u64::from(choice / 4)),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let whole = read(framing, &[rest]);
    let size = usize::from(*cut).max(1);
    assert!(read(framing, &rest.chunks(size).collect::<Vec<_>>()) == whole);
    assert!(read(framing, &rest.chunks(1).collect::<Vec<_>>()) == whole);

    // What is written as chunks is read back.
    let mut written = Vec::new();
    for piece in rest.chunks(size) {
        encode::chunk(&mut written, piece);
    }
    written.extend_from_slice(encode::LAST_CHUNK);
    assert!(read(Framing::Chunked, &[&written]) == Ok((rest.to_vec(), written.len(), Body::Done)));
});

/// Content, bytes consumed, and whether the body was over.
fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, Body), BodyFault> {
    let mut decoder = Decoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !decoder.is_done() {
            let step = decoder.decode(rest)?;
            assert!(step.consumed > 0 && step.consumed <= rest.len());
            assert!(step.data.start <= step.data.end && step.data.end <= step.consumed);
            assert!((step.state == Body::Done) == decoder.is_done());
            content.extend_from_slice(&rest[step.data.clone()]);
            consumed += step.consumed;
            rest = &rest[step.consumed..];
        }
    }
    let state = if decoder.is_done() { Body::Done } else { Body::More };
    let ends_well = state == Body::Done || framing == Framing::UntilClose;
    assert!(decoder.eof().is_ok() == ends_well);
    Ok((content, consumed, state))
}
