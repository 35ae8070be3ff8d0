//! Requests matched by templates: the same facts and the same key as by parsing.

use proptest::prelude::*;

use super::shapes::filled;
use crate::dialect::facts::{Endpoint, RequestFacts};
use crate::dialect::openai::{Reading, Shapes, request_facts};
use crate::wire::json::tests::law;
use crate::wire::json::{Tape, canonical, parse};

const CHAT: Endpoint = Endpoint::ChatCompletions;

/// Facts and key of an accepted request.
type Understood = (RequestFacts, Vec<u8>);

fn read(endpoint: Endpoint, body: &[u8]) -> Option<Understood> {
    let mut tape = Tape::new();
    parse(body, &mut tape).ok()?;
    let facts = request_facts(endpoint, body, &tape).ok()?;
    let mut key = Vec::new();
    canonical(body, &tape, facts.not_in_key, &mut key);
    Some((facts, key))
}

/// As the gateway does it, and whether the request was parsed.
fn understand(shapes: &mut Shapes, endpoint: Endpoint, body: &[u8]) -> (Option<Understood>, bool) {
    let mut key = Vec::new();
    if let Some((facts, reading)) = shapes.known_request(endpoint, body) {
        // No tape: it would be that of another request.
        shapes.canonical(&reading, body, &Tape::new(), &facts, &mut key);
        return (Some((facts, key)), false);
    }
    let mut tape = Tape::new();
    let facts = parse(body, &mut tape).ok().and_then(|()| request_facts(endpoint, body, &tape).ok());
    let Some(facts) = facts else { return (None, true) };
    shapes.learn_request(endpoint, body, &tape, &facts);
    shapes.canonical(&Reading::Tape, body, &tape, &facts, &mut key);
    (Some((facts, key)), true)
}

fn request(system: &str, said: &str, user: &str) -> String {
    format!(
        r#"{{"model":"m","user":"{user}","messages":[{{"role":"system","content":"{system}"}},{{"content":[{{"type":"text","text":"{said}"}}],"role":"user"}}],"stream":true,"stream_options":{{"include_usage":false}},"temperature":0.5}}"#
    )
}

#[test]
fn what_differs_in_what_is_said_alone_is_not_read_again() {
    let cached = || {
        let mut shapes = Shapes::default();
        assert!(understand(&mut shapes, CHAT, request("Be kind.", "Hello", "u-1").as_bytes()).1);
        shapes
    };
    for (body, is_read) in [
        (request("Be kind.", "Hello", "u-1"), false),
        (request("", "", "somebody else"), false),
        (request("lines\\nof \\\"text\\\" \\u00e4\\ud83d\\ude00 ü€😀", "\\\\", "ü"), false),
        (request("Be kind.", &"long ".repeat(700), "u"), false),
        (request("Be kind.", &"longer ".repeat(700), "u"), true),
        (request("Be kind.", "Hello", ""), true),
        (request("Be kind.", "Hello", "\\u0041"), true),
        (request("a\\", "Hello", "u"), true),
        (request("a\tb", "Hello", "u"), true),
        (request("\\x", "Hello", "u"), true),
        (request("a", "Hello", "u").replace(":\"m\"", ":\"n\""), true),
        (request("a", "Hello", "u").replace("system", "developer"), true),
        (request("a", "Hello", "u").replace(":true", ":false"), true),
        (request("a", "Hello", "u").replace("0.5", "0.50"), true),
        (request("a", "Hello", "u").replace(":[{\"type", ": [{\"type"), true),
        (request("a", "Hello\"},{\"type\":\"text\",\"text\":\"more", "u"), true),
        (request("a\",\"name\":\"b", "Hello", "u"), true),
        (request("a", "Hello", "u\",\"model\":\"n"), true),
        (request("a", "Hello", "u").trim_end_matches('}').to_owned(), true),
        (request("a", "Hello", "u") + "}", true),
        (request("a", "Hello", "u") + " ", true),
    ] {
        let (understood, was_read) = understand(&mut cached(), CHAT, body.as_bytes());
        assert_eq!(understood, read(CHAT, body.as_bytes()), "{body}");
        assert_eq!(was_read, is_read, "{body}");
    }
    let mut not_text = request("Be kind.", "xx", "u").into_bytes();
    let place = not_text.windows(2).position(|pair| pair == b"xx").unwrap();
    not_text[place] = 0xff;
    assert_eq!(understand(&mut cached(), CHAT, &not_text), (None, true));
}

