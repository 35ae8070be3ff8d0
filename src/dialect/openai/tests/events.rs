//! Facts of chunks, and verdicts on streams.

use crate::dialect::facts::{
    Endpoint, ErrorKind, EventFacts, EventKind, NotStored, StreamVerdict, Substance, TokenUsage, UsageMembers,
};
use crate::dialect::openai::{event_facts, named_event_facts};
use crate::wire::json::Tape;
use crate::wire::json::tests::law;
use proptest::prelude::*;

fn chat(data: &str) -> EventFacts {
    event_facts(Endpoint::ChatCompletions, data.as_bytes(), &mut Tape::new())
}

fn delta(delta: &str) -> String {
    format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    )
}

#[test]
fn kinds_are_distinguished() {
    use EventKind::*;
    for (data, kind) in [
        ("[DONE]", Done),
        (" [DONE] ", Done),
        ("", Other),
        ("not JSON", Other),
        ("[DONE}", Other),
        ("[DONE", Cut),
        ("{\"choices\":", Cut),
        (" {\"choices\": ", Cut),
        ("{\"choices\": no", Other),
        ("[]", Other),
        ("{}", Other),
        (r#"{"choices":null}"#, Other),
        (r#"{"error":{"message":"x"}}"#, Error),
        (r#"{"error":"x","choices":[]}"#, Error),
        (r#"{"object":"error","message":"x"}"#, Error),
        (r#"{"type":"error","message":"x"}"#, Error),
        (r#"{"type":"chunk","choices":[]}"#, Empty),
        (r#"{"error":null,"choices":[]}"#, Empty),
        (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, UsageOnly),
        (r#"{"choices":[],"usage":null}"#, Empty),
        (r#"{"choices":[],"prompt_filter_results":[]}"#, Empty),
        (&delta(r#"{"role":"assistant","content":""}"#), Empty),
        (&delta(r#"{"role":"assistant","content":null,"tool_calls":[]}"#), Empty),
        (&delta("{}"), Empty),
        (&delta("null"), Empty),
        (&delta(r#"{"content":"a"}"#), Content),
        (&delta(r#"{"content":"\n"}"#), Content),
        (&delta(r#"{"reasoning_content":"a","content":null}"#), Content),
        (&delta(r#"{"refusal":"no"}"#), Content),
        (&delta(r#"{"tool_calls":[{"index":0}]}"#), Content),
        (&delta(r#"{"function_call":{"name":"f"}}"#), Content),
        (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, Finish),
        (r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#, Content),
    ] {
        assert_eq!(chat(data).kind, kind, "{data}");
    }
    for (data, kind) in [
        // Usage wherever it is.
        (r#"{"usage":{"prompt_tokens":1}}"#, UsageOnly),
        (r#"{"choices":null,"usage":{"prompt_tokens":1}}"#, UsageOnly),
        (r#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":1}}}"#, UsageOnly),
        (r#"{"choices":[{"index":0,"delta":{},"usage":{"prompt_tokens":1}}]}"#, Empty),
        (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":1}}]}"#, Finish),
        // An empty finish reason means none.
        (r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":""}]}"#, Empty),
        // An empty error beside content is not an error.
        (r#"{"error":{},"choices":[{"index":0,"delta":{"content":"x"}}]}"#, Content),
        (r#"{"error":"","choices":[{"index":0,"delta":{"content":"x"}}]}"#, Content),
        (r#"{"error":{}}"#, Error),
        (r#"{"error":{},"choices":[]}"#, Error),
        (r#"{"choices":[{"index":0,"error":{"code":502},"finish_reason":"error"}]}"#, Error),
        (r#"[{"error":{"code":503}}]"#, Error),
    ] {
        assert_eq!(chat(data).kind, kind, "{data}");
    }
    let text = |data: &str| event_facts(Endpoint::Completions, data.as_bytes(), &mut Tape::new()).kind;
    assert_eq!(text(r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#), Content);
    assert_eq!(text(r#"{"choices":[{"index":0,"text":"","finish_reason":null}]}"#), Empty);
    assert_eq!(text(r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#), Finish);
    let other = |data: &str| event_facts(Endpoint::Other, data.as_bytes(), &mut Tape::new()).kind;
    assert_eq!(other(r#"{"choices":[]}"#), Other);
    assert_eq!(other(r#"{"error":{}}"#), Error);
}

/// Chunks in the order in which servers send them.
#[test]
fn substance_is_distinguished_from_preamble() {
    use Substance::{Content, Preamble, Unknown};
    for (server, data, substance) in [
        (
            "OpenAI",
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"4ZsA"}"#,
            Preamble,
        ),
        (
            "OpenAI",
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
            Content,
        ),
        (
            "OpenAI, tools",
            r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}],"refusal":null},"finish_reason":null}]}"#,
            Content,
        ),
        (
            "OpenAI, audio",
            r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"audio":{"data":"AAAA"}},"finish_reason":null}]}"#,
            Content,
        ),
        ("OpenAI", r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, Content),
        (
            "OpenAI",
            r#"{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
            Preamble,
        ),
        (
            "Azure",
            r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
            Preamble,
        ),
        (
            "vLLM",
            r#"{"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}"#,
            Preamble,
        ),
        (
            "vLLM, continuous usage",
            r#"{"id":"chatcmpl-a","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}}"#,
            Preamble,
        ),
        (
            "vLLM, reasoning",
            r#"{"id":"chatcmpl-a","choices":[{"index":0,"delta":{"reasoning_content":"Hm","reasoning":"Hm"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
            Content,
        ),
        (
            "vLLM",
            r#"{"id":"chatcmpl-a","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null}]}"#,
            Content,
        ),
        (
            "SGLang",
            r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
            Preamble,
        ),
        (
            "SGLang",
            r#"{"id":"1","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":null},"finish_reason":null}],"usage":null}"#,
            Preamble,
        ),
        (
            "SGLang",
            r#"{"id":"1","choices":[{"index":0,"delta":{"role":null,"content":"a","reasoning_content":null,"tool_calls":null},"finish_reason":null}],"usage":null}"#,
            Content,
        ),
        (
            "llama.cpp",
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"chatcmpl-b","model":"m","system_fingerprint":"b6000","object":"chat.completion.chunk"}"#,
            Preamble,
        ),
        (
            "llama.cpp, reading the prompt",
            r#"{"choices":[],"created":1,"id":"chatcmpl-b","model":"m","object":"chat.completion.chunk","prompt_progress":{"total":100,"cache":0,"processed":50,"time_ms":3}}"#,
            Preamble,
        ),
        (
            "llama.cpp",
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"Okay"}}],"id":"chatcmpl-b"}"#,
            Content,
        ),
        (
            "llama.cpp",
            r#"{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"timings":{"prompt_n":9}}"#,
            Content,
        ),
        ("any", "[DONE]", Preamble),
        // The events that follow show whether these are errors.
        ("any", "not JSON", Unknown(ErrorKind::Unknown)),
        ("any", r#"{"object":"sources"}"#, Unknown(ErrorKind::Unknown)),
        (
            "DashScope",
            r#"{"code":"Throttling","message":"Too many.","request_id":"r"}"#,
            Unknown(ErrorKind::RateLimited),
        ),
        (
            "MiniMax",
            r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
            Unknown(ErrorKind::QuotaExhausted),
        ),
    ] {
        assert_eq!(chat(data).substance, substance, "{server}: {data}");
    }
    let text = |data: &str| event_facts(Endpoint::Completions, data.as_bytes(), &mut Tape::new()).substance;
    assert_eq!(text(r#"{"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]}"#), Preamble);
    assert_eq!(text(r#"{"choices":[{"index":0,"text":" a","logprobs":null,"finish_reason":null}]}"#), Content);
    assert_eq!(text(r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#), Content);
}

#[test]
fn errors_in_streams_say_what_they_are_about() {
    for (data, kind) in [
        // vLLM's old and new formats, llama.cpp, OpenRouter between chunks.
        (r#"{"object":"error","message":"x","type":"InternalServerError","param":null,"code":500}"#, ErrorKind::Server),
        (r#"{"error":{"message":"x","type":"InternalServerError","param":null,"code":500}}"#, ErrorKind::Server),
        (
            r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            ErrorKind::ContextWindow,
        ),
        (
            r#"{"id":"gen-1","error":{"code":502,"message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            ErrorKind::Server,
        ),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, ErrorKind::Overloaded),
        (r#"{"error":"x"}"#, ErrorKind::Unknown),
        (r#"{"error":true}"#, ErrorKind::Unknown),
    ] {
        let facts = chat(data);
        assert_eq!((facts.kind, facts.substance), (EventKind::Error, Substance::Error(kind)), "{data}");
    }
}

#[test]
fn an_event_named_error_is_one() {
    let mut tape = Tape::new();
    // An earlier event's tape must not be read for one without JSON.
    chat_named(b"", r#"{"error":{"type":"overloaded_error"}}"#, &mut tape);
    for (data, kind) in [
        ("[DONE]", ErrorKind::Unknown),
        ("gone", ErrorKind::Unknown),
        ("", ErrorKind::Unknown),
        (r#"{"message":"slow down","code":429}"#, ErrorKind::RateLimited),
        (r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#, ErrorKind::Unknown),
        (r#"{"error":{"type":"overloaded_error"}}"#, ErrorKind::Overloaded),
    ] {
        let facts = chat_named(b"error", data, &mut tape);
        assert_eq!((facts.kind, facts.substance), (EventKind::Error, Substance::Error(kind)), "{data}");
        let mut verdict = StreamVerdict::new();
        verdict.note(&facts);
        assert_eq!(verdict.stored(), Err(NotStored::Error));
        assert!(!verdict.is_done());
    }
    let other = chat_named(b"message", "[DONE]", &mut tape);
    assert_eq!(other.kind, EventKind::Done);
}

fn chat_named(name: &[u8], data: &str, tape: &mut Tape) -> EventFacts {
    named_event_facts(Endpoint::ChatCompletions, name, data.as_bytes(), tape)
}

#[test]
fn usage_is_read() {
    let usage = |text: &str| chat(&format!(r#"{{"choices":[],"usage":{text}}}"#)).usage;
    let tokens = |prompt, completion, total| Some(TokenUsage { prompt, completion, total, ..TokenUsage::default() });
    assert_eq!(usage(r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":9}"#), tokens(3, 4, 9));
    assert_eq!(usage(r#"{"prompt_tokens":3,"completion_tokens":4}"#), tokens(3, 4, 7));
    assert_eq!(usage(r#"{"total_tokens":5,"x":{"prompt_tokens":1}}"#), tokens(0, 0, 5));
    for nothing in ["null", "{}", "[]", "3", r#"{"prompt_tokens":"3"}"#, r#"{"prompt_tokens":-3}"#] {
        assert_eq!(usage(nothing), None, "{nothing}");
    }
}

#[test]
fn the_usage_member_can_be_cut_out() {
    for (data, rest) in [
        (r#"{"id":1, "usage":null ,"choices":[]}"#, r#"{"id":1 ,"choices":[]}"#),
        (r#"{"choices":[] , "usage" : null}"#, r#"{"choices":[]}"#),
        (r#"{ "usage":null , "choices":[]}"#, r#"{ "choices":[]}"#),
        (r#"{"usage":null}"#, r#"{}"#),
    ] {
        let UsageMembers::Null(span) = chat(data).usage_members else { panic!("{data}") };
        let cut = format!("{}{}", &data[..span.start as usize], &data[span.end as usize..]);
        assert_eq!(cut, rest);
        serde_json::from_str::<serde_json::Value>(&cut).unwrap();
    }
    for (data, members) in [
        (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, UsageMembers::Some),
        (r#"{"usage":null,"choices":[],"usage":null}"#, UsageMembers::Some),
        (r#"{"choices":[{"index":0,"delta":{},"usage":{}}]}"#, UsageMembers::Some),
        (r#"{"choices":[{"index":0,"delta":{},"usage":null}]}"#, UsageMembers::None),
        (r#"{"choices":[{"index":0,"delta":{"usage":null}}]}"#, UsageMembers::None),
    ] {
        assert_eq!(chat(data).usage_members, members, "{data}");
    }
}

fn verdict(events: &[&str]) -> Result<(), NotStored> {
    let mut verdict = StreamVerdict::new();
    for event in events {
        verdict.note(&chat(event));
    }
    verdict.stored()
}

fn finish(index: usize, reason: &str) -> String {
    format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}},"finish_reason":{reason}}}]}}"#)
}

#[test]
fn only_complete_streams_may_be_stored() {
    use NotStored::*;
    let open = |index| finish(index, "null");
    let stop = |index| finish(index, r#""stop""#);
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
    for (events, expected) in [
        (vec![open(0), stop(0), usage.into(), "[DONE]".into()], Ok(())),
        (vec![stop(0), "[DONE]".into()], Ok(())),
        (vec![finish(0, r#""tool_calls""#), "[DONE]".into()], Ok(())),
        (vec![finish(0, r#""function_call""#), "[DONE]".into()], Ok(())),
        (vec![stop(0), stop(127), open(127), "[DONE]".into()], Ok(())),
        // A chunk may have several choices, and a single choice may have no index.
        (
            vec![
                r#"{"choices":[{"index":0,"text":"a","finish_reason":"stop"},{"index":1,"text":"b","finish_reason":"stop"}]}"#.into(),
                "[DONE]".into(),
            ],
            Ok(()),
        ),
        (vec![r#"{"choices":[{"text":"a","finish_reason":"stop"}]}"#.into(), "[DONE]".into()], Ok(())),
        // Complete by their choices alone.
        (vec![open(0), stop(0)], Ok(())),
        (vec![open(0), stop(0), usage.into()], Ok(())),
        (vec![open(0), open(1), stop(0)], Err(NoTerminal)),
        (vec![finish(0, r#""length""#)], Err(LengthCut)),
        (vec![open(0), finish(0, r#""""#)], Err(NoTerminal)),
        // Empty.
        (
            vec![r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}"#.into(), "[DONE]".into()],
            Err(Empty),
        ),
        (
            vec![stop(0), r#"{"choices":[{"index":1,"delta":{"role":"assistant"},"finish_reason":"stop"}]}"#.into()],
            Err(Empty),
        ),
        (vec![], Err(NoTerminal)),
        (vec![open(0)], Err(NoTerminal)),
        (vec!["[DONE]".into()], Err(NoContent)),
        (vec![usage.into(), "[DONE]".into()], Err(NoContent)),
        (vec![open(0), "[DONE]".into()], Err(MissingFinish)),
        (vec![stop(0), open(1), "[DONE]".into()], Err(MissingFinish)),
        (vec![finish(0, r#""length""#), "[DONE]".into()], Err(LengthCut)),
        (vec![stop(0), finish(1, r#""length""#), "[DONE]".into()], Err(LengthCut)),
        (vec![finish(0, r#""content_filter""#), "[DONE]".into()], Err(ContentFilter)),
        (vec![finish(0, r#""eos""#), "[DONE]".into()], Err(UnknownFinish)),
        (vec![finish(0, "true"), "[DONE]".into()], Err(UnknownFinish)),
        (vec![finish(0, r#""st\u006fp""#), "[DONE]".into()], Err(UnknownFinish)),
        (vec![finish(128, r#""stop""#), "[DONE]".into()], Err(TooManyChoices)),
        (vec![stop(0), r#"{"error":{"message":"x"}}"#.into(), "[DONE]".into()], Err(Error)),
        (vec![stop(0), "{".into(), "[DONE]".into()], Err(Unreadable)),
        (vec![stop(0), "[DONE]".into(), stop(0)], Err(AfterTerminal)),
        (vec![stop(0), "[DONE]".into(), "[DONE]".into()], Err(AfterTerminal)),
    ] {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        assert_eq!(verdict(&events), expected, "{events:?}");
    }
}

#[test]
fn any_number_of_choices_must_all_finish() {
    let finishes = prop::collection::vec(any::<prop::sample::Index>(), 0..200);
    law(200, (1..=128usize, finishes), |(count, finishes)| {
        let mut events: Vec<String> = (0..count).map(|index| finish(index, "null")).collect();
        let mut open: std::collections::BTreeSet<usize> = (0..count).collect();
        for place in finishes {
            let index = place.index(count);
            open.remove(&index);
            events.push(finish(index, r#""stop""#));
        }
        events.push("[DONE]".into());
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let expected = if open.is_empty() { Ok(()) } else { Err(NotStored::MissingFinish) };
        prop_assert_eq!(verdict(&events), expected);
        Ok(())
    });
}

#[test]
fn damaged_chunks_never_look_finished() {
    let whole = finish(0, r#""stop""#);
    for end in 1..whole.len() {
        assert_eq!(chat(&whole[..end]).kind, EventKind::Cut, "{}", &whole[..end]);
    }
    law(2000, prop::collection::vec(any::<u8>(), 0..60), |data| {
        event_facts(Endpoint::ChatCompletions, &data, &mut Tape::new());
        Ok(())
    });
}
