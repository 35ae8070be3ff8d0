//! Paths, methods and what is passed through: where a request goes, and under which model's name.

use super::kit::*;

fn ok(_: &Request) -> Vec<u8> {
    json("{}")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A form with a file and, behind it, what `fields` say.
fn form(fields: &[(&str, &str)]) -> String {
    let mut body =
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--\r\n".to_owned();
    for (name, content) in fields {
        body += &format!("\r\n--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}");
    }
    body + "\r\n--x--\r\n"
}

fn upload(fields: &str, body: &str) -> Vec<u8> {
    let fields = format!("Content-Type: multipart/form-data; boundary=x\r\n{fields}");
    post_with("/v1/audio/transcriptions", &fields, body)
}

#[test]
fn what_could_climb_out_of_the_api_never_leaves() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let mut client = gateway.client();
    for path in [
        "/v1/x%2f..%2f..%2fadmin",
        "/v1/x%5c..%5cadmin",
        "/v1/x%2F%2e%2e%2Fadmin",
        "/v1/x%252f%252e%252e%252fadmin",
        "/v1/..;/admin",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/models/..%2f..%2fadmin",
    ] {
        client.send(post(path, "{}"));
        assert_eq!(client.response().expect(400).code(), "bad_request_head", "{path}");
    }
    client.send(get("/v1/files/a%2Fb.c"));
    client.response().expect(200);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_slip_in_a_path_is_named_and_goes_nowhere() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend).server("default_model = \"m\"").tenant("t", "key", "").start();
    for path in [
        "/chat/completions",
        "//v1/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completion",
        "/v1/chat/completions/",
    ] {
        let refused = gateway.ask(post_with(path, "Authorization: Bearer key\r\n", &question("x"))).expect(404);
        assert_eq!(refused.code(), "unknown_path");
        assert!(refused.text().contains("did you mean /v1/chat/completions?"), "{path}: {}", refused.text());
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_body_to_nowhere_is_not_waited_for() {
    let gateway = Setup::bare().start();
    for path in ["/nothing", "/healthz"] {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"));
        assert_eq!(client.response().field("connection"), Some("close"), "{path}");
        client.expect_closed();
    }
}

#[test]
fn a_websocket_that_is_not_served_is_refused_at_once() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let mut client = gateway.client();
    let upgrade = |path: &str, protocol: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    for path in ["/v1/responses", "/v1/realtime/sessions?model=m"] {
        client.send(upgrade(path, "websocket"));
        let refused = client.response().expect(426);
        assert_eq!((refused.code().as_str(), refused.field("upgrade")), ("upgrade_unavailable", Some("HTTP/1.1")));
    }
    assert_eq!(backend.count(), 0);
    client.send(upgrade("/v1/files", "h2c"));
    client.response().expect(200);
    assert_eq!(backend.requests()[0].field("upgrade"), None);
}

#[test]
fn every_method_of_the_api_reaches_the_default_models_backend() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let mut client = gateway.client();
    let lines = [
        "GET /v1/chat/completions?limit=2 HTTP/1.1",
        "GET /v1/chat/completions/id HTTP/1.1",
        "POST /v1/chat/completions/id HTTP/1.1",
        "DELETE /v1/chat/completions/id HTTP/1.1",
        "GET /v1/chat/completions/id/messages HTTP/1.1",
        "DELETE /v1/models/ft:m HTTP/1.1",
        "PATCH /v1/anything HTTP/1.1",
    ];
    for line in lines {
        client.send(format!("{line}\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
        client.response().expect(200);
    }
    let seen: Vec<_> = backend.requests().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(seen, lines);
    client.send(get("/v1/models/m"));
    assert!(client.response().expect(200).text().contains("\"id\":\"m\""));
    for line in ["PUT /v1/chat/completions", "GET /v1/embeddings", "POST /v1/models", "PUT /v1/models/m"] {
        client.send(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_ne!(client.response().expect(405).field("allow"), None, "{line}");
    }
    assert_eq!(backend.count(), lines.len());
}

#[test]
fn a_key_for_some_models_deletes_no_other() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend)
        .model("n", "backends = [\"b\"]")
        .server("default_model = \"m\"")
        .tenant("some", "some-key", "models = [\"m\"]")
        .tenant("all", "all-key", "")
        .start();
    let delete = |key: &str, model: &str| {
        let request =
            format!("DELETE /v1/models/{model} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}-key\r\n\r\n");
        gateway.ask(request).status
    };
    assert_eq!((delete("some", "m"), delete("some", "n"), delete("some", "ft:other")), (200, 404, 404));
    assert_eq!((delete("all", "n"), delete("all", "ft:other")), (200, 200));
    assert_eq!(backend.count(), 3);
}

