//! A client of HTTP/2 that writes raw frames, right or wrong, and sees what comes of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::GUARD;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ALL: u8 = END_STREAM | END_HEADERS;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 32;
/// RFC 9113 7.
pub const PROTOCOL: u32 = 1;
pub const FLOW_CONTROL: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE: u32 = 6;
pub const REFUSED: u32 = 7;
pub const COMPRESSION: u32 = 9;
pub const CALM: u32 = 11;
/// The stream of the request that shows whether the connection goes on.
pub const LAST: u32 = 100_001;

/// A status that has no index.
pub const OTHER: u16 = 999;

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes on, and this came for the streams before.
    Fine,
    Reset(u32),
    Goaway(u32),
    /// It ended without a word.
    Closed,
    /// An answer with this status in the place of a reset.
    Status(u16),
}

use Seen::{Closed, Fine, Goaway, Reset, Status};

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541 5.1, with a prefix of seven bits.
pub fn integer(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that no table keeps (RFC 7541 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        integer(text.len(), &mut out);
        out.extend_from_slice(text.as_bytes());
    }
    out
}

pub fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    all.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A whole request's head, and further fields.
pub fn head_with(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", method), (":scheme", "http"), (":path", "/livez"), (":authority", "g")];
    [fields(&own), fields(more)].concat()
}

pub fn head() -> Vec<u8> {
    head_with("GET", &[])
}

pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, ALL, stream, head())
}

/// A request whose body is still to come.
pub fn open(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        fields(&[(":method", "POST"), (":scheme", "http"), (":path", "/v1/chat/completions"), (":authority", "g")]),
    )
}

pub fn malformed(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, ALL, 1, head_with("GET", more))
}

pub fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

pub fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

/// Its kind, flags, stream and payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// The next frame of a connection; none at the end.
pub fn next(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    if let Err(error) = stream.read_exact(&mut head) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "neither an answer nor an end came");
        return None;
    }
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// What comes of `bytes` behind the preface and the settings; and all frames that came.
pub fn send(address: SocketAddr, bytes: &[u8]) -> (Seen, Vec<Frame>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    // Without a body, whatever became of the windows.
    let last = frame(HEADERS, ALL, LAST, head_with("HEAD", &[]));
    let all = [PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(SETTINGS, ACK, 0, b""), bytes, &last].concat();
    let write = std::thread::spawn(move || {
        let _ = writer.write_all(&all);
    });
    let (mut seen, mut frames) = (Fine, Vec::new());
    loop {
        let Some((kind, flags, id, payload)) = next(&mut stream) else {
            if !matches!(seen, Goaway(_)) {
                seen = Closed;
            }
            break;
        };
        match kind {
            GOAWAY => seen = Goaway(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            RST_STREAM if !matches!(seen, Goaway(_)) => {
                seen = Reset(u32::from_be_bytes(payload[..4].try_into().unwrap()))
            }
            HEADERS if id != LAST && seen == Fine && status(&payload) != 200 => seen = Status(status(&payload)),
            _ => {}
        }
        frames.push((kind, flags, id, payload));
        if id == LAST && matches!(kind, HEADERS | RST_STREAM) {
            break;
        }
    }
    drop(stream);
    write.join().unwrap();
    (seen, frames)
}

/// The status that a head begins with (RFC 7541 A: 8 to 14), behind new sizes of the table.
pub fn status(block: &[u8]) -> u16 {
    match block.iter().find(|byte| **byte & 0xe0 != 0x20) {
        Some(index @ 0x88..=0x8e) => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        // A literal, which is not told apart here.
        _ => OTHER,
    }
}
