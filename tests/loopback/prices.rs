//! What answers cost whose provider has a cache of prompts: what it read from there and wrote there has prices of its own.

use super::kit::usage as usage_of_stream;
use super::kit::*;
use super::limits::{bounded, keyed, usage};
use super::translation::{framed, message_answer, message_body, message_end, message_events};

/// 100 tokens in, of which the provider read 60 from its cache and, if it is Anthropic's, wrote 20 into it; 10 tokens out.
fn from_a_providers_cache(request: &Request) -> Vec<u8> {
    let is_stream = request.text().contains("\"stream\":true");
    let (text, from, to) = match (request.head.starts_with("POST /v1/messages"), is_stream) {
        (true, true) => {
            let events = [message_events(&["x"]), message_end()].concat();
            let to = r#""input_tokens":20,"cache_creation_input_tokens":20,"cache_read_input_tokens":60,"#;
            let events = events.iter().map(|event| event.replace("\"input_tokens\":3,", to));
            return framed(&events.map(|event| event.replace(":2}", ":10}")).collect::<Vec<_>>());
        }
        (true, false) => (
            message_answer("x"),
            r#""input_tokens":3,"output_tokens":2"#,
            r#""input_tokens":20,"cache_creation_input_tokens":20,"cache_read_input_tokens":60,"output_tokens":10"#,
        ),
        (false, _) => (
            if is_stream { usage_of_stream() } else { completion("x") },
            r#""prompt_tokens":3,"completion_tokens":2,"total_tokens":5"#,
            r#""prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":60}"#,
        ),
    };
    assert!(text.contains(from), "{text}");
    let text = text.replace(from, to);
    match is_stream {
        true => framed(&[piece("x"), finish("stop"), text, done()]),
        false => json(&text),
    }
}

const PRICES: &str = "price_input = 1000\nprice_cached_input = 100\nprice_cache_write = 1250\nprice_output = 5000";

#[test]
fn what_a_provider_reads_from_its_cache_or_writes_there_has_its_own_price() {
    let backend = Backend::answering(from_a_providers_cache);
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .backend("claude", &backend, "api = \"anthropic\"")
        .model("m", &format!("backends = [\"b\"]\n{PRICES}"))
        .model("translated", &format!("backends = [\"claude\"]\n{PRICES}"))
        .model("one-price", "backends = [\"b\"]\nprice_input = 1000\nprice_output = 5000")
        .tenant("t", "key", "budget = { amount = \"1000\", period = \"1mo\" }")
        .log("access = \"$DIRECTORY/access.log\"")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let chat = |model: &str, body: String| keyed("key", &body.replace("\"m\"", &format!("\"{model}\"")));
    let message =
        |members: &str| post_with("/v1/messages", "Authorization: Bearer key\r\n", &message_body("a", members));
    let expected = [
        (chat("m", question("a")), 0.096, 0),
        (chat("m", streamed_question("b")), 0.096, 0),
        (message(",\"top_k\":1"), 0.101, 20),
        (message(",\"stream\":true"), 0.101, 20),
        (chat("translated", question("a")), 0.101, 20),
        (chat("translated", streamed_question("b")), 0.101, 20),
        (chat("one-price", question("a")), 0.15, 0),
    ];
    for (request, _, _) in &expected {
        for cache in ["MISS", "HIT"] {
            assert_eq!(gateway.ask(request.clone()).expect(200).cache(), cache, "{}", String::from_utf8_lossy(request));
        }
    }
    let total = &usage(&gateway, "")["total"];
    assert_eq!((&total["cost"], &total["saved_cost"]), (&"0.746".into(), &"0.746".into()), "{total}");
    gateway.terminate();
    let log = gateway.into_log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * expected.len(), "{log}");
    for (pair, (_, cost, written)) in lines.chunks(2).zip(expected) {
        assert_eq!((pair[0]["cost"].as_f64(), pair[1]["saved_cost"].as_f64()), (Some(cost), Some(cost)), "{pair:?}");
        for line in pair {
            assert_eq!((&line["prompt_tokens"], &line["cached_prompt_tokens"]), (&100.into(), &60.into()), "{line}");
            assert_eq!(line["cache_write_tokens"].as_u64().unwrap_or(0), written, "{line}");
        }
    }
}

#[test]
fn a_budget_is_settled_on_what_the_providers_cache_made_of_the_price() {
    let backend = Backend::answering(from_a_providers_cache);
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .model("m", &format!("backends = [\"b\"]\n{PRICES}"))
        .tenant("t", "key", "budget = { amount = 1, period = \"1mo\" }")
        .start();
    // Each reserves less than 0.1 and is settled on 0.096; at the full price there were seven.
    let ask = |number: u32| gateway.ask(keyed("key", &bounded(&format!("{number}"), 10))).status;
    assert_eq!((0..20).take_while(|number| ask(*number) == 200).count(), 10);
}
