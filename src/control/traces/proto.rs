//! The messages of OTLP that spans are sent in, with the field numbers of opentelemetry-proto 1.x (trace.proto, trace_service.proto).
//! By hand: generating them wants protoc, and the crate that has them brings OpenTelemetry's whole SDK.

use prost::{Message, Oneof};

use crate::observe::spans::{Link, Parent, Side, Span, Status, Value};

#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<ProtoSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtoSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<ProtoLink>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<ProtoStatus>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtoLink {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtoStatus {
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "AnyKind", tags = "1, 2, 3, 4, 5")]
    pub value: Option<AnyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum AnyKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Real(f64),
    #[prost(message, tag = "5")]
    Array(ArrayValue),
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `SpanKind` and `StatusCode`.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
/// Bits of `flags` above those of `traceparent`: whether the parent's place is known, and is elsewhere.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// A request with these spans, of a service of this name.
pub fn request(service: &str, instance: &str, spans: &[Span]) -> ExportRequest {
    let text = |text: &str| AnyKind::Text(text.to_owned());
    let attributes = [
        ("service.name", text(service)),
        ("service.version", text(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", text(instance)),
    ];
    let resource = Resource { attributes: attributes.map(|(key, value)| key_value(key, value)).into() };
    let scope = Scope { name: "ringway".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(span).collect() }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}

fn key_value(key: &str, value: AnyKind) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn span(span: &Span) -> ProtoSpan {
    let attributes = span.attributes.iter().map(|(key, value)| {
        let value = match value {
            Value::Word(word) => AnyKind::Text((*word).to_owned()),
            Value::Name(name) => AnyKind::Text(name.to_string()),
            Value::Text(text) => AnyKind::Text(text.to_string()),
            Value::Words(words) => {
                let words = words.iter().map(|word| AnyValue { value: Some(AnyKind::Text(word.to_string())) });
                AnyKind::Array(ArrayValue { values: words.collect() })
            }
            Value::Number(number) => AnyKind::Number(i64::try_from(*number).unwrap_or(i64::MAX)),
            Value::Seconds(seconds) => AnyKind::Real(*seconds),
            Value::Flag(flag) => AnyKind::Flag(*flag),
        };
        key_value(key, value)
    });
    let remote = if span.parent_is == Parent::Elsewhere { IS_REMOTE } else { 0 };
    ProtoSpan {
        trace_id: span.trace_id.to_vec(),
        span_id: span.id.to_vec(),
        trace_state: span.trace_state.to_string(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: span.name.to_string(),
        kind: match span.side {
            Side::Server => SERVER,
            Side::Client => CLIENT,
        },
        start_time_unix_nano: span.started_us * 1000,
        end_time_unix_nano: span.ended_us * 1000,
        attributes: attributes.collect(),
        links: span.link.iter().map(link).collect(),
        status: (span.status == Status::Error).then_some(ProtoStatus { code: ERROR }),
        flags: u32::from(span.flags) | HAS_IS_REMOTE | span.parent.map_or(0, |_| remote),
    }
}

/// It stands for a request of somebody else.
fn link(link: &Link) -> ProtoLink {
    ProtoLink {
        trace_id: link.trace_id.to_vec(),
        span_id: link.span.to_vec(),
        flags: u32::from(link.flags) | HAS_IS_REMOTE,
    }
}
