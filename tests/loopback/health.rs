//! Backends found sick and well: by checks that cost nothing, and by what requests meet; on every core, and told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::kit::*;

const CHECKED: &str =
    "health_interval = \"100ms\"\nhealth_timeout = \"50ms\"\neject_errors = 1000\nslow_start = \"0s\"";

/// A backend whose checks fail while `sick` is set, and that answers requests all the same.
fn moody(sick: &Arc<AtomicBool>) -> Backend {
    let sick = sick.clone();
    Backend::answering(move |request| {
        if !request.line().starts_with("GET /health ") {
            return echo(request);
        }
        assert!(request.field("user-agent").unwrap().contains("(health)"));
        assert_eq!(request.field("authorization"), None, "a health path needs no secret");
        answer(if sick.load(Ordering::SeqCst) { 503 } else { 404 }, "{}")
    })
}

fn chats(backend: &Backend) -> usize {
    backend.requests().iter().filter(|request| request.line().starts_with("POST")).count()
}

#[test]
fn a_backend_whose_checks_fail_gets_no_request_until_they_pass() {
    let sick = Arc::new(AtomicBool::new(true));
    let (one, two) = (moody(&sick), moody(&Arc::default()));
    let gateway = Setup::bare()
        .backend("one", &one, &format!("{CHECKED}\napi_key = \"secret\""))
        .backend("two", &two, CHECKED)
        .model("m", "balance = \"round-robin\"\nbackends = [\"one\", \"two\"]")
        .cores(2)
        .start();
    one.await_requests(3); // two failed checks, and the news is on its way
    eventually("only the other one is asked", || {
        let before = chats(&one);
        for round in 0..8 {
            gateway.ask(chat(&format!("{before} {round} {}", chats(&two)))).expect(200);
        }
        chats(&one) == before
    });
    sick.store(false, Ordering::SeqCst);
    let before = chats(&one);
    eventually("both are asked again", || {
        gateway.ask(chat(&format!("again {}", chats(&two)))).expect(200);
        chats(&one) > before
    });
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert!(told.contains("backend one is out of service (check_failed): /health answers 503"), "{told}");
    assert!(told.contains("backend one passes its health checks again (check_passed) after "), "{told}");
}

#[test]
fn what_one_core_finds_holds_on_all_and_is_told() {
    let sick = Arc::new(AtomicBool::new(true));
    let one = Backend::sickly(&sick);
    let two = Backend::answering(echo);
    let ejects = "eject_errors = 3\neject_time = \"1h\"";
    let gateway = Setup::bare()
        .backend("one", &one, ejects)
        .backend("two", &two, "")
        .model("m", "balance = \"round-robin\"\nbackends = [\"one\", \"two\"]")
        .cores(2)
        .start();
    // Every client gets its answer, whichever core it is on and whatever that core knows yet.
    let mut round = 0;
    eventually("nobody asks it any more", || {
        let before = one.count();
        for _ in 0..16 {
            round += 1;
            gateway.ask(chat(&format!("{round}"))).expect(200);
        }
        one.count() == before
    });
    assert!(one.count() <= 8, "{} requests to learn that it is sick", one.count());
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert!(told.contains("backend one is out of service for 3600000 ms (errors_in_row, core "), "{told}");
}

/// The words behind `"name":` in lines of the log that have this field, each once, in alphabetical order.
fn words<'a>(told: &'a str, name: &str) -> Vec<&'a str> {
    let field = format!("\"{name}\":\"");
    let found = told.lines().filter_map(|line| line.split(&field).nth(1)?.split('"').next());
    found.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[test]
