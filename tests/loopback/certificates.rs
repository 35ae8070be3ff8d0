//! Client certificates that name tenants, and OCSP responses that are stapled.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::kit::*;
use super::secure::{Authority, FILES, files};

const MUTUAL: &str = "tls_client_ca = \"$DIRECTORY/ca.pem\"";

/// A client of `authority`'s gateway with a certificate of `clients` for these names.
fn with_certificate(
    authority: &Authority,
    clients: &Authority,
    common: &str,
    names: Vec<SanType>,
) -> Arc<rustls::ClientConfig> {
    let (certificate, key) = clients.sign_with(&[], |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = names;
    });
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let builder = rustls::ClientConfig::builder().with_root_certificates(authority.roots());
    Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

struct World {
    authority: Authority,
    clients: Authority,
    gateway: Gateway,
    backend: Backend,
}

const TENANTS: &str = "
[[tenant]]
name = \"search\"
client_certificates = [\"URI:spiffe://example/search\", \"DNS:Search.Example\"]
models = [\"m\"]

[[tenant]]
name = \"ops\"
client_certificates = [\"email:ops@example\", \"CN=the ops\"]
requests_per_minute = 3
";

fn world() -> World {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::answering(echo);
    let gateway = setup(&backend, TENANTS).start_after(|directory| {
        files(directory, &own);
        std::fs::write(directory.join("ca.pem"), clients.pem()).unwrap();
    });
    World { authority, clients, gateway, backend }
}

fn setup(backend: &Backend, tenants: &str) -> Setup {
    Setup::with(backend)
        .log("access = \"$DIRECTORY/access.log\"")
        .listener(&format!("{FILES}{MUTUAL}"))
        .tenant("keyed", "the-key", "")
        .table(tenants)
}

/// The tenants of the log's lines so far, `count` of them.
fn tenants(gateway: &Gateway, count: usize) -> Vec<Option<String>> {
    let mut lines = Vec::new();
    eventually("the lines are written", || {
        let text = std::fs::read_to_string(gateway.file("access.log")).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
        lines.len() >= count
    });
    lines.iter().map(|line| line["tenant"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_name_in_a_certificate_speaks_for_its_tenant() {
    let World { authority, clients, gateway, backend } = world();
    let cases: [(&str, Vec<SanType>, Option<&str>); 8] = [
        ("x", vec![uri("spiffe://example/search")], Some("search")),
        ("x", vec![SanType::DnsName("search.EXAMPLE".try_into().unwrap())], Some("search")),
        ("the ops", vec![], Some("ops")),
        ("x", vec![SanType::Rfc822Name("ops@example".try_into().unwrap())], Some("ops")),
        // The order of kinds decides, not that of the certificate.
        (
            "the ops",
            vec![SanType::DnsName("search.example".try_into().unwrap()), uri("spiffe://other")],
            Some("search"),
        ),
        ("The ops", vec![], None),
        ("search.example", vec![uri("spiffe://example/search/more")], None),
        ("URI:spiffe://example/search", vec![], None),
    ];
    let mut expected = Vec::new();
    for (number, (common, names, tenant)) in cases.into_iter().enumerate() {
        let config = with_certificate(&authority, &clients, common, names);
        let mut client = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
        client.send(chat(&format!("{number}")));
        let response = client.response();
        match tenant {
            Some(_) => assert_eq!(response.status, 200, "{common} {number}"),
            None => {
                assert_eq!((response.status, response.code().as_str()), (401, "unknown_certificate"), "{common}");
                assert_eq!(response.field("www-authenticate"), Some("Bearer"));
            }
        }
        expected.push(tenant.map(str::to_owned));
    }
    assert_eq!(tenants(&gateway, 8), expected);
    assert_eq!(backend.count(), 5);
    assert!(backend.requests().iter().all(|request| !request.head.contains("spiffe")));
}

#[test]
fn it_speaks_for_it_by_every_protocol_and_again_when_a_session_is_resumed() {
    let World { authority, clients, gateway, backend: _backend } = world();
    let config = with_certificate(&authority, &clients, "x", vec![uri("spiffe://example/search")]);
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut client = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
        // Pipelined, and one of them waits.
        client.send([chat("a"), chat("b"), chat("c")].concat());
        (0..3).for_each(|_| drop(client.response().expect(200)));
        assert_eq!(client.session().handshake_kind(), Some(expected));
    }
    let mut http2 = Http2::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
    assert_eq!(http2.ask(chat("d")).expect(200).text(), completion("d!"));
    assert_eq!(tenants(&gateway, 7), vec![Some("search".to_owned()); 7]);
}

#[test]
fn a_key_that_is_sent_wins_and_limits_hold() {
    let World { authority, clients, gateway, backend: _backend } = world();
    let config = with_certificate(&authority, &clients, "the ops", vec![]);
    let mut client = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
    let keyed = |key: &str, what: &str| post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), &question(what));
    client.send(keyed("the-key", "1"));
    client.response().expect(200);
    client.send(keyed("no-key", "2"));
    assert_eq!(client.response().expect(401).code(), "invalid_api_key", "a wrong key is not made good");
    for number in 0..3 {
        client.send(chat(&format!("own {number}")));
        client.response().expect(200);
    }
    client.send(chat("one too many"));
    client.response().expect(429);
    let told = ["keyed", "", "ops", "ops", "ops", "ops"].map(|name| (!name.is_empty()).then(|| name.to_owned()));
    assert_eq!(tenants(&gateway, 6), told);
    // Nobody is let in by what stands for a name.
    let mut plain = gateway.client();
    plain.send(chat("plain"));
    assert_eq!(plain.response().expect(401).code(), "missing_api_key");
}

#[test]
fn a_reload_gives_a_name_and_takes_it_away() {
    let World { authority, clients, gateway, backend } = world();
    let config = with_certificate(&authority, &clients, "late", vec![]);
    let mut client = Client::connect_tls(gateway.listener(), &config, "gateway.test").unwrap();
    let mut ask = |status: u16| {
        eventually("the configuration is in force", || {
            client.send(chat("hi"));
            client.response().status == status
        });
    };
    ask(401);
    gateway.rewrite(setup(&backend, "[[tenant]]\nname = \"late\"\nclient_certificates = [\"CN=late\"]\n"));
    gateway.signal(rustix::process::Signal::HUP);
    ask(200);
    gateway.rewrite(setup(&backend, TENANTS));
    gateway.signal(rustix::process::Signal::HUP);
    ask(401);
}

#[test]
fn names_that_are_of_no_use_are_refused_at_their_place() {
    let backend = Backend::absent();
    let refused = |tenants: &str| Setup::with(&backend).table(tenants).refused();
    let told = refused("[[tenant]]\nname = \"a\"\nclient_certificates = [\"search\"]\n");
    assert!(told.contains("tenant.client_certificates: \"search\" does not say which kind of name it is"), "{told}");
    let told = refused("[[tenant]]\nname = \"a\"\nclient_certificates = [\"CN=\"]\n");
    assert!(told.contains("does not say which kind"), "{told}");
    let told = refused(
        "[[tenant]]\nname = \"a\"\nclient_certificates = [\"DNS:A.b\"]\n[[tenant]]\nname = \"b\"\nclient_certificates = [\"DNS:a.B\"]\n",
    );
    assert!(told.contains("a name belongs to one tenant, once"), "{told}");
    let told = refused("[[tenant]]\nname = \"a\"\n");
    assert!(told.contains("tenant.keys") && told.contains("it has no keys"), "{told}");
}

#[test]
fn a_response_of_no_use_is_refused_at_its_place() {
    let authority = Authority::new();
    let own = authority.sign(&["gateway.test"]);
    let backend = Backend::absent();
    let refused = |lines: &str| {
        Setup::with(&backend).listener(lines).refused_after(|directory| {
            files(directory, &own);
            std::fs::write(directory.join("other.ocsp"), b"no DER").unwrap();
        })
    };
    let told = refused(&format!("{FILES}tls_ocsp = \"$DIRECTORY/other.ocsp\""));
    assert!(told.contains("listener.tls_ocsp") && told.contains("it is not the DER of an OCSP response"), "{told}");
    let told = refused(&format!("{FILES}tls_ocsp = \"$DIRECTORY/none.ocsp\""));
    assert!(told.contains("listener.tls_ocsp: cannot read"), "{told}");
    let told = refused(&format!("{FILES}tls_ocsp = [\"$DIRECTORY/other.ocsp\", \"$DIRECTORY/other.ocsp\"]"));
    assert!(told.contains("1 file in tls_cert, but 2 files in tls_ocsp"), "{told}");
    let told = refused("tls_ocsp = \"$DIRECTORY/other.ocsp\"");
    assert!(told.contains("listener.tls_ocsp: the listener speaks plain text"), "{told}");
}
