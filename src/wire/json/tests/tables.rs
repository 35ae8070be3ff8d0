//! Accepted and refused inputs, and the bounds.

use crate::limits::{JSON_DEPTH, JSON_NODES};
use crate::wire::json::JsonFaultKind::*;
use crate::wire::json::*;

fn fault(input: &[u8]) -> Option<JsonFault> {
    parse(input, &mut Tape::new()).err()
}

#[test]
fn valid_inputs_are_taken() {
    for input in [
        "null",
        " true ",
        "\t\r\nfalse\n",
        "0",
        "-0",
        "-1",
        "1.5",
        "1E5",
        "1e+5",
        "1e-5",
        "0e0",
        "0.0000",
        "-0.1e-9",
        "123456789012345678901234567890",
        "1e999",
        "-1e-99999999999999999999",
        r#""""#,
        r#""a""#,
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1]",
        "[1,2 , 3]",
        "[[],[[]],{}]",
        r#"{"a":1}"#,
        r#"{"":0}"#,
        r#"{"a":{"a":{"a":[]}}}"#,
        r#""\"\\\/\b\f\n\r\t\u0000\uFFFF\uabcd""#,
        r#""\ud83d\ude00""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud800\u0041""#,
        "\"\u{7f}\u{80}\u{2028}\u{10ffff}\"",
        "[0.1e1,null,true,\"x\"]",
        r#"{"a":1,"A":2,"a ":3,"aa":4}"#,
        "\"012345678901234567890123456789012345678901234567890123456789\"",
    ] {
        assert_eq!(fault(input.as_bytes()), None, "{input}");
    }
}

#[test]
fn invalid_inputs_are_refused_with_the_place() {
    let cases: &[(&[u8], usize, JsonFaultKind)] = &[
        (b"", 0, UnexpectedEnd),
        (b"  ", 2, UnexpectedEnd),
        (b"\xef\xbb\xbf1", 0, UnexpectedByte),
        (b"nul", 3, UnexpectedEnd),
        (b"nulL", 3, UnexpectedByte),
        (b"True", 0, UnexpectedByte),
        (b"NaN", 0, UnexpectedByte),
        (b"Infinity", 0, UnexpectedByte),
        (b"-Infinity", 1, BadNumber),
        (b"-", 1, UnexpectedEnd),
        (b"+1", 0, UnexpectedByte),
        (b".5", 0, UnexpectedByte),
        (b"1.", 2, UnexpectedEnd),
        (b"1.e1", 2, BadNumber),
        (b"1e", 2, UnexpectedEnd),
        (b"1e+", 3, UnexpectedEnd),
        (b"1ex", 2, BadNumber),
        (b"01", 1, TrailingBytes),
        (b"-01", 2, TrailingBytes),
        (b"[01]", 2, UnexpectedByte),
        (b"0x1", 1, TrailingBytes),
        (b"1 2", 2, TrailingBytes),
        (b"{} {}", 3, TrailingBytes),
        (b"[1]\0", 3, TrailingBytes),
        (b"\x0c1", 0, UnexpectedByte),
        (b"'a'", 0, UnexpectedByte),
        (b"\"", 1, UnexpectedEnd),
        (b"\"abc", 4, UnexpectedEnd),
        (b"\"a\\", 2, BadEscape),
        (b"\"\\x41\"", 1, BadEscape),
        (b"\"\\u12\"", 1, BadEscape),
        (b"\"\\u12g4\"", 1, BadEscape),
        (b"\"\\U0041\"", 1, BadEscape),
        (b"\"a\nb\"", 2, ControlInString),
        (b"\"\0\"", 1, ControlInString),
        (b"\"0123456789012345678901234567890123456789\x1f\"", 41, ControlInString),
        (b"\"\xff\"", 1, NotUtf8),
        (b"\"\xed\xa0\x80\"", 1, NotUtf8),
        (b"\"\xc0\xaf\"", 1, NotUtf8),
        (b"[", 1, UnexpectedEnd),
        (b"[1", 2, UnexpectedEnd),
        (b"[1,", 3, UnexpectedEnd),
        (b"[1,]", 3, UnexpectedByte),
        (b"[,1]", 1, UnexpectedByte),
        (b"[1 2]", 3, UnexpectedByte),
        (b"[1}", 2, UnexpectedByte),
        (b"]", 0, UnexpectedByte),
        (b"{", 1, UnexpectedEnd),
        (b"{\"a\"", 4, UnexpectedEnd),
        (b"{\"a\":", 5, UnexpectedEnd),
        (b"{\"a\" 1}", 5, UnexpectedByte),
        (b"{\"a\":1", 6, UnexpectedEnd),
        (b"{\"a\":1,", 7, UnexpectedEnd),
        (b"{\"a\":1,}", 7, UnexpectedByte),
        (b"{\"a\":1]", 6, UnexpectedByte),
        (b"{\"a\":1 \"b\":2}", 7, UnexpectedByte),
        (b"{a:1}", 1, UnexpectedByte),
        (b"{1:1}", 1, UnexpectedByte),
        (b"{,}", 1, UnexpectedByte),
        (b"{:1}", 1, UnexpectedByte),
        (b"[1]// x", 3, TrailingBytes),
        (b"/* x */1", 0, UnexpectedByte),
    ];
    for (input, offset, kind) in cases {
        assert_eq!(fault(input), Some(JsonFault { offset: *offset, kind: *kind }), "{}", input.escape_ascii());
    }
}

