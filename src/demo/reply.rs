//! A reply, and its bytes on the wire. One event is one chunk and one write, so that each arrives on its own.
//! Must never hold an event back: the demo shows that the gateway does not either.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::request::{After, Method};

/// Pause before each event of a stream of `demo`: about the pace of a mid-size model on one GPU.
const GAP: Duration = Duration::from_millis(30);

/// Pause before a whole answer of `demo`, so that an answer from the cache is visibly faster.
const THINKING: Duration = Duration::from_millis(400);

/// How fast a model speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// `demo`: about 30 ms a token.
    Natural,
    /// `demo-fast`: no pause at all.
    Immediate,
}

/// What an endpoint has to say.
pub enum Reply {
    Whole {
        status: u16,
        body: Value,
        pace: Pace,
    },
    /// Each value becomes one `data:` event; `[DONE]` follows the last.
    Stream {
        events: Vec<Value>,
        pace: Pace,
    },
}

/// A refusal in OpenAI's error shape.
#[derive(Debug)]
pub struct Failure {
    pub status: u16,
    pub message: String,
    pub param: Option<&'static str>,
    pub code: Option<&'static str>,
}

impl Failure {
    /// A request that is wrong in the named member.
    pub fn invalid(param: &'static str, message: impl Into<String>) -> Failure {
        Failure { status: 400, message: message.into(), param: Some(param), code: None }
    }

    /// The failure as a reply.
    pub fn reply(self) -> Reply {
        let kind = if self.status >= 500 { "server_error" } else { "invalid_request_error" };
        let error = json!({"message": self.message, "type": kind, "param": self.param, "code": self.code});
        Reply::Whole { status: self.status, body: json!({ "error": error }), pace: Pace::Immediate }
    }
}

impl Reply {
    /// Writes the reply to a request made with `method`.
    ///
    /// # Errors
    /// When the peer is gone; the connection is then of no more use.
    pub fn write(&self, out: &mut impl Write, method: Method, after: After) -> io::Result<()> {
        match self {
            Reply::Whole { status, body, pace } => {
                rest(*pace, THINKING);
                write_whole(out, *status, body, method, after)
            }
            Reply::Stream { events, pace } => write_stream(out, events, *pace, after),
        }
    }
}

fn write_whole(out: &mut impl Write, status: u16, body: &Value, method: Method, after: After) -> io::Result<()> {
    let mut text = body.to_string();
    text.push('\n');
    let mut bytes = head(status, "application/json", after);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", text.len()).as_bytes());
    if method != Method::Head {
        bytes.extend_from_slice(text.as_bytes());
    }
    out.write_all(&bytes)
}

fn write_stream(out: &mut impl Write, events: &[Value], pace: Pace, after: After) -> io::Result<()> {
    let mut bytes = head(200, "text/event-stream; charset=utf-8", after);
    bytes.extend_from_slice(b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
    out.write_all(&bytes)?;
    for event in events {
        rest(pace, GAP);
        write_chunk(out, &format!("data: {event}\n\n"))?;
    }
    write_chunk(out, "data: [DONE]\n\n")?;
    out.write_all(b"0\r\n\r\n")
}

fn write_chunk(out: &mut impl Write, data: &str) -> io::Result<()> {
    out.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())
}

fn head(status: u16, content_type: &str, after: After) -> Vec<u8> {
    let connection = match after {
        After::KeepAlive => "",
        After::Close => "connection: close\r\n",
    };
    let phrase = phrase(status);
    format!("HTTP/1.1 {status} {phrase}\r\nserver: ringway-demo\r\ncontent-type: {content_type}\r\n{connection}")
        .into_bytes()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "Error",
    }
}

fn rest(pace: Pace, pause: Duration) {
    if pace == Pace::Natural {
        thread::sleep(pause);
    }
}
