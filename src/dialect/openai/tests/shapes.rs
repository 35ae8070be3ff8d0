//! Facts of events from templates equal those from parsing.

use proptest::prelude::*;

use crate::dialect::facts::{Endpoint, EventFacts, UsageMembers};
use crate::dialect::openai::{Shapes, named_event_facts};
use crate::wire::json::Tape;
use crate::wire::json::tests::law;

const CHAT: Endpoint = Endpoint::ChatCompletions;

/// The facts, and whether the event was parsed.
fn facts_of(shapes: &mut Shapes, data: &str) -> (EventFacts, bool) {
    let mut tape = Tape::new();
    let facts = shapes.event_facts(CHAT, b"", data.as_bytes(), &mut tape);
    (facts, !tape.root().is_null())
}

fn read(data: &str) -> EventFacts {
    named_event_facts(CHAT, b"", data.as_bytes(), &mut Tape::new())
}

fn said(id: &str, created: &str, content: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":"m","choices":[{{"index":0,"delta":{{"content":"{content}"}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#
    )
}

#[test]
fn what_differs_in_its_words_alone_is_not_read_again() {
    let mut shapes = Shapes::default();
    assert!(facts_of(&mut shapes, &said("c-1", "1700000000", "Hello")).1);
    for (event, is_read) in [
        (said("c-1", "1700000000", " world"), false),
        (said("chatcmpl-8f3", "1", "ü€😀"), false),
        (said("c-1", "1700000000", ""), true),
        (said("", "1700000000", "a"), true),
        (said("c-1", "1700000000", "line\\n"), true),
        (said("c-1", "1700000000", "a\\"), true),
        (said("c-1", "1700000000", "a\tb"), true),
        (said("c-1", "01", "a"), true),
        (said("c-1", "1e9", "a"), true),
        (said("c-1", "\"1\"", "a"), true),
        (said("c-1", "99999999999999999999", "a"), true),
        (said("c-1", "1700000000", "a").replace("null}]", "\"stop\"}]"), true),
        (said("c-1", "1700000000", "a").replace("\"m\"", "\"n\""), false),
        (said("c-1", "1700000000", "a").replace("\"m\"", "[]"), true),
        (said("c-1", "1700000000", "a").replace("chat.completion.chunk", "error"), true),
        (said("c-1", "1700000000", "a").trim_end_matches('}').to_owned(), true),
        (said("c-1", "1700000000", "a") + "}", true),
        (said("c-1", "1700000000", "b"), false),
    ] {
        let facts = facts_of(&mut shapes, &event);
        assert_eq!(facts.0, read(&event), "{event}");
        // Invalid JSON leaves no tape.
        let is_json = serde_json::from_str::<serde_json::Value>(&event).is_ok();
        assert_eq!(facts.1, is_read && is_json, "{event}");
    }
    let mut not_text = said("c-1", "1700000000", "xx").into_bytes();
    let place = not_text.windows(2).position(|pair| pair == b"xx").unwrap();
    not_text[place] = 0xC3;
    let mut tape = Tape::new();
    let facts = shapes.event_facts(CHAT, b"", &not_text, &mut tape);
    assert_eq!(facts, named_event_facts(CHAT, b"", &not_text, &mut Tape::new()));
}

#[test]
fn the_usage_member_is_found_on_either_side() {
    let mut shapes = Shapes::default();
    for content in ["a", "much longer", "b"] {
        let behind = said("c-1", "17", content);
        let (facts, _) = facts_of(&mut shapes, &behind);
        assert_eq!(facts, read(&behind));
        let UsageMembers::Null(span) = facts.usage_members else { panic!("{facts:?}") };
        assert_eq!(&behind[span.start as usize..span.end as usize], ",\"usage\":null");
        let ahead = behind.replace(",\"usage\":null", "").replace("{\"id\"", "{\"usage\":null,\"id\"");
        assert_eq!(facts_of(&mut shapes, &ahead).0, read(&ahead));
        let between = ahead.replace("\"usage\":null,", "").replace("\"created\"", "\"usage\":null,\"created\"");
        assert_eq!(facts_of(&mut shapes, &between).0, read(&between));
    }
}

