//! Reads a backend's answer into a flight's log: event by event where it is a stream we understand, as it comes where it
//! is anything else. Knows at the end whether the answer is complete and whether it may be kept.

use crate::dialect::facts::{Endpoint, EventKind, Form, NotStored, StreamVerdict, TokenUsage, UsageEvent};
use crate::dialect::openai::{answer_facts, event_facts};
use crate::error::Failure;
use crate::exchange::core::Core;
use crate::exchange::flight::{Flight, Opening};
use crate::exchange::lease::Lease;
use crate::exchange::order::Order;
use crate::exchange::route::Plan;
use crate::exchange::send::Answer;
use crate::net::now_ms;
use crate::wire::body::{Body, Decoder};
use crate::wire::http1::{Framing, Method, Persistence, encode};
use crate::wire::sse::{self, EventData, Splitter};

/// Response fields that reach the client as they came.
const PASSED: [&str; 5] =
    ["retry-after", "content-encoding", "content-disposition", "openai-processing-ms", "openai-version"];

/// How long the end of a body may take to come behind the end of its answer.
const TAIL_MS: u64 = 1000;

/// What is known of a complete answer.
pub struct Captured {
    pub form: Form,
    /// Whether it may be kept, or why not.
    pub stored: Result<(), NotStored>,
    /// The usage event of a stream.
    pub usage_event: Option<Vec<u8>>,
    pub tokens: Option<TokenUsage>,
}

/// The connection behind a complete answer: what frames the body's end may still be on its way.
pub struct Tail {
    lease: Lease,
    decoder: Decoder,
    input: Vec<u8>,
    consumed: usize,
    persistence: Persistence,
}

/// Reads `answer` to its end. The connection is in the tail, to be given back to its pool.
/// Errors: the answer is not complete, and why.
pub async fn upstream(
    core: &Core,
    order: &Order,
    plan: &Plan,
    lease: Lease,
    answer: Answer,
    flight: &Flight,
) -> Result<(Captured, Tail), Failure> {
    let head = &answer.head;
    let content_type = head.fields.get(&answer.input, "content-type").unwrap_or(b"").to_vec();
    let is_events = content_type.len() >= 17 && content_type[..17].eq_ignore_ascii_case(b"text/event-stream");
    let known = matches!(order.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let encoded = head.fields.get(&answer.input, "content-encoding").is_some();
    let form = if is_events && known && head.status == 200 && !encoded { Form::Streamed } else { Form::Whole };
    let mut fields = Vec::new();
    for name in PASSED {
        if let Some(value) = head.fields.get(&answer.input, name) {
            encode::field(&mut fields, name.as_bytes(), value);
        }
    }
    let status = head.status;
    let length = match head.framing {
        Framing::Length(length) => Some(length),
        // What a GET would get, if the backend says it.
        Framing::Empty if order.head.method == Method::Head => {
            let length = head.fields.get(&answer.input, "content-length");
            length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok())
        }
        Framing::Empty if !matches!(status, 204 | 304) => Some(0),
        _ => None,
    };
    flight.open(core, Opening { status, backend: plan.backend, form, content_type, length, fields });
    if let (Form::Whole, Some(length)) = (form, length) {
        flight.expect(length);
    }
    let mut source = Source::new(core, plan, order, lease, answer, flight, is_events);
    let captured = match form {
        Form::Streamed => events(core, order, &mut source, flight).await,
        Form::Whole => whole(core, order, &mut source, flight, status, encoded).await,
    };
    let tail = source.into_tail();
    match captured {
        Ok(captured) => Ok((captured, tail)),
        Err(failure) => {
            core.buffers.give(tail.input);
            tail.lease.break_off();
            Err(failure)
        }
    }
}

