//! Requests that a client sends before it has its answers: they go upstream side by side, and the answers come in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use super::kit::*;
use super::secure::{Authority, FILES, files};

/// How long something is waited for that must not come.
const A_WHILE: Duration = Duration::from_millis(300);

/// Echoes, once `count` requests are there together.
fn together(count: usize) -> Backend {
    let all = Barrier::new(count);
    Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            all.wait();
            peer.write(echo(&request));
        }
    })
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

#[test]
fn requests_go_upstream_side_by_side_and_answers_come_in_order() {
    let backend = together(8);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    for round in 0..3 {
        let ask = |number: usize| match number % 2 {
            0 => chat(&format!("{round} {number}")),
            _ => chat_stream(&format!("{round} {number}")),
        };
        client.send((0..8).flat_map(ask).collect::<Vec<u8>>());
        for number in 0..8 {
            let response = client.response().expect(200);
            let what = format!("{round} {number}");
            let body = if number % 2 == 0 { completion(&(what + "!")) } else { stream_seen(&[&what, "!"]) };
            assert_eq!((response.text(), response.cache()), (body.as_str(), "MISS"));
        }
    }
    assert_eq!((backend.count(), backend.connections()), (24, 8));
}

/// The requests of one connection are on one core.
#[test]
fn one_core_of_four_uses_all_that_a_model_and_a_backend_may_have() {
    let backend = together(8);
    let gateway = Setup::bare()
        .backend("b", &backend, "connections_max = 8\nconnections_min = 0")
        .model("m", "backends = [\"b\"]\nmax_concurrent_requests = 8")
        .cores(4)
        .start();
    let mut client = gateway.client();
    for round in 0..3 {
        client.send((0..8).flat_map(|number| chat(&format!("{round} {number}"))).collect::<Vec<u8>>());
        (0..8).for_each(|_| _ = client.response().expect(200));
    }
    assert_eq!((backend.count(), backend.connections()), (24, 8));
}

#[test]
fn it_is_the_same_over_tls_and_with_chunked_bodies() {
    let (authority, backend) = (Authority::new(), together(3));
    let own = authority.sign(&["gateway.test"]);
    let gateway = Setup::with(&backend).listener(FILES).start_after(|directory| files(directory, &own));
    let mut client = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    let chunked = |what: &str| {
        let (body, head) = (question(what), "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        format!("POST {CHAT} HTTP/1.1\r\n{head}{}{}{LAST_CHUNK}", chunk(&body[..9]), chunk(&body[9..]))
    };
    client.send([&chat("one")[..], chunked("two").as_bytes(), chunked("three").as_bytes(), &get("/healthz")].concat());
    for what in ["one!", "two!", "three!"] {
        assert_eq!(client.response().expect(200).text(), completion(what));
    }
    assert_eq!(client.response().expect(200).text(), "ok\n");
}

#[test]
fn no_more_than_configured_are_under_way_and_the_next_begins_when_one_has_ended() {
    for (key, most) in [("max_pipelined_requests = 3", 3), ("max_pipelined_requests = 1", 1), ("", 8)] {
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let backend = {
            let peak = peak.clone();
            Backend::run(move |peer| {
                while let Some(request) = peer.request() {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::park_timeout(Duration::from_millis(5)); // room for one too many
                    running.fetch_sub(1, Ordering::SeqCst);
                    peer.write(echo(&request));
                }
            })
        };
        let gateway = Setup::with(&backend).server(key).start();
        let mut client = gateway.client();
        client.send((0..30).flat_map(|number| chat(&number.to_string())).collect::<Vec<u8>>());
        for number in 0..30 {
            assert_eq!(client.response().expect(200).text(), completion(&format!("{number}!")));
        }
        let peak = peak.load(Ordering::SeqCst);
        assert!(peak <= most && (most == 1 || peak > 1), "{peak} of {most}");
    }
}

#[test]
fn hits_misses_streams_and_errors_are_answered_in_order() {
    let backend = together(3);
    let gateway = Setup::with(&backend).start();
    let mut others: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.send(chat(&format!("known {number}")));
    }
    others.iter_mut().for_each(|other| drop(other.response().expect(200)));
    let mut client = gateway.client();
    let requests = [
        chat("known 0"),
        chat("slow"),
        post(CHAT, "{"),
        chat_stream("streamed"),
        get("/nothing"),
        get("/v1/models"),
        chat("known 1"),
        chat("last"),
        get("/healthz"),
    ];
    client.send(requests.concat());
    assert_eq!(client.response().expect(200).cache(), "HIT");
    assert_eq!(client.response().expect(200).text(), completion("slow!"));
    assert_eq!(client.response().expect(400).code(), "bad_json");
    assert_eq!(client.response().expect(200).text(), stream_seen(&["streamed", "!"]));
    client.response().expect(404);
    assert!(client.response().expect(200).text().contains("\"m\""));
    assert_eq!(client.response().expect(200).cache(), "HIT");
    assert_eq!(client.response().expect(200).text(), completion("last!"));
    assert_eq!(client.response().expect(200).text(), "ok\n");
    client.send(chat("known 2"));
    assert_eq!(client.response().expect(200).cache(), "HIT", "the connection goes on");
}

