//! Clients of a story: patient, slow, stalled, half-closing, pipelining ones. They check every byte they get; the driver
//! makes them leave, by dropping them wherever they stand.

use ringway::net::sim::between;
use ringway::net::tls::Offer;
use ringway::net::{dial, sleep_ms};

use crate::house::gateway;
use crate::judge::judge;
use crate::ledger::{Ledger, Outcome};
use crate::message::{AT_ONCE, Ended, Kind, Missing, Pace, Reader, Source};
use crate::prompt::{Form, request_body};
use crate::{secret, streams};

/// How one connection of a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    pub pace: Pace,
    /// Requests sent before the first answer is read; of HTTP/2, streams at a time.
    pub pipelined: usize,
    /// Ends its sending direction behind its last request.
    pub half_closes: bool,
    pub version: Version,
    /// Cuts its requests into so many pieces with a rest between them.
    pub pieces: usize,
    pub body: BodyFrame,
    /// Reads nothing for so long in the middle of its first answer.
    pub stall_ms: u64,
    /// Rest between two requests.
    pub rest_ms: u64,
    pub secrecy: Secrecy,
    /// Of HTTP/2: the window of a stream, and whether streams are reset at times.
    pub window_bytes: u32,
    pub resets: bool,
}

/// One request after the other, all at once, and answers read as they come.
pub const PLAIN: Habit = Habit {
    pace: AT_ONCE,
    pipelined: 1,
    half_closes: false,
    version: Version::Http11,
    pieces: 1,
    body: BodyFrame::Length,
    stall_ms: 0,
    rest_ms: 0,
    secrecy: Secrecy::Plain,
    window_bytes: 64 << 10,
    resets: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
    /// See `streams`.
    Http2,
}

