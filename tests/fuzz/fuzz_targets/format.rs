//! Arbitrary bytes as MessagePack and as a Struct: what is understood is JSON within its bound, and the same document again after a
//! way there and back. Arbitrary JSON in either: what is written is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::format::Format;

const MAX: usize = 64 << 10;

fn read(format: Format, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    format.to_json(bytes, MAX, &mut out).ok()?;
    assert!(out.len() <= MAX);
    Some(out)
}

fuzz_target!(|input: &[u8]| {
    for format in [Format::MessagePack, Format::Protobuf] {
        if let Some(json) = read(format, input) {
            let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            if format == Format::MessagePack || value.is_object() {
                let again = read(format, &format.from_json(&json).expect("it was in this format"));
                if let Some(again) = again {
                    serde_json::from_slice::<serde_json::Value>(&again).expect("JSON");
                }
            }
        }
        if let Ok(bytes) = format.from_json(input) {
            // No more than six bytes for one, in an escape, or eighteen for a digit.
            let mut out = Vec::new();
            format.to_json(&bytes, usize::MAX, &mut out).expect("what was written");
        }
    }
});
