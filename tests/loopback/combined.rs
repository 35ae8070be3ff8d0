//! Micro-batching: requests for embeddings that come together go to a backend as one.

use serde_json::{Value, json};

use super::batches::{asked_for, embed, expected, told};
use super::kit::*;

const PATH: &str = "/v1/embeddings";
/// Longer than a test takes: these windows are over when they are full.
const WINDOW: &str = "backends = [\"b\"]\nretries = 0\nbatch_window = \"10s\"\nbatch_max_inputs = ";

fn setup(backend: &Backend, most: usize) -> Setup {
    Setup::bare().backend("b", backend, "").model("m", &format!("{WINDOW}{most}"))
}

fn body(input: &Value, more: &Value) -> Value {
    let mut body = json!({ "model": "m", "input": input });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Each asks on a connection of its own; then all wait.
fn ask(gateway: &Gateway, requests: &[Vec<u8>]) -> Vec<Response> {
    let mut clients: Vec<Client> = requests
        .iter()
        .map(|request| {
            let mut client = gateway.client();
            client.send(request);
            client
        })
        .collect();
    clients.iter_mut().map(Client::response).collect()
}

fn all(bodies: &[Value]) -> Vec<Vec<u8>> {
    bodies.iter().map(|body| post(PATH, &body.to_string())).collect()
}

/// Inputs of one are a list in what [`expected`] is given.
fn listed(input: &Value) -> Value {
    if input.is_array() && !input[0].is_number() { input.clone() } else { json!([input]) }
}

#[test]
fn requests_of_one_window_are_one_call_and_each_gets_its_own() {
    for cache in ["", "cache = \"off\""] {
        let backend = Backend::answering(embed);
        let gateway = Setup::bare().backend("b", &backend, "").model("m", &format!("{WINDOW}5\n{cache}")).start();
        let inputs = [json!("one"), json!(["two, \"quoted\"", "three"]), json!(["four"]), json!("five\u{e9}")];
        let bodies: Vec<Value> = inputs.iter().map(|input| body(input, &json!({ "dimensions": 2 }))).collect();
        let responses = ask(&gateway, &all(&bodies));
        for ((response, input), body) in responses.into_iter().zip(&inputs).zip(&bodies) {
            let (items, tokens) = told(&response.expect(200));
            assert_eq!(items, expected(&listed(input), body));
            let bytes: usize = listed(input).as_array().unwrap().iter().map(|text| text.as_str().unwrap().len()).sum();
            assert_eq!(tokens, bytes as u64);
        }
        assert_eq!((backend.count(), asked_for(&backend).as_array().unwrap().len()), (1, 5));
        // Each is stored by itself, and a part of a request of several too.
        if cache.is_empty() {
            for body in [&bodies[0], &bodies[1], &bodies[3]] {
                assert_eq!(gateway.ask(post(PATH, &body.to_string())).expect(200).cache(), "HIT");
            }
            assert_eq!(backend.count(), 1);
        }
    }
}

#[test]
fn what_differs_in_anything_else_does_not_go_together() {
    let backend = Backend::answering(embed);
    let gateway = setup(&backend, 2).tenant("t", "sk-t", "").tenant("u", "sk-u", "").start();
    // Two of each kind, in turn: each kind is one call.
    let kinds: [(&str, Value, [Value; 2]); 6] = [
        ("sk-t", json!({}), [json!("a"), json!("b")]),
        ("sk-u", json!({}), [json!("a"), json!("b")]),
        ("sk-t", json!({ "dimensions": 3 }), [json!("a"), json!("b")]),
        ("sk-t", json!({ "encoding_format": "base64" }), [json!("a"), json!("b")]),
        ("sk-t", json!({ "user": "somebody" }), [json!("c"), json!("d")]),
        ("sk-t", json!({}), [json!([1, 2]), json!([[3]])]),
    ];
    let mut requests = Vec::new();
    let mut wanted = Vec::new();
    for place in 0..2 {
        for (key, more, inputs) in &kinds {
            let body = body(&inputs[place], more);
            requests.push(post_with(PATH, &format!("Authorization: Bearer {key}\r\n"), &body.to_string()));
            wanted.push(expected(&listed(&inputs[place]), &body));
        }
    }
    let responses = ask(&gateway, &requests);
    for (response, wanted) in responses.into_iter().zip(wanted) {
        assert_eq!(told(&response.expect(200)).0, wanted);
    }
    assert_eq!(backend.count(), kinds.len());
}

#[test]
fn who_cannot_wait_goes_alone() {
    let backend = Backend::answering(embed);
    let gateway = setup(&backend, 3).start();
    let alone = [
        // Its client keeps it to itself; it is more than a window takes, and mixed.
        ("Cache-Control: no-store\r\n", json!(["a"])),
        ("Cache-Control: no-cache\r\n", json!(["a"])),
        ("", json!(["a", "b", "c"])),
    ];
    for (number, (field, input)) in alone.iter().enumerate() {
        let body = body(input, &json!({}));
        let response = gateway.ask(post_with(PATH, field, &body.to_string()));
        assert_eq!(told(&response.expect(200)).0, expected(input, &body));
        assert_eq!(backend.count(), number + 1);
    }
    // A window that is over with one request in it.
    let gateway =
        Setup::bare().backend("b", &backend, "").model("m", "backends = [\"b\"]\nbatch_window = \"1ms\"").start();
    let body = body(&json!(["z"]), &json!({}));
    assert_eq!(told(&gateway.ask(post(PATH, &body.to_string())).expect(200)).0, expected(&json!(["z"]), &body));
}

#[test]
fn a_fault_of_one_is_told_to_that_one_alone() {
    // It refuses the whole for one of its inputs.
    let backend = Backend::answering(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        match asked["input"].to_string().contains("poison") {
            true => answer(400, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#),
            false => embed(&Request { body: json_with_list(asked), ..request.clone() }),
        }
    });
    let gateway = setup(&backend, 3).start();
    let bodies = ["good", "poison", "fine"].map(|input| body(&json!([input]), &json!({})));
    let responses = ask(&gateway, &all(&bodies));
    assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), [200, 400, 200]);
    for place in [0, 2] {
        let input = bodies[place]["input"].clone();
        assert_eq!(told(&responses[place]).0, expected(&input, &bodies[place]));
    }
    assert_eq!(backend.count(), 4);
}

