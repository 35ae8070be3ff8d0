//! Another configuration while requests run: what changed takes effect on every core, what did not goes on as it is, and
//! nobody notices but by what was asked for.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

use rustix::process::Signal;
use sha2::Digest;

use super::kit::*;

/// Reloads come when a test asks for one.
const BY_HAND: &str = "[config]\nwatch = false\nrefresh = \"0s\"";

fn request(address: SocketAddr, head: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("{head} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"));
    client.response()
}

fn reload(gateway: &Gateway, status: u16) -> serde_json::Value {
    let response = request(gateway.admin.unwrap(), "POST /v1/reload").expect(status);
    serde_json::from_str(response.text()).unwrap()
}

fn status(gateway: &Gateway) -> serde_json::Value {
    serde_json::from_str(request(gateway.admin.unwrap(), "GET /v1/status").expect(200).text()).unwrap()
}

fn metric(gateway: &Gateway, sample: &str) -> f64 {
    let text = request(gateway.admin.unwrap(), "GET /metrics").expect(200);
    let value = text.text().lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample}")).parse().unwrap()
}

fn keyed(model: &str, key: &str, what: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{what}"}}]}}"#);
    post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), &body)
}

fn base(backend: &Backend) -> Setup {
    Setup::bare().admin("listen = \"127.0.0.1:0\"").table(BY_HAND).cores(2).backend("b", backend, "")
}

#[test]
fn what_changed_takes_effect_and_what_did_not_goes_on() {
    let (one, two) =
        (Backend::answering(|_| json(&completion("one"))), Backend::answering(|_| json(&completion("two"))));
    let gateway = base(&one).model("m", "backends = [\"b\"]").tenant("t", "key-t", "").start();
    let mut client = gateway.client();
    let mut ask = |model: &str, key: &str, what: &str| {
        client.send(keyed(model, key, what));
        client.response()
    };
    ask("m", "key-t", "first").expect(200);
    ask("m", "key-t", "second").expect(200);
    ask("n", "key-t", "third").expect(404);
    let attempts = r#"ringway_backend_attempts_total{backend="b"}"#;
    assert_eq!((metric(&gateway, attempts), one.connections()), (2.0, 1));

    // A model, a backend and a tenant come; the first backend only gets another time-out.
    let more =
        |setup: Setup| setup.model("m", "backends = [\"b\"]").backend("c", &two, "").model("n", "backends = [\"c\"]");
    let patient = base(&one).table("").tenant("u", "key-u", "");
    gateway.rewrite(more(patient).tenant("t", "key-t", ""));
    let answer = reload(&gateway, 200);
    assert_eq!((&answer["result"], &answer["generation"]), (&"in_force".into(), &2.into()), "{answer}");
    let changes: Vec<&str> = answer["changes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(changes, ["backend \"c\" added", "model \"n\" added", "tenant \"u\" added"]);
    ask("n", "key-u", "fourth").expect(200);
    ask("m", "key-t", "fifth").expect(200);
    assert_eq!(two.count(), 1);
    assert_eq!(one.connections(), 1, "what is unchanged keeps its connections");
    assert_eq!(metric(&gateway, attempts), 3.0, "and its counters");
    assert_eq!(metric(&gateway, "ringway_config_generation"), 2.0);

    // The first tenant goes, and with it the model that it used.
    gateway.rewrite(base(&one).backend("c", &two, "").model("n", "backends = [\"c\"]").tenant("u", "key-u", ""));
    assert_eq!(reload(&gateway, 200)["generation"], 3);
    ask("m", "key-t", "first").expect(401);
    ask("m", "key-u", "sixth").expect(404);
    ask("n", "key-u", "fourth").expect(200);
    assert_eq!(two.count(), 1, "that was in the cache");
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&status(&gateway)["models"]), ["n"]);
    assert_eq!(reload(&gateway, 200)["result"], "unchanged");
}

