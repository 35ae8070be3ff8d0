//! Models whose names have a `*`: which requests they get, and what their backends are asked for.

use super::kit::*;
use super::limits::keyed;

fn ask(gateway: &Gateway, model: &str, what: &str) -> Response {
    gateway.ask(post(CHAT, &question(what).replace("\"m\"", &format!("\"{model}\""))))
}

/// The names that the backend was asked for.
fn names(backend: &Backend) -> Vec<String> {
    let name = |request: &Request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    backend.requests().iter().map(name).collect()
}

#[test]
fn a_star_stands_for_what_the_backend_is_asked_for() {
    let backend = Backend::answering(|request| match request.text().starts_with('{') {
        true => echo(request),
        false => json(r#"{"text":"of a form"}"#),
    });
    let gateway = Setup::with(&backend)
        .model("openai/*", "backends = [{ backend = \"b\", model = \"*\" }]")
        .model("openai/known", "backends = [{ backend = \"b\", model = \"renamed\" }]")
        .model("fast/*", "backends = [{ backend = \"b\", model = \"accounts/x/*/latest\" }]")
        .model("as-it-is-*", "backends = [\"b\"]")
        .model("local-*", "backends = [{ backend = \"b\", model = \"qwen\" }]")
        .log("access = \"$DIRECTORY/access.log\"")
        .start();
    let asked = ["openai/gpt-4o", "openai/known", "fast/llama", "as-it-is-1", "local-any", "m"];
    asked.iter().for_each(|model| _ = ask(&gateway, model, model).expect(200));
    let there = ["gpt-4o", "renamed", "accounts/x/llama/latest", "as-it-is-1", "qwen", "m"];
    assert_eq!(names(&backend), there);
    // All but the name is as the client has sent it.
    let first = String::from_utf8(backend.requests()[0].body.clone()).unwrap();
    assert_eq!(first, question("openai/gpt-4o").replace("\"m\"", "\"gpt-4o\""));
    for model in ["openai", "openai/", "OPENAI/x", "as-it-is-", "x/openai/y"] {
        assert_eq!(ask(&gateway, model, "no").expect(404).code(), "model_not_found", "{model}");
    }
    for model in [r"openai/a\u0000b", r#"openai/a\"b"#, r"openai/a\r\nb"] {
        assert!([400, 404].contains(&ask(&gateway, model, "no").status), "{model}");
    }
    assert_eq!(backend.count(), asked.len(), "none of these reaches it");
    // In a form.
    let form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai/whisper-1\r\n--x--\r\n";
    let fields = "Content-Type: multipart/form-data; boundary=x\r\n";
    gateway.ask(post_with("/v1/audio/transcriptions", fields, form)).expect(200);
    let seen = String::from_utf8(backend.requests().last().unwrap().body.clone()).unwrap();
    assert_eq!(seen, form.replace("openai/whisper-1", "whisper-1"));
    gateway.terminate();
    let log = gateway.into_log();
    let told =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["model"].as_str().map(str::to_owned);
    let told: Vec<_> = log.lines().take(asked.len()).filter_map(told).collect();
    assert_eq!(told, asked, "the log has the client's names");
}

#[test]
fn each_name_has_answers_of_its_own() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).model("openai/*", "backends = [{ backend = \"b\", model = \"*\" }]").start();
    let caches =
        ["openai/a", "openai/b", "openai/a", "openai/b"].map(|model| ask(&gateway, model, "x").cache().to_owned());
    assert_eq!(caches, ["MISS", "MISS", "HIT", "HIT"]);
    assert_eq!(names(&backend), ["a", "b"]);
}

#[test]
fn lists_have_only_what_can_be_asked_for() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).model("openai/*", "backends = [{ backend = \"b\", model = \"*\" }]").start();
    let get = |path: &str| gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let list: serde_json::Value = serde_json::from_str(get("/v1/models").expect(200).text()).unwrap();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m"]);
    let one: serde_json::Value = serde_json::from_str(get("/v1/models/openai%2Fgpt-4o").expect(200).text()).unwrap();
    assert_eq!(one["id"], "openai/gpt-4o");
    get("/v1/models/other").expect(404);
}

/// What a tenant may use, and its limits, are of the name with the `*`; so are metrics, which must stay few.
#[test]
fn tenants_and_metrics_know_it_by_its_own_name() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .model("openai/*", "backends = [{ backend = \"b\", model = \"*\" }]")
        .tenant("t", "key", "models = [\"openai/*\"]\nmodel_limits = [{ model = \"openai/*\", requests_per_day = 2 }]")
        .tenant("u", "other", "models = [\"m\"]")
        .admin("listen = \"127.0.0.1:0\"")
        .start();
    let ask = |key: &str, model: &str, what: &str| {
        gateway.ask(keyed(key, &question(what).replace("\"m\"", &format!("\"{model}\""))))
    };
    ask("key", "openai/a", "1").expect(200);
    ask("key", "openai/b", "2").expect(200);
    ask("key", "openai/c", "3").expect(429);
    ask("key", "m", "4").expect(404);
    ask("other", "openai/a", "5").expect(404);
    let mut client = Client::connect(gateway.admin.unwrap());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = client.response().expect(200);
    let of = |name: &str| metrics.text().contains(&format!("model=\"{name}\""));
    assert_eq!([of("openai/*"), of("openai/a")], [true, false]);
}

/// A provider's limit is one of the model that was asked for, not of all that have the prefix.
#[test]
fn a_limited_name_leaves_the_others_alone() {
    let limited = Backend::answering(|request| match request.text().contains("\"limited\"") {
        true => {
            let body = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
            let head = "HTTP/1.1 429 X\r\nContent-Type: application/json\r\nRetry-After: 60\r\nContent-Length:";
            format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        false => echo(request),
    });
    let other = Backend::answering(echo);
    let all = "backends = [{ backend = \"b\", model = \"*\" }, { backend = \"o\", model = \"*\" }]";
    let gateway = Setup::bare().backend("b", &limited, "").backend("o", &other, "").model("openai/*", all).start();
    (0..4).for_each(|what| _ = ask(&gateway, "openai/limited", &format!("{what}")).expect(200));
    let before = limited.count();
    assert!(before > 0, "it has been asked");
    (0..4).for_each(|what| _ = ask(&gateway, "openai/free", &format!("{what}")).expect(200));
    assert!(limited.count() > before, "it is asked for another model");
}

#[test]
fn a_fallback_has_its_own_name() {
    let (dead, other) = (Backend::absent(), Backend::answering(echo));
    let gateway = Setup::bare()
        .backend("b", &dead, "")
        .backend("o", &other, "")
        .model("openai/*", "backends = [{ backend = \"b\", model = \"*\" }]\nfallback = [\"local\"]\nretries = 0")
        .model("local", "backends = [\"o\"]")
        .start();
    ask(&gateway, "openai/gpt-4o", "1").expect(200);
    assert_eq!(names(&other), ["local"]);
}
