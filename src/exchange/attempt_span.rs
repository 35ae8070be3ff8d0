//! The span of an attempt of a recorded trace: from the choice of a backend to the end of its answer. Held by the attempt, then by its
//! answer; whatever becomes of these, it is handed on when it is dropped.

use std::rc::Rc;

use super::generation::Generation;
use super::trace::{self, TraceContext};
use super::upstream_request::UpstreamRequest;
use crate::config::snapshot::Address;
use crate::dialect::facts::{Form, TokenUsage};
use crate::error::Failure;
use crate::net::now_us;
use crate::observe::counters::AttemptResult;
use crate::observe::spans::{PROVIDER, Parent, Side, Span, Status, Value, operation};
use crate::upstream::route::Plan;

/// Dropped before its end, it was cancelled.
pub struct AttemptSpan {
    core: Rc<Generation>,
    /// Taken when it ends.
    span: Option<Span>,
    started_us: u64,
    form: Form,
    result: AttemptResult,
}

impl AttemptSpan {
    // Boxed, for it goes through many hands, and mostly there is none.
    pub fn begin(generation: &Rc<Generation>, upstream: &UpstreamRequest, plan: &Plan) -> Option<Box<AttemptSpan>> {
        let trace = upstream.trace.filter(TraceContext::is_sampled)?;
        let mut span = trace.new_span(trace::new_span(), Some(trace.span), Parent::Here, Side::Client);
        let backend = &generation.snapshot.backends[plan.backend];
        let model = &generation.snapshot.models[plan.model];
        let star = upstream.star.as_deref();
        let asked = model.targets[plan.target].name_there(star).unwrap_or_else(|| model.asked_name(star));
        let operation = operation(upstream.endpoint.label());
        span.name = match operation {
            Some(operation) => format!("{operation} {asked}").into(),
            None => String::from_utf8_lossy(upstream.head.method_span.of(upstream.head_bytes())).into(),
        };
        if let Some(operation) = operation {
            span.add("gen_ai.operation.name", Some(Value::Word(operation)));
            span.add("gen_ai.provider.name", Some(Value::Word(PROVIDER)));
        }
        span.add("gen_ai.request.model", Some(Value::text(asked.as_bytes())));
        span.add("gen_ai.request.stream", Some(Value::Flag(upstream.form == Form::Streaming)));
        match &backend.address {
            Address::Tcp { host, port } => {
                span.add("server.address", Some(Value::text(host.as_bytes())));
                span.add("server.port", Some(Value::Number((*port).into())));
            }
            Address::Unix(path) => span.add("server.address", Some(Value::text(path.as_os_str().as_encoded_bytes()))),
        }
        span.add("ringway.backend", Some(Value::Name(generation.upstreams.backends[plan.backend].name().clone())));
        if let Some(notes) = &upstream.notes {
            // Those before this one, which is counted by now.
            let before = notes.made().saturating_sub(1);
            span.add("http.request.resend_count", (before > 0).then_some(Value::Number(before)));
            span.trace_state = notes.trace_state.clone();
        }
        let (started_us, form, result) = (now_us(), upstream.form, AttemptResult::Cancelled);
        Some(Box::new(AttemptSpan { core: generation.clone(), span: Some(span), started_us, form, result }))
    }

    pub fn id(&self) -> Option<[u8; 8]> {
        self.span.as_ref().map(|span| span.id)
    }

    /// It failed: nothing of its answer reached a client, but for an error that is passed on.
    pub fn fail(&mut self, result: AttemptResult, status: Option<u16>) {
        self.result = result;
        if let Some(span) = &mut self.span {
            span.add("http.response.status_code", status.map(|status| Value::Number(status.into())));
        }
    }

    /// Its first content is there.
    pub fn open(&mut self, status: u16) {
        let first = (self.form == Form::Streaming).then(|| now_us().saturating_sub(self.started_us) as f64 / 1e6);
        if let Some(span) = &mut self.span {
            span.add("http.response.status_code", Some(Value::Number(status.into())));
            span.add("gen_ai.response.time_to_first_chunk", first.map(Value::Seconds));
        }
    }

    /// What has come of its answer.
    pub fn tell_of(&mut self, answer: &[u8]) {
        if let Some(span) = &mut self.span {
            trace::add_identity(span, trace::identify(answer));
        }
    }

    /// Its answer has come to its end, or broke off.
    pub fn close(&mut self, result: Result<Option<TokenUsage>, &Failure>) {
        let Some(span) = &mut self.span else { return };
        match result {
            Ok(tokens) => {
                self.result = AttemptResult::Success;
                span.add("gen_ai.usage.input_tokens", tokens.map(|tokens| Value::Number(tokens.prompt)));
                span.add("gen_ai.usage.output_tokens", tokens.map(|tokens| Value::Number(tokens.completion)));
            }
            Err(failure) => {
                self.result = AttemptResult::Closed;
                span.add("error.type", Some(Value::Word(failure.label())));
            }
        }
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        // On the clock that does not jump.
        span.ended_us = span.started_us + now_us().saturating_sub(self.started_us);
        if self.result != AttemptResult::Success {
            span.status = Status::Error;
            if !span.attributes.iter().any(|(name, _)| *name == "error.type") {
                span.add("error.type", Some(Value::Word(self.result.label())));
            }
        }
        self.core.push_span(span);
    }
}
