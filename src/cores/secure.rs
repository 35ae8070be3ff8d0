//! TLS settings of backends and listeners, from the files named in the configuration: validated when it is loaded, so that each
//! error is reported at its place, and read once at start. Owns nothing; messages never contain a file's contents.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use crate::config::pem::{Flaw, PemFile, PemFiles, PemKey, Trusted};
use crate::config::snapshot::{CertificateFiles, ListenerSettings, ListenerTls, Protocol, Snapshot, Tls};
use crate::net::tls::{
    AcceptSettings, Identity, Offer, Roots, TicketChain, TicketSeed, TlsAcceptor, TlsContext, TlsError, TlsSettings,
};

/// A validator of backends' files for [`load_file`](crate::config::load::load_file). The system's roots are read once,
/// and only if a backend needs them.
pub fn look() -> impl Fn(&PemFiles<'_>) -> Vec<Flaw> {
    let system = OnceCell::new();
    move |files| {
        let mut flaws = Vec::new();
        let roots = match files.trusted {
            Trusted::System => system.get_or_init(|| Roots::system().map(drop)).clone().map_err(|error| flaw(&error)),
            Trusted::File(ca) => contents(ca, PemKey::Ca)
                .and_then(|bytes| Roots::from_pem(ca.called, &bytes).map(drop).map_err(|error| flaw(&error))),
            Trusted::Nobody | Trusted::Unreadable => Ok(()),
        };
        flaws.extend(roots.err().map(|flaw| Flaw { key: PemKey::Ca, ..flaw }));
        // The loader reports which of the two is missing.
        let (Some(chain), Some(private_key)) = (files.chain, files.private_key) else { return flaws };
        match (contents(chain, PemKey::Chain), contents(private_key, PemKey::PrivateKey)) {
            (Ok(certificates), Ok(secret)) => {
                let errors = Identity::errors_in_pem(chain.called, &certificates, private_key.called, &secret);
                let before = flaws.len();
                flaws.extend(errors.map(|error| flaw(&error)));
                // Of a server's own certificate; a backend judges the client's itself.
                if matches!(files.trusted, Trusted::Nobody) && flaws.len() == before {
                    let identity = Identity::from_pem(chain.called, &certificates, private_key.called, &secret);
                    match identity.and_then(|identity| identity.is_valid_now(chain.called).map(|()| identity)) {
                        Ok(identity) => {
                            flaws.extend(files.staple.and_then(|file| look_at_staple(identity, file).err()))
                        }
                        Err(error) => flaws.push(flaw(&error)),
                    }
                }
            }
            (certificates, secret) => flaws.extend(certificates.err().into_iter().chain(secret.err())),
        }
        flaws
    }
}

fn look_at_staple(identity: Identity, file: PemFile<'_>) -> Result<(), Flaw> {
    let bytes = contents(file, PemKey::Staple)?;
    identity.with_staple(file.called, &bytes).map(drop).map_err(|error| flaw(&error))
}

/// The contents of a file that was readable a moment ago.
fn contents(file: PemFile<'_>, key: PemKey) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    fs::read(file.path).map(Zeroizing::new).map_err(|error| Flaw {
        key,
        what: format!("{}: cannot be read: {error}", file.called),
        remedy: "check the path, and that the user Ringway runs as may read it",
    })
}

fn flaw(error: &TlsError) -> Flaw {
    let (key, remedy) = match error {
        TlsError::NoCertificate { .. } => {
            (PemKey::Chain, "name the PEM file that holds them, each from BEGIN CERTIFICATE to END CERTIFICATE")
        }
        TlsError::BadPem { .. } | TlsError::BadCertificate { .. } => {
            (PemKey::Chain, "write the file anew from where it came, whole and as PEM")
        }
        TlsError::BadPrivateKey { .. } => (
            PemKey::PrivateKey,
            "name the PEM file of the private key, not encrypted (`openssl pkey` takes off a password)",
        ),
        TlsError::KeyMismatch { .. } => {
            (PemKey::PrivateKey, "name the key of the gateway's own certificate, and put that first in tls_cert")
        }
        TlsError::BadStaple { .. } => {
            (PemKey::Staple, "fetch a new one with `openssl ocsp -respout`, or take tls_ocsp out")
        }
        TlsError::Expired { .. } => (PemKey::Chain, "renew the certificate, or set this host's clock"),
        TlsError::NotYetValid { .. } => (PemKey::Chain, "wait until it is valid, or set this host's clock"),
        TlsError::NoSystemRoots { .. } => (PemKey::Ca, "install the system's certificates, or name a file in tls_ca"),
        TlsError::BadName { .. } | TlsError::Library { .. } => (PemKey::Ca, "report this as a bug"),
    };
    Flaw { key, what: error.to_string(), remedy }
}

