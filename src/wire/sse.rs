//! Server-sent events, parsed and written (WHATWG HTML 9.2). Sans-IO: the caller owns the buffer, the splitter the
//! offset up to which it was scanned, so that no byte is scanned twice. Ordinary events are not copied. It must never
//! report an event whose blank line has not arrived.

use super::Span;
use crate::limits::EVENT_BYTES;

#[cfg(test)]
mod tests;

/// Why a stream cannot be split further. The splitter is unusable afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseFault {
    #[error("a server-sent event is longer than {EVENT_BYTES} bytes")]
    EventTooLong,
}

/// One block of a stream, including its blank line. Spans point into the buffer given to `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// All bytes since the previous block: fields, comments, line ends. The concatenation of all `whole`s is the
    /// stream.
    pub whole: Span,
    pub data: EventData,
    /// Value of the last `event` field; empty if there is none.
    pub name: Span,
}

/// Where an event's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventData {
    /// No `data` field: comments, for example; to be relayed but not interpreted.
    Absent,
    /// One `data` field.
    Line(Span),
    /// Several `data` fields, joined by line feeds in the splitter until the next call.
    Joined,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At a blank line.
    Complete,
    /// Inside an event, which was not reported.
    Incomplete,
}

/// Splits a stream into events. The buffer passed to `next` must start after the bytes released so far, and between
/// releases may only grow at its end.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Offsets of the current event, the current line and the first unscanned byte.
    event_start: usize,
    line_start: usize,
    scanned: usize,
    /// Whether any line was read: a byte order mark is only allowed before the first.
    past_first_line: bool,
    /// The last line ended in a carriage return at the end of the buffer: a following line feed belongs to the same
    /// line end.
    after_return: bool,
    data_lines: usize,
    data: Span,
    name: Span,
    joined: Vec<u8>,
}

impl Splitter {
    pub fn new() -> Splitter {
        Splitter::default()
    }

    /// The next complete event in `buffer`; `None` if more bytes are needed. Call it until it returns `None`.
    pub fn next(&mut self, buffer: &[u8]) -> Result<Option<Event>, SseFault> {
        loop {
            if self.after_return && self.scanned < buffer.len() {
                self.after_return = false;
                if buffer[self.scanned] == b'\n' {
                    self.scanned += 1;
                    self.line_start = self.scanned;
                }
            }
            let rest = buffer.get(self.scanned..).unwrap_or(&[]);
            let Some(found) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.scanned = buffer.len().max(self.scanned);
                return self.bounded(None);
            };
            let line_end = self.scanned + found;
            self.scanned = line_end + 1;
            if buffer[line_end] == b'\r' {
                match buffer.get(self.scanned) {
                    Some(b'\n') => self.scanned += 1,
                    Some(_) => {}
                    // Waiting for a line feed would delay a complete event.
                    None => self.after_return = true,
                }
            }
            let mut line = Span::new(self.line_start, line_end);
            self.line_start = self.scanned;
            if !self.past_first_line {
                self.past_first_line = true;
                if line.of(buffer).starts_with(b"\xef\xbb\xbf") {
                    line.start += 3;
                }
            }
            if line.is_empty() {
                let event = self.finish_event();
                return self.bounded(Some(event));
            }
            self.field(buffer, line);
        }
    }

    /// Where the event last returned by `next` ends, with its blank line.
    pub const fn scanned(&self) -> usize {
        self.scanned
    }

    /// The data of the event last returned by `next`; empty if it has none.
    pub fn data<'a>(&'a self, event: &Event, buffer: &'a [u8]) -> &'a [u8] {
        match event.data {
            EventData::Absent => &[],
            EventData::Line(span) => span.of(buffer),
            EventData::Joined => &self.joined,
        }
    }

    /// Number of bytes at the start of the buffer that are no longer needed. The caller must remove exactly these
    /// before the next call of `next`; spans of earlier events become invalid.
    #[must_use]
    pub fn release(&mut self) -> usize {
        let released = self.event_start;
        let shift = |span: Span| Span {
            start: span.start.saturating_sub(released as u32),
            end: span.end.saturating_sub(released as u32),
        };
        self.event_start = 0;
        self.line_start -= released;
        self.scanned -= released;
        self.data = shift(self.data);
        self.name = shift(self.name);
        released
    }

    /// The result if the stream ends now. `buffer` as for `next`, which must have returned `None`.
    pub fn ending(&self, buffer: &[u8]) -> Ending {
        match buffer.get(self.event_start..) {
            None | Some(b"" | b"\n") => Ending::Complete,
            Some(_) => Ending::Incomplete,
        }
    }

    fn bounded(&self, event: Option<Event>) -> Result<Option<Event>, SseFault> {
        let length = event.map_or(self.scanned - self.event_start, |event| event.whole.len());
        if length > EVENT_BYTES { Err(SseFault::EventTooLong) } else { Ok(event) }
    }

    fn finish_event(&mut self) -> Event {
        let data = match self.data_lines {
            0 => EventData::Absent,
            1 => EventData::Line(self.data),
            _ => EventData::Joined,
        };
        let event = Event { whole: Span::new(self.event_start, self.scanned), data, name: self.name };
        self.event_start = self.scanned;
        self.data_lines = 0;
        self.name = Span::default();
        event
    }

    /// Evaluates one line that is not blank. `id` and `retry` matter only to reconnecting clients; the relay forwards
    /// them.
    fn field(&mut self, buffer: &[u8], line: Span) {
        let bytes = line.of(buffer);
        let (name_len, mut value_at) = match memchr::memchr(b':', bytes) {
            Some(colon) => (colon, colon + 1),
            None => (bytes.len(), bytes.len()),
        };
        if bytes.get(value_at) == Some(&b' ') {
            value_at += 1;
        }
        let value = Span { start: line.start + value_at as u32, end: line.end };
        match &bytes[..name_len] {
            b"data" => {
                match self.data_lines {
                    0 => self.data = value,
                    lines => {
                        if lines == 1 {
                            self.joined.clear();
                            self.joined.extend_from_slice(self.data.of(buffer));
                        }
                        self.joined.push(b'\n');
                        self.joined.extend_from_slice(value.of(buffer));
                    }
                }
                self.data_lines += 1;
            }
            b"event" => self.name = value,
            _ => {}
        }
    }
}

/// Appends an event with `data`, one field per line.
pub fn event(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
            out.extend_from_slice(rest);
            break;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let line_end = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + line_end..];
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends a comment block, which clients ignore: keeps an idle connection alive. `text` must not contain a line end.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\n', '\r']));
    out.extend_from_slice(b": ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\n\n");
}
