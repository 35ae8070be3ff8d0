//! Profiles of allocations of a running gateway, and what ends them.

use std::net::SocketAddr;

use super::admin::get;
use super::kit::*;

/// Every answer is 200 KB of its own, which the cache keeps.
fn setup() -> (Backend, Setup) {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("\"stream\":true") => stream(&["a", "b"]),
        _ => json(&completion(&"x".repeat(200_000))),
    });
    let setup = Setup::with(&backend).cores(2).admin("listen = \"127.0.0.1:0\"");
    (backend, setup)
}

/// Asks for a profile and sends requests until it is there, each with a question of its own.
fn profile_under_load(gateway: &Gateway, query: &str, questions: &mut std::ops::RangeFrom<u64>) -> Response {
    let (admin, path) = (gateway.admin.unwrap(), format!("/debug/heap?seconds=1&{query}"));
    let waiting = std::thread::spawn(move || get(admin, &path));
    let mut client = gateway.client();
    while !waiting.is_finished() {
        let question = questions.next().unwrap();
        client.send(if question.is_multiple_of(4) {
            chat_stream(&format!("{question}"))
        } else {
            chat(&format!("{question}"))
        });
        client.response().expect(200);
    }
    waiting.join().unwrap().expect(200)
}

/// Bytes of the stacks with this in them, of data cores.
fn bytes_of(folded: &str, function: &str) -> u64 {
    let lines = folded.lines().filter(|line| line.starts_with("ringway-data-") && line.contains(function));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_node_under_load_tells_which_functions_allocate() {
    let (_backend, setup) = setup();
    let gateway = setup.start();
    let mut questions = 0..;
    let in_use = profile_under_load(&gateway, "format=folded", &mut questions);
    let allocated = profile_under_load(&gateway, "format=folded&kind=alloc", &mut questions);
    let svg = profile_under_load(&gateway, "format=svg", &mut questions);
    let pprof = profile_under_load(&gateway, "", &mut questions);
    for folded in [in_use.text(), allocated.text()] {
        // Answers as the cache keeps them.
        assert!(bytes_of(folded, "ringway::exchange::flight::Flight::freeze;") > 200_000, "{folded}");
        assert!(!folded.contains("SamplingAllocator"), "stacks end with the function that asks for memory: {folded}");
    }
    assert!(svg.text().starts_with("<svg ") && svg.text().contains("ringway::exchange::"));
    assert!(svg.text().contains("Ringway: bytes in use, by thread and function. "));
    assert_eq!(pprof.body[..2], [0x1f, 0x8b], "gzip (RFC 1952 2.3.1)");
    let admin = gateway.admin.unwrap();
    for wrong in ["seconds=0", "seconds=61", "format=png", "kind=all", "full"] {
        assert_eq!(get(admin, &format!("/debug/heap?{wrong}")).expect(400).code(), "bad_query", "{wrong}");
    }
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success() && said.contains(" of it in use at the end"), "{said}");
}

/// A connection whose profile is in progress.
fn long_profile(admin: SocketAddr) -> Client {
    loop {
        let mut client = Client::connect(admin);
        client.send(format!("GET /debug/heap?seconds=60 HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
        // If this one was first, the other one was refused.
        if get(admin, "/debug/heap?seconds=1").status == 409 {
            return client;
        }
    }
}

#[test]
fn a_client_that_leaves_and_the_end_of_the_node_end_a_profile() {
    let (_backend, setup) = setup();
    let gateway = setup.start();
    let admin = gateway.admin.unwrap();
    drop(long_profile(admin));
    eventually("the turn of the next one", || get(admin, "/debug/heap?seconds=1").status == 200);
    let client = long_profile(admin);
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
    drop(client);
}
