//! A server that writes its frames by hand, so that a test controls each of them, invalid ones included.

use std::future::poll_fn;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipe::End;

/// Frame types (RFC 9113 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW: u8 = 8;

pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number at the start of the payload: a code or an increment.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

pub struct Peer {
    end: End,
}

impl Peer {
    pub fn new(end: End) -> Peer {
        Peer { end }
    }

    /// Exactly `count` bytes; `None` at the end.
    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut buffer = ReadBuf::new(&mut bytes);
        while buffer.remaining() > 0 {
            let before = buffer.remaining();
            poll_fn(|context| Pin::new(&mut self.end).poll_read(context, &mut buffer)).await.unwrap();
            if buffer.remaining() == before {
                return None;
            }
        }
        Some(bytes)
    }

    pub async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = poll_fn(|context| Pin::new(&mut self.end).poll_write(context, bytes)).await.unwrap();
            bytes = &bytes[count..];
        }
    }

    pub async fn preface(&mut self) {
        assert_eq!(self.take(24).await.unwrap(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }

    /// The next frame; SETTINGS are acknowledged on the way. `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let head = self.take(9).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            let payload = self.take(length).await?;
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame {
                Frame { kind: SETTINGS, flags: 0, .. } => self.send(SETTINGS, ACK, 0, b"").await,
                Frame { kind: SETTINGS, .. } => {}
                frame => return Some(frame),
            }
        }
    }

    /// The next frame of that kind; others are skipped.
    pub async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The stream id of the next request.
    pub async fn request(&mut self) -> u32 {
        self.next(HEADERS).await.stream
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.write(&bytes).await;
    }

    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let bytes: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.send(SETTINGS, 0, 0, &bytes).await;
    }

    pub async fn window(&mut self, stream: u32, increment: u32) {
        self.send(WINDOW, 0, stream, &increment.to_be_bytes()).await;
    }

    pub async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RESET, 0, stream, &code.to_be_bytes()).await;
    }

    pub async fn goaway(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()).await;
    }

    pub async fn pong(&mut self, ping: &Frame) {
        self.send(PING, ACK, 0, &ping.payload).await;
    }

    pub async fn data(&mut self, flags: u8, stream: u32, data: &[u8]) {
        self.send(DATA, flags, stream, data).await;
    }

    /// Fields as literals without indexing (RFC 7541 6.2.2); names and values under 127 bytes.
    pub async fn headers(&mut self, flags: u8, stream: u32, fields: &[(&str, &[u8])]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            block.push(name.len() as u8);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(*value);
        }
        self.send(HEADERS, END_HEADERS | flags, stream, &block).await;
    }

    /// A head of status 200 without fields.
    pub async fn ok(&mut self, stream: u32) {
        self.headers(0, stream, &[(":status", b"200")]).await;
    }
}
