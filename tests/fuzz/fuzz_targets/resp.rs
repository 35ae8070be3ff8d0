//! Replies of Redis in arbitrary bytes: a prefix of a reply is no other reply, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::resp::reply;

fuzz_target!(|input: &[u8]| {
    let most_bytes = 1 << 16;
    if let Ok(Some((first, length))) = reply(input, most_bytes) {
        assert!(length <= input.len());
        assert_eq!(reply(&input[..length], most_bytes), Ok(Some((first, length))));
        for cut in (0..length).step_by(1 + length / 64) {
            assert!(!matches!(reply(&input[..cut], most_bytes), Ok(Some(_))), "cut at {cut}");
        }
    }
});
