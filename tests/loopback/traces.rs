//! Traces: which context a backend is given, which requests are recorded, what their spans say, and that a receiver of spans can
//! do what it wants.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};

use prost::Message;
use ringway::control::traces::proto::{AnyKind, AnyValue, ExportRequest, ProtoSpan};

use super::kit::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A receiver that takes everything, and what it got.
struct Collector {
    backend: Backend,
    spans: Mutex<Receiver<ProtoSpan>>,
}

impl Collector {
    fn start() -> Collector {
        let (send, spans) = channel();
        let send = Mutex::new(send);
        let backend = Backend::answering(move |request| {
            assert!(request.line().starts_with("POST /v1/traces "), "{}", request.line());
            assert_eq!(request.field("content-type"), Some("application/x-protobuf"));
            for of_resource in ExportRequest::decode(&request.body[..]).unwrap().resource_spans {
                let attributes = of_resource.resource.unwrap().attributes;
                assert!(attributes.iter().any(|attribute| attribute.key == "service.name"));
                for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    let _ = send.lock().unwrap().send(span);
                }
            }
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n".to_vec()
        });
        Collector { backend, spans: Mutex::new(spans) }
    }

    fn span(&self) -> ProtoSpan {
        self.spans.lock().unwrap().recv_timeout(GUARD).expect("a span")
    }

    /// So many spans, the servers' last.
    fn take(&self, count: usize) -> Vec<ProtoSpan> {
        let mut spans: Vec<_> = (0..count).map(|_| self.span()).collect();
        spans.sort_by_key(|span| (span.kind == 2, span.start_time_unix_nano));
        spans
    }

    fn table(&self, lines: &str) -> String {
        table(&self.backend, lines)
    }
}

fn table(receiver: &Backend, lines: &str) -> String {
    format!("[traces]\nendpoint = \"http://{}\"\n{lines}", receiver.address)
}

fn attribute(span: &ProtoSpan, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref().unwrap()))
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        AnyKind::Text(text) => text.clone(),
        AnyKind::Flag(flag) => flag.to_string(),
        AnyKind::Number(number) => number.to_string(),
        AnyKind::Real(real) => real.to_string(),
        AnyKind::Array(array) => array.values.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

#[track_caller]
fn says(span: &ProtoSpan, all: &[(&str, &str)]) {
    for (key, value) in all {
        assert_eq!(attribute(span, key).as_deref(), Some(*value), "{key} in {span:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ask(gateway: &Gateway, fields: &str, what: &str) -> Response {
    gateway.ask(post_with(CHAT, fields, &question(what))).expect(200)
}

#[test]
fn requests_on_every_kind_of_connection_have_their_span() {
    let collector = Collector::start();
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).table(&collector.table("sample_ratio = 1.0")).start();
    Http2::connect(gateway.address).ask(chat("on a stream")).expect(200);
    let mut client = gateway.client();
    client.send([chat("in hand"), chat("behind it"), chat("further behind")].concat());
    (0..3).for_each(|_| drop(client.response().expect(200)));
    let spans = collector.take(8);
    let versions: Vec<_> = spans[4..].iter().map(|span| attribute(span, "network.protocol.version").unwrap()).collect();
    assert_eq!(versions, ["2", "1.1", "1.1", "1.1"]);
}

#[test]
fn a_trace_is_continued_from_the_client_through_the_attempt_to_the_backend() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).table(&collector.table("")).start();
    let fields = format!("traceparent: {PARENT}\r\ntracestate: a=1\r\ntracestate: b=2\r\nx-request-id: mine\r\n");
    ask(&gateway, &fields, "first");
    let [attempt, exchange] = &collector.take(2)[..] else { panic!() };
    let upstream = &backend.requests()[0];
    // One trace, and each span is the child of the one before it.
    let field = format!("00-{}-{}-01", hex(&attempt.trace_id), hex(&attempt.span_id));
    assert_eq!(upstream.field("traceparent"), Some(&*field));
    assert_eq!(hex(&exchange.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&exchange.parent_span_id), "b7ad6b7169203331");
    assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&exchange.trace_id, &exchange.span_id));
    assert_eq!((&*exchange.trace_state, &*attempt.trace_state), ("a=1,b=2", "a=1,b=2"));
    assert!(upstream.head.to_lowercase().contains("tracestate: a=1\r\ntracestate: b=2\r\n"), "{}", upstream.head);
    assert_eq!((&*exchange.name, exchange.kind), ("POST /v1/chat/completions", 2));
    assert_eq!((&*attempt.name, attempt.kind), ("chat m", 3));
    assert_eq!((exchange.flags, attempt.flags), (0x301, 0x101), "sampled; the first has its parent elsewhere");
    assert!(exchange.start_time_unix_nano <= attempt.start_time_unix_nano);
    assert!(attempt.end_time_unix_nano >= attempt.start_time_unix_nano);
    says(exchange, &[("http.request.method", "POST"), ("url.path", CHAT), ("http.response.status_code", "200")]);
    says(exchange, &[("ringway.request_id", "mine"), ("ringway.cache", "miss"), ("ringway.attempts", "1")]);
    says(exchange, &[("client.address", "127.0.0.1"), ("network.protocol.version", "1.1")]);
    let port = backend.address.port().to_string();
    says(attempt, &[("server.address", "127.0.0.1"), ("server.port", &port), ("ringway.backend", "b")]);
    for span in [exchange, attempt] {
        says(span, &[("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai")]);
        says(span, &[("gen_ai.request.model", "m"), ("gen_ai.request.stream", "false")]);
        says(span, &[("gen_ai.usage.input_tokens", "3"), ("gen_ai.usage.output_tokens", "2")]);
        says(span, &[("gen_ai.response.id", "c1"), ("gen_ai.response.finish_reasons", "stop")]);
        says(span, &[("gen_ai.response.model", "m")]);
        assert_eq!((span.status.as_ref(), attribute(span, "error.type")), (None, None));
    }
    // A hit has a span and no attempt.
    ask(&gateway, &fields, "first");
    let hit = collector.span();
    says(&hit, &[("ringway.cache", "hit"), ("gen_ai.usage.output_tokens", "2"), ("gen_ai.response.id", "c1")]);
    assert!(hit.links.is_empty(), "{hit:?}");
}

