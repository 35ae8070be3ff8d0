//! HTTP/2 and TLS towards backends: streams that share connections without sharing their fates, connections that come to
//! their end under load, and secure connections that cannot be made.

mod certificates;
pub mod server;

use h2::Reason;
use rustls::HandshakeKind;

use self::certificates::{Authority, NAME, Valid};
use self::server::Server;
use super::kit::*;

/// `server` as the backend `b` of the model `m`.
fn secure(server: &Server, authority: &Authority, lines: &str) -> Setup {
    let url = format!("https://{}", server.address);
    Setup::bare().backend_url("b", &url, &(authority.trusted() + lines)).model("m", "backends = [\"b\"]")
}

fn plain(server: &Server, lines: &str) -> Setup {
    let url = format!("http://{}/base", server.address);
    let lines = format!("protocol = \"http2\"\n{lines}");
    Setup::bare().backend_url("b", &url, &lines).model("m", "backends = [\"b\"]")
}

/// Asks for a stream that is held and reads its first piece.
fn held(gateway: &Gateway, what: &str) -> (Client, Response) {
    let mut client = gateway.client();
    client.send(chat_stream(what));
    begun(client, what)
}

fn begun(mut client: Client, what: &str) -> (Client, Response) {
    let mut response = client.head();
    assert_eq!(response.status, 200, "{}", response.head);
    response.body = client.chunk().unwrap();
    assert_eq!(response.text(), piece(what), "each event as it comes");
    (client, response)
}

#[test]
fn a_hundred_streams_share_a_connection() {
    let authority = Authority::new("house");
    for protocol in ["auto", "http2"] {
        let server = Server::start(Some(authority.server()), 100);
        let gateway = secure(&server, &authority, &format!("protocol = \"{protocol}\"")).start();
        let names: Vec<_> = (0..100).map(|number| format!("hold {number}")).collect();
        // All at once, before anybody knows what the backend speaks.
        let mut clients: Vec<_> = names.iter().map(|_| gateway.client()).collect();
        for (client, name) in clients.iter_mut().zip(&names) {
            client.send(chat_stream(name));
        }
        let mut streams: Vec<_> = clients.into_iter().zip(&names).map(|(client, name)| begun(client, name)).collect();
        assert_eq!((server.running(), server.accepted()), (100, 1), "{protocol}");
        server.release(100);
        for (name, (client, response)) in names.iter().zip(&mut streams) {
            client.body(response);
            assert_eq!((response.text(), response.ending), (&*stream_seen(&[name, "!"]), Ending::Whole));
        }
        assert_eq!(server.seen.lock().unwrap().most, 100);
    }
}

#[test]
fn requests_are_said_as_http2_has_them() {
    let server = Server::start(None, 100);
    let gateway = plain(&server, "api_key = \"secret\"").start();
    for (request, text) in [(chat("x"), completion("x!")), (chat_stream("x y"), stream_seen(&["x y", "!"]))] {
        assert_eq!(gateway.ask(request).expect(200).text(), text);
    }
    let large = "messages".repeat(100_000);
    assert_eq!(gateway.ask(chat(&large)).expect(200).text(), completion(&(large.clone() + "!")));
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.accepted, 1);
    for (_, head, _) in &seen.requests {
        assert_eq!((head.method.as_str(), head.version), ("POST", http::Version::HTTP_2));
        assert_eq!(head.uri.to_string(), format!("http://{}/base{CHAT}", server.address));
        assert_eq!(head.headers["authorization"], "Bearer secret");
        assert!(head.headers.contains_key("content-length") && head.headers.contains_key("x-request-id"));
        for name in ["host", "connection", "transfer-encoding", "keep-alive", "te", "upgrade"] {
            assert!(!head.headers.contains_key(name), "{name}");
        }
    }
}

#[test]
fn a_client_that_leaves_takes_no_other_stream_along() {
    let server = Server::start(None, 100);
    let gateway = plain(&server, "").start();
    let (mut stays, mut response) = held(&gateway, "hold one");
    let (leaves, _) = held(&gateway, "hold two");
    leaves.reset();
    eventually("the backend learns of it", || server.seen.lock().unwrap().resets == [Reason::CANCEL]);
    server.release(1);
    stays.body(&mut response);
    assert_eq!((response.text(), response.ending), (&*stream_seen(&["hold one", "!"]), Ending::Whole));
    gateway.ask(chat("after")).expect(200);
    assert_eq!(server.accepted(), 1);
}

#[test]
fn no_more_streams_than_the_server_allows() {
    let server = Server::start(None, 4);
    let gateway = plain(&server, "http2_connections_max = 1").start();
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(chat_stream(&format!("hold {number}")));
    }
    eventually("as many as it allows", || server.running() == 4);
    server.release(20);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().expect(200).text(), stream_seen(&[&format!("hold {number}"), "!"]));
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!((seen.most, seen.accepted, seen.requests.len()), (4, 1, 20));
}

