//! Bodies that are too large to be worked on, or held, in one piece.

use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use super::kit::*;

const MIB: usize = 1 << 20;

/// A question of about so many bytes, with some of everything that is read in slices.
fn large_question(bytes: usize) -> String {
    let image = "QUJD".repeat(bytes / 8);
    let text = r#"caf\u00e9 \ud83d\ude00 \"quoted\"\n"#.repeat(bytes / 100);
    let numbers = vec!["1.50"; bytes / 40].join(", ");
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{image}"}},{{"role":"user","content":"{text}"}}],"logit_bias":[{numbers}],"seed":1}}"#
    )
}

fn in_chunks(path: &str, fields: &str, body: &[u8], step: usize) -> Vec<u8> {
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{fields}\r\n").into_bytes();
    for part in body.chunks(step) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(LAST_CHUNK.as_bytes());
    bytes
}

#[test]
fn large_bodies_arrive_as_they_were_sent_and_one_connection_carries_many() {
    let backend = Backend::answering(|_| json(&completion("seen")));
    let gateway = Setup::bare()
        .backend("b", &backend, "")
        .model("m", "backends = [{ backend = \"b\", model = \"another-name\" }]")
        .start();
    let mut client = gateway.client();
    let body = large_question(3 * MIB);
    let sent = body.replace(r#""model":"m""#, r#""model":"another-name""#);
    client.send(post(CHAT, &body));
    assert_eq!(client.response().expect(200).cache(), "MISS");
    assert!(backend.requests()[0].body == sent.as_bytes(), "it is not what was sent");
    // Another way to say the same, and another framing.
    let respelled = body.replace(", ", " ,\n\t").replace("1.50", "15e-1").replace("caf\\u00e9", "café");
    client.send(in_chunks(CHAT, "", respelled.as_bytes(), 100_000));
    assert_eq!(client.response().expect(200).cache(), "HIT");
    client.send(post(CHAT, &body.replace(r#""seed":1"#, r#""seed":2"#)));
    assert_eq!(client.response().expect(200).cache(), "MISS");
    client.send(chat("a small one"));
    client.response().expect(200);
    assert_eq!(backend.count(), 3);
}

#[test]
fn what_is_read_in_slices_and_what_is_not_is_one_question() {
    let backend = Backend::answering(|_| json(&completion("once")));
    let gateway = Setup::with(&backend).start();
    let small = large_question(90_000);
    assert!(small.len() < 120_000);
    gateway.ask(post(CHAT, &small)).expect(200);
    let padded = small.replacen(", ", &format!(" ,{}", " ".repeat(60_000)), 3);
    let padded = format!("{}{padded}", "\n".repeat(200_000));
    assert_eq!(gateway.ask(post(CHAT, &padded)).expect(200).cache(), "HIT");
}

#[test]
fn what_is_wrong_in_a_large_body_has_its_place() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    let body = large_question(2 * MIB);
    let broken = body.replace(r#""seed":1}"#, r#""seed":1,"seed":2}"#);
    let at = broken.rfind(r#""seed":2"#).unwrap();
    let refused = gateway.ask(post(CHAT, &broken)).expect(400);
    assert!(refused.text().contains(&format!("duplicate member name at byte {at}")), "{}", refused.text());
    let cut = gateway.ask(post(CHAT, &body[..body.len() - 1])).expect(400);
    assert!(cut.text().contains("unexpected end of input"), "{}", cut.text());
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_small_request_does_not_wait_for_the_end_of_a_large_one() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = order.clone();
    let backend = Backend::run(move |peer| {
        while let Some(first) = peer.some() {
            let head = String::from_utf8_lossy(&first).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            noted.lock().unwrap().push(if length > MIB { "large" } else { "small" });
            let mut left = length + head.find("\r\n\r\n").unwrap() + 4 - first.len();
            while left > 0 {
                left -= peer.some().unwrap().len();
            }
            peer.write(json(&completion("answered")));
        }
    });
    let gateway = Setup::with(&backend).start();
    let body = post(CHAT, &large_question(9 * MIB));
    let (mut large, mut small) = (gateway.client(), gateway.client());
    large.send(&body[..body.len() - 1]);
    // The last byte of the one and all of the other are there when it goes on, in this order.
    gateway.signal(Signal::STOP);
    large.send(&body[body.len() - 1..]);
    small.send(chat("quick"));
    gateway.signal(Signal::CONT);
    small.response().expect(200);
    large.response().expect(200);
    assert_eq!(*order.lock().unwrap(), ["small", "large"]);
}

#[test]
fn a_large_answer_is_kept_and_comes_back_as_it_was() {
    let said = "x".repeat(3 * MIB / 2);
    let body = completion(&said);
    let kept = body.clone();
    let backend = Backend::answering(move |_| json(&kept));
    let gateway = Setup::with(&backend).start();
    assert!(gateway.ask(chat("much")).expect(200).body == body.as_bytes());
    // It is kept once it has been read, which nobody waits for.
    eventually("it is kept", || {
        let again = gateway.ask(chat("much")).expect(200);
        assert!(again.body == body.as_bytes());
        again.cache() == "HIT"
    });
    assert_eq!(backend.count(), 1);
}

const UPLOADS: &str = "/v1/files";
const FORM: &str = "Content-Type: multipart/form-data; boundary=x\r\n";

fn field(name: &str, content: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

fn file(bytes: usize) -> String {
    let head = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    format!("{head}{}\r\n", "0123456789\r\n--y\r\n".repeat(bytes / 17))
}

/// Reads a request whatever its framing, and its body without it.
fn whole_request(peer: &mut Peer) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(peer.some()?);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end + 4].to_vec()).unwrap();
        let mut body = bytes.split_off(end + 4);
        if head.contains("transfer-encoding: chunked") {
            while !body.ends_with(b"\r\n0\r\n\r\n") {
                body.extend(peer.some()?);
            }
            return Some((head, dechunked(&body)));
        }
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
        while body.len() < length {
            body.extend(peer.some()?);
        }
        return Some((head, body));
    }
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}

type Bodies = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

fn taking() -> (Backend, Bodies) {
    let bodies = Bodies::default();
    let seen = bodies.clone();
    let backend = Backend::run(move |peer| {
        while let Some(request) = whole_request(peer) {
            seen.lock().unwrap().push(request);
            peer.write(json("{}"));
        }
    });
    (backend, bodies)
}

#[test]
fn uploads_flow_whatever_their_size() {
    let (backend, bodies) = taking();
    let gateway = Setup::bare()
        .server("body_max = \"1MiB\"")
        .backend("b", &backend, "")
        .model("m", "backends = [{ backend = \"b\", model = \"another-name\" }]")
        .start();
    let form = field("model", "m") + &field("purpose", "batch") + &file(40 * MIB) + "--x--\r\n";
    let sent = form.replacen("m\r\n--x", "another-name\r\n--x", 1);
    let mut client = gateway.client();
    client.send(post_with(UPLOADS, FORM, &form));
    client.response().expect(200);
    let before_kib = gateway.resident_kib();
    for _ in 0..3 {
        client.send(in_chunks(UPLOADS, FORM, form.as_bytes(), 3 * MIB));
        assert_eq!(client.response().expect(200).field("connection"), None, "the connection goes on");
    }
    let grown_kib = gateway.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 8 << 10, "{grown_kib} KiB more for bodies of 40 MiB");
    let bodies = bodies.lock().unwrap();
    assert!(bodies.iter().all(|(_, body)| body == sent.as_bytes()), "it is not what was sent");
    assert!(bodies[0].0.contains(&format!("content-length: {}\r\n", sent.len())));
    assert!(bodies[1].0.contains("transfer-encoding: chunked\r\n"));
    assert_eq!(bodies.len(), 4);
}

#[test]
fn a_backend_that_takes_nothing_holds_the_client_back() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        peer.some();
        let _ = wait.lock().unwrap().recv();
        peer.reset();
    });
    let gateway = Setup::with(&backend).server("body_max = \"1MiB\"\ndefault_model = \"m\"").start();
    let mut client = gateway.client();
    client.guard_writes(std::time::Duration::from_millis(500));
    client.send(format!("PUT {UPLOADS}/a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40));
    let (part, mut taken) = (vec![b'x'; MIB], 0);
    while client.try_send(&part) {
        taken += 1;
        assert!(taken < 64, "somebody holds {taken} MiB");
    }
    drop(release);
}

#[test]
fn the_model_of_a_large_form_has_to_come_before_what_is_not_held() {
    let (backend, bodies) = taking();
    let setup = |server: &str| Setup::with(&backend).server("body_max = \"1MiB\"").server(server).start();
    let late = file(2 * MIB) + &field("model", "m") + "--x--\r\n";
    let ask = |gateway: &Gateway, body: &str| {
        let mut client = gateway.client();
        client.try_send(post_with(UPLOADS, FORM, body));
        client.response()
    };
    assert_eq!(ask(&setup(""), &late).status, 413, "it is not known whose it is");
    let gateway = setup("default_model = \"m\"");
    let refused = ask(&gateway, &late);
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_form"), "{}", refused.text());
    assert!(refused.text().contains("in front of the files"), "{}", refused.text());
    let twice = field("model", "m") + &file(2 * MIB) + &field("model", "m") + "--x--\r\n";
    assert_eq!(ask(&gateway, &twice).code(), "bad_form");
    assert_eq!(ask(&gateway, &(field("model", "m") + &file(2 * MIB))).code(), "bad_form", "it has no end");
    assert_eq!(bodies.lock().unwrap().len(), 0, "none of them looked whole");
    assert_eq!(ask(&gateway, &(file(2 * MIB) + "--x--\r\n")).status, 200);
    // One that fits is held, wherever it says the model.
    assert_eq!(ask(&gateway, &(file(MIB / 2) + &field("model", "m") + "--x--\r\n")).status, 200);
    // JSON is looked into, and has to be here whole.
    let large = post(UPLOADS, &format!("{{\"a\":\"{}\"}}", "x".repeat(2 * MIB)));
    let mut client = gateway.client();
    client.try_send(large);
    assert_eq!(client.response().status, 413);
}

#[test]
fn an_upload_ends_with_either_side() {
    let backend = Backend::run(|peer| {
        let first = peer.some().unwrap();
        if String::from_utf8_lossy(&first).contains("/files/broken") {
            return peer.reset();
        }
        peer.await_close();
    });
    let gateway = Setup::once(&backend).server("body_max = \"1MiB\"\ndefault_model = \"m\"").start();
    let head = |name: &str| format!("PUT {UPLOADS}/{name} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
    let mut client = gateway.client();
    client.send(head("left") + &"x".repeat(2 * MIB));
    eventually("the backend gets it", || backend.connections() == 1);
    client.reset();
    backend.await_left(1);
    let mut client = gateway.client();
    client.send(head("broken"));
    let part = "x".repeat(MIB);
    for _ in 0..99 {
        if !client.try_send(&part) {
            break;
        }
    }
    let response = client.response().expect(502);
    assert_eq!(response.field("connection"), Some("close"));
    client.expect_closed();
}
