//! Credentials and scopes; what of a request goes upstream, and what does not.

use super::kit::*;

fn keyed(key: &str, body: &str) -> Vec<u8> {
    post_with(CHAT, &format!("Authorization: Bearer {key}\r\n"), body)
}

fn two_tenants(backend: &Backend) -> Setup {
    Setup::with(backend).model("n", "backends = [\"b\"]").tenant("red", "red-key", "").tenant(
        "blue",
        "blue-key",
        "models = [\"m\"]",
    )
}

#[test]
fn only_known_keys_are_served() {
    let backend = Backend::answering(echo);
    let gateway = two_tenants(&backend).start();
    let mut client = gateway.client();
    let body = question("who");
    client.send(post(CHAT, &body));
    let response = client.response().expect(401);
    assert_eq!((response.code().as_str(), response.field("www-authenticate")), ("missing_api_key", Some("Bearer")));
    for wrong in ["Bearer red-key2", "Bearer RED-KEY", "Basic red-key", "Bearer", "Bearer ", "red-key"] {
        client.send(post_with(CHAT, &format!("Authorization: {wrong}\r\n"), &body));
        client.response().expect(401);
    }
    client.send(post_with(CHAT, "authorization: bearer red-key\r\n", &body));
    client.response().expect(200);
    assert_eq!(backend.count(), 1);
}

/// The field that carries the key does not matter; a bearer credential goes before the others.
#[test]
fn a_key_comes_in_any_of_three_fields_and_goes_no_further() {
    let backend = Backend::answering(echo);
    let gateway = two_tenants(&backend).start();
    let ask = |fields: &str, what: &str| gateway.ask(post_with(CHAT, fields, &question(what)));
    for (fields, status) in [
        ("X-Api-Key: red-key\r\n", 200),
        ("api-key: red-key\r\n", 200),
        ("Authorization: Bearer red-key\r\nx-api-key: none\r\napi-key: none\r\n", 200),
        ("x-api-key: red-key\r\napi-key: none\r\n", 200),
        ("Authorization: Basic bm9uZQ==\r\nx-api-key: red-key\r\n", 200),
        ("Authorization: Bearer \r\nx-api-key: red-key\r\n", 200),
        ("Authorization: Bearer none\r\nx-api-key: red-key\r\n", 401),
        ("x-api-key: none\r\napi-key: red-key\r\n", 401),
        ("x-api-key:\r\n", 401),
        ("x-api-key: Bearer red-key\r\n", 401),
    ] {
        let response = ask(fields, &fields.replace("\r\n", " "));
        assert_eq!(response.status, status, "{fields}");
    }
    for request in backend.requests() {
        let head = request.head.to_ascii_lowercase();
        assert!(!head.contains("api-key") && !head.contains("authorization"), "{head}");
    }
    // The scope of what is stored is the tenant's, whichever field names it.
    assert_eq!(ask("x-api-key: red-key\r\n", "scope").expect(200).cache(), "MISS");
    assert_eq!(ask("api-key: red-key\r\n", "scope").expect(200).cache(), "HIT");
    assert_eq!(ask("x-api-key: blue-key\r\n", "scope").expect(200).cache(), "MISS");
}

#[test]
fn a_key_that_has_expired_or_is_disabled_is_told_so() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .tenant("old", "old-key", "")
        .key("old", "expires = \"2001-01-31\"")
        .tenant("new", "new-key", "")
        .key("new", "expires = \"2999-01-31\"")
        .tenant("off", "off-key", "")
        .key("off", "disabled = true")
        .start();
    for (key, code) in [("old-key", "expired_api_key"), ("off-key", "disabled_api_key")] {
        let refused = gateway.ask(keyed(key, &question("x"))).expect(401);
        assert_eq!(refused.code(), code);
        assert_eq!(refused.field("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    gateway.ask(keyed("new-key", &question("x"))).expect(200);
    assert_eq!(backend.count(), 1);
}

#[test]
fn models_are_allowed_by_patterns() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend)
        .model("qwen-7b", "backends = [\"b\"]")
        .model("my-qwen-7b", "backends = [\"b\"]")
        .tenant("t", "key", "models = [\"qwen-*\"]")
        .start();
    for (model, status) in [("qwen-7b", 200), ("my-qwen-7b", 404), ("m", 404), ("qwen-*", 404)] {
        assert_eq!(gateway.ask(keyed("key", &question("x").replace("\"m\"", &format!("\"{model}\"")))).status, status);
    }
}

