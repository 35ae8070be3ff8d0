//! `POST /v1/purge`: what may not be served any more. It has happened on every core when the answer is sent; the cores give the
//! memory back in their own time.

use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::Admin;
use super::routes::{Answer, JSON, pretty, refuse, reply};
use crate::config::snapshot::{PurgeScope, Scope, Snapshot};
use crate::limits::ADMIN_BODY_BYTES;

const HELP: &str = "Send one of {\"all\": true}, {\"model\": \"...\"}, {\"version\": \"...\"}, {\"tenant\": \"...\"}, \
                    {\"fingerprint\": \"64 hexadecimal digits\"}.";

/// The body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    all: Option<bool>,
    model: Option<String>,
    version: Option<String>,
    tenant: Option<String>,
    #[serde(alias = "key")]
    fingerprint: Option<String>,
}

/// Why nothing is purged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("The body is not understood: {0}. {HELP}")]
    Unreadable(String),
    #[error("The body is larger than {ADMIN_BODY_BYTES} bytes, or did not come whole.")]
    NotWhole,
    #[error("{HELP}")]
    NotOne,
    #[error("A fingerprint is 64 hexadecimal digits, as `key` in Cache-Status.")]
    Fingerprint,
    #[error("No [[{table}]] is called \"{name}\".")]
    Unknown { table: &'static str, name: String },
    #[error("No [[model]] has the version \"{0}\".")]
    UnknownVersion(String),
    #[error("With cache.scope = \"shared\" answers belong to no tenant: purge a model, or all.")]
    NoTenants,
}

impl Refused {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Refused::Unknown { .. } | Refused::UnknownVersion(_) => (StatusCode::NOT_FOUND, "unknown_scope"),
            _ => (StatusCode::BAD_REQUEST, "bad_purge"),
        }
    }
}

/// What `body` asks to purge.
pub fn scope(snapshot: &Snapshot, body: &[u8]) -> Result<PurgeScope, Refused> {
    let ask: Ask = serde_json::from_slice(body).map_err(|error| Refused::Unreadable(error.to_string()))?;
    let Ask { all, model, version, tenant, fingerprint } = ask;
    let unknown = |table, name: &String| Refused::Unknown { table, name: name.clone() };
    match (all, model, version, tenant, fingerprint) {
        (Some(true), None, None, None, None) => Ok(PurgeScope::All),
        (None, Some(model), None, None, None) => match snapshot.models.iter().any(|known| known.name == model) {
            true => Ok(PurgeScope::Model(model)),
            false => Err(unknown("model", &model)),
        },
        (None, None, Some(version), None, None) => {
            let is_known = !version.is_empty() && snapshot.models.iter().any(|known| known.version == version);
            if is_known { Ok(PurgeScope::Version(version)) } else { Err(Refused::UnknownVersion(version)) }
        }
        (None, None, None, Some(_), None) if snapshot.cache.scope == Scope::Shared => Err(Refused::NoTenants),
        (None, None, None, Some(tenant), None) => match snapshot.tenants.iter().any(|known| known.name == tenant) {
            true => Ok(PurgeScope::Tenant(tenant)),
            false => Err(unknown("tenant", &tenant)),
        },
        (None, None, None, None, Some(digits)) => digest(&digits).map(PurgeScope::Key).ok_or(Refused::Fingerprint),
        _ => Err(Refused::NotOne),
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn shown(scope: &PurgeScope) -> Value {
    match scope {
        PurgeScope::All => json!({ "all": true }),
        PurgeScope::Model(name) => json!({ "model": name }),
        PurgeScope::Version(name) => json!({ "version": name }),
        PurgeScope::Tenant(name) => json!({ "tenant": name }),
        PurgeScope::Key(key) => {
            json!({ "fingerprint": HEXLOWER.encode(key) })
        }
    }
}

impl Admin {
    /// Purges what the body says.
    pub(super) async fn purge<B>(&self, body: B) -> Response<Answer>
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let whole = Limited::new(body, ADMIN_BODY_BYTES);
        // Errors of a body are the client's, whatever their type.
        let asked = match Box::pin(whole.collect()).await {
            Ok(collected) => scope(&self.in_force.borrow().snapshot, &collected.to_bytes()),
            Err(_) => Err(Refused::NotWhole),
        };
        match asked {
            Ok(scope) => {
                let (name, number) = (self.parts.purge)(&scope);
                // Before it is written down, for a process that ends before Redis knows.
                if let Some(nodes) = self.nodes.get() {
                    nodes.owe(name);
                }
                self.purged.notify_one();
                let shown = shown(&scope);
                info!("purged {shown}");
                let saved = self.purge_saved(number).await;
                if let Some(nodes) = self.nodes.get()
                    && let Err(why) = nodes.tell().await
                {
                    let message = format!(
                        "Purged on this node, but not in Redis: {why}. This is retried until it succeeds; until then this \
                         node does not read from Redis, and other nodes may serve what was purged."
                    );
                    return refuse(StatusCode::SERVICE_UNAVAILABLE, "redis_not_told", &message);
                }
                // By its number in Redis, too.
                self.purged.notify_one();
                if let Err(why) = saved {
                    let message =
                        format!("Purged, but a restart may bring it back from the snapshot: {why}. Purge again then.");
                    return refuse(StatusCode::SERVICE_UNAVAILABLE, "purge_not_saved", &message);
                }
                reply(StatusCode::OK, JSON, pretty(&json!({ "purged": shown })))
            }
            Err(refused) => {
                let (status, code) = refused.status();
                refuse(status, code, &refused.to_string())
            }
        }
    }
}
