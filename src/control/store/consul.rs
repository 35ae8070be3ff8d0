//! Consul's key-value store, watched by blocking queries (developer.hashicorp.com/consul, "Blocking queries"): a query with the
//! last index returns when that has changed, or after `wait` and up to a sixteenth of it. An index that goes back, or is none,
//! begins from 0; a query may return without a change.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::http::{Answer, Ask, ask};
use super::{Found, Link, News, Server};
use crate::config::snapshot::StoreKind;

/// How long a blocking query waits; a server that hangs is noticed after it.
const WAIT_SECONDS: u64 = 10;
/// Between queries that return at once, so that a server that never blocks is not asked without end.
const PACE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    modify_index: u64,
    /// Null when it is empty.
    value: Option<String>,
}

pub async fn fetch(link: &Link, server: &Server) -> Result<Option<Found>, String> {
    let (_, pair) = query(link, server, 0).await?;
    let Some(pair) = pair else { return Ok(None) };
    let value = STANDARD.decode(pair.value.unwrap_or_default()).map_err(|_| "its value is not base64".to_owned())?;
    Ok(Some(Found { value, revision: pair.modify_index.to_string() }))
}

pub async fn watch(link: &Link, server: &Server, tell: &dyn Fn(News)) -> String {
    let (mut index, mut known) = match link.within(query(link, server, 0)).await {
        Ok((index, pair)) => (index, pair.map(|pair| pair.modify_index)),
        Err(why) => return why,
    };
    tell(News::Connected);
    // With what the query may take on top, and what an answer takes anyway.
    let longest =
        Duration::from_secs(WAIT_SECONDS + WAIT_SECONDS / 16 + 1) + Duration::from_millis(link.settings.timeout_ms);
    loop {
        sleep(PACE).await;
        let answer = match timeout(longest, query(link, server, index)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return why,
            Err(_) => return "it does not answer".to_owned(),
        };
        let now = answer.1.map(|pair| pair.modify_index);
        index = next_index(index, answer.0);
        if now != known {
            known = now;
            tell(News::Changed);
        }
    }
}

/// The index to ask with next. One that has gone back comes from another state of the store, such as a restored one.
fn next_index(before: u64, now: u64) -> u64 {
    if now < before { 0 } else { now }
}

/// The index of the answer, and the key if it is there. With an index of 0 it answers at once.
async fn query(link: &Link, server: &Server, index: u64) -> Result<(u64, Option<Pair>), String> {
    let wait = if index > 0 { format!("?index={index}&wait={WAIT_SECONDS}s") } else { String::new() };
    let target = format!("/v1/kv/{}{wait}", encoded(&link.settings.key));
    let credential = link.settings.token.as_ref().map(|token| ("x-consul-token", token.expose_secret()));
    let request = Ask { method: Method::GET, target: &target, credential, body: String::new() };
    let answer = ask(server, StoreKind::Consul, request).await?;
    // An index is at least 1 (Blocking queries, "Implementation details").
    let index = index_of(&answer).map(|index| index.max(1));
    match answer.status {
        StatusCode::NOT_FOUND => {
            // Anybody's 404 says the same, but only Consul's has an index.
            index.map(|index| (index, None)).ok_or("it answers 404 without an index: is it Consul?".to_owned())
        }
        StatusCode::OK => {
            let index = index.ok_or("it answers something else: there is no index")?;
            let body = answer.whole().await?;
            let mut pairs: Vec<Pair> =
                serde_json::from_slice(&body).map_err(|error| format!("it answers something else: {error}"))?;
            Ok((index, pairs.pop()))
        }
        StatusCode::FORBIDDEN => Err("it refuses (403): the token may not read the key".to_owned()),
        other => Err(format!("it answers {}", other.as_u16())),
    }
}

fn index_of(answer: &Answer) -> Option<u64> {
    answer.fields.get("x-consul-index")?.to_str().ok()?.parse().ok()
}

/// The key in a path, where slashes stay (RFC 3986 3.3).
fn encoded(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_back_begins_anew() {
        assert_eq!([next_index(0, 7), next_index(7, 7), next_index(7, 9), next_index(9, 3)], [7, 7, 9, 0]);
    }

    #[test]
    fn keys_keep_their_slashes() {
        assert_eq!(encoded("ringway/eu west?#"), "ringway/eu%20west%3F%23");
    }
}
