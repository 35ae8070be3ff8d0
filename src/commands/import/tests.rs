//! Whole LiteLLM files: the result, that it is a valid configuration, and that it contains no secret.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn golden(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import");
    let text = std::fs::read_to_string(folder.join(name).with_extension("yaml")).unwrap();
    let (result, left) = import(&text, &format!("{name}.yaml")).unwrap();
    assert!(!left.iter().any(|line| line.starts_with("to be fixed")), "{left:#?}");
    for line in &left {
        assert!(result.contains(&format!("#   {line}\n")), "{line}");
    }
    for secret in ["do-not-copy", "AKIAEXAMPLE", "hunter2", "sk-shared", "sk-1234"] {
        assert!(!result.contains(secret), "{secret} in\n{result}");
    }
    let path = folder.join(name).with_extension("toml");
    crate::golden::check(path, &result);
}

#[test]
fn a_teams_proxy() {
    golden("team");
}

#[test]
fn the_smallest_file() {
    golden("minimal");
}

#[test]
fn keys_in_clear_and_strange_values() {
    golden("keys");
}

#[test]
fn what_is_no_configuration_of_litellm_is_refused() {
    for (text, why) in [
        ("", "no model_list"),
        ("[1, 2]", "no mapping"),
        ("a: 1", "no model_list"),
        ("model_list: 5", "not a list"),
        ("model_list: []", "no model"),
        ("model_list: [{model_name: x, litellm_params: {model: bedrock/x}}]", "no model"),
        ("model_list:\n  - a: [\n", "not YAML"),
    ] {
        let refused = import(text, "f").unwrap_err();
        assert!(refused.why.contains(why), "{text:?}: {}", refused.why);
    }
    let told = import("model_list:\n  - model_name: a\n   bad: 1\n", "f").unwrap_err().why;
    assert!(told.starts_with("f:3:"), "{told}");
}

/// Values with typical mistakes.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("5".to_owned()),
        Just("-1e400".to_owned()),
        Just("~".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("{x-a: 1, 'b c': [~, 1.5, {d: '${e}'}]}".to_owned()),
        Just("[{a: [b]}, {'*': [a]}]".to_owned()),
        Just("os.environ/X".to_owned()),
        Just("os.environ/".to_owned()),
        Just("http://127.0.0.1:8000/v1".to_owned()),
        Just("ftp://nowhere".to_owned()),
        Just("http://a b/v1/v1".to_owned()),
        Just("openai/a".to_owned()),
        Just("azure/*".to_owned()),
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

proptest! {
    #[test]
    fn every_file_is_carried_over_or_refused(
        params in prop::collection::vec((prop::sample::select(PARAMS), value()), 0..6),
        settings in prop::collection::vec((prop::sample::select(SETTINGS), value()), 0..6),
        general in value(),
    ) {
        let join = |pairs: &[(&str, String)]| {
            let mut seen = Vec::new();
            let pairs = pairs.iter().filter(|(key, _)| !seen.contains(key) && { seen.push(*key); true });
            pairs.map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        };
        let text = format!(
            "model_list:\n- model_name: a\n  litellm_params: {{{}}}\n- {{model_name: b, litellm_params: {{model: b}}}}\n\
             litellm_settings: {{{}}}\ngeneral_settings: {{master_key: {general}}}\n",
            join(&params), join(&settings)
        );
        if let Ok((result, left)) = import(&text, "f") {
            prop_assert!(result.parse::<toml::Table>().is_ok(), "{result}");
            let bad = left.iter().find(|line| line.starts_with("to be fixed"));
            prop_assert!(bad.is_none(), "{bad:?}\n{text}\n{result}");
        }
    }
}

const PARAMS: &[&str] = &[
    "model",
    "api_base",
    "api_key",
    "rpm",
    "tpm",
    "weight",
    "order",
    "timeout",
    "stream_timeout",
    "max_parallel_requests",
    "custom_llm_provider",
    "organization",
    "extra_headers",
    "extra_body",
    "temperature",
    "max_tokens",
    "input_cost_per_token",
    "nonsense",
];
const SETTINGS: &[&str] = &[
    "num_retries",
    "request_timeout",
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "allowed_fails",
    "cooldown_time",
    "cache",
    "cache_params",
    "model_group_alias",
    "routing_strategy",
    "nonsense",
];
