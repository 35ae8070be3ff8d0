//! Which trace a request belongs to. Owned by the record; an upstream call has a copy. A request that is not sampled costs a look at
//! one field and an id; without a receiver of spans, a branch.

use crate::config::snapshot::{ParentDecision, Sampling};
use crate::dialect::{Dialect, Identity};
use crate::limits::TRACE_STATE_BYTES;
use crate::net::{random_u64, unix_us};
use crate::observe::spans::{Link, Parent, Side, Span, Status, Value};
use crate::wire::http1::RequestHead;
use crate::wire::trace_context::{LENGTH, RANDOM, SAMPLED, TraceParent};

/// The trace of a request, continued or begun.
#[derive(Clone, Copy, Debug)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    /// The caller's span; none if the trace was begun here.
    pub parent: Option<[u8; 8]>,
    /// The exchange's.
    pub span: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// That of a request whose head is in `bytes`.
    pub fn begin(sampling: &Sampling, head: &RequestHead, bytes: &[u8]) -> TraceContext {
        let mut fields = head.fields.get_all(bytes, "traceparent");
        // W3C Trace Context 3.2: of several there is none.
        let parent = match (fields.next(), fields.next()) {
            (Some(field), None) => TraceParent::parse(field),
            _ => None,
        };
        let (trace_id, random) = match parent {
            Some(parent) => (parent.trace_id, parent.flags & RANDOM),
            None => ((u128::from(random_u64()) << 64 | u128::from(random_u64()) | 1).to_be_bytes(), RANDOM),
        };
        let is_sampled = match (parent, sampling.parent) {
            (Some(parent), ParentDecision::Followed) => parent.flags & SAMPLED != 0,
            _ => sampling.takes(&trace_id),
        };
        let flags = random | if is_sampled { SAMPLED } else { 0 };
        TraceContext { trace_id, parent: parent.map(|parent| parent.parent_id), span: new_span(), flags }
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `traceparent` of a request that belongs to `span`.
    pub fn field(&self, span: [u8; 8]) -> [u8; LENGTH] {
        TraceParent { trace_id: self.trace_id, parent_id: span, flags: self.flags }.write()
    }

    /// What another span names the exchange's by, if it is recorded.
    pub fn link(&self) -> Option<Box<Link>> {
        let link = || Box::new(Link { trace_id: self.trace_id, span: self.span, flags: self.flags });
        self.is_sampled().then(link)
    }

    /// A span of this trace that begins now, and ends when it is told.
    pub fn new_span(&self, id: [u8; 8], parent: Option<[u8; 8]>, parent_is: Parent, side: Side) -> Span {
        let now_us = unix_us();
        Span {
            trace_id: self.trace_id,
            id,
            parent,
            parent_is,
            trace_state: Box::default(),
            flags: self.flags,
            name: Box::default(),
            side,
            started_us: now_us,
            ended_us: now_us,
            attributes: Vec::with_capacity(16),
            link: None,
            status: Status::Unset,
        }
    }
}

/// What the span of a recorded exchange tells of its answer.
#[derive(Debug, Default)]
pub struct Told {
    pub identity: Identity,
    /// The request whose upstream call answered this one.
    pub leader: Option<Link>,
}

/// What a whole answer, as the log of a flight has it, says of itself.
pub fn identify(answer: &[u8]) -> Identity {
    Dialect::OpenAi.identity(answer)
}

/// Adds that to a span.
pub fn add_identity(span: &mut Span, identity: Identity) {
    let Identity { id, model, finish_reasons } = identity;
    span.add("gen_ai.response.id", id.map(Value::Text));
    span.add("gen_ai.response.model", model.map(Value::Text));
    let reasons = (!finish_reasons.is_empty()).then_some(finish_reasons);
    span.add("gen_ai.response.finish_reasons", reasons.map(Value::Words));
}

/// An id, which is never zero.
pub fn new_span() -> [u8; 8] {
    (random_u64() | 1).to_be_bytes()
}

/// The `tracestate` of a request whose trace is continued, as one list (RFC 9110 5.3).
pub fn state(head: &RequestHead, bytes: &[u8]) -> Box<str> {
    let mut state = String::new();
    for list in head.fields.get_all(bytes, "tracestate").filter_map(|list| std::str::from_utf8(list).ok()) {
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(list);
    }
    // W3C Trace Context 3.3.1.5: cut it nowhere but between members; here it is only repeated, so not at all.
    if state.len() > TRACE_STATE_BYTES { Box::default() } else { state.into() }
}
