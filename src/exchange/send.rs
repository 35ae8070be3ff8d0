//! The request as the backend gets it, and the head of its answer. The request is written anew from what was parsed:
//! no framing field and no credential of the client goes upstream, only fields of the list below.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use shards::Fault;
use smallvec::{SmallVec, smallvec};

use super::flight::{Flight, Lane};
use super::generation::Generation;
use super::named::Named;
use super::pipe::UploadRest;
use super::static_headers::{StaticHeaders, each_static_header};
use super::translation::Translated;
use super::upstream_request::UpstreamRequest;
use super::websocket::fields as websocket;
use crate::config::snapshot::{Api, Backend, Extra, IncludeUsage};
use crate::dialect::facts::{Endpoint, Form};
use crate::dialect::{Edits, Piece};
use crate::limits::{HEAD_BYTES, INTERIM_RESPONSES, SLICE_BYTES};
use crate::net::http2::{Follows, Http2Fault};
use crate::net::{Duplex, now_ms, now_us};
use crate::upstream::connect;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::{Carrier, Lease, Origin};
use crate::upstream::route::Plan;
use crate::wire::format::Format;
use crate::wire::http1::{Asked, Method, Persistence, Progress, RequestHead, ResponseHead, encode};
use crate::wire::json::{self, Tape};
use crate::wire::{Span, percent};

/// Request fields that go upstream as they came. Credentials, cookies, forwarding and hop-by-hop fields do not.
const FORWARDED: [&str; 3] = ["content-type", "content-encoding", "idempotency-key"];

/// The version of Anthropic's API that translated requests are written in; the only one since 2023.
const ANTHROPIC_VERSION: &[u8] = b"2023-06-01";

/// Lists in request fields that go upstream and may change the answer: they count in the fingerprint.
pub use crate::config::snapshot::CHANGING_FIELDS as CHANGING;

/// How soon after a request a kept-alive connection ends that was being closed when the request was sent: the news of it was
/// on its way. One that ends later has died with the request in hand.
const STALE_US: u64 = 1_000_000;

/// An answer whose head has come: the spans of `head` are in `input`, and `input[consumed..]` is the start of its body.
pub struct Answer {
    pub head: ResponseHead,
    pub input: Vec<u8>,
    pub consumed: usize,
    /// Whether the backend was asked for usage on behalf of a client that did not.
    pub usage_hidden: bool,
    /// How long the backend keeps an idle connection, by its own word, less what a request may need to travel.
    pub idle_ms: Option<u64>,
    /// When the request had left, and when the head of the answer was here.
    pub sent_us: u64,
    pub came_us: u64,
}

/// Why a request was not answered.
#[derive(Debug)]
pub enum SendFault {
    /// A connection from the pool had gone stale: it ended at once and not a byte came back. Once more on a new one is free.
    Stale,
    Failed(Fault),
}

