//! Attempts that follow each other unseen: other backends, fallbacks, time-outs, budgets, queues, hedges, and what serves
//! when nothing else does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::sleep;
use std::time::Duration;

use super::kit::*;

const ERROR_503: &str = r#"{"error":{"message":"busy","type":"server_error","code":"busy"}}"#;

/// Two backends, `bad` first, behind the model `m`.
fn pair(bad: &Backend, good: &Backend, model: &str) -> Setup {
    Setup::bare()
        .backend("bad", bad, "timeout_head = \"200ms\"\ntimeout_first_token = \"300ms\"")
        .backend("good", good, "priority = 1")
        .model("m", &format!("backends = [\"bad\", \"good\"]\n{model}"))
}

/// A `[[backend]]`'s first choice fails in every way there is before the first content; clients see none of it.
#[test]
fn whatever_fails_before_the_first_content_is_followed_by_another_attempt() {
    type Fail = (&'static str, fn(&mut Peer));
    let fails: [Fail; 12] = [
        ("closes", |_| {}),
        ("resets", |peer| peer.reset()),
        ("garbage", |peer| _ = peer.write("SSH-2.0-OpenSSH_9\r\n\r\n")),
        ("503", |peer| _ = peer.write(answer(503, ERROR_503))),
        ("529", |peer| _ = peer.write(answer(529, ERROR_503))),
        ("half a head", |peer| _ = peer.write("HTTP/1.1 200 OK\r\nConte")),
        ("a head and no more", |peer| {
            peer.write(STREAM_HEAD);
            peer.await_close();
        }),
        ("a role and no more", |peer| {
            let role = r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
            peer.write(STREAM_HEAD.to_owned() + &chunk(&event(role)));
        }),
        ("half an event", |peer| {
            let whole = piece("x");
            let half = whole.trim_end()[..whole.len() / 2].to_owned() + "\n\n";
            peer.write(STREAM_HEAD.to_owned() + &chunk(&half) + &chunk(&(piece("y") + &finish("stop") + &done())));
        }),
        ("content and the end in one", |peer| {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("x")) + LAST_CHUNK);
        }),
        ("content and garbage in one", |peer| {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("x")) + "no chunk\r\n");
        }),
        ("an error first", |peer| {
            let error = event(r#"{"error":{"message":"CUDA out of memory","type":"server_error"}}"#);
            peer.write(STREAM_HEAD.to_owned() + &chunk(&error) + LAST_CHUNK);
            peer.finish();
        }),
    ];
    for (what, fail) in fails {
        let bad = Backend::run(move |peer| {
            if peer.request().is_some() {
                fail(peer);
            }
        });
        let good = Backend::answering(echo);
        let gateway = pair(&bad, &good, "").start();
        let response = gateway.ask(chat_stream("x")).expect(200);
        assert_eq!(response.text(), stream_seen(&["x", "!"]), "{what}");
        assert_eq!((bad.count(), good.count()), (1, 1), "{what}");
    }
}

/// One that this gateway does not understand goes out as it comes, from what came with its head on.
#[test]
fn what_breaks_off_together_with_its_head_is_asked_for_again() {
    let bad = Backend::run(|peer| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nno chunk\r\n");
        }
    });
    let good = Backend::answering(|_| json("{}"));
    let gateway = pair(&bad, &good, "").start();
    let request = post("/v1/other", r#"{"model":"m"}"#);
    let request = String::from_utf8(request).unwrap().replacen("POST", "PUT", 1);
    assert_eq!(gateway.ask(request).expect(200).text(), "{}");
    assert_eq!((bad.count(), good.count()), (1, 1));
}

#[test]
fn a_whole_answer_that_breaks_off_is_asked_for_again() {
    let bad = Backend::run(|peer| {
        if peer.request().is_some() {
            let answer = json(&completion("x"));
            peer.write(&answer[..answer.len() - 10]);
        }
    });
    let good = Backend::answering(echo);
    let gateway = pair(&bad, &good, "").start();
    assert_eq!(gateway.ask(chat("x")).expect(200).text(), completion("x!"));
    assert_eq!((bad.count(), good.count()), (1, 1));
}

/// Before the head of its answer, and within it.
#[test]
fn a_backend_that_hangs_does_not_take_the_time_of_the_others() {
    let answer = json(&completion("x"));
    for sent in [0, answer.len() - 10] {
        let begun = answer[..sent].to_vec();
        let bad = Backend::run(move |peer| {
            if peer.request().is_some() {
                peer.write(&begun);
                peer.await_close();
            }
        });
        let good = Backend::answering(echo);
        let gateway = Setup::bare()
            .backend("bad", &bad, "timeout_attempt = \"100ms\"\ntimeout_request = \"1h\"")
            .backend("good", &good, "priority = 1")
            .model("m", "backends = [\"bad\", \"good\"]")
            .start();
        assert_eq!(gateway.ask(chat("x")).expect(200).text(), completion("x!"));
        assert_eq!((bad.count(), good.count()), (1, 1));
        bad.await_left(1);
    }
}

