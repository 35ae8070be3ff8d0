//! TLS settings of one backend: trusted roots, client certificate, names. Takes file contents, returns validated
//! values, which are cheap to clone and shared by all cores because they are immutable.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::parse_x509_certificate;

use super::fault::TlsError;
use super::staple;
use crate::net::unix_ms;

/// Everything a core needs to create its [`TlsContext`](super::TlsContext) of one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsSettings {
    /// For SNI and certificate verification: a DNS name, or an IP address (then without SNI, RFC 6066 3).
    pub server_name: String,
    pub roots: Roots,
    /// The client certificate, for backends that request one.
    pub client: Option<Identity>,
    pub offer: Offer,
}

/// The HTTP versions offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Http1,
    Http2,
    /// HTTP/2 preferred.
    Either,
}

impl Offer {
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        let versions: &[&[u8]] = match self {
            Offer::Http1 => &[b"http/1.1"],
            Offer::Http2 => &[b"h2"],
            Offer::Either => &[b"h2", b"http/1.1"],
        };
        versions.iter().map(|version| version.to_vec()).collect()
    }
}

/// The trusted certificate authorities.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// The system's. Reads files: call it at start, once for all backends. Errors: none of them is usable.
    pub fn system() -> Result<Roots, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            let what = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TlsError::NoSystemRoots { what });
        }
        Ok(Roots(Arc::new(store)))
    }

    /// From the PEM `bytes` of `file`; the name is for errors only.
    pub fn from_pem(file: &str, bytes: &[u8]) -> Result<Roots, TlsError> {
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates(file, bytes)?.into_iter().enumerate() {
            store.add(certificate).map_err(|error| TlsError::BadCertificate {
                file: file.to_owned(),
                number: index + 1,
                what: error.to_string(),
            })?;
        }
        Ok(Roots(Arc::new(store)))
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Roots) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.roots == other.0.roots
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Roots({})", self.0.len())
    }
}

/// The gateway's own certificate chain with its private key: a server's, or the one shown to a backend.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

/// The same with an OCSP response.
#[derive(Clone)]
pub(super) struct Stapled {
    pub certified: Arc<CertifiedKey>,
    /// Milliseconds since 1970; what is older, clients take for none or for a fault.
    pub until_ms: u64,
}

impl Identity {
    /// From PEM: the certificate chain, leaf first, and its key (PKCS #8, PKCS #1 or SEC 1, not encrypted). The file
    /// names are for errors only. Errors: also when certificate and key do not match.
    pub fn from_pem(
        chain_file: &str,
        chain: &[u8],
        private_key_file: &str,
        private_key: &[u8],
    ) -> Result<Identity, TlsError> {
        Identity::parse(chain_file, chain, private_key_file, private_key).map_err(|(error, _)| error)
    }

    /// All errors of the two files, not only the first.
    pub fn errors_in_pem(
        chain_file: &str,
        chain: &[u8],
        private_key_file: &str,
        private_key: &[u8],
    ) -> impl Iterator<Item = TlsError> {
        let parsed = Identity::parse(chain_file, chain, private_key_file, private_key);
        parsed.err().into_iter().flat_map(|(error, other)| [Some(error), other]).flatten()
    }

