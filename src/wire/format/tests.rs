//! Documents to JSON and back: the bytes are those of the specifications; and any bytes at all.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::wire::json::tests::law;

const MAX: usize = 1 << 20;

fn read(format: Format, document: &[u8]) -> Result<String, FormatFault> {
    let mut out = Vec::new();
    format.to_json(document, MAX, &mut out).map(|()| String::from_utf8(out).expect("JSON is UTF-8"))
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.replace(' ', "").as_bytes()).expect("hex")
}

#[test]
fn messagepack_is_read_as_its_specification_has_it() {
    use FormatFault::*;
    let table: &[(&str, Result<&str, FormatFault>)] = &[
        ("c0", Ok("null")),
        ("c2", Ok("false")),
        ("c3", Ok("true")),
        ("7f", Ok("127")),
        ("e0", Ok("-32")),
        ("cc ff", Ok("255")),
        ("cd ff ff", Ok("65535")),
        ("ce ff ff ff ff", Ok("4294967295")),
        ("cf ff ff ff ff ff ff ff ff", Ok("18446744073709551615")),
        ("d0 80", Ok("-128")),
        ("d1 80 00", Ok("-32768")),
        ("d2 80 00 00 00", Ok("-2147483648")),
        ("d3 80 00 00 00 00 00 00 00", Ok("-9223372036854775808")),
        ("ca 3d cc cc cd", Ok("0.1")),
        ("cb 3f b9 99 99 99 99 99 9a", Ok("0.1")),
        ("a5 68 65 6c 6c 6f", Ok("\"hello\"")),
        ("a3 22 5c 0a", Ok(r#""\"\\\n""#)),
        ("d9 01 61", Ok("\"a\"")),
        ("da 00 01 61", Ok("\"a\"")),
        ("db 00 00 00 01 61", Ok("\"a\"")),
        ("90", Ok("[]")),
        ("93 01 02 03", Ok("[1,2,3]")),
        ("dc 00 01 c0", Ok("[null]")),
        ("dd 00 00 00 01 c0", Ok("[null]")),
        ("82 a1 61 01 a1 62 80", Ok(r#"{"a":1,"b":{}}"#)),
        ("de 00 01 a1 61 01", Ok(r#"{"a":1}"#)),
        ("df 00 00 00 01 d9 01 61 01", Ok(r#"{"a":1}"#)),
        // Twice: for the reader of the JSON to refuse.
        ("82 a1 61 01 a1 61 02", Ok(r#"{"a":1,"a":2}"#)),
        ("", Err(Truncated)),
        ("a5 68", Err(Truncated)),
        ("dd ff ff ff ff c0", Err(Truncated)),
        ("db ff ff ff ff 61", Err(Truncated)),
        ("c0 c0", Err(TrailingBytes)),
        ("c1", Err(Malformed)),
        ("c4 01 00", Err(Binary)),
        ("d6 ff 00 00 00 00", Err(Binary)),
        ("c7 00 01", Err(Binary)),
        ("a1 ff", Err(NotUtf8)),
        ("ca 7f 80 00 00", Err(NotFinite)),
        ("cb 7f f8 00 00 00 00 00 00", Err(NotFinite)),
        ("81 01 01", Err(KeyNotText)),
    ];
    for (document, expected) in table {
        assert_eq!(
            read(Format::MessagePack, &hex(document)).as_deref().map_err(|fault| *fault),
            *expected,
            "{document}"
        );
    }
}

#[test]
fn structs_are_read_as_protocol_buffers_have_them() {
    use FormatFault::*;
    let table: &[(&str, Result<&str, FormatFault>)] = &[
        ("", Ok("{}")),
        // fields { key: "a" value { number_value: 1 } }
        ("0a 0e 0a 01 61 12 09 11 00 00 00 00 00 00 f0 3f", Ok(r#"{"a":1}"#)),
        ("0a 0e 0a 01 61 12 09 11 00 00 00 00 00 00 f8 3f", Ok(r#"{"a":1.5}"#)),
        ("0a 08 0a 01 61 12 03 1a 01 62", Ok(r#"{"a":"b"}"#)),
        // The fields of an entry in the other order, and a key that is left out.
        ("0a 08 12 03 1a 01 62 0a 01 61", Ok(r#"{"a":"b"}"#)),
        ("0a 05 12 03 1a 01 62", Ok(r#"{"":"b"}"#)),
        ("0a 07 0a 01 61 12 02 20 01", Ok(r#"{"a":true}"#)),
        ("0a 07 0a 01 61 12 02 08 00", Ok(r#"{"a":null}"#)),
        ("0a 07 0a 01 61 12 02 2a 00", Ok(r#"{"a":{}}"#)),
        ("0a 0d 0a 01 61 12 08 32 06 0a 02 20 00 0a 00", Err(Malformed)),
        ("0a 0b 0a 01 61 12 06 32 04 0a 02 20 00", Ok(r#"{"a":[false]}"#)),
        ("0a 0e 0a 01 61 12 09 11 00 00 00 00 00 00 f0 7f", Err(NotFinite)),
        ("0a 08 0a 01 ff 12 03 1a 01 62", Err(NotUtf8)),
        ("0a 08 0a 01 61 12 03 1a 01", Err(Truncated)),
        ("0a ff ff ff ff ff ff ff ff ff 01", Err(Truncated)),
        // Another message: what is not known is not passed over.
        ("10 01", Err(Malformed)),
        ("0a 03 0a 01 61", Err(Malformed)),
        // Two values where there is one.
        ("0a 09 0a 01 61 12 04 20 01 20 00", Err(Malformed)),
        ("0d 00 00 00 00", Err(Malformed)),
    ];
    for (document, expected) in table {
        assert_eq!(read(Format::Protobuf, &hex(document)).as_deref().map_err(|fault| *fault), *expected, "{document}");
    }
}

fn documents() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-(1_i64 << 53) + 1..1 << 53).prop_map(Json::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite() && number.fract() != 0.0).prop_map(Json::from),
        ".{0,40}".prop_map(Json::from),
        prop::collection::vec(-5_i64..300, 0..6).prop_map(Json::from),
    ];
    let inner = scalar.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            prop::collection::vec(("[a-z\"\\\\é]{0,40}", inner), 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    });
    prop::collection::vec(("[a-z]{0,9}", inner), 0..8).prop_map(|members| members.into_iter().collect())
}

#[test]
fn what_is_written_is_read_again() {
    for format in [Format::Json, Format::MessagePack, Format::Protobuf] {
        law(500, documents(), |document| {
            let text = document.to_string();
            let bytes = format.from_json(text.as_bytes()).expect("an object");
            let again: Json = serde_json::from_str(&read(format, &bytes).expect("what was written")).expect("JSON");
            prop_assert!(same(&again, &document), "{format:?}: {again} of {document}");
            Ok(())
        });
    }
}

/// But for how numbers are spelled.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|((a, one), (b, other))| a == b && same(one, other))
        }
        _ => one == other,
    }
}

#[test]
fn any_bytes_are_json_or_a_fault() {
    for format in [Format::MessagePack, Format::Protobuf] {
        law(2000, prop::collection::vec(any::<u8>(), 0..60), |bytes| {
            if let Ok(text) = read(format, &bytes) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{text}");
            }
            Ok(())
        });
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
    assert!(read(Format::MessagePack, &nested(FORMAT_DEPTH)).is_ok());
    assert_eq!(read(Format::MessagePack, &nested(FORMAT_DEPTH + 1)), Err(FormatFault::TooDeep));
    assert_eq!(read(Format::MessagePack, &vec![0x91; 1 << 20]), Err(FormatFault::TooDeep));
    let json = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    for format in [Format::MessagePack, Format::Protobuf] {
        let deepest = format.from_json(json(FORMAT_DEPTH - 1).as_bytes()).expect("not too deep");
        assert_eq!(read(format, &deepest), Ok(json(FORMAT_DEPTH - 1)));
        assert_eq!(format.from_json(json(FORMAT_DEPTH).as_bytes()), Err(FormatFault::TooDeep));
    }
    // A million control characters of one byte are six million bytes of JSON.
    let (mut out, max) = (Vec::new(), 1_000);
    let text = [&b"\xdc\x10\x00"[..], &b"\xa3\x01\x01\x01".repeat(4096)].concat();
    assert_eq!(Format::MessagePack.to_json(&text, max, &mut out), Err(FormatFault::TooLarge));
    assert!(out.len() < max + 100, "{}", out.len());
    assert_eq!(Format::Json.to_json(&[b' '; 11], 10, &mut Vec::new()), Err(FormatFault::TooLarge));
    assert_eq!(Format::Protobuf.from_json(b"[1]"), Err(FormatFault::NotAnObject));
    assert_eq!(Format::MessagePack.from_json(b"1e999"), Err(FormatFault::NotFinite));
    assert!(matches!(Format::MessagePack.from_json(b"{"), Err(FormatFault::Json(_))));
}

#[test]
fn the_answers_format_is_the_one_that_is_wanted_most() {
    use Format::*;
    let of = |values: &[&str]| {
        let mut accepted = Accepted::default();
        values.iter().for_each(|value| accepted.note(value.as_bytes()));
        accepted.format()
    };
    for (values, expected) in [
        (&[][..], Json),
        (&["*/*"], Json),
        (&["application/json"], Json),
        (&["text/event-stream"], Json),
        (&["application/msgpack"], MessagePack),
        (&["Application/X-MsgPack; charset=binary"], MessagePack),
        (&["application/vnd.msgpack, application/json"], MessagePack),
        (&["application/json, application/vnd.msgpack"], Json),
        (&["application/json;q=0.5, application/protobuf"], Protobuf),
        (&["application/json;q=0.5", "application/protobuf;q=0.9"], Protobuf),
        (&["application/msgpack;q=0"], Json),
        (&["application/msgpack;q=x, application/protobuf;q=0.1"], Protobuf),
        (&["application/x-protobuf; messageType=\"google.protobuf.Struct\""], Protobuf),
        (&["*/*;q=0.1, application/msgpack;q=0.2"], MessagePack),
        (&[",, ;q=1"], Json),
    ] {
        assert_eq!(of(values), expected, "{values:?}");
    }
    assert_eq!(Format::of_content_type(b"application/msgpack; x=y"), MessagePack);
    assert_eq!(Format::of_content_type(b"application/json"), Json);
    assert_eq!(Format::of_content_type(b"text/plain"), Json);
}