#[test]
fn identical_requests_share_an_upstream_call() {
    let backend = together(1);
    let gateway = Setup::with(&backend).cores(2).start();
    let mut client = gateway.client();
    client.send([chat("same"), chat("same"), chat("same")].concat());
    for _ in 0..3 {
        assert_eq!(client.response().expect(200).text(), completion("same!"));
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_stream_that_waits_for_its_turn_is_passed_on_as_it_comes() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let both = Barrier::new(2);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            both.wait();
            if request.text().contains("first") {
                peer.write(echo(&request));
                continue;
            }
            peer.write(STREAM_HEAD);
            for text in ["a", "b", "c"] {
                peer.write(chunk(&piece(text)));
                wait.lock().unwrap().recv().unwrap();
            }
            peer.write(chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send([chat("first"), chat_stream("second")].concat());
    assert_eq!(client.response().expect(200).text(), completion("first!"));
    assert_eq!(client.head().status, 200);
    for text in ["a", "b", "c"] {
        assert_eq!(client.chunk().unwrap(), piece(text).as_bytes());
        go.send(()).unwrap();
    }
    assert!(client.reads(LAST_CHUNK));
}

#[test]
fn what_others_could_be_changed_by_waits_for_its_turn() {
    let (released, backend) = {
        let released = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = released.clone();
        let backend = Backend::run(move |peer| {
            while let Some(request) = peer.request() {
                let held = request.text().contains("held");
                drop(gate.1.wait_while(gate.0.lock().unwrap(), |released| held && !*released).unwrap());
                peer.write(if request.line().contains("chat") { echo(&request) } else { json("{}") });
            }
        });
        (released, backend)
    };
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let cases = [
        post("/v1/files", "{}"),
        b"DELETE /v1/files/1 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        post_with(CHAT, "Expect: 100-continue\r\n", &question("expected")),
        post_with(CHAT, "Connection: close\r\n", &question("last")),
        post_with(CHAT, "Upgrade: other\r\n", &question("upgrade")),
        String::from_utf8(chat("old")).unwrap().replace("1.1", "1.0\r\nConnection: keep-alive").into_bytes(),
    ];
    for (number, case) in cases.iter().enumerate() {
        *released.0.lock().unwrap() = false;
        let (before, mut client) = (backend.count(), gateway.client());
        client.send([chat(&format!("held {number}")), case.clone(), chat(&format!("behind {number}"))].concat());
        assert!(!backend.sees(before + 2, A_WHILE), "{}", String::from_utf8_lossy(case));
        *released.0.lock().unwrap() = true;
        released.1.notify_all();
        assert_eq!(client.response().expect(200).text(), completion(&format!("held {number}!")));
        let next = client.response().expect(200);
        if next.field("connection") == Some("close") {
            client.expect_closed();
        } else {
            client.response().expect(200);
        }
    }
}

#[test]
fn a_client_that_leaves_cancels_all_of_them() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::once(&backend).start();
    for leave in [|client: Client| drop(client), |client: Client| client.reset()] {
        let before = backend.count();
        let mut client = gateway.client();
        client.send((0..5).flat_map(|number| chat(&format!("{before} {number}"))).collect::<Vec<u8>>());
        backend.await_requests(before + 5);
        leave(client);
        backend.await_left(before + 5);
    }
    // Nor do those behind an answer that is being sent go on.
    let part = chunk(&piece(&"x".repeat(60_000)));
    let endless = Backend::run(move |peer| {
        peer.request();
        peer.write(STREAM_HEAD);
        while peer.write(&part) {}
        peer.left();
    });
    let gateway = Setup::once(&endless).start();
    let mut client = gateway.client();
    client.send((0..4).flat_map(|number| chat_stream(&number.to_string())).collect::<Vec<u8>>());
    endless.await_requests(4);
    client.head();
    client.reset();
    endless.await_left(4);
}

#[test]
fn one_that_ends_its_direction_gets_every_answer() {
    let backend = together(4);
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send((0..4).flat_map(|number| chat(&number.to_string())).collect::<Vec<u8>>());
    client.finish();
    for number in 0..4 {
        assert_eq!(client.response().expect(200).text(), completion(&format!("{number}!")));
    }
    client.expect_closed();
}

#[test]
fn an_answer_that_ends_the_connection_ends_those_behind() {
    // The second one breaks off in the middle, when all have come and its client has seen a part of it.
    let all = Barrier::new(4);
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        let Some(request) = peer.request() else { return };
        all.wait();
        match request.text() {
            text if text.contains("good") => _ = peer.write(echo(&request)),
            text if text.contains("broken") => {
                peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("half")));
                wait.lock().unwrap().recv().unwrap();
            }
            _ => peer.await_close(),
        }
    });
    let gateway = Setup::once(&backend).start();
    let mut client = gateway.client();
    client.send([chat("good"), chat_stream("broken"), chat("behind"), chat_stream("further")].concat());
    assert_eq!(client.response().expect(200).text(), completion("good!"));
    let mut broken = client.head();
    assert!(client.reads("half"));
    go.send(()).unwrap();
    client.body(&mut broken);
    assert_eq!(broken.ending, Ending::Cut, "{broken:?}");
    assert!(broken.text().starts_with(&piece("half")) && broken.text().contains("error"), "{broken:?}");
    client.expect_closed();
    backend.await_left(2);
}

