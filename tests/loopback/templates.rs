//! Prompt templates: what the backend gets, what is kept, what is refused, and what a reload changes.

use serde_json::{Value, json};

use super::answers::log_of;
use super::kit::*;

/// Two versions of one template, and one in a file.
const TEMPLATES: &str = r#"
[[template]]
name = "ask"
version = "1"
default = true
system = "You know {{ what }}. Be {{ tone }}."
user = "{% for question in questions %}{{ loop.index }}. {{ question }}\n{% endfor %}"
defaults = { tone = "brief" }

[[template]]
name = "ask"
version = "2"
user = "{{ what }}?"

[[template]]
name = "double"
user = "{{ a }}{{ a }}"

[[template]]
name = "filed"
system = "file:$DIRECTORY/prompt.txt"
"#;

fn setup(backend: &Backend) -> Setup {
    Setup::with(backend).table(TEMPLATES).log("access = \"$DIRECTORY/access.log\"")
}

fn start(setup: Setup) -> Gateway {
    setup.start_after(|directory| std::fs::write(directory.join("prompt.txt"), "From a {{ kind }}\n").unwrap())
}

fn asking(prompt: &str, rest: &str) -> Vec<u8> {
    post(CHAT, &format!(r#"{{"model":"m", "prompt": {prompt}{rest}}}"#))
}

fn body(backend: &Backend, place: usize) -> String {
    String::from_utf8(backend.requests()[place].body.clone()).unwrap()
}

/// What the admin listener answers.
fn asked(gateway: &Gateway, line: &str, status: u16) -> String {
    let address = gateway.admin.unwrap();
    let mut client = Client::connect(address);
    client.send(format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"));
    client.response().expect(status).text().to_owned()
}

#[test]
fn the_backend_gets_what_was_rendered_and_it_is_kept() {
    let backend = Backend::answering(echo);
    let gateway = start(setup(&backend).admin("listen = \"127.0.0.1:0\""));
    let own = r#","messages" : [{"role":"user","content":"own"}],"min_p":1e-1"#;
    let full = r#"{"id":"ask","variables":{"what":"all","questions":["\"a\"","b"]}}"#;
    let expected = concat!(
        r#"{"model":"m","messages" : [{"role":"system","content":"You know all. Be brief."},"#,
        r#"{"role":"user","content":"1. \"a\"\n2. b\n"},{"role":"user","content":"own"}],"min_p":1e-1}"#
    );
    for cache in ["MISS", "HIT"] {
        assert_eq!(gateway.ask(asking(full, own)).expect(200).cache(), cache);
    }
    assert_eq!(body(&backend, 0), expected);
    // What says the same without a template is the same, in whatever form.
    assert_eq!(gateway.ask(post(CHAT, expected)).expect(200).cache(), "HIT");
    // A version of its own, without messages of the client's; then as a stream, in chunks and compressed or not.
    let second = r#"{"id":"ask","version":"2","variables":{"what":"why"}}"#;
    assert_eq!(gateway.ask(asking(second, "")).expect(200).cache(), "MISS");
    assert_eq!(body(&backend, 1), r#"{"model":"m", "messages":[{"role":"user","content":"why?"}]}"#);
    let streamed = gateway.ask(asking(second, r#","stream":true"#)).expect(200);
    assert_eq!((streamed.cache(), streamed.text().contains("why?")), ("HIT", true));
    let chunked = format!(r#"{{"model":"m","prompt":{second}}}"#);
    let chunked =
        format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n{}{LAST_CHUNK}", chunk(&chunked));
    assert_eq!(gateway.ask(chunked.into_bytes()).expect(200).cache(), "HIT");
    let filed = gateway.ask(asking(r#"{"id":"filed","variables":{"kind":"file"}}"#, own)).expect(200);
    assert_eq!(filed.cache(), "MISS");
    assert!(body(&backend, 2).contains(r#"{"role":"system","content":"From a file"}"#), "{}", body(&backend, 2));
    // One behind the other in one read: what stands behind a rendered request is not touched.
    let mut client = gateway.client();
    client.send([asking(second, ""), asking(full, own), chat("plain")].concat());
    let caches: Vec<String> = (0..3).map(|_| client.response().expect(200).cache().to_owned()).collect();
    assert_eq!(caches, ["HIT", "HIT", "MISS"]);

    let metrics = asked(&gateway, "GET /metrics", 200);
    for (template, version, count) in [("ask", "1", 3), ("ask", "2", 4), ("filed", "1", 1)] {
        let sample = format!(
            "ringway_prompt_template_requests_total{{template=\"{template}\",version=\"{version}\"}} {count}\n"
        );
        assert!(metrics.contains(&sample), "{sample}\n{metrics}");
    }
    let lines = log_of(gateway);
    let told: Vec<_> =
        lines.iter().map(|line| (line["template"].as_str(), line["template_version"].as_str())).collect();
    assert_eq!(told[..4], [(Some("ask"), Some("1")), (Some("ask"), Some("1")), (None, None), (Some("ask"), Some("2"))]);
}

#[test]
fn anthropics_requests_have_the_system_text_where_it_belongs() {
    let backend = Backend::answering(|_| json(r#"{"type":"message","content":[],"usage":{}}"#));
    let gateway = start(setup(&backend));
    let prompt = r#"{"id":"ask","variables":{"what":"all","questions":["a"]}}"#;
    let request = format!(r#"{{"model":"m","max_tokens":9,"system":"Own.","messages":[],"prompt":{prompt}}}"#);
    gateway.ask(post("/v1/messages", &request)).expect(200);
    let expected = json!({
        "model": "m", "max_tokens": 9,
        "system": [{"type": "text", "text": "You know all. Be brief."}, {"type": "text", "text": "Own."}],
        "messages": [{"role": "user", "content": "1. a\n"}],
    });
    assert_eq!(serde_json::from_str::<Value>(&body(&backend, 0)).unwrap(), expected);
    let response = gateway.ask(post("/v1/messages", r#"{"model":"m","prompt":{"id":"nothing"}}"#)).expect(400);
    let told: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert!(told["error"]["message"].as_str().unwrap().contains("'nothing'"), "{told}");
}

#[test]
fn a_request_that_does_not_fit_its_template_is_refused_by_name() {
    let backend = Backend::answering(echo);
    let gateway = start(setup(&backend).server("body_max = \"64KiB\""));
    let large = format!(r#"{{"id":"double","variables":{{"a":"{}"}}}}"#, "x".repeat(40_000));
    for (prompt, param, said) in [
        (r#"{"id":"nothing"}"#, "prompt.id", "'nothing'"),
        (r#"{"version":"1"}"#, "prompt.id", "id"),
        (r#"{"id":7}"#, "prompt.id", "string"),
        (r#"{"id":"ask","version":"9"}"#, "prompt.version", "it has '1', '2'"),
        (r#"{"id":"ask","version":2}"#, "prompt.version", "string"),
        (r#"{"id":"ask","variables":{"what":1}}"#, "prompt.variables", "'questions'"),
        (r#"{"id":"ask","variables":{"what":1,"questions":[],"more":1}}"#, "prompt.variables", "'more'"),
        (r#"{"id":"ask","variables":{"what":1,"questions":7}}"#, "prompt.variables", "(user, line 1)"),
        (r#"{"id":"ask","variables":[]}"#, "prompt.variables", "object"),
        (r#"{"id":"ask","variables":{"what":"\ud800","questions":[]}}"#, "prompt.variables", "Unicode"),
        (r#"{"id":"ask","vars":{}}"#, "prompt", "Unknown member"),
        (&large, "prompt", "longer"),
    ] {
        let response = gateway.ask(asking(prompt, ""));
        let told: Value = serde_json::from_str(response.expect(400).text()).unwrap();
        let error = &told["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("bad_prompt"), &json!(param)), "{prompt}: {told}");
        assert!(error["message"].as_str().unwrap().contains(said), "{prompt}: {told}");
    }
    let many: Vec<String> = (0..20_000).map(|_| "1".to_owned()).collect();
    let work = format!(r#"{{"id":"ask","variables":{{"what":1,"questions":[{}]}}}}"#, many.join(","));
    let told: Value = serde_json::from_str(gateway.ask(asking(&work, "")).expect(400).text()).unwrap();
    assert_eq!(told["error"]["param"], "prompt", "{told}");
    let wrong = gateway.ask(asking(r#"{"id":"ask","version":"2","variables":{"what":1}}"#, r#","messages":"x""#));
    assert!(wrong.expect(400).text().contains("'messages'"));
    assert_eq!(backend.count(), 0);
}

#[test]
fn without_a_template_or_an_object_prompt_is_the_backends() {
    let backend = Backend::answering(|_| json(&completion("one")));
    let gateway = Setup::with(&backend).start();
    let request = r#"{"model":"m","prompt":{"id":"theirs"},"messages":[]}"#;
    gateway.ask(post(CHAT, request)).expect(200);
    assert_eq!(body(&backend, 0), request);
    let gateway = start(setup(&backend));
    for (path, request) in [
        ("/v1/completions", r#"{"model":"m","prompt":"a {{ b }}"}"#),
        (CHAT, r#"{"model":"m","prompt":"text","messages":[]}"#),
        ("/v1/moderations", r#"{"model":"m","prompt":{"id":"theirs"}}"#),
    ] {
        let before = backend.count();
        gateway.ask(post(path, request)).expect(200);
        assert_eq!(body(&backend, before), request);
    }
}

#[test]
fn a_reload_brings_another_text_and_a_broken_one_changes_nothing() {
    let backend = Backend::answering(echo);
    let base = || Setup::with(&backend).table("[config]\nwatch = false").admin("listen = \"127.0.0.1:0\"").cores(2);
    let template = |text: &str| format!("[[template]]\nname = \"t\"\nuser = \"{text}\"\n");
    let gateway = base().table(&template("one {{ a }}")).start();
    let ask = |expected: &str| {
        let response = gateway.ask(asking(r#"{"id":"t","variables":{"a":"x"}}"#, "")).expect(200);
        assert!(response.text().contains(expected), "{}", response.text());
        response.cache().to_owned()
    };
    let reload = |status| asked(&gateway, "POST /v1/reload", status);
    assert_eq!((ask("one x!"), ask("one x!")), ("MISS".into(), "HIT".into()));
    gateway.rewrite(base().table(&template("two {{ a }}")));
    assert!(reload(200).contains(r#"template \"t\" version \"1\" changed: user"#));
    assert_eq!(ask("two x!"), "MISS");
    gateway.rewrite(base().table(&template("three {{ a | nosuch }}")));
    let told = reload(422);
    assert!(told.contains("filter nosuch is unknown") && told.contains("template.user"), "{told}");
    assert_eq!(ask("two x!"), "HIT");
    gateway.rewrite(base().table(&template("one {{ a }}")));
    reload(200);
    assert_eq!(ask("one x!"), "HIT");
}

#[test]
fn a_tenant_has_the_templates_of_its_list() {
    let backend = Backend::answering(echo);
    let gateway = start(
        setup(&backend)
            .tenant("all", "key-all", "")
            .tenant("stars", "key-stars", "templates = [\"*\"]")
            .tenant("some", "key-some", "templates = [\"dou*\", \"filed\"]")
            .tenant("asks", "key-asks", "templates = [\"ask\"]")
            .tenant("none", "key-none", "templates = []"),
    );
    let by = |key: &str, prompt: &str| {
        let fields = format!("Authorization: Bearer {key}\r\n");
        gateway.ask(post_with(CHAT, &fields, &format!(r#"{{"model":"m","prompt":{prompt}}}"#)))
    };
    let double = r#"{"id":"double","variables":{"a":"b"}}"#;
    let first = r#"{"id":"ask","variables":{"what":"a","questions":[]}}"#;
    let second = r#"{"id":"ask","version":"2","variables":{"what":"a"}}"#;
    for (key, has_double, has_ask) in [
        ("key-all", true, true),
        ("key-stars", true, true),
        ("key-some", true, false),
        ("key-asks", false, true),
        ("key-none", false, false),
    ] {
        // A name in the list is all of its versions.
        for (prompt, is_allowed, name) in
            [(double, has_double, "double"), (first, has_ask, "ask"), (second, has_ask, "ask")]
        {
            let response = by(key, prompt);
            if is_allowed {
                response.expect(200);
                continue;
            }
            // As if it were not there.
            let error: Value = serde_json::from_str(response.expect(400).text()).unwrap();
            let message = format!("There is no prompt template '{name}'.");
            assert_eq!(
                (&error["error"]["code"], &error["error"]["param"]),
                (&json!("bad_prompt"), &json!("prompt.id"))
            );
            assert_eq!(error["error"]["message"], message, "{key}");
        }
    }
    assert_eq!(by("key-none", r#"{"id":"nothing"}"#).expect(400).code(), "bad_prompt");
    let plain = post_with(CHAT, "Authorization: Bearer key-none\r\n", &question("a"));
    gateway.ask(plain).expect(200);
    // In the form of each API.
    let request = format!(r#"{{"model":"m","max_tokens":9,"messages":[],"prompt":{second}}}"#);
    let refused = gateway.ask(post_with("/v1/messages", "x-api-key: key-some\r\n", &request)).expect(400);
    let told: Value = serde_json::from_str(refused.text()).unwrap();
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert_eq!(told["error"]["message"], "There is no prompt template 'ask'.");

    let refused = setup(&backend).tenant("t", "key", "templates = [\"asc\", \"x*\", \"double\", \"double\"]");
    let said = refused.refused_after(|directory| std::fs::write(directory.join("prompt.txt"), "{{ kind }}").unwrap());
    for part in [
        "tenant.templates: there is no [[template]] named \"asc\"; did you mean \"ask\"?",
        "tenant.templates: there is no [[template]] whose name matches \"x*\"",
        "tenant.templates: \"double\" stands twice in the list; name each template once",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}
