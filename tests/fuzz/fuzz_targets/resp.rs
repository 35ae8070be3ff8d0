//! Replies of Redis in arbitrary bytes: a prefix of a reply is no other reply, and nothing panics; what clusters say of slots is
//! within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::cluster::{Redirection, SLOTS, slot, slots};
use ringway::wire::resp::reply;

fuzz_target!(|input: &[u8]| {
    let most_bytes = 1 << 16;
    assert!(slot(input) < SLOTS);
    if let Some(Redirection { slot, port, .. }) = Redirection::of(input) {
        assert!(slot < SLOTS && port > 0);
    }
    if let Ok(Some((first, length))) = reply(input, most_bytes) {
        assert!(length <= input.len());
        for range in slots(&first, input).unwrap_or_default() {
            assert!(range.first <= range.last && range.last < SLOTS && range.port > 0);
        }
        assert_eq!(reply(&input[..length], most_bytes), Ok(Some((first, length))));
        for cut in (0..length).step_by(1 + length / 64) {
            assert!(!matches!(reply(&input[..cut], most_bytes), Ok(Some(_))), "cut at {cut}");
        }
    }
});
