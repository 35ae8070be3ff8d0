//! Reads a backend's answer: `begin` up to the first content, or to the end where it is short, with nothing of it seen by
//! a client; `poll_flow` from there into the flight's log, event by event where it is a stream we understand. Knows at the
//! end whether the answer is complete and whether it may be kept.

mod large;

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use shards::Fault;

use super::blocks::Blocks;
use super::events::{Events, First};
use super::source::Source;
use super::tail::Tail;
use super::unwrapping::{Translating, Unwrapping};
use super::{head, passed};
use crate::dialect::Dialect;
use crate::dialect::facts::{AnswerFacts, Endpoint, ErrorKind, ErrorShape, Form, NotStored, Substance, TokenUsage};
use crate::dialect::translate::{Direction, Stream};
use crate::error::Failure;
use crate::exchange::answer::AnswerHead;
use crate::exchange::attempt_span::AttemptSpan;
use crate::exchange::core::Core;
use crate::exchange::failed_attempt::{FailedAttempt, failure, first_event, refusal};
use crate::exchange::flight::Flight;
use crate::exchange::generation::Generation;
use crate::exchange::scratch::Scratch;
use crate::exchange::send::Answer;
use crate::exchange::trace::TraceContext;
use crate::exchange::upstream_request::UpstreamRequest;
use crate::exchange::used::Seen;
use crate::net::unix_ms;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::Lease;
use crate::upstream::route::Plan;
use crate::wire::body::Body;
use crate::wire::coding::Coding;
use crate::wire::http1::{Framing, Method, encode};
use crate::wire::json::{self, JsonFaultKind, Tape};
use crate::wire::retry_after::wait_ms;

/// How much of a whole answer is held back until it is complete, so that one that breaks off is asked for again unseen.
const HELD_BYTES: usize = 256 << 10;
/// Longest answer whose length is believed before it has come.
const EXPECTED_BYTES: u64 = 64 << 10;

/// What is known of a complete answer.
pub struct Captured {
    pub form: Form,
    /// Whether it may be kept, or why not.
    pub stored: Result<(), NotStored>,
    /// The usage event of a stream.
    pub usage_event: Option<Vec<u8>>,
    pub tokens: Option<TokenUsage>,
}

/// An answer up to its first content. Nothing of it has reached a client.
pub struct PendingResponse<'a> {
    source: Source<'a>,
    /// Until it is shown.
    answer_head: Option<AnswerHead>,
    status: u16,
    form: Form,
    /// What came so far, as the flight's log will hold it.
    held: Vec<u8>,
    body: Body,
    work: Work,
    /// Nothing but the connection's end says where the answer's is.
    unframed: bool,
    /// Whether usage was asked for that the client did not ask for.
    usage_hidden: bool,
    /// How long the backend asked to be left alone.
    hint_ms: Option<u64>,
    /// When its request had left.
    pub sent_us: u64,
    /// When its first content was there; its head, before that.
    pub first_us: u64,
    /// Why another answer would be better than this one.
    pub miss: Option<FailedAttempt>,
    /// Counts as in flight while it lives.
    pub plan: Option<Plan>,
    /// Of its attempt, if that is recorded.
    pub span: Option<Box<AttemptSpan>>,
}

#[expect(clippy::large_enum_variant, reason = "memory of its own would be one more place that each event waits for")]
enum Work {
    /// In one piece, or in pieces that mean nothing here.
    Opaque,
    /// One that this gateway can read once it is complete, and what it says if that was read already.
    Whole(Option<AnswerFacts>),
    /// A stream.
    Events(Events),
    /// A stream of events that mean nothing here.
    Blocks(Box<Blocks>),
}

