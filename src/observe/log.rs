//! The access log: one JSON line per exchange, formatted on the data core into a buffer that is passed to the I/O core.
//! A few buffers per core are recycled, so that writing a line does not allocate. The amount in transit is bounded:
//! further lines are dropped and counted.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::snapshot::AccessLog;
use crate::limits::LOG_BYTES;
use crate::wire::hex::hex;
use crate::wire::json::write_json_bytes;

/// A buffer is sent to the I/O core when it holds this much, or after about a second. Each costs a wake-up there and a hand-over to
/// the kernel's writer, as much as some 100 lines.
const FULL_BYTES: usize = 128 << 10;
/// Extra capacity for the line that fills the buffer.
const ROOM_BYTES: usize = 4 << 10;
/// Buffers in use per core: one being filled, the others in transit.
const BUFFERS: usize = 4;
/// The result of an attempt that brought an answer, see `counters::AttemptResult`.
const ANSWERED: &str = "success";

/// A field's name as it stands in a line, behind another field.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
/// The same of a field whose value is a word of ours, with its opening quote.
macro_rules! word_key {
    ($name:literal) => {
        concat!(",\"", $name, "\":\"")
    };
}

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
    /// Their bytes, in total.
    dropped_bytes: u64,
    second: Second,
    client: Client,
}

/// The log entry of one exchange; [`FIELDS`] says what each field means. Durations in microseconds.
#[derive(Default)]
pub struct Entry<'a> {
    pub unix_ms: u64,
    pub request_id: &'a [u8],
    pub core: u16,
    /// The client's address.
    pub client: Option<IpAddr>,
    pub tenant: Option<&'a str>,
    /// The beginning of the hash of the tenant's key.
    pub credential: Option<[u8; 4]>,
    pub method: Option<&'static str>,
    pub path: Option<&'a [u8]>,
    pub endpoint: &'static str,
    pub model: Option<&'a str>,
    /// The prompt template that the request named, and its version.
    pub template: Option<(&'a str, &'a str)>,
    pub served_model: Option<&'a str>,
    pub backend: Option<&'a str>,
    pub attempts: &'a [Attempt],
    pub status: u16,
    pub cache: &'static str,
    /// Why the answer is not stored.
    pub not_stored: Option<&'static str>,
    pub stream: bool,
    pub total_us: u64,
    pub first_byte_us: Option<u64>,
    pub queue_us: u64,
    pub connect_us: u64,
    pub sent_bytes: u64,
    /// On a WebSocket.
    pub received_bytes: u64,
    pub tokens: Option<(u64, u64)>,
    /// Of these, what the backend had in its cache, what it wrote there, and what was thought and not said.
    pub parts: [u64; 3],
    /// Whether these are an estimate.
    pub usage_is_estimated: bool,
    /// What its upstream call cost, as a number, and what one would have cost that was not needed.
    pub cost: Option<&'a str>,
    pub saved: Option<&'a str>,
    pub error: Option<&'static str>,
    pub trace_id: Option<[u8; 16]>,
}

/// Names of a line's fields, in order, and what each means; docs/access-log.md is generated from them.
#[rustfmt::skip]
pub const FIELDS: &[(&str, &str)] = &[
    ("time", "When the line was written, in UTC (RFC 3339, with milliseconds): at the end of the exchange, or of its upstream call if the client disconnected before."),
    ("id", "The request's `x-request-id`: the client's, or a generated one."),
    ("core", "The data core that served it."),
    ("client", "The client's address, from the connection, a trusted proxy's header or the PROXY header. Absent on Unix sockets."),
    ("tenant", "The tenant of the request."),
    ("credential", "The key: the first four bytes of its SHA-256. `ringway key which` shows whose it is."),
    ("method", "The request's method. Absent if the head could not be parsed."),
    ("path", "The request's path without its query, which may hold a credential; its first 1024 bytes."),
    ("endpoint", "The kind of endpoint, with the same values as the metrics label."),
    ("model", "The model that was requested, as the client named it. Absent if none of that name is configured."),
    ("template", "The prompt template that the request was rendered from; see [prompt templates](templates.md)."),
    ("template_version", "Its version."),
    ("served_model", "The fallback model that answered instead."),
    ("backend", "The backend that the answer came from."),
    ("attempts", "Attempts at backends in order, unless there was only one and it was answered: `backend`; `result` as in `ringway_backend_requests_total`, absent if the attempt went on; `status` of an error answer; `us`, the time to its first content or failure. The first sixteen."),
    ("status", "The status that the client received; 0 if it disconnected before."),
    ("cache", "What the cache did: `hit`, `miss`, `joined` (another request's upstream call), `stale`, `refused` (by the client's `Cache-Control`), `too_old`, `bypass`."),
    ("not_stored", "Why the answer was not stored; see [the cache](cache.md). Absent with `error`."),
    ("stream", "`true` if the answer was an event stream."),
    ("total_us", "From the head of the request to the end of the answer."),
    ("first_byte_us", "To the first byte of the answer; for a stream, to its first token."),
    ("queue_us", "Of that, the wait for a permit of the model, over all attempts."),
    ("connect_us", "Of that, the wait for connections: dialing, handshakes, and the backends' connection limits."),
    ("sent_bytes", "Bytes of the body that were sent; for a WebSocket (status 101), bytes from the backend."),
    ("received_bytes", "For a WebSocket, bytes from the client."),
    ("prompt_tokens", "Tokens of the prompt, as reported by the backend."),
    ("completion_tokens", "Tokens of the answer."),
    ("cached_prompt_tokens", "Prompt tokens served from the provider's own cache."),
    ("cache_write_tokens", "Prompt tokens written to the provider's own cache."),
    ("reasoning_tokens", "Completion tokens used for reasoning."),
    ("usage", "`estimated` if the answer was truncated or its backend reported no usage: tokens and `cost` are the estimates that limits count. Absent otherwise."),
    ("cost", "Cost of the upstream call, in the unit of the prices."),
    ("saved_cost", "Cost of the upstream call that was not needed."),
    ("error", "The code of the error that ended the exchange, as the client sees it; `client_gone` if the client disconnected."),
    ("trace_id", "The trace id. Only with `[traces] endpoint`."),
];

