//! The span of an exchange, made at its end from what the record has noted. Owns nothing.

use super::generation::Generation;
use super::record::{CacheMark, HttpVersion, RequestRecord};
use super::trace::{self, TraceContext};
use crate::dialect::facts::Form;
use crate::net::now_us;
use crate::observe::spans::{PROVIDER, Parent, Side, Status, Value, operation};

/// Ends the span of an exchange, if its trace is recorded.
pub fn end(generation: &Generation, record: &mut RequestRecord) {
    let Some(trace) = record.trace.filter(TraceContext::is_sampled) else { return };
    let now_us = now_us();
    let snapshot = &generation.snapshot;
    let mut span = trace.new_span(trace.span, trace.parent, Parent::Elsewhere, Side::Server);
    let ended_us = record.ended_us.unwrap_or(now_us);
    span.ended_us = span.ended_us.saturating_sub(now_us.saturating_sub(ended_us));
    span.started_us = span.ended_us.saturating_sub(ended_us.saturating_sub(record.started_us));
    let method = record.delivery.method.name().unwrap_or("_OTHER");
    let route = record.endpoint.path();
    span.name = match route {
        Some(route) => format!("{method} {route}").into(),
        None if method == "_OTHER" => "HTTP".into(),
        None => method.into(),
    };
    if let Some(text) = &record.text {
        span.trace_state = text.trace_state.clone();
    }
    let version = match record.delivery.version {
        HttpVersion::Http10 => "1.0",
        HttpVersion::Http11 => "1.1",
        HttpVersion::Http2 => "2",
    };
    span.add("http.request.method", Some(Value::Word(method)));
    span.add("http.route", route.map(Value::Word));
    span.add("url.path", record.path().map(Value::text));
    span.add("network.protocol.version", Some(Value::Word(version)));
    span.add("client.address", record.client.map(|client| Value::Text(client.to_string().into())));
    span.add("http.response.status_code", (record.status > 0).then_some(Value::Number(record.status.into())));
    let failure = record.failure.as_ref();
    span.add("error.type", failure.map(|failure| Value::Word(failure.label())));
    if failure.is_some_and(|failure| failure.public().status >= 500) || record.status >= 500 {
        span.status = Status::Error;
    }
    if let Some(operation) = operation(record.endpoint.label()) {
        span.add("gen_ai.operation.name", Some(Value::Word(operation)));
        span.add("gen_ai.provider.name", Some(Value::Word(PROVIDER)));
    }
    let model = record.model.map(|model| snapshot.models[model].name.as_bytes());
    span.add("gen_ai.request.model", model.map(Value::text));
    if record.model.is_some() {
        span.add("gen_ai.request.stream", Some(Value::Flag(record.form == Form::Streaming)));
    }
    let first = record.first_byte_us.filter(|_| record.form == Form::Streaming);
    let first = first.map(|at| Value::Seconds(at.saturating_sub(record.started_us) as f64 / 1e6));
    span.add("gen_ai.response.time_to_first_chunk", first);
    span.add("gen_ai.usage.input_tokens", record.usage().map(|tokens| Value::Number(tokens.prompt)));
    span.add("gen_ai.usage.output_tokens", record.usage().map(|tokens| Value::Number(tokens.completion)));
    span.add("ringway.request_id", Some(Value::text(record.request_id.bytes())));
    let tenant = record.tenant.map(|tenant| snapshot.tenants[tenant].name.as_bytes());
    span.add("ringway.tenant", tenant.map(Value::text));
    span.add("ringway.backend", record.backend.clone().map(Value::Name));
    if record.model.is_some() {
        span.add("ringway.cache", Some(Value::Word(record.cache.label())));
    }
    let not_stored = record.not_stored.filter(|_| failure.is_none());
    span.add("ringway.not_stored", not_stored.map(|reason| Value::Word(reason.label())));
    span.add("ringway.attempts", record.notes.as_ref().map(|notes| Value::Number(notes.made())));
    if let Some(told) = record.told.take() {
        trace::add_identity(&mut span, told.identity);
        span.link = told.leader.filter(|_| matches!(record.cache, CacheMark::Joined));
    }
    generation.push_span(span);
}
