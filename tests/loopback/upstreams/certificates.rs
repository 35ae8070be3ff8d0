//! Certificates made as a test runs, and the files that a configuration names.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The name that backends go by.
pub const NAME: &str = "backend.test";

/// Somebody who signs certificates; everything it wrote is gone with it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    Now,
    Past,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let private_key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&private_key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let der = certificate.der().clone();
        Authority { issuer: Issuer::new(params, private_key), certificate: der, directory }
    }

    fn sign(&self, name: &str, valid: Valid) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if valid == Valid::Past {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let private_key = KeyPair::generate().unwrap();
        (params.signed_by(&private_key, &self.issuer).unwrap(), private_key)
    }

    /// Lines of a `[[backend]]` that trusts this authority and calls the backend by its name.
    pub fn trusted(&self) -> String {
        format!("tls_server_name = \"{NAME}\"\ntls_ca = \"{}\"\n", self.path("ca.pem"))
    }

    /// Lines of a `[[backend]]` that shows a certificate of this authority.
    pub fn shown(&self) -> String {
        let (certificate, private_key) = self.sign("gateway.test", Valid::Now);
        std::fs::write(self.directory.path().join("client.pem"), certificate.pem()).unwrap();
        std::fs::write(self.directory.path().join("client.key"), private_key.serialize_pem()).unwrap();
        format!("tls_cert = \"{}\"\ntls_key = \"{}\"\n", self.path("client.pem"), self.path("client.key"))
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.directory.path()).join(name).to_str().unwrap().to_owned()
    }

    /// The usual server: of the right name, which agrees to both versions.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server_with(NAME, Valid::Now, &["h2", "http/1.1"], None)
    }

    /// Clients have to show a certificate of `clients`.
    pub fn server_with(
        &self,
        name: &str,
        valid: Valid,
        alpn: &[&str],
        clients: Option<&Authority>,
    ) -> Arc<ServerConfig> {
        let (certificate, private_key) = self.sign(name, valid);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let private_key = PrivatePkcs8KeyDer::from(private_key.serialize_der()).into();
        let mut server = builder.with_single_cert(vec![certificate.der().clone()], private_key).unwrap();
        server.alpn_protocols = alpn.iter().map(|version| version.as_bytes().to_vec()).collect();
        Arc::new(server)
    }
}