/// Sends `order`, or what it was `translated` to, over `lease` and waits for the head of the answer.
#[expect(clippy::too_many_arguments, reason = "what an attempt knows by then")]
pub async fn request(
    generation: &Generation,
    upstream: &UpstreamRequest,
    translated: Option<&Translated>,
    plan: &Plan,
    lease: &mut Lease,
    deadlines: &mut Deadlines,
    lane: Lane,
    flight: &Flight,
) -> Result<Answer, SendFault> {
    let origin = lease.origin;
    let builder = RequestBuilder::new(generation, upstream, translated, plan);
    let usage_hidden = builder.usage_hidden;
    let mut written = match lease.carrier() {
        Carrier::Http1(socket) => {
            socket.watch().shut_down_at(deadlines.head_ms);
            flight.set_alarm(lane, socket.watch().alarm());
            let large = builder.body.len() > SLICE_BYTES || upstream.upload.is_some();
            let posted = if large {
                None
            } else {
                let output = &mut generation.memory.scratch.borrow_mut().text;
                output.clear();
                builder.write_http1(output);
                socket.post(output)
            };
            match posted {
                Some(written) => written,
                None if large => Box::pin(write_large(generation, &builder, socket)).await,
                None => {
                    let mut output = generation.memory.buffers.take();
                    builder.write_http1(&mut output);
                    let (written, output) = socket.write(output).await;
                    generation.memory.buffers.give(output);
                    written
                }
            }
        }
        Carrier::Http2(connection) => {
            let request = builder.http2_request().ok_or(SendFault::Failed(Fault::Garbage))?;
            let follows = if upstream.upload.is_some() { Follows::More } else { Follows::Nothing };
            let stream = connection.send_pieces(request, &builder.body(), follows).map_err(|fault| {
                SendFault::Failed(if fault == Http2Fault::Refused { Fault::Refused } else { Fault::Closed })
            })?;
            stream.watch().shut_down_at(deadlines.head_ms);
            flight.set_alarm(lane, stream.watch().alarm());
            lease.sent(stream);
            Ok(())
        }
        Carrier::Stream(_) => return Err(SendFault::Failed(Fault::Closed)),
    };
    if let Some(rest) = &upstream.upload
        && written.is_ok()
    {
        let idle_ms = builder.backend.timeout_stream_idle_ms;
        match Box::pin(send_rest(generation, rest, lease, idle_ms)).await {
            Ok(()) => {}
            Err(RestFault::BrokenOff) => return Err(SendFault::Failed(Fault::Cancelled)),
            // It may have answered.
            Err(RestFault::NotTaken(error)) => written = Err(error),
        }
        // Its answer was not waited for until now.
        *deadlines = Deadlines::begin(builder.backend, upstream.form, now_ms());
        if !lease.go_on_until(deadlines.head_ms) {
            return Err(SendFault::Failed(Fault::HeadTimeout));
        }
    }
    let sent_us = now_us();
    let mut input = Vec::new();
    let mut head = generation.memory.response_heads.take();
    let asked = if upstream.head.method == Method::Head { Asked::Head } else { Asked::Other };
    // A backend may answer and close before it has read everything: its answer counts, not our broken write.
    let (mut interim, mut ended, mut refused) = (0, false, false);
    loop {
        if !input.is_empty() {
            match generation.memory.known_responses.borrow_mut().parse_response(&input, asked, &mut head) {
                Ok(Progress::Complete) => {
                    if head.status >= 200 {
                        let came_us = upstream.waited_since(sent_us);
                        if written.is_err() {
                            head.persistence = Persistence::Close; // it does not stand between two requests
                        }
                        let consumed = head.length;
                        let idle_ms = idle_ms(head.fields.get(&input, "keep-alive"));
                        return Ok(Answer { head, input, consumed, usage_hidden, idle_ms, sent_us, came_us });
                    }
                    // The spans of a head count from the start of the input.
                    input.drain(..head.length);
                    interim += 1;
                    if interim > INTERIM_RESPONSES {
                        return Err(SendFault::Failed(Fault::Garbage));
                    }
                    continue;
                }
                Ok(Progress::Partial) if input.len() <= HEAD_BYTES => {}
                Ok(Progress::Partial) | Err(_) => return Err(SendFault::Failed(Fault::Garbage)),
            }
        }
        if !ended {
            let result = if input.is_empty() {
                generation.memory.buffers.give(std::mem::take(&mut input));
                poll_fn(|context| lease.poll_read_new(|| generation.memory.buffers.take(), &mut input, context)).await
            } else {
                if input.capacity() == input.len() {
                    input.reserve(HEAD_BYTES);
                }
                let (result, buffer) = lease.read(input).await;
                input = buffer;
                result
            };
            ended = !matches!(result, Ok(read) if read > 0);
            refused = result.is_err_and(|error| connect::is_refused(&generation.upstreams, plan.backend, &error));
        }
        if ended {
            upstream.waited_since(sent_us);
            if flight.is_abandoned() {
                return Err(SendFault::Failed(Fault::Cancelled));
            }
            if lease.was_interrupted() {
                return Err(SendFault::Failed(deadlines.fault(Fault::HeadTimeout)));
            }
            if refused {
                return Err(SendFault::Failed(Fault::Handshake));
            }
            if lease.was_refused() {
                return Err(SendFault::Failed(Fault::Refused));
            }
            // RFC 9110 9.2.2: what closes in between may have read and acted on the request first.
            let nothing_came = input.is_empty() && interim == 0;
            let at_once = now_us().saturating_sub(sent_us) < STALE_US;
            return Err(match origin {
                Origin::Reused if nothing_came && at_once && upstream.is_repeatable() => SendFault::Stale,
                Origin::Reused | Origin::Fresh => SendFault::Failed(Fault::Closed),
            });
        }
    }
}

/// Why a body that flows has not gone out whole.
enum RestFault {
    /// The client has ended within it.
    BrokenOff,
    /// The backend takes no more of it.
    NotTaken(io::Error),
}

