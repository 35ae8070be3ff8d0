//! What of a model's answers is stored and shared, and for how long.

use std::sync::{Arc, Barrier};

use super::kit::*;

fn question_with(fields: &str) -> Vec<u8> {
    post(CHAT, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}]{fields}}}"#))
}

#[test]
fn of_a_deterministic_model_only_repeatable_answers_are_stored() {
    let backend = Backend::answering(|request| match request.line().contains("embeddings") {
        true => json(
            r#"{"object":"list","data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        ),
        false => json(&completion("x")),
    });
    let lines = "backends = [\"b\"]\ncache = \"deterministic\"";
    let gateway = Setup::bare().backend("b", &backend, "").model("m", lines).start();
    for stored in
        [",\"temperature\":0", ",\"temperature\":-0.0e3,\"n\":1", ",\"seed\":7", ",\"temperature\":1,\"seed\":0"]
    {
        assert_eq!(gateway.ask(question_with(stored)).expect(200).cache(), "MISS", "{stored}");
        assert_eq!(gateway.ask(question_with(stored)).expect(200).cache(), "HIT", "{stored}");
    }
    for random in ["", ",\"temperature\":1", ",\"temperature\":0.01", ",\"temperature\":\"0\"", ",\"seed\":null"] {
        for _ in 0..2 {
            let response = gateway.ask(question_with(random)).expect(200);
            let told = response.field("cache-status");
            assert_eq!((response.cache(), told), ("BYPASS", Some("ringway; fwd=bypass; detail=not_deterministic")));
        }
    }
    for cache in ["MISS", "HIT"] {
        assert_eq!(gateway.ask(post("/v1/embeddings", r#"{"model":"m","input":"x"}"#)).expect(200).cache(), cache);
    }
}

#[test]
fn requests_that_share_no_answer_share_no_call() {
    for (policy, reason) in [("off", "model_off"), ("deterministic", "not_deterministic")] {
        // Answers come only once both requests are here.
        let both = Arc::new(Barrier::new(2));
        let backend = Backend::answering(move |request| {
            both.wait();
            echo(request)
        });
        let lines = format!("backends = [\"b\"]\ncache = \"{policy}\"");
        let gateway = Setup::bare().backend("b", &backend, "").model("m", &lines).start();
        let mut clients = [gateway.client(), gateway.client()];
        clients.iter_mut().for_each(|client| client.send(chat("the same")));
        for client in &mut clients {
            let told = format!("ringway; fwd=bypass; detail={reason}");
            assert_eq!(client.response().expect(200).field("cache-status"), Some(&told[..]));
        }
        assert_eq!(backend.count(), 2);
    }
}

#[test]
fn a_model_has_a_time_to_live_of_its_own() {
    let backend = Backend::answering(echo);
    let gateway = Setup::bare()
        .cache("ttl = \"10s\"")
        .backend("b", &backend, "")
        .model("m", "backends = [\"b\"]\ncache_ttl = \"1h\"")
        .start();
    gateway.ask(chat("long")).expect(200);
    let hit = gateway.ask(chat("long")).expect(200);
    let ttl = hit.field("cache-status").and_then(|told| told.split_once("ttl=")).unwrap().1;
    assert!(ttl.parse::<u64>().unwrap() > 10, "{ttl}");
}