#[test]
fn a_second_credential_is_not_overlooked() {
    let backend = Backend::answering(echo);
    let gateway = two_tenants(&backend).start();
    for (first, second) in [("red-key", "blue-key"), ("red-key", "none"), ("red-key", "red-key")] {
        let fields = format!("Authorization: Bearer {first}\r\nauthorization: Bearer {second}\r\n");
        gateway.ask(post_with(CHAT, &fields, &question("whose"))).expect(400);
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_stranger_is_refused_before_the_body() {
    let gateway = Setup::bare().tenant("t", "key", "").start();
    let mut client = gateway.client();
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"));
    client.response().expect(401);
    client.expect_closed();
}

#[test]
fn no_tenant_sees_another_ones_answer() {
    let backend = Backend::answering(echo);
    let gateway = two_tenants(&backend).start();
    let body = question("secret");
    assert_eq!(gateway.ask(keyed("red-key", &body)).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(keyed("red-key", &body)).expect(200).cache(), "HIT");
    assert_eq!(gateway.ask(keyed("blue-key", &body)).expect(200).cache(), "MISS");
    assert_eq!(backend.count(), 2);
}

#[test]
fn scopes_are_what_they_are_called() {
    for (scope, other) in [("key", "MISS"), ("shared", "HIT")] {
        let backend = Backend::answering(echo);
        let gateway = two_tenants(&backend).cache(&format!("scope = \"{scope}\"")).start();
        gateway.ask(keyed("red-key", &question("shared?"))).expect(200);
        assert_eq!(gateway.ask(keyed("blue-key", &question("shared?"))).expect(200).cache(), other, "{scope}");
    }
}

#[test]
fn a_tenant_sees_and_uses_only_its_models() {
    let backend = Backend::answering(echo);
    let gateway = two_tenants(&backend).start();
    let n = r#"{"model":"n","messages":[{"role":"user","content":"x"}]}"#;
    gateway.ask(keyed("red-key", n)).expect(200);
    let refused = gateway.ask(keyed("blue-key", n)).expect(404);
    let unknown = gateway.ask(keyed("blue-key", r#"{"model":"none"}"#)).expect(404);
    assert_eq!(refused.text(), unknown.text(), "what may not be used does not exist");
    assert_eq!(refused.code(), "model_not_found");
    let list = |key: &str| {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n");
        let value: serde_json::Value = serde_json::from_slice(&gateway.ask(request).expect(200).body).unwrap();
        let ids = value["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("red-key"), ["m", "n"]);
    assert_eq!(list("blue-key"), ["m"]);
    let one = |key: &str| {
        gateway.ask(format!("GET /v1/models/n HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n")).status
    };
    assert_eq!((one("red-key"), one("blue-key")), (200, 404));
}

#[test]
fn credentials_and_connection_fields_stay_here() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with_backend(&backend, "api_key = \"backend-secret\"").tenant("t", "client-key", "").start();
    let fields = "Authorization: Bearer client-key\r\nX-Api-Key: other\r\nCookie: a=b\r\nConnection: x-hop\r\n\
                  X-Hop: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic x\r\nForwarded: for=1.2.3.4\r\n\
                  X-Forwarded-For: 1.2.3.4\r\nAccept-Encoding: gzip\r\nKeep-Alive: 5\r\nTrailer: x\r\n\
                  X-Request-Id: my-id\r\nTraceparent: 00-1-2-01\r\nContent-Type: application/json\r\n";
    let response = gateway.ask(post_with(CHAT, fields, &question("hygiene"))).expect(200);
    assert_eq!(response.field("x-request-id"), Some("my-id"));
    let seen = &backend.requests()[0];
    assert_eq!(seen.field("authorization"), Some("Bearer backend-secret"));
    assert_eq!(seen.field("x-request-id"), Some("my-id"));
    assert_eq!(seen.field("traceparent"), Some("00-1-2-01"));
    assert_eq!(seen.field("host"), Some(backend.address.to_string().as_str()));
    let mut names: Vec<_> = seen.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    names.sort_unstable();
    let known = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "user-agent",
        "x-request-id",
    ];
    assert_eq!(names, known);
    assert!(!seen.head.contains("client-key"));
}

#[test]
fn a_body_goes_upstream_byte_for_byte() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let body = "\t{ \"messages\" : [ {\"content\":\"sp\\u0061ced\", \"role\":\"user\"} ],\r\n  \"model\":\"m\" , \
                \"temperature\": 1.50e0, \"unknown\": {\"x\":[1,2.0,-0.0,1e400]} }  \n";
    gateway.ask(post(CHAT, body)).expect(200);
    assert_eq!(backend.requests()[0].text(), body);
}

#[test]
fn only_the_models_name_is_exchanged() {
    let backend = Backend::answering(echo);
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .model("m", "backends = [{ backend = \"b\", model = \"maker/Other \u{fc}\" }]")
        .start();
    let body = |name: &str| format!("{{ \"messages\":[{{\"content\":\"m\"}}], \"model\" : \"{name}\", \"x\":\"m\" }}");
    gateway.ask(post(CHAT, &body("m"))).expect(200);
    assert_eq!(backend.requests()[0].text(), body("maker/Other \u{fc}"));
}

#[test]
fn usage_is_asked_for_and_hidden() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let hidden = gateway.ask(chat_stream("count me")).expect(200);
    assert_eq!(hidden.text(), stream_seen(&["count me", "!"]));
    let body = streamed_question("count me");
    let expected = format!("{{\"stream_options\":{{\"include_usage\":true}},{}", &body[1..]);
    assert_eq!(backend.requests()[0].text(), expected);
    // A client that asks gets it, of the same stored answer.
    let asked = format!("{},\"stream_options\":{{\"include_usage\":true}}}}", &body[..body.len() - 1]);
    let shown = gateway.ask(post(CHAT, &asked)).expect(200);
    assert_eq!(shown.cache(), "HIT");
    assert_eq!(shown.text(), piece("count me") + &piece("!") + &finish("stop") + &usage() + &done());
}

#[test]
fn usage_is_left_alone_where_the_backend_does_not_know_it() {
    let backend = Backend::answering(|_| stream(&["x"]));
    let gateway = Setup::with_backend(&backend, "include_usage = false").start();
    gateway.ask(chat_stream("plain")).expect(200);
    assert_eq!(backend.requests()[0].text(), streamed_question("plain"));
}

#[test]
fn a_base_path_is_put_in_front() {
    let backend = Backend::answering(echo);
    let address = backend.address;
    let gateway =
        Setup::bare().backend_at("b", &format!("http://{address}/inner/api")).model("m", "backends = [\"b\"]").start();
    gateway.ask(chat("where")).expect(200);
    assert_eq!(backend.requests()[0].line(), "POST /inner/api/v1/chat/completions HTTP/1.1");
}

#[test]
fn a_backend_may_have_the_api_elsewhere() {
    for (api_path, front) in [("/v1beta/openai", "/v1beta/openai"), ("/", ""), ("/v2/", "/v2")] {
        let elsewhere = format!("HTTP/1.1 302 Found\r\nLocation: {front}/files/2?x\r\nContent-Length: 0\r\n\r\n");
        let backend = Backend::answering(move |request| match request.line().contains("/files/") {
            true => elsewhere.clone().into_bytes(),
            false => echo(request),
        });
        let setup = Setup::with_backend(&backend, &format!("api_path = \"{api_path}\""));
        let gateway = setup.server("default_model = \"m\"").start();
        gateway.ask(chat("where")).expect(200);
        let moved = gateway.ask("GET /v1/files/1?y=z HTTP/1.1\r\nHost: h\r\n\r\n").expect(302);
        assert_eq!(moved.field("location"), Some("/v1/files/2?x"), "{api_path}");
        let lines: Vec<_> = backend.requests().iter().map(|request| request.line().to_owned()).collect();
        let wanted = [format!("POST {front}/chat/completions HTTP/1.1"), format!("GET {front}/files/1?y=z HTTP/1.1")];
        assert_eq!(lines, wanted);
    }
}

/// A backend may read what the gateway does not, and find another model there.
#[test]
fn no_body_names_a_model_unseen() {
    let backend = Backend::answering(|_| json("{}"));
    let gateway = two_tenants(&backend).server("default_model = \"m\"").start();
    let named = r#"{"model":"n"}"#;
    let marked = format!("\u{feff}{named}");
    let wide: String = named.chars().flat_map(|message| ['\0', message]).collect();
    for (content_type, body) in [
        ("application/vnd.x+json", marked.as_str()),
        ("text/plain", marked.as_str()),
        ("application/x+json", wide.as_str()),
        ("application/x+json", r#"[{"model":"n"}]"#),
    ] {
        let request = |key: &str| {
            let fields = format!("Authorization: Bearer {key}\r\nContent-Type: {content_type}\r\n");
            post_with("/v1/moderations", &fields, body)
        };
        let refused = gateway.ask(request("blue-key")).expect(400);
        assert_eq!(refused.code(), "bad_field", "{content_type} {body:?}");
        gateway.ask(request("red-key")).expect(200);
    }
    let asked = backend.count();
    let fields = "Authorization: Bearer blue-key\r\nContent-Type: text/plain\r\n";
    gateway.ask(post_with("/v1/moderations", fields, named)).expect(404);
    gateway.ask(post_with("/v1/moderations", fields, r#"{"model":"m"}"#)).expect(200);
    gateway.ask(post_with("/v1/moderations", fields, "")).expect(200);
    assert_eq!(backend.count(), asked + 2);
}

#[test]
fn no_path_has_two_spellings() {
    let backend = Backend::answering(|_| json("{}"));
    let gateway = two_tenants(&backend).server("default_model = \"m\"").start();
    let field = "Authorization: Bearer red-key\r\n";
    for path in ["/v1/%63hat/completions", "/v1/%6Dodels", "/v1/a%30", "/%76%31/files"] {
        let refused = gateway.ask(post_with(path, field, "{}")).expect(400);
        assert!(refused.text().contains("percent-codes"), "{}", refused.text());
    }
    for path in
        ["/v1/files/a%20b", "/v1/files/%C3%BC", "/v1/files?name=%63", "/v1/files/100%", "/v1/files/%2", "/v1/files/%zz"]
    {
        gateway.ask(post_with(path, field, "{}")).expect(200);
    }
}

#[test]
fn a_list_in_several_lines_goes_upstream_whole_and_counts_whole() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let lists = |second: &str| {
        let fields = format!("openai-beta: a\r\ntracestate: x=1\r\nOpenAI-Beta: {second}\r\ntracestate: y=2\r\n");
        post_with(CHAT, &fields, &question("lists"))
    };
    for (second, cache) in [("b", "MISS"), ("c", "MISS"), ("b", "HIT")] {
        assert_eq!(gateway.ask(lists(second)).expect(200).cache(), cache, "{second}");
    }
    let head = &backend.requests()[0].head;
    for line in ["openai-beta: a\r\n", "openai-beta: b\r\n", "tracestate: x=1\r\n", "tracestate: y=2\r\n"] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[test]
fn a_coding_of_the_body_is_refused_or_passed_on_and_never_lost() {
    let backend = Backend::answering(|_| json(&completion("a")));
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let packed = "Content-Type: text/csv\r\nContent-Encoding: gzip\r\n";
    gateway.ask(post_with(CHAT, packed, "packed")).expect(400);
    gateway.ask(post_with(CHAT, "Content-Encoding: compress\r\n", "packed")).expect(415);
    gateway.ask(post_with("/v1/files", packed, "packed")).expect(200);
    assert_eq!(backend.requests()[0].field("content-encoding"), Some("gzip"));
    assert_eq!(backend.count(), 1);
    gateway.ask(post_with(CHAT, "Content-Encoding: identity\r\n", &question("plain"))).expect(200);
}

#[test]
fn what_a_status_depends_on_comes_with_it() {
    let backend = Backend::answering(|request| match request.line().contains("part") {
        true => b"HTTP/1.1 206 X\r\nContent-Range: bytes 0-1/9\r\nETag: \"a\"\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        false => b"HTTP/1.1 405 X\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let gateway = Setup::with(&backend).server("default_model = \"m\"").start();
    let part = gateway.ask("GET /v1/files/part HTTP/1.1\r\nHost: h\r\n\r\n").expect(206);
    assert_eq!((part.field("content-range"), part.field("etag")), (Some("bytes 0-1/9"), Some("\"a\"")));
    let refused = gateway.ask("DELETE /v1/files/x HTTP/1.1\r\nHost: h\r\n\r\n").expect(405);
    assert_eq!(refused.field("allow"), Some("GET"));
}

#[test]
fn a_backend_gets_fields_and_members_of_its_own_and_what_it_lets_through() {
    let backend = Backend::answering(echo);
    let lines = "headers = { X-Team = \"search\", user-agent = \"us/1\" }\n\
                 body = { top_k = 20, options = { think = false, stop = [\"a\"] } }\n\
                 forward_headers = [\"x-user-*\", \"*-key\", \"x-hop\"]";
    let gateway = Setup::with_backend(&backend, lines).start();
    let fields =
        "X-User-Id: 7\r\nX-Other: no\r\nX-Api-Key: secret\r\nCookie: a=b\r\nX-Hop: no\r\nConnection: x-hop\r\n";
    let body = question("a").replace("\"model\"", "\"top_k\":1,\"model\"");
    gateway.ask(post_with(CHAT, fields, &body)).expect(200);
    let request = backend.requests()[0].clone();
    let (head, sent) = (request.head.to_ascii_lowercase(), request.text());
    assert!(head.contains("x-team: search\r\n") && head.contains("user-agent: us/1"), "{head}");
    assert!(head.contains("x-user-id: 7"), "{head}");
    for never in ["x-other", "x-api-key", "cookie", "x-hop", "ringway/"] {
        assert!(!head.contains(never), "{never} in {head}");
    }
    // What the client says itself counts.
    assert_eq!(sent, format!("{{\"options\":{{\"stop\":[\"a\"],\"think\":false}},{}", &body[1..]));
    // Another value is another question.
    let other = fields.replace("Id: 7", "Id: 8");
    assert_eq!(gateway.ask(post_with(CHAT, &other, &body)).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(post_with(CHAT, fields, &body)).expect(200).cache(), "HIT");
}

#[test]
fn a_backend_that_refuses_stream_options_is_asked_without() {
    let backend = Backend::answering(|request| match request.text().contains("stream_options") {
        true => answer(
            400,
            r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error"}}"#,
        ),
        false => stream(&["x"]),
    });
    let gateway = Setup::with_backend(&backend, "").start();
    for what in ["a", "b"] {
        gateway.ask(post(CHAT, &streamed_question(what))).expect(200);
    }
    let asked: Vec<bool> = backend.requests().iter().map(|request| request.text().contains("stream_options")).collect();
    assert_eq!(asked, [true, false, false], "once more, and not again");
}
