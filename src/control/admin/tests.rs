//! The answers of the admin listener, and its resistance to misbehaving clients.

mod profiles; // who profiles, and for how long

use std::io::{Read, Write};
use std::path::Path;
use std::task::{Context, Poll, Waker};

use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use tokio::task::LocalSet;

use super::routes::ROUTES;
use super::*;
use crate::config::load::load;
use crate::limits::ADMIN_WATCHERS;
use crate::observe::counters::{BackendCounters, ModelCounters};
use crate::observe::scrape::{Item, ReloadResult};
use crate::observe::series::Names;

const SECRET: &str = "hunter2-hunter2";

/// The admin listener of a node with one core; `admin` are lines of its table.
fn admin(admin: &str) -> Rc<Admin> {
    let text = format!(
        "[admin]\n{admin}\n\n[log]\naccess = \"/var/log/ringway/access.log\"\n\n[[backend]]\nname = \"b\"\nurl = \"https://127.0.0.1:8000/base\"\napi_key = \"{SECRET}\"\n\n\
         [[model]]\nname = \"m\"\nbackends = [\"b\"]\n\n\
         [[tenant]]\nname = \"t\"\nkeys = [{{ hash = \"sha256:{}\", disabled = false }}, \"sha256:{}\"]\n",
        "ab".repeat(32),
        "cd".repeat(32)
    );
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let snapshot = load(&text, Path::new("test.toml"), &|_| None, &nothing).unwrap_or_else(|told| panic!("{told}"));
    let models = vec![Item { name: "m".into(), counters: [ModelCounters::new(2)].into() }];
    let backends = vec![Item { name: "b".into(), counters: [BackendCounters::default()].into() }];
    let labels = Labels::new(vec!["chat_completions", "other"], models, backends, &Names::default(), 0);
    Admin::new(Parts {
        source: Default::default(),
        in_force: InForce { generation: 1, snapshot: Arc::new(snapshot), labels: Arc::new(labels) },
        counters: vec![Arc::new(Counters::new(2))],
        plan: CorePlan { data: vec![None], steering: "hash".to_owned(), ..CorePlan::default() },
        listening: vec!["127.0.0.1:8080".to_owned()],
        purge: Box::new(|_| {
            PURGED.with(|purged| purged.set(purged.get() + 1));
            (String::new(), 0)
        }),
        usage: (None, Vec::new()),
        keeps: false,
        snapshots: Arc::default(),
        serving: Arc::new(AtomicBool::new(true)),
    })
}

/// Held by who profiles.
#[expect(clippy::disallowed_types, reason = "tests that run side by side, no core")]
static PROFILE: std::sync::Mutex<()> = std::sync::Mutex::new(());

thread_local! {
    /// How many purges there have been.
    static PURGED: Cell<u64> = const { Cell::new(0) };
}

fn purged() -> u64 {
    PURGED.with(Cell::get)
}

fn outcome(ended: ReloadResult, generation: u64) -> reload::Outcome {
    let [changes, needs_restart, errors] = [(); 3].map(|()| Vec::new());
    reload::Outcome { ended, generation, changes, needs_restart, errors }
}

type Answer = Response<super::routes::Answer>;