fn the_log_the_metrics_and_the_status_have_the_same_words() {
    let sick = Arc::new(AtomicBool::new(true));
    let (one, two) = (moody(&sick), Backend::sickly(&Arc::new(AtomicBool::new(true))));
    let setup = || {
        Setup::bare()
            .log("format = \"json\"")
            .admin("listen = \"127.0.0.1:0\"")
            .backend("one", &one, CHECKED)
            .backend("two", &two, "eject_errors = 1\neject_time = \"1h\"")
            .model("m", "backends = [\"two\"]\nretries = 0")
            .cores(2)
    };
    let by_hand = "[config]\nwatch = false\nrefresh = \"0s\"";
    let gateway = setup().table(by_hand).start();
    let ask = |head: &str| {
        let mut client = Client::connect(gateway.admin.unwrap());
        client.send(format!("{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        client.response().text().to_owned()
    };
    let status = || serde_json::from_str::<serde_json::Value>(&ask("GET /v1/status")).unwrap();
    let reason = |backend: usize| status()["backends"][backend]["reason"].as_str().map(str::to_owned);
    let mut seen = std::collections::BTreeSet::new();
    eventually("the check has failed", || reason(0).is_some_and(|reason| seen.insert(reason)));
    gateway.ask(chat("one"));
    eventually("a request has failed", || reason(1).is_some_and(|reason| seen.insert(reason)));
    sick.store(false, Ordering::SeqCst);
    eventually("the check has passed", || reason(0).is_some_and(|reason| seen.insert(reason)));

    let mut results = std::collections::BTreeSet::new();
    let mut reload = || {
        let answer: serde_json::Value = serde_json::from_str(&ask("POST /v1/reload")).unwrap();
        assert_eq!(answer["result"], status()["last_reload"]["result"]);
        results.insert(answer["result"].as_str().unwrap().to_owned());
    };
    reload();
    gateway.rewrite(setup().table(by_hand).model("n", "backends = [\"nowhere\"]"));
    reload();
    gateway.rewrite(setup().table(by_hand).model("n", "backends = [\"one\"]"));
    reload();

    // Of the metrics, what has happened.
    let metrics = ask("GET /metrics");
    let counted = |metric: &str, label: &str| {
        let samples = metrics.lines().filter(|line| line.starts_with(metric) && !line.ends_with(" 0"));
        let words = samples.map(|line| line.split(&format!("{label}=\"")).nth(1).unwrap().split('"').next().unwrap());
        words.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(seen, ["check_failed", "check_passed", "errors_in_row"].map(str::to_owned).into());
    assert_eq!(counted("ringway_backend_transitions_total{", "reason"), seen);
    assert_eq!(results, ["in_force", "refused", "unchanged"].map(str::to_owned).into());
    assert_eq!(counted("ringway_config_reloads_total{", "result"), results);
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert_eq!(words(&told, "reason"), seen.iter().map(String::as_str).collect::<Vec<_>>(), "{told}");
    assert_eq!(words(&told, "result"), results.iter().map(String::as_str).collect::<Vec<_>>(), "{told}");
}

#[test]
fn one_that_recovers_is_probed_and_comes_back() {
    let sick = Arc::new(AtomicBool::new(true));
    let one = Backend::sickly(&sick);
    let two = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("one", &one, "eject_errors = 1\neject_time = \"20ms\"\nslow_start = \"0s\"")
        .backend("two", &two, "")
        .model("m", "balance = \"round-robin\"\nbackends = [\"one\", \"two\"]")
        .start();
    for round in 0..4 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
    }
    sick.store(false, Ordering::SeqCst);
    let mut round = 0;
    eventually("it gets half of the requests again", || {
        let (before, other) = (one.count(), two.count());
        for _ in 0..20 {
            round += 1;
            gateway.ask(chat(&format!("later {round}"))).expect(200);
        }
        one.count() - before == two.count() - other
    });
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert!(told.contains("backend one is in service again (probes_passed, core 0)"), "{told}");
}

#[test]
fn a_stream_from_before_the_return_does_not_take_it_out_again() {
    let over = Arc::new(Barrier::new(2));
    let told = over.clone();
    let one = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("old") {
                peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("begun")));
                told.wait();
                return;
            }
            if request.text().contains("fail") {
                return;
            }
            peer.write(echo(&request));
        }
    });
    let two = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("one", &one, "eject_errors = 1\neject_time = \"20ms\"\nslow_start = \"0s\"")
        .backend("two", &two, "priority = 1")
        .model("m", "backends = [\"one\", \"two\"]")
        .start();
    let mut old = gateway.client();
    old.send(chat_stream("old"));
    let mut response = old.head();
    old.chunk().unwrap();
    gateway.ask(chat("fail")).expect(200);
    let mut round = 0;
    let mut asks_ten = || {
        let before = one.count();
        for _ in 0..10 {
            round += 1;
            gateway.ask(chat(&format!("{round}"))).expect(200);
        }
        one.count() - before
    };
    eventually("it serves again", || asks_ten() == 10);
    over.wait();
    old.body(&mut response);
    assert_ne!(response.ending, Ending::Whole);
    assert_eq!(asks_ten(), 10);
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert_eq!(told.matches("backend one is out of service").count(), 1, "{told}");
}

#[test]
fn what_is_wrong_is_told_once_and_checks_do_not_hold_up_a_drain() {
    let hanging = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let (sick, well) = (Backend::answering(|_| answer(500, "{}")), Backend::answering(echo));
    let gateway = Setup::bare()
        .backend("hanging", &hanging, "health_interval = \"10m\"\nhealth_timeout = \"10m\"")
        .backend("sick", &sick, CHECKED)
        .backend_at("named", &format!("http://localhost:{}", well.address.port()))
        .model("m", "backends = [\"named\"]")
        .start();
    hanging.await_requests(1);
    sick.await_requests(6);
    gateway.ask(chat("over a name")).expect(200);
    gateway.terminate();
    // It is not waited for by the node that asked it.
    hanging.await_left(1);
    let (status, told) = gateway.ended();
    assert!(status.success(), "{told}");
    assert_eq!(told.matches("backend sick is out of service").count(), 1, "{told}");
    assert!(!told.contains("localhost"), "a name of the hosts file leads where it led: {told}");
}
