//! Every failure in one place: who is to blame, what the client sees, and its name in the log and the counters. The
//! matches have no wildcard, so a new failure must be handled everywhere. Constructing a `Failure` logs nothing. The
//! client never sees addresses, credentials or a backend's own error text.

use std::borrow::Cow;

/// Who has to change something to make the failure go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Client,
    Backend,
    Gateway,
}

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request head is malformed; status and sentence come from the codec.
    BadHead { status: u16, why: String },
    /// The framing of the body is malformed.
    BadFraming { why: String },
    /// The body is larger than `server.body_max`.
    BodyTooLarge,
    /// The bodies of the requests in progress use all of `server.request_memory`.
    MemoryFull,
    /// The content coding of the body is not supported.
    UnknownCoding,
    /// The body does not decode as its declared content coding.
    BadCoding { why: String },
    /// The head did not arrive within `server.timeout_head`.
    HeadTimeout,
    /// The body did not arrive within `server.timeout_body`.
    BodyTimeout,
    /// The body is not JSON, or not JSON that is safe to interpret (duplicate fields, nesting depth).
    BadJson { why: String },
    /// A field of the body is missing or of the wrong type.
    BadField { why: String, param: &'static str },
    /// The prompt template that the request names does not exist, or not with these variables.
    BadPrompt { why: String, param: &'static str },
    /// The model's backend speaks another API, in which this cannot be asked.
    Untranslatable { why: String, param: Option<&'static str>, status: u16 },
    /// No credential in the request.
    NoCredential,
    /// A credential that belongs to no tenant.
    UnknownCredential,
    /// No credential in the request, and a client certificate that belongs to no tenant.
    UnknownCertificate,
    /// A tenant's credential that has expired.
    ExpiredCredential,
    /// A tenant's credential that is disabled in the configuration.
    DisabledCredential,
    /// The tenant may not use this model, or no such model exists. Both get the same answer, so that model names do not
    /// leak.
    UnknownModel,
    /// No such path; `near` is a similar path of the API that was probably meant.
    UnknownPath { near: Option<&'static str> },
    /// `Upgrade: websocket` on a path without WebSocket support.
    NoUpgrade,
    /// The body is not a multipart form, or is a form that different servers may parse differently.
    BadForm { why: String },
    /// The path does not support the method.
    WrongMethod { allow: &'static str },
    /// A pass-through request that names no model, and no `server.default_model`.
    NoModel,
    /// `Cache-Control: only-if-cached`, and no stored answer exists. RFC 9111 5.2.1.7.
    NotCached,
    /// No backend of the model is in service.
    NoBackend,
    /// The model's queue is full.
    QueueFull,
    /// The request waited in the queue for longer than `model.timeout_queue`.
    QueueTimeout,
    /// The request would wait in the queue, or has waited, past the deadline that its client named.
    DeadlineUnreachable { retry_s: u16 },
    /// No answer began before the deadline that the client named.
    DeadlineExceeded,
    /// The backend refused the connection, or connecting timed out.
    BackendConnect,
    /// No secure connection to the backend: certificate, name or protocol mismatch.
    BackendHandshake,
    /// The backend closed the connection before it answered.
    BackendClosed,
    /// The backend answered with an error that the client cannot fix, or it rejected this gateway's credential.
    BackendRefused,
    /// The backend violated the syntax or framing of HTTP or of server-sent events.
    BackendGarbage,
    /// The answer did not start within `backend.timeout_request`, or it stalled.
    BackendTimeout,
    /// The backend ended its answer prematurely.
    BackendTruncated,
    /// A follower fell so far behind its flight that the bytes it needs have been dropped.
    Lagged,
    /// The flight this exchange followed ended without an answer.
    FlightLost,
    /// The node is shutting down and its deadline has passed.
    Draining,
    /// Neither side of a WebSocket sent anything for `backend.timeout_stream_idle`.
    WebSocketIdle,
    /// A limit of the tenant, of its key, or of the tenant at this model is used up.
    Limited(Limited),
    /// The client closed the connection.
    ClientGone,
    /// A bug: the exchange panicked or an invariant did not hold.
    Internal,
}

/// Which limit is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub count: LimitedCount,
    /// `tenant`, `key` or `model`.
    pub whose: &'static str,
    /// How much there is of it; of money, as text.
    pub most: Cow<'static, str>,
    /// When there will be some again; `None` if the request is larger than the whole limit.
    pub in_ms: Option<u64>,
    pub status: u16,
}

/// What a limit counts, and over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedCount {
    RequestsPerMinute,
    RequestsPerDay,
    TokensPerMinute,
    TokensPerDay,
    ConcurrentRequests,
    Budget,
}

impl Limited {
    /// OpenAI's `type`, a code, and what is counted.
    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.count {
            LimitedCount::RequestsPerMinute => ("requests", "requests_per_minute_exceeded", "requests per minute"),
            LimitedCount::RequestsPerDay => ("requests", "requests_per_day_exceeded", "requests per day"),
            LimitedCount::TokensPerMinute => ("tokens", "tokens_per_minute_exceeded", "tokens per minute"),
            LimitedCount::TokensPerDay => ("tokens", "tokens_per_day_exceeded", "tokens per day"),
            LimitedCount::ConcurrentRequests => ("requests", "concurrent_requests_exceeded", "requests at a time"),
            LimitedCount::Budget => ("insufficient_quota", "insufficient_quota", "money"),
        }
    }

    fn message(&self) -> String {
        let (_, _, what) = self.words();
        let (most, whose) = (&self.most, self.whose);
        let limit = match self.count {
            LimitedCount::Budget => format!("The budget of {most} for this {whose}"),
            _ => format!("The limit of {most} {what} for this {whose}"),
        };
        match self.in_ms {
            None => format!("{limit} is below what this one request may take; shorten it, or lower max_tokens."),
            Some(ms) => format!("{limit} is used up; try again in {} s.", ms.div_ceil(1000)),
        }
    }
}

/// The error as the client sees it, in the terms of OpenAI's error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// HTTP status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.code`: stable, for programs to match on.
    pub code: &'static str,
    /// One sentence that the reader can act on.
    pub message: Cow<'static, str>,
    /// `error.param`: the field at fault.
    pub param: Option<&'static str>,
}

