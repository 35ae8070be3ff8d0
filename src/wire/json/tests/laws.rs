//! Properties over generated values, spellings and corrupted inputs.

use super::law;
use super::model::{Json, Rng, json, read, spell};
use crate::wire::json::*;
use proptest::prelude::*;

fn spelled(value: &Json, seed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    spell(value, &mut Rng(seed), &mut out);
    out
}

fn canon(input: &[u8]) -> Result<Vec<u8>, JsonFault> {
    let mut tape = Tape::new();
    parse(input, &mut tape)?;
    let mut out = Vec::new();
    canonical(input, &tape, &[], &mut out);
    Ok(out)
}

#[test]
fn spelling_does_not_matter_to_the_canonical_form() {
    law(300, (json(), any::<u64>(), any::<u64>()), |(value, one, other)| {
        let (one, other) = (spelled(&value, one), spelled(&value, other));
        prop_assert_eq!(canon(&one), canon(&other), "{:?} {:?}", one.escape_ascii(), other.escape_ascii());
        Ok(())
    });
}

/// Parsed in slices of `most` bytes, and its canonical form in such pieces.
fn canon_in_slices(input: &[u8], most: usize) -> Result<Vec<u8>, JsonFault> {
    let (mut tape, mut slices) = (Tape::new(), Slices::new());
    while !slices.step(input, &mut tape, most)? {}
    let (mut out, mut piece, mut pieces) = (Vec::new(), Vec::new(), CanonicalSlices::default());
    loop {
        piece.clear();
        let is_last = pieces.step(input, &tape, &[], most, &mut piece);
        // What is not cut: a tag, a number, a character, closing brackets.
        assert!(piece.len() <= most + 64, "{} bytes in a slice of {most}", piece.len());
        out.extend_from_slice(&piece);
        if is_last {
            return Ok(out);
        }
    }
}

#[test]
fn slices_of_any_size_read_and_write_the_same() {
    law(500, (json(), any::<u64>(), 1..60usize), |(value, seed, most)| {
        let mut input = spelled(&value, seed);
        prop_assert_eq!(canon_in_slices(&input, most), canon(&input), "{:?} by {}", input.escape_ascii(), most);
        let at = seed as usize % input.len();
        input[at] = (seed >> 32) as u8;
        prop_assert_eq!(canon_in_slices(&input, most), canon(&input), "{:?} by {}", input.escape_ascii(), most);
        input.truncate(at);
        prop_assert_eq!(canon_in_slices(&input, most), canon(&input), "{:?} by {}", input.escape_ascii(), most);
        Ok(())
    });
}