impl Tail {
    /// Gives the connection back, once the body's end has come: many a server sends the last chunk by itself.
    pub async fn release(mut self, core: &Core) {
        let mut garbage = false;
        self.lease.socket().watch().shut_down_at(now_ms() + TAIL_MS);
        while !garbage && !self.decoder.is_done() && self.persistence == Persistence::KeepAlive {
            let rest = &self.input[self.consumed..];
            if rest.is_empty() {
                self.input.clear();
                self.consumed = 0;
                let (result, input) = self.lease.socket().read(std::mem::take(&mut self.input)).await;
                self.input = input;
                garbage = !matches!(result, Ok(read) if read > 0);
                continue;
            }
            match self.decoder.decode(rest) {
                // Content behind the end of the answer is nothing anybody waits for.
                Ok(step) if step.data.is_empty() => self.consumed += step.consumed,
                _ => garbage = true,
            }
        }
        // Bytes behind the body that nobody asked for: the connection cannot be trusted.
        let clean = !garbage && self.decoder.is_done() && self.consumed == self.input.len();
        if clean && self.persistence == Persistence::KeepAlive && !core.draining.get() {
            self.lease.give_back();
        }
        core.buffers.give(self.input);
    }
}

/// The body of an answer as it arrives.
struct Source<'a> {
    flight: &'a Flight,
    lease: Lease,
    decoder: Decoder,
    input: Vec<u8>,
    consumed: usize,
    persistence: Persistence,
    /// Renewed for each read of a stream; an answer that is no stream has its total alone.
    gap_ms: Option<u64>,
    usage_hidden: bool,
}

impl<'a> Source<'a> {
    fn new(
        core: &Core,
        plan: &Plan,
        order: &Order,
        lease: Lease,
        answer: Answer,
        flight: &'a Flight,
        is_events: bool,
    ) -> Source<'a> {
        let backend = &core.snapshot.backends[plan.backend];
        let (framing, persistence) = (answer.head.framing, answer.head.persistence);
        core.response_heads.give(answer.head);
        Source {
            flight,
            lease,
            decoder: Decoder::new(framing),
            input: answer.input,
            consumed: answer.consumed,
            persistence,
            gap_ms: (is_events || order.form == Form::Streamed).then_some(backend.timeout_gap_ms),
            usage_hidden: answer.usage_hidden,
        }
    }

    /// Hands the decoded bytes that are here to `take`; whether the body is over.
    fn decode(&mut self, mut take: impl FnMut(&[u8])) -> Result<Body, Failure> {
        while !self.decoder.is_done() && self.consumed < self.input.len() {
            let rest = &self.input[self.consumed..];
            let step = self.decoder.decode(rest).map_err(|_| Failure::BackendGarbage)?;
            take(&rest[step.data.clone()]);
            self.consumed += step.consumed;
        }
        Ok(if self.decoder.is_done() { Body::Done } else { Body::More })
    }

    /// Reads once. Errors: the answer is cut off, too slow, or nobody wants it any more.
    async fn read(&mut self) -> Result<Body, Failure> {
        // Arming anew forgets a deadline that has passed, and with it that the socket is shut down.
        if self.lease.socket().watch().take_trip().is_some() {
            return Err(if self.flight.is_abandoned() { Failure::ClientGone } else { Failure::BackendTimeout });
        }
        if self.gap_ms.is_some() {
            // While clients hold it back the backend is not to blame.
            self.lease.socket().watch().clear();
        }
        self.flight.room().await;
        let socket = self.lease.socket();
        if let Some(gap_ms) = self.gap_ms {
            socket.watch().shut_down_at(now_ms() + gap_ms);
        }
        let mut input = std::mem::take(&mut self.input);
        input.clear();
        self.consumed = 0;
        let (result, input) = socket.read(input).await;
        self.input = input;
        if matches!(result, Ok(read) if read > 0) {
            return Ok(Body::More);
        }
        if self.flight.is_abandoned() {
            return Err(Failure::ClientGone);
        }
        if self.lease.socket().watch().take_trip().is_some() {
            return Err(Failure::BackendTimeout);
        }
        match (result, self.decoder.eof()) {
            (Ok(_), Ok(())) => Ok(Body::Done),
            _ => Err(Failure::BackendTruncated),
        }
    }

    fn into_tail(self) -> Tail {
        let Source { lease, decoder, input, consumed, persistence, .. } = self;
        Tail { lease, decoder, input, consumed, persistence }
    }
}

