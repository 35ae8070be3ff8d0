//! The end of the program: what runs finishes, what is idle closes, nothing new comes in.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::kit::*;

#[test]
fn a_drain_lets_running_requests_finish() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if !request.text().contains("slow") {
                peer.write(echo(&request));
                continue;
            }
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(chunk(&piece("b")) + &chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    for cores in [1, 2] {
        let gateway = Setup::with(&backend).cores(cores).start();
        let mut never_used = gateway.client();
        let mut used = gateway.client();
        used.send(chat("quick"));
        used.response().expect(200);
        let mut streaming = gateway.client();
        streaming.send(chat_stream("slow"));
        let mut response = streaming.head();
        response.body = streaming.chunk().unwrap();
        // A request whose body is still on its way is a running one.
        let mut uploading = gateway.client();
        let request = chat("uploaded");
        let (first, rest) = request.split_at(request.len() - 5);
        uploading.send(first);
        let mut heading = gateway.client();
        heading.send("GET /heal");
        gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);

        gateway.terminate();
        never_used.expect_closed();
        used.expect_closed();
        eventually("nothing new is taken in", || TcpStream::connect(gateway.address).is_err());
        uploading.send(rest);
        let uploaded = uploading.response().expect(200);
        assert_eq!((uploaded.text(), uploaded.field("connection")), (completion("uploaded!").as_str(), Some("close")));
        uploading.expect_closed();
        heading.send("thz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(heading.response().expect(200).field("connection"), Some("close"));
        go.send(()).unwrap();
        streaming.body(&mut response);
        assert_eq!(response.expect(200).text(), piece("a") + &piece("b") + &finish("stop") + &done());
        streaming.expect_closed();
        let (status, said) = gateway.ended();
        assert!(status.success(), "{status}: {said}");
    }
}

#[test]
fn a_drain_that_takes_too_long_cuts_visibly() {
    let backend = Backend::run(|peer| {
        if let Some(request) = peer.request() {
            if request.text().contains("slow") {
                peer.write(STREAM_HEAD);
                peer.write(chunk(&piece("a")));
            }
            peer.await_close();
        }
    });
    let gateway = Setup::with(&backend).server("timeout_drain = \"200ms\"").start();
    let mut client = gateway.client();
    client.send(chat_stream("slow"));
    let mut response = client.head();
    response.body = client.chunk().unwrap();
    let mut waiting = gateway.client();
    waiting.send(chat("nothing came yet"));
    backend.await_requests(2);
    gateway.terminate();
    client.body(&mut response);
    assert_ne!(response.ending, Ending::Whole);
    let text = response.text();
    assert!(!text.contains("[DONE]") && text.contains("\"draining\""), "{text}");
    assert_eq!(waiting.response().expect(503).code(), "draining");
    waiting.expect_closed();
    let (status, said) = gateway.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cut off"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = Backend::run(|peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            peer.await_close();
        }
    });
    let gateway = Setup::with(&backend).server("timeout_drain = \"1h\"").start();
    let mut idle = gateway.client();
    let mut client = gateway.client();
    client.send(chat_stream("slow"));
    client.head();
    gateway.terminate();
    idle.expect_closed(); // the first signal has arrived
    gateway.terminate();
    let (status, _) = gateway.ended();
    assert_eq!(status.code(), Some(1));
}

fn ready(gateway: &Gateway) -> u16 {
    gateway.ask("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").status
}

#[test]
fn balancers_hear_of_a_drain_before_it_begins() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("drain_delay = \"1h\"\nhealth_paths = true").start();
    assert_eq!(ready(&gateway), 200);
    let mut kept = gateway.client();
    kept.send(chat("before"));
    kept.response().expect(200);
    gateway.terminate();
    eventually("not ready", || ready(&gateway) == 503);
    // Until they have, it serves as ever.
    gateway.ask(chat("on a new connection")).expect(200);
    kept.send(chat("on one that was there"));
    kept.response().expect(200);
    gateway.ask("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    gateway.terminate();
    let (status, _) = gateway.ended();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_drain_begins_after_its_delay() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).server("drain_delay = \"50ms\"\ntimeout_drain = \"1h\"").start();
    let mut idle = gateway.client();
    idle.send(chat("x"));
    idle.response().expect(200);
    gateway.terminate();
    idle.expect_closed();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("accepting for 50ms more"), "{said}");
}

/// Lets each of several clients ask without reading, one question more than the one before, up to the first whose gateway
/// no longer takes the next: the last answer of one of them has left the gateway's hands and found no room.
fn clients_that_do_not_read(gateway: &Gateway, backend: &Backend) -> Vec<(Client, usize)> {
    let mut clients = Vec::new();
    let mut seen = backend.count();
    for questions in 1..200 {
        let mut client = Client::connect_tiny(gateway.address);
        for question in 0..questions {
            client.send(chat(&format!("{questions}/{question}")));
            seen += 1;
            // Only those that are in hand when the gateway is told to stop are answered.
            if !backend.sees(seen, Duration::from_secs(2)) {
                assert!(question > 1, "there is room for one at least");
                return clients;
            }
        }
        clients.push((client, questions));
    }
    panic!("the gateway takes questions for ever");
}

/// An answer that fits into one post, and into its socket's buffer a few times at most.
fn long_answer() -> String {
    completion(&"z".repeat(14_000))
}

#[test]
fn a_drain_waits_for_what_a_slow_client_has_not_taken() {
    let backend = Backend::answering(move |_| json(&long_answer()));
    let gateway = Setup::with(&backend).start();
    let clients = clients_that_do_not_read(&gateway, &backend);
    assert!(clients.len() > 1, "{} clients", clients.len());
    gateway.terminate();
    eventually("nothing new is taken in", || TcpStream::connect(gateway.address).is_err());
    for (mut client, questions) in clients {
        for _ in 0..questions {
            assert!(client.response().expect(200).text() == long_answer());
        }
        client.expect_closed();
    }
    let (status, said) = gateway.ended();
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn who_takes_nothing_is_cut_off_though_nobody_waits_for_it() {
    let backend = Backend::answering(move |_| json(&long_answer()));
    let gateway = Setup::with(&backend).server("timeout_write = \"1s\"").start();
    let clients = clients_that_do_not_read(&gateway, &backend);
    gateway.terminate();
    // It could not end before all of them are gone.
    let (status, said) = gateway.ended();
    assert!(status.success(), "{status}: {said}");
    let is_cut = clients.into_iter().any(|(mut client, questions)| !client.ends_behind(questions, &long_answer()));
    assert!(is_cut, "everybody got everything");
}
