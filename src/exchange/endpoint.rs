//! What a request asks for, by its method and path alone: the endpoint, who answers, and where its model is named. Decided
//! once, before a credential is checked or a byte of the body is looked at. Owns nothing.

mod path;

use crate::dialect::facts::{Endpoint, model_in_path};
use crate::error::Failure;
use crate::wire::http1::{Method, RequestHead, Version};

/// Where a request goes. The methods of a path are no part of it: one that the path does not have is refused on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `Other` for all that is passed through.
    pub endpoint: Endpoint,
    pub answerer: Answerer,
    pub model: ModelPlace,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The gateway, without a credential: it lives.
    Health,
    /// The same: it takes requests, or drains.
    Readiness,
    /// The gateway, from its configuration.
    Models,
    /// A backend of the request's model.
    Backend,
    /// The same, by a WebSocket.
    WebSocket,
}

/// Where a request names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// Nowhere: no backend is asked.
    Nowhere,
    /// In its body, and it must.
    Body,
    /// In its body, or it is for `server.default_model`.
    BodyOrDefault,
    /// In its query, or as `BodyOrDefault`.
    QueryOrBody,
    /// It is for `server.default_model`, and about the model in its path.
    Path,
}

impl Route {
    const fn passed(model: ModelPlace) -> Route {
        Route { endpoint: Endpoint::Other, answerer: Answerer::Backend, model }
    }
}

/// The route of the request with this head, whose bytes are at the start of `bytes`; `passed` are paths outside of `/v1/` that
/// backends have. Errors: nothing is there, not with this method, or the path can be read in two ways.
pub fn route(passed: &[String], head: &RequestHead, bytes: &[u8]) -> Result<Route, Failure> {
    let path = head.path.of(bytes);
    let path = &path[..memchr::memchr(b'?', path).unwrap_or(path.len())];
    let endpoint = Endpoint::from_path(path);
    let route = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => match head.method {
            Method::Post => return Ok(Route { endpoint, answerer: Answerer::Backend, model: ModelPlace::Body }),
            // The list of stored answers.
            Method::Get | Method::Head if endpoint == Endpoint::ChatCompletions => {
                Route::passed(ModelPlace::BodyOrDefault)
            }
            _ if endpoint == Endpoint::ChatCompletions => {
                return Err(Failure::WrongMethod { allow: "GET, HEAD, POST" });
            }
            _ => return Err(Failure::WrongMethod { allow: "POST" }),
        },
        Endpoint::Messages | Endpoint::Responses if head.method == Method::Post => {
            return Ok(Route { endpoint, answerer: Answerer::Backend, model: ModelPlace::BodyOrDefault });
        }
        Endpoint::Models => models(head.method, path)?,
        Endpoint::Messages | Endpoint::Responses | Endpoint::Other => other(passed, head, bytes, path)?,
    };
    match route.answerer {
        Answerer::Health | Answerer::Readiness => Ok(route),
        _ if !asks_for_websocket(head, bytes) => Ok(route),
        _ if path == b"/v1/realtime" => Ok(Route { answerer: Answerer::WebSocket, ..route }),
        _ => Err(Failure::NoUpgrade),
    }
}

/// The list of models, or one of them.
fn models(method: Method, path: &[u8]) -> Result<Route, Failure> {
    path::check(path)?;
    let is_one = model_in_path(path).is_some();
    match method {
        _ if !is_one && path.ends_with(b"/") => Err(Failure::UnknownPath { near: Some("/v1/models") }),
        Method::Get | Method::Head => {
            Ok(Route { endpoint: Endpoint::Models, answerer: Answerer::Models, model: ModelPlace::Nowhere })
        }
        // A fine-tuned model is its provider's.
        Method::Delete if is_one => Ok(Route::passed(ModelPlace::Path)),
        _ if is_one => Err(Failure::WrongMethod { allow: "GET, HEAD, DELETE" }),
        _ => Err(Failure::WrongMethod { allow: "GET, HEAD" }),
    }
}

/// What is passed through as it is, and what is not there.
fn other(passed: &[String], head: &RequestHead, bytes: &[u8], path: &[u8]) -> Result<Route, Failure> {
    path::check(path)?;
    let probe = match path {
        b"/healthz" | b"/livez" => Some(Answerer::Health),
        b"/readyz" => Some(Answerer::Readiness),
        _ => None,
    };
    if let Some(answerer) = probe {
        return match head.method {
            Method::Get | Method::Head => Ok(Route { endpoint: Endpoint::Other, answerer, model: ModelPlace::Nowhere }),
            _ => Err(Failure::WrongMethod { allow: "GET, HEAD" }),
        };
    }
    if !passed.iter().any(|known| known.as_bytes() == path) {
        let near = path::near(path);
        if near.is_some() || !is_below_v1(path) {
            return Err(Failure::UnknownPath { near });
        }
    }
    // It would show what this gateway adds to a request, its credential included (RFC 9110 9.3.8).
    if head.method_span.of(bytes) == b"TRACE" {
        return Err(Failure::WrongMethod { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" });
    }
    let model = match path.strip_prefix(b"/v1/realtime") {
        Some([] | [b'/', ..]) => ModelPlace::QueryOrBody,
        _ => ModelPlace::BodyOrDefault,
    };
    Ok(Route::passed(model))
}

/// Whether there is something behind `/v1/`, and it is not that again.
fn is_below_v1(path: &[u8]) -> bool {
    path.strip_prefix(b"/v1/").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(b"v1/"))
}

/// RFC 6455 4.1. Clients that can do without fall back as soon as they are refused. Any other protocol to upgrade to is
/// ignored (RFC 9110 7.8), and so is the field in HTTP/1.0.
fn asks_for_websocket(head: &RequestHead, bytes: &[u8]) -> bool {
    head.method == Method::Get
        && head.version == Version::Http11
        && head.fields.has_token(bytes, "upgrade", "websocket")
}

#[cfg(test)]
mod tests;