/// Whether a connection has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Plain,
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFrame {
    Length,
    Chunked,
    /// With `Expect: 100-continue`; the body follows when it was asked for.
    Expected,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRequest {
    /// A chat completion.
    Prompt,
    /// `/healthz`.
    Health,
    /// `/v1/models`.
    Models,
    /// A body that is no JSON.
    BadJson,
    /// A credential that nobody has.
    Stranger,
    UnknownModel,
    WrongMethod,
}

/// One request to be.
#[derive(Clone, Debug)]
pub struct Wish {
    pub probe_request: ProbeRequest,
    pub prompt: u64,
    pub form: Form,
    pub directive: Option<&'static str>,
    /// How urgent it is, as a field of its head.
    pub urgency: Option<&'static str>,
}

pub struct Client {
    pub ledger: Ledger,
    pub tenant: usize,
    pub key: Option<String>,
    pub habit: Habit,
    pub wishes: Vec<Wish>,
}

/// A request that was made.
pub struct Asked {
    pub id: String,
    pub wish: Wish,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// What becomes of the connection behind an answer.
enum Then {
    Keep,
    Closed,
}

impl Client {
    /// Makes its wishes, over as many connections as it takes.
    pub async fn run(mut self) {
        let offer = if self.habit.version == Version::Http2 { Offer::Http2 } else { Offer::Http1 };
        let context = (self.habit.secrecy == Secrecy::Tls).then(|| secret::context(offer));
        while !self.wishes.is_empty() {
            // The gateway's end of a simulated network: refused only while it drains.
            let Ok(socket) = dial(&gateway(self.habit.secrecy), 120_000).await else { return };
            let before = self.wishes.len();
            match (&context, self.habit.version) {
                (None, Version::Http2) => streams::connection(&mut self, socket.into()).await,
                (None, Version::Http10 | Version::Http11) => self.connection(socket).await,
                (Some(context), version) => match secret::secured(socket, context, offer).await {
                    None => self.give_up(),
                    Some(socket) if version == Version::Http2 => streams::connection(&mut self, socket).await,
                    Some(socket) => self.connection(socket).await,
                },
            }
            assert!(self.wishes.len() < before, "every connection takes a wish");
            sleep_ms(between(0, self.habit.rest_ms)).await;
        }
    }

    /// Asks for one of its wishes where nobody hears it.
    pub fn give_up(&mut self) {
        for wish in self.wishes.drain(..1) {
            let asked = ask(&self.ledger, self.tenant, self.key.as_deref(), self.habit, wish);
            self.ledger.close(&asked.id, Outcome::Nothing, None);
        }
    }

    async fn connection(&mut self, mut socket: impl Source) {
        let mut reader = Reader::new(self.habit.pace);
        let mut stall_ms = self.habit.stall_ms;
        while !self.wishes.is_empty() {
            let count = match self.habit.version {
                Version::Http10 => 1,
                Version::Http11 | Version::Http2 => self.habit.pipelined.clamp(1, self.wishes.len()),
            };
            let batch: Vec<Asked> = self
                .wishes
                .drain(..count)
                .map(|wish| ask(&self.ledger, self.tenant, self.key.as_deref(), self.habit, wish))
                .collect();
            let last = self.wishes.is_empty();
            let sent = self.send(&mut socket, &mut reader, &batch, last).await;
            let mut batch = batch.into_iter();
            for asked in batch.by_ref() {
                if stall_ms > 0 {
                    sleep_ms(stall_ms).await;
                    stall_ms = 0;
                }
                if let Then::Closed = self.answer(&mut socket, &mut reader, &asked).await {
                    for asked in batch {
                        self.ledger.close(&asked.id, Outcome::Nothing, None);
                    }
                    return;
                }
            }
            assert!(reader.buffer.is_empty(), "more than was asked for: {:?}", String::from_utf8_lossy(&reader.buffer));
            if sent.is_err() || self.habit.version == Version::Http10 || (last && self.habit.half_closes) {
                return;
            }
            sleep_ms(between(0, self.habit.rest_ms)).await;
        }
    }

    /// Errors: the gateway takes no more; an answer may be there all the same.
    async fn send(&self, socket: &mut impl Source, reader: &mut Reader, batch: &[Asked], last: bool) -> Result<(), ()> {
        for asked in batch {
            let expects = self.habit.body == BodyFrame::Expected && !asked.body.is_empty();
            if expects && self.habit.version == Version::Http11 && batch.len() == 1 {
                self.pieces(socket, &asked.head).await?;
                let head = reader.head(socket).await.map_err(|_| ())?;
                if head.status() != 100 {
                    // Refused at the head: give the answer back to whoever reads it next.
                    let fields: String =
                        head.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    let text = format!("{}\r\n{fields}\r\n", head.start);
                    reader.buffer.splice(..0, text.into_bytes());
                    return Err(());
                }
                self.pieces(socket, &asked.body).await?;
            } else {
                self.pieces(socket, &[asked.head.as_slice(), &asked.body].concat()).await?;
            }
        }
        if last && self.habit.half_closes {
            socket.finish().await;
        }
        Ok(())
    }

    async fn pieces(&self, socket: &mut impl Source, bytes: &[u8]) -> Result<(), ()> {
        for piece in bytes.chunks(bytes.len().div_ceil(self.habit.pieces.max(1)).max(1)) {
            if self.habit.pieces > 1 {
                sleep_ms(between(0, 20)).await;
            }
            socket.write(piece.to_vec()).await.map_err(|_| ())?;
        }
        Ok(())
    }

    async fn answer(&self, socket: &mut impl Source, reader: &mut Reader, asked: &Asked) -> Then {
        let head = loop {
            match reader.head(socket).await {
                Ok(head) if head.status() == 100 => {}
                Ok(head) => break head,
                Err(missing) => {
                    let outcome = match missing {
                        Missing::Closed => Outcome::Nothing,
                        Missing::Reset if reader.buffer.is_empty() => Outcome::Nothing,
                        Missing::Reset | Missing::Cut => Outcome::Cut,
                    };
                    self.ledger.close(&asked.id, outcome, None);
                    return Then::Closed;
                }
            }
        };
        let (body, ended) = reader.body(socket, &head, Kind::Response).await;
        let cache = head.field("x-cache");
        let outcome = judge(&self.ledger, asked, &head, &body, ended, self.habit.version);
        self.ledger.close(&asked.id, outcome, cache);
        let closes = head.has_token("connection", "close") || self.habit.version == Version::Http10;
        match ended {
            Ended::ByLength | Ended::ByLastChunk if !closes => Then::Keep,
            _ => Then::Closed,
        }
    }
}

pub fn ask(ledger: &Ledger, tenant: usize, key: Option<&str>, habit: Habit, wish: Wish) -> Asked {
    let id = ledger.ask(wish.prompt, wish.form, tenant, format!("{habit:?} {wish:?}"));
    let (method, path) = match wish.probe_request {
        ProbeRequest::Health => ("GET", "/healthz"),
        ProbeRequest::Models => ("GET", "/v1/models"),
        ProbeRequest::WrongMethod => ("PUT", "/v1/chat/completions"),
        _ => ("POST", "/v1/chat/completions"),
    };
    let content = match wish.probe_request {
        ProbeRequest::Health | ProbeRequest::Models => Vec::new(),
        ProbeRequest::BadJson => b"{\"model\":\"m\",\"messages\":[".to_vec(),
        ProbeRequest::UnknownModel => b"{\"model\":\"nobody\",\"messages\":[]}".to_vec(),
        _ => request_body(wish.prompt, wish.form, between(0, 1000)),
    };
    let version = if habit.version == Version::Http10 { "1.0" } else { "1.1" };
    let mut head = format!("{method} {path} HTTP/{version}\r\nHost: gateway\r\nX-Request-Id: {id}\r\n");
    if let Some(key) = key {
        let key = if wish.probe_request == ProbeRequest::Stranger { "nobodys" } else { key };
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if let Some(directive) = wish.directive {
        head.push_str(&format!("Cache-Control: {directive}\r\n"));
    }
    if let Some(field) = wish.urgency {
        head.push_str(&format!("{field}\r\n"));
    }
    let mut body = Vec::new();
    if content.is_empty() {
        // Neither length nor chunks: there is no body.
    } else if habit.body == BodyFrame::Chunked && habit.version == Version::Http11 {
        head.push_str("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
        for part in content.chunks(between(1, content.len() as u64) as usize) {
            body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
    } else {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", content.len()));
        if habit.body == BodyFrame::Expected && habit.version == Version::Http11 {
            head.push_str("Expect: 100-continue\r\n");
        }
        body = content;
    }
    head.push_str("\r\n");
    Asked { id, wish, head: head.into_bytes(), body }
}
