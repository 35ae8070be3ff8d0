//! Tenants held to their limits: what is refused and how, what is told of what is left, and what is given back.

use std::sync::{Arc, Barrier};

use super::kit::usage as usage_of_stream;
use super::kit::*;

pub fn keyed(key: &str, body: &str) -> Vec<u8> {
    post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), body)
}

/// A question that is not answered from the cache, with an answer of at most so many tokens.
pub fn bounded(what: &str, most: u32) -> String {
    question(what).replace("\"model\"", &format!("\"max_tokens\":{most},\"model\""))
}

fn number(response: &Response, field: &str) -> u64 {
    response.field(field).unwrap_or_else(|| panic!("no {field} in\n{}", response.head)).parse().unwrap()
}

#[test]
fn so_many_requests_a_minute_and_no_more() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).tenant("t", "key", "requests_per_minute = 3").tenant("u", "other", "").start();
    for left in [2, 1, 0] {
        let response = gateway.ask(keyed("key", &question(&format!("{left}")))).expect(200);
        assert_eq!(number(&response, "x-ratelimit-limit-requests"), 3);
        assert_eq!(number(&response, "x-ratelimit-remaining-requests"), left);
        assert_eq!(response.field("x-ratelimit-reset-requests"), Some("1m2s"));
        assert_eq!(response.field("x-ratelimit-limit-tokens"), None);
    }
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(keyed("key", &question("more")));
        let refused = client.response().expect(429);
        assert_eq!(refused.code(), "requests_per_minute_exceeded");
        assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
        let (seconds, ms) = (number(&refused, "retry-after"), number(&refused, "retry-after-ms"));
        assert!((1..=60).contains(&seconds) && ms.div_ceil(1000) == seconds, "{seconds} s, {ms} ms");
        let body: serde_json::Value = serde_json::from_str(refused.text()).unwrap();
        assert_eq!(body["error"]["type"], "requests");
    }
    assert_eq!(backend.count(), 3);
    // Another tenant knows nothing of it, not even that there are limits.
    let response = gateway.ask(keyed("other", &question("other"))).expect(200);
    assert_eq!(response.field("x-ratelimit-limit-requests"), None);
}

/// Whatever cores the connections are on.
#[test]
fn a_small_limit_is_exact_on_many_cores() {
    let backend = Backend::answering(echo);
    let gateway =
        Setup::with(&backend).cores(4).tenant("t", "key", "requests_per_minute = 10\ntokens_per_day = 100_000").start();
    let ask = |number: u32| gateway.ask(keyed("key", &question(&format!("{number}")))).status;
    let served = (0..60).filter(|number| ask(*number) == 200).count();
    assert_eq!((served, backend.count()), (10, 10));
}

#[test]
fn tokens_are_reserved_and_then_settled() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).tenant("t", "key", "tokens_per_minute = 100").start();
    let ask = |what: &str, most: u32| gateway.ask(keyed("key", &bounded(what, most)));
    // The backend tells of 5 each time.
    for (place, what) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let response = ask(what, 50).expect(200);
        assert_eq!(number(&response, "x-ratelimit-limit-tokens"), 100);
        assert_eq!(number(&response, "x-ratelimit-remaining-tokens"), 100 - 5 * (place as u64 + 1));
    }
    let refused = ask("e", 80).expect(429);
    assert_eq!(refused.code(), "tokens_per_minute_exceeded");
    assert_eq!(number(&refused, "x-ratelimit-remaining-tokens"), 80);
    assert!(number(&refused, "retry-after") >= 1);
    ask("f", 50).expect(200);
    // More than the whole limit: nothing to wait for.
    let never = ask("g", 1000).expect(429);
    assert_eq!((never.field("retry-after"), never.field("x-should-retry")), (None, Some("false")));
    assert!(never.text().contains("lower max_tokens"), "{}", never.text());
}

