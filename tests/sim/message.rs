//! HTTP/1.1 messages as the simulation's clients and backends read them: written by hand and apart from the gateway's own
//! codec, so that the two cannot be wrong together. Panics on what a gateway must never send.

use std::io;

use ringway::net::{Duplex, Socket};

/// Where messages are read from.
pub trait Source {
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>);
    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()>;
    async fn finish(&mut self);
}

impl Source for Socket {
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        Socket::read(self, buffer).await
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        Socket::write(self, bytes).await.0
    }

    async fn finish(&mut self) {
        self.finish_writing();
    }
}

/// With TLS or without.
impl Source for Duplex {
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        Duplex::read(self, buffer).await
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        Duplex::write(self, bytes).await.0
    }

    async fn finish(&mut self) {
        let _ = self.finish_writing().await;
    }
}

/// A start line and its fields, names in lower case.
#[derive(Clone, Debug)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Of a response.
    pub fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|text| text.parse().ok());
        status.unwrap_or_else(|| panic!("a status line without a status: {:?}", self.start))
    }

    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.field(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }
}

/// Why a message is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The peer ended its direction before the first byte.
    Closed,
    /// The peer ended in the middle.
    Cut,
    /// The connection was reset.
    Reset,
}

/// How the end of a body was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    ByLength,
    ByLastChunk,
    ByClose,
    /// It was not: the message was cut off.
    Broken(Missing),
}

/// Which message is read, as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

/// How fast the reader takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most bytes a read takes.
    pub bytes: usize,
    /// Rest after so many bytes.
    pub rest_ms: u64,
}

pub const AT_ONCE: Pace = Pace { bytes: 64 << 10, rest_ms: 0 };

/// Reads messages one after the other.
pub struct Reader {
    pub buffer: Vec<u8>,
    pace: Pace,
    /// Bytes read since the last rest.
    since_rest: usize,
}

impl Reader {
    pub fn new(pace: Pace) -> Reader {
        Reader { buffer: Vec::new(), pace, since_rest: 0 }
    }

    /// Adds what comes next to the buffer. Errors: the end, or a reset.
    async fn more(&mut self, socket: &mut impl Source) -> Result<(), Missing> {
        if self.pace.rest_ms > 0 && self.since_rest >= self.pace.bytes {
            self.since_rest = 0;
            ringway::net::sleep_ms(self.pace.rest_ms).await;
        }
        let (result, chunk) = socket.read(Vec::with_capacity(self.pace.bytes)).await;
        match result {
            Ok(0) if self.buffer.is_empty() => Err(Missing::Closed),
            Ok(0) => Err(Missing::Cut),
            Ok(read) => {
                self.since_rest += read;
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
            Err(_) => Err(Missing::Reset),
        }
    }

    async fn line_end(&mut self, socket: &mut impl Source, end: &[u8]) -> Result<usize, Missing> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(at + end.len());
            }
            self.more(socket).await?;
        }
    }

    pub async fn head(&mut self, socket: &mut impl Source) -> Result<Head, Missing> {
        let length = self.line_end(socket, b"\r\n\r\n").await?;
        let text = String::from_utf8(self.buffer.drain(..length).collect()).expect("a head is text");
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a field without a colon: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Ok(Head { start, fields: fields.collect() })
    }

    /// The body behind `head`: what came of it, and how it ended.
    pub async fn body(&mut self, socket: &mut impl Source, head: &Head, kind: Kind) -> (Vec<u8>, Ended) {
        let mut body = Vec::new();
        let chunked = head.has_token("transfer-encoding", "chunked");
        let length = head.field("content-length").map(|text| text.parse::<usize>().expect("a length is a number"));
        assert!(!(chunked && length.is_some()), "both framings at once: {head:?}");
        let ended = match (chunked, length) {
            (true, _) => self.chunks(socket, &mut body).await,
            (false, Some(length)) => self.exactly(socket, length, &mut body).await.map(|()| Ended::ByLength),
            (false, None) if kind == Kind::Request => Ok(Ended::ByLength),
            (false, None) => loop {
                body.append(&mut self.buffer);
                match self.more(socket).await {
                    Ok(()) => {}
                    Err(Missing::Reset) => break Err(Missing::Reset),
                    Err(_) => break Ok(Ended::ByClose),
                }
            },
        };
        (body, ended.unwrap_or_else(Ended::Broken))
    }

    async fn exactly(&mut self, socket: &mut impl Source, length: usize, into: &mut Vec<u8>) -> Result<(), Missing> {
        let end = into.len() + length;
        loop {
            let take = self.buffer.len().min(end - into.len());
            into.extend(self.buffer.drain(..take));
            if into.len() == end {
                return Ok(());
            }
            self.more(socket).await.map_err(|missing| match missing {
                Missing::Closed => Missing::Cut,
                other => other,
            })?;
        }
    }

    async fn chunks(&mut self, socket: &mut impl Source, into: &mut Vec<u8>) -> Result<Ended, Missing> {
        loop {
            let line = self.line_end(socket, b"\r\n").await?;
            let text: Vec<u8> = self.buffer.drain(..line).collect();
            let digits = std::str::from_utf8(&text).expect("a chunk size is text").trim_end();
            let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("a chunk size: {digits:?}"));
            self.exactly(socket, size, into).await?;
            let mut end = Vec::new();
            self.exactly(socket, 2, &mut end).await?;
            assert_eq!(end, b"\r\n", "a chunk ends with its line end");
            if size == 0 {
                return Ok(Ended::ByLastChunk);
            }
        }
    }
}
