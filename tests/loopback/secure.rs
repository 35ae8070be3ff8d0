//! TLS from clients: handshakes, names, tickets, client certificates, and what is no TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};

use super::kit::*;

/// A private authority with what it has signed.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key for `names`.
    pub fn sign(&self, names: &[&str]) -> (String, String) {
        self.sign_with(names, |_| ())
    }

    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that trusts it.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::new(ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth())
    }
}

pub const FILES: &str = "tls_cert = \"$DIRECTORY/cert.pem\"\ntls_key = \"$DIRECTORY/key.pem\"\n";

/// Writes certificate and key of `names` to where [`FILES`] expects them.
pub fn files(directory: &std::path::Path, (certificate, key): &(String, String)) {
    std::fs::write(directory.join("cert.pem"), certificate).unwrap();
    std::fs::write(directory.join("key.pem"), key).unwrap();
}

/// A gateway with TLS for the name `gateway.test` in front of `backend`.
fn secured(authority: &Authority, backend: &Backend, cores: usize, lines: &str) -> Gateway {
    let own = authority.sign(&["gateway.test"]);
    Setup::with(backend)
        .cores(cores)
        .admin("listen = \"127.0.0.1:0\"")
        .listener(&format!("{FILES}{lines}"))
        .start_after(|directory| files(directory, &own))
}

fn counted(gateway: &Gateway, result: &str) -> u64 {
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let scrape = admin.response().expect(200);
    let name = format!("ringway_tls_handshakes_total{{result=\"{result}\"}} ");
    let line = scrape.text().lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn answers_and_streams_come_as_without_tls() {
    let authority = Authority::new();
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            let is_stream = request.text().contains("\"stream\":true");
            peer.write(if is_stream { stream(&["one", "two", "three"]) } else { json(&completion("yes")) });
        }
    });
    let gateway = secured(&authority, &backend, 1, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let mut client = Client::connect_tls(gateway.listener(), &Arc::new(config), "gateway.test").unwrap();
        let mut plain = gateway.client();
        for request in [chat("hit"), chat_stream("a stream"), chat("hit"), post(CHAT, "{"), chat("again")] {
            client.send(&request);
            plain.send(&request);
            let (secret, open) = (client.response(), plain.response());
            assert_eq!((secret.status, &secret.body), (open.status, &open.body));
        }
    }
    assert_eq!(counted(&gateway, "full"), 2);
}

#[test]
fn a_large_answer_and_a_large_request_pass() {
    let authority = Authority::new();
    let large = "x".repeat(3 << 20);
    let backend = Backend::answering(echo);
    let gateway = secured(&authority, &backend, 1, "");
    let mut client = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    for _ in 0..2 {
        client.send(chat(&large));
        let answer = client.response().expect(200);
        assert!(answer.text().contains(&large));
    }
}

#[test]
fn sessions_resume_on_every_core() {
    let authority = Authority::new();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = secured(&authority, &backend, 2, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let config = Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let mut client = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
            client.send(chat("hi"));
            client.response().expect(200); // reads the tickets, too
            kinds.push(client.session().handshake_kind().unwrap());
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
    assert_eq!((counted(&gateway, "full"), counted(&gateway, "resumed")), (2, 22));
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let authority = Authority::new();
    let (one, two) = (authority.sign(&["one.test", "*.one.test"]), authority.sign(&["two.test"]));
    let backend = Backend::answering(|_| json(&completion("yes")));
    let lines = "tls_cert = [\"$DIRECTORY/1.pem\", \"$DIRECTORY/2.pem\"]\ntls_key = [\"$DIRECTORY/1.key\", \"$DIRECTORY/2.key\"]";
    let gateway = Setup::with(&backend).listener(lines).start_after(|directory| {
        for (number, (certificate, key)) in [(1, &one), (2, &two)] {
            std::fs::write(directory.join(format!("{number}.pem")), certificate).unwrap();
            std::fs::write(directory.join(format!("{number}.key")), key).unwrap();
        }
    });
    for (name, expected) in [("one.test", &one), ("x.one.test", &one), ("two.test", &two)] {
        let client = Client::connect_tls(gateway.listener(), &authority.client(), name).unwrap();
        let expected = CertificateDer::from_pem_slice(expected.0.as_bytes()).unwrap();
        assert_eq!(client.session().peer_certificates().unwrap()[0], expected, "{name}");
    }
    let unknown = Client::connect_tls(gateway.listener(), &authority.client(), "three.test").err().unwrap();
    assert!(unknown.to_string().contains("one.test"), "the first serves those that ask for another: {unknown}");
}

#[test]
fn clients_present_certificates_where_they_must() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend)
        .admin("listen = \"127.0.0.1:0\"")
        .listener(&format!("{FILES}tls_client_ca = \"$DIRECTORY/ca.pem\""))
        .start_after(|directory| {
            files(directory, &own);
            std::fs::write(directory.join("ca.pem"), clients.pem()).unwrap();
        });
    let ask = |by: Option<&Authority>| {
        let builder = ClientConfig::builder().with_root_certificates(authority.roots());
        let config = match by {
            None => builder.with_no_client_auth(),
            Some(by) => {
                let (certificate, key) = by.sign(&["client.test"]);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        let mut client = Client::connect_tls(gateway.listener(), &Arc::new(config), "gateway.test")?;
        // Under TLS 1.3 a refusal comes behind the handshake.
        client.try_send(chat("hi"));
        client.try_response()
    };
    assert_eq!(ask(Some(&clients)).unwrap().status, 200);
    let refused = ask(None).unwrap_err().to_string();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let refused = ask(Some(&strangers)).unwrap_err().to_string();
    assert!(refused.contains("UnknownCA") || refused.contains("DecryptError"), "{refused}");
    assert_eq!(backend.count(), 1);
    eventually("both are counted", || {
        (counted(&gateway, "no_certificate"), counted(&gateway, "bad_certificate")) == (1, 1)
    });
}

#[test]
fn a_session_is_not_resumed_where_clients_are_verified_otherwise() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend)
        .listener(FILES)
        .listener(&format!("{FILES}tls_client_ca = \"$DIRECTORY/ca.pem\""))
        .start_after(|directory| {
            files(directory, &own);
            std::fs::write(directory.join("ca.pem"), clients.pem()).unwrap();
        });
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let config = Arc::new(config);
        let ask = |place: usize| {
            let address = gateway.listeners[place].unwrap();
            let mut client = Client::connect_tls(address, &config, "gateway.test")?;
            client.try_send(chat("hi"));
            let answer = client.try_response()?;
            Ok::<_, std::io::Error>((answer.status, client.session().handshake_kind()))
        };
        assert_eq!(ask(0).unwrap(), (200, Some(HandshakeKind::Full)));
        assert_eq!(ask(0).unwrap(), (200, Some(HandshakeKind::Resumed)));
        assert!(ask(1).is_err(), "its tickets open no door that asks for a certificate");
    }
}