fn ask(admin: &Admin, method: Method, path: &str, fields: &[(hyper::header::HeaderName, &str)]) -> Answer {
    // Tests run at the same time, and the process has one profile at a time.
    let _alone = (path == "/debug/profile").then(|| PROFILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let path = if path == "/debug/profile" { "/debug/profile?seconds=1" } else { path };
    // Where a body is wanted, it is a right one.
    let body = if path == "/v1/log-level" { r#"{"level":"info"}"# } else { r#"{"all":true}"# };
    ask_with(admin, method, path, fields, body)
}

fn ask_with(
    admin: &Admin,
    method: Method,
    path: &str,
    fields: &[(hyper::header::HeaderName, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(name, *value);
    }
    let body = http_body_util::Full::new(bytes::Bytes::copy_from_slice(body.as_bytes()));
    let request = request.body(body).unwrap();
    futures_of(async {
        let mut answer = pin!(admin.answer(request));
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                asked = admin.reload_asked() => {
                    admin.reloaded(asked, outcome(ReloadResult::Unchanged, 1), None);
                }
            }
        }
    })
}

fn body(response: Answer) -> String {
    let collected = futures_of(http_body_util::BodyExt::collect(response.into_body()));
    String::from_utf8(collected.unwrap().to_bytes().to_vec()).unwrap()
}

fn futures_of<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn json(response: Answer) -> serde_json::Value {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    serde_json::from_str(&body(response)).unwrap()
}

#[test]
fn a_token_opens_everything_and_probes_need_none() {
    let admin = admin(&format!("token = \"{SECRET}\""));
    for route in ROUTES {
        let bare = ask(&admin, route.method.clone(), route.path, &[]).status();
        let is_probe =
            ["/", "/page.css", "/page.js", "/icon.svg", "/livez", "/readyz", "/healthz"].contains(&route.path);
        assert_eq!(bare == StatusCode::UNAUTHORIZED, !is_probe, "{}", route.path);
        for wrong in ["Bearer x", "Bearer", "Basic aHVudGVyMi1odW50ZXIy", SECRET] {
            let status = ask(&admin, route.method.clone(), route.path, &[(AUTHORIZATION, wrong)]).status();
            assert_eq!(status == StatusCode::UNAUTHORIZED, !is_probe, "{} with {wrong}", route.path);
        }
        let token = format!("bearer {SECRET}");
        // The Host field does not matter with a token.
        let fields = [(AUTHORIZATION, token.as_str()), (HOST, "ringway.internal:9901")];
        let status = ask(&admin, route.method.clone(), route.path, &fields).status();
        // It keeps none.
        let is_fine = status.is_success() || route.path == "/v1/snapshot" && status == StatusCode::CONFLICT;
        assert!(is_fine, "{}", route.path);
    }
}

#[test]
fn without_a_token_no_web_page_gets_in() {
    let admin = admin("");
    let status = |method: Method, path: &str, fields: &[_]| ask(&admin, method, path, fields).status();
    for host in ["127.0.0.1:9901", "[::1]:9901", "localhost:9901", "LOCALHOST", "10.0.0.1"] {
        assert_eq!(status(Method::GET, "/v1/status", &[(HOST, host)]), StatusCode::OK, "{host}");
    }
    for host in ["attacker.example:9901", "localhost.attacker.example", "", "127.0.0.1.attacker.example"] {
        assert_eq!(status(Method::GET, "/v1/config", &[(HOST, host)]), StatusCode::FORBIDDEN, "{host}");
    }
    let page = [(HOST, "127.0.0.1:9901"), (ORIGIN, "http://attacker.example")];
    assert_eq!(status(Method::POST, "/v1/drain", &page), StatusCode::FORBIDDEN);
    assert_eq!(status(Method::POST, "/v1/drain", &[(HOST, "127.0.0.1:9901"), (ORIGIN, "null")]), StatusCode::FORBIDDEN);
    let own = [(HOST, "127.0.0.1:9901"), (ORIGIN, "http://127.0.0.1:9901")];
    assert_eq!(status(Method::POST, "/v1/drain", &own), StatusCode::ACCEPTED);
}

#[test]
fn what_is_not_there_is_told_in_json() {
    let admin = admin("");
    let missing = ask(&admin, Method::GET, "/v1/statuses", &[]);
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(json(missing)["error"]["code"], "not_found");
    let wrong = ask(&admin, Method::GET, "/v1/drain", &[]);
    assert_eq!((wrong.status(), &wrong.headers()[ALLOW]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
    let wrong = ask(&admin, Method::DELETE, "/metrics", &[]);
    assert_eq!(wrong.headers()[ALLOW], "GET, HEAD");
    assert_eq!(ask(&admin, Method::HEAD, "/metrics", &[]).status(), StatusCode::OK);
}

#[test]
fn readiness_follows_the_node_and_liveness_does_not() {
    let admin = admin("");
    admin.parts.serving.store(false, Ordering::Relaxed);
    let mut states = Vec::new();
    let mut look = || {
        let (ready, live) = (ask(&admin, Method::GET, "/readyz", &[]), ask(&admin, Method::GET, "/livez", &[]));
        assert_eq!(live.status(), StatusCode::OK);
        let state = json(ask(&admin, Method::GET, "/v1/status", &[]))["state"].as_str().unwrap().to_owned();
        states.push((ready.status().as_u16(), state));
    };
    look();
    admin.parts.serving.store(true, Ordering::Relaxed);
    // The state of backends does not affect readiness.
    admin.parts.in_force.labels.backends[0].counters[0].state.set(2);
    look();
    admin.draining();
    look();
    let expected = [(503, "starting"), (200, "serving"), (503, "draining")];
    assert_eq!(states, expected.map(|(status, state)| (status, state.to_owned())));
}

#[test]
fn metrics_come_as_the_scraper_wants_them() {
    let admin = admin("");
    let of = |accept: &str| {
        let response = ask(&admin, Method::GET, "/metrics", &[(ACCEPT, accept)]);
        (response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned(), body(response))
    };
    for accept in ["*/*", "text/plain", "application/openmetrics-text;q=0", ""] {
        let (kind, text) = of(accept);
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{accept}: {kind}");
        assert!(text.contains("# TYPE ringway_retries_total counter\nringway_retries_total 0\n"), "{text}");
    }
    let (kind, text) = of("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    assert!(text.contains("# TYPE ringway_retries counter\nringway_retries_total 0\n") && text.ends_with("# EOF\n"));
}

#[test]
fn the_status_tells_of_a_backend_as_each_core_sees_it() {
    let admin = admin("");
    let backend = &admin.parts.in_force.labels.backends[0].counters[0];
    backend.state.set(2);
    backend.attempts.add(3);
    backend.result(crate::observe::counters::AttemptResult::Timeout).add(2);
    assert_eq!(admin.checked("b", Some("nobody listens there".to_owned())), Some("check_failed"));
    assert_eq!(admin.checked("b", Some("nobody listens there".to_owned())), None, "it is as before");
    admin.turned("b", shards::breaker::Reason::ErrorsInRow);
    let status = json(ask(&admin, Method::GET, "/v1/status", &[]));
    let told = &status["backends"][0];
    assert_eq!(
        (&told["state"], &told["reason"], told["changed_unix_ms"].as_u64().is_some()),
        (&"tripped".into(), &"errors_in_row".into(), true)
    );
    assert_eq!((&told["attempts"], &told["failed_attempts"]), (&3.into(), &2.into()));
    assert_eq!(told["check_fault"], "nobody listens there");
    assert_eq!(told["cores"]["tripped"], 1);
    admin.checked("b", None);
    assert_eq!(admin.checked("b", None), None, "it is as before");
    let text = body(ask(&admin, Method::GET, "/metrics", &[]));
    for (reason, count) in [("errors_in_row", 1), ("check_failed", 1), ("probe_failed", 0)] {
        let sample = format!(
            "\nringway_backend_transitions_total{{backend=\"b\",state=\"tripped\",reason=\"{reason}\"}} {count}\n"
        );
        assert!(text.contains(&sample), "{text}");
    }
    assert!(text.contains("{backend=\"b\",state=\"serving\",reason=\"check_passed\"} 1\n"), "{text}");
    assert!(json(ask(&admin, Method::GET, "/v1/status", &[]))["backends"][0]["check_fault"].is_null());
}

#[test]
fn browsers_get_a_page_that_loads_nothing_from_elsewhere() {
    let admin = admin("token = \"a-token-that-pages-do-not-have\"");
    let page = ask(&admin, Method::GET, "/", &[(ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")]);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let mut all = body(page);
    let links: Vec<String> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| all.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()))
        .collect();
    assert_eq!(links.len(), 3, "{links:?}");
    for link in links {
        let file = ask(&admin, Method::GET, &link, &[]);
        assert_eq!(file.status(), StatusCode::OK, "{link}");
        all += &body(file);
    }
    assert!(all.len() < 150_000, "{} bytes", all.len());
    // Names of XML's vocabularies are no addresses to load from.
    let elsewhere = all.replace("http://www.w3.org/", "");
    assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
    for inline in ["<style", "style=", "onclick", "<script>"] {
        assert!(!all.contains(inline), "{inline}");
    }
    assert!(
        ask(&admin, Method::GET, "/", &[(ACCEPT, "*/*")]).headers()[CONTENT_TYPE].to_str().unwrap().contains("plain")
    );
}

#[test]
fn the_level_of_messages_is_one_of_three_and_what_is_no_level_changes_nothing() {
    let admin = admin("");
    let level = || json(ask(&admin, Method::GET, "/v1/log-level", &[]))["level"].as_str().unwrap().to_owned();
    // The level is the process's, and other tests run beside this one: it ends where it began.
    assert_eq!(level(), "info");
    for body in ["", "warn", "{}", r#"{"level":"debug"}"#, r#"{"level":"warn","for":1}"#, &"x".repeat(8 << 10)] {
        let answer = ask_with(&admin, Method::POST, "/v1/log-level", &[], body);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body:.40}");
        let message = json(answer)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with("one of: error, warn, info."), "{message}");
    }
    assert_eq!(level(), "info");
    assert_eq!(ask(&admin, Method::DELETE, "/v1/log-level", &[]).headers()[ALLOW], "GET, HEAD, POST");
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let admin = admin("");
    let text = body(ask(&admin, Method::GET, "/v1/config", &[]));
    assert!(!text.contains(SECRET) && !text.contains(&"ab".repeat(5)) && !text.contains(&"cd".repeat(5)), "{text}");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["backend"][0]["api_key"], "(set)");
    assert_eq!(shown["backend"][0]["url"], "https://127.0.0.1:8000/base");
    assert_eq!(shown["backend"][0]["timeout_connect"], "5s");
    assert_eq!(shown["cache"]["memory"], "4GiB");
    assert_eq!(shown["tenant"][0]["keys"][0]["hash"], "sha256:abababab...");
    // One that is nothing but a hash is shown as it may be written.
    assert_eq!(shown["tenant"][0]["keys"][1], "sha256:cdcdcdcd...");
    assert_eq!(shown["model"][0]["backends"][0]["backend"], "b");
    assert_eq!(shown["admin"]["token"], serde_json::Value::Null);
    // All keys are included.
    for key in crate::config::keys::KEYS {
        // Of a list, the first one; one that is empty in this configuration shows nothing.
        let first = |value: &serde_json::Value| match value {
            serde_json::Value::Array(all) => all.first().cloned(),
            serde_json::Value::Null => None,
            one => Some(one.clone()),
        };
        let path: Vec<&str> = match key.table {
            crate::config::keys::Table::Target => vec!["model", "backends"],
            crate::config::keys::Table::Credential => vec!["tenant", "keys"],
            table => table.name().split('.').collect(),
        };
        let table = path.iter().try_fold(shown.clone(), |table, name| first(&table[*name]));
        let Some(table) = table.filter(|table| !table.is_null()) else { continue };
        // Of keys there may be many: what they do not have is left out.
        if key.table == crate::config::keys::Table::Credential && key.absent == crate::config::keys::Absent::Optional {
            continue;
        }
        assert!(table.get(key.name).is_some(), "{}.{}", key.table.name(), key.name);
    }
}

#[test]
fn the_description_has_every_route_and_fits_what_is_answered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin.openapi.json");
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let described: Vec<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let routes: Vec<(String, String)> =
        ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_string())).collect();
    assert_eq!(described, routes, "docs/admin.openapi.json against the routes");
    let table = include_str!("../../../docs/observability.md");
    let files = ["/page.css", "/page.js", "/icon.svg"];
    for route in ROUTES.iter().filter(|route| !files.contains(&route.path)) {
        let listed = |line: &str| {
            let place = line.strip_prefix("| `")?.split_once(" |")?.0;
            Some(place.split([' ', ',', '`']).any(|word| word == route.path) && place.contains(route.method.as_str()))
        };
        assert!(table.lines().filter_map(listed).any(|is_there| is_there), "{} {}", route.method, route.path);
    }
    let admin = admin("");
    admin.look(1);
    admin.look(2);
    for route in ROUTES {
        let response = ask(&admin, route.method.clone(), route.path, &[]);
        let method = route.method.as_str().to_lowercase();
        let answers = &document["paths"][route.path][method]["responses"];
        let content = &answers[response.status().as_str()]["content"];
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().split(';').next().unwrap().to_owned();
        assert!(content.get(&kind).is_some(), "{} answers {kind}", route.path);
        if kind == "text/event-stream" {
            let Poll::Ready(Some(Ok(event))) = first_frame(response) else { panic!("no event") };
            let event = String::from_utf8(event.into_data().unwrap().to_vec()).unwrap();
            let data = event.strip_prefix("retry: 1000\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            let schema = serde_json::json!({ "$ref": "#/components/schemas/Live" });
            fits(&document, &schema, &serde_json::from_str(data).unwrap(), route.path);
        } else if kind == "application/json" {
            let schema = &content[&kind]["schema"];
            fits(&document, schema, &json(response), route.path);
        }
    }
}

