//! Purges: by scope, on every core, and of what is still on its way.

use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::kit::*;

fn purge(gateway: &Gateway, body: &str) -> Response {
    let mut client = Client::connect(gateway.admin.unwrap());
    let length = body.len();
    client.send(format!("POST /v1/purge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"));
    client.response()
}

/// Two models, two tenants, two cores.
fn node(backend: &Backend) -> Setup {
    Setup::bare()
        .backend("b", backend, "")
        .model("m", "backends = [\"b\"]\nversion = \"one\"")
        .model("n", "backends = [\"b\"]\nversion = \"two\"")
        .tenant("t", "key-t", "")
        .tenant("u", "key-u", "")
        .cores(2)
        .cache("show_key = true")
        .admin("listen = \"127.0.0.1:0\"")
}

fn request(model: &str, key: &str, what: &str) -> Vec<u8> {
    let body = question(what).replace("\"m\"", &format!("\"{model}\""));
    post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), &body)
}

/// The key of an answer, as Cache-Status shows it.
fn key(response: &Response) -> String {
    let told = response.field("cache-status").unwrap();
    told.split_once("key=\"").unwrap_or_else(|| panic!("{told}")).1.trim_end_matches('"').to_owned()
}

#[test]
fn each_scope_takes_its_own_answers_on_every_core() {
    let backend = Backend::answering(echo);
    let gateway = node(&backend).start();
    // Connections on both cores; each request is asked on all of them.
    let mut clients: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
    let mut ask_all = |request: &[u8]| -> Vec<Response> {
        let ask = |client: &mut Client| {
            client.send(request);
            client.response().expect(200)
        };
        clients.iter_mut().map(ask).collect()
    };
    let kinds = [("m", "key-t"), ("m", "key-u"), ("n", "key-t"), ("n", "key-u")];
    let whats: Vec<String> = (0..6).map(|place| format!("question {place}")).collect();
    let mut fill = || -> Vec<Vec<String>> {
        let caches = |(model, tenant): &(&str, &str)| {
            let cache = |what: &String| {
                let responses = ask_all(&request(model, tenant, what));
                assert!(responses[1..].iter().all(|response| response.cache() == "HIT"), "{model} {tenant} {what}");
                responses[0].cache().to_owned()
            };
            whats.iter().map(cache).collect()
        };
        kinds.iter().map(caches).collect()
    };
    fill();
    for (scope, purged) in [
        (r#"{"model":"m"}"#, [true, true, false, false]),
        (r#"{"tenant":"u"}"#, [false, true, false, true]),
        (r#"{"version":"two"}"#, [false, false, true, true]),
        (r#"{"all":true}"#, [true; 4]),
    ] {
        assert!(fill().concat().iter().all(|cache| cache == "HIT"));
        purge(&gateway, scope).expect(200);
        for (caches, is_purged) in fill().iter().zip(purged) {
            let expected = if is_purged { "MISS" } else { "HIT" };
            assert!(caches.iter().all(|cache| cache == expected), "{scope}: {caches:?}");
        }
    }
    // One answer, in both forms.
    let one = gateway.ask(request("m", "key-t", "question 0")).expect(200);
    let streamed = post_with(CHAT, "Authorization: Bearer key-t\r\n", &streamed_question("question 0"));
    assert_eq!(key(&gateway.ask(&streamed).expect(200)), key(&one));
    purge(&gateway, &format!(r#"{{"fingerprint":"{}"}}"#, key(&one))).expect(200);
    assert_eq!(gateway.ask(&streamed).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(request("m", "key-t", "question 1")).expect(200).cache(), "HIT");
}

#[test]
fn what_began_before_a_purge_is_neither_stored_nor_joined_after_it() {
    for cores in [1, 2] {
        let (open, opened) = channel::<()>();
        let opened = Mutex::new(opened);
        let backend = Backend::answering(move |request| {
            if request.text().contains("slow") {
                opened.lock().unwrap().recv_timeout(GUARD).unwrap();
            }
            echo(request)
        });
        let gateway = Setup::with(&backend).cores(cores).admin("listen = \"127.0.0.1:0\"").start();
        for place in 0..4 {
            let asked = chat(&format!("slow {place}"));
            let mut before = gateway.client();
            before.send(&asked);
            backend.await_requests(2 * place + 1);
            purge(&gateway, r#"{"model":"m"}"#).expect(200);
            // A request that comes now makes a call of its own, whatever core it is on.
            let mut after = gateway.client();
            after.send(&asked);
            backend.await_requests(2 * place + 2);
            open.send(()).unwrap();
            open.send(()).unwrap();
            assert_eq!(before.response().expect(200).cache(), "MISS");
            assert_eq!(after.response().expect(200).cache(), "MISS");
            // That of the second call is kept.
            let hit = || gateway.ask(&asked).expect(200).cache() == "HIT";
            assert!((0..8).all(|_| hit()));
        }
    }
}

#[test]
fn an_expired_answer_that_was_purged_does_not_serve_in_need() {
    let sick = std::sync::Arc::default();
    let backend = Backend::sickly(&sick);
    let gateway = Setup::once(&backend).cache("ttl = \"1ms\"").admin("listen = \"127.0.0.1:0\"").start();
    gateway.ask(chat("need")).expect(200);
    sick.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("it expires", || {
        gateway.ask(chat("need")).field("cache-status").is_some_and(|s| s.contains("stale-if-error"))
    });
    purge(&gateway, r#"{"all":true}"#).expect(200);
    assert!(gateway.ask(chat("need")).status >= 500);
}

#[test]
fn memory_comes_back() {
    let backend = Backend::answering(|_| json(&completion(&"x".repeat(10_000))));
    let gateway = Setup::with(&backend).cores(2).admin("listen = \"127.0.0.1:0\"").start();
    for place in 0..600 {
        gateway.ask(chat(&format!("large {place}"))).expect(200);
    }
    let metric = |name: &str| -> u64 {
        let mut client = Client::connect(gateway.admin.unwrap());
        client.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let response = client.response().expect(200);
        let line = response.text().lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    // An answer that is on its way to its owner when it is purged is never stored, nor counted.
    eventually("all are stored", || metric("ringway_cache_entries") >= 600);
    purge(&gateway, r#"{"model":"m"}"#).expect(200);
    eventually("the entries are gone", || metric("ringway_cache_purged_entries_total") >= 600);
    eventually("their number is told", || metric("ringway_cache_entries") == 0);
}

#[test]
fn the_command_purges_a_running_node() {
    let backend = Backend::answering(echo);
    let gateway = node(&backend).admin("listen = \"127.0.0.1:0\"\ntoken = \"a-token\"").start();
    let admin = format!("http://{}", gateway.admin.unwrap());
    let run = |arguments: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        let output = command
            .arg("purge")
            .args(arguments)
            .args(["--admin", &admin])
            .env("RINGWAY_ADMIN_TOKEN", token)
            .output()
            .unwrap();
        let [out, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), out, told)
    };
    let asked = request("m", "key-t", "command");
    for arguments in [&["--all"][..], &["--model", "m"], &["--tenant", "t"], &["--version", "one"]] {
        gateway.ask(&asked).expect(200);
        assert_eq!(gateway.ask(&asked).expect(200).cache(), "HIT");
        let (status, out, told) = run(arguments, "a-token");
        assert_eq!((status, told.as_str()), (0, ""), "{arguments:?}");
        assert!(out.contains("\"purged\""), "{out}");
        assert_eq!(gateway.ask(&asked).expect(200).cache(), "MISS", "{arguments:?}");
    }
    let key = key(&gateway.ask(&asked).expect(200));
    assert_eq!(run(&["--fingerprint", &key], "a-token").0, 0);
    assert_eq!(gateway.ask(&asked).expect(200).cache(), "MISS");
    let (status, out, told) = run(&["--model", "none"], "a-token");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(told.contains("404") && told.contains("\"none\""), "{told}");
    let (status, _, told) = run(&["--all"], "wrong");
    assert_eq!(status, 1);
    assert!(told.contains("401") && told.contains("not the token"), "{told}");
    assert_eq!(run(&[], "a-token").0, 2, "what to purge is to be said");
    assert_eq!(run(&["--all", "--model", "m"], "a-token").0, 2);
}