#[test]
fn a_client_that_does_not_read_holds_bounded_memory() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 8;
    let part = chunk(&piece(&"x".repeat(60_000)));
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.patience(Duration::from_millis(500));
        peer.write(STREAM_HEAD);
        // Until nothing more is taken.
        for _ in 0..1000 {
            if !peer.write(&part) {
                break;
            }
        }
        peer.left();
    });
    let gateway = Setup::with_backend(&backend, "connections_max = 100").cache("max_entry = \"64KiB\"").start();
    let before = gateway.resident_kib();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|client| {
            let mut connection = Client::connect_narrow(gateway.address);
            let ask = |number: usize| chat_stream(&format!("{client} {number}"));
            connection.send((0..REQUESTS).flat_map(ask).collect::<Vec<u8>>());
            connection
        })
        .collect();
    backend.await_requests(CLIENTS * REQUESTS);
    backend.await_left(CLIENTS * REQUESTS);
    let more = gateway.resident_kib().saturating_sub(before);
    // A window of a flight, buffers, a log that grows by doubling, and what the allocator still has of its former halves: less
    // than 2 MiB each, of the 60 MB that each backend has.
    assert!(more < (CLIENTS * REQUESTS * 2048) as u64, "{more} KiB");
    drop(clients);
}

#[test]
fn a_drain_answers_all_that_were_begun_and_closes_with_the_last() {
    // Two are beside the one in hand; a fourth is never begun.
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            wait.lock().unwrap().recv().unwrap();
            peer.write(echo(&request));
        }
    });
    let gateway = Setup::with(&backend).server("max_pipelined_requests = 3").start();
    let mut client = gateway.client();
    client.send([chat("first"), chat_stream("second"), chat("third"), chat("fourth")].concat());
    backend.await_requests(3);
    gateway.terminate();
    eventually("nothing new is taken in", || std::net::TcpStream::connect(gateway.address).is_err());
    (0..3).for_each(|_| go.send(()).unwrap());
    for (expected, connection) in
        [(completion("first!"), None), (stream_seen(&["second", "!"]), None), (completion("third!"), Some("close"))]
    {
        let answer = client.response().expect(200);
        assert_eq!((answer.text(), answer.field("connection")), (expected.as_str(), connection));
    }
    client.expect_closed();
    assert_eq!(backend.count(), 3);
    drop(go);
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}

#[test]
fn a_drain_ends_a_connection_whose_last_answer_had_been_written() {
    // The second is answered before the drain: it cannot say that it is the last, and the connection ends behind it.
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        let Some(request) = peer.request() else { return };
        if request.text().contains("first") {
            wait.lock().unwrap().recv().unwrap();
        }
        peer.write(echo(&request));
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send([chat("first"), chat("second")].concat());
    backend.await_requests(2);
    gateway.terminate();
    eventually("nothing new is taken in", || std::net::TcpStream::connect(gateway.address).is_err());
    go.send(()).unwrap();
    for expected in ["first!", "second!"] {
        assert_eq!(client.response().expect(200).text(), completion(expected));
    }
    client.expect_closed();
}

#[test]
fn answers_are_the_same_as_those_to_single_requests() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let asked = |salt: &str| {
        [
            chat(&format!("ask a{salt}")),
            chat_stream(&format!("ask b{salt}")),
            get("/v1/models"),
            post(CHAT, "{"),
            get("/nothing"),
            String::from_utf8(chat(&format!("ask c{salt}"))).unwrap().replace("POST", "HEAD").into_bytes(),
            post_with(CHAT, "Cache-Control: no-store\r\n", &question(&format!("ask d{salt}"))),
            get("/healthz"),
        ]
    };
    let shown = |response: Response| {
        let head: String = response
            .head
            .lines()
            .filter(|line| !line.starts_with("date") && !line.starts_with("x-request-id"))
            .collect();
        (head, response.body)
    };
    let singles: Vec<_> = asked("1")
        .iter()
        .map(|request| {
            let mut client = gateway.client();
            client.send(request);
            shown(if request.starts_with(b"HEAD") { client.bodiless() } else { client.response() })
        })
        .collect();
    let requests = asked("2");
    let mut client = gateway.client();
    client.send([&chat("x"), &requests.concat()[..]].concat());
    client.response().expect(200);
    for (request, single) in requests.iter().zip(singles) {
        let response = if request.starts_with(b"HEAD") { client.bodiless() } else { client.response() };
        let (head, body) = shown(response);
        let body = String::from_utf8(body).unwrap();
        let expected = String::from_utf8(single.1).unwrap();
        let salted = ["a", "b", "c", "d"]
            .iter()
            .fold(expected, |text, word| text.replace(&format!("ask {word}1"), &format!("ask {word}2")));
        assert_eq!((head, body), (single.0, salted), "{}", String::from_utf8_lossy(request));
    }
}
