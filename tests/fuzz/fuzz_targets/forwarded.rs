//! What proxies say of a client, out of arbitrary bytes: where it is cut into two fields, or empty elements stand beside it, it says
//! the same; what is behind an element that is no address does not depend on what is before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::forwarded::{Form, client};

fuzz_target!(|input: &[u8]| {
    let is_trusted = |address: std::net::IpAddr| address.is_loopback();
    for form in [Form::XForwardedFor, Form::Forwarded] {
        let says = |values: &[&[u8]]| client(values.iter().copied(), form, is_trusted);
        let whole = says(&[input]);
        assert_eq!(says(&[b" ,", input]), whole);
        if form == Form::XForwardedFor {
            let comma = input.iter().position(|byte| *byte == b',');
            if let Some(at) = comma {
                assert_eq!(says(&[&input[..at], &input[at + 1..]]), whole);
            }
            assert_eq!(says(&[b"1.2.3.4, no address", input]), whole);
        }
    }
});
