//! What all requests to one backend say, written once.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};

use crate::config::snapshot::Backend;
use crate::wire::http1::encode;

/// Fields that all requests to one backend have, as HTTP/1.1 writes them.
pub struct StaticHeaders(pub(super) SecretSlice<u8>);

impl StaticHeaders {
    pub fn of(backend: &Backend) -> StaticHeaders {
        let mut bytes = Vec::new();
        encode::field(&mut bytes, "host", backend.authority.as_bytes());
        each_static_header(backend, |name, value| encode::field(&mut bytes, name, value));
        StaticHeaders(bytes.into())
    }
}

/// Hands each field to `put` that all requests to `backend` have, but for the one by which HTTP/2 frames a message.
pub fn each_static_header(backend: &Backend, mut put: impl FnMut(&str, &[u8])) {
    // What is compressed cannot be looked into as it comes.
    put("accept-encoding", b"identity");
    if !backend.extra.headers.iter().any(|(name, _)| name == "user-agent") {
        put("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION")).as_bytes());
    }
    for (name, value) in &backend.extra.headers {
        put(name, value.expose_secret().as_bytes());
    }
    let Some(secret) = &backend.api_key else { return };
    let secret = secret.expose_secret().as_bytes();
    let field = backend.credential_field;
    put(field.name(), &Zeroizing::new([field.prefix().as_bytes(), secret].concat()));
}
