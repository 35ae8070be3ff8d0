//! Backends of a story that speak HTTP/2, with what only they can do wrong: goodbyes, refusals, resets of one stream,
//! narrow windows, limits that sink, connections cut at any byte. One task a connection and one a request.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use ringway::net::sim::{Place, between, spawn_at};
use ringway::net::{Socket, sleep_ms};

use crate::backend::{Act, FaultProfile, Frame, When, choose, error_body, false_ok, role_event};
use crate::frames::{Cut, Transport, Wire};
use crate::ledger::{Ledger, Worth};
use crate::message::{AT_ONCE, Pace};
use crate::prompt::{Form, events, read_request, whole_answer, words};
use crate::scenario::{chance, pick};

/// What becomes of a connection, chosen when it comes.
#[derive(Clone, Copy, Debug)]
struct Reachability {
    streams: u32,
    window_bytes: u32,
    connection_window_bytes: u32,
    pace: Pace,
    /// Another limit of streams, so many requests later.
    limit: Option<(u64, u32)>,
    goodbye: Option<(u64, Goodbye)>,
    cut_after: Option<(usize, Cut)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// A warning first; every request that came is answered (RFC 9113 6.8).
    Graceful,
    /// With the number of a stream below some of those that run.
    Refusing,
}

impl Reachability {
    fn choose(fault_profile: FaultProfile) -> Reachability {
        let fails = fault_profile.faults_percent > 0;
        let connection_window_bytes = pick(&[64 << 10, 64 << 10, 1 << 20]);
        let goodbye = if chance(40) {
            Some((between(1, 5), if fails { pick(&[Goodbye::Graceful, Goodbye::Refusing]) } else { Goodbye::Graceful }))
        } else {
            None
        };
        Reachability {
            streams: pick(&[1, 2, 3, 100, 100]).min(fault_profile.streams_max),
            window_bytes: pick(&[1, 7, 64 << 10, 64 << 10]).max(fault_profile.window_bytes),
            connection_window_bytes,
            pace: pick(&[AT_ONCE, AT_ONCE, Pace { bytes: 100, rest_ms: 1 }, Pace { bytes: 1000, rest_ms: 20 }]),
            limit: if let Some(limit) = fault_profile.streams_later {
                Some((1, limit))
            } else if chance(30) {
                Some((between(1, 5), pick(&[0, 1, 2, 5])))
            } else {
                None
            },
            goodbye,
            cut_after: (fails && chance(20))
                .then(|| (between(1, pick(&[200, 2000, 20_000])) as usize, pick(&[Cut::Close, Cut::Reset]))),
        }
    }
}

/// Serves one connection to its end.
pub async fn serve(socket: Socket, ledger: Ledger, shared: Rc<Cell<FaultProfile>>, measure: u64) {
    let reachability = Reachability::choose(shared.get().measured(measure));
    let wire = Rc::new(Wire::default());
    let transport = Transport::new(socket, wire.clone(), reachability.pace, reachability.cut_after, shared.clone());
    let opened = h2::server::Builder::new()
        .max_concurrent_streams(reachability.streams)
        .initial_window_size(reachability.window_bytes)
        .initial_connection_window_size(reachability.connection_window_bytes)
        .handshake::<_, Bytes>(transport)
        .await;
    let Ok(mut connection) = opened else { return };
    let mut count = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        count += 1;
        let host = Host { ledger: ledger.clone(), wire: wire.clone(), shared: shared.clone(), measure };
        spawn_at(Place::Outside, host.clone().take(request, respond));
        if let Some((at, limit)) = reachability.limit
            && at == count
        {
            spawn_at(Place::Outside, host.clone().change_limit(limit.min(reachability.streams), reachability.streams));
        }
        match reachability.goodbye {
            Some((at, Goodbye::Graceful)) if at == count => connection.graceful_shutdown(),
            Some((at, Goodbye::Refusing)) if at == count => {
                spawn_at(Place::Outside, host.refuse_younger());
            }
            _ => {}
        }
    }
}