#[test]
fn long_strings_and_lists_are_cut_into_slices() {
    let text = r#"a\u00e9\ud83d\ude00"é\n"#.replace('"', "\\\"").repeat(2_000);
    let plain = "x".repeat(50_000);
    let numbers = "1, -2.50e3,".repeat(5_000);
    for input in [
        format!(r#"{{"a":"{plain}","b":"{text}","c":[{numbers}0]}}"#),
        format!(r#"{{"{text}":[{numbers}"{plain}"]}}"#),
        format!(r#"["{text}",[{numbers}[]]]"#),
    ] {
        let (mut tape, mut slices, mut steps) = (Tape::new(), Slices::new(), 0);
        while !slices.step(input.as_bytes(), &mut tape, 1_000).unwrap() {
            steps += 1;
        }
        assert!(steps >= 2 * (input.len() / 1_000) - 20, "{steps} slices for {} bytes", input.len());
        assert_eq!(canon_in_slices(input.as_bytes(), 1_000), canon(input.as_bytes()));
    }
}

#[test]
fn the_tape_reads_back_what_was_written() {
    law(300, (json(), any::<u64>()), |(value, seed)| {
        let input = spelled(&value, seed);
        let mut tape = Tape::new();
        prop_assert_eq!(parse(&input, &mut tape), Ok(()));
        prop_assert_eq!(read(tape.root(), &input), value.clone());
        prop_assert_eq!(parse_unchecked_names(&input, &mut tape), Ok(()));
        prop_assert_eq!(read(tape.root(), &input), value);
        Ok(())
    });
}

#[test]
fn different_values_have_different_canonical_forms() {
    law(500, (json(), json(), any::<u64>()), |(one, other, seed)| {
        let same = canon(&spelled(&one, seed)) == canon(&spelled(&other, seed));
        prop_assert_eq!(same, one == other);
        Ok(())
    });
}

#[test]
fn every_change_changes_the_canonical_form() {
    law(500, (json(), any::<u64>(), any::<u64>()), |(value, place, seed)| {
        let mut changed = value.clone();
        change(&mut changed, &mut Rng(place));
        prop_assert_ne!(&value, &changed);
        prop_assert_ne!(canon(&spelled(&value, seed)), canon(&spelled(&changed, seed)));
        Ok(())
    });
}

/// Makes one small change somewhere in `value`.
fn change(value: &mut Json, rng: &mut Rng) {
    match value {
        Json::Null => *value = Json::Bool(false),
        Json::Bool(flag) => *flag = !*flag,
        Json::Number(_, digits, power) if digits.is_empty() => {
            digits.push('1');
            *power = rng.below(3) as i32;
        }
        Json::Number(negative, digits, power) => match rng.below(3) {
            0 => *negative = !*negative,
            1 => digits.push('3'),
            _ => *power += 1,
        },
        // `z` is not part of a surrogate pair.
        Json::Text(points) => points.push(0x7a),
        Json::Array(elements) => match rng.below(elements.len() + 1) {
            0 => elements.push(Json::Null),
            place => change(&mut elements[place - 1], rng),
        },
        Json::Object(members) => match rng.below(members.len() + 1) {
            0 => members.push((vec![0x7a, 0x7a, 0x7a], Json::Null)),
            place => change(&mut members[place - 1].1, rng),
        },
    }
}

/// Bytes that are significant to a scanner.
const TELLING: &[u8] = b"{}[]\",:\\0-+.eEtnfu /\x00\x1f\x7f\xed\xa0\x80";

#[test]
fn serde_json_agrees_on_damaged_inputs() {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4usize), 0..4);
    law(3000, (json(), any::<u64>(), damage), |(value, seed, damage)| {
        let mut input = spelled(&value, seed);
        for (place, byte, how) in damage {
            let place = place.index(input.len().max(1)).min(input.len());
            let byte = match byte {
                0..64 => TELLING[byte as usize % TELLING.len()],
                _ => byte,
            };
            match how {
                0 => input.insert(place, byte),
                1 if place < input.len() => input[place] = byte,
                2 if place < input.len() => drop(input.remove(place)),
                3 => input.truncate(place),
                _ => {}
            }
        }
        agrees_with_serde_json(&input)
    });
}

#[test]
fn serde_json_agrees_on_garbage() {
    law(3000, "[\\[\\]{}\",:a0-9eE.+\\-\\\\tu \n]{0,12}", |input| agrees_with_serde_json(input.as_bytes()));
    law(1000, prop::collection::vec(any::<u8>(), 0..40), |input| agrees_with_serde_json(&input));
}

fn agrees_with_serde_json(input: &[u8]) -> Result<(), TestCaseError> {
    let mut tape = Tape::new();
    let ours = parse(input, &mut tape);
    let theirs = std::str::from_utf8(input).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(input).is_ok();
    match ours {
        // Two exceptions: they accept duplicates and unlimited nesting.
        Err(JsonFault { kind: JsonFaultKind::DuplicateMember | JsonFaultKind::TooDeep, .. }) => {}
        _ => prop_assert_eq!(ours.is_ok(), theirs, "{:?} {:?}", ours, input.escape_ascii().to_string()),
    }
    if let Err(fault) = ours {
        prop_assert!(fault.offset <= input.len());
        prop_assert!(tape.root().is_null());
    }
    Ok(())
}

#[test]
fn strings_written_are_strings_read() {
    law(500, any::<String>(), |text| {
        let mut out = Vec::new();
        write_json_string(&mut out, &text);
        prop_assert_eq!(out.len(), json_string_len(&text));
        let mut tape = Tape::new();
        prop_assert_eq!(parse(&out, &mut tape), Ok(()));
        prop_assert!(tape.root().is_text(&out, &text));
        prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
        Ok(())
    });
}

/// Every byte at every place of short strings: they are looked at eight bytes, four bytes and one byte at a time.
#[test]
fn bytes_written_are_strings_read_wherever_the_odd_one_is() {
    for length in 0..20 {
        for (at, odd) in (0..length).flat_map(|at| (0..=255).map(move |odd| (at, odd))) {
            let mut bytes = b"abcdefghijklmnopqrst"[..length].to_vec();
            bytes[at] = odd;
            let mut out = Vec::new();
            write_json_bytes(&mut out, &bytes);
            let read = serde_json::from_slice::<String>(&out).ok();
            assert_eq!(read.as_deref(), Some(&*String::from_utf8_lossy(&bytes)), "{}", out.escape_ascii());
            assert!(!out.contains(&0x7f), "{}", out.escape_ascii());
        }
    }
}

/// Found by fuzzing: bytes that continue no character were cut from the one before them.
#[test]
fn a_slice_names_the_same_place_where_the_text_is_no_utf_8() {
    for input in [&b" \xe4\x97\x97\x97\x97\x97\x97\x97"[..], b"\x80\x80\x80\x80\x80\x80", b"\"\xf0\x9f\x98\x80\x80\""] {
        for most in 1..8 {
            let (mut tape, mut slices) = (Tape::new(), Slices::new());
            let sliced = loop {
                match slices.step(input, &mut tape, most) {
                    Ok(is_over) => assert!(!is_over),
                    Err(fault) => break fault,
                }
            };
            assert_eq!(Err(sliced), parse(input, &mut Tape::new()), "{most} {}", input.escape_ascii());
        }
    }
}
