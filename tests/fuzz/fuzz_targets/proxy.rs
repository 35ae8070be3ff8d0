//! Headers of the PROXY protocol out of arbitrary bytes: a whole one ends where it ends, whatever follows, and is none before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::proxy::{Header, header};

fuzz_target!(|input: &[u8]| {
    if let Ok(Header::Complete { length, .. }) = header(input) {
        assert!(length <= input.len());
        assert_eq!(header(&input[..length]), header(input));
        assert!((0..length).all(|cut| header(&input[..cut]) == Ok(Header::Partial)));
    }
});