#[test]
fn json_that_is_no_object_is_passed_through() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    for body in ["[{\"a\":1}]", "\"text\"", "7"] {
        gateway.ask(post_with("/v1/decisions", "Content-Type: application/json\r\n", body)).expect(200);
        assert_eq!(backend.requests().last().unwrap().text(), body);
    }
    gateway.ask(post_with("/v1/decisions", "Content-Type: application/json\r\n", "[1")).expect(400);
    gateway.ask(post(CHAT, "[1]")).expect(400);
}

#[test]
fn a_form_goes_to_the_model_it_names_and_is_renamed_byte_for_byte() {
    let (first, second) = (Backend::answering(ok), Backend::answering(ok));
    let gateway = Setup::bare()
        .backend("a", &first, "")
        .backend("b", &second, "")
        .model("m", "backends = [\"a\"]")
        .model("n", "backends = [{ backend = \"b\", model = \"maker/Whisper \u{fc}\" }]")
        .server("default_model = \"m\"")
        .start();
    gateway.ask(upload("", &form(&[("model", "n"), ("language", "n")]))).expect(200);
    let seen = &second.requests()[0];
    assert_eq!(seen.text(), form(&[("model", "maker/Whisper \u{fc}"), ("language", "n")]));
    assert_eq!(seen.field("content-type"), Some("multipart/form-data; boundary=x"));
    // In front of the file, in chunks, and without a model.
    let body = form(&[("model", "n")]);
    let mut chunked = "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=\"x\"\r\n\
                       Transfer-Encoding: chunked\r\n\r\n"
        .to_owned();
    chunked += &(chunk(&body[..70]) + &chunk(&body[70..]) + LAST_CHUNK);
    gateway.ask(chunked).expect(200);
    assert_eq!(second.requests()[1].text(), form(&[("model", "maker/Whisper \u{fc}")]));
    gateway.ask(upload("", &form(&[("purpose", "batch")]))).expect(200);
    assert_eq!(first.requests()[0].text(), form(&[("purpose", "batch")]));
    assert_eq!((first.count(), second.count()), (1, 2));
}

#[test]
fn a_form_names_one_model_and_one_that_the_key_may_use() {
    let backend = Backend::answering(ok);
    let gateway = Setup::with(&backend)
        .model("n", "backends = [\"b\"]")
        .server("default_model = \"m\"")
        .tenant("some", "key", "models = [\"m\"]")
        .start();
    let ask = |body: &str| gateway.ask(upload("Authorization: Bearer key\r\n", body));
    ask(&form(&[("model", "m")])).expect(200);
    ask(&form(&[])).expect(200);
    assert_eq!(ask(&form(&[("model", "n")])).expect(404).code(), "model_not_found");
    assert_eq!(ask(&form(&[("model", "none")])).expect(404).code(), "model_not_found");
    for fields in [&[("model", "m"), ("model", "n")][..], &[("Model", "n")], &[("model\"; filename=\"f", "n")]] {
        assert_eq!(ask(&form(fields)).expect(400).code(), "bad_form", "{fields:?}");
    }
    assert_eq!(ask(&form(&[("model", "")])).expect(400).code(), "bad_field");
    let whole = form(&[("model", "m")]);
    for broken in [&whole[..whole.len() - 6], &whole.replace("\r\n", "\n"), "--y--", "no form"] {
        assert_eq!(ask(broken).expect(400).code(), "bad_form", "{broken:?}");
    }
    let fields = "Authorization: Bearer key\r\nContent-Type: multipart/form-data\r\n";
    assert_eq!(gateway.ask(post_with("/v1/files", fields, &whole)).expect(400).code(), "bad_form");
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_query_names_a_model_where_the_api_has_it_there() {
    let (first, second) = (Backend::answering(ok), Backend::answering(ok));
    let gateway = Setup::bare()
        .backend("a", &first, "")
        .backend_at("b", &format!("http://{}/base", second.address))
        .model("m", "backends = [\"a\"]")
        .model("o/p q", "backends = [{ backend = \"b\", model = \"r/s t\" }]")
        .server("default_model = \"m\"")
        .tenant("all", "all-key", "")
        .tenant("some", "some-key", "models = [\"m\"]")
        .start();
    let ask = |key: &str, path: &str| {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}-key\r\n\r\n"))
    };
    for query in ["model=o%2Fp%20q&voice=x", "voice=x&model=o/p+q", "%6dodel=o%2fp+q"] {
        ask("all", &format!("/v1/realtime?{query}")).expect(200);
    }
    ask("all", "/v1/realtime?voice=o/p+q").expect(200);
    ask("all", "/v1/chat/completions?model=stored").expect(200);
    let lines = |backend: &Backend| backend.requests().iter().map(|one| one.line().to_owned()).collect::<Vec<_>>();
    let base = "GET /base/v1/realtime";
    let expected = ["?model=r%2Fs%20t&voice=x", "?voice=x&model=r%2Fs%20t", "?%6dodel=r%2Fs%20t"];
    assert_eq!(lines(&second), expected.map(|query| format!("{base}{query} HTTP/1.1")));
    let others = ["realtime?voice=o/p+q", "chat/completions?model=stored"];
    assert_eq!(lines(&first), others.map(|rest| format!("GET /v1/{rest} HTTP/1.1")));
    ask("some", "/v1/realtime?model=o/p+q").expect(404);
    ask("all", "/v1/realtime?model=none").expect(404);
    ask("all", "/v1/realtime?model=").expect(400);
    ask("all", "/v1/realtime?model=m&model=m").expect(400);
    let twice = post_with("/v1/realtime?model=m", "Authorization: Bearer all-key\r\n", "{\"model\":\"m\"}");
    assert_eq!(gateway.ask(twice).expect(400).code(), "bad_field");
    assert_eq!((first.count(), second.count()), (2, 3));
}

