//! Who a client is, as trusted proxies tell it, and how many connections it may have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::kit::*;
use super::secure::{Authority, FILES, files};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

fn chat_with(fields: &str) -> Vec<u8> {
    post_with(CHAT, fields, &question("hi"))
}

#[test]
fn a_trusted_proxy_tells_the_client_and_nobody_else_does() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    for (server, fields, expected) in [
        ("trusted_proxies = [\"127.0.0.0/8\"]", "X-Forwarded-For: 127.0.0.9, 203.0.113.9\r\n", "203.0.113.9"),
        (
            "trusted_proxies = [\"127.0.0.0/8\"]",
            "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 2001:db8::7\r\n",
            "2001:db8::7",
        ),
        // The proxy writes the other field, and passes this one on as the client sent it.
        ("trusted_proxies = [\"127.0.0.1\"]", "Forwarded: for=1.2.3.4\r\n", "127.0.0.1"),
        (
            "trusted_proxies = [\"127.0.0.1\"]\ntrusted_header = \"forwarded\"",
            "Forwarded: for=\"[2001:db8::9]:4711\";proto=https\r\nX-Forwarded-For: 1.2.3.4\r\n",
            "2001:db8::9",
        ),
        ("trusted_proxies = [\"127.0.0.1\"]", "", "127.0.0.1"),
        ("trusted_proxies = [\"192.0.2.0/24\", \"unix\"]", "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1"),
        ("", "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n", "127.0.0.1"),
    ] {
        let gateway = Setup::with(&backend).server(server).log("access = \"$DIRECTORY/access.log\"").start();
        gateway.ask(chat_with(fields)).expect(200);
        Http2::connect(gateway.address).ask(chat_with(fields)).expect(200);
        let log = || std::fs::read_to_string(gateway.file("access.log")).unwrap_or_default();
        eventually("two lines", || log().lines().count() == 2);
        let client = format!("\"client\":\"{expected}\"");
        assert!(log().lines().all(|line| line.contains(&client)), "{server}: {}", log());
    }
    // Nothing of it goes to backends.
    for request in backend.requests() {
        assert!(request.field("x-forwarded-for").is_none() && request.field("forwarded").is_none());
    }
    let said = Setup::bare().server("trusted_proxies = [\"10.0.0.1/8\"]").refused();
    assert!(said.contains("server.trusted_proxies: \"10.0.0.1/8\" is no network"), "{said}");
}

/// Whether a connection is served, or closed at once.
fn is_served(address: SocketAddr) -> (bool, TcpStream) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let _ = stream.write_all(HEALTH.as_bytes());
    let mut answer = [0; 12];
    (stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 200", stream)
}

fn refused(gateway: &Gateway) -> String {
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let scrape = admin.response().expect(200);
    let lines = scrape.text().lines().filter(|line| line.starts_with("ringway_client_connections_refused_total{"));
    lines.map(|line| line.rsplit_once('{').unwrap().1).collect::<Vec<_>>().join(" ")
}

#[test]
fn connections_beyond_the_limits_are_closed_at_once() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let start = |lines: &str| Setup::with(&backend).cores(2).server(lines).admin("listen = \"127.0.0.1:0\"").start();
    for (lines, count) in [
        ("max_connections_per_client = 3", "limit=\"node\"} 0 limit=\"client\"} 2"),
        ("max_connections = 3", "limit=\"node\"} 2 limit=\"client\"} 0"),
    ] {
        let gateway = start(lines);
        let mut held: Vec<TcpStream> = Vec::new();
        for _ in 0..3 {
            let (served, stream) = is_served(gateway.address);
            assert!(served, "{lines}");
            held.push(stream);
        }
        for _ in 0..2 {
            assert!(!is_served(gateway.address).0, "{lines}");
        }
        assert_eq!(refused(&gateway), count);
        held.pop();
        eventually("there is room again", || is_served(gateway.address).0);
        // Those that are open go on.
        held[0].write_all(HEALTH.as_bytes()).unwrap();
        assert!(held[0].read(&mut [0; 1000]).unwrap() > 0);
    }
    let gateway = start("max_connections_per_client = 1\ntrusted_proxies = [\"127.0.0.1\"]");
    let held: Vec<_> = (0..4).map(|_| is_served(gateway.address)).collect();
    assert!(held.iter().all(|(served, _)| *served), "a trusted proxy has no such limit");
}

#[test]
fn why_a_handshake_failed_is_not_lost_to_a_reset() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).listener(FILES).start_after(|directory| files(directory, &own));
    for _ in 0..20 {
        let mut client = TcpStream::connect(gateway.listener()).unwrap();
        client.set_read_timeout(Some(GUARD)).unwrap();
        // Much that nobody reads stands behind what cannot be understood.
        client.write_all(&[&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'x'; 40_000]].concat()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an end, and no reset");
        assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    }
}
