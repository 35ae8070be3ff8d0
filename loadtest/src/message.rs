//! As much HTTP/1.1 as a mock and a generator need: complete heads, bodies by length, chunked or until close. Trusting:
//! both peers are under test, not hostile; a protocol violation is an error, never a panic.

use httparse::{EMPTY_HEADER, Header, Status};

const FIELDS: usize = 64;

/// How a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    Length(usize),
    Chunks,
    Close,
}

/// The cache status of an answer, from `x-cache` or nginx's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    Hit,
    Other,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    NonStreaming,
    Events,
}

#[derive(Debug)]
pub struct AnswerHead {
    pub status: u16,
    pub length: usize,
    pub delimited: Delimited,
    pub cache: CacheMark,
    pub keeps_open: bool,
    pub form: Form,
}

#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub path: String,
    pub length: usize,
    pub body_bytes: usize,
}

fn field<'a>(fields: &'a [Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The answer's head, or `None` if bytes are missing.
pub fn answer_head(input: &[u8]) -> Result<Option<AnswerHead>, String> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let Status::Complete(length) = answer.parse(input).map_err(|error| error.to_string())? else { return Ok(None) };
    let chunked = field(answer.headers, "transfer-encoding").is_some();
    let delimited = match field(answer.headers, "content-length") {
        _ if chunked => Delimited::Chunks,
        Some(value) => Delimited::Length(number(value).ok_or("content-length is not a number")?),
        None => Delimited::Close,
    };
    let cache = match field(answer.headers, "x-cache") {
        Some(value) if value.eq_ignore_ascii_case(b"hit") => CacheMark::Hit,
        Some(_) => CacheMark::Other,
        None => CacheMark::None,
    };
    let closes = field(answer.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let events = field(answer.headers, "content-type").is_some_and(|value| value.starts_with(b"text/event-stream"));
    let form = if events { Form::Events } else { Form::NonStreaming };
    let keeps_open = !closes && delimited != Delimited::Close;
    Ok(Some(AnswerHead { status: answer.code.unwrap_or(0), length, delimited, cache, keeps_open, form }))
}

/// The request's head, or `None` if bytes are missing.
pub fn request_head(input: &[u8]) -> Result<Option<RequestHead>, String> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let Status::Complete(length) = request.parse(input).map_err(|error| error.to_string())? else { return Ok(None) };
    if field(request.headers, "transfer-encoding").is_some() {
        return Err("a chunked request body is not understood".to_owned());
    }
    let body_bytes = field(request.headers, "content-length").map_or(Some(0), number);
    Ok(Some(RequestHead {
        path: request.path.unwrap_or("/").to_owned(),
        length,
        body_bytes: body_bytes.ok_or("content-length is not a number")?,
    }))
}

/// The position in a chunked body.
#[derive(Debug, Default)]
pub struct Chunks {
    state: ChunkState,
}

#[derive(Debug, Default, Clone, Copy)]
enum ChunkState {
    #[default]
    Size,
    Data(usize),
    End,
    Trailer,
    Done,
}

impl Chunks {
    /// Consumes as much of `input` as possible, appends the data to `out`, and returns the number of bytes consumed.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let line = || rest.iter().position(|&byte| byte == b'\n');
            match self.state {
                ChunkState::Done => return Ok(at),
                ChunkState::Data(left) => {
                    let now = left.min(rest.len());
                    out.extend_from_slice(&rest[..now]);
                    at += now;
                    if now < left {
                        self.state = ChunkState::Data(left - now);
                        return Ok(at);
                    }
                    self.state = ChunkState::End;
                }
                ChunkState::End => {
                    let Some(end) = line() else { return Ok(at) };
                    at += end + 1;
                    self.state = ChunkState::Size;
                }
                ChunkState::Size => {
                    let Some(end) = line() else { return Ok(at) };
                    let digits = rest[..end].split(|&byte| byte == b';').next().unwrap_or(&[]);
                    let digits = std::str::from_utf8(digits).map_err(|_| "chunk size")?.trim();
                    let size = usize::from_str_radix(digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
                    at += end + 1;
                    self.state = if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) };
                }
                ChunkState::Trailer => {
                    let Some(end) = line() else { return Ok(at) };
                    at += end + 1;
                    if rest[..end].trim_ascii().is_empty() {
                        self.state = ChunkState::Done;
                    }
                }
            }
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_however_they_are_split() {
        let wire = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: v\r\n\r\nNEXT";
        for split in 0..wire.len() {
            let (mut chunks, mut out, mut held) = (Chunks::default(), Vec::new(), Vec::new());
            for part in [&wire[..split], &wire[split..]] {
                held.extend_from_slice(part);
                let taken = chunks.take(&held, &mut out).unwrap();
                held.drain(..taken);
            }
            assert!(chunks.is_done(), "split at {split}");
            assert_eq!((&out[..], &held[..]), (&b"abcde"[..], &b"NEXT"[..]));
        }
    }
}