#[test]
fn who_follows_is_linked_to_the_span_of_who_leads() {
    let collector = Collector::start();
    let over = Arc::new(Barrier::new(2));
    let told = over.clone();
    let backend = Backend::run(move |peer| {
        while peer.request().is_some() {
            peer.write(STREAM_HEAD.to_owned() + &chunk(&piece("begun")));
            told.wait();
            peer.write(chunk(&finish("length")) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).table(&collector.table("")).cores(2).start();
    let begin = |sampled: &str| {
        let mut client = gateway.client();
        let parent = format!("traceparent: {}{sampled}\r\n", PARENT.trim_end_matches("01"));
        client.send(post_with(CHAT, &parent, &streamed_question("together")));
        let mut response = client.head();
        response.body.extend(client.chunk().unwrap());
        client
    };
    let mut clients = vec![begin("01")];
    // Some on the leader's core, some on the other; one that nobody records.
    clients.extend((0..8).map(|_| begin("01")));
    clients.push(begin("00"));
    over.wait();
    clients.iter_mut().for_each(|client| while !client.chunk().unwrap().is_empty() {});
    let spans = collector.take(1 + 9);
    let [attempt, exchanges @ ..] = &spans[..] else { panic!() };
    let leader = exchanges.iter().find(|span| span.span_id == attempt.parent_span_id).expect("the leader");
    assert!(leader.links.is_empty());
    for follower in exchanges.iter().filter(|span| span.span_id != leader.span_id) {
        says(follower, &[("ringway.cache", "joined")]);
        let [link] = &follower.links[..] else { panic!("{follower:?}") };
        assert_eq!((&link.trace_id, &link.span_id, link.flags), (&leader.trace_id, &leader.span_id, 0x101));
    }
    for span in &spans {
        says(span, &[("gen_ai.response.id", "c1"), ("gen_ai.response.finish_reasons", "length")]);
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_trace_is_begun_where_there_is_none_or_none_that_can_be_read() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).table(&collector.table("sample_ratio = 1")).start();
    let twice = format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n");
    let garbage = format!("traceparent: {}\r\ntracestate: a=1\r\n", PARENT.replace("-01", "-0"));
    for (number, fields) in ["", &*twice, &*garbage].into_iter().enumerate() {
        ask(&gateway, fields, &number.to_string());
        let [attempt, exchange] = &collector.take(2)[..] else { panic!() };
        assert!(exchange.parent_span_id.is_empty() && exchange.trace_id.len() == 16 && exchange.span_id.len() == 8);
        assert!(exchange.trace_id.iter().any(|byte| *byte != 0) && exchange.span_id.iter().any(|byte| *byte != 0));
        assert_ne!(hex(&exchange.trace_id), "0af7651916cd43dd8448eb211c80319c");
        let upstream = &backend.requests()[number];
        // Its random bits are said to be random (Level 2), and nothing is said of a trace that ends here.
        let field = format!("00-{}-{}-03", hex(&exchange.trace_id), hex(&attempt.span_id));
        assert_eq!((upstream.field("traceparent"), upstream.field("tracestate")), (Some(&*field), None));
    }
}

#[test]
fn who_is_recorded_is_decided_by_the_caller_and_else_by_the_ratio() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let base = || Setup::with(&backend).admin("listen = \"127.0.0.1:0\"");
    let gateway = base().table(&collector.table("sample_ratio = 0.0")).start();
    // Neither of these; the backend is told that nobody records them, under an id of this gateway's.
    ask(&gateway, "", "one");
    ask(&gateway, &format!("traceparent: {UNSAMPLED}\r\n"), "two");
    let fields: Vec<String> =
        backend.requests().iter().map(|request| request.field("traceparent").unwrap().to_owned()).collect();
    assert!(fields[0].ends_with("-02") && fields[1].starts_with(&UNSAMPLED[..36]) && fields[1].ends_with("-00"));
    assert_ne!(fields[1], UNSAMPLED);
    ask(&gateway, &format!("traceparent: {PARENT}\r\n"), "three");
    let spans = collector.take(2);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c"));
    says(&spans[1], &[("ringway.cache", "miss")]);
    drop(gateway);
    // Strangers decide nothing.
    let gateway = base().table(&collector.table("sample_ratio = 1.0\ntrust_parent = false")).start();
    ask(&gateway, &format!("traceparent: {UNSAMPLED}\r\n"), "four");
    assert!(collector.take(2).iter().all(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c"));
    drop(gateway);
    let gateway = base().table(&collector.table("sample_ratio = 0\ntrust_parent = false")).start();
    ask(&gateway, &format!("traceparent: {PARENT}\r\n"), "five");
    gateway.terminate();
    assert!(gateway.ended().0.success());
    assert!(collector.spans.lock().unwrap().try_recv().is_err(), "nothing is recorded");
}

#[test]
fn without_a_receiver_the_context_is_passed_on_as_it_came() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).start();
    ask(&gateway, &format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n"), "one");
    ask(&gateway, "", "two");
    let [one, two] = &backend.requests()[..] else { panic!() };
    assert_eq!((one.field("traceparent"), one.field("tracestate")), (Some(PARENT), Some("a=1")));
    assert_eq!(two.field("traceparent"), None);
}

#[test]
fn each_attempt_has_a_span_with_its_own_end() {
    let collector = Collector::start();
    let (dead, busy) = (Backend::absent(), Backend::answering(|_| answer(503, "{}")));
    let good = Backend::run(|peer| {
        while peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&[piece("one"), finish("stop"), usage(), event("[DONE]")].concat()));
            peer.write(LAST_CHUNK);
        }
    });
    let gateway = Setup::bare()
        .backend("dead", &dead, "priority = 0")
        .backend("busy", &busy, "priority = 1")
        .backend("good", &good, "priority = 2")
        .model("m", "backends = [\"dead\", \"busy\", { backend = \"good\", model = \"theirs\" }]")
        .table(&collector.table("sample_ratio = 1"))
        .start();
    gateway.ask(chat_stream("what")).expect(200);
    let [dead, busy, good, exchange] = &collector.take(4)[..] else { panic!() };
    says(dead, &[("ringway.backend", "dead"), ("error.type", "connect")]);
    says(busy, &[("ringway.backend", "busy"), ("error.type", "server_error"), ("http.response.status_code", "503")]);
    says(busy, &[("http.request.resend_count", "1")]);
    says(good, &[("ringway.backend", "good"), ("gen_ai.request.model", "theirs"), ("http.request.resend_count", "2")]);
    says(good, &[("gen_ai.usage.input_tokens", "3"), ("gen_ai.request.stream", "true")]);
    assert!(attribute(good, "gen_ai.response.time_to_first_chunk").is_some());
    says(exchange, &[("ringway.attempts", "3"), ("gen_ai.request.model", "m"), ("ringway.backend", "good")]);
    let failed = |span: &ProtoSpan| span.status.as_ref().is_some_and(|status| status.code == 2);
    assert_eq!([dead, busy, good, exchange].map(failed), [true, true, false, false]);
}