#[test]
fn a_name_an_endpoint_and_another_model_are_not_confused() {
    let mut shapes = Shapes::default();
    let event = said("c-1", "17", "a");
    facts_of(&mut shapes, &event);
    for (endpoint, name) in [(CHAT, &b"error"[..]), (CHAT, b"delta"), (Endpoint::Other, b""), (CHAT, b"")] {
        let mut tape = Tape::new();
        let facts = shapes.event_facts(endpoint, name, event.as_bytes(), &mut tape);
        assert_eq!(facts, named_event_facts(endpoint, name, event.as_bytes(), &mut Tape::new()));
    }
}

#[test]
fn templates_that_never_match_do_not_evict_those_that_do() {
    let mut shapes = Shapes::default();
    let models: Vec<String> =
        (0..4).map(|model| said("c", "17", "a").replace("\"index\":0", &format!("\"index\":{model}"))).collect();
    for event in &models {
        facts_of(&mut shapes, event);
    }
    let (mut reads, rounds) = (0, 1000);
    for round in 0..rounds {
        let part = said("c", "17", "a").replace("\"logprobs\":null", &format!("\"logprobs\":{round}"));
        facts_of(&mut shapes, &part);
        for event in &models {
            reads += u32::from(facts_of(&mut shapes, event).1);
        }
    }
    assert!(reads < rounds / 5, "{reads} of {} events were parsed", 4 * rounds);
}

/// Mostly content events, occasionally anything else.
fn events() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => "[a-zäé€😀 .,]{0,6}",
        1 => Just("\\n".to_owned()),
        1 => Just("\\u00e4\\\"".to_owned()),
        1 => any::<String>(),
    ];
    let number =
        prop_oneof![6 => "[1-9][0-9]{0,9}", 1 => "[0-9]{1,22}", 1 => "-?[0-9]\\.[0-9]", 1 => Just("null".to_owned())];
    let frame = prop_oneof![
        6 => Just(r#"{"id":"@","created":#,"choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#),
        2 => Just(r#"{"id":"@","created":#,"choices":[{"index":1,"delta":{"content":"@"}}],"usage":null}"#),
        2 => Just(r#"{"usage":null,"id":"@","choices":[{"delta":{"role":"@","content":"@"}},{"index":2,"text":"@"}]}"#),
        1 => Just(r#"{"id":"@","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":"@"}]}"#),
        1 => Just(r#"{"id":"@","created":#,"choices":[],"usage":{"prompt_tokens":#}}"#),
        1 => Just(r#"{"id":"@","error":null,"object":"@","choices":[{"delta":{"tool_calls":[{"index":0,"x":"@"}]}}]}"#),
        1 => Just(r#"{"choices":[{"text":"@"}],"choices":[{"text":"@"}],"id":#,"type":"error"}"#),
        1 => Just("[DONE]"),
    ];
    filled(frame, word, number)
}

/// Replaces `@` with words and `#` with numbers, and occasionally truncates.
pub(super) fn filled(
    frame: impl Strategy<Value = &'static str>,
    word: impl Strategy<Value = String>,
    number: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let fills = (prop::collection::vec(word, 6), prop::collection::vec(number, 6));
    (frame, fills, any::<prop::sample::Index>(), 0..20u8).prop_map(|(frame, (words, numbers), cut, rng)| {
        let mut text = String::new();
        let (mut words, mut numbers) = (words.into_iter(), numbers.into_iter());
        for part in frame.chars() {
            match part {
                '@' => text.extend(words.next()),
                '#' => text.extend(numbers.next()),
                other => text.push(other),
            }
        }
        if rng == 0 {
            let cut = cut.index(text.len() + 1);
            text.truncate((0..=cut).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
        }
        text
    })
}

#[test]
fn facts_from_templates_equal_parsed_ones() {
    law(500, prop::collection::vec(events(), 1..60), |events| {
        let (mut shapes, mut tape, mut own) = (Shapes::default(), Tape::new(), Tape::new());
        for event in &events {
            let endpoint = if event.len() % 7 == 0 { Endpoint::Completions } else { CHAT };
            let facts = shapes.event_facts(endpoint, b"", event.as_bytes(), &mut tape);
            prop_assert_eq!(facts, named_event_facts(endpoint, b"", event.as_bytes(), &mut own), "{}", event);
        }
        Ok(())
    });
}
