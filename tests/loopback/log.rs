//! The access log: what its lines say of attempts, fallbacks, refusals and traces.

use serde_json::{Value, json};

use super::answers::log_of;
use super::kit::*;

fn logged(setup: Setup) -> Setup {
    setup.log("access = \"$DIRECTORY/access.log\"")
}

/// The attempts of a line without their times.
fn attempts(line: &Value) -> Value {
    let attempts = line["attempts"].as_array().unwrap().iter().map(|attempt| {
        let mut attempt = attempt.clone();
        attempt.as_object_mut().unwrap().remove("us");
        attempt
    });
    attempts.collect()
}

#[test]
fn each_failed_attempt_has_its_cause_and_a_fallback_its_name() {
    let (dead, busy) = (Backend::absent(), Backend::answering(|_| answer(503, "{}")));
    let good = Backend::answering(|_| answer(200, &completion("yes")));
    let gateway = logged(Setup::bare())
        .backend("dead", &dead, "priority = 0")
        .backend("busy", &busy, "priority = 1")
        .backend("good", &good, "")
        .model("m", "backends = [\"dead\", \"busy\"]\nfallback = [\"n\"]\nretries = 1")
        .model("n", "backends = [\"good\"]")
        .start();
    gateway.ask(chat("one")).expect(200);
    gateway.ask(chat("one").replace_model("n")).expect(200);
    let [fallen, plain] = &log_of(gateway)[..] else { panic!() };
    assert_eq!(
        (&fallen["model"], &fallen["served_model"], &fallen["backend"]),
        (&json!("m"), &json!("n"), &json!("good"))
    );
    let attempts = attempts(fallen);
    assert_eq!(attempts[0], json!({"backend": "dead", "result": "connect"}));
    assert_eq!(attempts[1], json!({"backend": "busy", "result": "server_error", "status": 503}));
    assert_eq!(attempts.as_array().unwrap().last(), Some(&json!({"backend": "good", "result": "success"})));
    assert!(fallen["connect_us"].as_u64() > Some(0) && fallen["total_us"].as_u64() >= fallen["connect_us"].as_u64());
    // One that was answered needs no list.
    assert_eq!(
        (&plain["served_model"], &plain["attempts"], &plain["backend"]),
        (&Value::Null, &Value::Null, &json!("good"))
    );
}

trait ReplaceModel {
    fn replace_model(self, name: &str) -> Vec<u8>;
}

impl ReplaceModel for Vec<u8> {
    fn replace_model(self, name: &str) -> Vec<u8> {
        String::from_utf8(self).unwrap().replace("\"model\":\"m\"", &format!("\"model\":\"{name}\"")).into_bytes()
    }
}

#[test]
fn refused_requests_have_their_path_without_its_query() {
    let backend = Backend::answering(|_| answer(200, "{}"));
    let gateway = logged(Setup::with(&backend)).tenant("t", "key-t", "").start();
    gateway.ask("GET /v1/nothing?api_key=secret HTTP/1.1\r\nHost: h\r\n\r\n").expect(401);
    gateway.ask(post_with(CHAT, "Authorization: Bearer wrong\r\n", &question("x"))).expect(401);
    gateway.ask("nonsense\r\n\r\n").expect(400);
    let [path, key, head] = &log_of(gateway)[..] else { panic!() };
    assert_eq!(
        (&path["method"], &path["path"], &path["error"]),
        (&json!("GET"), &json!("/v1/nothing"), &json!("missing_api_key"))
    );
    assert_eq!(
        (&key["method"], &key["path"], &key["error"]),
        (&json!("POST"), &json!(CHAT), &json!("invalid_api_key"))
    );
    assert_eq!((&head["method"], &head["path"], &head["status"]), (&Value::Null, &Value::Null, &json!(400)));
    assert!(!format!("{path}{key}{head}").contains("secret") && path["client"] == "127.0.0.1");
}

#[test]
fn a_line_names_the_trace_recorded_or_not() {
    let backend = Backend::answering(|_| answer(200, &completion("yes")));
    let receiver = Backend::absent();
    let traces = format!("[traces]\nendpoint = \"http://{}\"\nsample_ratio = 0\ntimeout = \"100ms\"", receiver.address);
    let gateway = logged(Setup::with(&backend)).table(&traces).start();
    let field = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
    gateway.ask(post_with(CHAT, field, &question("one"))).expect(200);
    gateway.ask(chat("two")).expect(200);
    let sent = backend.requests()[1].field("traceparent").unwrap()[3..35].to_owned();
    let [continued, begun] = &log_of(gateway)[..] else { panic!() };
    assert_eq!(continued["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(begun["trace_id"], sent.as_str());
}