/// Whoever acts for a backend on one connection.
#[derive(Clone)]
struct Host {
    ledger: Ledger,
    wire: Rc<Wire>,
    shared: Rc<Cell<FaultProfile>>,
    measure: u64,
}

impl Host {
    fn fault_profile(&self) -> FaultProfile {
        self.shared.get().measured(self.measure)
    }

    /// Lowers the limit of streams. One of none is raised again: it would be as good as a refused connection.
    async fn change_limit(self, limit: u32, usual: u32) {
        sleep_ms(between(0, 50)).await;
        self.wire.set_limit(limit);
        if limit == 0 {
            sleep_ms(between(1, 300)).await;
            self.wire.set_limit(usual);
        }
    }

    async fn refuse_younger(self) {
        sleep_ms(between(0, 50)).await;
        // Best where there is something to refuse.
        for _ in 0..100 {
            if self.wire.owes_answers() {
                break;
            }
            sleep_ms(5).await;
        }
        if self.fault_profile().faults_percent > 0 {
            self.wire.refuse_younger(between).into_iter().for_each(|call| self.ledger.refuse(call));
        }
    }

    async fn take(self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/chat/completions"));
        assert!(head.uri.authority().is_some() && !head.headers.contains_key("authorization"), "{head:?}");
        let id = head.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let id = id.expect("the request id goes upstream").to_owned();
        let mut content = Vec::new();
        let hurried = chance(50);
        while let Some(part) = body.data().await {
            let Ok(part) = part else { return }; // the gateway gave up while it sent
            content.extend_from_slice(&part);
            if !hurried && content.len() > 64 {
                sleep_ms(between(0, 2)).await;
            }
            let _ = body.flow_control().release_capacity(part.len());
        }
        let length = head.headers.get("content-length").and_then(|length| length.to_str().ok());
        assert_eq!(length.and_then(|length| length.parse().ok()), Some(content.len()), "the whole body came");
        let (number, form) = read_request(&content);
        let act = choose(self.fault_profile(), form);
        let credential = head.headers.get("x-api-key").and_then(|key| key.to_str().ok());
        let call = self.ledger.call(number, &id, credential, format!("HTTP/2 {act:?} {form:?}"), None);
        let stream = body.stream_id().as_u32();
        if self.wire.is_refused(stream) {
            self.ledger.refuse(call);
        } else {
            self.wire.asked(stream, call);
            let rest_ms = self.fault_profile().rest_ms;
            let answer = Answer { host: &self, stream, call, number, form, rest_ms };
            answer.perform(act, respond).await;
            self.wire.answered(stream);
        }
        self.ledger.over(call);
    }
}

struct Answer<'a> {
    host: &'a Host,
    stream: u32,
    call: usize,
    number: u64,
    form: Form,
    rest_ms: u64,
}