impl Failure {
    pub fn blame(&self) -> Blame {
        use Failure::*;
        match self {
            BadHead { .. } | BadFraming { .. } | BodyTooLarge | HeadTimeout | BodyTimeout | BadJson { .. } => {
                Blame::Client
            }
            BadField { .. } | BadForm { .. } | NoCredential | UnknownCredential | UnknownModel => Blame::Client,
            BadPrompt { .. } => Blame::Client,
            ExpiredCredential | DisabledCredential | UnknownCertificate | Untranslatable { .. } => Blame::Client,
            UnknownPath { .. } | NoUpgrade | NoModel => Blame::Client,
            WrongMethod { .. } | NotCached | ClientGone | Lagged | Limited(_) => Blame::Client,
            NoBackend | BackendConnect | BackendHandshake | BackendClosed | BackendRefused => Blame::Backend,
            BackendGarbage | BackendTimeout | BackendTruncated | QueueFull | QueueTimeout => Blame::Backend,
            WebSocketIdle => Blame::Client,
            DeadlineUnreachable { .. } | DeadlineExceeded => Blame::Backend,
            UnknownCoding | BadCoding { .. } => Blame::Client,
            FlightLost | Draining | Internal | MemoryFull => Blame::Gateway,
        }
    }

    /// Whether an identical request of another client may succeed if it is tried again immediately.
    pub fn worth_another_try(&self) -> Again {
        use Failure::*;
        match self {
            // Other attempts, backends and fallbacks have been tried already.
            BackendConnect | BackendHandshake | BackendClosed | BackendRefused => Again::No,
            BackendGarbage | BackendTimeout | QueueFull | QueueTimeout => Again::No,
            // Another client may have more time.
            DeadlineUnreachable { .. } | DeadlineExceeded => Again::Yes,
            // Detected too late for another attempt.
            BackendTruncated => Again::Yes,
            FlightLost | ClientGone | Lagged | Internal => Again::Yes,
            BadHead { .. } | BadFraming { .. } | BodyTooLarge | HeadTimeout | BodyTimeout | BadJson { .. } => Again::No,
            BadField { .. } | BadForm { .. } | NoCredential | UnknownCredential | UnknownModel => Again::No,
            BadPrompt { .. } => Again::No,
            ExpiredCredential | DisabledCredential | UnknownCertificate | Untranslatable { .. } => Again::No,
            UnknownPath { .. } | NoUpgrade | NoModel | WebSocketIdle => Again::No,
            WrongMethod { .. } | NotCached | NoBackend | Draining | Limited(_) => Again::No,
            MemoryFull | UnknownCoding | BadCoding { .. } => Again::No,
        }
    }

