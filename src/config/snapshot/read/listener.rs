//! A `[[listener]]` of the file as a field of the snapshot. Owns nothing. `None` means that something was reported, never
//! that a value is absent.

use std::path::{Path, PathBuf};

use crate::config::pem::{Flaw, Look, PemFile, PemFiles, PemKey, Trusted};
use crate::config::problem::Report;
use crate::config::section::{FilePath, Placed, Section};
use crate::config::snapshot::{CertificateFiles, Listen, ListenerSettings, ListenerTls, ProxyHeader};

/// Also returns where the address stands.
pub(in crate::config) fn listener(
    section: &mut Section,
    look: &Look<'_>,
    report: &mut Report<'_>,
) -> Option<(Placed<Listen>, ListenerSettings)> {
    let tls = tls(section, look, report);
    let address: Placed<Listen> = section.take("address")?;
    let settings = ListenerSettings {
        address: address.value.clone(),
        tls: tls?,
        protocol: section.take_choice("protocol")?,
        proxy_header: if section.take("proxy_protocol")? { ProxyHeader::Required } else { ProxyHeader::Never },
        timeout_handshake_ms: section.take("timeout_handshake")?,
    };
    Some((address, settings))
}

fn tls(section: &mut Section, look: &Look<'_>, report: &mut Report<'_>) -> Option<Option<ListenerTls>> {
    let chains = section.take_optional::<Vec<Placed<FilePath>>>("tls_cert");
    let private_keys = section.take_optional::<Vec<Placed<FilePath>>>("tls_key");
    let client_ca = section.take_optional::<Placed<FilePath>>("tls_client_ca");
    let staples = section.take_optional::<Vec<Placed<FilePath>>>("tls_ocsp");
    if let Some(Some(ca)) = &client_ca {
        let files = PemFiles { trusted: Trusted::File(pem(ca)), chain: None, private_key: None, staple: None };
        for Flaw { what, remedy, .. } in look(&files) {
            report.add(ca.at, "listener.tls_client_ca", what, remedy);
        }
    }
    let (chains, private_keys, client_ca, staples) = (chains?, private_keys?, client_ca?, staples?);
    let (chains, private_keys) = match (chains, private_keys) {
        (Some(chains), Some(private_keys)) => (chains, private_keys),
        (Some(chains), None) => {
            let remedy = "add tls_key, the file of the certificate's private key";
            report.add(first(&chains), "listener.tls_cert", "there is no tls_key beside it", remedy);
            return None;
        }
        (None, Some(private_keys)) => {
            let remedy = "add tls_cert, the file of the key's certificate chain";
            report.add(first(&private_keys), "listener.tls_key", "there is no tls_cert beside it", remedy);
            return None;
        }
        (None, None) => {
            if let Some(ca) = client_ca {
                let remedy = "add tls_cert and tls_key, or take the key out";
                report.add(ca.at, "listener.tls_client_ca", "the listener speaks plain text", remedy);
                return None;
            }
            if let Some(staples) = staples {
                let remedy = "add tls_cert and tls_key, or take the key out";
                report.add(first(&staples), "listener.tls_ocsp", "the listener speaks plain text", remedy);
                return None;
            }
            return Some(None);
        }
    };
    if chains.len() != private_keys.len() {
        let what = format!("{} in tls_cert, but {} in tls_key", files(chains.len()), files(private_keys.len()));
        report.add(first(&private_keys), "listener.tls_key", what, "give each certificate its key, in the same order");
        return None;
    }
    if let Some(staples) = staples.as_ref().filter(|staples| staples.len() != chains.len()) {
        let what = format!("{} in tls_cert, but {} in tls_ocsp", files(chains.len()), files(staples.len()));
        report.add(first(staples), "listener.tls_ocsp", what, "give each certificate its response, in the same order");
        return None;
    }
    let staples: Vec<Option<Placed<FilePath>>> = match staples {
        Some(staples) => staples.into_iter().map(Some).collect(),
        None => chains.iter().map(|_| None).collect(),
    };
    for ((chain, private_key), staple) in chains.iter().zip(&private_keys).zip(&staples) {
        let (trusted, staple_file) = (Trusted::Nobody, staple.as_ref().map(pem));
        let (own, secret) = (Some(pem(chain)), Some(pem(private_key)));
        for Flaw { key, what, remedy } in
            look(&PemFiles { trusted, chain: own, private_key: secret, staple: staple_file })
        {
            let at = match (key, staple) {
                (PemKey::PrivateKey, _) => private_key.at,
                (PemKey::Staple, Some(staple)) => staple.at,
                _ => chain.at,
            };
            report.add(at, &format!("listener.{}", key.name()), what, remedy);
        }
    }
    let certificates = chains.into_iter().zip(private_keys).map(|(chain, private_key)| CertificateFiles {
        chain: chain.value.path.into(),
        private_key: private_key.value.path.into(),
    });
    let certificates = certificates
        .zip(staples)
        .map(|(certificate, staple)| (certificate, staple.map(|staple| PathBuf::from(staple.value.path))));
    let client_ca = client_ca.map(|ca| ca.value.path.into());
    Some(Some(ListenerTls { certificates: certificates.collect(), client_ca }))
}

fn pem(file: &Placed<FilePath>) -> PemFile<'_> {
    PemFile { path: Path::new(&file.value.path), called: &file.value.spelled }
}

fn first(files: &[Placed<FilePath>]) -> usize {
    files.first().map_or(0, |file| file.at)
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}
