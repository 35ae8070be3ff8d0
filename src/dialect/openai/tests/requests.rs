//! Facts of requests, the members that do not affect the key, and edits.

use crate::dialect::facts::{Endpoint, Form, RequestFacts, UsageEvent};
use crate::dialect::openai::{Edits, NOT_IN_KEY, RequestFault, request_facts};
use crate::limits::MODEL_BYTES;
use crate::wire::json::tests::law;
use crate::wire::json::tests::model::{Json, Rng, json, spell};
use crate::wire::json::{Tape, canonical, parse};
use proptest::prelude::*;
use serde_json::Value;

fn facts(endpoint: Endpoint, input: &str) -> Result<RequestFacts, RequestFault> {
    let mut tape = Tape::new();
    parse(input.as_bytes(), &mut tape).unwrap_or_else(|fault| panic!("{input}: {fault}"));
    request_facts(endpoint, input.as_bytes(), &tape)
}

#[test]
fn paths_name_their_endpoint() {
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings, Endpoint::Models] {
        let path = endpoint.path().unwrap();
        assert_eq!(Endpoint::from_path(path.as_bytes()), endpoint);
        assert_eq!(Endpoint::from_path(format!("{path}?a=/v1/models/").as_bytes()), endpoint);
        assert_eq!(Endpoint::from_path(format!("{path}x").as_bytes()), Endpoint::Other);
    }
    assert_eq!(Endpoint::from_path(b"/v1/models/a/b"), Endpoint::Models);
    assert_eq!(Endpoint::from_path(b"/v1/chat/completions/"), Endpoint::Other);
    assert_eq!(Endpoint::from_path(b""), Endpoint::Other);
    assert_eq!(crate::dialect::facts::model_in_path(b"/v1/models/a%2Fb?x"), Some(&b"a%2Fb"[..]));
    assert_eq!(crate::dialect::facts::model_in_path(b"/v1/models/"), None);
    assert_eq!(crate::dialect::facts::model_in_path(b"/v1/models"), None);
}

