//! Streams: every event at once, broken ones visibly broken, clients that leave.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::kit::*;

/// A backend that writes what it is told to, one chunk each, and ends its stream when the sender is dropped. `end` is
/// what it does then.
fn led(end: fn(&mut Peer)) -> (Backend, Sender<String>) {
    let (say, said) = channel::<String>();
    let said: Mutex<Receiver<String>> = Mutex::new(said);
    let backend = Backend::run(move |peer| {
        if peer.request().is_none() {
            return;
        }
        peer.write(STREAM_HEAD);
        let said = said.lock().unwrap();
        while let Ok(text) = said.recv_timeout(GUARD) {
            if !peer.write(chunk(&text)) {
                break;
            }
        }
        drop(said);
        end(peer);
    });
    (backend, say)
}

#[test]
fn every_event_is_passed_on_before_the_next_is_written() {
    let (backend, say) = led(|peer| {
        peer.write(LAST_CHUNK);
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("live"));
    let mut pieces: Vec<String> = (0..50).map(|place| piece(&format!("{place}"))).collect();
    pieces.push(finish("stop"));
    say.send(pieces[0].clone()).unwrap();
    let head = client.head();
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    assert_eq!(head.field("x-accel-buffering"), Some("no"));
    assert_eq!(head.field("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(client.chunk().unwrap(), pieces[0].as_bytes());
    for text in &pieces[1..] {
        say.send(text.clone()).unwrap();
        assert_eq!(client.chunk().unwrap(), text.as_bytes());
    }
    say.send(done()).unwrap();
    drop(say);
    assert_eq!(client.chunk().unwrap(), done().as_bytes());
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn an_event_in_pieces_is_passed_on_once_it_is_whole() {
    let (backend, say) = led(|peer| {
        peer.write(LAST_CHUNK);
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("pieces"));
    let text = piece("whole");
    let (first, rest) = text.split_at(20);
    say.send(first.to_owned()).unwrap();
    say.send(rest.to_owned()).unwrap();
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap(), text.as_bytes());
    for part in [finish("stop"), done()] {
        say.send(part).unwrap();
    }
    drop(say);
    let mut rest = Vec::new();
    while let Ok(data) = client.chunk() {
        if data.is_empty() {
            break;
        }
        rest.extend(data);
    }
    assert_eq!(String::from_utf8(rest).unwrap(), finish("stop") + &done());
}

/// What a client gets of a stream that breaks after its first event: the status, the body, the ending.
fn broken(end: fn(&mut Peer), lines: &str) -> (Response, Gateway, Backend) {
    let (backend, say) = led(end);
    let gateway = Setup::with_backend(&backend, lines).start();
    let mut client = gateway.client();
    client.send(chat_stream("broken"));
    say.send(piece("a")).unwrap();
    let mut response = client.head();
    assert_eq!(client.chunk().unwrap(), piece("a").as_bytes());
    drop(say);
    client.body(&mut response);
    (response, gateway, backend)
}

#[test]
fn a_stream_whose_backend_dies_ends_with_an_error_and_uncleanly() {
    type End = fn(&mut Peer);
    let ends: [(End, &str, &str); 8] = [
        (|_| {}, "", "backend_truncated"),
        (|peer| peer.reset(), "", "backend_truncated"),
        (|peer| _ = peer.write(LAST_CHUNK), "", "backend_truncated"),
        (|peer| _ = peer.write(chunk("data: {\"id\":\"c1\",")), "", "backend_truncated"),
        (|peer| _ = peer.write("zz\r\n"), "", "backend_invalid"),
        // Whoever skips what is not JSON would take the rest for the whole.
        (
            |peer| {
                peer.write(chunk(&event(r#"{"id":"c1","choices":[{"index":0,"delta":{"con"#)));
                peer.write(chunk(&(piece("c") + &finish("stop") + &done())) + LAST_CHUNK);
            },
            "",
            "backend_invalid",
        ),
        (|peer| _ = peer.write(chunk(&event("[DO")) + LAST_CHUNK), "", "backend_invalid"),
        (|peer| peer.await_close(), "timeout_stream_idle = \"200ms\"", "backend_timeout"),
    ];
    for (end, lines, code) in ends {
        let (response, gateway, _backend) = broken(end, lines);
        let text = response.text().to_owned();
        // An orderly close without the last chunk: a reset might take the error with it.
        assert_eq!(response.ending, Ending::Cut, "{code}: {text}");
        assert!(!text.contains("[DONE]"), "{code}: {text}");
        let last: serde_json::Value = serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code, "{text}");
        let only = post_with(CHAT, "Cache-Control: only-if-cached\r\n", &streamed_question("broken"));
        assert_eq!(gateway.ask(only).expect(504).code(), "not_cached");
    }
}

#[test]
fn a_stream_that_breaks_resets_a_client_of_http_1_0() {
    let (backend, say) = led(|_| {});
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("broken").iter().map(|&byte| byte as char).collect::<String>().replace("/1.1", "/1.0"));
    say.send(piece("a")).unwrap();
    let mut response = client.head();
    drop(say);
    client.body(&mut response);
    // Its answer ends with its connection: an orderly close would look complete.
    assert_eq!(response.ending, Ending::Reset, "{}", response.text());
}

#[test]
fn a_stream_that_breaks_before_its_first_event_is_an_honest_error() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.write(STREAM_HEAD);
    });
    let gateway = Setup::with(&backend).start();
    assert_eq!(gateway.ask(chat_stream("x")).expect(502).code(), "backend_truncated");
}

#[test]
fn a_client_that_leaves_a_stream_ends_the_call() {
    let (backend, say) = led(|peer| peer.await_close());
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("leaving"));
    say.send(piece("a")).unwrap();
    client.head();
    client.chunk().unwrap();
    drop(client);
    drop(say);
    backend.await_left(1);
}

#[test]
fn a_client_that_leaves_while_the_backend_thinks_ends_the_call() {
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::with(&backend).start();
    for (round, request) in [chat("a"), chat_stream("b"), chat("c"), chat_stream("d")].into_iter().enumerate() {
        let mut client = gateway.client();
        client.send(request);
        backend.await_requests(round + 1);
        if round < 2 {
            drop(client); // an orderly close
        } else {
            client.reset();
        }
        backend.await_left(round + 1);
    }
}

#[test]
fn comments_and_named_events_of_a_backend() {
    let backend = Backend::answering(|_| {
        let mut out = STREAM_HEAD.to_owned();
        out += &chunk(": thinking\n\n");
        out += &chunk(&format!("event: delta\nid: 7\n{}", piece("a")));
        out += &chunk(&piece("b").replace('\n', "\r\n"));
        out += &chunk(&(finish("stop") + &done()));
        (out + LAST_CHUNK).into_bytes()
    });
    let gateway = Setup::with(&backend).start();
    let expected = format!("event: delta\nid: 7\n{}{}{}{}", piece("a"), piece("b"), finish("stop"), done());
    assert_eq!(gateway.ask(chat_stream("x")).expect(200).text(), expected);
}

#[test]
fn an_error_in_the_stream_is_passed_on_and_not_kept() {
    let error = event(r#"{"error":{"message":"overloaded","type":"server_error"}}"#);
    let sent = error.clone();
    let backend = Backend::answering(move |_| {
        (STREAM_HEAD.to_owned() + &chunk(&piece("a")) + &chunk(&sent) + &chunk(&done()) + LAST_CHUNK).into_bytes()
    });
    let gateway = Setup::with(&backend).start();
    for _ in 0..2 {
        let response = gateway.ask(chat_stream("x")).expect(200);
        assert_eq!((response.cache(), response.text()), ("MISS", (piece("a") + &error + &done()).as_str()));
    }
}

/// Compresses each of `parts` and flushes behind it, as a server does that sends events.
fn gzip(parts: &[String]) -> Vec<Vec<u8>> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut out: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| {
            encoder.write_all(part.as_bytes()).unwrap();
            encoder.flush().unwrap();
            std::mem::take(encoder.get_mut())
        })
        .collect();
    out.push(encoder.finish().unwrap());
    out
}

