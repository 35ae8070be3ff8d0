//! Frames of a WebSocket out of arbitrary bytes: it does not matter in which pieces they pass by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::websocket::Frames;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else { return };
    let (mut whole, mut pieces) = (Frames::default(), Frames::default());
    whole.advance(input);
    let (front, rest) = input.split_at(usize::from(cut).min(input.len()));
    pieces.advance(front);
    rest.iter().for_each(|byte| pieces.advance(&[*byte]));
    assert_eq!(whole.may_close(), pieces.may_close());
});
