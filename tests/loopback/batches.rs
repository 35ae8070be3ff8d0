//! Requests for several embeddings: a backend is asked for those that are not known.

use serde_json::{Value, json};

use super::kit::*;

const PATH: &str = "/v1/embeddings";

/// Answers each input with its own numbers, or bytes of them, in whatever order, and counts a token for each byte or id.
pub fn embed(request: &Request) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let inputs = asked["input"].as_array().unwrap();
    let tokens = |input: &Value| input.as_array().map_or_else(|| input.as_str().unwrap().len(), Vec::len);
    let embedding = |input: &Value| embedding(input, &asked);
    let mut data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| json!({ "object": "embedding", "index": index, "embedding": embedding(input) }))
        .collect();
    data.reverse();
    let all: usize = inputs.iter().map(tokens).sum();
    let usage = json!({ "prompt_tokens": all, "total_tokens": all });
    super::kit::json(&json!({ "object": "list", "data": data, "model": "M", "usage": usage }).to_string())
}

fn embedding(input: &Value, asked: &Value) -> Value {
    let text = input.to_string();
    match asked["encoding_format"].as_str() {
        Some("base64") => json!(format!("{text}=")),
        _ => json!([text.len(), text.bytes().map(u64::from).sum::<u64>(), asked["dimensions"]]),
    }
}

fn request(inputs: &Value, more: &Value) -> (Vec<u8>, Value) {
    let mut body = json!({ "model": "m", "input": inputs });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (post(PATH, &body.to_string()), body)
}

/// What a client gets, whoever answered.
pub fn expected(inputs: &Value, body: &Value) -> Vec<(u64, Value)> {
    let all = inputs.as_array().unwrap().iter().enumerate();
    all.map(|(index, input)| (index as u64, embedding(input, body))).collect()
}

/// The embeddings with their indices, in the order of these, and the tokens.
pub fn told(response: &Response) -> (Vec<(u64, Value)>, u64) {
    let body: Value =
        serde_json::from_str(response.text()).unwrap_or_else(|error| panic!("{error}: {}", response.text()));
    assert_eq!(body["model"], "M");
    assert_eq!(body["usage"]["prompt_tokens"], body["usage"]["total_tokens"]);
    let item = |item: &Value| (item["index"].as_u64().unwrap(), item["embedding"].clone());
    let mut items: Vec<(u64, Value)> = body["data"].as_array().unwrap().iter().map(item).collect();
    items.sort_by_key(|(index, _)| *index);
    (items, body["usage"]["prompt_tokens"].as_u64().unwrap())
}

pub fn asked_for(backend: &Backend) -> Value {
    let last: Value = serde_json::from_slice(&backend.requests().last().unwrap().body).unwrap();
    last["input"].clone()
}

#[test]
fn a_batch_asks_for_what_is_not_known() {
    for cores in [1, 2, 3] {
        let backend = Backend::answering(embed);
        let gateway = Setup::with(&backend).cores(cores).start();
        let none = json!({});
        // One connection: what its core has told others is there before what it asks them next.
        let mut client = gateway.client();
        let mut ask = |inputs: &Value, more: &Value| {
            let (request, body) = request(inputs, more);
            client.send(request);
            let response = client.response().expect(200);
            let (items, tokens) = told(&response);
            assert_eq!(items, expected(inputs, &body));
            (response.cache().to_owned(), response.field("cache-status").unwrap().to_owned(), tokens)
        };
        let first = json!(["one", "two, with a comma", "three"]);
        assert_eq!(ask(&first, &none).0, "MISS");
        // In another order, between others, twice.
        let mixed = json!(["new", "three", "\"quoted\"", "one", "one"]);
        let (cache, _, tokens) = ask(&mixed, &none);
        assert_eq!((&cache[..], backend.count()), ("MISS", 2));
        assert_eq!(asked_for(&backend), json!(["new", "\"quoted\""]));
        assert_eq!(tokens, 3 + 5 + 8 + 3 + 3);
        // All of it is known by now, and so is the whole batch afterwards.
        let known = json!(["\"quoted\"", "two, with a comma"]);
        let (cache, status, tokens) = ask(&known, &none);
        assert!(cache == "HIT" && status.contains("; detail=inputs"), "{status}");
        assert_eq!((backend.count(), tokens), (2, 8 + 17));
        let (cache, status, _) = ask(&mixed, &none);
        assert!(cache == "HIT" && !status.contains("detail"), "{status}");
        // Ids, of which the tokens are known; other dimensions and encodings are others.
        assert_eq!(ask(&json!([[1, 2, 3], [4]]), &none).2, 4);
        let (cache, _, tokens) = ask(&json!([[4], [5, 6]]), &none);
        assert_eq!((&cache[..], tokens, asked_for(&backend)), ("MISS", 3, json!([[5, 6]])));
        for (calls, more) in [(5, json!({ "dimensions": 2 })), (6, json!({ "encoding_format": "base64" }))] {
            assert_eq!(ask(&known, &more).0, "MISS");
            assert_eq!((backend.count(), asked_for(&backend)), (calls, known.clone()));
            assert_eq!(ask(&json!(["two, with a comma", "\"quoted\""]), &more).0, "HIT");
        }
        // A client's own name changes nothing.
        assert_eq!(ask(&json!(["one", "three"]), &json!({ "user": "u" })).0, "HIT");
        assert_eq!(backend.count(), 6);
    }
}

