//! The routes of the admin listener, a row per path. docs/admin.openapi.json describes the same rows; a test compares
//! them.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Body;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::guard::{Access, Refusal};
use super::stream::Events;
use super::{Admin, logs, page};
use crate::net::now_ms;
use crate::observe::scrape::{ReloadResult, classic};

/// The body of an answer.
pub type Answer = Either<Full<Bytes>, Events>;

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a route returns or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Index,
    Page(page::File),
    Live,
    Ready,
    Metrics,
    Status,
    Watch,
    Scaling,
    Config,
    Usage,
    Limits,
    Purge,
    Snapshot,
    LogLevel,
    SetLogLevel,
    Reopen,
    Profile,
    Heap,
    Drain,
    Reload,
}

pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub what: What,
    access: Access,
    /// For the index.
    help: &'static str,
}

pub static ROUTES: &[Route] = &[
    route(Method::GET, "/", What::Index, Access::Everybody, "a page for browsers, else this list"),
    route(Method::GET, "/page.css", What::Page(page::File::Style), Access::Everybody, "the page's style"),
    route(Method::GET, "/page.js", What::Page(page::File::Script), Access::Everybody, "the page's program"),
    route(Method::GET, "/icon.svg", What::Page(page::File::Icon), Access::Everybody, "the page's icon"),
    route(Method::GET, "/livez", What::Live, Access::Everybody, "200 while the process lives, whatever backends do"),
    route(
        Method::GET,
        "/readyz",
        What::Ready,
        Access::Everybody,
        "200 while it takes requests; 503 before and in a drain",
    ),
    route(Method::GET, "/healthz", What::Live, Access::Everybody, "the same as /livez"),
    route(Method::GET, "/metrics", What::Metrics, Access::Operators, "metrics, as Prometheus or OpenMetrics text"),
    route(Method::GET, "/v1/status", What::Status, Access::Operators, "cores, backends, models and cache, as JSON"),
    route(Method::GET, "/v1/live", What::Watch, Access::Operators, "the same every second, as server-sent events"),
    route(Method::GET, "/v1/scaling", What::Scaling, Access::Operators, "whether more or fewer nodes are wanted"),
    route(Method::GET, "/v1/config", What::Config, Access::Operators, "the configuration in force, secrets masked"),
    route(
        Method::GET,
        "/v1/usage",
        What::Usage,
        Access::Operators,
        "what tenants used: ?from=2026-11-01&to=2026-11-30&tenant=...&by=tenant,model",
    ),
    route(
        Method::GET,
        "/v1/limits",
        What::Limits,
        Access::Operators,
        "what is used and left of limits: ?tenant=...&key=...&model=...&used=80 (percent)",
    ),
    route(Method::POST, "/v1/purge", What::Purge, Access::Operators, "drop stored answers; see docs/cache.md"),
    route(
        Method::POST,
        "/v1/snapshot",
        What::Snapshot,
        Access::Operators,
        "write the cache down for after a restart; see docs/cache.md",
    ),
    route(
        Method::POST,
        "/v1/reload",
        What::Reload,
        Access::Operators,
        "read the configuration again; what changed, or every error",
    ),
    route(Method::GET, "/v1/log-level", What::LogLevel, Access::Operators, "how grave messages have to be"),
    route(Method::POST, "/v1/log-level", What::SetLogLevel, Access::Operators, "changes that: {\"level\": \"warn\"}"),
    route(Method::POST, "/v1/reopen", What::Reopen, Access::Operators, "opens the access log again, as SIGUSR1 does"),
    route(
        Method::GET,
        "/debug/profile",
        What::Profile,
        Access::Operators,
        "CPU samples of all threads: ?seconds=10&format=pprof, svg or folded",
    ),
    route(
        Method::GET,
        "/debug/heap",
        What::Heap,
        Access::Operators,
        "where the memory is; with ?seconds=10&format=pprof, svg or folded&kind=inuse or alloc, which functions allocate",
    ),
    route(Method::POST, "/v1/drain", What::Drain, Access::Operators, "finish running requests and stop, as on SIGTERM"),
];

const fn route(method: Method, path: &'static str, what: What, access: Access, help: &'static str) -> Route {
    Route { method, path, what, access, help }
}

