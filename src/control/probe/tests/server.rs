//! Servers for checks: a task runs a script for each connection; certificates are generated for them.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Http, Secure, Target};
use super::http2;
use crate::net::Dial;
use crate::net::tls::{Identity, Offer, Roots, TlsContext, TlsSettings};

/// Timeout where nothing has to be waited for.
pub const LONG_MS: u64 = 600_000;
/// Timeout of checks that time out.
pub const SHORT_MS: u64 = 25;
/// Timeout of checks that succeed after waiting for a part of it.
pub const PATIENT_MS: u64 = 2000;

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

pub fn target() -> Target {
    Target {
        path: "/base/health".to_owned(),
        authority: "backend.test:8000".to_owned(),
        credential: None,
        timeout_ms: LONG_MS,
        tls: None,
        http: Http::Agreed,
    }
}

/// Runs `script` for each connection.
pub async fn server<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Dial
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    Dial::Tcp(address)
}

/// Answers each request in HTTP/1.1.
pub async fn answering(status: u16) -> Dial {
    server(move |mut stream| async move {
        let mut request = [0; 1024];
        while let Ok(1..) = stream.read(&mut request).await {
            let answer = format!("HTTP/1.1 {status} \r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

/// An address without a listener.
pub fn absent() -> Dial {
    Dial::Tcp(StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap())
}

/// Answers 200 over TLS, in the negotiated HTTP version.
pub async fn secure_server(config: Arc<ServerConfig>) -> Dial {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                return http2(stream, 200).await;
            }
            if let Ok(1..) = stream.read(&mut [0; 1024]).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "house");
        let private_key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&private_key).unwrap().pem();
        Authority { issuer: Issuer::new(params, private_key), pem }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let private_key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&private_key, &self.issuer).unwrap(), private_key)
    }

    /// How to connect to `name` trusting this authority, with a certificate for `client` if given.
    pub fn secure(&self, name: &str, client: Option<&str>) -> Secure {
        let client = client.map(|client| {
            let (certificate, private_key) = self.sign(client);
            let (chain, private_key) = (certificate.pem(), private_key.serialize_pem());
            Identity::from_pem("chain", chain.as_bytes(), "key", private_key.as_bytes()).unwrap()
        });
        let roots = Roots::from_pem("ca", self.pem.as_bytes()).unwrap();
        let settings = TlsSettings { server_name: name.to_owned(), roots, client, offer: Offer::Either };
        let (client, server_name) = TlsContext::new(&settings).unwrap().client();
        Secure { client, server_name }
    }

    /// A server called `name`; clients must present a certificate of `clients`, if given.
    pub fn server(&self, name: &str, alpn: &[&str], clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (certificate, private_key) = self.sign(name);
        let private_key = PrivatePkcs8KeyDer::from(private_key.serialize_der()).into();
        let mut server = builder.with_single_cert(vec![certificate.der().clone()], private_key).unwrap();
        server.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(server)
    }
}