#[test]
fn streams_are_settled_on_their_usage_and_cached_answers_are_free() {
    let backend = Backend::answering(echo);
    for (cached, each) in [("false", 0), ("true", 5)] {
        let gateway = Setup::with(&backend)
            .single("limits", &format!("cached_tokens = {cached}"))
            .tenant("t", "key", "requests_per_minute = 100\ntokens_per_minute = 2_000")
            .start();
        let body = streamed_question("s").replace("\"model\"", "\"max_tokens\":50,\"model\"");
        let ask = || gateway.ask(keyed("key", &body)).expect(200);
        let (first, second, third) = (ask(), ask(), ask());
        assert_eq!((first.cache(), second.cache(), third.cache()), ("MISS", "HIT", "HIT"));
        let left = |response: &Response| number(response, "x-ratelimit-remaining-tokens");
        // The head of a stream is written before its end is known.
        assert!(left(&first) < 2_000, "{}", left(&first));
        assert_eq!(left(&second), 2_000 - 5 - each);
        assert_eq!(left(&second) - left(&third), each, "cached_tokens = {cached}");
        assert_eq!(number(&third, "x-ratelimit-remaining-requests"), 97, "hits are requests");
    }
}

/// Asks until the tokens that are left are too few for one more answer of 50. How many there were.
fn use_up(gateway: &Gateway) -> u64 {
    for served in 0.. {
        let response = gateway.ask(keyed("key", &bounded(&format!("{served}"), 50)));
        if response.status != 200 {
            assert_eq!(response.expect(429).code(), "tokens_per_minute_exceeded");
            return served;
        }
    }
    unreachable!()
}

#[test]
fn what_is_known_is_answered_when_all_tokens_are_used() {
    let backend = Backend::answering(echo);
    for (cached, again) in [("false", 200), ("true", 429)] {
        let gateway = Setup::with(&backend)
            .single("limits", &format!("cached_tokens = {cached}"))
            .tenant("t", "key", "requests_per_minute = 100\ntokens_per_minute = 100")
            .start();
        let ask = |what: &str| gateway.ask(keyed("key", &bounded(what, 50)));
        ask("known").expect(200);
        let served = use_up(&gateway) + 1;
        let known = ask("known").expect(again);
        assert_eq!(number(&known, "x-ratelimit-remaining-tokens"), 100 - 5 * served);
        // What was refused has taken no request.
        assert_eq!(number(&known, "x-ratelimit-remaining-requests"), 100 - served - u64::from(again == 200));
    }
}

/// A stream that says nothing of its usage serves no whole answer.
#[test]
fn what_is_at_hand_and_does_not_serve_is_paid_for_like_anything_else() {
    let backend = Backend::answering(|request| {
        let streamed = String::from_utf8(echo(request)).unwrap();
        streamed.replace(&chunk(&usage_of_stream()), "").into_bytes()
    });
    let in_stream = |body: &str| body.replace("\"model\"", "\"stream\":true,\"model\"");
    let gateway = Setup::with(&backend).tenant("t", "key", "tokens_per_minute = 1_000").start();
    let (whole, asked) = (bounded("known", 50), backend.count());
    gateway.ask(keyed("key", &in_stream(&whole))).expect(200);
    let hit = gateway.ask(keyed("key", &in_stream(&whole))).expect(200);
    let fetched = gateway.ask(keyed("key", &whole)).expect(200);
    assert_eq!((hit.cache(), fetched.cache(), backend.count() - asked), ("HIT", "MISS", 2));
    let left = |response: &Response| number(response, "x-ratelimit-remaining-tokens");
    assert_eq!(left(&hit) - left(&fetched), 5);

    let gateway = Setup::with(&backend).tenant("t", "key", "tokens_per_minute = 100").start();
    gateway.ask(keyed("key", &in_stream(&whole))).expect(200);
    use_up(&gateway);
    let asked = backend.count();
    assert_eq!(gateway.ask(keyed("key", &whole)).expect(429).code(), "tokens_per_minute_exceeded");
    assert_eq!(gateway.ask(keyed("key", &in_stream(&whole))).expect(200).cache(), "HIT");
    assert_eq!(backend.count(), asked);
}

