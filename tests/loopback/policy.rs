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

#[test]
fn a_stored_stream_is_sent_event_by_event_where_that_is_wanted() {
    let backend = Backend::answering(echo);
    let pieces: Vec<String> = (0..30).map(|place| format!("word {place}")).collect();
    let backend_pieces = pieces.clone();
    let long = Backend::answering(move |_| stream(&backend_pieces.iter().map(String::as_str).collect::<Vec<_>>()));
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .backend("long", &long, "")
        .model("m", "backends = [\"b\"]\nreplay_rate = 10000")
        .model("slow", "backends = [\"long\"]\nreplay_rate = 1")
        .start();
    let seen = gateway.ask(chat_stream("x")).expect(200);
    let mut client = gateway.client();
    client.send(chat_stream("x"));
    assert_eq!(client.head().expect(200).cache(), "HIT");
    let (mut chunks, mut text) = (0, Vec::new());
    loop {
        let chunk = client.chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        chunks += 1;
        text.extend(chunk);
    }
    assert_eq!(String::from_utf8(text).unwrap(), seen.text());
    assert_eq!(chunks, seen.text().matches("\n\n").count(), "an event in each");
    // Who wants it whole has it at once.
    assert_eq!(gateway.ask(chat("x")).expect(200).cache(), "HIT");

    // Half a minute of it, but for the end of the node.
    let slow = post(CHAT, &streamed_question("x").replace("\"m\"", "\"slow\""));
    let seen = gateway.ask(&slow).expect(200);
    let mut client = gateway.client();
    client.send(&slow);
    let mut response = client.head().expect(200);
    assert_eq!(response.cache(), "HIT");
    assert_eq!(client.chunk().unwrap(), piece("word 0").into_bytes());
    gateway.terminate();
    client.body(&mut response);
    assert!(seen.text().ends_with(response.text()) && response.text().starts_with(&piece("word 1")));
    assert!(gateway.ended().0.success());
}
