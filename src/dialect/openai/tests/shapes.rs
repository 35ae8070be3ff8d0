//! Facts of events and answers from templates equal those from parsing.

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

mod answers {
    //! The same for non-streaming answers.

    use proptest::prelude::*;

    use super::{filled, law};
    use crate::dialect::facts::{AnswerFacts, Endpoint, Parts, TokenUsage};
    use crate::dialect::openai::{Shapes, answer_facts};
    use crate::wire::json::Tape;

    const CHAT: Endpoint = Endpoint::ChatCompletions;

    /// The facts, and whether the answer was parsed.
    fn facts_of(shapes: &mut Shapes, body: &str) -> (AnswerFacts, bool) {
        let mut tape = Tape::new();
        let facts = shapes.answer_facts(CHAT, body.as_bytes(), &mut tape);
        (facts, !tape.root().is_null())
    }

    fn read(body: &str) -> AnswerFacts {
        answer_facts(CHAT, body.as_bytes(), &mut Tape::new())
    }

    fn answer(id: &str, content: &str, prompt: &str, completion: &str) -> String {
        format!(
            r#"{{"id":"{id}","object":"chat.completion","created":1700000000,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":77,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":3}}}}}}"#
        )
    }

    #[test]
    fn only_what_differs_in_more_than_texts_and_counts_is_parsed() {
        let warm = || {
            let mut shapes = Shapes::default();
            assert!(facts_of(&mut shapes, &answer("c-1", "Hello", "10", "20")).1);
            shapes
        };
        let plain = || answer("c", "a", "1", "2");
        for (body, is_parsed) in [
            (answer("chatcmpl-8f3", "b", "9", "1234567890123456789"), false),
            (answer("c", "lines\\nof \\\"text\\\" \\u00e4\\ud83d\\ude00 ü€😀", "1", "2"), false),
            (answer("c", "", "1", "2"), true),
            (answer("", "a", "1", "2"), true),
            (answer("c", "a\\", "1", "2"), true),
            (answer("c", "a\tb", "1", "2"), true),
            (answer("c", "\\x", "1", "2"), true),
            (answer("c", "\\u12g4", "1", "2"), true),
            (answer("c", "a", "0", "2"), true),
            (answer("c", "a", "01", "2"), true),
            (answer("c", "a", "1.5", "2"), true),
            (answer("c", "a", "-1", "2"), true),
            (answer("c", "a", "99999999999999999999", "2"), true),
            (answer("c", "a", "null", "2"), true),
            (plain().replace("\"stop\"", "\"length\""), true),
            (plain().replace("\"stop\"", "null"), true),
            (plain().replace("\"stop\"", "\"tool_calls\""), true),
            (plain().replace("chat.completion", "error"), true),
            (plain().replace("\"model\":\"m\"", "\"model\":\"m\",\"status\":429"), true),
            (plain().replace("\"refusal\":null", "\"refusal\":\"no\""), true),
            (plain().replace("\"cached_tokens\":0", "\"cached_tokens\":5"), true),
            (plain().replace("\"audio_tokens\":3", "\"audio_tokens\":4"), false),
            (plain().trim_end_matches('}').to_owned(), true),
            (plain() + "}", true),
            (answer("c", "b", "3", "4"), false),
        ] {
            let facts = facts_of(&mut warm(), &body);
            assert_eq!(facts.0, read(&body), "{body}");
            let is_json = serde_json::from_str::<serde_json::Value>(&body).is_ok();
            assert_eq!(facts.1, is_parsed && is_json, "{body}");
        }
        let counts = facts_of(&mut warm(), &answer("c", "b", "3", "4")).0.usage;
        assert_eq!(counts, Some(TokenUsage { prompt: 3, completion: 4, total: 77, ..TokenUsage::default() }));
        // Gateways to other APIs tell what was written into a cache.
        let mut shapes = Shapes::default();
        for (cached, written) in [("4", "2"), ("3", "5")] {
            let details = format!("\"cached_tokens\":{cached},\"cache_write_tokens\":{written}");
            let body = answer("c", "a", "9", "2").replace("\"cached_tokens\":0", &details);
            let (facts, is_parsed) = facts_of(&mut shapes, &body);
            let parts = facts.usage.unwrap().parts();
            let expected =
                Parts { cached: cached.parse().unwrap(), cache_written: written.parse().unwrap(), reasoning: 0 };
            assert_eq!((parts, is_parsed), (expected, cached == "4"));
        }
        let mut not_text = answer("c", "xx", "1", "2").into_bytes();
        let place = not_text.windows(2).position(|pair| pair == b"xx").unwrap();
        not_text[place] = 0xff;
        let facts = warm().answer_facts(CHAT, &not_text, &mut Tape::new());
        assert_eq!(facts, answer_facts(CHAT, &not_text, &mut Tape::new()));
        assert!(facts.stored.is_err());
    }

