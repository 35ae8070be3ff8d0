//! How long is waited for whom, how often a request is sent, and what its failures say of a backend.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::sleep;
use std::time::Duration;

use super::kit::*;

const BATCHES: &str = "/v1/batches";
const OTHER: &str = r#"{"model":"m"}"#;

fn answer_with(status: u16, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn limited(seconds: u32) -> Vec<u8> {
    let error = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    answer_with(429, &format!("Retry-After: {seconds}\r\n"), error)
}

fn no_quota() -> Vec<u8> {
    let error = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    answer_with(429, "", error)
}

/// RFC 9110 9.2.2: what was read may have been acted on.
#[test]
fn what_may_have_effects_is_not_sent_again_when_its_connection_ends() {
    // For each API.
    let body = || completion("x").replacen('{', r#"{"type":"message","content":[],"output":[],"#, 1);
    let closes_on_the_second = || {
        Backend::run(move |peer| {
            if peer.request().is_some() {
                peer.write(json(&body()));
                if peer.number == 0 {
                    peer.request();
                    return;
                }
                while peer.request().is_some() {
                    peer.write(json(&body()));
                }
            }
        })
    };
    let generate = |path: &str| post(path, OTHER);
    let get = format!("GET {BATCHES}/1 HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let keyed = post_with(BATCHES, "Idempotency-Key: k1\r\n", OTHER);
    for (request, sent) in [
        (generate(BATCHES), 1),
        (generate("/v1/fine_tuning/jobs"), 1),
        (keyed, 2),
        (get, 2),
        (generate("/v1/responses"), 2),
        (generate("/v1/messages?beta=true"), 2),
        (chat("x"), 2),
    ] {
        let backend = closes_on_the_second();
        let gateway = Setup::bare()
            .server("default_model = \"m\"")
            .backend("b", &backend, "")
            .model("m", "backends = [\"b\"]\nretries = 0")
            .start();
        gateway.ask(chat("first")).expect(200);
        let response = gateway.ask(&request);
        let what = String::from_utf8_lossy(&request).lines().next().unwrap().to_owned();
        assert_eq!(backend.count(), 1 + sent, "{what}");
        match sent {
            1 => assert_eq!((response.status, response.code().as_str()), (502, "backend_closed"), "{what}"),
            _ => assert_eq!(response.status, 200, "{what}"),
        }
        if what.contains(BATCHES) && sent == 2 && what.starts_with("POST") {
            assert_eq!(backend.requests()[2].field("idempotency-key"), Some("k1"));
        }
    }
}

#[test]
fn a_wait_longer_than_the_clients_patience_is_passed_on() {
    let backend = Backend::answering(|_| limited(20));
    let gateway = Setup::with(&backend).start();
    let response = gateway.ask(chat("x")).expect(429);
    assert_eq!((response.field("retry-after"), backend.count()), (Some("20"), 1));
}

#[test]
fn an_account_without_quota_is_not_asked_twice() {
    let (poor, rich) = (Backend::answering(|_| no_quota()), Backend::answering(echo));
    let gateway = Setup::with(&poor).start();
    assert!(gateway.ask(chat("x")).expect(429).text().contains("insufficient_quota"));
    assert_eq!(poor.count(), 1);
    let gateway = Setup::bare()
        .backend("poor", &poor, "")
        .backend("rich", &rich, "priority = 1")
        .model("m", "backends = [\"poor\", \"rich\"]")
        .start();
    for round in 1..4 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
        assert_eq!((poor.count(), rich.count()), (2, round), "once, and then it is left alone for a while");
    }
}

#[test]
fn a_rate_limit_of_one_model_leaves_the_others_of_its_backend_alone() {
    let first = Backend::answering(|request| match request.text().contains("\"small\"") {
        true => limited(20),
        false => echo(request),
    });
    let second = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("first", &first, "")
        .backend("second", &second, "priority = 1")
        .model("m", "backends = [{ backend = \"first\", model = \"small\" }, \"second\"]")
        .model("n", "backends = [\"first\", \"second\"]")
        .start();
    let of_n = |what: &str| post(CHAT, &question(what).replace("\"m\"", "\"n\""));
    for round in 0..3 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
        gateway.ask(of_n(&format!("{round}"))).expect(200);
    }
    let asked = |model: &str| first.requests().iter().filter(|request| request.text().contains(model)).count();
    assert_eq!((asked("\"small\""), asked("\"n\""), second.count()), (1, 3, 3));
}

#[test]
fn a_request_that_fails_everywhere_takes_no_backend_out() {
    let picky = || {
        Backend::answering(|request| match request.text().contains("poison") {
            true => answer(500, r#"{"error":{"message":"assertion failed"}}"#),
            false => echo(request),
        })
    };
    let (one, two) = (picky(), picky());
    let ejects = "eject_errors = 2\neject_time = \"1h\"";
    let gateway = Setup::bare()
        .backend("one", &one, ejects)
        .backend("two", &two, ejects)
        .model("m", "backends = [\"one\", \"two\"]")
        .start();
    for round in 0..6 {
        gateway.ask(chat(&format!("poison {round}"))).expect(500);
    }
    gateway.ask(chat("good")).expect(200);
    gateway.terminate();
    let (_, told) = gateway.ended();
    assert!(!told.contains("out of service"), "{told}");
}

#[test]
fn a_500_counts_where_another_backend_answers_and_once_a_request_where_there_is_none() {
    let sick = Backend::answering(|_| answer(500, r#"{"error":{"message":"no"}}"#));
    let well = Backend::answering(echo);
    let ejects = "eject_errors = 3\neject_time = \"1h\"";
    let gateway = Setup::bare()
        .backend("sick", &sick, ejects)
        .backend("well", &well, "priority = 1")
        .model("m", "backends = [\"sick\", \"well\"]")
        .model("n", "backends = [\"sick\"]\nretries = 1")
        .start();
    let of_n = |what: &str| post(CHAT, &question(what).replace("\"m\"", "\"n\""));
    for _ in 0..4 {
        gateway.ask(of_n("the same")).expect(500);
    }
    assert_eq!(sick.count(), 8, "one failure so far");
    for round in 0..6 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((sick.count(), well.count()), (10, 6), "two more take it out of service");
}

#[test]
fn what_is_out_of_service_is_passed_over_for_a_fallback() {
    let dead = Backend::run(|peer| _ = peer.request());
    let good = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("dead", &dead, "eject_errors = 1\neject_time = \"1h\"")
        .backend("good", &good, "")
        .model("m", "backends = [\"dead\"]\nfallback = [\"n\"]\nretries = 0")
        .model("n", "backends = [\"good\"]")
        .model("alone", "backends = [\"dead\"]\nretries = 0")
        .start();
    for round in 0..4 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((dead.count(), good.count()), (1, 4));
    // Where nothing else is left, it is asked.
    gateway.ask(post(CHAT, &question("x").replace("\"m\"", "\"alone\""))).expect(502);
    assert_eq!(dead.count(), 2);
}

#[test]
fn a_backend_that_hangs_is_not_waited_for_again() {
    let hung = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::with_backend(&hung, "timeout_head = \"200ms\"").start();
    assert_eq!(gateway.ask(chat_stream("x")).expect(504).code(), "backend_timeout");
    assert_eq!(hung.count(), 1);
}

#[test]
fn comments_alone_do_not_keep_a_stream_alive() {
    let beats = |lines: &'static str, first: String| {
        let backend = Backend::run(move |peer| {
            peer.request();
            peer.write(STREAM_HEAD.to_owned() + &chunk(&first));
            while peer.write(chunk(": still here\n\n")) {
                sleep(Duration::from_millis(20));
            }
            peer.left();
        });
        let gateway = Setup::bare().backend("b", &backend, lines).model("m", "backends = [\"b\"]\nretries = 0").start();
        let response = gateway.ask(chat_stream("x"));
        backend.await_left(1);
        response
    };
    let response = beats("timeout_stream_content = \"300ms\"", piece("begun"));
    assert!(response.text().contains("begun") && response.text().contains("backend_timeout"), "{}", response.text());
    assert_ne!(response.ending, Ending::Whole);
    let response = beats("timeout_first_token = \"300ms\"", ": hello\n\n".to_owned()).expect(504);
    assert_eq!(response.code(), "backend_timeout");
}

/// Speech, a file, events asked for by a form: none of them says in a JSON body that it is a stream.
#[test]
fn a_body_that_flows_is_not_bounded_by_the_time_for_an_answer() {
    for head in ["audio/mpeg", "text/event-stream"] {
        let backend = Backend::run(move |peer| {
            peer.request();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Type: {head}\r\nTransfer-Encoding: chunked\r\n\r\n"));
            peer.write(chunk("first"));
            sleep(Duration::from_millis(2500));
            peer.write(chunk("last") + LAST_CHUNK);
        });
        let gateway = Setup::with_backend(&backend, "timeout_request = \"2s\"").start();
        let response = gateway.ask(post("/v1/audio/speech", OTHER)).expect(200);
        assert_eq!((response.text(), response.ending), ("firstlast", Ending::Whole), "{head}");
    }
}

/// More requests are stuck than there are hedges at first: each request that comes earns half of one more.
#[test]
fn a_request_that_found_no_hedge_gets_one_that_others_earn() {
    let slow = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("stuck") {
                peer.await_close();
                return;
            }
            if request.text().contains("ordinary") {
                sleep(Duration::from_millis(25));
            }
            peer.write(echo(&request));
        }
    });
    let fast = Backend::answering(echo);
    let patient = "timeout_head = \"5m\"\ntimeout_first_token = \"5m\"";
    let gateway = Setup::bare()
        .backend("slow", &slow, patient)
        .backend("fast", &fast, &format!("{patient}\npriority = 1"))
        .model("m", "backends = [\"slow\", \"fast\"]\nhedge_percent = 50")
        .start();
    for round in 0..30 {
        gateway.ask(chat_stream(&format!("ordinary {round}"))).expect(200);
    }
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (gateway, answered) = (&gateway, &answered);
            scope.spawn(move || {
                gateway.ask(chat_stream(&format!("stuck {number}"))).expect(200);
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut round = 0;
        eventually("every one of them is answered", || {
            round += 1;
            gateway.ask(chat_stream(&format!("quick {round}"))).expect(200);
            answered.load(Ordering::SeqCst) == 8
        });
    });
}