#[test]
fn certificates_are_renewed_while_connections_go_on() {
    let authority = Authority::new();
    let (old, new) = (authority.sign(&["gateway.test"]), authority.sign(&["gateway.test"]));
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).cores(2).listener(FILES).start_after(|directory| files(directory, &old));
    let shown = || {
        let client = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
        client.session().peer_certificates().unwrap()[0].clone().into_owned()
    };
    let of = |(certificate, _): &(String, String)| CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(shown(), of(&old));
    let config = authority.client();
    let mut open = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
    open.send(chat("before"));
    open.response().expect(200);
    files(gateway.file("key.pem").parent().unwrap(), &new);
    gateway.signal(rustix::process::Signal::HUP);
    eventually("every core shows the new one", || (0..8).all(|_| shown() == of(&new)));
    open.send(chat("after"));
    open.response().expect(200);
    let again = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
    assert_eq!(again.session().handshake_kind(), Some(HandshakeKind::Resumed), "sessions outlive the certificate");
    // By the change of the files alone.
    files(gateway.file("key.pem").parent().unwrap(), &old);
    eventually("the change is seen", || (0..8).all(|_| shown() == of(&old)));
    // A file that is of no use changes nothing.
    std::fs::write(gateway.file("key.pem"), "no key").unwrap();
    gateway.signal(rustix::process::Signal::HUP);
    assert_eq!(shown(), of(&old));
}