#[test]
fn of_thousands_of_keys_one_comes_and_one_goes() {
    const TENANTS: usize = 100;
    let tenants = |last: &str| {
        let digest =
            |key: &str| -> String { sha2::Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect() };
        let tenant = |tenant: usize| {
            let key =
                |number| if (tenant, number) == (99, 99) { last.to_owned() } else { format!("key-{tenant}-{number}") };
            let keys: String = (0..100).map(|number| format!("\"sha256:{}\",\n", digest(&key(number)))).collect();
            format!("[[tenant]]\nname = \"t{tenant}\"\nrequests_per_minute = 2\nkeys = [{keys}]\n")
        };
        (0..TENANTS).map(tenant).collect::<String>()
    };
    let backend = Backend::answering(|_| json(&completion("one")));
    let setup = |last: &str| base(&backend).model("m", "backends = [\"b\"]").table(&tenants(last));
    let gateway = setup("old").start();
    let ask = |key: &str, what: &str| gateway.ask(keyed("m", key, what)).status;
    assert_eq!((ask("key-0-0", "a"), ask("key-99-0", "b"), ask("old", "c"), ask("new", "d")), (200, 200, 200, 401));
    gateway.rewrite(setup("new"));
    assert_eq!(reload(&gateway, 200)["changes"], serde_json::json!(["tenant \"t99\" changed: keys"]));
    // The counts of its tenant have stayed.
    assert_eq!((ask("key-0-0", "e"), ask("new", "f"), ask("old", "g"), ask("key-98-99", "h")), (200, 429, 401, 200));
    assert_eq!(reload(&gateway, 200)["result"], "unchanged");
}

#[test]
fn an_exchange_ends_by_what_it_began_with() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let old = Backend::run(move |peer| {
        while peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(chunk(&piece("b")) + &chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
        peer.left();
    });
    let new = Backend::answering(|_| json(&completion("new")));
    let gateway = base(&old).model("m", "backends = [\"b\"]").start();
    let mut streaming = gateway.client();
    streaming.send(chat_stream("on"));
    let mut response = streaming.head();
    response.body = streaming.chunk().unwrap();
    gateway.rewrite(base(&new).model("m", "backends = [\"b\"]"));
    assert_eq!(reload(&gateway, 200)["changes"][0], "backend \"b\" changed: url");
    assert!(gateway.ask(chat("now")).expect(200).text().contains("new"));
    go.send(()).unwrap();
    streaming.body(&mut response);
    assert_eq!(response.expect(200).text(), piece("a") + &piece("b") + &finish("stop") + &done());
    // Nobody will ask it again: its connection is closed.
    old.await_left(1);
}

#[test]
fn a_model_of_another_version_has_none_of_the_old_answers() {
    let count = AtomicU64::new(0);
    let backend =
        Backend::answering(move |_| json(&completion(&format!("answer {}", count.fetch_add(1, Ordering::Relaxed)))));
    let setup = |version: &str| base(&backend).model("m", &format!("backends = [\"b\"]\nversion = \"{version}\""));
    let gateway = setup("one").start();
    let mut kept = gateway.client();
    let mut ask = |what: &str| {
        kept.send(chat(what));
        let response = kept.response().expect(200);
        (response.field("x-cache").unwrap().to_owned(), response.text().to_owned())
    };
    let old = ask("the same").1;
    assert_eq!(ask("the same"), ("HIT".to_owned(), old.clone()));
    gateway.rewrite(setup("two"));
    assert_eq!(reload(&gateway, 200)["changes"][0], "model \"m\" changed: version");
    // Once it is acknowledged, on the connection that was there before and on every other core.
    let (found, new) = ask("the same");
    assert!(found == "MISS" && new != old, "{found} {new}");
    for _ in 0..16 {
        let response = gateway.ask(chat("the same")).expect(200);
        assert_eq!((response.field("x-cache").unwrap(), response.text()), ("HIT", &*new));
    }
    // The answers of a version are its own: with the old one back, they are there again.
    gateway.rewrite(setup("one"));
    assert_eq!(reload(&gateway, 200)["result"], "in_force");
    assert_eq!(ask("the same"), ("HIT".to_owned(), old));
}