    fn parse(
        chain_file: &str,
        chain: &[u8],
        private_key_file: &str,
        private_key: &[u8],
    ) -> Result<Identity, (TlsError, Option<TlsError>)> {
        let bad_certificate = |error: rustls::Error| {
            let file = chain_file.to_owned();
            TlsError::BadCertificate { file, number: 1, what: error.to_string() }
        };
        let chain = certificates(chain_file, chain).and_then(|chain| {
            // The chain has at least one certificate, the client's own. Checked here, so that a bad key does not hide
            // it.
            let own = chain.first().map(ParsedCertificate::try_from);
            own.transpose().map_err(bad_certificate)?;
            Ok(chain)
        });
        let (chain, signer) = match (chain, signer(private_key_file, private_key)) {
            (Ok(chain), Ok(signer)) => (chain, signer),
            (Err(error), signer) => return Err((error, signer.err())),
            (Ok(_), Err(error)) => return Err((error, None)),
        };
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) => Ok(Identity::of(certified)),
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                let (chain, private_key) = (chain_file.to_owned(), private_key_file.to_owned());
                Err((TlsError::KeyMismatch { chain, private_key }, None))
            }
            // A key whose public half is unknown cannot be compared; the backend will detect a mismatch.
            Err(rustls::Error::InconsistentKeys(_)) => Ok(Identity::of(certified)),
            Err(error) => Err((bad_certificate(error), None)),
        }
    }

    fn of(certified: CertifiedKey) -> Identity {
        Identity { certified: Arc::new(certified), stapled: None }
    }

    /// The same with the OCSP `response` of `file`, which is for the error only. Errors: it does not say that the first
    /// certificate is good now.
    pub fn with_staple(mut self, file: &str, response: &[u8]) -> Result<Identity, TlsError> {
        let bad = |what: String| TlsError::BadStaple { file: file.to_owned(), what };
        let until_s = {
            let own = self.certified.cert.first().and_then(|own| parse_x509_certificate(own).ok());
            let serial = own.as_ref().map(|(_, own)| own.raw_serial()).unwrap_or_default();
            staple::good_until(response, serial, unix_ms() / 1000).map_err(bad)?
        };
        let certified = CertifiedKey { ocsp: Some(response.to_vec()), ..CertifiedKey::clone(&self.certified) };
        let until_ms = until_s.map_or(u64::MAX, |until_s| until_s.saturating_mul(1000));
        self.stapled = Some(Stapled { certified: Arc::new(certified), until_ms });
        Ok(self)
    }

    pub(super) fn stapled(&self) -> Option<&Stapled> {
        self.stapled.as_ref()
    }

    /// Checks the dates of the first certificate; `file` is for the error only.
    pub fn is_valid_now(&self, file: &str) -> Result<(), TlsError> {
        let Some(Ok(own)) = self.certified.cert.first().map(ParsedCertificate::try_from) else { return Ok(()) };
        let provider = aws_lc_rs::default_provider();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(unix_ms()));
        // The dates are checked before the issuer, and there is none to be found.
        let algorithms = provider.signature_verification_algorithms.all;
        let nobody = RootCertStore::empty();
        let file = file.to_owned();
        match verify_server_cert_signed_by_trust_anchor(&own, &nobody, &[], now, algorithms) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
                Err(TlsError::Expired { file, days: time.as_secs().saturating_sub(not_after.as_secs()) / 86_400 })
            }
            Err(Error::InvalidCertificate(CertificateError::Expired)) => Err(TlsError::Expired { file, days: 0 }),
            Err(Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err(TlsError::NotYetValid { file }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl PartialEq for Identity {
    /// By the certificates, with what is stapled to them: a key that matches the same one is the same key.
    fn eq(&self, other: &Identity) -> bool {
        let staple = |of: &Identity| of.stapled.as_ref().and_then(|stapled| stapled.certified.ocsp.clone());
        self.certified.cert == other.certified.cert && staple(self) == staple(other)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity(..)")
    }
}

fn signer(file: &str, bytes: &[u8]) -> Result<Arc<dyn SigningKey>, TlsError> {
    let bad_key = |what: String| TlsError::BadPrivateKey { file: file.to_owned(), what };
    let private_key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        PemError::NoItemsFound => bad_key("no unencrypted PEM private key in it".into()),
        error => bad_key(error.to_string()),
    })?;
    let provider = aws_lc_rs::default_provider();
    provider.key_provider.load_private_key(private_key).map_err(|error| bad_key(error.to_string()))
}

/// At least one.
fn certificates(file: &str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::NoCertificate { file: file.to_owned() }),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::BadPem { file: file.to_owned(), what: error.to_string() }),
    }
}
