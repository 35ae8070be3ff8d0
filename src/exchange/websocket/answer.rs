//! What the client of a WebSocket's opening is answered: that there is one now, or what the backend said instead.

use super::fields;
use crate::config::snapshot::Backend;
use crate::dialect::facts::Form;
use crate::exchange::generation::Generation;
use crate::exchange::record::{RequestRecord, SWITCHED};
use crate::exchange::relay::{self, Delimited, Next};
use crate::net::now_us;
use crate::wire::http1::{ResponseHead, encode};

/// Writes the head behind which the connection is a WebSocket, by what the backend's head says.
pub fn switch(
    generation: &Generation,
    record: &mut RequestRecord,
    backend: &Backend,
    head: &ResponseHead,
    bytes: &[u8],
    out: &mut Vec<u8>,
) {
    record.status = SWITCHED;
    record.first_byte_us.get_or_insert_with(now_us);
    encode::status_line(out, record.status);
    generation.memory.write_date(out);
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    fields::write_agreed(&head.fields, bytes, out);
    relay::write_own_fields(generation, record, out);
    let fields = passed_fields(backend, head, bytes);
    out.extend_from_slice(&fields);
    encode::head_end(out);
}

/// An answer that a backend gave whole.
pub struct Passed {
    pub status: u16,
    pub content_type: Vec<u8>,
    /// Further header lines.
    pub fields: Vec<u8>,
    pub body: Vec<u8>,
}

impl Passed {
    /// Without its body.
    pub fn new(backend: &Backend, head: &ResponseHead, bytes: &[u8]) -> Passed {
        let content_type = head.fields.get(bytes, "content-type").unwrap_or(b"application/octet-stream").to_vec();
        let mut fields = passed_fields(backend, head, bytes);
        fields::write_refused(&head.fields, bytes, &mut fields);
        Passed { status: head.status, content_type, fields, body: Vec::new() }
    }
}

/// Passes a backend's answer on.
pub fn pass_on(generation: &Generation, record: &mut RequestRecord, passed: &Passed, out: &mut Vec<u8>) -> Next {
    record.form = Form::NonStreaming;
    let delimited = match passed.status {
        204 | 304 => Delimited::Nothing,
        _ => Delimited::Length(passed.body.len() as u64),
    };
    let next =
        relay::write_head(generation, record, passed.status, &passed.content_type, delimited, &passed.fields, out);
    if delimited != Delimited::Nothing {
        out.extend_from_slice(&passed.body);
        record.sent_bytes += passed.body.len() as u64;
    }
    next
}

/// Those of the backend's fields that its client sees.
fn passed_fields(backend: &Backend, head: &ResponseHead, bytes: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    relay::fields(head, bytes, backend, &mut fields);
    fields
}