#[test]
fn a_server_that_goes_away_finishes_what_it_has_and_gets_nothing_new() {
    let authority = Authority::new("house");
    let server = Server::start(Some(authority.server()), 100);
    let gateway = secure(&server, &authority, "protocol = \"http2\"").start();
    for round in 0..3 {
        let name = format!("hold {round}");
        let (mut client, mut response) = held(&gateway, &name);
        let before = server.accepted();
        gateway.ask(chat(&format!("goaway {round}"))).expect(200);
        // The answer may come before the news.
        let mut again = 0;
        eventually("it goes elsewhere", || {
            again += 1;
            gateway.ask(chat(&format!("next {round} {again}"))).expect(200);
            server.accepted() > before
        });
        server.release(1);
        client.body(&mut response);
        assert_eq!((response.text(), response.ending), (&*stream_seen(&[&name, "!"]), Ending::Whole));
    }
    assert_eq!(server.accepted(), 4);
    let handshakes = server.seen.lock().unwrap().handshakes.clone();
    assert_eq!(handshakes[1..], [HandshakeKind::Resumed; 3], "{:?}", handshakes[0]);
}

#[test]
fn what_a_server_refused_is_asked_again_unseen() {
    let server = Server::start(None, 100);
    let url = format!("http://{}/base", server.address);
    // It costs no retry: what was refused was not done.
    let model = "backends = [\"b\"]\nretries = 0";
    let gateway = Setup::bare().backend_url("b", &url, "protocol = \"http2\"").model("m", model).start();
    for request in [chat("refuse"), chat_stream("refuse this")] {
        gateway.ask(request).expect(200);
    }
    assert_eq!(server.connections(), [0; 4]);
}

#[test]
fn whatever_breaks_before_the_first_content_goes_to_another() {
    for what in ["reset", "cut", "short", "end"] {
        let server = Server::start(None, 100);
        let good = Backend::answering(echo);
        let gateway = Setup::bare()
            .backend_url("bad", &format!("http://{}", server.address), "protocol = \"http2\"")
            .backend("good", &good, "priority = 1")
            .model("m", "backends = [\"bad\", \"good\"]")
            .start();
        match what {
            // Its first event and its end come together.
            "end" => assert_eq!(gateway.ask(chat_stream(what)).expect(200).text(), stream_seen(&[what, "!"])),
            _ => assert_eq!(gateway.ask(chat(what)).expect(200).text(), completion(&format!("{what}!")), "{what}"),
        }
        assert_eq!((server.connections().len(), good.count()), (1, 1), "{what}");
    }
}

#[test]
fn a_broken_stream_is_broken_for_its_client() {
    let server = Server::start(None, 100);
    let gateway = plain(&server, "").start();
    let (mut client, mut response) = held(&gateway, "break it");
    server.release(1);
    client.body(&mut response);
    assert_ne!(response.ending, Ending::Whole);
    assert!(response.text().contains("backend_truncated"), "{}", response.text());
    // All streams of a connection that is cut, and no other.
    let mut streams: Vec<_> = (0..10).map(|number| held(&gateway, &format!("hold {number}"))).collect();
    gateway.ask(chat("cut"));
    for (client, response) in &mut streams {
        client.body(response);
        assert_ne!(response.ending, Ending::Whole);
        assert!(response.text().contains("backend_truncated"), "{}", response.text());
    }
    gateway.ask(chat("after")).expect(200);
}

#[test]
fn insecure_backends_get_nothing_and_the_log_says_why() {
    let (authority, stranger) = (Authority::new("house"), Authority::new("stranger"));
    let both = &["h2", "http/1.1"];
    let cases = [
        (stranger.server(), "", "is not signed by a trusted authority"),
        (
            authority.server_with("other.test", Valid::Now, both, None),
            "",
            "is not for `backend.test` but for other.test",
        ),
        (authority.server_with(NAME, Valid::Past, both, None), "", "certificate expired "),
        (
            authority.server_with(NAME, Valid::Now, &["http/1.1"], None),
            "protocol = \"http2\"",
            "none of the HTTP versions",
        ),
    ];
    for (config, lines, says) in cases {
        for protocol in ["auto", "http1", "http2"] {
            let lines = if lines.is_empty() { format!("protocol = \"{protocol}\"") } else { lines.to_owned() };
            let server = Server::start(Some(config.clone()), 100);
            let gateway = secure(&server, &authority, &lines).start();
            for request in [chat("x"), chat_stream("x")] {
                assert_eq!(gateway.ask(request).expect(502).code(), "backend_insecure");
            }
            assert_eq!(server.connections().len(), 0);
            gateway.terminate();
            let (_, told) = gateway.ended();
            let line = told.lines().find(|line| line.contains("backend b: no secure connection"));
            assert!(line.is_some_and(|line| line.contains(says)), "{told}");
        }
    }
}