#[test]
fn refused_requests_are_spans_too_and_probes_are_none() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).tenant("t", "key-t", "").table(&collector.table("sample_ratio = 1")).start();
    gateway.ask("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    gateway.ask("GET /v1/nothing?key=secret HTTP/1.1\r\nHost: h\r\n\r\n").expect(401);
    let span = collector.span();
    assert_eq!((&*span.name, span.status.as_ref()), ("GET", None), "the fault is the client's");
    says(
        &span,
        &[("url.path", "/v1/nothing"), ("error.type", "missing_api_key"), ("http.response.status_code", "401")],
    );
}

#[test]
fn a_receiver_that_fails_harms_no_request_and_is_counted() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let garbage = Backend::run(|peer| {
        peer.request();
        peer.write("\x00\x01garbage");
    });
    let slow = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let refusing = Backend::answering(|_| answer(400, "{}"));
    let receivers = [("dead", Backend::absent()), ("garbage", garbage), ("slow", slow), ("refusing", refusing)];
    for (name, receiver) in receivers {
        let gateway = Setup::with(&backend)
            .admin("listen = \"127.0.0.1:0\"")
            .table(&table(&receiver, "sample_ratio = 1\ntimeout = \"500ms\""))
            .start();
        for number in 0..5 {
            ask(&gateway, "", &format!("{name} {number}"));
        }
        if name == "refusing" {
            // At once: it would refuse them again.
            eventually("dropped spans are counted", || {
                let text = Client::connect(gateway.admin.unwrap());
                dropped(text, "failed") >= 1
            });
        }
        gateway.terminate();
        let (status, said) = gateway.ended();
        assert!(status.success(), "{name}: {said}");
        assert_eq!(said.matches("traces: ").count(), 1, "told once: {said}");
    }
}

