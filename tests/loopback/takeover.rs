//! A new process takes over from a running one: what waits is served, what runs ends where it began, what fails changes nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use rustls::HandshakeKind;

use super::kit::*;
use super::secure::{Authority, FILES, files};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
const CONTROL: &str = "control_socket = \"$DIRECTORY/control.sock\"";

/// Answers at once, but for streams about something `slow`: their second half comes when it is let go.
fn slow_backend() -> (Backend, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if !request.text().contains("slow") {
                peer.write(json(&completion("yes")));
                continue;
            }
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(chunk(&piece("b")) + &chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    (backend, go)
}

fn setup(backend: &Backend, cores: usize) -> Setup {
    Setup::with(backend)
        .cores(cores)
        .server(CONTROL)
        .listen("unix:$DIRECTORY/gateway.sock")
        .admin("listen = \"127.0.0.1:0\"")
        .listener(FILES)
}

/// A connection of the old process's lives for one more answer from when that has learnt of the successor.
#[track_caller]
fn expect_told_to_go(client: &mut Client) {
    eventually("the old process closes it", || {
        client.send(HEALTH);
        client.response().expect(200).field("connection") == Some("close")
    });
    client.expect_closed();
}

#[test]
fn whatever_the_number_of_cores_everything_passes_over_and_streams_end() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let (backend, go) = slow_backend();
    let mut gateway = setup(&backend, 1).start_after(|directory| files(directory, &own));
    let config = authority.client();
    let secured = |gateway: &Gateway| {
        let mut client = Client::connect_tls(gateway.listeners[1].unwrap(), &config, "gateway.test").unwrap();
        client.send(chat("hi"));
        client.response().expect(200);
        client.session().handshake_kind().unwrap()
    };
    assert_eq!(secured(&gateway), HandshakeKind::Full);
    for cores in [3, 1, 2] {
        let mut streaming = gateway.client();
        streaming.send(chat_stream("slow"));
        let mut response = streaming.head();
        response.body = streaming.chunk().unwrap();
        let mut in_use = gateway.client();
        in_use.send(chat("hi"));
        assert_eq!(in_use.response().expect(200).field("connection"), None);
        let mut many = Http2::connect(gateway.address);
        many.ask(chat("hi")).expect(200);

        gateway.rewrite(setup(&backend, cores));
        let successor = gateway.successor().unwrap();
        assert_eq!((successor.address, &successor.listeners), (gateway.address, &gateway.listeners));
        assert_eq!(successor.admin, gateway.admin);
        expect_told_to_go(&mut in_use);
        assert_eq!(many.ended(), None, "told to go, and gone");
        for _ in 0..8 {
            assert_eq!(secured(&successor), HandshakeKind::Resumed);
            successor.ask(chat("hi")).expect(200);
        }
        let mut local = UnixStream::connect(successor.file("gateway.sock")).unwrap();
        local.write_all(HEALTH.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        local.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut admin = Client::connect(successor.admin.unwrap());
        admin.send("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        admin.response().expect(200);

        go.send(()).unwrap();
        streaming.body(&mut response);
        assert_eq!(response.expect(200).text(), piece("a") + &piece("b") + &finish("stop") + &done());
        let (status, said) = gateway.ended();
        assert!(status.success() && said.contains("has taken over"), "{status}: {said}");
        gateway = successor;
    }
    let socket = gateway.file("control.sock");
    assert!(socket.exists());
    gateway.terminate();
    let directory = gateway.keep_directory();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
    assert!(!directory.path().join("control.sock").exists() && !directory.path().join("gateway.sock").exists());
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let plain = || Setup::with(&backend).cores(2).server(CONTROL);
    let gateway = plain().start();
    let mut kept = gateway.client();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    for (setup, why) in [
        (plain().server("unknown = 1"), "server.unknown"),
        (plain().listen(&taken_address), "another process listens there"),
        (plain().log("access = \"/nowhere/at/all\""), "log.access"),
    ] {
        gateway.rewrite(setup);
        let said = gateway.successor().err().unwrap();
        assert!(said.contains(why), "{said}");
        for client in [&mut kept, &mut gateway.client()] {
            client.send(chat("hi"));
            assert_eq!(client.response().expect(200).field("connection"), None);
        }
    }
    gateway.rewrite(plain());
    let _successor = gateway.successor().unwrap();
    expect_told_to_go(&mut kept);
    let (status, said) = gateway.ended();
    assert!(status.success() && said.contains("it ended before it was ready"), "{said}");
}

#[test]
fn an_address_that_the_successor_does_not_serve_is_drained_and_closed() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let plain = || Setup::with(&backend).server(CONTROL);
    let further = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = plain().listen(&further.to_string()).start();
    Client::connect(further).send(HEALTH);
    gateway.rewrite(plain());
    let mut kept = gateway.client();
    let _successor = gateway.successor_on(0).unwrap();
    expect_told_to_go(&mut kept);
    assert!(gateway.ended().0.success());
    assert!(std::net::TcpStream::connect(further).is_err());
}

#[test]
fn who_takes_over_needs_a_process_and_a_way_to_it() {
    let said = Setup::bare().refused_with(&["--take-over"]);
    assert!(said.contains("server.control_socket: --take-over needs it"), "{said}");
    // Without a predecessor it starts as usual, and a second one without the option does not.
    let gateway = Setup::bare().server(CONTROL).start();
    gateway.ask(HEALTH).expect(200);
    let control = gateway.file("control.sock");
    let second = Setup::bare().server(&format!("control_socket = \"{}\"", control.display()));
    let said = second.refused();
    assert!(said.contains("another process listens there"), "{said}");
    // Somebody who asks for nothing that is known gets nothing.
    let stranger = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
    stranger.connect(&socket2::SockAddr::unix(&control).unwrap()).unwrap();
    stranger.send(b"{\"message\":\"surprise\"}").unwrap();
    let mut answer = [std::mem::MaybeUninit::uninit(); 200];
    assert!(stranger.recv(&mut answer).unwrap() > 0);
    drop(stranger);
    gateway.ask(HEALTH).expect(200);
}

fn keyed(what: &str) -> Vec<u8> {
    post_with(CHAT, "Authorization: Bearer key\r\n", &question(what))
}

/// A stream whose second half comes when it is let go, as so many tokens at most.
fn keyed_stream(most: u32) -> Vec<u8> {
    let body = streamed_question("slow").replace("\"model\"", &format!("\"max_tokens\":{most},\"model\""));
    post_with(CHAT, "Authorization: Bearer key\r\n", &body)
}

fn limited(backend: &Backend, cores: usize, limits: &str) -> Setup {
    Setup::with(backend).cores(cores).server(CONTROL).tenant("t", "key", limits)
}

#[test]
fn a_take_over_frees_no_limit_and_loses_none() {
    for limits in ["requests_per_minute = 9", "requests_per_day = 9"] {
        let backend = Backend::answering(|_| json(&completion("yes")));
        let gateway = limited(&backend, 2, limits).start();
        let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(keyed(&format!("before {number}")));
            client.response().expect(200);
        }
        gateway.rewrite(limited(&backend, 3, limits));
        let successor = gateway.successor().unwrap();
        // Five are left, for both together, whatever was leased to which core.
        let in_old = &mut clients[0];
        in_old.send(keyed("in the old one"));
        in_old.response().expect(200);
        let ask = |number: u32| successor.ask(keyed(&format!("after {number}"))).status;
        assert_eq!((0..12).filter(|number| ask(*number) == 200).count(), 4, "{limits}");
        let in_old = &mut clients[1];
        in_old.send(keyed("one too many"));
        assert!(in_old.response().expect(429).code().starts_with("requests_per_"));
        assert_eq!(backend.count(), 9);
        drop(clients);
        let (status, said) = gateway.ended();
        assert!(status.success(), "{said}");
        assert_eq!(ask(20), 429, "{limits}");
    }
}