type Frame = Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Box<dyn std::error::Error + Send + Sync>>>>;

fn first_frame(response: Answer) -> Frame {
    let mut body = response.into_body();
    hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut Context::from_waker(Waker::noop()))
}

#[test]
fn watchers_are_few_and_a_slow_one_gets_the_newest() {
    let admin = admin("");
    let mut watchers: Vec<Answer> = (0..ADMIN_WATCHERS).map(|_| ask(&admin, Method::GET, "/v1/live", &[])).collect();
    assert!(watchers.iter().all(|watcher| watcher.status() == StatusCode::OK));
    let refused = ask(&admin, Method::GET, "/v1/live", &[]);
    assert_eq!(
        (refused.status(), json(refused)["error"]["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("too_many_watchers"))
    );
    drop(watchers.pop());
    let mut last = ask(&admin, Method::GET, "/v1/live", &[]);
    assert_eq!(last.status(), StatusCode::OK, "a place is free again");
    let mut next = || {
        let frame = futures_of(http_body_util::BodyExt::frame(last.body_mut()));
        let event = String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap();
        let data = event.split_once("data: ").unwrap().1;
        serde_json::from_str::<serde_json::Value>(data).unwrap()
    };
    assert_eq!(next()["points"].as_array().unwrap().len(), 0);
    for second in 0..5 {
        admin.look(second * 1000);
        admin.tell_watchers();
    }
    let update = next();
    assert_eq!(update["points"].as_array().unwrap().len(), 1);
    assert_eq!(update["points"][0]["unix_ms"], 4000, "nothing was queued for it");
    assert_eq!(update["status"]["state"], "serving");
}

/// Whether `value` conforms to `schema`: types, and exactly the listed properties.
fn fits(document: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}")),
        None => schema,
    };
    let types: Vec<&str> = match &schema["type"] {
        serde_json::Value::String(one) => vec![one],
        serde_json::Value::Array(all) => all.iter().filter_map(|one| one.as_str()).collect(),
        _ => panic!("{at}: no type in {schema}"),
    };
    let own = match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(number) if number.is_u64() => "integer",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    };
    assert!(types.contains(&own) || own == "integer" && types.contains(&"number"), "{at}: {own} is not {types:?}");
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        let (mut there, mut listed) = (fields.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
        there.sort();
        listed.sort();
        assert_eq!(there, listed, "{at}");
        for (name, field) in fields {
            fits(document, &known[name], field, &format!("{at}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item, at);
    }
}

/// Runs the listener on its own thread, as the background core does, and returns its address.
fn served() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move { admin("").serve(Listener::Tcp(listener)).await })
    });
    address
}