async fn whole(
    core: &Core,
    order: &Order,
    source: &mut Source<'_>,
    flight: &Flight,
    status: u16,
    encoded: bool,
) -> Result<Captured, Failure> {
    loop {
        let mut state = source.decode(|bytes| flight.push(core, |log| log.extend_from_slice(bytes)))?;
        if state == Body::More {
            state = source.read().await?;
        }
        if state == Body::Done {
            break;
        }
    }
    let mut captured =
        Captured { form: Form::Whole, stored: Err(NotStored::Endpoint), usage_event: None, tokens: None };
    // Errors are relayed and never kept; so is what this gateway does not understand.
    if status == 200
        && !encoded
        && matches!(order.endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings)
        && let Some(body) = flight.freeze()
    {
        let facts = answer_facts(order.endpoint, &body, &mut core.scratch.borrow_mut().tape);
        captured.stored = facts.stored;
        captured.tokens = facts.usage;
    }
    Ok(captured)
}

async fn events(core: &Core, order: &Order, source: &mut Source<'_>, flight: &Flight) -> Result<Captured, Failure> {
    let mut splitter = Splitter::new();
    let mut verdict = StreamVerdict::new();
    let (mut usage_event, mut tokens) = (None, None);
    let mut pending = core.buffers.take();
    let result = loop {
        let state = source.decode(|bytes| pending.extend_from_slice(bytes));
        let hidden = source.usage_hidden;
        let asked = order.facts.is_some_and(|facts| facts.usage_event == UsageEvent::Asked);
        let mut fault = None;
        flight.push(core, |log| {
            let tape = &mut core.scratch.borrow_mut().tape;
            loop {
                let event = match splitter.next(&pending) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(found) => {
                        fault = Some(found);
                        break;
                    }
                };
                if event.data == EventData::Absent {
                    continue; // comments: clients get our own while a backend thinks
                }
                let data = splitter.data(&event, &pending);
                let facts = event_facts(order.endpoint, data, tape);
                verdict.note(&facts);
                tokens = facts.usage.or(tokens);
                match (facts.kind, facts.usage_member) {
                    (EventKind::Done, _) => {}
                    (EventKind::UsageOnly, _) => {
                        let mut rendered = Vec::with_capacity(data.len() + 8);
                        sse::event(&mut rendered, data);
                        usage_event = Some(rendered);
                    }
                    // Where the client asked, others who did not may read along: what says nothing goes.
                    (_, Some(member)) if hidden || (asked && facts.usage.is_none()) => {
                        // One line: no line end can stand inside JSON but as white space, which `event` splits again.
                        let cut = [&data[..member.start as usize], &data[member.end as usize..]].concat();
                        sse::event(log, &cut);
                    }
                    _ if event.name.is_empty() => sse::event(log, data),
                    _ => log.extend_from_slice(event.whole.of(&pending)),
                }
            }
        });
        // The event too long to be read is a part of the answer: without it nothing behind it may look whole.
        if fault.is_some() {
            break Err(Failure::BackendGarbage);
        }
        let released = splitter.release();
        pending.drain(..released);
        if verdict.is_done() {
            break Ok(()); // nothing that still comes belongs to the answer
        }
        match state {
            Err(failure) => break Err(failure),
            Ok(Body::Done) => break Err(Failure::BackendTruncated),
            Ok(Body::More) => {}
        }
        match source.read().await {
            Ok(Body::More) => {}
            Ok(Body::Done) => break Err(Failure::BackendTruncated),
            Err(failure) => break Err(failure),
        }
    };
    core.buffers.give(pending);
    result?;
    Ok(Captured { form: Form::Streamed, stored: verdict.stored(), usage_event, tokens })
}