impl<'a> PendingResponse<'a> {
    /// An answer of which the head has come; `lease` is the connection that the rest comes on. With `translated`, its request was.
    // Boxed, for it goes through many hands.
    #[expect(clippy::too_many_arguments, reason = "what an attempt knows by then")]
    pub fn new(
        generation: &Generation,
        upstream: &UpstreamRequest,
        plan: &Plan,
        lease: Lease,
        answer: Answer,
        translated: Option<Direction>,
        deadlines: Deadlines,
        flight: &'a Flight,
    ) -> Box<PendingResponse<'a>> {
        let mut head = Facts::of(upstream, &answer);
        let hint_ms = if head.status == 200 { None } else { hint_ms(&answer) };
        let translating = translated.map(|direction| head.translate(direction));
        let mut answer_head = answer_head(upstream, generation, plan, &answer, &head);
        if translating.is_some() {
            answer_head.length = None;
            answer_head.content_type = match head.form {
                Form::Streaming => Cow::Borrowed(b"text/event-stream"),
                Form::NonStreaming => Cow::Borrowed(b"application/json"),
            };
        }
        let work = match (head.form, head.is_readable) {
            (Form::Streaming, _) => Work::Events(Events::new(generation, upstream, answer.usage_hidden)),
            (Form::NonStreaming, true) => Work::Whole(None),
            (Form::NonStreaming, false) if head.is_events && head.codings.is_empty() => Work::Blocks(Box::default()),
            (Form::NonStreaming, false) => Work::Opaque,
        };
        let mut held = Vec::new();
        if let Some(length) = answer_head.length.filter(|&length| length <= EXPECTED_BYTES) {
            held.reserve_exact(length as usize); // made once, and exactly
        }
        let unframed = answer.head.framing == Framing::UntilClose;
        let (usage_hidden, sent_us, first_us) = (answer.usage_hidden, answer.sent_us, answer.came_us);
        let unwrapping = Unwrapping::of(head.coding, translating);
        let mut source = Source::new(generation, lease, answer, unwrapping, deadlines, flight);
        if matches!(work, Work::Events(_)) {
            source.watch_events();
        }
        let (status, form, answer_head) = (answer_head.status, answer_head.form, Some(answer_head));
        Box::new(PendingResponse {
            source,
            answer_head,
            status,
            form,
            held,
            body: Body::More,
            work,
            unframed,
            usage_hidden,
            hint_ms,
            sent_us,
            first_us,
            miss: None,
            plan: None,
            span: None,
        })
    }

    /// Reads on up to where another attempt can no longer be made unseen, and finds out whether one would be better.
    /// Errors: it broke off before, and why.
    pub async fn begin(&mut self, generation: &Generation, endpoint: Endpoint) -> Result<(), Fault> {
        let fault = match &self.work {
            Work::Events(_) => self.first_content(generation).await?,
            Work::Opaque | Work::Blocks(_) if self.status < 400 => self.at_hand(generation).await?,
            Work::Whole(_) | Work::Opaque | Work::Blocks(_) => self.hold(generation, endpoint).await?,
        };
        // Of one that is translated it was not known before.
        if let (Some(head), Form::NonStreaming, Body::Done) = (&mut self.answer_head, self.form, self.body) {
            head.length = head.length.or_else(|| (!self.held.is_empty()).then_some(self.held.len() as u64));
        }
        self.miss = fault.map(|fault| FailedAttempt { fault, hint_ms: self.hint_ms });
        Ok(())
    }
}

