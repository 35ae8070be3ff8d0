//! `traceparent` out of arbitrary bytes: what is read is written so that it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::trace_context::TraceParent;

fuzz_target!(|input: &[u8]| {
    if let Some(read) = TraceParent::parse(input) {
        assert!(read.trace_id != [0; 16] && read.parent_id != [0; 8]);
        assert_eq!(TraceParent::parse(&read.write()), Some(read));
    }
});