/// docs/access-log.md.
pub fn reference() -> String {
    let mut out = String::from(
        "# Access log\n\n\
         Generated from `src/observe/log.rs`; `UPDATE=1 cargo test --lib observe::log` writes it.\n\n\
         `[log] access` is the absolute path of a file, or `\"stdout\"`. Each exchange, refused ones included, is logged as one line of JSON when it ends. Field names are stable; fields without a value are absent. Times in `_us` are microseconds. Prompts, answers and \
         credentials are never written.\n\n\
         The file is opened with mode 0640 for appending, and reopened by its name on SIGUSR1 and `POST /v1/reopen`; it may be truncated at any time. Data cores hand their lines to the I/O core within a second. If the disk is full, or the disk or the reader of standard output is too slow, lines are dropped and counted (`ringway_log_dropped_lines_total`, `ringway_log_dropped_bytes_total`); neither requests nor a stop wait for the log.\n\n\
         | Field | What it is |\n|---|---|\n",
    );
    for (name, meaning) in FIELDS {
        out.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    out
}

/// Of a path, so much is written.
const PATH_BYTES: usize = 1024;

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
            dropped_bytes: 0,
            second: Second::default(),
            client: Client::default(),
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
        self.dropped_bytes += lines.len() as u64;
        self.put_back(lines);
    }

    /// Lines dropped since the start.
    pub fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }

    /// Their bytes.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Bytes of the lines that are not written yet, as far as this core knows.
    pub fn waiting_bytes(&self) -> u64 {
        (self.lines.len() + self.under_way) as u64
    }

    /// Takes a buffer back from the I/O core with what it could not write, so many lines, and has said so.
    pub fn written(&mut self, lines: Vec<u8>, lost: u64) {
        self.dropped_ever += lost;
        self.dropped_bytes += lines.len() as u64;
        self.put_back(lines);
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
        let (is_full, before) = (self.is_full(), self.lines.len());
        self.append(entry);
        if is_full {
            self.dropped += 1;
            self.dropped_ever += 1;
            self.dropped_bytes += (self.lines.len() - before) as u64;
            self.lines.truncate(before);
        }
    }

    fn append(&mut self, entry: &Entry<'_>) {
        let out = &mut self.lines;
        out.extend_from_slice(b"{\"time\":\"");
        self.second.write(entry.unix_ms, out);
        out.push(b'"');
        bytes(out, key!("id"), entry.request_id);
        field(out, key!("core"), u64::from(entry.core));
        if let Some(client) = entry.client {
            out.extend_from_slice(b",\"client\":\"");
            self.client.write(client, out);
            out.push(b'"');
        }
        if let Some(tenant) = entry.tenant {
            text(out, key!("tenant"), tenant);
        }
        if let Some(credential) = entry.credential {
            out.extend_from_slice(b",\"credential\":\"");
            out.extend_from_slice(&hex(u32::from_be_bytes(credential)));
            out.push(b'"');
        }
        if let Some(method) = entry.method {
            word(out, word_key!("method"), method);
        }
        if let Some(path) = entry.path {
            bytes(out, key!("path"), &path[..path.len().min(PATH_BYTES)]);
        }
        word(out, word_key!("endpoint"), entry.endpoint);
        if let Some(model) = entry.model {
            text(out, key!("model"), model);
        }
        if let Some((template, version)) = entry.template {
            text(out, key!("template"), template);
            text(out, key!("template_version"), version);
        }
        for (title, value) in [(key!("served_model"), entry.served_model), (key!("backend"), entry.backend)] {
            if let Some(value) = value {
                text(out, title, value);
            }
        }
        attempts(out, entry.attempts);
        field(out, key!("status"), u64::from(entry.status));
        word(out, word_key!("cache"), entry.cache);
        if let Some(reason) = entry.not_stored {
            word(out, word_key!("not_stored"), reason);
        }
        if entry.stream {
            out.extend_from_slice(b",\"stream\":true");
        }
        field(out, key!("total_us"), entry.total_us);
        if let Some(first) = entry.first_byte_us {
            field(out, key!("first_byte_us"), first);
        }
        for (title, us) in [(key!("queue_us"), entry.queue_us), (key!("connect_us"), entry.connect_us)] {
            if us > 0 {
                field(out, title, us);
            }
        }
        field(out, key!("sent_bytes"), entry.sent_bytes);
        if entry.received_bytes > 0 {
            field(out, key!("received_bytes"), entry.received_bytes);
        }
        if let Some((prompt, completion)) = entry.tokens {
            field(out, key!("prompt_tokens"), prompt);
            field(out, key!("completion_tokens"), completion);
        }
        let titles = [key!("cached_prompt_tokens"), key!("cache_write_tokens"), key!("reasoning_tokens")];
        for (title, part) in titles.into_iter().zip(entry.parts) {
            if part > 0 {
                field(out, title, part);
            }
        }
        if entry.usage_is_estimated {
            out.extend_from_slice(b",\"usage\":\"estimated\"");
        }
        if let Some(cost) = entry.cost {
            name(out, key!("cost"));
            out.extend_from_slice(cost.as_bytes());
        }
        if let Some(saved) = entry.saved {
            name(out, key!("saved_cost"));
            out.extend_from_slice(saved.as_bytes());
        }
        if let Some(error) = entry.error {
            word(out, word_key!("error"), error);
        }
        if let Some(trace_id) = entry.trace_id {
            out.extend_from_slice(b",\"trace_id\":\"");
            for part in trace_id.as_chunks().0 {
                out.extend_from_slice(&hex(u32::from_be_bytes(*part)));
            }
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Nothing of a single one that was answered: its backend is that of the line.
fn attempts(out: &mut Vec<u8>, attempts: &[Attempt]) {
    if attempts.iter().all(|attempt| attempt.result == Some(ANSWERED)) && attempts.len() < 2 {
        return;
    }
    name(out, key!("attempts"));
    for (place, attempt) in attempts.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"[{\"backend\":" } else { b",{\"backend\":" });
        write_json_bytes(out, attempt.backend.as_bytes());
        if let Some(result) = attempt.result {
            word(out, word_key!("result"), result);
        }
        if let Some(status) = attempt.status {
            field(out, key!("status"), u64::from(status));
        }
        if attempt.result.is_some() {
            field(out, key!("us"), attempt.us);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// The last second that was written, and how RFC 3339 spells it up to its fraction.
struct Second {
    unix_s: u64,
    text: [u8; 19],
}

impl Default for Second {
    fn default() -> Second {
        Second { unix_s: 0, text: *b"1970-01-01T00:00:00" }
    }
}

impl Second {
    fn write(&mut self, unix_ms: u64, out: &mut Vec<u8>) {
        let (unix_s, ms) = (unix_ms / 1000, (unix_ms % 1000) as u16);
        if unix_s != self.unix_s {
            (self.unix_s, self.text) = (unix_s, spelled(unix_s));
        }
        out.extend_from_slice(&self.text);
        let digit = |number: u16| b'0' + (number % 10) as u8;
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }
}

/// The civil date of a day since 1970 in the proleptic Gregorian calendar: years are counted from March, in eras of 400.
fn spelled(unix_s: u64) -> [u8; 19] {
    let (day, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month < 3);
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let mut text = *b"0000-00-00T00:00:00";
    for (at, number) in
        [(2, year), (5, month), (8, day), (11, second / 3600), (14, second / 60 % 60), (17, second % 60)]
    {
        (text[at], text[at + 1]) = (b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8);
    }
    (text[0], text[1]) = (b'0' + (year / 1000 % 10) as u8, b'0' + (year / 100 % 10) as u8);
    text
}

/// The last client's address that was written, and its text: most lines come from few of them.
struct Client {
    address: IpAddr,
    text: Vec<u8>,
}

impl Default for Client {
    fn default() -> Client {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Client { address, text: address.to_string().into_bytes() }
    }
}

impl Client {
    fn write(&mut self, address: IpAddr, out: &mut Vec<u8>) {
        if address != self.address {
            self.address = address;
            self.text.clear();
            _ = write!(self.text, "{address}"); // into memory
        }
        out.extend_from_slice(&self.text);
    }
}

// Where it is inlined, a name of known length takes a few stores.
#[inline(always)]
fn name(out: &mut Vec<u8>, key: &'static str) {
    out.extend_from_slice(key.as_bytes());
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline(always)]
fn field(out: &mut Vec<u8>, key: &'static str, value: u64) {
    name(out, key);
    number(out, value);
}

#[inline(always)]
fn text(out: &mut Vec<u8>, key: &'static str, value: &str) {
    bytes(out, key, value.as_bytes());
}

#[inline(always)]
fn bytes(out: &mut Vec<u8>, key: &'static str, value: &[u8]) {
    name(out, key);
    write_json_bytes(out, value);
}

/// A word of ours has nothing to escape.
#[inline(always)]
fn word(out: &mut Vec<u8>, key: &'static str, value: &'static str) {
    name(out, key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests;
