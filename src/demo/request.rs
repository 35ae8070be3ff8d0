//! Bytes from one connection to one request. The state is the caller's buffer, which keeps what was read ahead.
//! Must never trust a length: heads and bodies are bounded, and unclear framing ends the connection.

use std::io::{self, Read, Write};

use httparse::Status;

/// Largest head, in bytes. The gateway in front bounds its own at the same size.
const HEAD_BYTES: usize = 16 << 10;

/// Most header fields.
const HEAD_FIELDS: usize = 100;

/// Largest body, in bytes, chunked or not: what the gateway lets through by default.
const BODY_BYTES: usize = 10 << 20;

/// Longest chunk-size or trailer line, in bytes.
const LINE_BYTES: usize = 1 << 10;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 << 10;

/// One request, whole.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub body: Vec<u8>,
    pub after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// What becomes of the connection after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    KeepAlive,
    Close,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    /// The peer closed between two requests, as it may.
    #[error("closed")]
    Closed,
    #[error("{0}")]
    Gone(#[from] io::Error),
    /// To be answered with `status`; the connection must close.
    #[error("{message}")]
    Refused { status: u16, message: &'static str },
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    Continue,
}

struct Head {
    method: Method,
    path: String,
    framing: Framing,
    expect: Expect,
    after: After,
    length: usize,
}

/// The next request from `stream`; `buffer` holds what earlier reads left over.
///
/// # Errors
/// See [`RequestFault`]; after any of them the connection is of no more use.
pub fn read(stream: &mut (impl Read + Write), buffer: &mut Vec<u8>) -> Result<Request, RequestFault> {
    let head = loop {
        if let Some(head) = parse_head(buffer)? {
            break head;
        }
        if buffer.len() > HEAD_BYTES {
            return Err(refused(431, "The request head is larger than 16 KiB."));
        }
        if fill(stream, buffer)? == 0 {
            return if buffer.is_empty() { Err(RequestFault::Closed) } else { Err(cut()) };
        }
    };
    buffer.drain(..head.length);
    if head.expect == Expect::Continue && buffer.is_empty() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = match head.framing {
        Framing::Length(length) => take(stream, buffer, length)?,
        Framing::Chunked => read_chunked(stream, buffer)?,
    };
    Ok(Request { method: head.method, path: head.path, body, after: head.after })
}

fn parse_head(buffer: &[u8]) -> Result<Option<Head>, RequestFault> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(buffer) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(refused(400, "The request head is not valid HTTP/1.1.")),
    };
    let method = match request.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => Method::Other,
    };
    let target = request.path.unwrap_or_default();
    let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    let mut after = if request.version == Some(1) { After::KeepAlive } else { After::Close };
    let mut expect = Expect::Nothing;
    let (mut content_length, mut chunked) = (None, false);
    for field in request.headers.iter() {
        let value = field.value.trim_ascii();
        if field.name.eq_ignore_ascii_case("content-length") {
            if content_length.replace(decimal(value)?).is_some() {
                return Err(refused(400, "The request has two Content-Length fields."));
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(refused(501, "The only transfer coding known here is chunked."));
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("expect") && value.eq_ignore_ascii_case(b"100-continue") {
            expect = Expect::Continue;
        } else if field.name.eq_ignore_ascii_case("connection") {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if token.eq_ignore_ascii_case(b"close") {
                    after = After::Close;
                }
            }
        }
    }
    let framing = match (chunked, content_length) {
        (false, length) => Framing::Length(length.unwrap_or(0)),
        (true, None) => Framing::Chunked,
        (true, Some(_)) => return Err(refused(400, "The request has both framings.")),
    };
    Ok(Some(Head { method, path, framing, expect, after, length }))
}

fn decimal(value: &[u8]) -> Result<usize, RequestFault> {
    let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    let length = digits.then(|| value.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0')));
    match length {
        Some(length) if length <= BODY_BYTES as u64 => Ok(length as usize),
        Some(_) => Err(refused(413, "The request body is larger than 10 MiB.")),
        None => Err(refused(400, "The Content-Length is not a number.")),
    }
}

fn read_chunked(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Vec<u8>, RequestFault> {
    let mut body = Vec::new();
    loop {
        let line = take_line(stream, buffer)?;
        let size = match httparse::parse_chunk_size(&line) {
            Ok(Status::Complete((_, size))) => size,
            _ => return Err(refused(400, "A chunk size is not valid.")),
        };
        if size == 0 {
            break;
        }
        if size > (BODY_BYTES - body.len()) as u64 {
            return Err(refused(413, "The request body is larger than 10 MiB."));
        }
        body.extend_from_slice(&take(stream, buffer, size as usize)?);
        if take(stream, buffer, 2)? != b"\r\n" {
            return Err(refused(400, "A chunk does not end where its size says."));
        }
    }
    // Trailers are read and dropped; a head's worth of them is plenty.
    let mut trailer_bytes = 0;
    while trailer_bytes < HEAD_BYTES {
        let line = take_line(stream, buffer)?;
        if line == b"\r\n" {
            return Ok(body);
        }
        trailer_bytes += line.len();
    }
    Err(refused(431, "The trailers are larger than 16 KiB."))
}

fn take(stream: &mut impl Read, buffer: &mut Vec<u8>, length: usize) -> Result<Vec<u8>, RequestFault> {
    while buffer.len() < length {
        if fill(stream, buffer)? == 0 {
            return Err(cut());
        }
    }
    let rest = buffer.split_off(length);
    Ok(std::mem::replace(buffer, rest))
}

fn take_line(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Vec<u8>, RequestFault> {
    loop {
        if let Some(at) = memchr::memchr(b'\n', buffer) {
            return take(stream, buffer, at + 1);
        }
        if buffer.len() > LINE_BYTES {
            return Err(refused(400, "A line inside the chunked body is too long."));
        }
        if fill(stream, buffer)? == 0 {
            return Err(cut());
        }
    }
}

fn fill(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let old = buffer.len();
    buffer.resize(old + READ_BYTES, 0);
    let got = loop {
        match stream.read(&mut buffer[old..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            got => break got,
        }
    };
    buffer.truncate(old + got.as_ref().copied().unwrap_or(0));
    got
}

fn refused(status: u16, message: &'static str) -> RequestFault {
    RequestFault::Refused { status, message }
}

fn cut() -> RequestFault {
    RequestFault::Gone(io::ErrorKind::UnexpectedEof.into())
}