#[test]
fn prompts_and_inputs_are_compared_too() {
    let prompt = |said: &str| format!(r#"{{"prompt":"{said}","model":"m"}}"#);
    let inputs = |said: &str| format!(r#"{{"model":"m","input":["{said}","b"],"prompt_cache_key":"{said}"}}"#);
    for (endpoint, body) in [
        (Endpoint::Completions, &prompt as &dyn Fn(&str) -> String),
        (Endpoint::Embeddings, &prompt),
        (Endpoint::Embeddings, &inputs),
    ] {
        let mut shapes = Shapes::default();
        for (said, is_read) in [("a", true), ("another", false), ("", false), ("\\\"", false)] {
            let body = body(said);
            let (understood, was_read) = understand(&mut shapes, endpoint, body.as_bytes());
            assert_eq!((understood, was_read), (read(endpoint, body.as_bytes()), is_read), "{body}");
        }
    }
}

#[test]
fn endpoints_are_not_confused() {
    let body = request("a", "b", "c");
    let mut shapes = Shapes::default();
    understand(&mut shapes, CHAT, body.as_bytes());
    for endpoint in [Endpoint::Completions, Endpoint::Embeddings, Endpoint::Models, Endpoint::Other] {
        let (understood, was_read) = understand(&mut shapes, endpoint, body.as_bytes());
        assert_eq!((understood, was_read), (read(endpoint, body.as_bytes()), true), "{endpoint:?}");
    }
    assert!(understand(&mut shapes, Endpoint::Other, body.as_bytes()).1, "passed-through requests are always parsed");
}

/// Requests, complete and truncated.
fn requests() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => "[a-zäé€😀 .,]{0,6}",
        3 => Just("\\n".to_owned()),
        2 => Just("\\u00e4\\\"".to_owned()),
        1 => any::<String>(),
    ];
    let number = prop_oneof![6 => Just("1".to_owned()), 2 => Just("0.50".to_owned()), 1 => "[0-9]{1,22}"];
    let frame = prop_oneof![
        6 => Just(r#"{"model":"m","messages":[{"role":"system","content":"@"},{"role":"user","content":"@"}],"seed":#}"#),
        3 => Just(r#"{"messages":[{"content":"@","role":"user"}],"user":"@","model":"mm","stream":true,"temperature":#}"#),
        3 => Just(r#"{"stream":true,"stream_options":{"include_usage":null},"input":["@","@"],"model":"m","z":"@"}"#),
        2 => Just(r#"{"stream":true,"stream_options":null,"prompt":"@","model":"m","prompt_cache_key":"@"}"#),
        2 => Just(r#"{"user":"@","stream":true,"stream_options":{"x":#},"messages":[{"content":[{"text":"@"}]}],"model":"m"}"#),
        1 => Just(r#"{"model":"m","prompt":"@","input":"@","stream":false,"safety_identifier":"@"}"#),
        1 => Just(r#"{"model":"m","messages":[{"content":"@"},{"content":"@"},{"content":"@"}],"user":null}"#),
        1 => Just(r#"{"messages":[{"content":"@","content":"@"}],"model":"@"}"#),
        1 => Just(r#"["@",#]"#),
    ];
    filled(frame, word, number)
}

#[test]
fn facts_and_keys_from_templates_equal_parsed_ones() {
    let compared = std::cell::Cell::new(0);
    law(500, prop::collection::vec(requests(), 1..60), |requests| {
        let mut shapes = Shapes::default();
        for body in &requests {
            let body = body.as_bytes();
            let endpoint = [CHAT, Endpoint::Completions, Endpoint::Embeddings][body.len() % 7 % 3];
            let (understood, was_read) = understand(&mut shapes, endpoint, body);
            prop_assert_eq!(understood, read(endpoint, body), "{}", String::from_utf8_lossy(body));
            compared.set(compared.get() + u32::from(!was_read));
        }
        Ok(())
    });
    assert!(compared.get() > 500, "{} requests matched a template", compared.get());
}