impl PendingResponse<'_> {
    /// Whether the backend refuses the option that was put into the request to learn of its usage.
    pub fn refuses_usage(&self) -> bool {
        let names = |name: &str| memchr::memmem::find(&self.held, name.as_bytes()).is_some();
        self.usage_hidden && matches!(self.status, 400 | 422) && (names("stream_options") || names("include_usage"))
    }

    /// Shows what has come to the flight's readers.
    pub fn open(&mut self, generation: &Generation, waited_us: u64) {
        if let Some(mut answer_head) = self.answer_head.take() {
            answer_head.waited_us = waited_us;
            self.source.flight.open(generation, answer_head, std::mem::take(&mut self.held));
        }
        self.source.flow();
    }

    /// Its first content is there: the span of its attempt ends with the answer.
    pub fn trace(&mut self, span: Option<Box<AttemptSpan>>) {
        self.span = span;
        if let Some(span) = &mut self.span {
            span.open(self.status);
        }
    }

    /// Reads the answer to its end, into the flight's log.
    // Polled, and in memory of its own: a chain of futures has its state all over the task.
    pub fn poll_flow(&mut self, generation: &Generation, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let PendingResponse { source, work, body, .. } = self;
        if let Work::Events(events) = work {
            return events.poll_finish(generation, source, body, context);
        }
        let flight = source.flight;
        while *body == Body::More {
            let state = match work {
                Work::Blocks(blocks) => {
                    source.decode(|bytes| flight.push(generation, |log| blocks.take_in(bytes, log)))?
                }
                _ => source.decode(|bytes| flight.push(generation, |log| log.extend_from_slice(bytes)))?,
            };
            *body = match state {
                Body::More => ready!(source.poll_read(generation, context))?,
                Body::Done => Body::Done,
            };
            if let (Work::Blocks(blocks), Body::Done) = (&mut *work, *body) {
                flight.push(generation, |log| blocks.end(log));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether it is an error, which nobody pays for.
    pub fn is_error(&self) -> bool {
        self.status >= 400
    }

    /// What has come, for an answer that breaks off or says nothing of its usage: an event is a token, or a few bytes are.
    pub fn seen(&self) -> Seen {
        const TOKEN_BYTES: u64 = 4;
        /// Of an event with one token and what is said around it.
        const EVENT_BYTES: u64 = 128;
        let (tokens, reported) = match &self.work {
            Work::Events(events) => (events.contents(), events.tokens()),
            Work::Whole(_) | Work::Opaque => (self.source.flight.received_bytes() / TOKEN_BYTES, None),
            Work::Blocks(_) => (self.source.flight.received_bytes() / EVENT_BYTES, None),
        };
        Seen { tokens, reported }
    }

    /// What is known of the answer once it has flowed. The connection is given back to its pool, or it is in the tail.
    /// Errors: the answer is not complete, and why.
    pub fn close(
        self: Box<Self>,
        generation: &Generation,
        upstream: &UpstreamRequest,
        flowed: Result<(), Fault>,
    ) -> Result<(Captured, Option<Box<Tail>>), Failure> {
        if let Err(fault) = flowed.and_then(|()| self.check_end(generation)) {
            if let Some(plan) = &self.plan {
                plan.broke_off(fault);
            }
            self.break_off(generation);
            return Err(match failure(fault) {
                Failure::BackendClosed => Failure::BackendTruncated, // a part of the answer has been passed on
                failure => failure,
            });
        }
        let PendingResponse { source, work, status, form, unframed, .. } = *self;
        let is_known = is_known(upstream.endpoint);
        // An answer that is known but cannot be looked into.
        let stored = Err(if is_known { NotStored::Encoded } else { NotStored::Endpoint });
        let mut captured = Captured { form, stored, usage_event: None, tokens: None };
        match work {
            Work::Events(events) => {
                let is_done = events.is_done();
                (captured.stored, captured.usage_event, captured.tokens) = events.into_parts(generation);
                // A server that dies closes its connections in order: without a word of the end there may have been more.
                if (unframed && !is_done || source.ended_unsaid()) && captured.stored.is_ok() {
                    captured.stored = Err(NotStored::NoTerminal);
                }
            }
            // Errors are relayed and never kept; so is what this gateway does not understand.
            Work::Whole(read) if status == 200 => {
                let facts = |body: &[u8]| answer_facts(generation, upstream.endpoint, body);
                match read.or_else(|| source.flight.look_at_whole(facts)) {
                    Some(facts) => (captured.stored, captured.tokens) = (facts.stored, facts.usage),
                    None => captured.stored = Err(NotStored::TooLarge),
                }
            }
            Work::Whole(_) | Work::Opaque | Work::Blocks(_) => {}
        }
        if status != 200 {
            captured.stored = Err(NotStored::Status);
        }
        Ok((captured, source.into_tail().release_now(generation)))
    }

    /// Errors: it has flowed to the end of its connection, and was to go on.
    fn check_end(&self, generation: &Generation) -> Result<(), Fault> {
        if !self.unframed || !matches!(self.work, Work::Whole(None)) {
            return Ok(());
        }
        let cut = |body: &[u8]| breaks_off(self.status, body, &mut generation.memory.scratch.borrow_mut().tape);
        match self.source.flight.look_at_whole(cut) {
            Some(true) => Err(Fault::Truncated),
            Some(false) | None => Ok(()),
        }
    }

    /// Reads a whole answer as far as it is held back. The fault is what a complete answer says is wrong.
    async fn hold(&mut self, generation: &Generation, endpoint: Endpoint) -> Result<Option<Fault>, Fault> {
        let held = &mut self.held;
        while self.body == Body::More && (held.len() < HELD_BYTES || self.source.has_ended()) {
            self.body = match self.source.decode(|bytes| held.extend_from_slice(bytes))? {
                Body::Done => Body::Done,
                Body::More => self.source.read(generation).await?,
            };
        }
        let status = self.status;
        let is_success = (200..300).contains(&status);
        let is_over = self.body == Body::Done && matches!(self.work, Work::Whole(_));
        if is_over
            && !is_success
            && self.unframed
            && breaks_off(status, held, &mut generation.memory.scratch.borrow_mut().tape)
        {
            return Err(Fault::Truncated);
        }
        if status >= 400 {
            return Ok(Some(refusal(status, held, &mut generation.memory.scratch.borrow_mut().tape)));
        }
        if !is_over || !is_success {
            return Ok(None);
        }
        // Whatever success it speaks of: an error is none, nor is an empty body.
        let facts = answer_facts(generation, endpoint, held);
        match facts.substance {
            Substance::Content => {
                self.work = Work::Whole(Some(facts));
                Ok(None)
            }
            // However it was framed.
            Substance::Cut => Err(Fault::Truncated),
            // It can be read, and there is nothing in it.
            Substance::Preamble => Err(Fault::Garbage),
            // A receipt (202) for an answer that is fetched later has a shape of its own.
            Substance::Unknown(_) if status != 200 => Ok(None),
            Substance::Unknown(kind) | Substance::Error(kind) => {
                let body = std::mem::take(&mut self.held);
                self.refuse(generation, kind, body).map(Some)
            }
        }
    }

    /// An error came in the place of an answer, with a status that says nothing of it: it is treated as one with the status
    /// that it should have. If clients can read it, it is what they get where no other attempt brings an answer.
    fn refuse(&mut self, generation: &Generation, kind: ErrorKind, body: Vec<u8>) -> Result<Fault, Fault> {
        let (facts, fault) = {
            let tape = &mut generation.memory.scratch.borrow_mut().tape;
            let facts = Dialect::OpenAi.error_facts(&body, tape);
            let fault = match facts.status {
                Some(status) => refusal(status, &body, tape),
                None => first_event(kind),
            };
            (facts, fault)
        };
        let Some(answer_head) = self.answer_head.as_mut().filter(|_| facts.shape == ErrorShape::Standard) else {
            return Err(fault);
        };
        let status = facts.status.unwrap_or(status_of(kind));
        (answer_head.status, answer_head.form, answer_head.length) =
            (status, Form::NonStreaming, Some(body.len() as u64));
        answer_head.content_type = Cow::Borrowed(b"application/json");
        (self.status, self.form, self.held, self.body) = (status, Form::NonStreaming, body, Body::Done);
        if let Work::Events(events) = std::mem::replace(&mut self.work, Work::Opaque) {
            events.release(generation);
        }
        Ok(fault)
    }

    /// Takes what came with the head of an answer that goes out as it comes. What breaks off in it has reached nobody.
    async fn at_hand(&mut self, generation: &Generation) -> Result<Option<Fault>, Fault> {
        let held = &mut self.held;
        self.body = match &mut self.work {
            Work::Blocks(blocks) => self.source.decode(|bytes| blocks.take_in(bytes, held))?,
            _ => self.source.decode(|bytes| held.extend_from_slice(bytes))?,
        };
        if self.body == Body::More && self.source.has_ended() {
            self.body = self.source.read(generation).await?;
        }
        if let (Work::Blocks(blocks), Body::Done) = (&mut self.work, self.body) {
            blocks.end(&mut self.held);
        }
        Ok(None)
    }

    /// Reads a stream up to its first event with a meaning. Content that came together with the end of an answer that is
    /// not complete is content nobody has seen.
    async fn first_content(&mut self, generation: &Generation) -> Result<Option<Fault>, Fault> {
        loop {
            let Work::Events(events) = &mut self.work else { return Ok(None) };
            if self.body == Body::More {
                let taken = events.take_in(generation, &mut self.source);
                events.render(generation, &mut self.held)?;
                // What is wrong behind the terminal event takes nothing from the answer.
                self.body = if events.is_done() { taken.unwrap_or(Body::More) } else { taken? };
            }
            if self.body == Body::More && !events.is_done() && self.source.has_ended() {
                self.body = self.source.read(generation).await?;
                continue;
            }
            let is_over = events.is_done() || self.body == Body::Done;
            if is_over && !events.is_done() {
                events.end(generation, &mut self.held)?;
            }
            match events.first() {
                Some(First::Content) if !is_over || events.is_complete() => return Ok(None),
                Some(First::Content) => return Err(Fault::Truncated),
                Some(First::Nothing) => return Err(Fault::Garbage),
                None if !is_over && events.is_long_preamble(self.held.len()) => return Ok(None),
                None if !is_over => {}
                Some(First::Error) | None => match events.take_error() {
                    Some((kind, data)) => return self.refuse(generation, kind, data).map(Some),
                    None => return Err(Fault::Truncated),
                },
            }
            self.body = self.source.read(generation).await?;
        }
    }

    /// Ends an answer that is not wanted. Its connection serves again if it was read to its end.
    pub async fn put_away(mut self: Box<Self>, generation: &Generation) {
        drop(self.plan.take());
        match self.body {
            Body::Done => {
                if let Some(tail) = self.source.into_tail().release_now(generation) {
                    tail.release(generation).await;
                }
            }
            Body::More => self.break_off(generation),
        }
    }

    /// Ends the connection in the middle of the answer.
    pub fn break_off(self: Box<Self>, generation: &Generation) {
        if let Work::Events(events) = self.work {
            events.release(generation);
        }
        self.source.into_tail().break_off(generation);
    }
}

fn answer_facts(core: &Core, endpoint: Endpoint, body: &[u8]) -> AnswerFacts {
    let Scratch { tape, shapes, .. } = &mut *core.memory.scratch.borrow_mut();
    match Dialect::of_endpoint(endpoint) {
        dialect @ (Dialect::Anthropic | Dialect::Responses) => dialect.answer_facts(endpoint, body, tape),
        Dialect::OpenAi => shapes.answer_facts(endpoint, body, tape),
    }
}

/// Whether this gateway looks into the answers of an endpoint.
fn is_known(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => true,
        Endpoint::Messages | Endpoint::Responses => true,
        Endpoint::Models | Endpoint::Other => false,
    }
}

/// The status that an error should have had which says none itself.
fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Client | ErrorKind::ContextWindow => 400,
        ErrorKind::RateLimited | ErrorKind::QuotaExhausted => 429,
        ErrorKind::Overloaded => 503,
        ErrorKind::Server | ErrorKind::Unknown => 502,
    }
}