fn dropped(mut admin: Client, reason: &str) -> u64 {
    admin.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let sample = format!("ringway_spans_dropped_total{{reason=\"{reason}\"}} ");
    let text = admin.response().expect(200);
    text.text().lines().find_map(|line| line.strip_prefix(&*sample)?.parse().ok()).expect(&sample)
}

#[test]
fn a_stop_sends_what_waits() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = Setup::with(&backend).cores(2).table(&collector.table("sample_ratio = 1")).start();
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(chat(&format!("{number}")));
        client.response().expect(200);
    }
    drop(clients);
    gateway.terminate();
    assert!(gateway.ended().0.success());
    assert_eq!(collector.take(16).iter().filter(|span| span.kind == 2).count(), 8);
}

#[test]
fn a_reload_switches_them_on_and_off() {
    let collector = Arc::new(Collector::start());
    let backend = Backend::answering(|_| json(&completion("yes")));
    let base = || {
        let by_hand = "[config]\nwatch = false\nrefresh = \"0s\"";
        Setup::with(&backend).admin("listen = \"127.0.0.1:0\"").table(by_hand)
    };
    let gateway = base().start();
    let reload = || {
        let mut admin = Client::connect(gateway.admin.unwrap());
        admin.send("POST /v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n");
        admin.response().expect(200);
    };
    ask(&gateway, &format!("traceparent: {PARENT}\r\n"), "one");
    gateway.rewrite(base().table(&collector.table("sample_ratio = 1")));
    reload();
    ask(&gateway, "", "two");
    assert_eq!(collector.take(2).len(), 2);
    gateway.rewrite(base());
    reload();
    ask(&gateway, &format!("traceparent: {PARENT}\r\n"), "three");
    assert_eq!(backend.requests()[2].field("traceparent"), Some(PARENT));
    drop(gateway);
    assert!(collector.spans.lock().unwrap().try_recv().is_err());
}