    /// The label of counters and of the access log's `error` field.
    pub fn label(&self) -> &'static str {
        self.public().code
    }

    pub fn public(&self) -> Public {
        use Failure::*;
        fn invalid(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Public {
            Public { status, kind: "invalid_request_error", code, message: message.into(), param: None }
        }
        fn server(status: u16, code: &'static str, message: &'static str) -> Public {
            Public { status, kind: "server_error", code, message: message.into(), param: None }
        }
        let unknown_model =
            "The model does not exist or this key may not use it; GET /v1/models lists what it may use.";
        match self {
            BadHead { status, why } => invalid(*status, "bad_request_head", why.clone()),
            BadFraming { why } => invalid(400, "bad_request_framing", why.clone()),
            BodyTooLarge => invalid(413, "body_too_large", "The request body is larger than this gateway accepts."),
            MemoryFull => server(
                503,
                "memory_full",
                "Requests in progress use all the memory available for them; try again shortly.",
            ),
            UnknownCoding => invalid(
                415,
                "unsupported_content_encoding",
                "The request body is in an encoding that is not supported; see the Accept-Encoding header.",
            ),
            BadCoding { why } => invalid(400, "bad_content_encoding", why.clone()),
            HeadTimeout => invalid(408, "head_timeout", "The request head did not arrive in time."),
            BodyTimeout => invalid(408, "body_timeout", "The request body did not arrive in time."),
            BadJson { why, .. } => invalid(400, "bad_json", why.clone()),
            BadField { why, param } => Public { param: Some(param), ..invalid(400, "bad_field", why.clone()) },
            BadPrompt { why, param } => Public { param: Some(param), ..invalid(400, "bad_prompt", why.clone()) },
            Untranslatable { why, param, status } => {
                Public { param: *param, ..invalid(*status, "untranslatable", why.clone()) }
            }
            NoCredential => invalid(
                401,
                "missing_api_key",
                "Send your key as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`.",
            ),
            UnknownCredential => {
                invalid(401, "invalid_api_key", "The API key is not valid; check it or request a new one.")
            }
            UnknownCertificate => invalid(
                401,
                "unknown_certificate",
                "No name in your client certificate is known here; send a key, or ask for the name to be added.",
            ),
            ExpiredCredential => invalid(401, "expired_api_key", "This key has expired; ask for a new one."),
            DisabledCredential => invalid(401, "disabled_api_key", "This key is disabled; ask for a new one."),
            UnknownModel => Public { param: Some("model"), ..invalid(404, "model_not_found", unknown_model) },
            UnknownPath { near: Some(near) } => {
                invalid(404, "unknown_path", format!("This path does not exist; did you mean {near}?"))
            }
            UnknownPath { near: None } => {
                invalid(404, "unknown_path", "This path does not exist; the API is below /v1/.")
            }
            NoUpgrade => invalid(
                426,
                "upgrade_unavailable",
                "This path does not support WebSocket; send an ordinary HTTP request.",
            ),
            BadForm { why } => invalid(400, "bad_form", why.clone()),
            WrongMethod { .. } => {
                invalid(405, "method_not_allowed", "This path does not support this method; see the Allow header.")
            }
            NoModel => invalid(
                400,
                "model_required",
                "Name a model in the body: it decides which backend answers. This gateway has no default (server.default_model) for requests that name none, such as those for files and batches.",
            ),
            NotCached => invalid(504, "not_cached", "The request asked for a cached answer only, and there is none."),
            NoBackend => server(503, "no_backend", "No backend of this model is in service; try again shortly."),
            QueueFull => server(503, "queue_full", "Too many requests wait for this model; try again shortly."),
            QueueTimeout => {
                server(503, "queue_timeout", "The request waited too long in this model's queue; try again shortly.")
            }
            DeadlineUnreachable { .. } => server(
                503,
                "deadline_unreachable",
                "The request would have waited in this model's queue for longer than the time-out it names; try again later.",
            ),
            DeadlineExceeded => {
                server(504, "deadline_exceeded", "No answer began within the time-out that the request names.")
            }
            BackendHandshake => server(
                502,
                "backend_insecure",
                "No connection to the model's backend could be made with the configured TLS and HTTP version.",
            ),
            BackendRefused => server(
                502,
                "backend_refused",
                "The model's backend answered with an error, or with something that is no answer of its API.",
            ),
            BackendConnect => {
                server(502, "backend_unreachable", "The model's backend could not be reached; try again shortly.")
            }
            BackendClosed => {
                server(502, "backend_closed", "The model's backend closed the connection before it answered.")
            }
            BackendGarbage => server(502, "backend_invalid", "The model's backend sent an invalid answer."),
            BackendTimeout => server(504, "backend_timeout", "The model's backend did not answer in time."),
            BackendTruncated => {
                server(502, "backend_truncated", "The model's backend broke off in the middle of its answer.")
            }
            Lagged => {
                server(500, "client_too_slow", "The client read too slowly to follow a shared answer; try again.")
            }
            FlightLost => server(502, "flight_lost", "The shared upstream call ended without an answer; try again."),
            Draining => server(503, "draining", "This node is shutting down; try again, another will answer."),
            WebSocketIdle => invalid(408, "websocket_idle", "Nothing was said on the WebSocket for too long."),
            Limited(limited) => {
                let (kind, code, _) = limited.words();
                Public { status: limited.status, kind, code, message: limited.message().into(), param: None }
            }
            ClientGone => server(499, "client_gone", "The client closed the connection."),
            Internal => {
                server(500, "internal", "The gateway failed on this request; find it in the log by its request id.")
            }
        }
    }
}

/// See [`Failure::worth_another_try`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../docs/errors.md");
        let source = include_str!("error.rs");
        let from = source.find("pub fn public(&self)").unwrap();
        let texts = source[from..source.find("/// See [`Failure::worth").unwrap()].split('"').skip(1).step_by(2);
        let is_code =
            |text: &&str| text.len() > 5 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let codes: Vec<&str> = texts.filter(is_code).filter(|text| !text.ends_with("_error")).collect();
        assert!(codes.len() > 30, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!("`{code}`")), "{code}");
        }
    }
}