/// Whether a body that ended with its connection is JSON that was to go on. RFC 9112 8: where nothing else frames an answer,
/// its own format may.
fn breaks_off(status: u16, body: &[u8], tape: &mut Tape) -> bool {
    match body.trim_ascii_start() {
        [] => status == 200,
        [b'{', ..] => json::parse(body, tape).is_err_and(|fault| fault.kind == JsonFaultKind::UnexpectedEnd),
        _ => false,
    }
}

/// What the head of an answer says of how to read it.
struct Facts {
    status: u16,
    form: Form,
    is_events: bool,
    /// Of an endpoint whose answers this gateway understands, and in no coding that it does not.
    is_readable: bool,
    /// What is undone on the way.
    coding: Option<Coding>,
    /// What is not, in one list (RFC 9110 5.3); empty for none.
    codings: Vec<u8>,
}

impl Facts {
    fn of(upstream: &UpstreamRequest, answer: &Answer) -> Facts {
        let is_events = |content_type: &[u8]| head::is_events(content_type);
        let head = &answer.head;
        let content_type = head.fields.get(&answer.input, "content-type").unwrap_or(b"");
        let is_events = is_events(content_type);
        let is_known = is_known(upstream.endpoint);
        let streams = is_known && upstream.endpoint != Endpoint::Embeddings;
        let fields: Vec<&[u8]> = head.fields.get_all(&answer.input, "content-encoding").collect();
        let mut codings = fields.join(&b", "[..]);
        let coding = match Coding::of(&codings) {
            Ok(coding) if is_known => Ok(coding),
            Ok(None) => Ok(None),
            // It goes to the client as it is, with its name.
            Ok(Some(_)) | Err(_) => Err(()),
        };
        let form = match coding {
            Ok(_) if is_events && streams && head.status == 200 => Form::Streaming,
            _ => Form::NonStreaming,
        };
        let is_readable = is_known && coding.is_ok() && !is_events;
        let coding = coding.ok().flatten();
        if coding.is_some() {
            codings.clear();
        }
        Facts { status: head.status, form, is_events, is_readable, coding, codings }
    }
}