#[test]
fn a_client_that_leaves_pays_for_what_came_and_gives_its_place_back() {
    let backend = Backend::run(|peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD);
            (0..7).for_each(|_| _ = peer.write(chunk(&piece("x"))));
            peer.await_close();
        }
    });
    let gateway = Setup::once(&backend)
        .tenant("t", "key", "concurrent_requests = 1\ntokens_per_minute = 1_000")
        .tenant("u", "other", "")
        .start();
    let body = streamed_question("s").replace("\"model\"", "\"max_tokens\":500,\"model\"");
    let mut client = gateway.client();
    client.send(keyed("key", &body));
    let head = client.head();
    let reserved = 1_000 - number(&head, "x-ratelimit-remaining-tokens");
    let mut seen = String::new();
    while seen.matches("data: ").count() < 7 {
        seen += std::str::from_utf8(&client.chunk().unwrap()).unwrap();
    }
    let refused = gateway.ask(keyed("key", &body.replace("\"s\"", "\"t\""))).expect(429);
    assert_eq!((refused.code().as_str(), refused.field("retry-after")), ("concurrent_requests_exceeded", Some("1")));
    drop(client);
    backend.await_left(1);
    let mut left = 0;
    eventually("the place is free", || {
        let mut next = gateway.client();
        next.send(keyed("key", &body.replace("\"s\"", "\"u\"")));
        let head = next.head();
        left = head.field("x-ratelimit-remaining-tokens").map_or(0, |left| left.parse().unwrap());
        head.status == 200
    });
    // The prompt as estimated, and seven events.
    assert_eq!(left, 1_000 - reserved - (reserved - 500) - 7);
}

#[test]
fn a_budget_is_money() {
    let backend = Backend::answering(echo);
    for (status, rules) in [(429, ""), (402, "budget_status = \"402\"")] {
        let gateway = Setup::bare()
            .single("limits", rules)
            .backend("b", &backend, "")
            .model("m", "backends = [\"b\"]\nprice_input = \"1000000\"\nprice_output = \"500000.5\"")
            .model("free", "backends = [\"b\"]")
            .tenant("t", "key", "budget = { amount = \"17.5\", period = \"1mo\" }")
            .start();
        let ask = |what: &str| gateway.ask(keyed("key", &bounded(what, 2)));
        // Each reserves some 9 for its prompt and 1 for its answer, and is settled on 3 and 1.000001.
        let served = (0..10).take_while(|number| ask(&format!("{number}")).status == 200).count();
        assert_eq!(served, 3);
        let refused = ask("more").expect(status);
        assert_eq!(refused.code(), "insufficient_quota");
        assert_eq!(refused.field("x-should-retry"), Some("false"));
        assert!(number(&refused, "retry-after") >= 1 && refused.text().contains("17.5"), "{}", refused.text());
        gateway.ask(keyed("key", &bounded("x", 2).replace("\"m\"", "\"free\""))).expect(200);
    }
}

#[test]
fn keys_and_models_have_limits_of_their_own() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .model("n", "backends = [\"b\"]")
        .tenant("t", "key", "model_limits = [{ model = \"n\", requests_per_day = 1 }]")
        .key("t", "requests_per_minute = 3")
        .start();
    let ask =
        |model: &str, what: &str| gateway.ask(keyed("key", &question(what).replace("\"m\"", &format!("\"{model}\""))));
    ask("n", "1").expect(200);
    let refused = ask("n", "2").expect(429);
    assert_eq!(refused.code(), "requests_per_day_exceeded");
    assert!(refused.text().contains("for this model"), "{}", refused.text());
    ask("m", "3").expect(200);
    ask("m", "4").expect(200);
    assert_eq!(ask("m", "5").expect(429).code(), "requests_per_minute_exceeded", "what was refused took nothing");
    assert_eq!(backend.count(), 3);
}

