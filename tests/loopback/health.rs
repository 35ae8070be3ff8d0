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
    assert!(told.contains("backend one is out of service, its checks fail: /health answers 503"), "{told}");
    assert!(told.contains("backend one passes its health checks again after "), "{told}");
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
