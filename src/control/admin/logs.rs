//! `/v1/log-level`: how much the node says, until it is changed again. `POST /v1/reopen`: the access log is opened by its
//! name again, as on SIGUSR1.

use std::str::FromStr;

use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use strum::VariantNames;
use tracing::info;

use super::Admin;
use super::routes::{Answer, JSON, pretty, refuse, reply};
use crate::config::snapshot::{AccessLog, Level};
use crate::limits::ADMIN_BODY_BYTES;
use crate::observe::told;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    level: String,
}

/// Reads the level that a body asks for.
fn asked(body: &[u8]) -> Option<Level> {
    let Ask { level } = serde_json::from_slice(body).ok()?;
    Level::from_str(&level).ok()
}

pub(super) fn level() -> Value {
    json!({ "level": Level::VARIANTS.get(told::current() as usize) })
}

impl Admin {
    pub(super) async fn set_level<B>(&self, body: B) -> Response<Answer>
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let body = Box::pin(Limited::new(body, ADMIN_BODY_BYTES).collect()).await;
        let Some(asked) = body.ok().and_then(|body| asked(&body.to_bytes())) else {
            let message = format!("Send {{\"level\": \"...\"}} with one of: {}.", Level::VARIANTS.join(", "));
            return refuse(StatusCode::BAD_REQUEST, "bad_level", &message);
        };
        // Said where either level lets it be said.
        let say = || info!("log level {} from now on", Level::VARIANTS[asked as usize]);
        if asked != Level::Info {
            say();
        }
        told::set_level(asked);
        if asked == Level::Info {
            say();
        }
        reply(StatusCode::OK, JSON, pretty(&level()))
    }

    pub(super) fn reopen(&self) -> Response<Answer> {
        match self.in_force.borrow().snapshot.log.access {
            AccessLog::File(_) => {
                self.reopen_asked.notify_one();
                reply(StatusCode::ACCEPTED, JSON, pretty(&json!({ "reopening": true })))
            }
            AccessLog::Off | AccessLog::Stdout => {
                refuse(StatusCode::CONFLICT, "no_log_file", "log.access is no file: there is nothing to open again.")
            }
        }
    }

    /// Waits until a client wants the access log opened again.
    pub async fn reopen_asked(&self) {
        self.reopen_asked.notified().await;
    }
}
