//! Who is served first where requests wait: by priority, then fairly over tenants.

use std::sync::{Arc, Barrier};

use super::kit::*;

/// A backend that holds its first request until the gate opens.
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
