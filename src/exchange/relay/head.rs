//! Response heads, in one place: what every client sees of the gateway itself.

use data_encoding::HEXLOWER;

use super::cors;
use super::next::Next;
use crate::config::snapshot::BackendShown;
use crate::dialect::facts::{Form, PublicError};
use crate::error::{Failure, Public};
use crate::exchange::entry::Level;
use crate::exchange::generation::Generation;
use crate::exchange::record::{CacheMark, HttpVersion, RequestRecord, Truncation};
use crate::exchange::spend::Remaining;
use crate::wire::coding::Coding;
use crate::wire::http1::{Method, Persistence, encode};

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    Length(u64),
    Chunks,
    /// The end of the connection, or of the stream of HTTP/2.
    Close,
    /// By its status or the request's method there is no body, and nothing to say of one.
    Nothing,
}

/// Delimits a body whose length is not known: chunks, the close for clients of HTTP/1.0, the end of the stream in HTTP/2.
pub fn unknown_length(record: &RequestRecord) -> Delimited {
    match record.delivery.version {
        HttpVersion::Http11 => Delimited::Chunks,
        HttpVersion::Http10 | HttpVersion::Http2 => Delimited::Close,
    }
}

/// Whether a content type, parameters or not, is that of a stream of events.
pub fn is_events(content_type: &[u8]) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    content_type.get(..EVENTS.len()).is_some_and(|name| name.eq_ignore_ascii_case(EVENTS))
}

