//! A TLS server on its own thread, with another socket implementation than the one under test, and certificates for it.
//! Blocking; it ends with its connection, and a panic in it fails the test that joins it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::net::tls::Roots;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// Validity period of a certificate.
pub enum Valid {
    Now,
    Past,
    Future,
}

/// A signed certificate and its key.
pub struct Leaf {
    pub chain_pem: String,
    pub private_key_pem: String,
    certificate: CertificateDer<'static>,
    private_key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let private_key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&private_key).unwrap();
        let pem = certificate.pem();
        Authority { issuer: Issuer::new(params, private_key), certificate: certificate.der().clone(), pem }
    }

    pub fn sign(&self, name: &str, valid: Valid) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match valid {
            Valid::Now => {}
            Valid::Past => {
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            }
            Valid::Future => params.not_before = rcgen::date_time_ymd(2999, 1, 1),
        }
        let private_key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&private_key, &self.issuer).unwrap();
        Leaf {
            chain_pem: certificate.pem(),
            private_key_pem: private_key.serialize_pem(),
            certificate: certificate.der().clone(),
            private_key: PrivatePkcs8KeyDer::from(private_key.serialize_der()).into(),
        }
    }

    pub fn roots(&self) -> Roots {
        Roots::from_pem("ca.pem", self.pem.as_bytes()).unwrap()
    }
}

/// The configuration of a server, besides its certificate.
#[derive(Default)]
pub struct Reachability<'a> {
    /// Empty: all.
    pub versions: &'a [&'static SupportedProtocolVersion],
    pub alpn: &'a [&'static str],
    /// Clients must present a certificate of this authority.
    pub clients: Option<&'a Authority>,
}

pub fn set_up(leaf: &Leaf, reachability: &Reachability<'_>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = if reachability.versions.is_empty() { rustls::ALL_VERSIONS } else { reachability.versions };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match reachability.clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(vec![leaf.certificate.clone()], leaf.private_key.clone_key()).unwrap();
    server.alpn_protocols = reachability.alpn.iter().map(|version| version.as_bytes().to_vec()).collect();
    Arc::new(server)
}

/// One accepted connection.
pub struct Served {
    pub session: ServerConnection,
    pub socket: TcpStream,
}

impl Served {
    /// Errors: the client's alert, among others.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.session.complete_io(&mut self.socket)?;
        }
        // The tickets.
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    pub fn stream(&mut self) -> rustls::Stream<'_, ServerConnection, TcpStream> {
        rustls::Stream::new(&mut self.session, &mut self.socket)
    }

    pub fn expect(&mut self, expected: &[u8]) {
        let mut seen = vec![0; expected.len()];
        self.stream().read_exact(&mut seen).unwrap();
        assert_eq!(seen, expected);
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
        self.stream().flush().unwrap();
    }

    /// Waits for the client's end of stream; returns whether there was a close_notify.
    pub fn end_is_announced(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream().read_to_end(&mut rest).is_ok()
    }

    pub fn announce_end(&mut self) {
        self.session.send_close_notify();
        self.session.write_tls(&mut self.socket).unwrap();
    }
}

/// Accepts one plain connection and passes it to `act`.
pub fn serve_plain<R: Send + 'static>(
    act: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> (SocketAddr, JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Inherited by accepted sockets: writers soon meet a full window.
    socket2::SockRef::from(&listener).set_recv_buffer_size(8 << 10).unwrap();
    socket2::SockRef::from(&listener).set_send_buffer_size(8 << 10).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        drop(listener);
        act(socket)
    });
    (address, thread)
}

/// Accepts one connection and passes it to `act` before the handshake.
pub fn serve<R: Send + 'static>(
    server: &Arc<ServerConfig>,
    act: impl FnOnce(&mut Served) -> R + Send + 'static,
) -> (SocketAddr, JoinHandle<R>) {
    let server = server.clone();
    serve_plain(move |socket| act(&mut Served { session: ServerConnection::new(server).unwrap(), socket }))
}