#[test]
fn facts_are_read() {
    let input = r#"{"messages":[{"model":"inner"}],"model":"a\u002fb","stream":true,"user":"me","x":{"stream":false}}"#;
    let found = facts(Endpoint::ChatCompletions, input).unwrap();
    let mut scratch = Vec::new();
    assert_eq!(found.model.unwrap().read(input.as_bytes(), &mut scratch), b"a/b");
    assert_eq!(found.model.unwrap().span.of(input.as_bytes()), br"a\u002fb");
    assert_eq!(found.user.unwrap().read(input.as_bytes(), &mut scratch), b"me");
    assert_eq!((found.form, found.usage_event), (Form::Streaming, UsageEvent::NotAsked));

    let found = facts(Endpoint::Other, r#"{"stream":null,"user":7,"stream_options":3}"#).unwrap();
    assert!(found.model.is_none() && found.user.is_none());
    assert_eq!(found.form, Form::NonStreaming);

    for (options, usage_event) in [
        ("", UsageEvent::NotAsked),
        (r#","stream_options":null"#, UsageEvent::NotAsked),
        (r#","stream_options":{}"#, UsageEvent::NotAsked),
        (r#","stream_options":{"include_usage":false}"#, UsageEvent::NotAsked),
        (r#","stream_options":{"include_usage":null}"#, UsageEvent::NotAsked),
        (r#","stream_options":{"include_usage":true}"#, UsageEvent::Asked),
        (r#","str\u0065am_options":{"include_us\u0061ge":true}"#, UsageEvent::Asked),
    ] {
        let input = format!(r#"{{"model":"m","stream":true{options}}}"#);
        assert_eq!(facts(Endpoint::Completions, &input).unwrap().usage_event, usage_event, "{input}");
        // No usage event without a stream.
        let input = input.replace("true", "false");
        assert_eq!(facts(Endpoint::Completions, &input).unwrap().usage_event, UsageEvent::NotAsked);
    }
}

#[test]
fn faults_name_the_member() {
    use RequestFault::*;
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MODEL_BYTES + 1));
    let long_escaped = format!(r#"{{"model":"\u0061{}"}}"#, "m".repeat(MODEL_BYTES));
    for (input, fault, param) in [
        ("[]", RootNotObject, None),
        ("null", RootNotObject, None),
        ("{}", ModelMissing, Some("model")),
        (r#"{"model":null}"#, ModelNotString, Some("model")),
        (r#"{"model":3}"#, ModelNotString, Some("model")),
        (r#"{"model":""}"#, ModelEmpty, Some("model")),
        (&long, ModelTooLong, Some("model")),
        (&long_escaped, ModelTooLong, Some("model")),
        (r#"{"model":"a\nb"}"#, ModelCharacters, Some("model")),
        (r#"{"model":"a\u0000"}"#, ModelCharacters, Some("model")),
        ("{\"model\":\"a\u{7f}\"}", ModelCharacters, Some("model")),
        ("{\"model\":\"a\u{85}\"}", ModelCharacters, Some("model")),
        (r#"{"model":"a\ud800"}"#, ModelCharacters, Some("model")),
        (r#"{"model":"m","Model":"n"}"#, AmbiguousName, None),
        (r#"{"MODE\u006c":"m"}"#, AmbiguousName, None),
        (r#"{"model":"m","Stream":true}"#, AmbiguousName, None),
        (r#"{"model":"m","stream":"true"}"#, StreamType, Some("stream")),
        (r#"{"model":"m","stream":1}"#, StreamType, Some("stream")),
        (r#"{"model":"m","user":1}"#, UserType, Some("user")),
        (r#"{"model":"m","stream_options":true}"#, StreamOptionsType, Some("stream_options")),
        (
            r#"{"model":"m","stream_options":{"include_usage":1}}"#,
            IncludeUsageType,
            Some("stream_options.include_usage"),
        ),
    ] {
        let found = facts(Endpoint::ChatCompletions, input).unwrap_err();
        assert_eq!((found, found.param()), (fault, param), "{input}");
    }
    for (input, endpoint) in
        [("[]", Endpoint::Other), (r#"{"model":3}"#, Endpoint::Other), ("{}", Endpoint::Embeddings)]
    {
        assert!(facts(endpoint, input).is_err(), "{input}");
    }
    let longest = format!(r#"{{"model":"\u006d{}"}}"#, "m".repeat(MODEL_BYTES - 1));
    assert!(facts(Endpoint::ChatCompletions, &longest).is_ok());
}

fn key(input: &str) -> Vec<u8> {
    let mut tape = Tape::new();
    parse(input.as_bytes(), &mut tape).unwrap();
    let facts = request_facts(Endpoint::ChatCompletions, input.as_bytes(), &tape).unwrap();
    let mut out = Vec::new();
    canonical(input.as_bytes(), &tape, facts.not_in_key, &mut out);
    out
}

#[test]
fn only_members_without_an_effect_are_outside_the_key() {
    let plain = key(r#"{"model":"m","messages":[]}"#);
    for name in NOT_IN_KEY {
        let value = match *name {
            "stream" => "true",
            "stream_options" => r#"{"include_usage":true,"include_obfuscation":false}"#,
            _ => r#""x""#,
        };
        assert_eq!(key(&format!(r#"{{"{name}":{value},"model":"m","messages":[]}}"#)), plain, "{name}");
    }
    for other in [
        r#""seed":1"#,
        r#""n":1"#,
        r#""metadata":{}"#,
        r#""store":false"#,
        r#""service_tier":"auto""#,
        r#""temperature":0"#,
        r#""stream_options":{"continuous_usage_stats":true}"#,
        r#""streaming":true"#,
        r#""x":null"#,
    ] {
        assert_ne!(key(&format!(r#"{{{other},"model":"m","messages":[]}}"#)), plain, "{other}");
    }
}

fn edited(input: &str, name: Option<&str>, usage: bool) -> String {
    let facts = facts(Endpoint::ChatCompletions, input).unwrap();
    let mut edits = Edits::new();
    if usage {
        edits.ask_for_usage(&facts);
    }
    if let Some(name) = name {
        edits.rename_model(&facts, name);
    }
    let mut out = Vec::new();
    edits.write(input.as_bytes(), &mut out);
    assert_eq!(out.len(), edits.edited_len(input.as_bytes()));
    String::from_utf8(out).unwrap()
}

#[test]
fn edits_touch_their_place_only() {
    for (input, output) in [
        (
            r#" { "model" : "m", "stream":true } "#,
            r#" {"stream_options":{"include_usage":true}, "model" : "a\"b", "stream":true } "#,
        ),
        (
            r#"{"stream_options": null ,"model":"m\u0020","stream":true}"#,
            r#"{"stream_options": {"include_usage":true} ,"model":"a\"b","stream":true}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{ }}"#,
            r#"{"model":"a\"b","stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#,
            r#"{"model":"a\"b","stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#"{"stream_options":{"x":1,"include_usage":false,"y":2},"model":"m","stream":true}"#,
            r#"{"stream_options":{"x":1,"include_usage":true,"y":2},"model":"a\"b","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":null},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"a\"b","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"a\"b","stream":true}"#,
        ),
        (r#"{"model":"m"}"#, r#"{"model":"a\"b"}"#),
        (
            r#"{"model":"m","stream":false,"stream_options":{"x":1}}"#,
            r#"{"model":"a\"b","stream":false,"stream_options":{"x":1}}"#,
        ),
    ] {
        assert_eq!(edited(input, Some("a\"b"), true), output);
        assert_eq!(edited(input, None, false), input);
    }
    assert!(Edits::new().is_empty());
}

fn points(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

#[test]
fn an_edited_request_differs_by_the_edit_alone() {
    let options = prop_oneof![
        Just(None),
        Just(Some(Json::Null)),
        (json(), prop::sample::select(vec![None, Some(Json::Null), Some(Json::Bool(false)), Some(Json::Bool(true))]))
            .prop_map(|(other, usage)| {
                let mut members = vec![(points("other"), other)];
                members.extend(usage.map(|usage| (points("include_usage"), usage)));
                Some(Json::Object(members))
            }),
    ];
    let rest = prop::collection::btree_map("[a-f]{1,3}", json(), 0..4);
    // Texts that serde_json can represent.
    let plain = |value: &Json| !has_surrogates(value);
    law(500, (options, rest, any::<u64>(), ".{1,12}"), move |(options, rest, seed, name)| {
        let mut members = vec![(points("model"), Json::Text(points("m"))), (points("stream"), Json::Bool(true))];
        members.extend(options.map(|options| (points("stream_options"), options)));
        members.extend(rest.into_iter().map(|(name, value)| (points(&name), value)));
        members.sort_by(|one, other| one.0.cmp(&other.0));
        let value = Json::Object(members);
        prop_assume!(plain(&value));
        let mut input = Vec::new();
        spell(&value, &mut Rng(seed), &mut input);
        let input = String::from_utf8(input).unwrap();
        let output = edited(&input, Some(&name), true);
        let mut expected: Value = serde_json::from_str(&input).unwrap();
        expected["model"] = name.into();
        if !expected["stream_options"].is_object() {
            expected["stream_options"] = serde_json::json!({});
        }
        expected["stream_options"]["include_usage"] = true.into();
        prop_assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), expected);
        Ok(())
    });
}

fn has_surrogates(value: &Json) -> bool {
    let lone = |points: &Vec<u32>| points.iter().any(|point| (0xd800..0xe000).contains(point));
    match value {
        Json::Text(points) => lone(points),
        Json::Array(elements) => elements.iter().any(has_surrogates),
        Json::Object(members) => members.iter().any(|(name, value)| lone(name) || has_surrogates(value)),
        _ => false,
    }
}

#[test]
fn zero_is_zero_however_it_is_spelled() {
    use crate::dialect::facts::Sampling;
    let sampling =
        |fields: &str| facts(Endpoint::ChatCompletions, &format!(r#"{{"model":"m"{fields}}}"#)).unwrap().sampling;
    for zero in ["0", "-0", "0.0", "0.000e9", "0E-7"] {
        assert_eq!(sampling(&format!(r#","temperature":{zero}"#)), Sampling::Deterministic, "{zero}");
    }
    for other in ["1", "0.01", "1e-9", "10", "null", "\"0\"", "[0]", "false"] {
        assert_eq!(sampling(&format!(r#","temperature":{other}"#)), Sampling::Random, "{other}");
    }
    assert_eq!(sampling(r#","seed":0"#), Sampling::Deterministic);
    assert_eq!(sampling(r#","temperature":0,"seed":null"#), Sampling::Deterministic);
    assert_eq!(sampling(r#","temperature":1,"seed":null"#), Sampling::Random);
}