#[test]
fn what_still_runs_in_the_old_process_counts_in_the_new_one() {
    let (backend, go) = slow_backend();
    let limits = "concurrent_requests = 2\ntokens_per_minute = 1_000";
    let gateway = limited(&backend, 1, limits).start();
    let mut streaming = gateway.client();
    streaming.send(keyed_stream(400));
    let mut response = streaming.head();
    response.body = streaming.chunk().unwrap();
    gateway.rewrite(limited(&backend, 2, limits));
    let successor = gateway.successor().unwrap();
    let mut second = successor.client();
    second.send(keyed_stream(400));
    let mut second_response = second.head();
    second_response.body = second.chunk().unwrap();
    let refused = successor.ask(keyed("a third")).expect(429);
    assert_eq!(refused.code(), "concurrent_requests_exceeded");
    // What both have reserved is not there, until one knows what it has used.
    let left =
        |response: &Response| -> u64 { response.field("x-ratelimit-remaining-tokens").unwrap().parse().unwrap() };
    assert!(left(&second_response) <= 200, "{}", left(&second_response));
    for (client, response) in [(&mut streaming, &mut response), (&mut second, &mut second_response)] {
        go.send(()).unwrap();
        client.body(response);
    }
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
    let mut number = 0;
    eventually("there is room again", || {
        number += 1;
        let answer = successor.ask(keyed(&format!("later {number}")));
        answer.status == 200 && left(&answer) > 800
    });
    let mut both: Vec<_> = (0..2).map(|_| successor.client()).collect();
    for client in &mut both {
        client.send(keyed_stream(10));
        client.head().expect(200);
    }
    (0..2).for_each(|_| go.send(()).unwrap());
}