#[test]
fn what_was_purged_or_may_not_serve_is_asked_for_again() {
    let backend = Backend::answering(embed);
    let gateway = Setup::with(&backend).cores(2).admin("listen = \"127.0.0.1:0\"").start();
    let batch = json!(["a", "b"]);
    let (first, _) = request(&batch, &json!({}));
    gateway.ask(&first).expect(200);
    let (other, body) = request(&json!(["b", "a"]), &json!({}));
    let fresh = |field: &str| post_with(PATH, &format!("Cache-Control: {field}\r\n"), &body.to_string());
    for field in ["no-cache", "no-store"] {
        assert_ne!(gateway.ask(fresh(field)).expect(200).cache(), "HIT");
        assert_eq!(asked_for(&backend), json!(["b", "a"]));
    }
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("POST /v1/purge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}");
    admin.response().expect(200);
    assert_eq!(gateway.ask(&other).expect(200).cache(), "MISS");
    assert_eq!(asked_for(&backend), json!(["b", "a"]));
    assert_eq!(backend.count(), 4);
}

#[test]
fn an_answer_that_does_not_fit_changes_nothing() {
    // To what is asked in part, this backend answers nonsense; to the whole, it is right.
    let backend = Backend::answering(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        match asked["input"].as_array().unwrap().len() {
            1 => answer(400, r#"{"error":{"message":"only in pairs","type":"invalid_request_error"}}"#),
            _ => embed(request),
        }
    });
    let gateway = Setup::once(&backend).start();
    let (first, _) = request(&json!(["a", "b"]), &json!({}));
    gateway.ask(first).expect(200);
    let inputs = json!(["b", "c"]);
    let (second, body) = request(&inputs, &json!({}));
    assert_eq!(told(&gateway.ask(second).expect(200)).0, expected(&inputs, &body));
    assert_eq!((backend.count(), asked_for(&backend)), (3, inputs));
}

#[test]
fn long_embeddings_arrive_whole() {
    // More than a flight keeps in hand at a time, and than the cache takes.
    let backend = Backend::answering(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let inputs = asked["input"].as_array().unwrap();
        let numbers: Vec<u64> = (0..60_000).collect();
        let item = |(index, input): (usize, &Value)| {
            let embedding = [&numbers[..], &[input.to_string().len() as u64]].concat();
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        };
        let data: Vec<Value> = inputs.iter().enumerate().map(item).collect();
        super::kit::json(
            &json!({ "object": "list", "data": data, "model": "M", "usage": { "prompt_tokens": 1, "total_tokens": 1 } })
                .to_string(),
        )
    });
    let gateway = Setup::with(&backend).cache("max_entry = \"1MiB\"").start();
    for (inputs, calls) in [(json!(["a", "bb"]), 1), (json!(["bb", "ccc"]), 2), (json!(["a", "ccc", "d", "e", "f"]), 4)]
    {
        let (request, _) = request(&inputs, &json!({}));
        let (items, _) = told(&gateway.ask(request).expect(200));
        for ((_, embedding), input) in items.iter().zip(inputs.as_array().unwrap()) {
            assert_eq!(embedding.as_array().unwrap().len(), 60_001);
            assert_eq!(embedding[60_000], input.to_string().len());
        }
        assert!(backend.count() <= calls, "{} calls", backend.count());
    }
}
