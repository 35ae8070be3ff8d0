//! Who is served first where requests wait: by priority, then fairly over tenants; and who does not wait, because it has no
//! time. How many requests a backend gets, where that is found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::kit::*;

/// A backend that holds some requests until the gate opens.
fn gated() -> (Backend, Arc<Barrier>) {
    let gate = Arc::new(Barrier::new(2));
    let held = gate.clone();
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("held") {
                held.wait();
            }
            peer.write(echo(&request));
        }
    });
    (backend, gate)
}

fn one_at_a_time(backend: &Backend, lines: &str) -> Setup {
    Setup::bare()
        .admin("listen = \"127.0.0.1:0\"")
        .backend("b", backend, "")
        .model("m", &format!("backends = [\"b\"]\nmax_concurrent_requests = 1\ntimeout_queue = \"60s\"\n{lines}"))
}

fn asking(gateway: &Gateway, fields: &str, what: &str) -> Client {
    let mut client = gateway.client();
    client.send(post_with(CHAT, fields, &question(what)));
    client
}

fn metric(gateway: &Gateway, sample: &str) -> u64 {
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let text = admin.response().expect(200);
    let value = text.text().lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

fn await_waiting(gateway: &Gateway, count: u64) {
    eventually("all wait", || metric(gateway, r#"ringway_queue_depth{model="m"}"#) == count);
}

/// The words of the requests in the order in which the backend got them, without the first.
fn order(backend: &Backend, words: &[&str]) -> Vec<String> {
    let word = |request: &Request| words.iter().find(|word| request.text().contains(*word)).unwrap().to_string();
    backend.requests()[1..].iter().map(word).collect()
}

#[test]
fn interactive_goes_before_batch_whoever_came_first() {
    let (backend, gate) = gated();
    let gateway = one_at_a_time(&backend, "")
        .tenant("urgent", "key-urgent", "priority = 1")
        .tenant("usual", "key-usual", "")
        .start();
    let mut clients = vec![asking(&gateway, "x-api-key: key-usual\r\n", "held")];
    backend.await_requests(1);
    let batch = "x-api-key: key-urgent\r\nx-request-priority: batch\r\n";
    // To want more than one's tenant has gives nothing.
    let pushy = "x-api-key: key-usual\r\nx-request-priority: 0\r\n";
    for (count, (fields, word)) in [
        (batch, "batch"),
        (pushy, "usual"),
        ("x-api-key: key-usual\r\nx-request-priority: 7\r\n", "later"),
        ("x-api-key: key-urgent\r\nx-request-priority: interactive\r\n", "first"),
    ]
    .into_iter()
    .enumerate()
    {
        clients.extend((0..3).map(|number| asking(&gateway, fields, &format!("{word} {number}"))));
        await_waiting(&gateway, 3 * (count as u64 + 1));
    }
    gate.wait();
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    let expected: Vec<&str> = ["first", "usual", "later", "batch"].into_iter().flat_map(|word| [word; 3]).collect();
    assert_eq!(order(&backend, &["first", "usual", "later", "batch"]), expected);
}

#[test]
fn tiers_of_service_have_the_priorities_that_the_configuration_gives_them() {
    let (backend, gate) = gated();
    let tiers =
        r#"[{ tier = "flex", priority = 9 }, { tier = "default", priority = 6 }, { tier = "priority", priority = 0 }]"#;
    let gateway = one_at_a_time(&backend, "")
        .single("limits", &format!("service_tiers = {tiers}"))
        .tenant("t", "key", "priority = 2")
        .start();
    let asking = |fields: &str, tier: &str, what: &str| {
        let body = question(what).replace("\"model\"", &format!("{tier}\"model\""));
        let mut client = gateway.client();
        client.send(post_with(CHAT, &format!("x-api-key: key\r\n{fields}"), &body));
        client
    };
    let mut clients = vec![asking("", "", "held")];
    backend.await_requests(1);
    for (count, (fields, tier, word)) in [
        ("", r#""service_tier":"fle\u0078","#, "flexible"),
        ("x-request-priority: 7\r\n", r#""service_tier":"priority","#, "seventh"),
        ("", r#""service_tier":"default","#, "sixth"),
        // No more than its tenant has; one that is not in the list, and what is no tier, say nothing.
        ("", r#""service_tier":"priority","#, "one"),
        ("", r#""service_tier":"scale","#, "two"),
        ("", r#""service_tier":null,"metadata":{"service_tier":"flex"},"#, "three"),
    ]
    .into_iter()
    .enumerate()
    {
        clients.push(asking(fields, tier, word));
        await_waiting(&gateway, count as u64 + 1);
    }
    gate.wait();
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    let expected = ["one", "two", "three", "sixth", "seventh", "flexible"];
    assert_eq!(order(&backend, &expected), expected);
    assert!(backend.requests()[4].text().contains(r#""service_tier":"default""#), "{}", backend.requests()[4].text());
}

#[test]
fn a_tenant_with_many_requests_keeps_nobody_waiting() {
    let (backend, gate) = gated();
    let gateway = one_at_a_time(&backend, "max_pending_requests = 30")
        .tenant("flood", "key-flood", "")
        .tenant("small", "key-small", "")
        .tenant("large", "key-large", "weight = 3")
        .start();
    let mut held = asking(&gateway, "x-api-key: key-flood\r\n", "held");
    backend.await_requests(1);
    let mut flood: Vec<_> =
        (0..30).map(|number| asking(&gateway, "x-api-key: key-flood\r\n", &format!("flood {number}"))).collect();
    await_waiting(&gateway, 30);
    // The queue is full: the flood's last ones make way, and its further ones are refused.
    let mut small: Vec<_> =
        (0..2).map(|number| asking(&gateway, "x-api-key: key-small\r\n", &format!("small {number}"))).collect();
    small.extend((0..6).map(|number| asking(&gateway, "x-api-key: key-large\r\n", &format!("large {number}"))));
    let full = || metric(&gateway, r#"ringway_queue_rejections_total{reason="full"}"#);
    eventually("eight made way", || full() == 8);
    let refused = asking(&gateway, "x-api-key: key-flood\r\n", "flood too").response().expect(503);
    assert_eq!((refused.code().as_str(), refused.field("retry-after")), ("queue_full", Some("1")));
    gate.wait();
    held.response().expect(200);
    small.iter_mut().for_each(|client| drop(client.response().expect(200)));
    let of_flood: Vec<u16> = flood.iter_mut().map(|client| client.response().status).collect();
    assert_eq!(of_flood.iter().filter(|status| **status == 503).count(), 8, "{of_flood:?}");
    let order = order(&backend, &["flood", "small", "large"]);
    let last = |word: &str| order.iter().rposition(|other| other == word).unwrap();
    // In 10 turns of one, one and three: all of both, give or take one turn of each tenant.
    assert!(last("small") <= 12 && last("large") <= 12, "{order:?}");
    assert_eq!(full(), 9);
}

#[test]
fn a_priority_that_cannot_be_read_is_refused() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for fields in ["x-request-priority: high\r\n", "x-request-priority: 10\r\n", "x-request-priority: -1\r\n"] {
        let refused = asking(&gateway, fields, "x").response().expect(400);
        assert_eq!(refused.code(), "bad_request_head");
        assert!(refused.text().contains("x-request-priority"), "{}", refused.text());
    }
    let twice = "x-request-priority: 1\r\nx-request-priority: 9\r\n";
    asking(&gateway, twice, "x").response().expect(400);
    assert_eq!(backend.count(), 0);
    asking(&gateway, "x-request-priority: 9\r\n", "x").response().expect(200);
    let head = backend.requests()[0].head.to_ascii_lowercase();
    assert!(!head.contains("x-request-priority"), "{head}");
}

#[test]
fn who_would_wait_for_too_long_is_refused_at_once() {
    let (backend, gate) = gated();
    let gateway = one_at_a_time(&backend, "").start();
    // How fast the queue is served is seen from one that waited.
    let mut first = asking(&gateway, "", "held at first");
    backend.await_requests(1);
    let mut second = asking(&gateway, "", "second");
    await_waiting(&gateway, 1);
    gate.wait();
    first.response().expect(200);
    second.response().expect(200);
    let mut third = asking(&gateway, "", "held once more");
    backend.await_requests(3);
    let refused = asking(&gateway, "x-request-timeout: 1ms\r\n", "in a hurry").response().expect(503);
    assert_eq!(refused.code(), "deadline_unreachable");
    let seconds: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(metric(&gateway, r#"ringway_queue_rejections_total{reason="deadline"}"#), 1);
    let mut patient = asking(&gateway, "x-request-timeout: 25s\r\n", "patient");
    await_waiting(&gateway, 1);
    gate.wait();
    third.response().expect(200);
    patient.response().expect(200);
    assert_eq!(backend.count(), 4);
}

#[test]
fn whose_time_is_over_leaves_the_queue() {
    let (backend, gate) = gated();
    let gateway = one_at_a_time(&backend, "").start();
    let mut first = asking(&gateway, "", "held");
    backend.await_requests(1);
    for (count, fields) in ["x-request-timeout: 0.05\r\n", "x-stainless-read-timeout: 0.05\r\n"].into_iter().enumerate()
    {
        let refused = asking(&gateway, fields, "waits").response().expect(503);
        assert_eq!((refused.code().as_str(), refused.field("retry-after")), ("deadline_unreachable", Some("1")));
        assert_eq!(metric(&gateway, r#"ringway_queue_rejections_total{reason="expired"}"#), count as u64 + 1);
    }
    await_waiting(&gateway, 0);
    gate.wait();
    first.response().expect(200);
    // The next one does not find its permit with one that has left.
    asking(&gateway, "", "next").response().expect(200);
    assert_eq!(backend.count(), 2);
}

#[test]
fn attempts_end_at_the_deadline_and_no_backend_is_blamed() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            match request.text().contains("never") {
                true => peer.await_close(),
                false => _ = peer.write(echo(&request)),
            }
        }
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "eject_errors = 1\neject_time = \"1h\"")
        .model("m", "backends = [\"b\"]\nretries = 5")
        .start();
    for what in [question("never"), streamed_question("never, and streamed")] {
        let mut client = gateway.client();
        client.send(post_with(CHAT, "x-request-timeout: 50ms\r\n", &what));
        assert_eq!(client.response().expect(504).code(), "deadline_exceeded");
    }
    backend.await_left(2);
    asking(&gateway, "x-request-timeout: 25\r\n", "at once").response().expect(200);
    assert_eq!(backend.count(), 3);
}

#[test]
fn a_time_out_that_cannot_be_read_is_refused() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    for value in ["", "soon", "0", "-5", "1m", "86401", "1.2345", "30, 40"] {
        let refused = asking(&gateway, &format!("x-request-timeout: {value}\r\n"), "x").response().expect(400);
        assert!(refused.text().contains("x-request-timeout"), "{value}: {}", refused.text());
    }
    asking(&gateway, "x-request-timeout: 1\r\nx-request-timeout: 1\r\n", "x").response().expect(400);
    assert_eq!(backend.count(), 0);
    // Not written for this gateway: a value that cannot be read means nothing.
    for value in ["", "never", "0", "600.0"] {
        asking(&gateway, &format!("x-stainless-read-timeout: {value}\r\n"), "x").response().expect(200);
    }
}

fn limit_of(gateway: &Gateway, backend: usize) -> serde_json::Value {
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let status: serde_json::Value = serde_json::from_str(admin.response().expect(200).text()).unwrap();
    status["backends"][backend]["concurrency_limit"].clone()
}

/// Answers nothing until it is open.
fn closed(open: &Arc<AtomicBool>) -> Backend {
    let open = open.clone();
    Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            while !open.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            peer.write(echo(&request));
        }
    })
}

#[test]
fn a_backend_at_its_limit_leaves_the_rest_to_others_and_then_lets_it_wait() {
    let open = Arc::new(AtomicBool::new(false));
    let (one, other) = (closed(&open), closed(&open));
    let adaptive = "adaptive_concurrency = true\nconnections_min = 0";
    let gateway = Setup::bare()
        .admin("listen = \"127.0.0.1:0\"")
        .backend("b", &one, &format!("{adaptive}\nweight = 100"))
        .backend("c", &other, "connections_min = 0")
        .backend("d", &other, adaptive)
        .model("m", "backends = [\"b\", \"c\"]\nbalance = \"round-robin\"")
        .model("n", "backends = [\"d\"]")
        .start();
    // By weight, one alone would get them all.
    let mut clients: Vec<_> = (0..20).map(|number| asking(&gateway, "", &format!("{number}"))).collect();
    one.await_requests(8);
    other.await_requests(12);
    assert_eq!((one.count(), other.count()), (8, 12));
    // Nowhere else to go: they wait.
    for number in 0..12 {
        let mut client = gateway.client();
        client.send(post(CHAT, &question(&format!("n {number}")).replace("\"m\"", "\"n\"")));
        clients.push(client);
    }
    other.await_requests(20);
    eventually("the limit is shown", || limit_of(&gateway, 0) == 8 && limit_of(&gateway, 2) == 8);
    assert_eq!((limit_of(&gateway, 1), other.count()), (serde_json::Value::Null, 20));
    assert_eq!(metric(&gateway, r#"ringway_backend_concurrency_limit{backend="d"}"#), 8);
    open.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    assert_eq!((one.count(), other.count()), (8, 24));
}

#[test]
fn a_backend_that_has_too_much_gets_less() {
    let backend = Backend::answering(|_| answer(503, "{}"));
    let gateway = Setup::bare()
        .admin("listen = \"127.0.0.1:0\"")
        .backend(
            "b",
            &backend,
            "adaptive_concurrency = true\nconcurrency_min = 3\neject_errors = 1000\neject_error_percent = 0",
        )
        .model("m", "backends = [\"b\"]\nretries = 0")
        .start();
    for number in 0..20 {
        asking(&gateway, "", &format!("{number}")).response().expect(503);
    }
    eventually("the limit is at its least or near", || limit_of(&gateway, 0).as_u64().is_some_and(|limit| limit <= 6));
}
