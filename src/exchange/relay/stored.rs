//! Answers that need no backend: what the cache had, the list of models, and plain text.

use super::head::{self, Delimited, unknown_length};
use super::next::Next;
use crate::config::snapshot::Model;
use crate::dialect::facts::{Form, UsageEvent, model_in_path};
use crate::error::Failure;
use crate::exchange::authenticate::Principal;
use crate::exchange::client::ClientConnection;
use crate::exchange::entry::Entry;
use crate::exchange::generation::Generation;
use crate::exchange::record::{CacheMark, RequestRecord};
use crate::net::{now_ms, sleep_ms};
use crate::wire::http1::{Method, encode};
use crate::wire::{percent, sse};

/// Bodies up to this are copied behind their head and leave in one write; larger ones are written from where they are.
const COPY_BYTES: usize = 32 << 10;

/// Writes a stored answer. Allocates nothing once the line's buffers have grown. Errors: the client has gone.
pub async fn stored(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    entry: &Entry,
    usage_event: UsageEvent,
) -> Result<Next, Failure> {
    let age_ms = entry.age_ms(generation.now());
    if record.cache == CacheMark::Miss {
        record.cache = CacheMark::Hit { age_ms, ttl_ms: entry.ttl_ms };
    }
    record.tokens = entry.tokens;
    record.not_stored = None; // it is
    record.form = entry.form;
    if record.is_recorded() {
        record.note_answer(&entry.body);
    }
    let timeout_ms = generation.snapshot.server.timeout_write_ms;
    let gone = |_| Failure::ClientGone;
    if entry.form == Form::NonStreaming {
        let delimited = Delimited::Length(entry.body.len() as u64);
        let next = head::write(generation, record, 200, &entry.content_type, delimited, b"", &mut client.output);
        if entry.body.len() <= COPY_BYTES {
            client.output.extend_from_slice(&entry.body);
        } else {
            client.flush_with(entry.body.clone(), timeout_ms).await.map_err(gone)?;
        }
        record.sent_bytes += entry.body.len() as u64;
        return Ok(next);
    }
    if let Some(rate) = record.model.and_then(|model| generation.snapshot.models[model].replay_rate) {
        return paced(generation, client, record, entry, usage_event, rate).await;
    }
    // The whole stream is known: it goes out as one body of known events, still marked as a stream.
    let usage = match (&entry.usage_event, usage_event) {
        (Some(usage), UsageEvent::Asked) => &usage[..],
        _ => &[],
    };
    let delimited = unknown_length(record);
    let next = head::write(generation, record, 200, &entry.content_type, delimited, b"", &mut client.output);
    let terminal = record.dialect.terminal();
    let tail = terminal.map_or(0, |data| b"data: \n\n".len() + data.len());
    let length = entry.body.len() + usage.len() + tail;
    if delimited == Delimited::Chunks {
        encode::chunk_prefix(&mut client.output, length);
    }
    if entry.body.len() <= COPY_BYTES {
        client.output.extend_from_slice(&entry.body);
    } else {
        client.flush_with(entry.body.clone(), timeout_ms).await.map_err(gone)?;
    }
    client.output.extend_from_slice(usage);
    if let Some(data) = terminal {
        sse::event(&mut client.output, data);
    }
    if delimited == Delimited::Chunks {
        client.output.extend_from_slice(encode::LINE_END);
        client.output.extend_from_slice(encode::LAST_CHUNK);
    }
    record.sent_bytes += length as u64;
    Ok(next)
}

/// Writes a stored stream event by event, so many a second; those that are due together leave together. Once the node drains, the
/// rest leaves at once. Errors: the client has gone.
async fn paced(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    entry: &Entry,
    usage_event: UsageEvent,
    rate: u64,
) -> Result<Next, Failure> {
    let timeout_ms = generation.snapshot.server.timeout_write_ms;
    let gone = |_| Failure::ClientGone;
    let delimited = unknown_length(record);
    let next = head::write(generation, record, 200, &entry.content_type, delimited, b"", &mut client.output);
    let write = |client: &mut ClientConnection<'_>, record: &mut RequestRecord, bytes: &[u8]| {
        if bytes.is_empty() {
            return;
        }
        if delimited == Delimited::Chunks {
            encode::chunk_prefix(&mut client.output, bytes.len());
        }
        client.output.extend_from_slice(bytes);
        if delimited == Delimited::Chunks {
            client.output.extend_from_slice(encode::LINE_END);
        }
        record.sent_bytes += bytes.len() as u64;
    };
    let (began_ms, mut count, mut at) = (now_ms(), 0_u64, 0);
    let mut events = sse::Splitter::new();
    // What does not end as an event is the last piece.
    while at < entry.body.len() {
        let event = events.next(&entry.body).ok().flatten();
        let end = event.map_or(entry.body.len(), |_| events.scanned());
        let due_ms = began_ms.saturating_add(count.saturating_mul(1000) / rate);
        if due_ms > now_ms() && !generation.is_draining() {
            client.flush(timeout_ms).await.map_err(gone)?;
            sleep_ms(due_ms.saturating_sub(now_ms())).await;
        }
        write(client, record, &entry.body[at..end]);
        (at, count) = (end, count + 1);
    }
    if let (Some(usage), UsageEvent::Asked) = (&entry.usage_event, usage_event) {
        write(client, record, usage);
    }
    if let Some(data) = record.dialect.terminal() {
        let mut last = Vec::new();
        sse::event(&mut last, data);
        write(client, record, &last);
    }
    if delimited == Delimited::Chunks {
        client.output.extend_from_slice(encode::LAST_CHUNK);
    }
    Ok(next)
}

/// Writes the models that `principal` may use, or the one the path names.
pub fn models(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    principal: &Principal,
) -> Result<Next, Failure> {
    let snapshot = &generation.snapshot;
    let allowed = |index: usize| principal.tenant.is_none_or(|tenant| snapshot.tenants[tenant].models.allows(index));
    let mut body = generation.memory.buffers.take();
    match model_in_path(client.head.path.of(client.pending())) {
        Some(name) => {
            let name = percent::plain(name);
            let asked = snapshot.asked(&name).filter(|asked| allowed(asked.model)).ok_or(Failure::UnknownModel)?;
            record.dialect.write_model(&mut body, &snapshot.models[asked.model].asked_name(asked.star));
        }
        None => {
            let is_shown = |(index, model): &(usize, &Model)| allowed(*index) && !model.is_pattern();
            let names = snapshot.models.iter().enumerate().filter(is_shown);
            record.dialect.write_models(&mut body, names.map(|(_, model)| model.name.as_str()));
        }
    }
    let next = whole(generation, client, record, b"application/json", &body);
    generation.memory.buffers.give(body);
    Ok(next)
}

/// Answers what a browser asks before it sends a request, with `fields`.
pub fn preflight(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    fields: &[u8],
) -> Next {
    head::write(generation, record, 204, b"", Delimited::Nothing, fields, &mut client.output)
}

/// Writes a short text.
pub fn text(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    body: &str,
) -> Next {
    whole(generation, client, record, b"text/plain; charset=utf-8", body.as_bytes())
}

fn whole(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    content_type: &[u8],
    body: &[u8],
) -> Next {
    let delimited = Delimited::Length(body.len() as u64);
    let next = head::write(generation, record, 200, content_type, delimited, b"", &mut client.output);
    if record.delivery.method != Method::Head {
        client.output.extend_from_slice(body);
        record.sent_bytes += body.len() as u64;
    }
    next
}