impl Admin {
    /// Answers one request. Reads a body only where there is a use for it.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        match self.find(&request) {
            Err(refused) => *refused,
            Ok(What::Purge) => self.purge(request.into_body()).await,
            Ok(What::Reload) => self.tell_reload().await,
            Ok(What::Usage) => self.usage(request.uri().query().unwrap_or("")).await,
            Ok(What::Limits) => self.limits(request.uri().query().unwrap_or("")).await,
            Ok(What::Snapshot) => self.snapshot().await,
            Ok(What::Profile) => self.profile(request.uri().query().unwrap_or("")).await,
            Ok(What::Heap) => self.heap(request.uri().query().unwrap_or("")).await,
            Ok(What::SetLogLevel) => self.set_level(request.into_body()).await,
            Ok(what) => self.tell(what, request.headers()),
        }
    }

    async fn tell_reload(&self) -> Response<Answer> {
        match self.reload().await {
            Some(outcome) => {
                let status = match outcome.ended {
                    ReloadResult::InForce | ReloadResult::Unchanged => StatusCode::OK,
                    ReloadResult::Refused => StatusCode::UNPROCESSABLE_ENTITY,
                    ReloadResult::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                };
                reply(status, JSON, pretty(&json!(outcome)))
            }
            None => refuse(StatusCode::CONFLICT, "draining", "The node drains; its configuration no longer changes."),
        }
    }

    /// What a request wants, if it may. Errors: how it is refused.
    fn find<B>(&self, request: &Request<B>) -> Result<What, Box<Response<Answer>>> {
        let path = request.uri().path();
        let of_path = || ROUTES.iter().filter(move |route| route.path == path);
        let is_wanted = |route: &&Route| {
            route.method == *request.method() || *request.method() == Method::HEAD && route.method == Method::GET
        };
        let Some(route) = of_path().find(is_wanted) else {
            return Err(Box::new(match of_path().next() {
                Some(route) => {
                    let both = of_path().nth(1).is_some();
                    let allow = match route.method == Method::GET {
                        true if both => "GET, HEAD, POST",
                        true => "GET, HEAD",
                        false => "POST",
                    };
                    let message = format!("{path} takes {allow}.");
                    let mut refused = refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
                    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                    refused
                }
                None => refuse(StatusCode::NOT_FOUND, "not_found", "There is no such path; / lists all of them."),
            }));
        };
        let changes = route.method != Method::GET;
        if let Err(refusal) = self.guard.borrow().check(route.access, changes, request.headers()) {
            return Err(Box::new(refused(refusal)));
        }
        Ok(route.what)
    }

    fn tell(&self, what: What, fields: &HeaderMap) -> Response<Answer> {
        match what {
            What::Index if accepts(fields, "text/html") => page::answer(page::File::Html),
            What::Page(file) => page::answer(file),
            What::Index => reply(StatusCode::OK, TEXT, index()),
            What::Live => reply(StatusCode::OK, TEXT, "ok\n"),
            What::Ready if self.is_ready() => reply(StatusCode::OK, TEXT, "ready\n"),
            What::Ready if self.draining.get() => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            What::Ready => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n"),
            What::Metrics if accepts(fields, "application/openmetrics-text") => {
                reply(StatusCode::OK, OPEN_METRICS, self.scrape().text())
            }
            What::Metrics => reply(StatusCode::OK, PROMETHEUS, classic(&self.scrape().text())),
            What::Status => {
                self.live.borrow_mut().attend();
                reply(StatusCode::OK, JSON, pretty(&json!(self.status())))
            }
            What::Watch => match self.watch() {
                Some(events) => streamed(events),
                None => refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too_many_watchers",
                    "Too many pages are open on this node; close one, or ask /v1/status.",
                ),
            },
            What::Scaling => {
                let told = self.scaling.borrow().told(now_ms());
                reply(StatusCode::OK, JSON, pretty(&json!(told)))
            }
            What::Config => reply(StatusCode::OK, JSON, pretty(&self.in_force.borrow().snapshot.shown)),
            What::LogLevel => reply(StatusCode::OK, JSON, pretty(&logs::level())),
            What::Reopen => self.reopen(),
            // They are waited for, above.
            What::Purge
            | What::Reload
            | What::SetLogLevel
            | What::Profile
            | What::Heap
            | What::Usage
            | What::Limits
            | What::Snapshot => refuse(StatusCode::BAD_REQUEST, "bad_request", ""),
            What::Drain => {
                self.drain_asked.notify_one();
                reply(StatusCode::ACCEPTED, JSON, pretty(&json!({ "state": "draining" })))
            }
        }
    }
}

fn index() -> String {
    ROUTES.iter().map(|route| format!("{:4} {:12} {}\n", route.method, route.path, route.help)).collect()
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn streamed(events: Events) -> Response<Answer> {
    let mut response = Response::new(Either::Right(events));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Answer> {
    reply(status, JSON, pretty(&json!({ "error": { "code": code, "message": message } })))
}

fn refused(refusal: Refusal) -> Response<Answer> {
    let (status, code, message) = match refusal {
        Refusal::NoToken => {
            (StatusCode::UNAUTHORIZED, "no_token", "Send the token of [admin] as \"Authorization: Bearer ...\".")
        }
        Refusal::WrongToken => (StatusCode::UNAUTHORIZED, "wrong_token", "This is not the token of [admin]."),
        Refusal::ForeignHost => (
            StatusCode::FORBIDDEN,
            "foreign_host",
            "Without a token, requests are answered for an IP address or localhost only: set admin.token.",
        ),
        Refusal::ForeignPage => (
            StatusCode::FORBIDDEN,
            "foreign_page",
            "Without a token, no other web page may change anything: set admin.token.",
        ),
    };
    let mut response = refuse(status, code, message);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whether `Accept` names this type and does not rule it out (RFC 9110 12.5.1).
fn accepts(fields: &HeaderMap, wanted: &str) -> bool {
    let lists = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f64>);
        is_it && weight.unwrap_or(1.0) > 0.0
    })
}
