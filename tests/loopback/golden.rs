//! Every byte that others see of the gateway, as files in tests/golden/visible. UPDATE=1 rewrites them.

use super::kit::*;

#[path = "../golden/golden.rs"]
mod golden_file;

/// Compares `text` with the file called `name`.
fn golden(name: &str, text: &str) {
    golden_file::check(format!("tests/golden/visible/{name}"), text);
}

/// Values that differ from run to run become `*`.
fn masked(head: &str) -> String {
    let mask = |line: &str| match line.split_once(": ") {
        Some((name @ ("date" | "x-request-id" | "age"), _)) => format!("{name}: *"),
        Some(("cache-status", status)) if status.contains("ttl=") => {
            format!("cache-status: {}ttl=*", status.split("ttl=").next().unwrap())
        }
        _ => line.to_owned(),
    };
    head.lines().map(mask).map(|line| line + "\n").collect()
}

fn shown(title: &str, response: &Response) -> String {
    format!("=== {title}\n{}{}\n", masked(&response.head), String::from_utf8_lossy(&response.body))
}

#[test]
fn errors() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            match request.text() {
                text if text.contains("closes") => return,
                text if text.contains("garbage") => {
                    peer.write("garbage\r\n\r\n");
                    return;
                }
                text if text.contains("stops") => {
                    peer.write(STREAM_HEAD);
                    return;
                }
                text if text.contains("thinks") => return peer.await_close(),
                _ => _ = peer.write(echo(&request)),
            }
        }
    });
    let absent = Backend::absent();
    let gateway = Setup::with_backend(&backend, "timeout_request = \"100ms\"")
        .server("body_max = \"1MiB\"")
        .server("timeout_head = \"100ms\"")
        .server("timeout_body = \"100ms\"")
        .backend("absent", &absent, "")
        .model("gone", "backends = [\"absent\"]")
        .tenant("t", "key", "")
        .start();
    let keyed = |fields: &str, body: &str| post_with(CHAT, &format!("Authorization: Bearer key\r\n{fields}"), body);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key\r\n\r\n").into_bytes();
    let gone = question("x").replace("\"m\"", "\"gone\"");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a malformed head", b"GET / HTTP/1.1\r\nHost : h\r\n\r\n".to_vec()),
        ("a head that is too large", format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000)).into_bytes()),
        ("a version that is not spoken", b"GET / HTTP/3.0\r\nHost: h\r\n\r\n".to_vec()),
        ("a head that does not end", b"GET / HTTP/1.1\r\n".to_vec()),
        ("a body that does not come", keyed("X: y\r\n", "{").split_last().unwrap().1.to_vec()),
        (
            "a malformed chunk",
            format!(
                "POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key\r\nTransfer-Encoding: chunked\r\n\r\nx"
            )
            .into_bytes(),
        ),
        (
            "a body that is too large",
            format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key\r\nContent-Length: 9999999\r\n\r\n")
                .into_bytes(),
        ),
        ("a coding that is not understood", keyed("Content-Encoding: compress\r\n", "{}")),
        ("a body that is not in its coding", keyed("Content-Encoding: gzip\r\n", "{}")),
        ("no JSON", keyed("", "{")),
        ("a duplicate field", keyed("", r#"{"model":"m","model":"m"}"#)),
        ("no model", keyed("", "{}")),
        ("a field of the wrong type", keyed("", r#"{"model":"m","stream":1}"#)),
        ("no key", post(CHAT, "{}")),
        ("an unknown key", post_with(CHAT, "Authorization: Bearer other\r\n", "{}")),
        ("an unknown model", keyed("", r#"{"model":"unknown"}"#)),
        ("an unknown path", get("/nothing")),
        ("a path one slip away", get("/chat/completions")),
        (
            "a WebSocket",
            b"GET /v1/responses HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
        ),
        ("a method that is not there", get("/v1/embeddings")),
        ("another path without a model", get("/v1/files")),
        ("only if cached", keyed("Cache-Control: only-if-cached\r\n", &question("x"))),
        ("a backend that is not there", keyed("", &gone)),
        ("a backend that closes", keyed("", &question("closes"))),
        ("a backend that sends garbage", keyed("", &question("garbage"))),
        ("a backend that stops", keyed("", &streamed_question("stops"))),
        ("a backend that thinks for too long", keyed("", &question("thinks"))),
    ];
    let all: String = cases.iter().map(|(title, request)| shown(title, &gateway.ask(request))).collect();
    golden("errors.txt", &all);
}

#[test]
fn answers() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let mut all = String::new();
    for (title, request) in [
        ("miss", chat("hello")),
        ("hit", chat("hello")),
        ("no-cache", post_with(CHAT, "Cache-Control: no-cache\r\n", &question("hello"))),
        ("no-store", post_with(CHAT, "Cache-Control: no-store\r\n", &question("hello"))),
        ("stream, miss", chat_stream("hello there")),
        ("stream, hit", chat_stream("hello there")),
        ("HTTP/1.0", chat("hello").iter().map(|&byte| byte as char).collect::<String>().replace("/1.1", "/1.0").into()),
        ("health", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("models", b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("one model", b"GET /v1/models/m HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        (
            "models for Anthropic's SDK",
            b"GET /v1/models HTTP/1.1\r\nHost: h\r\nAnthropic-Version: 2023-06-01\r\n\r\n".to_vec(),
        ),
    ] {
        all += &shown(title, &gateway.ask(&request).expect(200));
    }
    golden("answers.txt", &all);
}

#[test]
fn a_stream_that_breaks() {
    let (seen, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        if peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            // Dies once the client has got something: before, it would be told so by an honest status.
            let _ = wait.lock().unwrap().recv();
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut client = gateway.client();
    client.send(chat_stream("x"));
    let mut response = client.head();
    seen.send(()).unwrap();
    client.body(&mut response);
    golden("broken-stream.txt", &shown("a backend that dies", &response));
}

#[test]
fn requests_upstream() {
    let backend = Backend::answering(|request| match request.line().starts_with("POST") {
        true => echo(request),
        false => json("{}"),
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "api_key = \"backend-key\"")
        .model("m", "backends = [{ backend = \"b\", model = \"maker/Model\" }]")
        .server("default_model = \"m\"")
        .start();
    let fields = "Authorization: Bearer client-key\r\nContent-Type: application/json\r\nUser-Agent: client/1\r\n\
                  Accept: */*\r\nX-Request-Id: mine\r\nTraceparent: 00-1-2-01\r\nOpenAI-Beta: x\r\nX-Other: y\r\n";
    gateway.ask(post_with(CHAT, fields, &question("whole"))).expect(200);
    gateway.ask(post_with(CHAT, fields, &streamed_question("stream"))).expect(200);
    gateway.ask("DELETE /v1/files/f?x=y HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    let version = concat!("ringway/", env!("CARGO_PKG_VERSION"));
    let mut all = String::new();
    for (place, request) in backend.requests().iter().enumerate() {
        let head = match place {
            2 => masked(&request.head),
            _ => request.head.replace("\r\n", "\n"),
        };
        all += &format!("{head}{}\n", request.text());
    }
    golden("upstream.txt", &all.replace(&backend.address.to_string(), "BACKEND").replace(version, "ringway/VERSION"));
}

#[test]
fn the_access_log() {
    let backend = Backend::answering(|request| match request.text().contains("refuse") {
        true => answer(429, "{}"),
        false => echo(request),
    });
    let gateway = Setup::with(&backend).log("access = \"$DIRECTORY/access.log\"").tenant("search", "key", "").start();
    let keyed = |fields: &str, body: &str| {
        post_with(CHAT, &format!("Authorization: Bearer key\r\nX-Request-Id: my \"id\"\r\n{fields}"), body)
    };
    gateway.ask(keyed("", &question("x"))).expect(200);
    gateway.ask(keyed("", &question("x"))).expect(200);
    gateway.ask(keyed("", &streamed_question("y"))).expect(200);
    gateway.ask(keyed("Cache-Control: no-store\r\n", &question("refuse"))).expect(429);
    gateway.ask(post_with(CHAT, "X-Request-Id: mine\r\n", "{}")).expect(401);
    gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    gateway.ask("nonsense\r\n\r\n").expect(400);
    gateway.terminate();
    let log = gateway.into_log();
    let masked: String = log.lines().map(|line| masked_line(line) + "\n").collect();
    golden("access-log.txt", &masked);
}

/// Times become 0, and made-up ids `*`; everything stays JSON.
fn masked_line(line: &str) -> String {
    let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect(line);
    value.retain(|name, _| !["queue_us", "connect_us"].contains(&name.as_str()));
    for (name, value) in &mut value {
        match name.as_str() {
            "time" => {
                // As long as it is: 2026-11-29T12:00:00.000Z.
                let time = value.as_str().unwrap();
                assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
                *value = 0.into();
            }
            "total_us" | "first_byte_us" => {
                assert!(value.is_u64(), "{line}");
                *value = 0.into();
            }
            "attempts" => {
                for attempt in value.as_array_mut().unwrap() {
                    attempt["us"] = 0.into();
                }
            }
            "id" if value.as_str().is_some_and(|id| id.len() == 32) => *value = "*".into(),
            _ => {}
        }
    }
    serde_json::to_string(&value).unwrap()
}