    #[test]
    fn endpoints_are_not_confused_and_embeddings_are_parsed() {
        let mut shapes = Shapes::default();
        let body = answer("c", "a", "1", "2");
        facts_of(&mut shapes, &body);
        for endpoint in [Endpoint::Completions, Endpoint::Embeddings, Endpoint::Models, Endpoint::Other] {
            let mut tape = Tape::new();
            let facts = shapes.answer_facts(endpoint, body.as_bytes(), &mut tape);
            assert_eq!(facts, answer_facts(endpoint, body.as_bytes(), &mut Tape::new()), "{endpoint:?}");
            assert!(!tape.root().is_null(), "{endpoint:?}");
        }
    }

    /// Answers, complete and not.
    fn answers() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            8 => "[a-zäé€😀 .,]{0,6}",
            3 => Just("\\n".to_owned()),
            2 => Just("\\u00e4\\\"".to_owned()),
            1 => any::<String>(),
        ];
        let number = prop_oneof![
            6 => "[1-9][0-9]{0,9}", 2 => Just("0".to_owned()), 1 => "[0-9]{1,22}", 1 => "-?[0-9]\\.[0-9]",
            1 => Just("null".to_owned())
        ];
        let frame = prop_oneof![
            6 => Just(r#"{"id":"@","created":#,"choices":[{"index":0,"message":{"role":"assistant","content":"@"},"finish_reason":"stop"}],"usage":{"prompt_tokens":#,"completion_tokens":#,"total_tokens":#}}"#),
            3 => Just(r#"{"usage":{"completion_tokens":#,"details":{"a":#,"b":"@"},"prompt_tokens":#},"choices":[{"text":"@","finish_reason":"stop"},{"text":"@","finish_reason":"length"}],"x":"@"}"#),
            2 => Just(r#"{"id":"@","choices":[{"message":{"content":null,"tool_calls":[{"id":"@"}]},"finish_reason":"tool_calls"}],"usage":null}"#),
            2 => Just(r#"{"id":"@","choices":[{"text":"@","finish_reason":"@"}],"usage":{"total_tokens":#}}"#),
            2 => Just(r#"{"id":"@","choices":[{"text":"@","finish_reason":"stop"}],"usage":{"prompt_tokens":#,"prompt_tokens_details":{"audio_tokens":#,"cached_tokens":#},"completion_tokens":#,"completion_tokens_details":{"reasoning_tokens":#,"x":"@"}}}"#),
            2 => Just(r#"{"id":"@","choices":[{"text":"@","finish_reason":"stop","usage":{"total_tokens":#}}],"usage":{"input_tokens":#}}"#),
            2 => Just(r#"{"id":"@","choices":[{"text":"@","finish_reason":"stop"}],"x_groq":{"usage":{"total_tokens":#}},"usage":{"a":#}}"#),
            2 => Just(r#"{"id":"@","choices":[{"message":{"content":"@","reasoning":"@"},"finish_reason":"stop"}],"usage":{"prompt_tokens":#,"input_tokens":#}}"#),
            1 => Just(r#"{"id":"@","error":"@","choices":[{"text":"@","finish_reason":"stop"}]}"#),
            1 => Just(r#"{"id":"@","type":"@","choices":[{"text":"@","finish_reason":"stop"}],"message":"@","code":#}"#),
            1 => Just(r#"{"usage":{"prompt_tokens":#,"prompt_tokens":#},"choices":[{"finish_reason":"stop"}],"object":"@"}"#),
            1 => Just(r#"{"choices":[],"id":"@"}"#),
            1 => Just(r#"["@",#]"#),
        ];
        filled(frame, word, number)
    }

    #[test]
    fn facts_from_templates_equal_parsed_ones() {
        law(500, prop::collection::vec(answers(), 1..60), |answers| {
            let (mut shapes, mut tape, mut own) = (Shapes::default(), Tape::new(), Tape::new());
            for body in &answers {
                let endpoint = if body.len() % 7 == 0 { Endpoint::Completions } else { CHAT };
                let facts = shapes.answer_facts(endpoint, body.as_bytes(), &mut tape);
                prop_assert_eq!(facts, answer_facts(endpoint, body.as_bytes(), &mut own), "{}", body);
            }
            Ok(())
        });
    }
}