/// Sends the rest of a body as it comes. The backend has `idle_ms` to take each part.
async fn send_rest(
    generation: &Generation,
    rest: &UploadRest,
    lease: &mut Lease,
    idle_ms: u64,
) -> Result<(), RestFault> {
    let (mut bytes, mut framed) = (generation.memory.buffers.take(), Vec::new());
    let mut is_last = false;
    while !is_last {
        // How long the client takes is its own pace.
        lease.shut_down_at(u64::MAX);
        is_last = !rest.pipe.next(&mut bytes).await.map_err(|_| RestFault::BrokenOff)?;
        lease.shut_down_at(now_ms().saturating_add(idle_ms));
        let sent = match lease.carrier() {
            Carrier::Http1(socket) if rest.length.is_some() => socket.write_in_slices(&bytes).await,
            Carrier::Http1(socket) => {
                framed.clear();
                match is_last {
                    true => framed.extend_from_slice(encode::LAST_CHUNK),
                    false => encode::chunk(&mut framed, &bytes),
                }
                socket.write_in_slices(&framed).await
            }
            Carrier::Stream(stream) => stream.send_rest(Bytes::copy_from_slice(&bytes), is_last).await,
            Carrier::Http2(_) => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(RestFault::NotTaken)?;
    }
    generation.memory.buffers.give(bytes);
    Ok(())
}

/// Writes a request with a large body from where that is, in slices.
async fn write_large(generation: &Generation, builder: &RequestBuilder<'_>, socket: &mut Duplex) -> io::Result<()> {
    let mut head = generation.memory.buffers.take();
    builder.write_head(&mut head);
    let (written, head) = socket.write(head).await;
    generation.memory.buffers.give(head);
    written?;
    let body = builder.body;
    let is_chunked = builder.upstream.upload.as_ref().is_some_and(|rest| rest.length.is_none());
    if is_chunked {
        // The part that is here is one chunk.
        let mut prefix = Vec::new();
        encode::chunk_prefix(&mut prefix, builder.edits.edited_len(body));
        socket.write_in_slices(&prefix).await?;
    }
    for piece in builder.edits.pieces(body.len()) {
        match &piece {
            Piece::Kept(span) => socket.write_in_slices(span.of(body)).await?,
            Piece::Written(bytes) => socket.write_in_slices(bytes).await?,
        }
    }
    if is_chunked {
        socket.write_in_slices(encode::LINE_END).await?;
    }
    Ok(())
}

/// Writes the request of HTTP/1.1 by which `upstream` asks for a WebSocket.
pub fn write_upgrade(generation: &Generation, upstream: &UpstreamRequest, plan: &Plan, out: &mut Vec<u8>) {
    let builder = RequestBuilder::new(generation, upstream, None, plan);
    builder.target(|target| encode::request_line(out, b"GET", target));
    out.extend_from_slice(builder.static_headers.0.expose_secret());
    builder.fields(|name, value| encode::field(out, name, value));
    websocket::write_asked(&upstream.head.fields, upstream.head_bytes(), out);
    encode::head_end(out);
}

/// A request as a backend gets it, but for its form on the wire.
struct RequestBuilder<'a> {
    upstream: &'a UpstreamRequest,
    /// The same in the backend's API, if that is another one.
    translated: Option<&'a Translated>,
    body: &'a [u8],
    backend: &'a Backend,
    static_headers: &'a StaticHeaders,
    edits: Edits<'a>,
    /// What its query says in place of the model there.
    query_edit: Option<(Span, Cow<'a, str>)>,
    /// Whether it asks for usage that the client did not ask for.
    usage_hidden: bool,
    /// The span of this attempt, if its trace is recorded.
    span: Option<[u8; 8]>,
}

impl<'a> RequestBuilder<'a> {
    fn new(
        generation: &'a Generation,
        upstream: &'a UpstreamRequest,
        translated: Option<&'a Translated>,
        plan: &Plan,
    ) -> RequestBuilder<'a> {
        let (body, facts) = match translated {
            None => (upstream.body(), upstream.facts.as_ref()),
            Some(translated) => (&translated.body[..], Some(&translated.facts)),
        };
        let backend = &generation.snapshot.backends[plan.backend];
        let target = &generation.snapshot.models[plan.model].targets[plan.target];
        let mut edits = Edits::new();
        let (mut usage_hidden, mut query_edit) = (false, None);
        // A fallback is called by its own name, not by that of the model it stands in for.
        let own =
            || (plan.model != upstream.model).then(|| generation.snapshot.models[plan.model].name.as_str().into());
        if let Some(name) = target.name_there(upstream.star.as_deref()).or_else(own) {
            match (upstream.named, facts) {
                (Some(Named::Field(span)), _) => edits.rename_field(span, name),
                (Some(Named::Query(span)), _) => query_edit = Some((span, name)),
                (_, Some(facts)) => edits.rename_model(facts, name),
                (Some(Named::Member(_)) | None, None) => {}
            }
        }
        if let Some(facts) = facts {
            let streamed = upstream.form == Form::Streaming && upstream.endpoint != Endpoint::Other;
            let refuses = &generation.upstreams.backends[plan.backend].refuses_usage;
            if streamed && backend.include_usage == IncludeUsage::Ask && !refuses.get() {
                let before = edits.edited_len(body);
                edits.ask_for_usage(facts);
                usage_hidden = edits.edited_len(body) != before;
            }
        }
        let takes_members = upstream.endpoint != Endpoint::Other || translated.is_some();
        if facts.is_some() && takes_members && !backend.extra.members.is_empty() {
            let sent = |name: &str| has_member(body, name, &mut generation.memory.scratch.borrow_mut().tape);
            for (_, member) in backend.extra.members.iter().filter(|(name, _)| !sent(name)) {
                edits.add_member(body, member);
            }
        }
        RequestBuilder {
            upstream,
            translated,
            body,
            span: plan.span,
            backend,
            static_headers: &generation.static_headers[plan.backend],
            edits,
            query_edit,
            usage_hidden,
        }
    }

    /// Hands the request target to `put`.
    fn target<R>(&self, put: impl FnOnce(&[u8]) -> R) -> R {
        let (span, bytes) = (self.upstream.head.path, self.upstream.head_bytes());
        let paths = &self.backend.paths;
        if let Some(translated) = self.translated {
            return put(&paths.there(translated.direction.path().as_bytes()));
        }
        match &self.query_edit {
            None if paths.is_the_same() => put(path(span.of(bytes))),
            None => put(&paths.there(path(span.of(bytes)))),
            Some((model, name)) => {
                let front = Span { start: span.start, end: model.start }.of(bytes);
                let mut target = paths.there(front);
                percent::encode(&mut target, name.as_bytes());
                target.extend_from_slice(Span { start: model.end, end: span.end }.of(bytes));
                put(&target)
            }
        }
    }

    /// Hands each field to `put` that is this request's own, but for those by which one HTTP version or the other frames a
    /// message.
    fn fields(&self, mut put: impl FnMut(&str, &[u8])) {
        let (head, bytes) = (&self.upstream.head, self.upstream.head_bytes());
        let accepted: &[u8] = match (self.upstream.endpoint, self.upstream.form) {
            (Endpoint::Other, _) => head.fields.get(bytes, "accept").unwrap_or(b"*/*"),
            (_, Form::Streaming) => b"text/event-stream",
            (_, Form::NonStreaming) => b"application/json",
        };
        put("accept", accepted);
        for name in FORWARDED {
            match head.fields.get(bytes, name) {
                // It has become JSON.
                Some(_) if name == "content-type" && self.is_converted() => put(name, b"application/json"),
                Some(value) => put(name, value),
                None => {}
            }
        }
        self.trace(&mut put);
        // What they switch on is in the API of the client.
        if self.translated.is_none() {
            for name in CHANGING {
                head.fields.get_all(bytes, name).for_each(|value| put(name, value));
            }
        }
        if self.is_without_version() {
            put("anthropic-version", ANTHROPIC_VERSION);
        }
        if self.backend.extra.forwards_any() {
            forwarded(head, bytes, &self.backend.extra, &mut put);
        }
        put("x-request-id", self.upstream.request_id.bytes());
        let mut length = self.edits.edited_len(self.body) as u64;
        match &self.upstream.upload {
            Some(UploadRest { length: Some(rest), .. }) => length += rest,
            // Each version has its own way to say that it is not known.
            Some(UploadRest { length: None, .. }) => return,
            None => {}
        }
        if length > 0 || !matches!(head.method, Method::Get | Method::Head | Method::Delete | Method::Options) {
            put("content-length", itoa::Buffer::new().format(length).as_bytes());
        }
    }

    fn is_converted(&self) -> bool {
        self.upstream.head.body_format != Format::Json && self.upstream.endpoint != Endpoint::Other
    }

    /// Whether the backend wants to be told the version of its API, and nobody does.
    fn is_without_version(&self) -> bool {
        self.backend.api == Api::Anthropic
            && (self.translated.is_some()
                || self.upstream.head.fields.get(self.upstream.head_bytes(), "anthropic-version").is_none())
            && !self.backend.extra.headers.iter().any(|(name, _)| name == "anthropic-version")
    }

    /// The trace that the request belongs to: continued from this gateway's span, or passed on as it came where nothing is traced.
    fn trace(&self, mut put: impl FnMut(&str, &[u8])) {
        let (head, bytes) = (&self.upstream.head, self.upstream.head_bytes());
        let is_continued = match &self.upstream.trace {
            Some(trace) => {
                put("traceparent", &trace.field(self.span.unwrap_or(trace.span)));
                trace.parent.is_some()
            }
            None => {
                head.fields.get(bytes, "traceparent").into_iter().for_each(|value| put("traceparent", value));
                true
            }
        };
        if is_continued {
            head.fields.get_all(bytes, "tracestate").for_each(|value| put("tracestate", value));
        }
    }

    /// The head as HTTP/2 has it; none if it cannot be said there.
    fn http2_request(&self) -> Option<http::Request<()>> {
        let scheme = if self.backend.tls.is_some() { "https" } else { "http" };
        let uri = self.target(|target| [scheme.as_bytes(), b"://", self.backend.authority.as_bytes(), target].concat());
        let method = self.upstream.head.method_span.of(self.upstream.head_bytes());
        let mut request = http::Request::builder().method(method).uri(uri).body(()).ok()?;
        let mut sayable = true;
        let mut put = |name: &str, value: &[u8]| match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value),
        ) {
            (Ok(name), Ok(value)) => drop(request.headers_mut().append(name, value)),
            _ => sayable = false,
        };
        each_static_header(self.backend, &mut put);
        self.fields(put);
        sayable.then_some(request)
    }

    /// The body, apart from the order's buffers: it may be sent when those are gone.
    fn body(&self) -> SmallVec<[Bytes; 1]> {
        if self.body.len() > SLICE_BYTES {
            let shared = self.edits.pieces(self.body.len()).into_iter().map(|piece| match piece {
                Piece::Kept(span) if self.translated.is_some() => Bytes::copy_from_slice(span.of(self.body)),
                Piece::Kept(span) => self.upstream.share(span),
                Piece::Written(bytes) => bytes.into(),
            });
            return shared.collect();
        }
        let mut edited = Vec::new();
        self.edits.write(self.body, &mut edited);
        smallvec![edited.into()]
    }

    /// The whole request as HTTP/1.1 has it.
    fn write_http1(&self, out: &mut Vec<u8>) {
        self.write_head(out);
        self.edits.write(self.body, out);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let method = self.upstream.head.method_span.of(self.upstream.head_bytes());
        self.target(|target| encode::request_line(out, method, target));
        out.extend_from_slice(self.static_headers.0.expose_secret());
        self.fields(|name, value| encode::field(out, name, value));
        if self.upstream.upload.as_ref().is_some_and(|rest| rest.length.is_none()) {
            encode::field(out, "transfer-encoding", b"chunked");
        }
        encode::head_end(out);
    }
}

