//! Tests of the scanner, the tape and the canonical form.

use super::*;

fn canon(text: &str) -> Vec<u8> {
    let mut tape = Tape::new();
    parse(text.as_bytes(), &mut tape).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let mut out = Vec::new();
    canonical(text.as_bytes(), &tape, &[], &mut out);
    out
}

#[test]
fn equal_meanings_have_equal_forms() {
    for (one, other) in [
        ("1", "1.0"),
        ("1", "1e0"),
        ("1", "10e-1"),
        ("1", "0.1E+1"),
        ("100", "1e2"),
        ("-0", "0"),
        ("0e999999999999999999999999", "-0.000"),
        ("12.50", "1250e-2"),
        (r#""a\u0062\/""#, r#""ab/""#),
        (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
        (r#"{"a":1,"b":[2, 3]}"#, "{\"\\u0062\":[2,3],\n\"a\":1.0}"),
    ] {
        assert_eq!(canon(one), canon(other), "{one} and {other}");
    }
}

#[test]
fn different_meanings_have_different_forms() {
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "10",
        "0.1",
        "1e9",
        "1e-9",
        r#""""#,
        r#""1""#,
        "[]",
        "{}",
        "[1]",
        "[[1]]",
        "[1,1]",
        "[11]",
        r#"{"":""}"#,
        r#"{"a":1}"#,
        r#"{"a":1,"b":1}"#,
        r#"["a",1]"#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800x""#,
        "1e999999999999999999999",
        "1e999999999999999999998",
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        r#""null""#,
    ];
    for (place, one) in texts.iter().enumerate() {
        for other in &texts[place + 1..] {
            assert_ne!(canon(one), canon(other), "{one} and {other}");
        }
    }
}
