//! Methods and paths against routes and refusals.

use super::*;
use crate::wire::http1::parse_request;

fn routed(method: &str, path: &str, fields: &str) -> Result<Route, Failure> {
    let bytes = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let mut head = RequestHead::default();
    parse_request(bytes.as_bytes(), &mut head).expect("a good head");
    route(&["/tokenize".to_owned(), "/a.b/c".to_owned()], &head, bytes.as_bytes())
}

fn refused(path: &str) -> Option<u16> {
    routed("GET", path, "").err().map(|failure| failure.public().status)
}

#[test]
fn each_path_has_its_methods() {
    let table: &[(&str, &str, &str)] = &[
        ("/v1/chat/completions", "POST", "GET HEAD"),
        ("/v1/completions", "POST", ""),
        ("/v1/embeddings", "POST", ""),
        ("/v1/models", "GET HEAD", ""),
        ("/v1/models/org%2Fname", "GET HEAD", "DELETE"),
        ("/healthz", "GET HEAD", ""),
        ("/v1/chat/completions/id", "", "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE"),
        ("/v1/responses", "POST", "GET HEAD PUT PATCH DELETE OPTIONS PURGE"),
        ("/v1/responses/id", "", "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE"),
        ("/v1/anything/else", "", "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE"),
        ("/tokenize", "", "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE"),
        ("/a.b/c?d=..", "", "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE"),
    ];
    for (path, own, passed) in table {
        for method in "GET HEAD POST PUT PATCH DELETE OPTIONS PURGE TRACE".split(' ') {
            let is_in = |list: &str| list.split(' ').any(|one| one == method);
            let is_other = |route: Route| route.endpoint == Endpoint::Other && route.answerer == Answerer::Backend;
            match routed(method, path, "") {
                Ok(route) if is_other(route) => assert!(is_in(passed), "{method} {path}"),
                Ok(_) => assert!(is_in(own), "{method} {path}"),
                Err(Failure::WrongMethod { allow }) => {
                    assert!(!is_in(own) && !is_in(passed), "{method} {path}");
                    let allowed = |one: &str| allow.split(", ").any(|other| other == one);
                    let mut all = own.split(' ').chain(passed.split(' ')).filter(|one| !matches!(*one, "" | "PURGE"));
                    assert!(all.all(allowed), "{method} {path}: {allow}");
                }
                Err(other) => panic!("{method} {path}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_model_is_looked_for_where_the_api_has_it() {
    let place = |method: &str, path: &str| routed(method, path, "").unwrap().model;
    assert_eq!(place("POST", "/v1/embeddings"), ModelPlace::Body);
    assert_eq!(place("GET", "/v1/chat/completions?model=x"), ModelPlace::BodyOrDefault);
    assert_eq!(place("GET", "/v1/realtime?model=x"), ModelPlace::QueryOrBody);
    assert_eq!(place("POST", "/v1/realtime/calls"), ModelPlace::QueryOrBody);
    assert_eq!(place("GET", "/v1/realtime-calls"), ModelPlace::BodyOrDefault);
    assert_eq!(place("DELETE", "/v1/models/m"), ModelPlace::Path);
}

#[test]
fn what_could_be_a_climb_is_refused() {
    for path in [
        "/v1/../admin",
        "/v1/./x",
        "/v1/x/..",
        "/v1/models/../../admin",
        "/v1/x%2f..%2f..%2fadmin",
        "/v1/x%2F%2e%2e%2Fadmin",
        "/v1/x%5c..%5Cadmin",
        "/v1/%2E%2e/admin",
        "/v1/.%2e/admin",
        "/v1/%252e%252E%252fadmin",
        "/v1/x%25252f..%25252fadmin",
        "/v1/%2525252525252e%2e/x",
        "/v1/..;a=b/admin",
        "/v1/..%3b/admin",
        "/v1/..%3f/admin",
        "/v1/..%23x",
        "/v1/..%20/admin",
        "/v1/..%00/admin",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/x%e0%80%af../admin",
        "/v1/%c0%af..",
        "/v1/x%0d%0ay",
        "/v1/x%ff",
        "/a.b/../tokenize",
        "/healthz/..",
    ] {
        assert_eq!(refused(path), Some(400), "{path}");
    }
    for path in [
        "/v1/files/a.b",
        "/v1/files/...",
        "/v1/files/..a",
        "/v1/files/a..",
        "/v1/files/.hidden",
        "/v1/files/a%2Fb",
        "/v1/files/a%20b%C3%BC",
        "/v1/files/100%",
        "/v1/files/100%25",
        "/v1/files/%2",
        "/v1/files/%zz",
        "/v1/files?name=../%2e%2e/%63",
        "/v1/models/org%2Fname.v1",
    ] {
        assert_eq!(refused(path), None, "{path}");
    }
}

#[test]
fn no_path_has_two_spellings() {
    for path in ["/v1/%63hat/completions", "/v1/%6Dodels", "/v1/a%30", "/%76%31/files", "/v1/%2563hat/completions"] {
        let failure = routed("POST", path, "").unwrap_err();
        assert!(failure.public().message.contains("percent-codes of letters or digits"), "{path} {failure:?}");
    }
    assert_eq!(refused("/v1/chat%2Fcompletions"), Some(404));
    assert_eq!(refused("/v1/chat%2Fcompletions/id"), Some(404));
}

#[test]
fn a_path_one_slip_away_is_told_the_right_one() {
    for (path, right) in [
        ("/chat/completions", "/v1/chat/completions"),
        ("/chat/completions?x=/", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat//completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/v1/files/id", "/v1/files"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/chat/completionss", "/v1/chat/completions"),
        ("/v1/caht/completions", "/v1/chat/completions"),
        ("/v1/char/completions", "/v1/chat/completions"),
        ("/chat/completion", "/v1/chat/completions"),
        ("/v1/Chat/Completions", "/v1/chat/completions"),
        ("/V1/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/m", "/v1/models"),
        ("/v1/model", "/v1/models"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1/response", "/v1/responses"),
        ("/messages", "/v1/messages"),
        ("/files/id/content", "/v1/files"),
        ("/v1/audio/transcription", "/v1/audio/transcriptions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "/v1/chat/completions"),
        ("/openai/deployments/ada/embeddings", "/v1/embeddings"),
        ("/anthropic/v1/messages", "/v1/messages"),
    ] {
        assert_eq!(routed("POST", path, ""), Err(Failure::UnknownPath { near: Some(right) }), "{path}");
    }
    for path in ["/", "/nothing", "/v1", "/v1/", "/v1/v1/nothing", "/api/v1/nothing", "/tokenize/", "/tokenized"] {
        assert_eq!(routed("POST", path, ""), Err(Failure::UnknownPath { near: None }), "{path}");
    }
    for path in ["/v1/chat/completions/id/", "/v1/files//id", "/v1/custom/", "/v1/custom/path", "/v1/images/edits"] {
        assert!(routed("POST", path, "").is_ok(), "{path}");
    }
}

#[test]
fn a_websocket_is_refused_and_other_upgrades_are_ignored() {
    let upgrade = |method: &str, path: &str, value: &str| {
        routed(method, path, &format!("Connection: Upgrade\r\nUpgrade: {value}\r\n")).err()
    };
    for value in ["websocket", "WebSocket", "h2c, websocket"] {
        for path in ["/v1/responses", "/v1/realtime/calls?model=m", "/v1/chat/completions", "/v1/models"] {
            assert_eq!(upgrade("GET", path, value), Some(Failure::NoUpgrade), "{path} {value}");
        }
        let fields = format!("Connection: Upgrade\r\nUpgrade: {value}\r\n");
        let route = routed("GET", "/v1/realtime?model=m", &fields).unwrap();
        assert_eq!((route.answerer, route.model), (Answerer::WebSocket, ModelPlace::QueryOrBody));
    }
    assert_eq!(routed("GET", "/v1/realtime?model=m", "").unwrap().answerer, Answerer::Backend);
    assert_eq!(upgrade("GET", "/v1/responses", "h2c"), None);
    assert_eq!(upgrade("POST", "/v1/responses", "websocket"), None);
    assert_eq!(upgrade("GET", "/healthz", "websocket"), None);
    assert_eq!(upgrade("GET", "/nothing", "websocket"), Some(Failure::UnknownPath { near: None }));
}
