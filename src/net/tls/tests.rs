//! TLS to a real server on the real ring: which handshakes succeed or fail, and the message of each failure.

pub(in crate::net) mod server; // the other side

use std::net::SocketAddr;
use std::thread;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use self::server::{Authority, Reachability, Valid, serve, serve_plain, set_up};
use super::{Agreed, Identity, Offer, Roots, TlsContext, TlsError, TlsFault, TlsSettings, TlsStream, connect};
use crate::net::runtime::run_data_core;
use crate::net::{Dial, Duplex, dial, sleep_ms};

/// Timeout of handshakes that succeed or fail by themselves: no test waits for it.
pub(in crate::net) const LONG_MS: u64 = 600_000;

/// Runs `act` on a thread of its own: thread-locals of a core belong to one ring.
pub(in crate::net) fn on_core<R: Send, F: Future<Output = R>>(act: impl FnOnce() -> F + Send) -> R {
    let core = || {
        let main = async {
            let result = act().await;
            // Sockets that were just dropped are closed through the ring, which has to be entered once more for that.
            sleep_ms(1).await;
            result
        };
        run_data_core(main).unwrap()
    };
    thread::scope(|scope| scope.spawn(core).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(in crate::net) fn settings(roots: Roots) -> TlsSettings {
    TlsSettings { server_name: "backend.test".into(), roots, client: None, offer: Offer::Either }
}

pub(in crate::net) async fn shake(address: SocketAddr, context: &TlsContext) -> Result<(TlsStream, Agreed), TlsFault> {
    let socket = dial(&Dial::Tcp(address), LONG_MS).await.unwrap();
    socket.shrink();
    connect(socket, context, LONG_MS).await
}

fn fault_of(address: SocketAddr, settings: &TlsSettings) -> TlsFault {
    let context = TlsContext::new(settings).unwrap();
    on_core(async || shake(address, &context).await.map(drop).unwrap_err())
}

#[test]
fn both_versions_shake_hands_and_agree_on_http() {
    let authority = Authority::new("house");
    let leaf = authority.sign("backend.test", Valid::Now);
    for version in [&TLS12, &TLS13] {
        for (alpn, offer, agreed) in [
            (&["h2", "http/1.1"][..], Offer::Either, Agreed::Http2),
            (&["http/1.1"], Offer::Either, Agreed::Http1),
            (&[], Offer::Either, Agreed::Http1),
            (&["h2", "http/1.1"], Offer::Http1, Agreed::Http1),
            (&["h2"], Offer::Http2, Agreed::Http2),
        ] {
            let server = set_up(&leaf, &Reachability { versions: &[version], alpn, ..Reachability::default() });
            let (address, thread) = serve(&server, |served| {
                served.shake_hands().unwrap();
                served.expect(b"ping");
                served.say(b"pong");
                assert!(served.end_is_announced(), "a dropped connection sends close_notify");
                served.session.server_name().map(str::to_owned)
            });
            let context = TlsContext::new(&TlsSettings { offer, ..settings(authority.roots()) }).unwrap();
            on_core(async || {
                let (stream, got) = shake(address, &context).await.unwrap();
                assert_eq!(got, agreed);
                let mut duplex = Duplex::from(stream);
                duplex.write(b"ping".to_vec()).await.0.unwrap();
                let (read, buffer) = duplex.read(Vec::with_capacity(100)).await;
                assert_eq!((read.unwrap(), &buffer[..]), (4, &b"pong"[..]));
            });
            assert_eq!(thread.join().unwrap().as_deref(), Some("backend.test"), "SNI");
        }
    }
}

#[test]
fn an_ip_address_can_be_the_name() {
    let authority = Authority::new("house");
    let server = set_up(&authority.sign("127.0.0.1", Valid::Now), &Reachability::default());
    let (address, thread) = serve(&server, |served| {
        served.shake_hands().unwrap();
        served.session.server_name().map(str::to_owned)
    });
    let settings = TlsSettings { server_name: "127.0.0.1".into(), ..settings(authority.roots()) };
    let context = TlsContext::new(&settings).unwrap();
    on_core(async || shake(address, &context).await.map(drop).unwrap());
    assert_eq!(thread.join().unwrap(), None, "RFC 6066 3: no SNI for addresses");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said() {
    let (authority, stranger) = (Authority::new("house"), Authority::new("stranger"));
    type Right = fn(&TlsFault) -> bool;
    let cases: [(_, Right, &str); 5] = [
        (
            Authority::new("house").sign("backend.test", Valid::Now),
            |fault| matches!(fault, TlsFault::BadCertificate { .. }),
            "a new key under its old name",
        ),
        (stranger.sign("backend.test", Valid::Now), |fault| matches!(fault, TlsFault::UnknownAuthority), "authority"),
        (
            authority.sign("backend.test", Valid::Past),
            |fault| matches!(fault, TlsFault::Expired { days } if *days > 8000),
            "expired",
        ),
        (
            authority.sign("backend.test", Valid::Future),
            |fault| matches!(fault, TlsFault::NotYetValid),
            "not valid yet",
        ),
        (
            authority.sign("other.test", Valid::Now),
            |fault| matches!(fault, TlsFault::WrongName { expected, .. } if expected == "backend.test"),
            "not for `backend.test` but for other.test",
        ),
    ];
    for (leaf, is_right, said) in cases {
        let (address, thread) = serve(&set_up(&leaf, &Reachability::default()), |served| served.shake_hands().is_err());
        let fault = fault_of(address, &settings(authority.roots()));
        assert!(is_right(&fault), "{fault:?}");
        assert!(fault.to_string().contains(said), "{fault}");
        assert!(thread.join().unwrap(), "the server learns of it");
    }
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let authority = Authority::new("house");
    let clients = Authority::new("clients");
    let leaf = authority.sign("backend.test", Valid::Now);
    let identity = |by: &Authority| {
        let client = by.sign("client.test", Valid::Now);
        Identity::from_pem("c.pem", client.chain_pem.as_bytes(), "c.key", client.private_key_pem.as_bytes()).unwrap()
    };
    let shown = [(Some(identity(&clients)), true), (Some(identity(&Authority::new("stranger"))), false), (None, false)];
    for version in [&TLS12, &TLS13] {
        for (client, accepted) in shown.clone() {
            let reachability =
                Reachability { versions: &[version], clients: Some(&clients), ..Reachability::default() };
            let (address, thread) = serve(&set_up(&leaf, &reachability), |served| {
                served.shake_hands()?;
                served.say(b"welcome");
                Ok::<_, std::io::Error>(())
            });
            let context = TlsContext::new(&TlsSettings { client, ..settings(authority.roots()) }).unwrap();
            let outcome = on_core(async || {
                let (stream, _) = shake(address, &context).await?;
                // In TLS 1.3 the server's alert arrives only now.
                let (read, buffer) = Duplex::from(stream).read(Vec::with_capacity(100)).await;
                read.map(|_| buffer).map_err(|error| TlsFault::of(&error).expect("a fault of TLS").clone())
            });
            match outcome {
                Ok(said) => assert!(accepted && said == b"welcome"),
                Err(fault) => {
                    assert!(!accepted && matches!(fault, TlsFault::ClientCertificateRefused { .. }), "{fault:?}");
                }
            }
            assert_eq!(thread.join().unwrap().is_ok(), accepted);
        }
    }
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let authority = Authority::new("house");
    let leaf = authority.sign("backend.test", Valid::Now);
    for version in [&TLS12, &TLS13] {
        let server = set_up(&leaf, &Reachability { versions: &[version], ..Reachability::default() });
        let context = TlsContext::new(&settings(authority.roots())).unwrap();
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let (address, thread) = serve(&server, |served| {
                served.shake_hands().unwrap();
                served.say(b"x");
                served.session.handshake_kind()
            });
            on_core(async || {
                let (mut stream, _) = shake(address, &context).await.map(|(s, a)| (Duplex::from(s), a)).unwrap();
                // The tickets come before it.
                assert_eq!(stream.read(Vec::with_capacity(1)).await.0.unwrap(), 1);
            });
            kinds.push(thread.join().unwrap());
        }
        // A server may ask for another key share first: that is a full handshake as well.
        assert_ne!(kinds[0], Some(HandshakeKind::Resumed), "{version:?}");
        assert_eq!(kinds[1..], [Some(HandshakeKind::Resumed); 2], "{version:?}");
    }
}

#[test]
fn http2_alone_is_not_talked_down() {
    let authority = Authority::new("house");
    let leaf = authority.sign("backend.test", Valid::Now);
    for (alpn, fault) in [(&[][..], TlsFault::NoHttp2), (&["http/1.1"], TlsFault::NoProtocol)] {
        let (address, thread) = serve(&set_up(&leaf, &Reachability { alpn, ..Reachability::default() }), |served| {
            drop(served.shake_hands())
        });
        let settings = TlsSettings { offer: Offer::Http2, ..settings(authority.roots()) };
        assert_eq!(fault_of(address, &settings), fault);
        thread.join().unwrap();
    }
}

#[test]
fn a_server_that_leaves_or_says_nothing_is_told_apart() {
    let roots = Authority::new("house").roots();
    let (address, thread) = serve_plain(|mut socket| {
        // The hello is read, so that the close is not a reset.
        std::io::Read::read(&mut socket, &mut [0; 4096]).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        std::io::copy(&mut socket, &mut std::io::sink()).unwrap();
    });
    assert_eq!(fault_of(address, &settings(roots.clone())), TlsFault::Closed);
    thread.join().unwrap();

    let (address, thread) = serve_plain(|mut socket| drop(std::io::copy(&mut socket, &mut std::io::sink())));
    let context = TlsContext::new(&settings(roots)).unwrap();
    let fault = on_core(async || {
        let socket = dial(&Dial::Tcp(address), LONG_MS).await.unwrap();
        connect(socket, &context, 1).await.map(drop).unwrap_err()
    });
    assert_eq!(fault, TlsFault::TimedOut);
    thread.join().unwrap();
}

#[test]
fn the_systems_roots_are_read_or_it_is_said_that_there_are_none() {
    match Roots::system() {
        Ok(roots) => drop(TlsContext::new(&settings(roots)).unwrap()),
        Err(error) => assert!(matches!(error, TlsError::NoSystemRoots { .. }), "{error}"),
    }
}

#[test]
fn bad_settings_are_errors_that_name_their_file() {
    let authority = Authority::new("house");
    let (one, other) = (authority.sign("a.test", Valid::Now), authority.sign("b.test", Valid::Now));
    let said = |error: TlsError| error.to_string();
    assert_eq!(said(Roots::from_pem("ca.pem", b"").unwrap_err()), "ca.pem: contains no PEM certificate");
    assert_eq!(said(Roots::from_pem("ca.pem", b"hello\n").unwrap_err()), "ca.pem: contains no PEM certificate");
    let cut = &authority.pem.as_bytes()[..100];
    assert!(said(Roots::from_pem("ca.pem", cut).unwrap_err()).starts_with("ca.pem: not PEM: "));
    let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = said(Roots::from_pem("ca.pem", &[authority.pem.as_bytes(), empty].concat()).unwrap_err());
    assert!(error.starts_with("ca.pem: certificate 2 cannot be used: "), "{error}");

    let read = |chain: &str, private_key: &str| {
        said(Identity::from_pem("c.pem", chain.as_bytes(), "c.key", private_key.as_bytes()).unwrap_err())
    };
    assert_eq!(read("", &one.private_key_pem), "c.pem: contains no PEM certificate");
    assert!(read(&one.chain_pem, &one.chain_pem).contains("c.key: the private key cannot be used: no unencrypted"));
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(read(&one.chain_pem, nonsense).starts_with("c.key: the private key cannot be used: "));
    assert_eq!(
        read(&one.chain_pem, &other.private_key_pem),
        "c.key is not the private key of the first certificate in c.pem"
    );

    for name in ["", "two words", "a..b"] {
        let settings = TlsSettings { server_name: name.into(), ..settings(authority.roots()) };
        assert_eq!(TlsContext::new(&settings).unwrap_err(), TlsError::BadName { name: name.into() });
    }
}