#[test]
fn nothing_is_asked_for_again_once_content_has_gone_out() {
    let seen = Arc::new(Barrier::new(2));
    let told = seen.clone();
    let bad = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("begun")));
            told.wait();
        }
    });
    let good = Backend::answering(echo);
    let gateway = pair(&bad, &good, "").start();
    let mut client = gateway.client();
    client.send(chat_stream("x"));
    let mut response = client.head();
    let begun = client.chunk().unwrap();
    assert!(String::from_utf8_lossy(&begun).contains("begun"));
    seen.wait();
    client.body(&mut response);
    assert_ne!(response.ending, Ending::Whole);
    assert!(response.text().contains("backend_truncated"), "{}", response.text());
    assert_eq!((bad.count(), good.count()), (1, 0));
}

#[test]
fn errors_of_the_clients_own_making_are_not_tried_again() {
    for status in [400, 413, 422] {
        let bad = Backend::answering(move |_| answer(status, r#"{"error":{"message":"no"}}"#));
        let good = Backend::answering(echo);
        let gateway = pair(&bad, &good, "").start();
        assert_eq!(gateway.ask(chat("x")).status, status);
        assert_eq!((bad.count(), good.count()), (1, 0), "{status}");
    }
}

#[test]
fn what_one_backend_refuses_to_this_gateway_or_does_not_have_another_is_asked_for() {
    // No retry of the budget is spent: nothing has been done yet.
    const RULES: &str = "retries = 0\nretry_budget_percent = 0";
    for status in [401, 403, 404, 407] {
        let refusing = || Backend::answering(move |_| answer(status, r#"{"error":{"message":"no"}}"#));
        let (bad, good) = (refusing(), Backend::answering(echo));
        let gateway = pair(&bad, &good, RULES).start();
        assert_eq!(gateway.ask(chat("x")).expect(200).text(), completion("x!"));
        assert_eq!((bad.count(), good.count()), (1, 1), "{status}");
        // Where all do, each is asked once, and the last one's word is the client's.
        let both = (refusing(), refusing());
        let gateway = pair(&both.0, &both.1, RULES).start();
        // A credential that a backend does not know is this gateway's, and no client can mend it.
        assert_eq!(gateway.ask(chat("x")).status, if matches!(status, 401 | 407) { 502 } else { status });
        assert_eq!((both.0.count(), both.1.count()), (1, 1), "{status}");
    }
}

#[test]
fn a_backend_that_knows_this_gateways_credential_no_longer_leaves_service() {
    let bad = Backend::answering(|_| answer(401, r#"{"error":{"message":"revoked"}}"#));
    let good = Backend::answering(echo);
    let of = "eject_errors = 3\neject_error_percent = 0";
    let gateway = Setup::bare()
        .backend("bad", &bad, of)
        .backend("good", &good, of)
        .model("m", "backends = [\"bad\", \"good\"]\nbalance = \"round-robin\"")
        .start();
    for number in 0..20 {
        gateway.ask(chat(&format!("x{number}"))).expect(200);
    }
    assert_eq!((bad.count(), good.count()), (3, 20));
}

#[test]
fn a_fallback_answers_under_its_own_name_and_is_not_kept() {
    let bad = Backend::answering(|_| answer(500, ERROR_503));
    let good = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("bad", &bad, "api_key = \"one\"")
        .backend("good", &good, "api_key = \"two\"\napi_key_field = \"x-api-key\"")
        .model("m", "backends = [\"bad\"]\nfallback = [\"spare\"]\nretries = 0")
        .model("spare", "backends = [\"good\"]")
        .start();
    for round in 1..=2 {
        let response = gateway.ask(chat("x")).expect(200);
        assert_eq!((response.text(), response.cache()), (completion("x!").as_str(), "MISS"));
        assert_eq!((bad.count(), good.count()), (round, round));
    }
    let seen = &good.requests()[0];
    assert!(seen.text().contains(r#""model":"spare""#), "{}", seen.text());
    assert_eq!((seen.field("x-api-key"), seen.field("authorization")), (Some("two"), None));
    assert_eq!(bad.requests()[0].field("authorization"), Some("Bearer one"));
}

#[test]
fn a_request_too_long_for_one_model_goes_to_its_fallback_at_once() {
    let small = Backend::answering(|_| {
        answer(
            400,
            r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
        )
    });
    let large = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("small", &small, "")
        .backend("large", &large, "")
        .model("m", "backends = [\"small\"]\nfallback = [\"n\"]")
        .model("n", "backends = [{ backend = \"large\", model = \"long\" }]")
        .start();
    assert_eq!(gateway.ask(chat_stream("x")).expect(200).text(), stream_seen(&["x", "!"]));
    assert!(large.requests()[0].text().contains(r#""model":"long""#));
    assert_eq!(small.count(), 1);
}

#[test]
fn the_last_error_is_passed_on_as_it_came() {
    let busy = Backend::answering(|_| {
        let length = ERROR_503.len();
        format!("HTTP/1.1 503 X\r\nContent-Type: application/json\r\nRetry-After: 0\r\nContent-Length: {length}\r\n\r\n{ERROR_503}")
            .into_bytes()
    });
    let gateway = Setup::with(&busy).start();
    let response = gateway.ask(chat("x")).expect(503);
    assert_eq!((response.text(), response.field("retry-after")), (ERROR_503, Some("0")));
    assert_eq!((busy.count(), busy.connections()), (3, 1), "two retries, and each answer read to its end");
}

#[test]
fn retries_end_with_their_budget() {
    let bad = Backend::answering(|_| answer(500, ERROR_503));
    let gateway = Setup::bare()
        .backend("b", &bad, "eject_errors = 1000\neject_error_percent = 0")
        .model("m", "backends = [\"b\"]\nretry_budget_percent = 0\nretries = 1")
        .start();
    let mut client = gateway.client();
    for round in 0..150 {
        client.send(chat(&format!("{round}")));
        client.response().expect(500);
    }
    // The reserve of 100 and not one more.
    assert_eq!(bad.count(), 250);
}

#[test]
fn who_finds_the_queue_full_is_told_when_to_come_back() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .model(
            "m",
            "backends = [\"b\"]\nmax_concurrent_requests = 1\nmax_pending_requests = 1\ntimeout_queue = \"300ms\"",
        )
        .start();
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.send(chat_stream("first"));
    backend.await_requests(1);
    second.send(chat_stream("second"));
    // The second waits by the time the third has been refused, or the other way round: one of each.
    let mut third = gateway.client();
    third.send(chat_stream("third"));
    let codes = [second.response().expect(503), third.response().expect(503)];
    assert!(codes.iter().all(|response| response.field("retry-after").is_some()));
    let mut codes = codes.map(|response| response.code().to_owned());
    codes.sort();
    assert_eq!(codes, ["queue_full", "queue_timeout"]);
    assert_eq!(backend.count(), 1);
}

#[test]
fn who_waits_gets_the_next_turn() {
    let backend = Backend::answering(echo);
    let gateway = Setup::bare().backend("b", &backend, "connections_max = 1").model("m", "backends = [\"b\"]").start();
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(chat(&format!("{number}")));
    }
    for client in &mut clients {
        client.response().expect(200);
    }
    assert_eq!((backend.count(), backend.connections()), (20, 1));
}

/// The connections of four clients meet two cores in every mixture; the backend answers when all four requests are there.
#[test]
fn the_whole_cap_is_usable_whichever_core_the_requests_are_on() {
    let together = Arc::new(Barrier::new(4));
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            together.wait();
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "connections_max = 4\nconnections_min = 0")
        .model("m", "backends = [\"b\"]\nmax_concurrent_requests = 4")
        .cores(2)
        .start();
    for round in 0..10 {
        let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(chat(&format!("{round} {number}")));
        }
        for client in &mut clients {
            client.response().expect(200);
        }
    }
}

#[test]
fn an_expired_answer_serves_when_every_backend_fails() {
    let backend = Backend::run(|peer| {
        if let Some(request) = peer.request()
            && peer.number == 0
        {
            peer.write(echo(&request));
            peer.finish();
        }
    });
    let gateway = Setup::with(&backend).cache("ttl = \"1ms\"").cache("stale_if_error = \"1h\"").start();
    for request in [chat("x"), chat("y")] {
        let response = gateway.ask(&request);
        if response.status != 200 {
            assert_eq!(response.code(), "backend_closed", "nothing is kept of this one");
        }
    }
    for request in [chat("x"), chat_stream("x")] {
        let response = gateway.ask(request).expect(200);
        assert_eq!(response.cache(), "HIT");
        let status = response.field("cache-status").unwrap();
        assert!(status.contains("fwd=stale") && status.contains("detail=stale-if-error"), "{status}");
        assert!(response.field("age").is_some());
    }
    // Who does not want what is old gets the error, unless he says that he does.
    for (directives, status) in [
        ("no-cache", 502),
        ("no-store", 502),
        ("max-age=3600", 502),
        ("stale-if-error=0", 502),
        ("max-age=3600, stale-if-error=3600", 200),
        ("max-age=3600, Max-Stale", 200),
        ("max-stale=3600", 200),
    ] {
        let response = gateway.ask(post_with(CHAT, &format!("Cache-Control: {directives}\r\n"), &question("x")));
        assert_eq!(response.status, status, "{directives}");
    }
}

/// The call is made in the leader's own task, and goes on by itself, its pause included, when that one ends.
#[test]
fn a_leader_that_leaves_before_another_attempt_does_not_end_it() {
    let first = Arc::new(AtomicBool::new(true));
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if first.swap(false, Ordering::Relaxed) {
                let length = ERROR_503.len();
                let head = format!("HTTP/1.1 503 X\r\nRetry-After-Ms: 700\r\nContent-Length: {length}\r\n\r\n");
                peer.write(head + ERROR_503);
                continue;
            }
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut leader = gateway.client();
    leader.send(chat("x"));
    backend.await_requests(1);
    let mut follower = gateway.client();
    follower.send(chat("x"));
    // It is most likely in by now; nothing below depends on it.
    for _ in 0..8 {
        gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    }
    drop(leader);
    follower.response().expect(200);
    assert_eq!(backend.count(), 2);
}

/// Nothing takes it out of service here: only its latency speaks against it.
#[test]
fn a_backend_that_fails_fast_does_not_look_fast() {
    type Fail = fn(&mut Peer);
    let fails: [(&str, Fail); 4] = [
        ("closes", |_| {}),
        ("429", |peer| _ = peer.write(answer(429, ERROR_503))),
        ("a credential that it does not know", |peer| _ = peer.write(answer(401, ERROR_503))),
        ("breaks off later", |peer| {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("x")));
        }),
    ];
    for (what, fail) in fails {
        let bad = Backend::run(move |peer| {
            if peer.request().is_some() {
                fail(peer);
            }
        });
        let good = Backend::answering(echo);
        let gateway = Setup::bare()
            .backend("bad", &bad, "eject_errors = 1000\neject_error_percent = 0")
            .backend("good", &good, "")
            .model("m", "balance = \"p2c\"\nbackends = [\"bad\", \"good\"]")
            .start();
        for round in 0..40 {
            gateway.ask(chat_stream(&format!("{round}")));
        }
        assert!(bad.count() <= 5, "{what}: {} of 40", bad.count());
    }
}

#[test]
fn a_hedge_overtakes_a_slow_backend() {
    let slow = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("slow") {
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
    let gateway = Setup::bare()
        .backend("slow", &slow, "timeout_head = \"5m\"\ntimeout_first_token = \"5m\"")
        .backend("fast", &fast, "priority = 1")
        .model("m", "backends = [\"slow\", \"fast\"]\nhedge_percent = 50")
        .start();
    // What is ordinary has to be learnt first. It is far above what a busy machine adds to the quick answers behind it:
    // they are not hedged, and pay in what a hedge takes out.
    for round in 0..30 {
        gateway.ask(chat_stream(&format!("ordinary {round}"))).expect(200);
    }
    for round in 0..8 {
        gateway.ask(chat_stream(&format!("quick {round}"))).expect(200);
    }
    let before = fast.count();
    assert_eq!(gateway.ask(chat_stream("slow")).expect(200).text(), stream_seen(&["slow", "!"]));
    // At least: one of the first rounds may have been slow enough for a hedge, too.
    assert!(fast.count() > before);
    slow.await_left(1); // the loser is given up at once
}

#[test]
fn answers_say_whose_they_are_where_that_is_configured() {
    let (dead, other) = (Backend::absent(), Backend::answering(echo));
    let setup = |line: &str| {
        Setup::bare()
            .server(line)
            .backend("b", &dead, "")
            .backend("o", &other, "")
            .model("m", "backends = [\"b\"]\nfallback = [\"local\"]\nretries = 0")
            .model("local", "backends = [\"o\"]")
            .start()
    };
    let origin = |response: Response| {
        ["x-ringway-backend", "x-ringway-model"].map(|field| response.field(field).map(str::to_owned))
    };
    let of = |model: &str, what: &str| post(CHAT, &question(what).replace("\"m\"", &format!("\"{model}\"")));
    let gateway = setup("show_backend = true");
    let told = |backend: Option<&str>, model: &str| [backend.map(str::to_owned), Some(model.to_owned())];
    assert_eq!(origin(gateway.ask(of("local", "1")).expect(200)), told(Some("o"), "local"));
    assert_eq!(origin(gateway.ask(of("local", "1")).expect(200)), told(None, "local"), "of the cache");
    assert_eq!(origin(gateway.ask(of("m", "2")).expect(200)), told(Some("o"), "local"), "of a fallback");
    assert_eq!(origin(gateway.ask(chat_stream("3")).expect(200)), told(Some("o"), "local"), "a stream");
    assert_eq!(origin(setup("").ask(chat("4")).expect(200)), [None, None]);
}