#[test]
fn a_providers_own_limits_are_not_the_tenants() {
    let backend = Backend::answering(|_| {
        let body = completion("x");
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             x-ratelimit-limit-requests: 77\r\nX-RateLimit-Remaining-Tokens: 78\r\n\r\n{body}"
        )
        .into_bytes()
    });
    let gateway = Setup::with(&backend).tenant("t", "key", "requests_per_day = 5").tenant("u", "other", "").start();
    let limited = gateway.ask(keyed("key", &question("a"))).expect(200);
    assert_eq!(limited.field("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(limited.field("x-ratelimit-remaining-tokens"), None);
    let free = gateway.ask(keyed("other", &question("a"))).expect(200);
    assert_eq!(free.field("x-ratelimit-limit-requests"), None);
}

#[test]
fn a_backend_that_fails_costs_no_tokens() {
    let backend = Backend::answering(|_| answer(500, r#"{"error":{"message":"x","type":"server_error"}}"#));
    let gateway = Setup::once(&backend).tenant("t", "key", "tokens_per_minute = 100").start();
    for number in 0..5 {
        let status = gateway.ask(keyed("key", &bounded(&format!("{number}"), 80))).status;
        assert!(status >= 500, "{status}");
    }
}

#[test]
fn a_refusal_has_the_form_of_its_api() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).tenant("t", "key", "requests_per_minute = 1").start();
    let ask = || gateway.ask(post_with("/v1/messages", "x-api-key: key\r\n", &question("a")));
    ask();
    let refused = ask().expect(429);
    let body: serde_json::Value = serde_json::from_str(refused.text()).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
    assert!(refused.field("retry-after").is_some());
}

#[test]
fn money_is_in_the_metrics_and_in_the_log() {
    let backend = Backend::answering(|request| match request.text().contains("sick") {
        true => answer(500, r#"{"error":{"message":"x","type":"server_error"}}"#),
        false => json(&completion("x")),
    });
    let gateway = Setup::with(&backend)
        .model(
            "dear",
            "backends = [{ backend = \"b\", model = \"sick\" }]\nretries = 0\nprice_input = 9\nfallback = [\"cheap\"]",
        )
        .model("cheap", "backends = [\"b\"]\nprice_input = \"0.15\"\nprice_output = \"0.60\"")
        .tenant("t", "key", "")
        .log("access = \"$DIRECTORY/access.log\"")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let ask = |model: &str| gateway.ask(keyed("key", &question("a").replace("\"m\"", &format!("\"{model}\""))));
    // 3 tokens in, 2 out.
    for (model, cache) in [("cheap", "MISS"), ("cheap", "HIT"), ("dear", "MISS"), ("m", "MISS")] {
        assert_eq!(ask(model).expect(200).cache(), cache);
    }
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = client.response().expect(200);
    let cost = |model: &str, kind: &str| {
        let name = format!("ringway_cost_total{{model=\"{model}\",tenant=\"t\",kind=\"{kind}\"}} ");
        metrics.text().lines().find_map(|line| Some(line.strip_prefix(&name)?.parse::<f64>().unwrap()))
    };
    let near = |cost: Option<f64>| cost.map(|cost| (cost * 1e9).round() as u64);
    assert_eq!((near(cost("cheap", "spent")), near(cost("cheap", "saved"))), (Some(1_650), Some(1_650)));
    assert_eq!(near(cost("dear", "spent")), Some(1_650), "at the price of the model that answered");
    assert_eq!((cost("m", "spent"), cost("dear", "saved")), (None, None));
    gateway.terminate();
    let log = gateway.into_log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let costs: Vec<_> = lines.iter().map(|line| line["cost"].as_f64()).collect();
    assert_eq!(costs, [Some(0.00000165), None, Some(0.00000165), None]);
    assert!(
        log.lines().next().unwrap().contains("\"cost\":0.00000165,") || log.contains("\"cost\":0.00000165}"),
        "{log}"
    );
    // The first four bytes of the key's hash, as `ringway check` and the configuration show them.
    assert!(lines.iter().all(|line| line["credential"] == "2c70e12b"), "{log}");
}

/// What `/v1/usage` says, with this query.
pub fn usage(gateway: &Gateway, query: &str) -> serde_json::Value {
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send(format!("GET /v1/usage{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    serde_json::from_str(client.response().expect(200).text()).unwrap()
}

/// The rows of `/v1/limits` with this query, each as a line: whose, what, and how much is used and left.
fn limits(gateway: &Gateway, query: &str) -> Vec<String> {
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send(format!("GET /v1/limits{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let told: serde_json::Value = serde_json::from_str(client.response().expect(200).text()).unwrap();
    assert_eq!(told["truncated"], false);
    let line = |row: &serde_json::Value| {
        let text = |member: &str| row[member].as_str().map_or_else(|| row[member].to_string(), str::to_owned);
        let members = ["tenant", "key", "model", "counts", "period", "used", "left"];
        members.map(text).join(" ").replace("null ", "")
    };
    told["limits"].as_array().unwrap().iter().map(line).collect()
}

/// What cores have leased ahead of need is not used, as long as requests go on and none of it is given back.
#[test]
fn what_cores_hold_of_a_limit_is_left() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .cores(2)
        .tenant("t", "key", "tokens_per_day = 100_000")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let mut asked = 0;
    eventually("what was used, and no more", || {
        asked += 1;
        gateway.ask(keyed("key", &question(&format!("{asked}")))).expect(200);
        limits(&gateway, "") == [format!("t tokens 1d {} {}", 5 * asked, 100_000 - 5 * asked)]
    });
}

/// Whichever cores have leased, spent and given back: none of that is to be seen.
#[test]
fn what_is_left_of_limits_is_told_over_all_cores() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .cores(4)
        .model("n", "backends = [\"b\"]\nprice_input = 1\nprice_output = 2")
        .tenant(
            "t",
            "key",
            "requests_per_minute = 100\ntokens_per_day = 100_000\nconcurrent_requests = 9\n\
             budget = { amount = \"1\", period = \"1mo\" }\nmodel_limits = [{ model = \"n\", requests_per_day = 9 }]",
        )
        .key("t", "requests_per_day = 50")
        .tenant("u", "other", "requests_per_day = 7")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let ask = |what: u32, model: &str| {
        let body = question(&format!("{what}")).replace("\"m\"", &format!("\"{model}\""));
        gateway.ask(keyed("key", &body)).expect(200);
    };
    (0..12).for_each(|what| ask(what, "m"));
    (0..4).for_each(|what| ask(what, "n"));
    let expected = [
        "t concurrent_requests 0 9",
        "t requests 1min 16 84",
        "t tokens 1d 80 99920",
        "t money 1mo 0.000028 0.999972",
        "t n requests 1d 4 5",
        "t 2c70e12b7a0646f9 requests 1d 16 34",
        "u requests 1d 0 7",
    ];
    let mut told = Vec::new();
    // What a core gives back is on its way for a moment, as is what runs.
    eventually("used and left as expected", || {
        told = limits(&gateway, "");
        told == expected || {
            assert_eq!(told.len(), expected.len(), "{told:#?}");
            false
        }
    });
    assert_eq!(limits(&gateway, "?tenant=u"), ["u requests 1d 0 7"]);
    assert_eq!(limits(&gateway, "?key=2C70"), ["t 2c70e12b7a0646f9 requests 1d 16 34"]);
    assert_eq!(limits(&gateway, "?used=40"), ["t n requests 1d 4 5"]);
    let mut client = Client::connect(gateway.admin.unwrap());
    for (query, status, code) in [("tenant=nobody", 404, "no_such_tenant"), ("used=much", 400, "bad_query")] {
        client.send(format!("GET /v1/limits?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(client.response().expect(status).code(), code);
    }
}

#[test]
fn usage_and_limits_over_days_go_on_after_a_restart() {
    let backend = Backend::answering(|_| {
        json(&completion("x").replace(
            "\"total_tokens\"",
            "\"prompt_tokens_details\":{\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\"",
        ))
    });
    let state = tempfile::tempdir().unwrap();
    let start = || {
        Setup::with(&backend)
            .cores(2)
            .server(&format!("state_dir = \"{}\"", state.path().display()))
            .model("dear", "backends = [\"b\"]\nprice_input = 1\nprice_output = 2")
            .tenant("t", "key", "requests_per_day = 5\nbudget = { amount = 1, period = \"1mo\" }")
            .log("access = \"$DIRECTORY/access.log\"")
            .admin("listen = \"127.0.0.1:0\"")
            .start()
    };
    let ask = |gateway: &Gateway, text: &str| gateway.ask(keyed("key", &question(text).replace("\"m\"", "\"dear\"")));
    let gateway = start();
    for text in ["a", "b", "a"] {
        ask(&gateway, text).expect(200);
    }
    let row = |day: &serde_json::Value| {
        let row = &day["rows"][0];
        let tokens = &row["tokens"];
        let [requests, saved] = [&row["requests"], &row["saved_requests"]].map(|number| number.as_u64().unwrap());
        let tokens = ["prompt", "cached_prompt", "completion", "reasoning", "saved_prompt", "saved_completion"]
            .map(|kind| tokens[kind].as_u64().unwrap());
        (
            requests,
            saved,
            tokens,
            row["cost"].as_str().unwrap().to_owned(),
            row["saved_cost"].as_str().unwrap().to_owned(),
        )
    };
    // 3 tokens in, 2 out; the third request is answered from the cache.
    let told = usage(&gateway, "");
    let day = told["to"].as_str().unwrap().to_owned();
    let names = ["day", "tenant", "key", "model"].map(|name| told["rows"][0][name].as_str().unwrap());
    assert_eq!(names, [&*day, "t", "2c70e12b7a0646f9", "dear"]);
    assert_eq!(row(&told), (3, 1, [6, 4, 4, 2, 3, 2], "0.000014".into(), "0.000007".into()));
    gateway.terminate();
    let log = gateway.into_log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert_eq!((&line["cached_prompt_tokens"], &line["reasoning_tokens"]), (&2.into(), &1.into()), "{log}");
        let (spent, saved) = if line["cache"] == "hit" { ("saved_cost", "cost") } else { ("cost", "saved_cost") };
        assert_eq!((line[spent].as_f64(), &line[saved]), (Some(0.000007), &serde_json::Value::Null), "{log}");
    }

    let gateway = start();
    let told = usage(&gateway, &format!("?day={day}&by=tenant"));
    assert_eq!(row(&told), (3, 1, [6, 4, 4, 2, 3, 2], "0.000014".into(), "0.000007".into()));
    assert!(told["rows"][0]["model"].is_null());
    // Of five a day, two are left, unless it is another day by now.
    let mut admitted = 0;
    while ask(&gateway, &format!("c{admitted}")).status == 200 {
        admitted += 1;
    }
    let is_same_day = usage(&gateway, "")["to"] == *day;
    assert!(admitted == 2 || !is_same_day && admitted == 5, "{admitted}");
    gateway.terminate();
    assert!(gateway.ended().0.success());

    // Torn files: the reason is said, and the gateway goes on.
    for name in [&*day, "limits"] {
        let path = state.path().join("usage").join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    }
    let gateway = start();
    ask(&gateway, "d").expect(200);
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success() && said.contains("usage: ") && said.contains("damaged"), "{said}");
    assert!(state.path().join("usage/limits.damaged").exists());
}

/// What limits count is what usage, metrics and the log tell, also where no backend has said it.
#[test]
fn answers_that_broke_off_are_recorded_as_limits_count_them() {
    let seen = Arc::new(Barrier::new(2));
    let is_seen = seen.clone();
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            peer.write(STREAM_HEAD);
            (0..7).for_each(|_| _ = peer.write(chunk(&piece("x"))));
            match request.text() {
                text if text.contains("leave") => return peer.await_close(),
                text if text.contains("cut") => {
                    is_seen.wait();
                    return peer.reset();
                }
                text if text.contains("untold") => {
                    _ = peer.write(chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
                }
                _ => _ = peer.write(chunk(&finish("stop")) + &chunk(&usage_of_stream()) + &chunk(&done()) + LAST_CHUNK),
            }
        }
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .model("m", "backends = [\"b\"]\nretries = 0\nprice_input = 1\nprice_output = 2")
        .tenant("t", "key", "tokens_per_day = 10_000")
        .tenant("u", "own", "")
        .log("access = \"$DIRECTORY/access.log\"")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let mut of_limits = 0;
    for (place, what) in ["leave", "cut", "untold", "told"].into_iter().enumerate() {
        for key in ["key", "own"] {
            let mut client = gateway.client();
            client.send(keyed(key, &streamed_question(&format!("{what} {key}"))));
            client.head();
            let mut events = String::new();
            while events.matches("data: ").count() < 7 {
                events += std::str::from_utf8(&client.chunk().unwrap()).unwrap();
            }
            if what == "cut" {
                seen.wait();
            }
            if what != "leave" {
                while client.chunk().is_ok_and(|chunk| !chunk.is_empty()) {}
            }
            drop(client);
            // Refused requests are requests.
            let recorded = 3 * place as u64 + if key == "key" { 1 } else { 2 };
            eventually("it is recorded", || usage(&gateway, "")["total"]["requests"] == recorded);
        }
        // One that is too large for what is left tells how much that is.
        let refused = gateway.ask(keyed("key", &bounded("too large", 10_001))).expect(429);
        of_limits = 10_000 - number(&refused, "x-ratelimit-remaining-tokens");
        let told = usage(&gateway, "?tenant=t&by=tenant");
        let tokens = &told["total"]["tokens"];
        let [prompt, completion] = ["prompt", "completion"].map(|kind| tokens[kind].as_u64().unwrap());
        assert_eq!(prompt + completion, of_limits, "{what}: {told}");
        let other = usage(&gateway, "?tenant=u&by=tenant");
        let estimated = &other["total"]["tokens"]["estimated"];
        assert!(*estimated == tokens["estimated"], "without limits it is the same: {told} {other}");
    }
    let total = usage(&gateway, "?tenant=t")["total"].clone();
    let tokens = &total["tokens"];
    assert_eq!(tokens["completion"], 7 + 7 + 7 + 2);
    assert_eq!(tokens["estimated"], of_limits - 5);
    let prompt = (tokens["prompt"].as_u64().unwrap() - 3) / 3;
    let money = |prompt: u64, completion: u64| format!("0.{:06}", prompt + 2 * completion);
    assert_eq!(
        (total["cost"].as_str(), total["estimated_cost"].as_str()),
        (Some(&*money(3 * prompt + 3, 23)), Some(&*money(3 * prompt, 21)),)
    );
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = client.response().expect(200);
    let line = format!("ringway_tokens_total{{model=\"m\",tenant=\"t\",kind=\"estimated\"}} {}\n", of_limits - 5);
    assert!(metrics.text().contains(&line), "{}", metrics.text());

    gateway.terminate();
    let log = gateway.into_log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for tenant in ["t", "u"] {
        let of_tenant: Vec<_> = lines.iter().filter(|line| line["tenant"] == tenant && line["status"] == 200).collect();
        let marks: Vec<_> = of_tenant.iter().map(|line| line["usage"].as_str()).collect();
        assert_eq!(marks, [Some("estimated"), Some("estimated"), Some("estimated"), None], "{log}");
        let errors: Vec<_> = of_tenant.iter().map(|line| line["error"].as_str()).collect();
        assert_eq!(errors, [Some("client_gone"), Some("backend_truncated"), None, None], "{log}");
        for line in &of_tenant[..3] {
            assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&prompt.into(), &7.into()), "{log}");
            let cost = line["cost"].as_f64().unwrap() * 1e6;
            assert_eq!(cost.round() as u64, prompt + 14, "{log}");
        }
    }
}
