//! Anthropic's messages in both forms: one answer serves either, stored or while it is on its way, unless that would be a guess.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use super::kit::*;
use super::translation::{events, framed, message, message_answer, message_end, message_events};

/// Says `Hello!` in the form asked for.
fn hello(request: &Request) -> Vec<u8> {
    match request.text().contains("\"stream\":true") {
        true => framed(&[message_events(&["Hel", "lo!"]), message_end()].concat()),
        false => json(&message_answer("Hello!")),
    }
}

fn whole(response: &Response) -> Value {
    serde_json::from_str(response.text()).unwrap()
}

#[test]
fn a_stored_message_serves_either_form() {
    for cores in [1, 2] {
        let backend = Backend::answering(hello);
        let gateway = Setup::with(&backend).cores(cores).start();
        let (plain, streamed) = (|what| message(what, ""), |what| message(what, ",\"stream\":true"));
        let expected = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
            "content": [{"type": "text", "text": "Hello!"}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 2},
        });

        assert_eq!(gateway.ask(streamed("first a stream")).expect(200).cache(), "MISS");
        for _ in 0..2 {
            let response = gateway.ask(plain("first a stream")).expect(200);
            assert_eq!((response.cache(), response.field("content-type")), ("HIT", Some("application/json")));
            assert_eq!(whole(&response), expected);
        }

        assert_eq!(gateway.ask(plain("first whole")).expect(200).cache(), "MISS");
        for _ in 0..2 {
            let response = gateway.ask(streamed("first whole")).expect(200);
            assert_eq!((response.cache(), response.field("content-type")), ("HIT", Some("text/event-stream")));
            let events = events(&response);
            let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
            assert_eq!(
                kinds,
                [
                    "message_start",
                    "content_block_start",
                    "content_block_delta",
                    "content_block_stop",
                    "message_delta",
                    "message_stop"
                ]
            );
            assert_eq!(events[2]["delta"], json!({"type": "text_delta", "text": "Hello!"}));
            assert_eq!(events[4]["usage"], json!({"input_tokens": 3, "output_tokens": 2}));
            assert!(response.text().starts_with("event: message_start\ndata: {"), "{}", response.text());
        }
        assert_eq!(backend.count(), 2);
    }
}

#[test]
fn a_call_on_its_way_serves_either_form() {
    for cores in [1, 2] {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let backend = Backend::run(move |peer| {
            while let Some(request) = peer.request() {
                assert!(request.text().contains("\"stream\":true"), "one call is enough");
                peer.write(STREAM_HEAD);
                message_events(&["Hello!"]).iter().for_each(|event| _ = peer.write(chunk(event)));
                wait.lock().unwrap().recv_timeout(GUARD).unwrap();
                peer.write(message_end().iter().map(|event| chunk(event)).collect::<String>() + LAST_CHUNK);
            }
        });
        let gateway = Setup::with(&backend).cores(cores).admin("listen = \"127.0.0.1:0\"").start();
        let mut leader = gateway.client();
        leader.send(message("both", ",\"stream\":true"));
        let mut first = leader.head();
        let mut others: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        others.iter_mut().for_each(|client| client.send(message("both", "")));
        eventually("all requests are there", || {
            let mut client = Client::connect(gateway.admin.unwrap());
            client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.response().expect(200).text().contains("ringway_requests_in_flight 5")
        });
        go.send(()).unwrap();
        leader.body(&mut first);
        assert!(first.expect(200).text().contains("message_stop"));
        for mut client in others {
            let response = client.response().expect(200);
            assert_eq!(whole(&response)["content"], json!([{"type": "text", "text": "Hello!"}]));
        }
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn what_would_be_a_guess_is_asked_for_in_its_own_form() {
    let searched = |text: String| {
        text.replace(
            "\"content_block\":{\"type\":\"text\",\"text\":\"\"}",
            "\"content_block\":{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s\",\"content\":[]}",
        )
        .replace("\"content\":[{\"type\":\"text\",", "\"content\":[{\"type\":\"new\",")
    };
    let backend = Backend::answering(move |request| match request.text().contains("\"stream\":true") {
        true => framed(&[message_events(&["a"]), message_end()].concat().into_iter().map(searched).collect::<Vec<_>>()),
        false => json(&searched(message_answer("a"))),
    });
    let gateway = Setup::with(&backend).start();
    let ask = |members| gateway.ask(message("a", members)).expect(200).cache().to_owned();
    let stream = ",\"stream\":true";
    assert_eq!([ask(stream), ask(stream), ask(""), ask("")], ["MISS", "HIT", "MISS", "HIT"]);
    assert_eq!(ask(stream), "MISS", "one answer is kept, the younger");
    assert_eq!(backend.count(), 3);
}
