//! Calls that go on when their clients have gone, with `on_client_disconnect = "drain"`: what they are good for, and what bounds them.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;

use super::kit::*;

const DRAIN: &str = "backends = [\"b\"]\non_client_disconnect = \"drain\"";

fn draining(backend: &Backend) -> Setup {
    Setup::bare()
        .backend("b", backend, "")
        .model("m", DRAIN)
        .admin("listen = \"127.0.0.1:0\"")
        .log("access = \"$DIRECTORY/access.log\"")
}

/// A backend that streams `a`, waits for a word, and streams `b`, the end and the usage. Whole answers wait as well.
fn gated() -> (Backend, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if !request.text().contains("\"stream\":true") {
                wait.lock().unwrap().recv_timeout(GUARD).unwrap();
                peer.write(echo(&request));
                continue;
            }
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(chunk(&piece("b")) + &chunk(&finish("stop")) + &chunk(&usage()) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    (backend, go)
}

/// A client that has the head and the first event of its stream.
fn begun(gateway: &Gateway, request: &[u8]) -> (Client, Response) {
    let mut client = gateway.client();
    client.send(request);
    let mut response = client.head();
    while response.body.len() < piece("a").len() {
        response.body.extend(client.chunk().unwrap());
    }
    (client, response)
}

fn admin(gateway: &Gateway, target: &str) -> String {
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.response().expect(200).text().to_owned()
}

fn drained(gateway: &Gateway, result: &str) -> u64 {
    let sample = format!("ringway_upstream_calls_drained_total{{result=\"{result}\"}} ");
    let text = admin(gateway, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(&sample)).expect(&sample).parse().unwrap()
}

fn in_flight(gateway: &Gateway) -> bool {
    admin(gateway, "/metrics").contains("ringway_backend_requests_in_flight{backend=\"b\"} 1")
}

#[test]
fn what_is_read_on_is_kept_and_counted() {
    for cores in [1, 2] {
        let (backend, go) = gated();
        let gateway = draining(&backend)
            .cores(cores)
            .tenant("t", "key", "concurrent_requests = 1\ntokens_per_minute = 10_000")
            .start();
        let ask = |body: &str| post_with(CHAT, "Authorization: Bearer key\r\n", body);
        let bounded = |what: &str| streamed_question(what).replace("\"model\"", "\"max_tokens\":5000,\"model\"");
        drop(begun(&gateway, &ask(&bounded("left"))));
        // It is still one of its tenant's that run.
        eventually("the client has gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
        assert!(in_flight(&gateway));
        assert_eq!(gateway.ask(ask(&bounded("other"))).expect(429).code(), "concurrent_requests_exceeded");
        go.send(()).unwrap();
        eventually("it has ended", || drained(&gateway, "finished") == 1);
        // Real usage: what was reserved beyond it is free again, on another core within a second.
        eventually("what was not used is free", || {
            let again = gateway.ask(ask(&bounded("left")));
            if again.status == 200 {
                assert_eq!((again.cache(), again.text()), ("HIT", &*stream_seen(&["a", "b"])));
            }
            again.field("x-ratelimit-remaining-tokens") == Some("9995")
        });
        assert_eq!(backend.count(), 1);
        let usage: Value = serde_json::from_str(&admin(&gateway, "/v1/usage")).unwrap();
        let tokens = &usage["total"]["tokens"];
        assert_eq!((&tokens["prompt"], &tokens["completion"]), (&3.into(), &2.into()), "{usage}");
        gateway.terminate();
        let lines = gateway.into_lines();
        let line = lines.iter().find(|line| line["error"] == "client_gone").unwrap();
        assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&3.into(), &2.into()), "{line}");
        assert_eq!((&line["backend"], &line["cache"]), (&"b".into(), &"miss".into()));
    }
}

#[test]
fn a_whole_answer_is_waited_for_and_the_last_of_a_crowd_may_be_anybody() {
    let (backend, go) = gated();
    let gateway = draining(&backend).cores(2).start();
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    clients.iter_mut().for_each(|client| client.send(chat("whole")));
    backend.await_requests(1);
    eventually("all are in", || admin(&gateway, "/metrics").contains("ringway_client_connections 8"));
    drop(clients);
    eventually("all have gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
    go.send(()).unwrap();
    eventually("it has ended", || drained(&gateway, "finished") == 1);
    let again = gateway.ask(chat("whole")).expect(200);
    assert_eq!((again.cache(), again.text()), ("HIT", completion("whole!").as_str()));
    assert_eq!(backend.count(), 1);
}

#[test]
fn whoever_asks_the_same_meanwhile_joins_it() {
    for cores in [1, 2] {
        let (backend, go) = gated();
        let gateway = draining(&backend).cores(cores).start();
        drop(begun(&gateway, &chat_stream("joined")));
        eventually("the client has gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
        let (mut client, mut response) = begun(&gateway, &chat_stream("joined"));
        assert_eq!(response.field("cache-status"), Some("ringway; fwd=uri-miss; collapsed"));
        assert_eq!(drained(&gateway, "joined"), 1);
        go.send(()).unwrap();
        client.body(&mut response);
        assert_eq!(response.expect(200).text(), stream_seen(&["a", "b"]));
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn nobody_is_asked_again_for_nobody() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(answer(503, "{}"));
        }
    });
    let gateway = draining(&backend).start();
    let mut client = gateway.client();
    client.send(chat("failing"));
    backend.await_requests(1);
    drop(client);
    eventually("the client has gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
    assert!(in_flight(&gateway));
    go.send(()).unwrap();
    eventually("it has failed", || drained(&gateway, "failed") == 1);
    assert_eq!(backend.count(), 1);
}

#[test]
fn what_has_no_end_is_cut() {
    let long = piece(&"x".repeat(100_000));
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            while peer.write(chunk(&long)) {}
        }
    });
    let gateway = draining(&backend).start();
    drop(begun(&gateway, &chat_stream("endless")));
    eventually("it is cut", || drained(&gateway, "cut") == 1);
    assert!(!in_flight(&gateway));
    gateway.terminate();
    let lines = gateway.into_lines();
    assert_eq!((lines.len(), &lines[0]["error"]), (1, &"client_gone".into()));
}

#[test]
fn a_stop_waits_for_it_and_no_longer_than_for_clients() {
    let (backend, go) = gated();
    let gateway = draining(&backend).start();
    drop(begun(&gateway, &chat_stream("ending")));
    eventually("the client has gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
    gateway.terminate();
    eventually("it drains", || std::net::TcpStream::connect(gateway.address).is_err());
    go.send(()).unwrap();
    let lines = gateway.into_lines();
    assert_eq!((lines.len(), &lines[0]["completion_tokens"]), (1, &2.into()));

    let (backend, _go) = gated();
    let gateway = draining(&backend).server("timeout_drain = \"200ms\"").start();
    drop(begun(&gateway, &chat_stream("hanging")));
    eventually("the client has gone", || admin(&gateway, "/metrics").contains("ringway_client_connections 0"));
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cut off"), "{said}");
}