impl Facts {
    /// The answer is one in another API than its client's, and becomes readable by being translated. A coding that is not known
    /// hides it for good: what is left is its status.
    fn translate(&mut self, direction: Direction) -> Translating {
        let created = unix_ms() / 1000;
        if self.form == Form::Streaming {
            return Translating::Stream(Box::new(Stream::new(direction, created)));
        }
        self.is_readable = direction.is_known();
        self.codings.clear();
        Translating::Whole { direction, status: self.status, created, body: Vec::new() }
    }
}

fn answer_head(
    upstream: &UpstreamRequest,
    generation: &Generation,
    plan: &Plan,
    answer: &Answer,
    facts: &Facts,
) -> AnswerHead {
    let (head, backend) = (&answer.head, plan.backend);
    let mut fields = Vec::new();
    passed::fields(head, &answer.input, &generation.snapshot.backends[backend], &mut fields);
    if !facts.codings.is_empty() {
        encode::field(&mut fields, "content-encoding", &facts.codings);
    }
    let length = match head.framing {
        // Of what is packed.
        _ if facts.coding.is_some() => None,
        Framing::Length(length) => Some(length),
        // What a GET would get, if the backend says it.
        Framing::Empty if upstream.head.method == Method::Head => {
            let length = head.fields.get(&answer.input, "content-length");
            length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok())
        }
        Framing::Empty if !matches!(head.status, 204 | 304) => Some(0),
        _ => None,
    };
    let content_type = match head.fields.get(&answer.input, "content-type").unwrap_or(b"") {
        b"application/json" => Cow::Borrowed(&b"application/json"[..]), // nearly always
        b"text/event-stream" => Cow::Borrowed(&b"text/event-stream"[..]),
        other => Cow::Owned(other.to_vec()),
    };
    AnswerHead {
        status: head.status,
        backend: generation.upstreams.backends[backend].name().clone(),
        form: facts.form,
        content_type,
        length,
        fields,
        served: (plan.model != upstream.model).then(|| generation.snapshot.models[plan.model].name.as_str().into()),
        price: generation.snapshot.models[plan.model].price,
        waited_us: 0,
        leader: upstream.trace.as_ref().and_then(TraceContext::link),
    }
}

/// How long the backend asks to be left alone.
fn hint_ms(answer: &Answer) -> Option<u64> {
    let field = |name| answer.head.fields.get(&answer.input, name);
    wait_ms(field("retry-after"), field("retry-after-ms"), unix_ms())
}
