//! Delays: tables of what backends send, and a property against a calendar that counts days one by one.

use super::wait_ms;
use crate::wire::json::tests::law;
use proptest::prelude::*;

/// 1994-11-06 08:49:37 UTC, the RFC's example.
const EXAMPLE_MS: u64 = 784_111_777_000;

fn wait(retry_after: &str) -> Option<u64> {
    wait_ms(Some(retry_after.as_bytes()), None, EXAMPLE_MS - 10_000)
}

#[test]
fn seconds_are_read() {
    for (value, expected) in [
        ("0", Some(0)),
        ("2", Some(2000)),
        (" 2 ", Some(2000)),
        ("120", Some(120_000)),
        ("1.5", Some(1500)),
        ("0.020", Some(20)),
        ("0.0001", Some(1)),
        ("1.9999", Some(2000)),
        (".5", Some(500)),
        ("3.", Some(3000)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("18446744073709551615.9", Some(u64::MAX)),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1 2", None),
        ("1,5", None),
        ("1.2.3", None),
        (".", None),
        ("", None),
        ("soon", None),
        ("NaN", None),
        ("inf", None),
        ("\u{661}", None),
    ] {
        assert_eq!(wait(value), expected, "{value:?}");
    }
}

#[test]
fn milliseconds_win_where_they_can_be_read() {
    let both = |seconds: Option<&str>, ms: &str| wait_ms(seconds.map(str::as_bytes), Some(ms.as_bytes()), 0);
    assert_eq!(both(Some("9"), "250"), Some(250));
    assert_eq!(both(None, "250.4"), Some(251));
    assert_eq!(both(None, "0"), Some(0));
    assert_eq!(both(Some("9"), "-3"), Some(9000));
    assert_eq!(both(Some("9"), ""), Some(9000));
    assert_eq!(both(None, "later"), None);
    assert_eq!(wait_ms(None, None, 0), None);
}

#[test]
fn dates_are_read() {
    for (value, expected) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(10_000)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(10_000)),
        ("Sun Nov  6 08:49:37 1994", Some(10_000)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_410_000)),
        // A date in the past.
        ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Friday, 31-Dec-93 23:59:59 GMT", Some(0)),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1969 08:49:37 GMT", None),
        ("06 Nov 1994 08:49:37 GMT", None),
        (",", None),
        ("Sun,", None),
    ] {
        assert_eq!(wait(value), expected, "{value:?}");
    }
    assert_eq!(wait_ms(Some(b"Sun, 06 Nov\xff"), None, 0), None);
}

#[test]
fn any_bytes_are_survived() {
    let near = "[0-9A-Za-z,:. -]{0,40}|(Sun, |Sunday, |Sun )[0-9]{1,3}[ -](Nov|Feb)[ -][0-9]{1,5} [0-9:]{0,9} GMT";
    law(3000, (near, prop::collection::vec(any::<u8>(), 0..40), any::<u64>()), |(near, bytes, unix_ms)| {
        for value in [near.as_bytes(), &bytes] {
            wait_ms(Some(value), None, unix_ms);
            wait_ms(None, Some(value), unix_ms);
        }
        Ok(())
    });
}