#[test]
fn duplicate_names_are_refused_at_the_second_one() {
    for (input, offset) in [
        (r#"{"a":1,"a":1}"#, 7),
        (r#"{"a":1,"b":2,"\u0061":3}"#, 13),
        (r#"{"\ud83d\ude00":1,"😀":2}"#, 18),
        (r#"{"":1,"":2}"#, 6),
        (r#"[{"x":{"longer than eight":1,"longer than eight":2}}]"#, 29),
        (r#"{"a\u0000":1,"a":2,"a\u0000":3}"#, 19),
    ] {
        assert_eq!(fault(input.as_bytes()), Some(JsonFault { offset, kind: DuplicateMember }), "{input}");
        assert_eq!(parse_unchecked_names(input.as_bytes(), &mut Tape::new()), Ok(()));
    }
    // The same name in different objects is not a duplicate.
    assert_eq!(fault(br#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#), None);
}

/// An object of `count` names with a long common prefix.
fn many_names(count: usize) -> String {
    let members: Vec<String> =
        (0..count).map(|place| format!("\"a shared beginning {}\":[{place}]", place * 7919 % count)).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn names_of_large_objects_are_ordered_and_checked() {
    for count in [15, 16, 17, 18, 100, 10_007] {
        let input = many_names(count);
        let mut tape = Tape::new();
        assert_eq!(parse(input.as_bytes(), &mut tape), Ok(()), "{count}");
        assert_eq!(tape.root().members().count(), count);
        let twice = format!("{},\"a shared beginning 7\":0}}", &input[..input.len() - 1]);
        let offset = input.len();
        assert_eq!(fault(twice.as_bytes()), Some(JsonFault { offset, kind: DuplicateMember }), "{count}");

        let mut reversed: Vec<&str> = input[1..input.len() - 1].split(',').collect();
        reversed.reverse();
        let reversed = format!("{{{}}}", reversed.join(","));
        let (mut one, mut other) = (Vec::new(), Vec::new());
        canonical(input.as_bytes(), &tape, &[], &mut one);
        parse(reversed.as_bytes(), &mut tape).unwrap();
        canonical(reversed.as_bytes(), &tape, &[], &mut other);
        assert!(one == other, "{count}");
    }
}

/// Names with long common prefixes, partly escaped, ending at an eight-byte boundary, or in zeros.
#[test]
fn names_of_every_length_are_kept_apart() {
    let mut names: Vec<String> = Vec::new();
    for length in 0..40 {
        names.push("n".repeat(length));
        names.push(format!("{}\\u0000", "n".repeat(length)));
        names.push(format!("\\u006e{}\\u0000\\u0000", "n".repeat(length)));
        names.push(format!("{}\\ud800", "n".repeat(length)));
    }
    let object = |names: &[String]| {
        let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    let input = object(&names);
    assert_eq!(fault(input.as_bytes()), None);
    let mut reversed = names.clone();
    reversed.reverse();
    assert_eq!(canon(&input, &[]), canon(&object(&reversed), &[]));
    for name in names.iter().step_by(7) {
        let respelled = name.replacen('n', "\\u006E", 1);
        let twice = object(&[names.clone(), vec![respelled]].concat());
        let offset = input.len();
        assert_eq!(fault(twice.as_bytes()), Some(JsonFault { offset, kind: DuplicateMember }), "{name}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert_eq!(fault(&nested(JSON_DEPTH)), None);
    assert_eq!(fault(&nested(JSON_DEPTH + 1)), Some(JsonFault { offset: JSON_DEPTH, kind: TooDeep }));
    assert_eq!(fault(&vec![b'['; 1 << 20]), Some(JsonFault { offset: JSON_DEPTH, kind: TooDeep }));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert_eq!(fault(objects(JSON_DEPTH).as_bytes()), None);
    assert_eq!(fault(objects(JSON_DEPTH + 1).as_bytes()).map(|fault| fault.kind), Some(TooDeep));
    // Depth is not the number of containers.
    assert_eq!(fault(format!("[{}[]]", "[],".repeat(1000)).as_bytes()), None);
}

#[test]
fn the_number_of_values_is_bounded() {
    let texts = |count: usize| format!("[{}\"\"]", "\"\",".repeat(count - 1));
    assert_eq!(fault(texts(JSON_NODES - 1).as_bytes()), None);
    assert_eq!(fault(texts(JSON_NODES).as_bytes()).map(|fault| fault.kind), Some(TooManyNodes));
    // No body within the default bound on its size can have too many values.
    let mixed = format!("[\"\",{}0]", "0,".repeat(5 << 20));
    assert_eq!(fault(mixed.as_bytes()), None);
}

#[test]
fn an_array_of_numbers_takes_next_to_no_room() {
    let mut tape = Tape::new();
    let tokens = format!("{{\"model\":\"m\",\"input\":[[{0}17], [{0}17 ]]}}", "50256, -1.5e3,\n".repeat(500_000));
    parse(tokens.as_bytes(), &mut tape).unwrap();
    assert!(tape.capacity_bytes() < 1000, "{}", tape.capacity_bytes());
    let mut form = Vec::new();
    canonical(tokens.as_bytes(), &tape, &[], &mut form);
    // With a string among them, they are parsed one by one.
    let with_text = canon(&tokens.replace("17]", "17,\"\"]").replace("17 ]", "17,\"\"]"), &[]);
    let text = b"s\0\0\0\0";
    let mut one_by_one = with_text.clone();
    for at in memchr::memmem::rfind_iter(&with_text, text) {
        one_by_one.drain(at..at + text.len());
    }
    assert_eq!(with_text.len(), form.len() + 2 * text.len());
    assert!(form == one_by_one);
}

/// A fault in an array of numbers is reported as for single numbers.
#[test]
fn rows_of_numbers_are_judged_like_others() {
    for (input, offset, kind) in [
        ("[1,2,]", 5, UnexpectedByte),
        ("[1,2", 4, UnexpectedEnd),
        ("[1,2,", 5, UnexpectedEnd),
        ("[1 2]", 3, UnexpectedByte),
        ("[1,02]", 4, UnexpectedByte),
        ("[1,-]", 4, BadNumber),
        ("[1,2.]", 5, BadNumber),
        ("[1,2}", 4, UnexpectedByte),
        ("[1,,2]", 3, UnexpectedByte),
    ] {
        assert_eq!(fault(input.as_bytes()), Some(JsonFault { offset, kind }), "{input}");
    }
    for input in ["[1]", "[ 1 ]", "[1,2 , 3]", "[1,\"a\",2]", "[1,[2,3],4]", "[1,{\"a\":[0]}]", "[-0.5e-7,1E5]"] {
        assert_eq!(fault(input.as_bytes()), None, "{input}");
    }
}

#[test]
fn an_outline_leaves_out_what_is_nested_deeper() {
    let input = br#"{"data":[{"e":[1,2,[3]]},{"e":[]}],"usage":{"n":7},"x":{}}"#;
    let mut tape = Tape::new();
    let count = |value: Value<'_>| value.members().count() + value.elements().count();
    for (levels, expected) in [(0, [0, 0, 0, 0]), (1, [3, 0, 0, 0]), (2, [3, 2, 1, 0]), (3, [3, 2, 1, 1])] {
        assert_eq!(parse_outline(input, &mut tape, levels), Ok(()));
        let root = tape.root();
        assert_eq!(root.span().of(input), input);
        let data = root.get(input, "data");
        let found = [
            count(root),
            data.map_or(0, count),
            root.get(input, "usage").map_or(0, count),
            data.and_then(|data| data.elements().next()).map_or(0, count),
        ];
        assert_eq!(found, expected, "{levels}");
    }
    // What is left out is still checked, but not counted.
    assert_eq!(parse_outline(b"[[1,]]", &mut tape, 1), Err(JsonFault { offset: 4, kind: UnexpectedByte }));
    assert_eq!(parse_outline(br#"[{"a":1,"a":1}]"#, &mut tape, 2).map_err(|fault| fault.kind), Err(DuplicateMember));
    let texts = format!("[[{}0]]", "\"\",".repeat(JSON_NODES));
    assert_eq!(parse_outline(texts.as_bytes(), &mut tape, 1), Ok(()));
    assert_eq!(parse_outline(&[b'['; JSON_DEPTH + 1], &mut tape, 1).map_err(|fault| fault.kind), Err(TooDeep));
}

#[test]
fn a_reused_tape_keeps_its_memory() {
    let input = many_names(500);
    let mut tape = Tape::new();
    parse(input.as_bytes(), &mut tape).unwrap();
    let warm = tape.capacity_bytes();
    for _ in 0..3 {
        parse(input.as_bytes(), &mut tape).unwrap();
        parse(b"[1, 2", &mut tape).unwrap_err();
    }
    assert_eq!(tape.capacity_bytes(), warm);
    tape.shrink(warm);
    assert_eq!(tape.capacity_bytes(), warm);
    tape.shrink(warm - 1);
    assert!(tape.capacity_bytes() < 1000);
    assert!(tape.root().is_null());
}

#[test]
fn values_are_found_and_read() {
    let input =
        br#" {"mod\u0065l" : "a\tb", "n": 42, "t":true, "list":[1,{"k":"v"},[]], "o":{}, "big":18446744073709551616} "#;
    let mut tape = Tape::new();
    parse(input, &mut tape).unwrap();
    let root = tape.root();
    let model = root.get(input, "model").unwrap();
    assert!(model.is_text(input, "a\tb") && !model.is_text(input, "a\\tb"));
    assert_eq!(model.span().of(input), br#""a\tb""#);
    assert_eq!(model.inside().unwrap().of(input), br"a\tb");
    assert_eq!(model.text(input, &mut Vec::new()).unwrap(), b"a\tb");
    assert_eq!((model.plain(input), model.has_escapes()), (None, true));
    assert_eq!(root.get(input, "n").unwrap().as_u64(input), Some(42));
    assert_eq!(root.get(input, "t").unwrap().as_bool(), Some(true));
    assert_eq!(root.get(input, "big").unwrap().as_u64(input), None);
    assert_eq!(root.get(input, "t").unwrap().as_u64(input), None);
    assert!(root.get(input, "absent").is_none());
    assert!(model.get(input, "x").is_none());
    let list = root.get(input, "list").unwrap();
    let kinds: Vec<Kind> = list.elements().map(Value::kind).collect();
    assert_eq!(kinds, [Kind::Number, Kind::Object, Kind::Array]);
    assert_eq!(list.span().of(input), br#"[1,{"k":"v"},[]]"#);
    assert_eq!(root.get(input, "o").unwrap().members().count(), 0);
    assert_eq!(root.members().next().unwrap().span().of(input), br#""mod\u0065l" : "a\tb""#);
    for number in ["-1", "1.0", "1e2", "99999999999999999999"] {
        parse(number.as_bytes(), &mut tape).unwrap();
        assert_eq!(tape.root().as_u64(number.as_bytes()), None, "{number}");
    }
}

fn canon(text: &str, skip: &[&str]) -> Vec<u8> {
    let mut tape = Tape::new();
    parse(text.as_bytes(), &mut tape).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let mut out = Vec::new();
    canonical(text.as_bytes(), &tape, skip, &mut out);
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
        ("1e0000000000000000000000000002", "100"),
        (r#""a\u0062\/""#, r#""ab/""#),
        (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
        (r#"{"a":1,"b":[2, 3]}"#, "{\"\\u0062\":[2,3],\n\"a\":1.0}"),
    ] {
        assert_eq!(canon(one, &[]), canon(other, &[]), "{one} and {other}");
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
        "1e99999999999999999",
    ];
    for (place, one) in texts.iter().enumerate() {
        for other in &texts[place + 1..] {
            assert_ne!(canon(one, &[]), canon(other, &[]), "{one} and {other}");
        }
    }
}

#[test]
fn skipped_members_are_left_out_of_the_root_only() {
    let skip = &["stream", "user"];
    let with = r#"{"str\u0065am":true,"m":{"stream":1},"user":"x"}"#;
    assert_eq!(canon(with, skip), canon(r#"{"m":{"stream":1}}"#, skip));
    assert_ne!(canon(with, skip), canon(r#"{"m":{}}"#, skip));
    assert_eq!(canon(r#"{"stream":1}"#, skip), canon("{}", &[]));
}

#[test]
fn the_canonical_form_is_appended_and_stable() {
    let input = br#"{"b":[null,true,-12.5e3],"a":"\u0041"}"#;
    let mut tape = Tape::new();
    parse(input, &mut tape).unwrap();
    let mut out = b"before".to_vec();
    canonical(input, &tape, &[], &mut out);
    // -12.5e3 = -125 * 10^2; zigzag(2) = 4.
    assert_eq!(out, b"before{s\x01\0\0\0as\x01\0\0\0As\x01\0\0\0b[nt-\x04\x03125]}");
}