#[test]
fn a_model_that_is_another_one_at_its_backends_has_none_of_the_old_answers() {
    let count = AtomicU64::new(0);
    let backend =
        Backend::answering(move |_| json(&completion(&format!("answer {}", count.fetch_add(1, Ordering::Relaxed)))));
    let setup = |model: &str, body: &str| {
        let of = |name: &str| format!("{{ backend = \"{name}\", model = \"{model}\" }}");
        base(&backend)
            .backend("c", &backend, body)
            .model("m", &format!("backends = [{}, {}]", of("c"), of("b")))
            .model("n", &format!("backends = [{}]", of("c")))
    };
    let gateway = setup("old", "").start();
    let mut kept = gateway.client();
    let mut ask = || {
        kept.send(chat("the same"));
        let response = kept.response().expect(200);
        (response.field("x-cache").unwrap().to_owned(), response.text().to_owned())
    };
    let mut seen = vec![ask().1];
    for (model, body) in [("new", ""), ("new", "body = { top_k = 20 }"), ("m", "")] {
        gateway.rewrite(setup(model, body));
        assert_eq!(reload(&gateway, 200)["result"], "in_force");
        let (found, new) = ask();
        assert!(found == "MISS" && !seen.contains(&new), "{model} {body}: {found} {new}");
        assert_eq!(ask(), ("HIT".to_owned(), new.clone()));
        seen.push(new);
    }
    // Another backend with the same model changes nothing.
    gateway.rewrite(base(&backend).backend("c", &backend, "").model("m", "backends = [\"b\"]"));
    assert_eq!(reload(&gateway, 200)["result"], "in_force");
    assert_eq!(ask(), ("HIT".to_owned(), seen[3].clone()));
}

#[test]
fn a_configuration_with_errors_changes_nothing() {
    let backend = Backend::answering(echo);
    let gateway = base(&backend).model("m", "backends = [\"b\"]").start();
    gateway
        .rewrite(base(&backend).model("m", "backends = [\"x\"]\nretries = \"many\"").model("n", "backends = [\"b\"]"));
    let answer = reload(&gateway, 422);
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(answer["generation"], 1);
    assert!(
        errors.len() == 2 && errors.iter().all(|error| error.as_str().unwrap().contains("ringway.toml:")),
        "{answer}"
    );
    let last = &status(&gateway)["last_reload"];
    assert_eq!((&last["result"], last["errors"].as_array().unwrap().len()), (&"refused".into(), 2));
    assert_eq!(metric(&gateway, "ringway_config_last_reload_success"), 0.0);
    gateway.ask(chat("on")).expect(200);
    let unknown = gateway.ask(post(CHAT, &question("x").replace("\"m\"", "\"n\"")));
    assert_eq!(unknown.status, 404);
    gateway.rewrite(base(&backend).model("m", "backends = [\"b\"]"));
    assert_eq!(reload(&gateway, 200)["result"], "unchanged");
    assert_eq!(metric(&gateway, "ringway_config_last_reload_success"), 1.0);
}

#[test]
fn a_signal_and_a_changed_file_are_heard_and_what_takes_a_restart_is_told() {
    let backend = Backend::answering(echo);
    let setup = |lines: &str| {
        let setup = Setup::bare().admin("listen = \"127.0.0.1:0\"").table(lines);
        setup.backend("b", &backend, "").model("m", "backends = [\"b\"]")
    };
    let gateway = setup(BY_HAND).start();
    gateway.rewrite(setup("[config]\nrefresh = \"0s\"").listen("127.0.0.1:0").cache("enabled = false"));
    gateway.signal(Signal::HUP);
    let generation = || status(&gateway)["config_generation"].as_u64();
    eventually("the signal is heard", || generation() == Some(2));
    assert_eq!(status(&gateway)["last_reload"]["needs_restart"][0], "server.listen");
    let ask = || gateway.ask(chat("kept")).expect(200).cache().to_owned();
    assert_eq!((ask(), ask()), ("BYPASS".to_owned(), "BYPASS".to_owned()), "the cache is off");
    // By now the file is watched.
    let (watched, added) = ("[config]\nrefresh = \"0s\"", "backends = [\"b\"]");
    gateway.rewrite(setup(watched).listen("127.0.0.1:0").cache("enabled = false").model("n", added));
    eventually("the file is read", || generation() == Some(3));
    gateway.ask(post(CHAT, &question("x").replace("\"m\"", "\"n\""))).expect(200);
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
    assert!(
        said.contains("generation 2 in force on all cores (in_force, SIGHUP): server changed: listen; config changed: watch; cache changed: enabled"),
        "{said}"
    );
    assert!(said.contains("WARN server.listen as before until a restart"), "{said}");
    assert!(
        said.contains("generation 3 in force on all cores (in_force, a file changed): model \"n\" added"),
        "{said}"
    );
}

