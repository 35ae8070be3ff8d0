//! Web pages of other origins (the Fetch standard, 3.2): what they may read and send, by the list in the configuration.

use crate::config::snapshot::Cors;
use crate::exchange::client::ClientConnection;
use crate::wire::http1::{Fields, Method, encode};

/// How long a browser may remember what it was allowed: the longest that any takes.
const REMEMBERED_S: u64 = 7_200;
/// What a page may read besides the fields that it always may.
const READABLE: &[u8] = b"x-request-id, x-ringway-backend, x-ringway-model, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, \
    x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, \
    x-ratelimit-reset-tokens, x-cache, cache-status, age, openai-processing-ms, location";

/// The place in the configuration of the origin that a request's page is of, if it may use this gateway.
pub fn page(cors: &Cors, fields: &Fields, head: &[u8]) -> Option<u16> {
    if cors.origins.is_empty() {
        return None;
    }
    let place = cors.place(fields.get(head, "origin")?)?;
    u16::try_from(place).ok()
}

/// What a browser is told that asks what it may send, before it sends it: whatever it asks for, as each request is checked by
/// itself. `None` if it does not ask.
pub fn preflight(client: &ClientConnection<'_>) -> Option<Vec<u8>> {
    let field = |name| client.head.fields.get(client.pending(), name);
    if client.head.method != Method::Options || field("access-control-request-method").is_none() {
        return None;
    }
    let mut fields = Vec::new();
    encode::field(&mut fields, "access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE");
    if let Some(names) = field("access-control-request-headers") {
        encode::field(&mut fields, "access-control-allow-headers", names);
    }
    encode::field_number(&mut fields, "access-control-max-age", REMEMBERED_S);
    Some(fields)
}

/// What each answer to a page says, errors included.
pub fn write(cors: &Cors, page: u16, out: &mut Vec<u8>) {
    let Some(origin) = cors.origins.get(usize::from(page)) else { return };
    encode::field(out, "access-control-allow-origin", origin.as_bytes());
    encode::field(out, "access-control-expose-headers", READABLE);
    out.extend_from_slice(b"vary: origin\r\n");
}