#[test]
fn what_a_backend_compresses_all_the_same_is_read_event_by_event() {
    let seen = std::sync::Arc::new(std::sync::Barrier::new(2));
    let told = seen.clone();
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            assert_eq!(request.field("accept-encoding"), Some("identity"));
            if !request.text().contains("\"stream\":true") {
                let body = gzip(&[completion("whole")]).concat();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n";
                peer.write([format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat());
                continue;
            }
            peer.write(STREAM_HEAD.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n"));
            let parts = gzip(&[piece("a"), piece("b") + &finish("stop"), done()]);
            for (number, part) in parts.iter().enumerate() {
                peer.write([format!("{:x}\r\n", part.len()).into_bytes(), part.clone(), b"\r\n".to_vec()].concat());
                if number == 0 {
                    told.wait();
                }
            }
            peer.write(LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("x"));
    let mut response = client.head();
    assert_eq!(response.field("content-encoding"), None);
    let first = client.chunk().unwrap();
    assert_eq!(String::from_utf8_lossy(&first), piece("a"), "it does not wait for the next");
    seen.wait();
    client.body(&mut response);
    assert_eq!(response.text(), piece("b") + &finish("stop") + &done());
    for cache in ["MISS", "HIT"] {
        let response = gateway.ask(chat("whole")).expect(200);
        assert_eq!((response.text(), response.cache()), (completion("whole").as_str(), cache));
        assert_eq!(response.field("content-encoding"), None);
    }
}

/// By default an expired answer may serve for an hour when every backend fails, but not behind a part of another one.
#[test]
fn a_stream_that_breaks_says_so_whatever_older_answer_is_kept() {
    let (end, wait) = channel::<()>();
    let (wait, old) = (Mutex::new(wait), AtomicBool::new(true));
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if old.swap(false, Ordering::SeqCst) {
                peer.write(echo(&request));
                continue;
            }
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("new")));
            let _ = wait.lock().unwrap().recv_timeout(GUARD);
            return;
        }
    });
    let gateway = Setup::once(&backend).cores(2).cache("ttl = \"1ms\"").start();
    gateway.ask(chat_stream("x")).expect(200);
    std::thread::park_timeout(Duration::from_millis(20));
    let mut clients: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = gateway.client();
            client.send(chat_stream("x"));
            assert_eq!(client.head().expect(200).cache(), "MISS");
            assert_eq!(client.chunk().unwrap(), piece("new").as_bytes());
            client
        })
        .collect();
    assert_eq!(backend.count(), 2, "one call for all four");
    end.send(()).unwrap();
    for client in &mut clients {
        let last = String::from_utf8(client.chunk().unwrap()).unwrap();
        assert!(last.contains("backend_truncated"), "{last}");
        assert!(client.chunk().is_err());
    }
}