#[test]
fn a_file_that_changes_right_after_the_start_is_read() {
    let backend = Backend::answering(echo);
    let setup = || {
        let setup = Setup::bare().admin("listen = \"127.0.0.1:0\"").table("[config]\nrefresh = \"0s\"");
        setup.backend("b", &backend, "").model("m", "backends = [\"b\"]")
    };
    // Before the files were looked at for the first time.
    let gateway = setup().start();
    gateway.rewrite(setup().model("n", "backends = [\"b\"]"));
    eventually("the file is read", || status(&gateway)["config_generation"].as_u64() == Some(2));
}

/// Hits, misses and streams go on while backends, models and tenants come and go, and one configuration in three is broken.
#[test]
fn no_request_fails_however_often_the_configuration_changes() {
    const RELOADS: u64 = 60;
    let answers = |request: &Request| match request.text().contains("\"stream\":true") {
        true => stream(&["a", "b"]),
        false => json(&completion("yes")),
    };
    let (steady, other) = (Backend::answering(answers), Backend::answering(answers));
    // What all of them have; the rest changes from round to round.
    let round = |number: u64| {
        let mut setup = base(&steady).tenant("t", "key-t", "");
        let second = number % 2 == 1;
        if second {
            setup = setup.backend("c", &other, if number % 4 == 1 { "eject_time = \"9s\"" } else { "" });
        }
        let targets = if second { "[\"b\", \"c\"]" } else { "[\"b\"]" };
        setup = setup.model("m", &format!("backends = {targets}\nversion = \"{}\"", number % 5));
        if number % 3 == 1 {
            setup = setup.model("n", "backends = [\"b\"]").tenant("u", "key-u", "");
        }
        setup
    };
    let gateway = round(0).start();
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (gateway, stop, asked) = (&gateway, &stop, &asked);
            scope.spawn(move || {
                let mut client = gateway.client();
                let mut number = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    // The same again, something new, and a stream.
                    let body = match number % 3 {
                        0 => question("the same"),
                        1 => question(&format!("{worker} {number}")),
                        _ => streamed_question(&format!("{worker} {number}")),
                    };
                    client.send(post_with(CHAT, "Authorization: Bearer key-t\r\n", &body));
                    let response = client.response().expect(200);
                    assert!(number % 3 != 2 || response.text().ends_with("data: [DONE]\n\n"), "{}", response.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut generation = 1;
        for number in 1..=RELOADS {
            let before = asked.load(Ordering::Relaxed);
            if number % 3 == 0 {
                gateway.rewrite_text("[server]\nlisten = [\"127.0.0.1:0\"\n");
                assert_eq!(reload(&gateway, 422)["generation"], generation);
            } else {
                gateway.rewrite(round(number));
                generation += 1;
                let answer = reload(&gateway, 200);
                assert_eq!((&answer["result"], &answer["generation"]), (&"in_force".into(), &generation.into()));
                let status = gateway.ask(keyed("n", "key-u", "here")).status;
                assert_eq!(status, if number % 3 == 1 { 200 } else { 401 }, "round {number}");
            }
            eventually("requests go on", || asked.load(Ordering::Relaxed) > before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let status = status(&gateway);
    assert_eq!(status["config_generation"], 1 + RELOADS - RELOADS / 3);
    assert_eq!(metric(&gateway, "ringway_failures_total"), (RELOADS / 3) as f64, "the refused keys alone");
}
