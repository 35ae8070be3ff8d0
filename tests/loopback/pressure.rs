//! Slow readers: nothing is lost, and nothing is read ahead without bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::*;

/// What an unread client may cost: the entry that might have been stored, the window, and the sockets' buffers.
const AHEAD_BYTES: usize = 24 << 20;
const ENDLESS_BYTES: usize = 256 << 20;

#[test]
fn an_endless_answer_is_not_read_ahead_of_its_client() {
    for (head, part) in [
        (STREAM_HEAD.to_owned(), chunk(&piece(&"x".repeat(60_000)))),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", 1u64 << 40),
            "x".repeat(60_000),
        ),
    ] {
        let accepted = Arc::new(AtomicUsize::new(0));
        let stuck = Arc::new(AtomicUsize::new(0));
        let (count, full) = (accepted.clone(), stuck.clone());
        let backend = Backend::run(move |peer| {
            if peer.request().is_none() {
                return;
            }
            peer.write(&head);
            peer.patience(Duration::from_millis(500));
            while count.load(Ordering::SeqCst) < ENDLESS_BYTES {
                if !peer.write(&part) {
                    break;
                }
                count.fetch_add(part.len(), Ordering::SeqCst);
            }
            full.store(1, Ordering::SeqCst);
            peer.await_close();
        });
        let gateway = Setup::with(&backend).start();
        let before_kib = gateway.resident_kib();
        let mut client = Client::connect_narrow(gateway.address);
        client.send(chat_stream("endless"));
        client.head();
        eventually("the backend is stuck", || stuck.load(Ordering::SeqCst) == 1);
        let accepted = accepted.load(Ordering::SeqCst);
        assert!(accepted < AHEAD_BYTES, "{accepted} bytes were read for a client that does not read");
        assert!(gateway.resident_kib() < before_kib + (AHEAD_BYTES as u64 >> 10));
        drop(client);
        backend.await_left(1);
    }
}

#[test]
fn a_large_answer_reaches_a_slow_reader_exactly() {
    let text: String = (0..5 << 17).map(|place| format!("{place:08x}")).collect();
    let body = completion(&text);
    let sent = body.clone();
    let backend = Backend::answering(move |_| json(&sent));
    for max_entry in ["2MiB", "8MiB"] {
        let gateway = Setup::with(&backend).cache(&format!("max_entry = \"{max_entry}\"")).start();
        for _ in 0..2 {
            let mut client = Client::connect_narrow(gateway.address);
            client.step(3000);
            client.send(chat("large"));
            let response = client.response().expect(200);
            assert!(response.body == body.as_bytes());
            // The connection is still in step.
            client.send(chat("large"));
            assert!(client.response().expect(200).body == body.as_bytes());
        }
    }
}

#[test]
fn a_large_stream_reaches_a_slow_reader_exactly() {
    let pieces: Vec<String> = (0..40).map(|place| format!("{place:04}").repeat(10_000)).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let (bytes, seen) = (stream(&pieces), stream_seen(&pieces));
    let backend = Backend::answering(move |_| bytes.clone());
    let gateway = Setup::with(&backend).start();
    for cache in ["MISS", "HIT"] {
        let mut client = Client::connect_narrow(gateway.address);
        client.step(3000);
        client.send(chat_stream("large"));
        let response = client.response().expect(200);
        assert_eq!(response.cache(), cache);
        assert!(response.body == seen.as_bytes());
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
    let part = chunk(&piece(&"x".repeat(60_000)));
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if !request.text().contains("endless") {
                peer.write(echo(&request));
                continue;
            }
            peer.write(STREAM_HEAD);
            while peer.write(&part) {}
            return peer.left();
        }
    });
    let gateway = Setup::with(&backend).server("timeout_write = \"300ms\"").start();
    let mut stuck = Client::connect_narrow(gateway.address);
    stuck.send(chat_stream("endless"));
    stuck.head();
    // 4 MB in more steps than fit into the time-out, none of them longer; a miss, then hits from the cache.
    let large = "y".repeat(500_000);
    for _ in 0..3 {
        let mut slow = Client::connect_narrow(gateway.address);
        slow.step(10_000);
        slow.pause(Duration::from_millis(20));
        slow.send(chat(&large));
        assert_eq!(slow.response().expect(200).text().len(), completion(&large).len() + 1);
    }
    backend.await_left(1);
}
