//! etcd by its JSON gateway (etcd.io, "gRPC gateway"): keys and values in base64, 64-bit numbers as text. A watch begins where a read
//! ended, so nothing is missed; while it is silent, the revision is read, because a server that hangs is silent too.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::http::{Answer, Ask, ask};
use super::{Found, Link, News, SILENCE, Server};
use crate::config::snapshot::StoreKind;

/// The token of the last authentication, while it is good.
#[derive(Default)]
pub struct Tokens(RefCell<Option<String>>);

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct KeyValue {
    mod_revision: String,
    /// Left out when it is empty.
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Admitted {
    token: String,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    result: Option<Watched>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Watched {
    #[serde(default)]
    created: bool,
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default)]
    events: Vec<serde_json::Value>,
}

/// What the gateway says of an error.
#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    error: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Read,
    Left,
}

pub async fn fetch(link: &Link, server: &Server) -> Result<Option<Found>, String> {
    let mut range = range(link, server, Values::Read).await?;
    let Some(pair) = range.kvs.pop() else { return Ok(None) };
    let value = STANDARD.decode(&pair.value).map_err(|_| "its value is not base64".to_owned())?;
    Ok(Some(Found { value, revision: pair.mod_revision }))
}

pub async fn watch(link: &Link, server: &Server, tell: &dyn Fn(News)) -> String {
    watched(link, server, tell).await.map_or_else(|why| why, |never| match never {})
}

enum Never {}

async fn watched(link: &Link, server: &Server, tell: &dyn Fn(News)) -> Result<Never, String> {
    loop {
        let now = link.within(range(link, server, Values::Left)).await?;
        let mut known = revision(&now);
        let next = number(&now.header.revision)? + 1;
        let request =
            json!({ "create_request": { "key": STANDARD.encode(&link.settings.key), "start_revision": next } });
        let mut answer = link.within(post(link, server, "/v3/watch", request.to_string())).await?;
        // The first line says that it was created: from here on nothing is missed.
        let begun = link.within(async { next_line(&mut answer).await }).await?;
        if !begun.created {
            return Err("the watch does not begin".to_owned());
        }
        tell(News::Connected);
        loop {
            match timeout(SILENCE, next_line(&mut answer)).await {
                Ok(watched) => {
                    let watched = watched?;
                    if watched.canceled {
                        // Such as after a compaction: begins anew with what is there.
                        tracing::debug!("etcd ends the watch: {}", watched.cancel_reason);
                        break;
                    }
                    if !watched.events.is_empty() {
                        tell(News::Changed);
                    }
                }
                Err(_) => {
                    let now = revision(&link.within(range(link, server, Values::Left)).await?);
                    if now != known {
                        known = now;
                        tell(News::Changed);
                    }
                }
            }
        }
    }
}

fn revision(range: &Range) -> Option<String> {
    range.kvs.first().map(|pair| pair.mod_revision.clone())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it answers something else: a revision that is no number".to_owned())
}

async fn next_line(answer: &mut Answer) -> Result<Watched, String> {
    loop {
        let Some(line) = answer.line().await? else { return Err("it ended the watch".to_owned()) };
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line: Line = parsed(&line)?;
        match line {
            Line { error: Some(error), .. } => return Err(format!("it refuses: {error}")),
            Line { result: Some(watched), .. } => return Ok(watched),
            Line { .. } => {}
        }
    }
}

async fn range(link: &Link, server: &Server, values: Values) -> Result<Range, String> {
    let key = STANDARD.encode(&link.settings.key);
    let request = json!({ "key": key, "keys_only": values == Values::Left });
    let answer = post(link, server, "/v3/kv/range", request.to_string()).await?;
    parsed(&answer.whole().await?)
}

/// Posts with the token of this node's user, if it has one; with a new one, if the old one is no longer good.
async fn post(link: &Link, server: &Server, target: &str, body: String) -> Result<Answer, String> {
    let mut is_new = false;
    loop {
        let known = link.tokens.0.borrow().clone();
        let token = match (&link.settings.user, known) {
            (None, _) => None,
            (Some(_), Some(token)) => Some(token),
            (Some(user), None) => {
                is_new = true;
                let password = link.settings.password.as_ref().map_or("", |password| password.expose_secret());
                let body = json!({ "name": user, "password": password }).to_string();
                let target = "/v3/auth/authenticate";
                let request = Ask { method: Method::POST, target, credential: None, body };
                let answer = accepted(ask(server, StoreKind::Etcd, request).await?).await?;
                let Admitted { token } = parsed(&answer.whole().await?)?;
                link.tokens.0.replace(Some(token.clone()));
                Some(token)
            }
        };
        let credential = token.as_deref().map(|token| ("authorization", token));
        let request = Ask { method: Method::POST, target, credential, body: body.clone() };
        let answer = ask(server, StoreKind::Etcd, request).await?;
        let is_old = answer.status == StatusCode::UNAUTHORIZED && token.is_some();
        if answer.status != StatusCode::OK && token.is_some() {
            // 3.4 refuses a token that is no longer good as a bad request.
            link.tokens.0.take();
        }
        if !is_new && (is_old || answer.status == StatusCode::BAD_REQUEST) && token.is_some() {
            continue;
        }
        return accepted(answer).await;
    }
}

async fn accepted(answer: Answer) -> Result<Answer, String> {
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    let status = answer.status.as_u16();
    let body = answer.whole().await.unwrap_or_default();
    match serde_json::from_slice::<Refused>(&body) {
        Ok(refused) if !refused.error.is_empty() => Err(format!("it refuses ({status}): {}", short(&refused.error))),
        _ if status == 404 => Err("it answers 404: is it etcd, with enable-grpc-gateway?".to_owned()),
        _ => Err(format!("it answers {status}")),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it answers something else: {error}"))
}