#[test]
fn a_client_certificate_opens_the_door() {
    let (authority, clients) = (Authority::new("house"), Authority::new("clients"));
    for alpn in ["h2", "http/1.1"] {
        let config = authority.server_with(NAME, Valid::Now, &[alpn], Some(&clients));
        let server = Server::start(Some(config), 100);
        let gateway = secure(&server, &authority, &clients.shown()).start();
        gateway.ask(chat("x")).expect(200);
        let bare = secure(&server, &authority, "").start();
        assert_eq!(bare.ask(chat("x")).expect(502).code(), "backend_insecure", "{alpn}");
        assert_eq!(server.connections().len(), 1);
        bare.terminate();
        let (_, told) = bare.ended();
        assert!(told.contains("wants a client certificate that it can accept"), "{alpn}: {told}");
    }
}

#[test]
fn a_server_may_change_what_it_speaks() {
    let authority = Authority::new("house");
    let new = authority.server();
    let old = authority.server_with(NAME, Valid::Now, &["http/1.1"], None);
    let server = Server::start(Some(old.clone()), 100);
    let gateway = secure(&server, &authority, "timeout_idle = \"1ms\"").start();
    let mut round = 0;
    for (config, version) in
        [(old.clone(), http::Version::HTTP_11), (new, http::Version::HTTP_2), (old, http::Version::HTTP_11)]
    {
        server.becomes(config);
        eventually("what is new is spoken", || {
            round += 1;
            gateway.ask(chat(&format!("goaway {round}"))).expect(200);
            server.seen.lock().unwrap().requests.last().unwrap().1.version == version
        });
    }
}

#[test]
fn many_who_find_a_backend_silent_do_not_wait_one_after_the_other() {
    for lines in ["protocol = \"http2\"\n", ""] {
        let authority = Authority::new("house");
        let silent = Backend::run(|peer| peer.await_close());
        let good = Backend::answering(echo);
        let lines = format!(
            "{lines}{}timeout_connect = \"300ms\"\neject_errors = 1000\neject_error_percent = 0",
            authority.trusted()
        );
        let gateway = Setup::bare()
            .backend_url("silent", &format!("https://{}", silent.address), &lines)
            .backend("good", &good, "priority = 1")
            .model("m", "backends = [\"silent\", \"good\"]")
            .start();
        let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(chat(&format!("{number}")));
        }
        for client in &mut clients {
            client.response().expect(200);
        }
        println!("{} connections", silent.connections());
        assert!(silent.connections() <= 4, "{} attempts, one after the other", silent.connections());
    }
}

/// The caps are the node's: all load on one of several cores uses the whole of them, and no more.
#[test]
fn one_busy_core_uses_all_connections_of_http2() {
    let authority = Authority::new("house");
    for is_agreed in [false, true] {
        let server = Server::start(is_agreed.then(|| authority.server()), 100);
        let lines = "http2_connections_max = 6\nhttp2_streams_max = 2";
        let setup = if is_agreed { secure(&server, &authority, lines) } else { plain(&server, lines) };
        let gateway = setup.cores(4).start();
        // One connection is on one core.
        let mut client = Http2::connect(gateway.address);
        let all: Vec<_> = (0..20).map(|number| client.send(chat_stream(&format!("hold {number}")))).collect();
        eventually("all connections are full", || {
            client.drive();
            server.running() == 12
        });
        assert_eq!(server.accepted(), 6);
        server.release(8);
        eventually("the others have their turn", || {
            client.drive();
            server.seen.lock().unwrap().requests.len() == 20
        });
        server.release(100);
        for (number, asked) in all.into_iter().enumerate() {
            assert_eq!(client.response(asked).text(), stream_seen(&[&format!("hold {number}"), "!"]));
        }
        assert_eq!((server.accepted(), server.seen.lock().unwrap().most), (6, 2));
        // Other cores get connections of it when they have requests.
        let mut others: Vec<_> = (0..12).map(|_| gateway.client()).collect();
        for (number, other) in others.iter_mut().enumerate() {
            other.send(chat(&format!("other {number}")));
        }
        others.iter_mut().for_each(|other| _ = other.response().expect(200));
    }
}

/// A connection is told of its streams when it is open: until then more requests have their turn than it has room for.
#[test]
fn connections_of_http2_that_lie_idle_go_to_the_core_that_has_no_room() {
    let server = Server::start(None, 1);
    let gateway = plain(&server, "http2_connections_max = 2").cores(2).start();
    for round in 0..8 {
        // Both on the same core, and some on another one than those before.
        let mut client = Http2::connect(gateway.address);
        let names = [0, 1].map(|number| format!("hold {round} {number}"));
        let all = names.each_ref().map(|name| client.send(chat_stream(name)));
        eventually("each has a connection", || {
            client.drive();
            server.running() == 2
        });
        server.release(2);
        for (name, asked) in names.iter().zip(all) {
            assert_eq!(client.response(asked).text(), stream_seen(&[name, "!"]));
        }
    }
}