impl Answer<'_> {
    /// None: the gateway is gone, or the stream was refused.
    async fn perform(&self, act: Act, mut respond: SendResponse<Bytes>) -> Option<()> {
        self.rest().await;
        match act {
            Act::Answer { frame, .. } => self.answer(&mut respond, frame, usize::MAX, "stop", Worth::Whole).await,
            Act::Twice { .. } => self.answer(&mut respond, Frame::Length, usize::MAX, "stop", Worth::Whole).await,
            Act::Short { frame } => self.answer(&mut respond, frame, 2, "length", Worth::Short).await,
            Act::Status(status) => self.refuse(&mut respond, status, None).await,
            Act::Busy(status, seconds) => self.refuse(&mut respond, status, Some(seconds)).await,
            Act::NoJson => {
                self.rate(Worth::Broken);
                let body = format!("\"id\":\"call-{}\" oh dear", self.call);
                let mut sending = self.begin(&mut respond, 200, Some(body.len()), None)?;
                self.send(&mut sending, body.into_bytes(), true).await
            }
            Act::NoDone => {
                let mut sending = self.begin(&mut respond, 200, None, None)?;
                self.rate(Worth::Whole);
                self.send(&mut sending, self.body(), true).await
            }
            Act::FalseOk => {
                self.rate(Worth::Error);
                let body = false_ok(self.call, self.form);
                let mut sending = self.begin(&mut respond, 200, Some(body.len()), None)?;
                self.send(&mut sending, body, true).await
            }
            Act::FirstError | Act::RoleAlone | Act::ErrorEvent => {
                let mut sending = self.begin(&mut respond, 200, None, None)?;
                let role = act == Act::RoleAlone || between(0, 1) == 0;
                let before = match act {
                    Act::ErrorEvent => self.events(2, "stop").into_iter().take(2).collect(),
                    _ if role => vec![role_event(self.call)],
                    _ => Vec::new(),
                };
                for event in before {
                    self.send(&mut sending, event, false).await?;
                    self.rest().await;
                }
                if act == Act::RoleAlone {
                    return self.reset(&mut sending).await;
                }
                let error = b"data: {\"error\":{\"message\":\"no\",\"code\":\"overloaded\"}}\n\n";
                self.send(&mut sending, error.to_vec(), true).await
            }
            Act::LongLength | Act::ShortLength => {
                let body = self.body();
                let said = if act == Act::LongLength { body.len() + 10 } else { body.len() - 10 };
                if act == Act::ShortLength {
                    self.rate(Worth::Broken);
                }
                let mut sending = self.begin(&mut respond, 200, Some(said), None)?;
                self.send(&mut sending, body, true).await
            }
            Act::Hang(when) | Act::Leave(when) | Act::Reset(when) | Act::Garbage(when) => {
                self.break_off(act, when, &mut respond).await
            }
        }
    }

    async fn break_off(&self, act: Act, when: When, respond: &mut SendResponse<Bytes>) -> Option<()> {
        let mut sending = match when {
            When::AtAccept | When::NoHead | When::InHead => None,
            When::AfterHead => Some(self.begin(respond, 200, None, None)?),
            When::InBody => {
                let mut sending = self.begin(respond, 200, None, None)?;
                let body = self.body();
                let part = body[..between(1, body.len() as u64 - 1) as usize].to_vec();
                self.send(&mut sending, part, false).await?;
                self.rest().await;
                Some(sending)
            }
        };
        // What it was to do to the whole connection comes too late where nothing fails any more.
        let act = match act {
            Act::Reset(_) | Act::Garbage(_) if self.host.fault_profile().faults_percent == 0 => Act::Leave(when),
            act => act,
        };
        match (act, &mut sending) {
            (Act::Hang(_), None) => drop(poll_fn(|context| respond.poll_reset(context)).await),
            (Act::Hang(_), Some(sending)) => drop(poll_fn(|context| sending.poll_reset(context)).await),
            (Act::Reset(_), _) => self.host.wire.cut(pick(&[Cut::Close, Cut::Reset])),
            (Act::Garbage(_), _) => self.host.wire.slip_in_garbage(),
            (_, Some(sending)) => return self.reset(sending).await,
            (_, None) => {
                self.check_refused()?;
                let refused = Reason::REFUSED_STREAM;
                let reason = pick(&[refused, refused, Reason::INTERNAL_ERROR, Reason::CANCEL]);
                if reason == Reason::REFUSED_STREAM {
                    self.host.ledger.refuse(self.call);
                }
                respond.send_reset(reason);
            }
        }
        Some(())
    }

    /// Gives up a stream whose answer has begun: after that even a refusal is none (RFC 9113 8.7).
    async fn reset(&self, sending: &mut SendStream<Bytes>) -> Option<()> {
        sleep_ms(pick(&[0, 0, 20, 100])).await;
        let reason = pick(&[Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::REFUSED_STREAM, Reason::NO_ERROR]);
        if reason == Reason::REFUSED_STREAM && !self.host.wire.has_begun(self.stream) {
            self.host.ledger.refuse(self.call);
        }
        sending.send_reset(reason);
        Some(())
    }

    async fn refuse(&self, respond: &mut SendResponse<Bytes>, status: u16, pause: Option<u64>) -> Option<()> {
        let body = error_body(self.call);
        self.rate(Worth::Error);
        let mut sending = self.begin(respond, status, Some(body.len()), pause)?;
        self.send(&mut sending, body.into_bytes(), true).await
    }

    async fn answer(
        &self,
        respond: &mut SendResponse<Bytes>,
        frame: Frame,
        count: usize,
        finish: &str,
        worth: Worth,
    ) -> Option<()> {
        let parts = match self.form {
            Form::NonStreaming => {
                vec![whole_answer(self.number, self.call, count.min(words(self.number).len()), finish)]
            }
            Form::Streaming { .. } => {
                let mut parts = self.events(count, finish);
                parts.push(b"data: [DONE]\n\n".to_vec());
                parts
            }
        };
        let length = (frame == Frame::Length).then(|| parts.iter().map(Vec::len).sum());
        let mut sending = self.begin(respond, 200, length, None)?;
        let last = parts.len() - 1;
        // Long answers would take for ever at one rest an event.
        let rests = if parts.len() > 100 { 20 } else { 1 };
        // The end comes with the last byte, in a frame of its own, or in one of fields.
        let end = between(0, 2);
        for (index, part) in parts.into_iter().enumerate() {
            if index == last {
                self.rate(worth);
            }
            if index % rests == 0 {
                self.rest().await;
            }
            self.send(&mut sending, part, index == last && end == 0).await?;
        }
        match end {
            0 => {}
            1 => sending.send_data(Bytes::new(), true).ok()?,
            _ => {
                let mut fields = http::HeaderMap::new();
                fields.insert("x-took", http::HeaderValue::from_static("7"));
                sending.send_trailers(fields).ok()?;
            }
        }
        Some(())
    }

    async fn rest(&self) {
        if self.rest_ms > 0 && between(0, 2) > 0 {
            sleep_ms(between(0, self.rest_ms)).await;
        }
    }

    fn rate(&self, worth: Worth) {
        self.host.ledger.rate(self.call, worth);
    }

    /// None: the stream was refused, and nothing may be said on it.
    fn check_refused(&self) -> Option<()> {
        (!self.host.wire.is_refused(self.stream)).then_some(())
    }

    /// Sends the head. `pause`: for how many seconds the gateway is asked to stay away.
    fn begin(
        &self,
        respond: &mut SendResponse<Bytes>,
        status: u16,
        length: Option<usize>,
        pause: Option<u64>,
    ) -> Option<SendStream<Bytes>> {
        self.check_refused()?;
        self.host.wire.answered(self.stream);
        let streams = self.form != Form::NonStreaming && status == 200;
        let kind = if streams { "text/event-stream" } else { "application/json" };
        if between(0, 9) == 0 {
            let hints = http::Response::builder().status(103).header("link", "</x>").body(()).ok()?;
            respond.send_informational(hints).ok()?;
        }
        let mut head = http::Response::builder().status(status).header("content-type", kind).header("server", "secret");
        if let Some(length) = length {
            head = head.header("content-length", length);
        }
        if let Some(seconds) = pause {
            head = head.header("retry-after", seconds);
        }
        respond.send_response(head.body(()).ok()?, false).ok()
    }

    /// Sends `bytes` as the gateway makes room for them.
    async fn send(&self, sending: &mut SendStream<Bytes>, bytes: Vec<u8>, last: bool) -> Option<()> {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            sending.reserve_capacity(bytes.len());
            let room = poll_fn(|context| sending.poll_capacity(context)).await?.ok()?;
            let part = bytes.split_to(room.min(bytes.len()));
            sending.send_data(part, last && bytes.is_empty()).ok()?;
        }
        Some(())
    }

    fn events(&self, count: usize, finish: &str) -> Vec<Vec<u8>> {
        let usage = self.form == Form::Streaming { usage: true };
        events(self.number, self.call, count.min(words(self.number).len()), finish, usage)
    }

    /// A whole answer, or a stream's events without `[DONE]`.
    fn body(&self) -> Vec<u8> {
        match self.form {
            Form::NonStreaming => whole_answer(self.number, self.call, words(self.number).len(), "stop"),
            Form::Streaming { .. } => self.events(usize::MAX, "stop").concat(),
        }
    }
}
