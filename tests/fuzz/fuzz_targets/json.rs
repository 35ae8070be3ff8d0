//! The JSON scanner on arbitrary bytes, against serde_json; every walk of an accepted tape must hold together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::dialect::facts::Endpoint;
use ringway::dialect::{self, Dialect};
use ringway::wire::json::{
    CanonicalSlices, JsonFaultKind, Kind, Slices, Tape, Value, canonical, parse, parse_unchecked_names,
};

/// Reads everything a value offers; gives the number of values inside it.
fn walk(value: Value<'_>, input: &[u8], scratch: &mut Vec<u8>) -> usize {
    let span = value.span();
    assert!(!span.is_empty() && !span.of(input).is_empty());
    match value.kind() {
        Kind::String => assert!(value.text(input, scratch).is_some()),
        Kind::Number => drop(value.as_u64(input)),
        _ => {}
    }
    let members: usize = value
        .members()
        .map(|member| {
            assert_eq!(member.name.kind(), Kind::String);
            walk(member.name, input, scratch) + walk(member.value, input, scratch)
        })
        .sum();
    1 + members + value.elements().map(|element| walk(element, input, scratch)).sum::<usize>()
}

/// What an event says by its shape is what it says when it is read, whatever stands in its strings.
fn compare_shapes(input: &[u8]) {
    const EVENT: [&[u8]; 2] =
        [br#"{"id":"c","choices":[{"index":0,"delta":{"content":""#, br#""},"finish_reason":null}],"usage":null}"#];
    let chat = Endpoint::ChatCompletions;
    let (mut shapes, mut tape) = (dialect::Shapes::default(), Tape::new());
    for event in [&[EVENT[0], b"a", EVENT[1]].concat(), &[EVENT[0], input, EVENT[1]].concat(), input] {
        let read = Dialect::OpenAi.event_facts(chat, b"", event, &mut Tape::new());
        assert_eq!(shapes.event_facts(chat, b"", event, &mut tape), read);
    }
}

/// The same for answers.
fn compare_answers(input: &[u8]) {
    const ANSWER: [&[u8]; 2] = [
        br#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":""#,
        br#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    ];
    let chat = Endpoint::ChatCompletions;
    let (mut shapes, mut tape) = (dialect::Shapes::default(), Tape::new());
    for body in [&[ANSWER[0], b"a", ANSWER[1]].concat(), &[ANSWER[0], input, ANSWER[1]].concat(), input, input] {
        let read = Dialect::OpenAi.answer_facts(chat, body, &mut Tape::new());
        assert_eq!(shapes.answer_facts(chat, body, &mut tape), read);
    }
}

/// The same for requests: their facts, and what their fingerprint is made of.
fn compare_requests(input: &[u8]) {
    const REQUEST: [&[u8]; 4] = [
        br#"{"user":""#,
        br#"","messages":[{"role":"user","content":""#,
        br#""},{"content":[{"text":""#,
        br#""}]}],"model":"m","stream":true,"stream_options":null}"#,
    ];
    let chat = Endpoint::ChatCompletions;
    let read = |body: &[u8]| {
        let (mut tape, mut key) = (Tape::new(), Vec::new());
        parse(body, &mut tape).ok()?;
        let facts = Dialect::OpenAi.request_facts(chat, body, &tape).ok()?;
        canonical(body, &tape, facts.not_in_key, &mut key);
        Some((facts, key, tape))
    };
    let mut shapes = dialect::Shapes::default();
    let (user, rest) = input.split_at(input.len() / 4);
    let (content, text) = rest.split_at(rest.len() / 2);
    let learnt = [REQUEST[0], b"u", REQUEST[1], b"a", REQUEST[2], b"b", REQUEST[3]].concat();
    let filled = [REQUEST[0], user, REQUEST[1], content, REQUEST[2], text, REQUEST[3]].concat();
    let one = [REQUEST[0], b"u", REQUEST[1], input, REQUEST[2], b"", REQUEST[3]].concat();
    for body in [&learnt, &filled, &one, input, input] {
        let own = read(body);
        if let Some((facts, reading)) = shapes.known_request(chat, body) {
            let mut key = Vec::new();
            shapes.canonical(&reading, body, &Tape::new(), &facts, &mut key);
            assert_eq!(own.map(|(facts, key, _)| (facts, key)), Some((facts, key)));
        } else if let Some((facts, _, tape)) = own {
            shapes.learn_request(chat, body, &tape, &facts);
        }
    }
}

/// In slices it is what it is in one piece.
fn compare_slices(input: &[u8]) {
    let most = 1 + input.first().map_or(0, |byte| usize::from(byte % 32));
    let (mut whole, mut tape, mut slices) = (Tape::new(), Tape::new(), Slices::new());
    let sliced = loop {
        match slices.step(input, &mut tape, most) {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(fault) => break Err(fault),
        }
    };
    assert_eq!(sliced, parse(input, &mut whole));
    if sliced.is_ok() {
        let (mut form, mut pieces, mut by_pieces) = (Vec::new(), Vec::new(), CanonicalSlices::default());
        canonical(input, &whole, &[], &mut form);
        loop {
            let mut piece = Vec::new();
            let is_last = by_pieces.step(input, &tape, &[], most, &mut piece);
            pieces.append(&mut piece);
            if is_last {
                break;
            }
        }
        assert_eq!(form, pieces);
    }
}

/// The messages of a prompt template in the place of its name: whatever the request is, it stays one.
fn put_prompts_in(input: &[u8], tape: &Tape) {
    if tape.root().get(input, "prompt").is_none() {
        return;
    }
    let _ = dialect::prompt::asked(input, tape);
    for dialect in [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic] {
        let mut out = Vec::new();
        let messages = [("system", "a \"b\""), ("user", "c\n")];
        if dialect.with_prompt(input, tape, &messages, &mut out).is_err() {
            continue;
        }
        let mut whole = Tape::new();
        if let Err(fault) = parse(&out, &mut whole) {
            assert!(matches!(fault.kind, JsonFaultKind::TooDeep | JsonFaultKind::TooManyNodes), "{fault}");
            continue;
        }
        assert!(whole.root().get(&out, "prompt").is_none());
    }
}

fuzz_target!(|input: &[u8]| {
    compare_slices(input);
    compare_shapes(input);
    compare_answers(input);
    compare_requests(input);
    let mut tape = Tape::new();
    let ours = parse(input, &mut tape);
    let theirs = std::str::from_utf8(input).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(input).is_ok();
    if let Err(fault) = ours {
        assert!(fault.offset <= input.len());
        assert!(!theirs || matches!(fault.kind, JsonFaultKind::DuplicateMember | JsonFaultKind::TooDeep));
        assert!(tape.root().is_null());
        let _ = parse_unchecked_names(input, &mut tape);
        return;
    }
    assert!(theirs);
    let mut scratch = Vec::new();
    let count = walk(tape.root(), input, &mut scratch);

    // Cut anywhere, a container or a string is no value.
    if matches!(tape.root().kind(), Kind::Object | Kind::Array | Kind::String) {
        let end = tape.root().span().end as usize - 1;
        assert!(parse(&input[..end], &mut Tape::new()).is_err());
    }

    let (mut form, mut again) = (Vec::new(), Vec::new());
    canonical(input, &tape, &[], &mut form);
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Other] {
        if let Ok(facts) = Dialect::OpenAi.request_facts(endpoint, input, &tape) {
            let mut edits = dialect::Edits::new();
            edits.rename_model(&facts, "another \"model\"");
            edits.ask_for_usage(&facts);
            let mut edited = Vec::new();
            edits.write(input, &mut edited);
            assert_eq!(edited.len(), edits.edited_len(input));
            // A new member may pass the bounds; nothing else may come of an edit.
            if let Err(fault) = parse(&edited, &mut Tape::new()) {
                assert!(matches!(fault.kind, JsonFaultKind::TooDeep | JsonFaultKind::TooManyNodes), "{fault}");
            }
        }
    }

    put_prompts_in(input, &tape);
    for endpoint in [Endpoint::Responses, Endpoint::Messages] {
        let dialect = Dialect::of_endpoint(endpoint);
        let _ = dialect.request_facts(endpoint, input, &tape);
        dialect.event_facts(endpoint, b"", input, &mut Tape::new());
        dialect.answer_facts(endpoint, input, &mut Tape::new());
        let _ = dialect.whole_of(endpoint, &[b"data: ", input, b"\n\n"].concat(), None);
    }

    assert_eq!(parse_unchecked_names(input, &mut tape), Ok(()));
    assert_eq!(walk(tape.root(), input, &mut scratch), count);
    parse(input, &mut tape).expect("taken once, taken again");
    canonical(input, &tape, &[], &mut again);
    assert_eq!(form, again);
});
