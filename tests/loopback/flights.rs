//! One upstream call for many: joining, leaving, failing, on one core and over two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};

use super::kit::*;

/// Something that happens once and that many threads may wait for.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, GUARD, |open| !*open).unwrap();
        assert!(*open, "the gate stayed shut");
    }
}

/// A backend that streams `before`, waits at the gate, and streams `after` and the end; without `after` it has no end.
fn gated(before: Vec<String>, after: Vec<String>) -> (Backend, Gate) {
    let gate = Gate::default();
    let passed = gate.clone();
    let backend = Backend::run(move |peer| {
        if peer.request().is_none() {
            return;
        }
        peer.write(STREAM_HEAD);
        before.iter().for_each(|text| _ = peer.write(chunk(text)));
        passed.pass();
        let all = after.iter().all(|text| peer.write(chunk(text)));
        if all && !after.is_empty() {
            peer.write(chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
        peer.await_close();
    });
    (backend, gate)
}

/// A client that has the head and the first event of its stream.
fn joined(gateway: &Gateway, request: &[u8], first: &str) -> (Client, Response) {
    let mut client = gateway.client();
    client.send(request);
    let mut response = client.head();
    while response.body.len() < first.len() {
        response.body.extend(client.chunk().unwrap());
    }
    (client, response)
}

#[test]
fn a_thousand_identical_streams_make_one_call() {
    let pieces: Vec<String> = (0..20).map(|place| piece(&format!("piece {place}"))).collect();
    let (backend, gate) = gated(pieces[..1].to_vec(), pieces[1..].to_vec());
    let gateway = Setup::with(&backend).cores(2).start();
    let request = chat_stream("crowd");
    let mut clients: Vec<Client> = (0..1000).map(|_| gateway.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    let mut heads = Vec::new();
    for client in &mut clients {
        let mut response = client.head();
        response.body = client.chunk().unwrap();
        heads.push(response);
    }
    gate.open();
    let expected = pieces.concat() + &finish("stop") + &done();
    for (client, mut response) in clients.iter_mut().zip(heads) {
        client.body(&mut response);
        assert_eq!(response.expect(200).text(), expected);
    }
    assert_eq!(backend.count(), 1);
    assert_eq!(gateway.ask(&request).cache(), "HIT");
}

#[test]
fn a_leader_that_leaves_does_not_end_the_flight() {
    for cores in [1, 2] {
        let (backend, gate) = gated(vec![piece("a")], vec![piece("b")]);
        let gateway = Setup::with(&backend).cores(cores).start();
        let request = chat_stream("leaving");
        let leader = joined(&gateway, &request, &piece("a"));
        let followers: Vec<_> = (0..8).map(|_| joined(&gateway, &request, &piece("a"))).collect();
        drop(leader);
        gate.open();
        for (mut client, mut response) in followers {
            assert_eq!(response.field("cache-status"), Some("ringway; fwd=uri-miss; collapsed"));
            client.body(&mut response);
            assert_eq!(response.expect(200).text(), piece("a") + &piece("b") + &finish("stop") + &done());
        }
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn a_flight_that_everybody_has_left_ends() {
    for cores in [1, 2] {
        let (backend, gate) = gated(vec![piece("a")], Vec::new());
        let gateway = Setup::with(&backend).cores(cores).start();
        let clients: Vec<_> = (0..8).map(|_| joined(&gateway, &chat_stream("left"), &piece("a"))).collect();
        drop(clients);
        gate.open();
        backend.await_left(1);
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn followers_of_a_leader_that_fails_are_answered() {
    for cores in [1, 2] {
        let gate = Gate::default();
        let passed = gate.clone();
        let backend = Backend::run(move |peer| {
            while let Some(request) = peer.request() {
                if peer.number == 0 {
                    passed.pass();
                    return;
                }
                peer.write(echo(&request));
            }
        });
        let gateway = Setup::once(&backend).cores(cores).start();
        let mut leader = gateway.client();
        leader.send(chat_stream("failing"));
        backend.await_requests(1);
        let mut followers: Vec<_> = (0..8).map(|_| gateway.client()).collect();
        followers.iter_mut().for_each(|client| client.send(chat_stream("failing")));
        // They are most likely in by now; nothing below depends on it.
        for _ in 0..8 {
            gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
        }
        gate.open();
        assert_eq!(leader.response().expect(502).code(), "backend_closed");
        // Who follows shares the end, too: attempts were made, and nine calls would fall on a sick backend. One that came
        // too late to follow has its own.
        for mut client in followers {
            let response = client.response();
            match response.status {
                200 => assert_eq!(response.text(), stream_seen(&["failing", "!"])),
                _ => assert_eq!(response.expect(502).code(), "backend_closed"),
            }
        }
        assert!(backend.count() < 9, "{} calls", backend.count());
    }
}

#[test]
fn followers_of_a_silent_leader_go_on() {
    for cores in [1, 2] {
        let backend = Backend::run(|peer| {
            while let Some(request) = peer.request() {
                if peer.number == 0 {
                    return peer.await_close();
                }
                peer.write(echo(&request));
            }
        });
        let gateway = Setup::with(&backend).cores(cores).cache("timeout_follow = \"100ms\"").start();
        let mut leader = gateway.client();
        leader.send(chat_stream("silent"));
        backend.await_requests(1);
        let mut followers: Vec<_> = (0..8).map(|_| gateway.client()).collect();
        followers.iter_mut().for_each(|client| client.send(chat_stream("silent")));
        for client in &mut followers {
            assert_eq!(client.response().expect(200).text(), stream_seen(&["silent", "!"]));
        }
        // One of them took over for all.
        assert_eq!(backend.count(), 2, "{cores} cores");
    }
}

#[test]
fn an_answer_that_outgrows_the_cache_still_reaches_everybody() {
    for cores in [1, 2] {
        let after: Vec<String> = (0..100).map(|place| piece(&format!("piece {place}"))).collect();
        let (backend, gate) = gated(vec![piece("first")], after.clone());
        let gateway = Setup::with(&backend).cores(cores).cache("max_entry = \"1KiB\"").start();
        let request = chat_stream("growing");
        let clients: Vec<_> = (0..16).map(|_| joined(&gateway, &request, &piece("first"))).collect();
        gate.open();
        let expected = piece("first") + &after.concat() + &finish("stop") + &done();
        for (mut client, mut response) in clients {
            client.body(&mut response);
            assert_eq!(response.expect(200).text(), expected);
        }
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn a_flight_that_outgrew_the_cache_ends_when_everybody_has_left() {
    for cores in [1, 2] {
        let after: Vec<String> = (0..100).map(|place| piece(&format!("piece {place}"))).collect();
        let (backend, gate) = gated([vec![piece("first")], after].concat(), Vec::new());
        let gateway = Setup::with(&backend).cores(cores).cache("max_entry = \"16KiB\"").start();
        let request = chat_stream("growing");
        let clients: Vec<_> = (0..16).map(|_| joined(&gateway, &request, &piece("first"))).collect();
        drop(clients);
        // The backend would go on for ever: only the gateway can end this.
        gate.open();
        backend.await_left(1);
    }
}

#[test]
fn a_follower_gets_the_form_it_asked_for() {
    let (backend, gate) = gated(vec![piece("a")], vec![piece("b"), usage()]);
    let gateway = Setup::with(&backend).start();
    let (mut leader, mut response) = joined(&gateway, &chat_stream("forms"), &piece("a"));
    let mut follower = gateway.client();
    follower.send(chat("forms"));
    gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    gate.open();
    leader.body(&mut response);
    response.expect(200);
    let whole = follower.response().expect(200);
    assert_eq!(whole.field("cache-status"), Some("ringway; fwd=uri-miss; collapsed"));
    let value: serde_json::Value = serde_json::from_slice(&whole.body).unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], "ab");
    assert_eq!(backend.count(), 1);
}

/// A client whose request waits for a flight: what it asked before is answered by then.
fn waiting(gateway: &Gateway, request: &[u8]) -> Client {
    let mut client = gateway.client();
    client.send([b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", request].concat());
    client.response().expect(200);
    client
}

/// A backend that answers each request, once the gate is open.
fn held_back(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> (Backend, Gate) {
    let gate = Gate::default();
    let passed = gate.clone();
    let backend = Backend::answering(move |request| {
        passed.pass();
        answer(request)
    });
    (backend, gate)
}

fn is_streamed(request: &Request) -> bool {
    request.text().contains("\"stream\":true")
}

/// Whether the leader or only its followers stream.
const LEADERS: [bool; 2] = [true, false];

fn asking(what: &str, streams: bool) -> Vec<u8> {
    if streams { chat_stream(what) } else { chat(what) }
}

#[test]
fn an_answer_that_is_not_kept_serves_followers_of_either_form() {
    for reason in ["length", "content_filter", "something_new"] {
        for streams in LEADERS {
            let (backend, gate) = held_back(move |request| match is_streamed(request) {
                true => {
                    let events = [piece("cut"), finish(reason), usage(), done()].map(|event| chunk(&event)).concat();
                    (STREAM_HEAD.to_owned() + &events + LAST_CHUNK).into_bytes()
                }
                false => json(&completion_ended("cut", reason)),
            });
            let gateway = Setup::with(&backend).start();
            let mut leader = waiting(&gateway, &asking("limits", streams));
            backend.await_requests(1);
            let mut followers: Vec<_> =
                (0..50).map(|at| (at % 2 == 0, waiting(&gateway, &asking("limits", at % 2 == 0)))).collect();
            gate.open();
            leader.response().expect(200);
            for (streams, client) in &mut followers {
                let response = client.response().expect(200);
                // Why it is not kept is known by then or not.
                let status = response.field("cache-status").unwrap();
                assert!(status.starts_with("ringway; fwd=uri-miss; collapsed"), "{status}");
                let text = response.text();
                assert!(text.contains("cut") && text.contains(&format!("\"finish_reason\":\"{reason}\"")), "{text}");
                assert_eq!(text.ends_with(&done()), *streams, "{text}");
            }
            assert_eq!(backend.count(), 1, "{reason}, streams {streams}");
        }
    }
}

#[test]
fn an_answer_that_cannot_be_converted_costs_one_call_for_each_form() {
    // A member of a stream that no whole answer has, and the other way round.
    let strange = |body: String| body.replace("\"index\":0", "\"index\":\"zero\"");
    for reason in ["length", "stop"] {
        for streams in LEADERS {
            let (backend, gate) = held_back(move |request| match is_streamed(request) {
                true => {
                    let events = [piece("odd"), finish(reason), done()].map(|event| chunk(&strange(event))).concat();
                    (STREAM_HEAD.to_owned() + &events + LAST_CHUNK).into_bytes()
                }
                false => json(&strange(completion_ended("odd", reason))),
            });
            let gateway = Setup::with(&backend).start();
            let mut leader = waiting(&gateway, &asking("oddities", streams));
            backend.await_requests(1);
            let mut followers: Vec<_> =
                (0..50).map(|at| (at % 2 == 0, waiting(&gateway, &asking("oddities", at % 2 == 0)))).collect();
            gate.open();
            leader.response().expect(200);
            for (streams, client) in &mut followers {
                let response = client.response().expect(200);
                assert_eq!(response.text().ends_with(&done()), *streams, "{}", response.text());
            }
            assert_eq!(backend.count(), 2, "{reason}, streams {streams}");
        }
    }
}

#[test]
fn a_stream_without_usage_is_fetched_whole_once_for_all_who_ask_for_that() {
    let (backend, gate) = held_back(|request| {
        let streamed = String::from_utf8(echo(request)).unwrap();
        streamed.replace(&chunk(&usage()), "").into_bytes()
    });
    let gateway = Setup::with(&backend).start();
    let mut leader = waiting(&gateway, &chat_stream("usage"));
    backend.await_requests(1);
    let mut followers: Vec<_> = (0..20).map(|_| waiting(&gateway, &chat("usage"))).collect();
    gate.open();
    leader.response().expect(200);
    for client in &mut followers {
        assert!(client.response().expect(200).text().contains("total_tokens"));
    }
    assert_eq!(backend.count(), 2);
    for again in LEADERS {
        assert_eq!(gateway.ask(asking("usage", again)).expect(200).cache(), "HIT");
    }
}

#[test]
fn a_failure_of_a_crowd_of_both_forms_is_not_followed_by_a_call_for_each() {
    for streams in LEADERS {
        let gate = Gate::default();
        let passed = gate.clone();
        // Its answers break off where they cannot be asked for again unseen.
        let backend = Backend::run(move |peer| {
            if let Some(request) = peer.request() {
                passed.pass();
                match is_streamed(&request) {
                    true => peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("cut"))),
                    false => peer
                        .write("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n".to_owned() + &" ".repeat(300_000)),
                };
            }
        });
        let gateway = Setup::once(&backend).start();
        let leader = waiting(&gateway, &asking("breaks", streams));
        backend.await_requests(1);
        let mut followers: Vec<_> = (0..50).map(|at| waiting(&gateway, &asking("breaks", at % 2 == 0))).collect();
        gate.open();
        drop(leader);
        for client in &mut followers {
            // An answer of which a part was sent ends in the middle of it.
            let response = client.response();
            assert!(response.status == 502 || response.ending != Ending::Whole, "{}", response.head);
        }
        assert!(backend.count() <= 6, "{} calls for 51 clients", backend.count());
    }
}

#[test]
fn who_wants_a_young_answer_joins_the_call_of_others_who_do() {
    for cores in [1, 2] {
        let first = AtomicBool::new(true);
        let gate = Gate::default();
        let passed = gate.clone();
        let backend = Backend::answering(move |request| {
            if !first.swap(false, Ordering::SeqCst) {
                passed.pass();
            }
            echo(request)
        });
        let gateway = Setup::with(&backend).cores(cores).start();
        gateway.ask(chat("aging")).expect(200);
        let young = |more: &str| post_with(CHAT, &format!("Cache-Control: max-age=0{more}\r\n"), &question("aging"));
        eventually("it ages", || gateway.ask(young(", only-if-cached")).status == 504);
        let mut clients: Vec<_> = (0..20).map(|_| waiting(&gateway, &young(""))).collect();
        backend.await_requests(2);
        // Whoever asks without such a wish is not held up.
        assert_eq!(gateway.ask(chat("aging")).expect(200).cache(), "HIT");
        gate.open();
        for client in &mut clients {
            assert_eq!(client.response().expect(200).cache(), "MISS");
        }
        assert!(backend.count() <= 1 + cores, "{} calls on {cores} cores", backend.count());
    }
}

#[test]
fn a_slow_client_holds_no_other_back() {
    for slow_leads in [true, false] {
        let (say, said) = channel::<String>();
        let said = Mutex::new(said);
        let backend = Backend::run(move |peer| {
            if peer.request().is_none() {
                return;
            }
            peer.write(STREAM_HEAD);
            for text in said.lock().unwrap().iter() {
                assert!(peer.write(chunk(&text)));
            }
            peer.write(chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
            peer.await_close();
        });
        let gateway = Setup::with(&backend).start();
        let request = chat_stream("uneven");
        let slow = || {
            let mut client = Client::connect_narrow(gateway.address);
            client.send(&request);
            client
        };
        let first = piece("first");
        say.send(first.clone()).unwrap();
        let mut stuck = slow_leads.then(&slow);
        if let Some(client) = &mut stuck {
            client.head();
        }
        let (mut fast, mut response) = joined(&gateway, &request, &first);
        if stuck.is_none() {
            stuck = Some(slow());
            stuck.as_mut().unwrap().head();
        }
        // Far more than all buffers on the way to the slow one hold.
        let big = piece(&"x".repeat(250_000));
        for _ in 0..60 {
            say.send(big.clone()).unwrap();
        }
        drop(say);
        fast.body(&mut response);
        let response = response.expect(200);
        assert_eq!(response.body.len(), first.len() + 60 * big.len() + finish("stop").len() + done().len());
        drop(stuck);
    }
}

#[test]
fn an_error_of_the_backend_reaches_everybody_who_waits_for_it() {
    for cores in [1, 2] {
        let gate = Gate::default();
        let passed = gate.clone();
        let backend = Backend::run(move |peer| {
            while peer.request().is_some() {
                passed.pass();
                peer.write(answer(429, "{\"error\":{}}"));
            }
        });
        let gateway = Setup::with(&backend).cores(cores).start();
        let mut clients: Vec<_> = (0..8).map(|_| gateway.client()).collect();
        clients.iter_mut().for_each(|client| client.send(chat("limited")));
        backend.await_requests(1);
        gate.open();
        for client in &mut clients {
            assert_eq!(client.response().expect(429).text(), "{\"error\":{}}");
        }
    }
}

#[test]
fn a_backend_that_always_fails_is_not_asked_once_for_each_follower() {
    for cores in [1, 2] {
        let gate = Gate::default();
        let passed = gate.clone();
        let backend = Backend::run(move |peer| {
            peer.request();
            passed.pass();
        });
        let gateway = Setup::with(&backend).cores(cores).start();
        let mut clients: Vec<_> = (0..64).map(|_| gateway.client()).collect();
        clients.iter_mut().for_each(|client| client.send(chat("failing")));
        backend.await_requests(1);
        // They are most likely in by now.
        for _ in 0..8 {
            gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
        }
        gate.open();
        for client in &mut clients {
            client.response().expect(502);
        }
        assert!(backend.count() < 16, "{} calls for 64 clients", backend.count());
    }
}

#[test]
fn a_backend_that_is_always_slow_is_not_asked_once_for_each_follower() {
    for cores in [1, 2] {
        let backend = Backend::run(|peer| {
            peer.request();
            peer.await_close();
        });
        let gateway = Setup::with_backend(&backend, "timeout_request = \"500ms\"")
            .cores(cores)
            .cache("timeout_follow = \"100ms\"")
            .start();
        let mut clients: Vec<_> = (0..64).map(|_| gateway.client()).collect();
        clients.iter_mut().for_each(|client| client.send(chat("slow")));
        for client in &mut clients {
            client.response().expect(504);
        }
        assert!(backend.count() < 16, "{} calls for 64 clients", backend.count());
    }
}
