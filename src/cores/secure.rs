//! TLS settings of the backends, from the files that the configuration names. Reads them once, at start.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::config::snapshot::{Protocol, Snapshot, Tls};
use crate::net::tls::{Identity, Offer, Roots, TlsContext, TlsSettings};

/// The settings of each backend; none for those in plain text. Errors: the backend, its file, and what is wrong with it.
pub fn settings(snapshot: &Snapshot) -> Result<Arc<[Option<TlsSettings>]>, String> {
    let mut system = None;
    let settings = snapshot.backends.iter().map(|backend| {
        let Some(tls) = &backend.tls else { return Ok(None) };
        let offer = match backend.protocol {
            Protocol::Auto => Offer::Either,
            Protocol::Http1 => Offer::Http1,
            Protocol::Http2 => Offer::Http2,
        };
        of(tls, offer, &mut system).map(Some).map_err(|what| format!("backend {}: {what}", backend.name))
    });
    settings.collect::<Result<Vec<_>, _>>().map(Arc::from)
}

fn of(tls: &Tls, offer: Offer, system: &mut Option<Roots>) -> Result<TlsSettings, String> {
    let roots = match (&tls.ca, system.clone()) {
        (Some(path), _) => Roots::from_pem(&shown(path), &read(path)?).map_err(|error| error.to_string())?,
        (None, Some(roots)) => roots,
        (None, None) => system.insert(Roots::system().map_err(|error| error.to_string())?).clone(),
    };
    let client = match &tls.client {
        None => None,
        Some(client) => {
            let (chain, private_key) = (&client.chain, &client.private_key);
            let identity = Identity::from_pem(&shown(chain), &read(chain)?, &shown(private_key), &read(private_key)?);
            Some(identity.map_err(|error| error.to_string())?)
        }
    };
    let settings = TlsSettings { server_name: tls.server_name.clone(), roots, client, offer };
    // Whatever a core would stumble over is found here.
    TlsContext::new(&settings).map_err(|error| error.to_string())?;
    Ok(settings)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
