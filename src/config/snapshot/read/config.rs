//! `[config]` of the file as a field of the snapshot. Owns nothing. `None` means that something was reported.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::problem::Report;
use crate::config::section::{FilePath, Placed, Section};
use crate::config::snapshot::{CertificateFiles, Config, Endpoint, Scheme, SourceWord, Store, StoreKind, Tls, Watch};

pub(in crate::config) fn config(section: &mut Section, report: &mut Report<'_>) -> Option<Config> {
    let watch = section.take("watch");
    let refresh_ms = section.take("refresh");
    let store = store(section, report);
    Some(Config {
        watch: if watch? { Watch::On } else { Watch::Off },
        refresh_ms: refresh_ms?,
        store: store?.map(Box::new),
    })
}

/// `Some(None)`: the configuration is in the file.
fn store(section: &mut Section, report: &mut Report<'_>) -> Option<Option<Store>> {
    let source_at = section.place("source");
    let credentials_at = ["user", "password", "token"].map(|key| (key, section.place(key)));
    let files_at = ["tls_cert", "tls_key"].map(|key| (key, section.place(key)));
    let word: Option<SourceWord> = section.take_choice("source");
    let endpoints = section.take_optional::<Vec<Placed<String>>>("endpoints");
    let key = section.take::<String>("key");
    let user = section.take_optional::<String>("user");
    let password = section.take_optional::<SecretString>("password");
    let token = section.take_optional::<SecretString>("token");
    let [ca, chain, private_key] =
        ["tls_ca", "tls_cert", "tls_key"].map(|key| section.take_optional::<Placed<FilePath>>(key));
    let timeout_ms = section.take("timeout");
    let kind = match word? {
        SourceWord::File => return Some(None),
        SourceWord::Etcd => StoreKind::Etcd,
        SourceWord::Consul => StoreKind::Consul,
        SourceWord::Redis => StoreKind::Redis,
    };
    let endpoints = endpoints?.unwrap_or_default();
    if endpoints.is_empty() {
        let remedy = "add endpoints, the addresses of its servers";
        report.add_absence(source_at, "config.endpoints", format!("is required with {}", kind.label()), remedy);
        return None;
    }
    let wanted = if kind == StoreKind::Redis { Scheme::Redis } else { Scheme::Http };
    let read: Option<Vec<Endpoint>> = endpoints.iter().map(|placed| of_kind(placed, kind, wanted, report)).collect();
    let (user, password, token) = (user?, password?, token?);
    let is_good = [
        (user.is_some(), kind != StoreKind::Consul),
        (password.is_some(), kind != StoreKind::Consul),
        (token.is_some(), kind == StoreKind::Consul),
    ];
    for ((key, at), (is_there, is_used)) in credentials_at.into_iter().zip(is_good) {
        if is_there && !is_used {
            let remedy = match kind {
                StoreKind::Consul => "write token, or take the key out",
                StoreKind::Etcd | StoreKind::Redis => "write user and password, or take the key out",
            };
            report.add(at, &format!("config.{key}"), format!("is not used with {}", kind.label()), remedy);
            return None;
        }
    }
    if password.is_none() && user.is_some() || user.is_none() && password.is_some() && kind == StoreKind::Etcd {
        let (key, at) = if user.is_some() { credentials_at[0] } else { credentials_at[1] };
        report.add(at, &format!("config.{key}"), "user and password belong together", "add the other one");
        return None;
    }
    let path = |file: Placed<FilePath>| PathBuf::from(file.value.path);
    let client = match (chain?, private_key?) {
        (None, None) => None,
        (Some(chain), Some(private_key)) => {
            Some(CertificateFiles { chain: path(chain), private_key: path(private_key) })
        }
        (one, _) => {
            let (key, at) = if one.is_some() { files_at[0] } else { files_at[1] };
            report.add(at, &format!("config.{key}"), "tls_cert and tls_key belong together", "add the other one");
            return None;
        }
    };
    Some(Some(Store {
        kind,
        endpoints: read?,
        key: key?,
        user,
        password,
        token,
        tls: Tls { server_name: String::new(), ca: ca?.map(path), client },
        timeout_ms: timeout_ms?,
    }))
}

fn of_kind(placed: &Placed<String>, kind: StoreKind, wanted: Scheme, report: &mut Report<'_>) -> Option<Endpoint> {
    let endpoint = Endpoint::of(&placed.value)?;
    if endpoint.scheme == wanted {
        return Some(endpoint);
    }
    let remedy = match wanted {
        Scheme::Redis => "write redis:// or rediss://",
        Scheme::Http => "write http:// or https://",
    };
    report.add(placed.at, "config.endpoints", format!("is not how {} is reached", kind.label()), remedy);
    None
}
