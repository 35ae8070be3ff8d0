//! Coded bodies of any bytes: no panic, bounded output, progress in every call, and pieces give what the whole gives.
//! The first byte chooses the coding, the second the pieces and the bound of a call.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::limits::{DECODED_FREE_BYTES, DECODED_RATIO, DECODED_STEP_BYTES};
use ringway::wire::coding::{Coding, CodingFault, Decompressor, Output};

fuzz_target!(|input: &[u8]| {
    let _ = Coding::of(input);
    let [choice, cut, rest @ ..] = input else { return };
    let coding = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd][usize::from(choice % 4)];
    let (whole, end) = read(coding, rest, usize::MAX, usize::MAX);
    let (pieces, piecewise_end) = read(coding, rest, usize::from(*cut).max(1), usize::from(*choice / 4 + 1) * 64);
    // The ratio is looked at as often as there are steps, and those depend on the pieces.
    if end != Err(CodingFault::Bomb) && piecewise_end != Err(CodingFault::Bomb) {
        assert_eq!(end.is_ok(), piecewise_end.is_ok());
    }
    if end.is_ok() && piecewise_end.is_ok() {
        assert!(whole == pieces);
    } else {
        // How much of what stands before the fault is given depends on the pieces; what is given does not.
        let common = whole.len().min(pieces.len());
        assert!(whole[..common] == pieces[..common]);
    }
});

fn read(coding: Coding, input: &[u8], size: usize, most: usize) -> (Vec<u8>, Result<(), CodingFault>) {
    let mut decompressor = Decompressor::new(coding);
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        let mut rest = piece;
        loop {
            let before = out.len();
            let progress = match decompressor.decode(rest, &mut out, most) {
                Ok(progress) => progress,
                Err(fault) => {
                    assert_eq!(decompressor.finish(), Err(fault));
                    return (out, Err(fault));
                }
            };
            let given = out.len() - before;
            let ratio_bound = DECODED_FREE_BYTES.max(input.len() as u64 * DECODED_RATIO) + DECODED_STEP_BYTES as u64;
            assert!(given <= most && out.len() as u64 <= ratio_bound + DECODED_RATIO);
            rest = &rest[progress.consumed..];
            match progress.output {
                Output::Held => assert!(given == most),
                Output::Given => break,
            }
        }
        assert!(rest.is_empty());
    }
    (out, decompressor.finish())
}