#[test]
fn paths_of_model_servers_are_passed_by_configuration() {
    let (first, second) = (Backend::answering(ok), Backend::answering(ok));
    let setup = || {
        Setup::bare()
            .backend("a", &first, "")
            .backend("b", &second, "api_key = \"secret\"")
            .model("m", "backends = [\"a\"]")
            .model("n", "backends = [{ backend = \"b\", model = \"own\" }]")
            .tenant("t", "key", "models = [\"n\"]")
    };
    let gateway = setup().server("passthrough_paths = [\"/tokenize\", \"/v2/rerank\"]").start();
    let keyed = |path: &str, body: &str| post_with(path, "Authorization: Bearer key\r\n", body);
    gateway.ask(post("/tokenize", "{\"model\":\"n\"}")).expect(401);
    gateway.ask(keyed("/tokenize", "{\"model\":\"n\",\"prompt\":\"x\"}")).expect(200);
    gateway.ask(keyed("/v2/rerank?x=y", "{\"model\":\"n\"}")).expect(200);
    gateway.ask(keyed("/tokenize", "{\"model\":\"m\"}")).expect(404);
    assert_eq!(gateway.ask(keyed("/tokenize", "{}")).expect(400).code(), "model_required");
    for path in ["/detokenize", "/tokenize/", "/tokenize/x", "/v2/rerank/..%2ftokenize"] {
        let status = gateway.ask(keyed(path, "{\"model\":\"n\"}")).status;
        assert!(matches!(status, 400 | 404), "{path} {status}");
    }
    let seen = second.requests();
    assert_eq!((seen[0].line(), seen[0].text()), ("POST /tokenize HTTP/1.1", "{\"model\":\"own\",\"prompt\":\"x\"}"));
    assert_eq!(seen[1].line(), "POST /v2/rerank?x=y HTTP/1.1");
    assert_eq!(seen[1].field("authorization"), Some("Bearer secret"));
    assert_eq!((first.count(), second.count()), (0, 2));
    // Without the key none of them is there.
    setup().start().ask(keyed("/tokenize", "{\"model\":\"n\"}")).expect(404);
}

#[test]
fn a_redirect_leads_to_the_gateway_or_elsewhere_but_not_to_the_backend() {
    let backend = Backend::answering(|request| {
        let path = request.line().split(' ').nth(1).unwrap();
        let host = request.field("host").unwrap();
        let location = match path.rsplit('/').next().unwrap() {
            "whole" => format!("http://{host}/base/v1/files/a?b=c"),
            "path" => "/base/v1/files/a".to_owned(),
            _ => "https://storage.example/bucket/a?X-Signature=%2F".to_owned(),
        };
        format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let gateway = Setup::bare()
        .backend_at("b", &format!("http://{}/base", backend.address))
        .model("m", "backends = [\"b\"]")
        .server("default_model = \"m\"")
        .start();
    for (path, location) in [
        ("/v1/files/whole", "/v1/files/a?b=c"),
        ("/v1/files/path", "/v1/files/a"),
        ("/v1/files/foreign", "https://storage.example/bucket/a?X-Signature=%2F"),
    ] {
        let answer = gateway.ask(get(path)).expect(302);
        assert_eq!(answer.field("location"), Some(location), "{path}");
        assert!(!answer.head.contains(&backend.address.to_string()), "{}", answer.head);
    }
}

#[test]
fn a_providers_limits_reach_no_client() {
    let backend = Backend::answering(|request| {
        let (status, body) = match request.text().contains("too much") {
            true => (
                429,
                "{\"error\":{\"message\":\"later\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}".to_owned(),
            ),
            false => (200, completion("x")),
        };
        let fields = "X-RateLimit-Remaining-Tokens: 9\r\nx-ratelimit-reset-requests: 1s\r\nSet-Cookie: a=b";
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\n{fields}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    });
    let gateway = Setup::once(&backend).start();
    for (what, status) in [("little", 200), ("too much", 429)] {
        let answer = gateway.ask(chat(what)).expect(status);
        assert_eq!(
            answer.field("x-ratelimit-remaining-tokens"),
            None,
            "its provider's limits are no client's business"
        );
        assert_eq!(answer.field("x-ratelimit-reset-requests"), None);
        assert_eq!(answer.field("set-cookie"), None);
    }
}