fn read_all(stream: &mut std::net::TcpStream) -> String {
    let mut text = Vec::new();
    // A reset counts as an end, too.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn bad_requests_are_answered_and_end_their_connection() {
    let address = served();
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    for (sent, status) in [("nonsense\r\n\r\n", "400"), ("GET / HTTP/9.9\r\n\r\n", "400"), (&long, "431")] {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // It may be rejected before everything was sent.
        let _ = stream.write_all(sent.as_bytes());
        let answer = read_all(&mut stream);
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{sent:.40}: {answer}");
    }
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert!(read_all(&mut stream).ends_with("ok\n"));
}

#[test]
fn clients_that_say_nothing_hold_a_bounded_number_of_connections() {
    let address = served();
    let idle: Vec<_> = (0..ADMIN_CONNECTIONS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut late = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(read_all(&mut late), "", "one too many is closed");
    drop(idle);
    let asked = || {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        Some(read_all(&mut stream)).filter(|answer| answer.ends_with("ready\n"))
    };
    // The listener notices the closed connections once its thread runs.
    assert!((0..1_000_000).any(|_| asked().is_some()));
}

#[test]
fn a_purge_names_one_scope_that_exists() {
    let admin = admin("");
    let digits = "0f".repeat(32);
    for (body, shown) in [
        (r#"{"all":true}"#.to_owned(), serde_json::json!({ "all": true })),
        (r#"{"model":"m"}"#.to_owned(), serde_json::json!({ "model": "m" })),
        (r#"{"tenant":"t"}"#.to_owned(), serde_json::json!({ "tenant": "t" })),
        (format!(r#"{{"fingerprint":"{digits}"}}"#), serde_json::json!({ "fingerprint": digits })),
        (format!(r#"{{"key":"{digits}"}}"#), serde_json::json!({ "fingerprint": digits })),
    ] {
        let before = purged();
        let answer = ask_with(&admin, Method::POST, "/v1/purge", &[], &body);
        assert_eq!(answer.status(), StatusCode::OK, "{body}");
        assert_eq!(json(answer)["purged"], shown);
        assert_eq!(purged(), before + 1);
    }
    let before = purged();
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(crate::limits::ADMIN_BODY_BYTES));
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"all":false}"#, 400),
        (r#"{"all":true,"model":"m"}"#, 400),
        (r#"{"modle":"m"}"#, 400),
        (r#"{"model":7}"#, 400),
        (r#"{"model":"other"}"#, 404),
        (r#"{"tenant":"other"}"#, 404),
        (r#"{"version":""}"#, 404),
        (r#"{"fingerprint":"0f"}"#, 400),
        (&format!(r#"{{"fingerprint":"{}"}}"#, "+f".repeat(32)), 400),
        (&long, 400),
    ] {
        let answer = ask_with(&admin, Method::POST, "/v1/purge", &[], body);
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert!(json(answer)["error"]["message"].as_str().unwrap().len() > 20);
    }
    assert_eq!(purged(), before, "what is refused purges nothing");
}

#[test]
fn whoever_asked_for_a_reload_hears_of_it_and_the_status_remembers_it() {
    use self::reload::{Outcome, Trigger};
    let admin = admin("");
    let status = || json(ask(&admin, Method::GET, "/v1/status", &[]))["last_reload"].clone();
    assert!(status().is_null());
    let reload = |outcome: Outcome| {
        futures_of(async {
            let request = Request::post("/v1/reload").body(String::new()).unwrap();
            // The first one answers both: they came before it began.
            let asked = async {
                admin.ask_reload(Trigger::File);
                tokio::task::yield_now().await;
                let asked = admin.reload_asked().await;
                assert_eq!(asked.trigger, Trigger::Admin);
                admin.reloaded(asked, outcome, None);
            };
            tokio::join!(admin.answer(request), asked).0
        })
    };
    let refused =
        reload(Outcome { errors: vec!["ringway.toml:1:1: no".to_owned()], ..outcome(ReloadResult::Refused, 1) });
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(json(refused)["errors"][0], "ringway.toml:1:1: no");
    assert_eq!((&status()["result"], &status()["trigger"]), (&"refused".into(), &"POST /v1/reload".into()));
    let metrics = || body(ask(&admin, Method::GET, "/metrics", &[]));
    assert!(metrics().contains("\nringway_config_last_reload_success 0\n"));
    let changes = vec!["backend \"b\" added".to_owned()];
    let in_force = reload(Outcome { changes, ..outcome(ReloadResult::InForce, 2) });
    assert_eq!(in_force.status(), StatusCode::OK);
    assert_eq!(json(in_force)["changes"][0], "backend \"b\" added");
    assert!(metrics().contains("\nringway_config_last_reload_success 1\n"));
    assert!(metrics().contains("\nringway_config_reloads_total{result=\"refused\"} 1\n"));
    admin.draining();
    let request = Request::post("/v1/reload").body(String::new()).unwrap();
    assert_eq!(futures_of(admin.answer(request)).status(), StatusCode::CONFLICT);
}
