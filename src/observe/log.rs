//! The access log: one JSON line per exchange, formatted on the data core into a buffer that is passed to the I/O core.
//! A few buffers per core are recycled, so that writing a line does not allocate. The amount in transit is bounded:
//! further lines are dropped and counted.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::snapshot::AccessLog;
use crate::limits::LOG_BYTES;
use crate::wire::json::write_json_string;

/// A buffer is sent to the I/O core when it holds this much, or after about a second.
const FULL_BYTES: usize = 32 << 10;
/// Extra capacity for the line that fills the buffer.
const ROOM_BYTES: usize = 4 << 10;
/// Buffers in use per core: one being filled, the others in transit.
const BUFFERS: usize = 4;

/// The unwritten lines of one core.
pub struct LogBuffer {
    on: bool,
    lines: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Bytes of the buffers that the I/O core has.
    under_way: usize,
    /// Dropped lines: not reported to the I/O core yet, and in total.
    dropped: u64,
    dropped_ever: u64,
}

/// The log entry of one exchange. Durations in microseconds.
pub struct Entry<'a> {
    pub unix_ms: u64,
    pub request_id: &'a [u8],
    pub core: u16,
    /// The client's address.
    pub client: Option<IpAddr>,
    pub tenant: Option<&'a str>,
    /// The beginning of the hash of the tenant's key.
    pub credential: Option<[u8; 4]>,
    pub endpoint: &'static str,
    pub model: Option<&'a str>,
    pub backend: Option<&'a str>,
    pub status: u16,
    pub cache: &'static str,
    /// Why the answer is not stored.
    pub not_stored: Option<&'static str>,
    pub stream: bool,
    pub total_us: u64,
    pub first_byte_us: Option<u64>,
    pub sent_bytes: u64,
    pub tokens: Option<(u64, u64)>,
    /// Of these, what the backend had in its cache, and what was thought and not said.
    pub parts: (u64, u64),
    /// What its upstream call cost, as a number, and what one would have cost that was not needed.
    pub cost: Option<&'a str>,
    pub saved: Option<&'a str>,
    pub error: Option<&'static str>,
}

/// One attempt at a backend.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub backend: Arc<str>,
    /// None while it goes on.
    pub result: Option<&'static str>,
    /// Of an answer that was an error.
    pub status: Option<u16>,
    pub us: u64,
}

impl LogBuffer {
    pub fn new(to: &AccessLog) -> LogBuffer {
        let on = *to != AccessLog::Off;
        let buffer = || Vec::with_capacity(FULL_BYTES + ROOM_BYTES);
        LogBuffer {
            on,
            lines: if on { buffer() } else { Vec::new() },
            spare: if on { (1..BUFFERS).map(|_| buffer()).collect() } else { Vec::new() },
            under_way: 0,
            dropped: 0,
            dropped_ever: 0,
        }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn is_full(&self) -> bool {
        self.lines.len() >= FULL_BYTES
    }

    /// Takes the lines for sending, and how many were dropped before them; `None` if there are none, or if too many
    /// bytes are in transit.
    pub fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        if self.lines.is_empty() || self.under_way >= LOG_BYTES {
            return None;
        }
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(FULL_BYTES + ROOM_BYTES));
        let lines = std::mem::replace(&mut self.lines, next);
        self.under_way += lines.capacity();
        Some((lines, std::mem::take(&mut self.dropped)))
    }

    /// The taken lines could not be sent: counts them as dropped.
    pub fn refused(&mut self, lines: Vec<u8>, dropped: u64) {
        let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped += dropped + lost;
        self.dropped_ever += lost;
        self.put_back(lines);
    }

    /// Lines dropped since the start.
    pub fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }

    /// Returns a buffer from the I/O core.
    pub fn put_back(&mut self, mut lines: Vec<u8>) {
        self.under_way = self.under_way.saturating_sub(lines.capacity());
        if self.spare.len() < BUFFERS {
            lines.clear();
            self.spare.push(lines);
        }
    }

    /// Appends one line. While too many bytes are in transit, one full buffer is kept and further lines are dropped.
    pub fn write(&mut self, entry: &Entry<'_>) {
        if self.is_full() {
            self.dropped += 1;
            self.dropped_ever += 1;
            return;
        }
        let out = &mut self.lines;
        out.extend_from_slice(b"{\"time\":");
        number(out, entry.unix_ms);
        text(out, "id", std::str::from_utf8(entry.request_id).unwrap_or(""));
        field(out, "core", u64::from(entry.core));
        if let Some(client) = entry.client {
            name(out, "client");
            let _ = write!(out, "\"{client}\""); // into memory
        }
        if let Some(tenant) = entry.tenant {
            text(out, "tenant", tenant);
        }
        if let Some(credential) = entry.credential {
            out.extend_from_slice(b",\"credential\":\"");
            for byte in credential {
                out.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
            }
            out.push(b'"');
        }
        text(out, "endpoint", entry.endpoint);
        if let Some(model) = entry.model {
            text(out, "model", model);
        }
        if let Some(backend) = entry.backend {
            text(out, "backend", backend);
        }
        field(out, "status", u64::from(entry.status));
        text(out, "cache", entry.cache);
        if let Some(reason) = entry.not_stored {
            text(out, "not_stored", reason);
        }
        if entry.stream {
            out.extend_from_slice(b",\"stream\":true");
        }
        field(out, "total_us", entry.total_us);
        if let Some(first) = entry.first_byte_us {
            field(out, "first_byte_us", first);
        }
        field(out, "sent_bytes", entry.sent_bytes);
        if let Some((prompt, completion)) = entry.tokens {
            field(out, "prompt_tokens", prompt);
            field(out, "completion_tokens", completion);
        }
        for (title, part) in [("cached_prompt_tokens", entry.parts.0), ("reasoning_tokens", entry.parts.1)] {
            if part > 0 {
                field(out, title, part);
            }
        }
        if let Some(cost) = entry.cost {
            name(out, "cost");
            out.extend_from_slice(cost.as_bytes());
        }
        if let Some(saved) = entry.saved {
            name(out, "saved_cost");
            out.extend_from_slice(saved.as_bytes());
        }
        if let Some(error) = entry.error {
            text(out, "error", error);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn field(out: &mut Vec<u8>, title: &str, value: u64) {
    name(out, title);
    number(out, value);
}

fn text(out: &mut Vec<u8>, title: &str, value: &str) {
    name(out, title);
    write_json_string(out, value);
}

#[cfg(test)]
mod tests;