/// Hands each field to `put` that goes through because its backend wants it, and is not meant for one connection.
pub fn forwarded(head: &RequestHead, bytes: &[u8], extra: &Extra, put: &mut impl FnMut(&str, &[u8])) {
    for field in head.fields.iter() {
        let name = field.name.of(bytes);
        // RFC 9110 7.6.1.
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if extra.forwards(name) && !head.fields.has_token(bytes, "connection", text) {
            put(&text.to_ascii_lowercase(), field.value.of(bytes));
        }
    }
}

/// Whether the object that `body` is has a member with this name, which is in quotes.
fn has_member(body: &[u8], name: &str, tape: &mut Tape) -> bool {
    // Nearly always it stands nowhere at all.
    if memchr::memmem::find(body, name.as_bytes()).is_none() {
        return false;
    }
    let plain = &name.as_bytes()[1..name.len() - 1];
    match json::parse_unchecked_names(body, tape) {
        Ok(_) => tape.root().members().any(|member| member.name.plain(body) == Some(plain)),
        // It was JSON before, so this does not happen; what is there twice is refused by backends.
        Err(_) => true,
    }
}

/// The `timeout` of a `Keep-Alive` field, in milliseconds, less one second; the field's form is that of RFC 2068 19.7.1.1.
fn idle_ms(field: Option<&[u8]>) -> Option<u64> {
    let parts = field?.split(|&byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
    let seconds = parts.filter_map(|part| part.strip_prefix(b"timeout=")).next()?;
    let seconds: u64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
    Some(seconds.saturating_sub(1).saturating_mul(1000))
}

/// RFC 9112 3.2.1: an absolute form without a path means `/`.
fn path(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}