#[test]
fn what_is_no_tls_is_closed_and_counted() {
    let authority = Authority::new();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = secured(&authority, &backend, 1, "timeout_handshake = \"300ms\"");
    let raw = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(gateway.listener()).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let ends = |mut stream: TcpStream| {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // an alert, then the end; or a reset
        rest
    };
    ends(raw(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"));
    ends(raw(&[0xff; 600]));
    eventually("both are counted", || counted(&gateway, "not_tls") == 2);
    // The beginning of a handshake, and then nothing, or the end.
    let mut session = rustls::ClientConnection::new(authority.client(), "gateway.test".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    for length in [1, 5, 100, hello.len()] {
        ends(raw(&hello[..length]));
    }
    eventually("all four are counted", || counted(&gateway, "timeout") == 4);
    drop(raw(&hello[..50]));
    eventually("the one that left is counted", || counted(&gateway, "closed") == 1);
    // No common version or protocol.
    let old = rustls::ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    let mut other = old.clone();
    other.alpn_protocols = vec![b"smtp".to_vec()];
    let refused = Client::connect_tls(gateway.listener(), &Arc::new(other), "gateway.test").err().unwrap();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    eventually("it is counted", || counted(&gateway, "no_protocol") == 1);
    let mut client = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    client.send(chat("still there"));
    client.response().expect(200);
}

#[test]
fn a_stream_that_breaks_off_does_not_look_whole() {
    let authority = Authority::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let passed = seen.clone();
    let backend = Backend::run(move |peer| {
        peer.request();
        peer.write(format!("{STREAM_HEAD}{}", chunk(&piece("half"))));
        let count = peer.number + 1;
        eventually("the client has a part", || passed.load(Ordering::SeqCst) == count);
        peer.finish();
    });
    let gateway = secured(&authority, &backend, 1, "");
    for (version, ending) in [("HTTP/1.1", Ending::Cut), ("HTTP/1.0", Ending::Reset)] {
        let mut client = Client::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
        client.send(String::from_utf8(chat_stream(version)).unwrap().replace("HTTP/1.1", version));
        let mut answer = client.head();
        assert!(client.reads("half"));
        seen.fetch_add(1, Ordering::SeqCst);
        client.body(&mut answer);
        assert_eq!((answer.status, answer.ending), (200, ending), "{version}");
    }
}

#[test]
fn certificates_that_are_of_no_use_are_refused_at_their_place() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let other = authority.sign(&["gateway.test"]);
    let expired = authority.sign_with(&["gateway.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let future = authority.sign_with(&["gateway.test"], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    let refused = |lines: &str, (certificate, key): (&str, &str)| {
        let backend = Backend::answering(|_| json("{}"));
        Setup::with(&backend).listener(lines).refused_after(|directory| {
            std::fs::write(directory.join("cert.pem"), certificate).unwrap();
            std::fs::write(directory.join("key.pem"), key).unwrap();
        })
    };
    for (certificate, key, expected) in [
        (
            &own.0[..],
            &other.1[..],
            "listener.tls_key: $DIRECTORY/key.pem is not the private key of the first certificate",
        ),
        (&expired.0, &expired.1, "listener.tls_cert: $DIRECTORY/cert.pem: the certificate expired"),
        (&future.0, &future.1, "listener.tls_cert: $DIRECTORY/cert.pem: the certificate is not valid yet"),
        ("", &own.1, "listener.tls_cert: $DIRECTORY/cert.pem: contains no PEM certificate"),
        (&own.0, "", "listener.tls_key: $DIRECTORY/key.pem: the private key cannot be used"),
    ] {
        let told = refused(FILES, (certificate, key));
        let (_, end) = expected.split_once("$DIRECTORY").unwrap();
        assert!(told.contains(end), "{expected}\n{told}");
        assert!(told.contains(expected.split_once(':').unwrap().0), "{expected}\n{told}");
    }
    let told = refused(&format!("{FILES}tls_client_ca = \"$DIRECTORY/key.pem\""), (&own.0, &own.1));
    assert!(told.contains("listener.tls_client_ca") && told.contains("contains no PEM certificate"), "{told}");
    let told = refused("tls_cert = \"$DIRECTORY/cert.pem\"", (&own.0, &own.1));
    assert!(told.contains("listener.tls_cert: there is no tls_key beside it"), "{told}");
    let told = refused("tls_client_ca = \"$DIRECTORY/cert.pem\"", (&own.0, &own.1));
    assert!(told.contains("listener.tls_client_ca: the listener speaks plain text"), "{told}");
    let told = refused("tls_cert = \"$DIRECTORY/none.pem\"\ntls_key = \"$DIRECTORY/key.pem\"", (&own.0, &own.1));
    assert!(told.contains("listener.tls_cert: cannot read"), "{told}");
}

#[test]
fn a_proxy_says_whose_connection_it_is() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .admin("listen = \"127.0.0.1:0\"")
        .log("access = \"$DIRECTORY/access.log\"")
        .listener("proxy_protocol = true\ntimeout_handshake = \"300ms\"")
        .listener(&format!("proxy_protocol = true\n{FILES}"))
        .start_after(|directory| files(directory, &own));
    let [plain, secure] = [0, 1].map(|place| gateway.listeners[place].unwrap());
    let request = String::from_utf8(chat("by a proxy")).unwrap();
    // With the request behind it, and byte by byte.
    let first = format!("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n{request}");
    let mut client = Client::connect(plain);
    client.send(&first);
    client.response().expect(200);
    client.send(&request);
    client.response().expect(200);
    let mut client = Client::connect(plain);
    for byte in first.as_bytes() {
        client.send([*byte]);
    }
    client.response().expect(200);
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    second.extend([0x20, 1, 0xd, 0xb8]);
    second.extend([0; 32]);
    let mut client = Client::connect(secure);
    client.send(&second);
    let mut client = client.secured(&authority.client(), "gateway.test");
    client.send(&request);
    client.response().expect(200);
    // The proxy's own.
    let mut client = Client::connect(plain);
    client.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    client.send("GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n");
    client.response().expect(200);
    // None of these is served.
    for nothing in [&request[..], "PROXY TCP4 a b c d\r\n", "PROXY TCP4 192.0.2.1"] {
        let mut client = Client::connect(plain);
        client.send(nothing);
        client.expect_closed();
    }
    eventually("they are counted", || {
        let mut admin = Client::connect(gateway.admin.unwrap());
        admin.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        admin.response().expect(200).text().contains("ringway_proxy_header_errors_total 3")
    });
    let path = gateway.file("access.log");
    let kept = gateway.keep_directory();
    gateway.terminate();
    gateway.ended();
    let log = std::fs::read_to_string(path).unwrap();
    drop(kept);
    let of = |client: &str| log.matches(&format!("\"client\":\"{client}\"")).count();
    assert_eq!((of("192.0.2.1"), of("2001:db8::"), of("127.0.0.1")), (3, 1, 1), "{log}");
}
