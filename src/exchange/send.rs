//! The request as the backend gets it, and the head of its answer. The request is written anew from what was parsed:
//! no framing field and no credential of the client goes upstream, only fields of the list below.

use secrecy::ExposeSecret;

use super::core::Core;
use super::flight::Flight;
use super::lease::{Lease, Origin};
use super::order::Order;
use super::route::Plan;
use crate::config::snapshot::IncludeUsage;
use crate::dialect::facts::{Endpoint, Form};
use crate::dialect::openai::Edits;
use crate::error::Failure;
use crate::limits::{HEAD_BYTES, INTERIM_RESPONSES};
use crate::net::now_ms;
use crate::wire::http1::{Asked, Method, Persistence, Progress, ResponseHead, encode, parse_response};

/// Request fields that go upstream as they came. Credentials, cookies, forwarding and hop-by-hop fields do not.
const FORWARDED: [&str; 3] = ["content-type", "traceparent", "tracestate"];

/// Request fields that go upstream and may change the answer: they count in the fingerprint.
pub const CHANGING: [&str; 3] = ["openai-beta", "anthropic-version", "anthropic-beta"];

/// An answer whose head has come: the spans of `head` are in `input`, and `input[consumed..]` is the start of its body.
pub struct Answer {
    pub head: ResponseHead,
    pub input: Vec<u8>,
    pub consumed: usize,
    /// Whether the backend was asked for usage on behalf of a client that did not.
    pub usage_hidden: bool,
}

/// Why a request was not answered.
#[derive(Debug)]
pub enum SendFault {
    /// A connection from the pool had gone stale: not a byte came back. Once more on a new one is free.
    Stale,
    Failed(Failure),
}

/// Sends `order` over `lease` and waits for the head of the answer.
pub async fn request(
    core: &Core,
    order: &Order,
    plan: &Plan,
    lease: &mut Lease,
    flight: &Flight,
) -> Result<Answer, SendFault> {
    let backend = &core.snapshot.backends[plan.backend];
    let origin = lease.origin;
    let timeout_ms = match order.form {
        Form::Whole => backend.timeout_total_ms,
        Form::Streamed => backend.timeout_gap_ms,
    };
    let socket = lease.socket();
    socket.watch().shut_down_at(now_ms() + timeout_ms);
    flight.set_alarm(socket.watch().alarm());
    let mut output = core.buffers.take();
    let usage_hidden = write_request(core, order, plan, &mut output);
    let (written, output) = socket.write(output).await;
    core.buffers.give(output);
    let mut input = core.buffers.take();
    let mut head = core.response_heads.take();
    let asked = if order.head.method == Method::Head { Asked::Head } else { Asked::Other };
    // A backend may answer and close before it has read everything: its answer counts, not our broken write.
    let (mut interim, mut ended) = (0, false);
    loop {
        if !input.is_empty() {
            match parse_response(&input, asked, &mut head) {
                Ok(Progress::Complete) => {
                    if head.status >= 200 {
                        if written.is_err() {
                            head.persistence = Persistence::Close; // it does not stand between two requests
                        }
                        let consumed = head.length;
                        return Ok(Answer { head, input, consumed, usage_hidden });
                    }
                    // The spans of a head count from the start of the input.
                    input.drain(..head.length);
                    interim += 1;
                    if interim > INTERIM_RESPONSES {
                        return Err(SendFault::Failed(Failure::BackendGarbage));
                    }
                    continue;
                }
                Ok(Progress::Partial) if input.len() <= HEAD_BYTES => {}
                Ok(Progress::Partial) | Err(_) => return Err(SendFault::Failed(Failure::BackendGarbage)),
            }
        }
        if !ended {
            if input.capacity() == input.len() {
                input.reserve(HEAD_BYTES);
            }
            let (result, buffer) = socket.read(input).await;
            input = buffer;
            ended = !matches!(result, Ok(read) if read > 0);
        }
        if ended {
            if flight.is_abandoned() {
                return Err(SendFault::Failed(Failure::ClientGone));
            }
            if socket.watch().take_trip().is_some() {
                return Err(SendFault::Failed(Failure::BackendTimeout));
            }
            return Err(match (origin, input.is_empty() && interim == 0) {
                (Origin::Reused, true) => SendFault::Stale,
                _ => SendFault::Failed(Failure::BackendClosed),
            });
        }
    }
}

/// Writes the whole request; true if it asks for usage that the client did not ask for.
fn write_request(core: &Core, order: &Order, plan: &Plan, out: &mut Vec<u8>) -> bool {
    let backend = &core.snapshot.backends[plan.backend];
    let target = &core.snapshot.models[plan.model].targets[plan.target];
    let (head, bytes, body) = (&order.head, order.head_bytes(), order.body());
    let mut edits = Edits::new();
    let mut usage_hidden = false;
    if let Some(facts) = &order.facts {
        if let Some(name) = &target.model {
            edits.rename_model(facts, name);
        }
        let streamed = order.form == Form::Streamed && order.endpoint != Endpoint::Other;
        if streamed && backend.include_usage == IncludeUsage::Ask {
            let before = edits.edited_len(body);
            edits.ask_for_usage(facts);
            usage_hidden = edits.edited_len(body) != before;
        }
    }
    let path = path(head.path.of(bytes));
    if backend.base_path.is_empty() {
        encode::request_line(out, head.method_span.of(bytes), path);
    } else {
        encode::request_line(out, head.method_span.of(bytes), &[backend.base_path.as_bytes(), path].concat());
    }
    encode::field(out, b"host", backend.authority.as_bytes());
    let accepted: &[u8] = match (order.endpoint, order.form) {
        (Endpoint::Other, _) => head.fields.get(bytes, "accept").unwrap_or(b"*/*"),
        (_, Form::Streamed) => b"text/event-stream",
        (_, Form::Whole) => b"application/json",
    };
    encode::field(out, b"accept", accepted);
    for name in FORWARDED.into_iter().chain(CHANGING) {
        if let Some(value) = head.fields.get(bytes, name) {
            encode::field(out, name.as_bytes(), value);
        }
    }
    if let Some(secret) = &backend.api_key {
        out.extend_from_slice(b"authorization: Bearer ");
        out.extend_from_slice(secret.expose_secret().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    encode::field(out, b"user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION")).as_bytes());
    encode::field(out, b"x-request-id", order.request_id.bytes());
    let length = edits.edited_len(body);
    if length > 0 || !matches!(head.method, Method::Get | Method::Head | Method::Delete | Method::Options) {
        encode::field_number(out, b"content-length", length as u64);
    }
    encode::head_end(out);
    edits.write(body, out);
    usage_hidden
}

/// RFC 9112 3.2.1: an absolute form without a path means `/`.
fn path(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}
