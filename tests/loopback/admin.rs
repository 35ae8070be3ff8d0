//! The admin listener of a running gateway: sums that are exact, labels that clients cannot multiply, and the drain.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::kit::*;

pub fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    client.response()
}

/// Each sample of a scrape with its value.
fn samples(address: SocketAddr) -> BTreeMap<String, f64> {
    let response = get(address, "/metrics").expect(200);
    let lines = response.text().lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    lines.map(sample).collect()
}

#[test]
fn every_request_of_every_core_is_counted_once() {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("broken") => answer(500, r#"{"error":{"message":"no","type":"server_error"}}"#),
        text if text.contains("\"stream\":true") => stream(&["a", "b"]),
        _ => json(&completion("yes")),
    });
    let setup = Setup::bare()
        .backend("b", &backend, "eject_errors = 1000\neject_error_percent = 0")
        .model("m", "backends = [\"b\"]\nretries = 0")
        .tenant("t", "key-t", "")
        .tenant("u", "key-u", "")
        .cores(2)
        .admin("listen = \"127.0.0.1:0\"");
    let gateway = setup.start();
    let admin = gateway.admin.unwrap();
    let ask = |client: &mut Client, key: &str, body: &str, status: u16| {
        client.send(post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), body));
        assert_eq!(client.response().status, status, "{body}");
    };
    // Connections are spread over cores by the kernel; whichever it is, the sums are the same.
    for round in 0..16 {
        let mut client = gateway.client();
        for _ in 0..2 {
            ask(&mut client, "key-t", &question(&format!("round {round}")), 200);
        }
        ask(&mut client, "key-u", &streamed_question(&format!("round {round}")), 200);
        ask(&mut client, "key-u", &question(&format!("broken {round}")), 500);
        ask(&mut client, "key-x", &question("unknown"), 401);
    }
    let now = samples(admin);
    let requests = |model: &str, tenant: &str, status: &str| {
        let labels = format!(r#"endpoint="chat_completions",model="{model}",tenant="{tenant}",status="{status}""#);
        now.get(&format!("ringway_requests_total{{{labels}}}")).copied().unwrap_or(0.0)
    };
    assert_eq!(requests("m", "t", "200"), 32.0, "{now:#?}");
    assert_eq!(requests("m", "u", "200"), 16.0);
    assert_eq!(requests("m", "u", "500"), 16.0);
    assert_eq!(requests("other", "none", "401"), 16.0);
    let all: f64 = now.iter().filter(|(name, _)| name.starts_with("ringway_requests_total")).map(|(_, n)| n).sum();
    assert_eq!(all, 80.0, "{now:#?}");
    assert_eq!(now[r#"ringway_request_duration_seconds_count{endpoint="chat_completions"}"#], 80.0);
    assert_eq!(now[r#"ringway_cache_requests_total{result="hit"}"#], 16.0);
    assert_eq!(now[r#"ringway_overhead_seconds_count{result="hit"}"#], 16.0);
    assert_eq!(now[r#"ringway_overhead_seconds_count{result="miss"}"#], 32.0);
    assert_eq!(now[r#"ringway_time_to_first_token_seconds_count{model="m"}"#], 16.0);
    assert_eq!(now[r#"ringway_backend_attempts_total{backend="b"}"#], 48.0);
    assert_eq!(now[r#"ringway_backend_requests_total{backend="b",result="success"}"#], 32.0);
    assert_eq!(now[r#"ringway_backend_requests_total{backend="b",result="server_error"}"#], 16.0);
    // The whole answers' usage; the streams of this backend tell of none.
    assert_eq!(now[r#"ringway_tokens_total{model="m",tenant="t",kind="prompt"}"#], 48.0);
    assert_eq!(now[r#"ringway_tokens_total{model="m",tenant="t",kind="completion_saved"}"#], 32.0);
    let messages: f64 =
        now.iter().filter(|(name, _)| name.starts_with("ringway_core_messages_total")).map(|(_, n)| n).sum();
    assert!(messages > 0.0, "two cores share a cache");
    // Gauges follow within a tick.
    eventually("the cache's size", || samples(admin)["ringway_cache_entries"] > 0.0);
}

#[test]
fn what_clients_send_adds_no_series() {
    let backend = Backend::absent();
    let gateway = Setup::with(&backend).admin("listen = \"127.0.0.1:0\"").start();
    let admin = gateway.admin.unwrap();
    let mut client = gateway.client();
    let mut round = |from: u32| {
        for first in (from..from + 5_000).step_by(100) {
            let mut all = Vec::new();
            for place in first..first + 100 {
                all.extend(format!("GET /path-{place} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes());
                all.extend(post(CHAT, &format!(r#"{{"model":"model-{place}","messages":[]}}"#)));
            }
            client.send(all);
            for _ in 0..200 {
                client.response();
            }
        }
        samples(admin)
    };
    let before = round(0);
    let after = round(5_000);
    let names = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let requests: f64 =
        after.iter().filter(|(name, _)| name.starts_with("ringway_requests_total")).map(|(_, n)| n).sum();
    assert_eq!(requests, 20_000.0);
    assert!(!after.keys().any(|name| name.contains("model-") || name.contains("path-")), "{after:#?}");
}

#[test]
fn a_drain_that_is_asked_for_lets_requests_finish_and_ends_the_program() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::answering(move |_| {
        wait.lock().unwrap().recv_timeout(GUARD).unwrap();
        json(&completion("late"))
    });
    let gateway = Setup::with(&backend).admin("listen = \"127.0.0.1:0\"").start();
    let admin = gateway.admin.unwrap();
    eventually("readiness", || get(admin, "/readyz").status == 200);
    let mut running = gateway.client();
    running.send(chat("slow"));
    backend.await_requests(1);
    let mut client = Client::connect(admin);
    client.send(post("/v1/drain", ""));
    // Its own name is no address: the kit says `gateway`.
    assert_eq!(client.response().expect(403).code(), "foreign_host");
    let mut client = Client::connect(admin);
    client.send(format!("POST /v1/drain HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n"));
    client.response().expect(202);
    eventually("the drain", || get(admin, "/readyz").status == 503);
    assert_eq!(get(admin, "/livez").expect(200).text(), "ok\n");
    go.send(()).unwrap();
    running.response().expect(200);
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}

fn post_to(address: SocketAddr, path: &str, body: &str) -> Response {
    let mut client = Client::connect(address);
    let length = body.len();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"));
    client.response()
}

#[test]
fn the_log_is_opened_again_and_says_less_when_told() {
    let gateway = Setup::bare().log("access = \"$DIRECTORY/access.log\"").admin("listen = \"127.0.0.1:0\"").start();
    let (admin, path) = (gateway.admin.unwrap(), gateway.file("access.log"));
    std::fs::rename(&path, gateway.file("access.log.1")).unwrap();
    post_to(admin, "/v1/reopen", "").expect(202);
    eventually("the file is there again", || path.exists());
    let level = post_to(admin, "/v1/log-level", r#"{"level":"error"}"#).expect(200);
    assert_eq!(level.text(), "{\n  \"level\": \"error\"\n}\n");
    post_to(admin, "/v1/reopen", "").expect(202);
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(
        status.success() && said.contains("was opened again") && said.contains("log level error from now on"),
        "{said}"
    );
    assert!(!said.contains("SIGTERM: stopping"), "what is less grave is not said: {said}");
    let gateway = Setup::bare().admin("listen = \"127.0.0.1:0\"").start();
    assert_eq!(post_to(gateway.admin.unwrap(), "/v1/reopen", "").expect(409).code(), "no_log_file");
}

#[test]
fn a_node_under_load_is_profiled_without_harm() {
    let backend = Backend::answering(|request| match request.text() {
        text if text.contains("\"stream\":true") => stream(&["a", "b"]),
        _ => json(&completion("yes")),
    });
    let gateway = Setup::with(&backend).cores(2).admin("listen = \"127.0.0.1:0\"").start();
    let admin = gateway.admin.unwrap();
    let profiles: Vec<_> = ["folded", "svg", "pprof"]
        .into_iter()
        .map(|format| {
            let waiting = std::thread::spawn(move || get(admin, &format!("/debug/profile?seconds=1&format={format}")));
            let mut client = gateway.client();
            let mut round = 0;
            while !waiting.is_finished() {
                client.send(if round % 3 == 0 {
                    chat_stream(&format!("{round}"))
                } else {
                    chat(&format!("{}", round / 4))
                });
                client.response().expect(200);
                if round == 50 {
                    // The first one runs, or has just ended.
                    let second = get(admin, "/debug/profile?seconds=1&format=svg");
                    assert!([200, 409].contains(&second.status), "{}", second.status);
                }
                round += 1;
            }
            waiting.join().unwrap().expect(200)
        })
        .collect();
    let folded = profiles[0].text();
    let line = folded.lines().find(|line| line.starts_with("ringway-data-")).unwrap_or_else(|| panic!("{folded}"));
    assert!(line.split(';').count() > 3 && line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
    assert!(folded.contains("ringway::exchange::"), "functions have names: {folded}");
    assert!(profiles[1].text().starts_with("<svg ") && profiles[1].text().contains("ringway::exchange::"));
    assert_eq!(profiles[2].body[..2], [0x1f, 0x8b], "gzip (RFC 1952 2.3.1)");
    assert_eq!(get(admin, "/debug/profile?seconds=0").expect(400).code(), "bad_query");
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}

#[test]
fn an_operator_sees_where_the_memory_is() {
    let backend = Backend::answering(|_| json(&completion(&"x".repeat(20_000))));
    let gateway = Setup::with(&backend).cores(2).admin("listen = \"127.0.0.1:0\"").start();
    let admin = gateway.admin.unwrap();
    let told = || -> serde_json::Value { serde_json::from_str(get(admin, "/debug/heap").expect(200).text()).unwrap() };
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("no number: {value}"));
    let mut client = gateway.client();
    for question in 0..50 {
        client.send(chat(&format!("{question}")));
        client.response().expect(200);
    }
    eventually("the gauges", || number(&told()["ringway"]["cache_bytes"]) > 50 * 20_000);
    let heap = told();
    let (process, allocator, own) = (&heap["process"], &heap["allocator"], &heap["ringway"]);
    assert!(number(&process["resident_bytes"]) > number(&own["cache_bytes"]), "{heap:#}");
    assert!(number(&process["resident_peak_bytes"]) >= number(&process["resident_bytes"]), "{heap:#}");
    assert!(number(&process["page_faults"]) > 0, "{heap:#}");
    assert!(number(&allocator["committed_bytes"]) > number(&own["cache_bytes"]), "{heap:#}");
    assert!(number(&allocator["reserved_bytes"]) >= number(&allocator["committed_bytes"]), "{heap:#}");
    let cores = heap["cores"].as_array().unwrap();
    assert_eq!(cores.len(), 2);
    for part in ["cache_bytes", "request_bytes", "event_bytes", "buffer_bytes", "log_bytes", "accounted_bytes"] {
        assert_eq!(cores.iter().map(|core| number(&core[part])).sum::<u64>(), number(&own[part]), "{part}: {heap:#}");
    }
    // A core's row leads to its thread.
    let threads = heap["threads"].as_array().unwrap();
    for core in cores {
        let thread =
            threads.iter().find(|thread| thread["thread"] == core["thread"]).unwrap_or_else(|| panic!("{heap:#}"));
        assert!(thread["name"].as_str().unwrap().starts_with("ringway-data"), "{heap:#}");
        assert!(number(&thread["page_faults"]) > 0, "{heap:#}");
    }
    assert_eq!(get(admin, "/debug/heap?full").expect(400).code(), "bad_query");
    assert_eq!(post_to(admin, "/debug/heap", "").expect(405).code(), "method_not_allowed");
}

#[test]
fn a_default_port_that_is_taken_stops_nothing_and_a_chosen_one_does() {
    let mut held = None;
    eventually("the port that is listened on by default, or another's", || {
        held = TcpListener::bind("127.0.0.1:9901").ok();
        held.is_some()
    });
    let gateway = Setup::bare().admin("").start();
    assert_eq!(gateway.admin, None);
    assert!(gateway.said_at_start.contains("127.0.0.1:9901"), "{}", gateway.said_at_start);
    gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    let said = Setup::bare().admin("listen = \"127.0.0.1:9901\"").refused();
    assert!(said.contains("admin.listen") && said.contains("127.0.0.1:9901"), "{said}");
}

#[test]
fn a_unix_socket_serves_its_owner() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    let gateway = Setup::bare().admin("listen = \"unix:$DIRECTORY/admin.sock\"").start();
    let path = gateway.file("admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"state\": \"serving\""), "{answer}");
    gateway.terminate();
    let directory = gateway.keep_directory();
    gateway.ended();
    assert!(!directory.path().join("admin.sock").exists(), "the socket's file is taken away");
}

#[test]
fn the_data_listeners_answer_probes_unless_told_not_to() {
    let gateway = Setup::bare().start();
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose"] {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).expect(200);
    }
    let gateway = Setup::bare().server("health_paths = false").start();
    for path in ["/healthz", "/livez", "/readyz"] {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).expect(404);
    }
}