/// The settings of each backend; `None` for those in plain text. Errors: the backend, its file, and the fault, which
/// can only occur if a file has changed since it was validated.
pub fn settings(snapshot: &Snapshot) -> Result<Vec<Option<TlsSettings>>, String> {
    let mut system = None;
    let settings = snapshot.backends.iter().map(|backend| {
        let Some(tls) = &backend.tls else { return Ok(None) };
        of(tls, offer(backend.protocol), &mut system)
            .map(Some)
            .map_err(|what| format!("backend {}: {what}", backend.name))
    });
    settings.collect()
}

/// The settings of each of `server.listeners`; `None` for those in plain text. Errors as for `settings`.
pub fn listeners(snapshot: &Snapshot) -> Result<Vec<Option<AcceptSettings>>, String> {
    // Of no session: for a trial.
    let tickets = TicketChain::new(ticket_seed()?);
    let settings = snapshot.server.listeners.iter().map(|listener| {
        let Some(tls) = &listener.tls else { return Ok(None) };
        let accept =
            accept(tls, listener, &tickets).map_err(|what| format!("listener {}: {what}", listener.address))?;
        Ok(Some(accept))
    });
    settings.collect()
}

/// The secret of the session tickets of this process. Errors: the system has no random numbers.
pub fn ticket_seed() -> Result<TicketSeed, String> {
    TicketSeed::random().map_err(|error| format!("no random numbers for session tickets: {error}"))
}

fn accept(
    tls: &ListenerTls,
    listener: &ListenerSettings,
    tickets: &Arc<TicketChain>,
) -> Result<AcceptSettings, String> {
    let identities = tls.certificates.iter().map(|(files, staple)| {
        let identity = identity(files)?;
        match staple {
            None => Ok(identity),
            Some(path) => identity.with_staple(&shown(path), &read(path)?).map_err(|error| error.to_string()),
        }
    });
    let identities = identities.collect::<Result<_, String>>()?;
    let (client_roots, scope) = match &tls.client_ca {
        None => (None, [0; 32]),
        Some(path) => {
            let bytes = read(path)?;
            let roots = Roots::from_pem(&shown(path), &bytes).map_err(|error| error.to_string())?;
            (Some(roots), Sha256::digest(&bytes[..]).into())
        }
    };
    let (offer, timeout_ms) = (offer(listener.protocol), listener.timeout_handshake_ms);
    let settings = AcceptSettings { identities, client_roots, offer, scope, timeout_ms };
    // Catches every error that a core would run into.
    TlsAcceptor::new(&settings, tickets).map_err(|error| error.to_string())?;
    Ok(settings)
}

fn identity(files: &CertificateFiles) -> Result<Identity, String> {
    let CertificateFiles { chain, private_key } = files;
    let identity = Identity::from_pem(&shown(chain), &read(chain)?, &shown(private_key), &read(private_key)?);
    identity.map_err(|error| error.to_string())
}

fn offer(protocol: Protocol) -> Offer {
    match protocol {
        Protocol::Auto => Offer::Either,
        Protocol::Http1 => Offer::Http1,
        Protocol::Http2 => Offer::Http2,
    }
}

fn of(tls: &Tls, offer: Offer, system: &mut Option<Roots>) -> Result<TlsSettings, String> {
    let roots = match (&tls.ca, system.clone()) {
        (Some(path), _) => Roots::from_pem(&shown(path), &read(path)?).map_err(|error| error.to_string())?,
        (None, Some(roots)) => roots,
        (None, None) => system.insert(Roots::system().map_err(|error| error.to_string())?).clone(),
    };
    let client = match &tls.client {
        None => None,
        Some(client) => Some(identity(client)?),
    };
    let settings = TlsSettings { server_name: tls.server_name.clone(), roots, client, offer };
    // Catches every error that a core would run into.
    TlsContext::new(&settings).map_err(|error| error.to_string())?;
    Ok(settings)
}

/// The settings of something that is no backend. Errors as for `settings`.
pub fn lone(tls: &Tls, offer: Offer) -> Result<TlsSettings, String> {
    of(tls, offer, &mut None)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    fs::read(path).map(Zeroizing::new).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