/// A stream whose backend says nothing for 15 s is begun all the same, with a comment, and what comes then goes on behind it.
#[test]
fn a_backend_that_thinks_before_its_first_event_leaves_no_client_without_a_sign() {
    let go = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = go.clone();
    let backend = Backend::run(move |peer| {
        let Some(request) = peer.request() else { return };
        let (is_told, told) = &*waits;
        drop(told.wait_while(is_told.lock().unwrap(), |is_told| !*is_told).unwrap());
        let text = request.text().to_owned();
        let whole = STREAM_HEAD.to_owned() + &chunk(&(piece("a") + &finish("stop") + &done())) + LAST_CHUNK;
        match () {
            () if text.contains("refused") => peer.write(answer(400, r#"{"error":{"message":"no"}}"#)),
            () if text.contains("closed") => false,
            () if text.contains("whole") => peer.write(echo(&request)),
            () => peer.write(whole),
        };
    });
    let good = Backend::answering(|_| {
        (STREAM_HEAD.to_owned() + &chunk(&(piece("b") + &finish("stop") + &done())) + LAST_CHUNK).into_bytes()
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .backend("good", &good, "")
        .model("m", "backends = [\"b\"]\nretries = 0")
        .model("n", "backends = [\"b\"]\nretries = 0\nfallback = [\"o\"]")
        .model("o", "backends = [\"good\"]")
        .cache("timeout_follow = \"1m\"")
        .start();
    let ask = |request: Vec<u8>| {
        let mut client = gateway.client();
        client.send(request);
        client
    };
    let of_n = String::from_utf8(chat_stream("closed")).unwrap().replace("\"m\"", "\"n\"");
    let [mut answered, mut second, mut refused, mut closed, mut fallen] =
        [chat_stream("x"), chat_stream("x"), chat_stream("refused"), chat_stream("closed"), of_n.into_bytes()].map(ask);
    let mut messages =
        ask(post("/v1/messages", &question("closed").replace("{", "{\"stream\":true,\"max_tokens\":9,")));
    let mut whole = ask(chat("whole"));
    for client in [&mut answered, &mut second, &mut refused, &mut closed, &mut fallen, &mut messages] {
        assert!(client.reads("\r\n\r\n3\r\n:\n\n\r\n"), "a head and a comment");
    }
    *go.0.lock().unwrap() = true;
    go.1.notify_all();
    for client in [&mut answered, &mut second] {
        let response = client.response().expect(200);
        assert_eq!(response.text(), format!(":\n\n{}{}{}", piece("a"), finish("stop"), done()));
        assert_eq!(response.ending, Ending::Whole);
    }
    let response = gateway.ask(chat_stream("x")).expect(200);
    assert_eq!((response.cache(), response.text()), ("HIT", (piece("a") + &finish("stop") + &done()).as_str()));
    let response = fallen.response().expect(200);
    assert_eq!(response.text(), format!(":\n\n{}{}{}", piece("b"), finish("stop"), done()));
    for (mut client, code) in [(refused, "backend_refused"), (closed, "backend_closed"), (messages, "event: error")] {
        let response = client.response();
        assert_eq!(response.status, 200, "{code}");
        assert!(response.text().starts_with(":\n\n") && response.text().contains(code), "{code}: {}", response.text());
        assert_ne!(response.ending, Ending::Whole, "{code}");
    }
    assert!(whole.response().expect(200).text().contains("whole"));
}