/// Writes a head. `further` are header lines with their ends.
pub fn write(
    generation: &Generation,
    record: &mut RequestRecord,
    status: u16,
    content_type: &[u8],
    delimited: Delimited,
    further: &[u8],
    out: &mut Vec<u8>,
) -> Next {
    record.status = status;
    record.truncation = if delimited == Delimited::Close { Truncation::ByReset } else { Truncation::ByFraming };
    record.first_byte_us.get_or_insert_with(crate::net::now_us);
    encode::status_line(out, status);
    generation.memory.write_date(out);
    if !content_type.is_empty() {
        encode::field(out, "content-type", content_type);
    }
    match delimited {
        Delimited::Length(length) => encode::field_number(out, "content-length", length),
        Delimited::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Delimited::Close | Delimited::Nothing => {}
    }
    if is_events(content_type) {
        // So that no proxy in front holds events back to compress or to buffer them, and no cache serves them again: it would have to
        // ask first, and they have no validator.
        out.extend_from_slice(b"cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\n");
    } else {
        out.extend_from_slice(b"cache-control: private, no-store\r\n");
    }
    write_cache_fields(record, out);
    write_own_fields(generation, record, out);
    out.extend_from_slice(further);
    let next = if record.delivery.version == HttpVersion::Http2 {
        // RFC 9113 8.2.2: there is no such field; the connection's own end is GOAWAY.
        Next::KeepAlive
    } else if record.delivery.persistence == Persistence::Close
        || delimited == Delimited::Close
        || generation.is_draining() && record.is_last()
    {
        out.extend_from_slice(b"connection: close\r\n");
        Next::Close
    } else {
        if record.delivery.version == HttpVersion::Http10 {
            // RFC 9112 9.3: persistence is not the default of HTTP/1.0.
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        Next::KeepAlive
    };
    encode::head_end(out);
    next
}

/// What says whose answer it is: the request's id, the page that may read it, and what is left of its limits.
pub fn write_own_fields(generation: &Generation, record: &RequestRecord, out: &mut Vec<u8>) {
    encode::field(out, "x-request-id", record.request_id.bytes());
    if let Some(page) = record.page {
        cors::write(&generation.snapshot.cors, page, out);
    }
    if generation.snapshot.server.backend_shown == BackendShown::Shown {
        write_origin(generation, record, out);
    }
    if let Some(left) = record.left
        && (record.status < 300 || record.status == 429)
    {
        write_rate_limits(left.remaining(generation), out);
    }
}

/// Who has answered, by the names in the configuration.
fn write_origin(generation: &Generation, record: &RequestRecord, out: &mut Vec<u8>) {
    if let Some(backend) = &record.backend {
        encode::field(out, "x-ringway-backend", backend.as_bytes());
    }
    if let Some(model) = record.model {
        let own = generation.snapshot.models[model].name.as_str();
        encode::field(out, "x-ringway-model", record.served.as_deref().unwrap_or(own).as_bytes());
    }
}

/// OpenAI's `x-ratelimit-*`: what is left of the limits of requests and tokens that are nearest to their end.
fn write_rate_limits(remaining: Remaining, out: &mut Vec<u8>) {
    if let Some(requests) = remaining.requests {
        encode::field_number(out, "x-ratelimit-limit-requests", requests.limit);
        encode::field_number(out, "x-ratelimit-remaining-requests", requests.left);
        out.extend_from_slice(b"x-ratelimit-reset-requests: ");
        write_duration(requests.whole_ms(), out);
    }
    if let Some(tokens) = remaining.tokens {
        encode::field_number(out, "x-ratelimit-limit-tokens", tokens.limit);
        encode::field_number(out, "x-ratelimit-remaining-tokens", tokens.left);
        out.extend_from_slice(b"x-ratelimit-reset-tokens: ");
        write_duration(tokens.whole_ms(), out);
    }
}

/// As OpenAI spells durations, `1h2m3s` or `500ms`, with the end of the line.
fn write_duration(ms: u64, out: &mut Vec<u8>) {
    let whole_s = ms.div_ceil(1000);
    if (1..1_000).contains(&ms) {
        encode::number(out, ms);
        return out.extend_from_slice(b"ms\r\n");
    }
    if whole_s >= 3_600 {
        encode::number(out, whole_s / 3_600);
        out.push(b'h');
    }
    if whole_s >= 60 {
        encode::number(out, whole_s / 60 % 60);
        out.push(b'm');
    }
    encode::number(out, whole_s % 60);
    out.extend_from_slice(b"s\r\n");
}

/// Longest wait that OpenAI's libraries heed.
const HEEDED_MS: u64 = 60_000;

/// When to try again, and whether to do so at all without being told to.
fn write_wait(in_ms: Option<u64>, out: &mut Vec<u8>) {
    match in_ms {
        // A limit of a minute: a moment more, or less, is not worth that a client does not wait at all.
        Some(ms) if ms < HEEDED_MS + 5_000 => {
            let ms = ms.min(HEEDED_MS);
            encode::field_number(out, "retry-after", ms.div_ceil(1000));
            encode::field_number(out, "retry-after-ms", ms);
        }
        Some(ms) => {
            encode::field_number(out, "retry-after", ms.div_ceil(1000));
            encode::field(out, "x-should-retry", b"false");
        }
        None => encode::field(out, "x-should-retry", b"false"),
    }
}

/// `x-cache`, and RFC 9211's `cache-status` with `age` (RFC 9111 5.1) on hits.
fn write_cache_fields(record: &RequestRecord, out: &mut Vec<u8>) {
    match record.cache {
        CacheMark::Hit { age_ms, ttl_ms } => {
            out.extend_from_slice(b"x-cache: HIT\r\ncache-status: ringway; hit; ttl=");
            let left_ms = ttl_ms.saturating_sub(age_ms);
            out.extend_from_slice(itoa::Buffer::new().format(left_ms / 1000).as_bytes());
            match record.level {
                Level::First => {}
                Level::Second => out.extend_from_slice(b"; detail=redis"),
                Level::Inputs => out.extend_from_slice(b"; detail=inputs"),
            }
            write_key(record, out);
            out.extend_from_slice(b"\r\n");
            encode::field_number(out, "age", age_ms / 1000);
        }
        CacheMark::Stale { age_ms, ttl_ms } => {
            // RFC 9211 2.3: the time to live of an expired answer is negative.
            out.extend_from_slice(b"x-cache: HIT\r\ncache-status: ringway; fwd=stale; detail=stale-if-error; ttl=-");
            let over_ms = age_ms.saturating_sub(ttl_ms);
            out.extend_from_slice(itoa::Buffer::new().format(over_ms / 1000).as_bytes());
            write_key(record, out);
            out.extend_from_slice(b"\r\n");
            encode::field_number(out, "age", age_ms / 1000);
        }
        CacheMark::Miss => forwarded(record, b"x-cache: MISS\r\ncache-status: ringway; fwd=uri-miss", out),
        CacheMark::Joined => forwarded(record, b"x-cache: MISS\r\ncache-status: ringway; fwd=uri-miss; collapsed", out),
        CacheMark::Refused => forwarded(record, b"x-cache: MISS\r\ncache-status: ringway; fwd=request", out),
        CacheMark::TooOld => forwarded(record, b"x-cache: MISS\r\ncache-status: ringway; fwd=stale", out),
        CacheMark::Bypass => forwarded(record, b"x-cache: BYPASS\r\ncache-status: ringway; fwd=bypass", out),
    }
}

/// What was not in the cache, and why it will not be, as far as that is known by now: of a stream it mostly is not.
fn forwarded(record: &RequestRecord, fields: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(fields);
    if let Some(reason) = record.not_stored {
        out.extend_from_slice(b"; detail=");
        out.extend_from_slice(reason.label().as_bytes());
    }
    write_key(record, out);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9211 2.7.
fn write_key(record: &RequestRecord, out: &mut Vec<u8>) {
    let Some(key) = record.key else { return };
    out.extend_from_slice(b"; key=\"");
    let mut digits = [0; 64];
    HEXLOWER.encode_mut(&key.0, &mut digits);
    out.extend_from_slice(&digits);
    out.push(b'"');
}

/// What the client of `record` is told, in the terms of any dialect.
pub fn told<'a>(public: &'a Public, record: &'a RequestRecord) -> PublicError<'a> {
    PublicError {
        status: public.status,
        message: &public.message,
        kind: public.kind,
        code: Some(public.code),
        param: public.param,
        // Visible ASCII.
        request_id: std::str::from_utf8(record.request_id.bytes()).unwrap_or_default(),
    }
}

/// Writes a failure as a whole response, for a client that has got nothing yet.
pub fn refuse(generation: &Generation, record: &mut RequestRecord, failure: &Failure, out: &mut Vec<u8>) -> Next {
    let public = failure.public();
    let mut body = generation.memory.buffers.take();
    record.dialect.write_error(&mut body, &told(&public, record));
    let mut further = Vec::new();
    match failure {
        Failure::NoCredential | Failure::UnknownCertificate => {
            encode::field(&mut further, "www-authenticate", b"Bearer")
        }
        Failure::UnknownCredential | Failure::ExpiredCredential | Failure::DisabledCredential => {
            encode::field(&mut further, "www-authenticate", b"Bearer error=\"invalid_token\"");
        }
        // RFC 9110 15.5.22: with the protocol that is served.
        Failure::NoUpgrade => further.extend_from_slice(b"upgrade: HTTP/1.1\r\nconnection: upgrade\r\n"),
        Failure::WrongMethod { allow } => encode::field(&mut further, "allow", allow.as_bytes()),
        Failure::UnknownCoding => encode::field(&mut further, "accept-encoding", Coding::ACCEPTED.as_bytes()),
        Failure::MemoryFull | Failure::NoBackend | Failure::QueueFull | Failure::QueueTimeout | Failure::Draining => {
            encode::field(&mut further, "retry-after", b"1")
        }
        Failure::DeadlineUnreachable { retry_s } => {
            encode::field_number(&mut further, "retry-after", u64::from(*retry_s))
        }
        Failure::Limited(limited) => write_wait(limited.in_ms, &mut further),
        _ => {}
    }
    record.form = Form::NonStreaming;
    let delimited = Delimited::Length(body.len() as u64);
    let next = write(generation, record, public.status, b"application/json", delimited, &further, out);
    if record.delivery.method != Method::Head {
        out.extend_from_slice(&body);
    }
    generation.memory.buffers.give(body);
    next
}

#[cfg(test)]
mod tests {
    use super::write_duration;

    #[test]
    fn durations_are_spelled_as_openai_does() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_001, "2s"),
            (62_000, "1m2s"),
            (3_600_000, "1h0m0s"),
            (86_399_999, "24h0m0s"),
        ] {
            let mut out = Vec::new();
            write_duration(ms, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{text}\r\n"));
        }
    }
}