fn json_with_list(mut asked: Value) -> Vec<u8> {
    asked["input"] = listed(&asked["input"]);
    asked.to_string().into_bytes()
}

#[test]
fn a_fault_of_the_backend_is_told_to_all_and_nonsense_is_asked_for_anew() {
    let backend = Backend::answering(|_| answer(503, r#"{"error":{"message":"busy","type":"server_error"}}"#));
    let gateway = setup(&backend, 2).start();
    let bodies = ["a", "b"].map(|input| body(&json!(input), &json!({})));
    for response in ask(&gateway, &all(&bodies)) {
        assert_eq!(response.status, 503);
    }
    assert_eq!(backend.count(), 1);

    // One embedding is missing where two were asked for.
    let backend = Backend::answering(|request| {
        let mut asked: Value = serde_json::from_slice(&request.body).unwrap();
        if asked["input"].as_array().is_some_and(|inputs| inputs.len() == 2) {
            asked["input"].as_array_mut().unwrap().pop();
        }
        embed(&Request { body: json_with_list(asked), ..request.clone() })
    });
    let gateway = setup(&backend, 2).start();
    for (response, body) in ask(&gateway, &all(&bodies)).into_iter().zip(&bodies) {
        assert_eq!(told(&response.expect(200)).0, expected(&listed(&body["input"]), body));
    }
    assert_eq!(backend.count(), 3);
}

const COMPLETIONS: &str = "/v1/completions";

/// Answers each prompt by itself: as many words as it has letters. One that asks for much is cut off.
fn complete(request: &Request) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let prompts = if asked["prompt"].is_array() { asked["prompt"].clone() } else { json!([asked["prompt"]]) };
    let prompts: Vec<&str> = prompts.as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap()).collect();
    let choices: Vec<Value> = prompts
        .iter()
        .enumerate()
        .rev() // the order is not the API's promise
        .map(|(index, prompt)| {
            let reason = if prompt.contains("much") { "length" } else { "stop" };
            json!({ "text": format!("{prompt}!"), "index": index, "logprobs": null, "finish_reason": reason })
        })
        .collect();
    let letters: usize = prompts.iter().map(|prompt| prompt.len()).sum();
    let said = letters + prompts.len();
    let usage = json!({ "prompt_tokens": letters, "completion_tokens": said, "total_tokens": letters + said });
    json(
        &json!({ "id": "c", "object": "text_completion", "model": "m", "choices": choices, "usage": usage })
            .to_string(),
    )
}

#[test]
fn completions_of_one_window_are_one_call_and_each_gets_its_own() {
    let backend = Backend::answering(complete);
    let gateway = setup(&backend, 5).start();
    let prompts = [json!("one"), json!(["two", "three"]), json!("too much"), json!("five")];
    let bodies = prompts.clone().map(|prompt| json!({ "model": "m", "prompt": prompt, "max_tokens": 9, "n": 1 }));
    let requests: Vec<Vec<u8>> = bodies.iter().map(|body| post(COMPLETIONS, &body.to_string())).collect();
    for (response, prompt) in ask(&gateway, &requests).into_iter().zip(&prompts) {
        let answer: Value = serde_json::from_str(response.expect(200).text()).unwrap();
        let own = if prompt.is_array() { prompt.clone() } else { json!([prompt]) };
        let own: Vec<&str> = own.as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap()).collect();
        let texts: Vec<Value> = own.iter().map(|prompt| json!(format!("{prompt}!"))).collect();
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.iter().map(|choice| choice["text"].clone()).collect::<Vec<_>>(), texts);
        let numbers: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..own.len() as u64).collect::<Vec<_>>());
        let letters: usize = own.iter().map(|prompt| prompt.len()).sum();
        let usage = &answer["usage"];
        assert_eq!(usage["prompt_tokens"], letters, "{usage}");
        assert_eq!(usage["completion_tokens"], letters + own.len(), "{usage}");
    }
    assert_eq!(backend.count(), 1);
    // What was cut off is not kept, and keeps nobody else from it.
    for (body, cache) in bodies.iter().zip(["HIT", "HIT", "", "HIT"]).filter(|(_, cache)| !cache.is_empty()) {
        assert_eq!(gateway.ask(post(COMPLETIONS, &body.to_string())).expect(200).cache(), cache);
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn completions_that_share_no_answer_go_alone() {
    let backend = Backend::answering(complete);
    let gateway = setup(&backend, 2).start();
    for (number, more) in [json!({ "n": 2 }), json!({ "best_of": 2 }), json!({ "seed": 7 })].iter().enumerate() {
        let mut body = json!({ "model": "m", "prompt": "a" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gateway.ask(post(COMPLETIONS, &body.to_string())).expect(200);
        assert_eq!(backend.count(), number + 1);
    }
}
