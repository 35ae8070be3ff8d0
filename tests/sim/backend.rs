//! Backends of a story, with every way to fail that a model server has. One task a connection.

use ringway::net::sim::{Place, between, spawn_at};
use ringway::net::{Dial, Listener, Socket, now_us, sleep_ms};
use std::cell::Cell;
use std::rc::Rc;

use crate::http2;
use crate::ledger::{Ledger, Way, Worth};
use crate::message::{AT_ONCE, Ended, Kind, Reader};
use crate::prompt::{Form, events, read_request, whole_answer, words};

/// What a backend does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Answer {
        frame: Frame,
        after: After,
    },
    /// Complete, with `finish_reason: length`.
    Short {
        frame: Frame,
    },
    /// An error status with an error object.
    Status(u16),
    /// A status that asks for a pause of so many seconds.
    Busy(u16, u64),
    /// A stream whose first event is an error.
    FirstError,
    /// A stream that says who speaks, and nothing more.
    RoleAlone,
    /// Nothing more, until the gateway gives up.
    Hang(When),
    /// A close.
    Leave(When),
    Reset(When),
    /// Bytes that are no HTTP.
    Garbage(When),
    /// A stream that is framed to its end and whole, but has no `[DONE]`.
    NoDone,
    /// Of status 200, and no answer: an error, in the API's shape or the provider's own, or nothing at all.
    FalseOk,
    /// A stream with an error event in it.
    ErrorEvent,
    /// A length that says more than comes.
    LongLength,
    /// A length that says less than comes.
    ShortLength,
    /// An answer of status 200 that is no JSON.
    NoJson,
    /// A good answer, and so much later the same once more, unasked.
    Twice {
        ms: u64,
    },
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the request is read.
    AtAccept,
    /// Instead of a head.
    NoHead,
    /// Within the head.
    InHead,
    /// Behind the head.
    AfterHead,
    /// Within the body.
    InBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Length,
    Chunked,
    UntilClose,
}

/// What becomes of the connection after a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Keep,
    /// Announced.
    Close,
    /// Not announced: a moment later, so that the gateway may be using it again.
    CloseSoon {
        ms: u64,
    },
}

/// How the backends of a story behave from now on.
#[derive(Clone, Copy, Debug)]
pub struct FaultProfile {
    /// Of 100 requests, how many go wrong.
    pub faults_percent: u64,
    /// Longest rest between two events, and before an answer.
    pub rest_ms: u64,
    /// Rest before each answer, in any case.
    pub pause_ms: u64,
    /// Of 100 good answers, how many end their connection.
    pub closes_percent: u64,
    /// Least window of a stream of HTTP/2: one of a few bytes is bearable only where ways are short.
    pub window_bytes: u32,
    /// Most streams that a connection of HTTP/2 takes.
    pub streams_max: u32,
    /// How many it takes after its first request, if not what chance says.
    pub streams_later: Option<u32>,
    /// What every request gets instead of all this.
    pub only: Option<Act>,
}

impl FaultProfile {
    /// For a backend whose faults are so much of all, in percent.
    pub fn measured(self, measure: u64) -> FaultProfile {
        FaultProfile { faults_percent: (self.faults_percent * measure / 100).min(100), ..self }
    }
}

pub const GOOD: FaultProfile = FaultProfile {
    faults_percent: 0,
    rest_ms: 5,
    pause_ms: 0,
    closes_percent: 0,
    window_bytes: 200,
    streams_max: 100,
    streams_later: None,
    only: None,
};

fn pick<T: Copy>(from: &[T]) -> T {
    from[between(0, from.len() as u64 - 1) as usize]
}

fn frame(form: Form) -> Frame {
    match form {
        Form::NonStreaming => pick(&[Frame::Length, Frame::Length, Frame::Chunked, Frame::UntilClose]),
        Form::Streaming { .. } => pick(&[Frame::Chunked, Frame::Chunked, Frame::Chunked, Frame::UntilClose]),
    }
}

pub fn choose(fault_profile: FaultProfile, form: Form) -> Act {
    if let Some(act) = fault_profile.only {
        return act;
    }
    if between(1, 100) > fault_profile.faults_percent {
        let frame =
            if fault_profile.closes_percent == 0 && form == Form::NonStreaming { Frame::Length } else { frame(form) };
        let frame =
            if fault_profile.closes_percent == 0 && form != Form::NonStreaming { Frame::Chunked } else { frame };
        let after = if frame == Frame::UntilClose || between(1, 100) <= fault_profile.closes_percent {
            pick(&[After::Close, After::CloseSoon { ms: between(0, 50) }])
        } else {
            After::Keep
        };
        return Act::Answer { frame, after };
    }
    let when = pick(&[When::AtAccept, When::NoHead, When::InHead, When::AfterHead, When::InBody, When::InBody]);
    let streamed = form != Form::NonStreaming;
    match between(0, 14) {
        0 => Act::Short { frame: frame(form) },
        1 => Act::Status(pick(&[400, 401, 404, 429, 500, 503])),
        2 | 3 => Act::Hang(when),
        4 | 5 => Act::Leave(when),
        6 => Act::Reset(when),
        7 => Act::Garbage(pick(&[When::NoHead, When::InHead, When::InBody])),
        8 if streamed => pick(&[Act::NoDone, Act::FalseOk]),
        9 if streamed => Act::ErrorEvent,
        8 | 9 => pick(&[Act::NoJson, Act::FalseOk]),
        10 => Act::LongLength,
        12 => Act::Busy(pick(&[429, 503]), pick(&[0, 0, 1, 1000])),
        13 if streamed => Act::FirstError,
        14 if streamed => Act::RoleAlone,
        13 | 14 => Act::Status(500),
        _ if streamed => Act::NoDone,
        _ => Act::ShortLength,
    }
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

/// Starts a server of backend `index` at `address`. It lives as long as its task.
/// `measure` is how much of the faults is its own, in percent.
pub fn start(
    index: usize,
    address: Dial,
    speaks: Speaks,
    ledger: Ledger,
    fault_profile: Rc<Cell<FaultProfile>>,
    measure: u64,
) {
    let listener = Listener::bind(&address);
    spawn_at(Place::Outside, async move {
        while let Ok(socket) = listener.accept().await {
            let (ledger, fault_profile) = (ledger.clone(), fault_profile.clone());
            let (accepted_us, address) = (now_us(), address.clone());
            let way = Way { backend: index, address, accepted_us, begun_us: 0, before: 0 };
            match speaks {
                Speaks::Http1 => spawn_at(Place::Outside, serve(socket, way, ledger, fault_profile, measure)),
                Speaks::Http2 => spawn_at(Place::Outside, serve_http2(socket, way, ledger, fault_profile, measure)),
            };
        }
    });
}

enum Next {
    Keep,
    Close,
}

/// Whether a connection goes wrong from its start on, and how.
fn choose_at_accept(fault_profile: FaultProfile) -> Option<Act> {
    let fails = between(1, 300) <= fault_profile.faults_percent;
    fails.then(|| pick(&[Act::Hang(When::AtAccept), Act::Leave(When::AtAccept)]))
}

async fn serve_http2(
    mut socket: Socket,
    way: Way,
    ledger: Ledger,
    fault_profile: Rc<Cell<FaultProfile>>,
    measure: u64,
) {
    let _open = ledger.connected(&way.address);
    match choose_at_accept(fault_profile.get().measured(measure)) {
        Some(act) => reader_gone(&mut socket, act).await,
        None => http2::serve(socket, ledger, fault_profile, measure).await,
    }
}

async fn serve(mut socket: Socket, mut way: Way, ledger: Ledger, fault_profile: Rc<Cell<FaultProfile>>, measure: u64) {
    let fault_profile = || fault_profile.get().measured(measure);
    let _open = ledger.connected(&way.address);
    let mut reader = Reader::new(AT_ONCE);
    if let Some(act) = choose_at_accept(fault_profile()) {
        return reader_gone(&mut socket, act).await;
    }
    loop {
        let _ = socket.readable().await;
        way.begun_us = now_us();
        let head = match reader.head(&mut socket).await {
            Ok(head) => head,
            Err(_) => return,
        };
        assert!(head.start.ends_with(" HTTP/1.1"), "{head:?}");
        assert!(head.field("host").is_some() && head.field("authorization").is_none(), "{head:?}");
        let id = head.field("x-request-id").expect("the request id goes upstream").to_owned();
        let (body, ended) = reader.body(&mut socket, &head, Kind::Request).await;
        if let Ended::Broken(_) = ended {
            return; // the gateway gave up while it sent
        }
        assert!(reader.buffer.is_empty(), "more than one request: {:?}", reader.buffer);
        let (number, form) = read_request(&body);
        let act = choose(fault_profile(), form);
        let call = ledger.call(number, &id, head.field("x-api-key"), format!("{act:?} {form:?}"), Some(way.clone()));
        way.before += 1;
        sleep_ms(fault_profile().pause_ms).await;
        let mut exchange =
            Exchange { socket: &mut socket, ledger: &ledger, call, number, form, rest_ms: fault_profile().rest_ms };
        let next = exchange.perform(act).await;
        ledger.over(call);
        match next {
            Some(Next::Keep) => {}
            Some(Next::Close) | None => return,
        }
    }
}

/// Waits until the gateway has closed its side.
async fn hang(socket: &mut Socket) {
    loop {
        match socket.read(Vec::with_capacity(1024)).await.0 {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
}

async fn reader_gone(socket: &mut Socket, act: Act) {
    match act {
        Act::Hang(_) => hang(socket).await,
        Act::Reset(_) => socket.make_close_unclean(),
        _ => {}
    }
}

struct Exchange<'a> {
    socket: &'a mut Socket,
    ledger: &'a Ledger,
    call: usize,
    number: u64,
    form: Form,
    rest_ms: u64,
}

impl Exchange<'_> {
    /// None: the gateway is gone.
    async fn perform(&mut self, act: Act) -> Option<Next> {
        self.rest().await;
        match act {
            Act::Answer { frame, after } => {
                self.answer(frame, after, usize::MAX, "stop", Worth::Whole).await?;
                match after {
                    After::Keep if frame != Frame::UntilClose => return Some(Next::Keep),
                    After::CloseSoon { ms } => sleep_ms(ms).await,
                    _ => {}
                }
                Some(Next::Close)
            }
            Act::Twice { ms } => {
                self.answer(Frame::Length, After::Keep, usize::MAX, "stop", Worth::Whole).await?;
                sleep_ms(ms).await;
                self.answer(Frame::Length, After::Keep, usize::MAX, "stop", Worth::Whole).await?;
                Some(Next::Keep)
            }
            Act::Short { frame } => {
                self.answer(frame, After::Close, 2, "length", Worth::Short).await?;
                Some(Next::Close)
            }
            Act::Status(_) | Act::Busy(..) => {
                let (status, pause) = match act {
                    Act::Busy(status, seconds) => (status, format!("retry-after: {seconds}\r\n")),
                    Act::Status(status) => (status, String::new()),
                    _ => return None,
                };
                let body = error_body(self.call);
                self.ledger.rate(self.call, Worth::Error);
                let head = format!(
                    "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{pause}content-length: {}\r\n\r\n",
                    body.len()
                );
                self.send(format!("{head}{body}").into_bytes()).await?;
                Some(Next::Keep)
            }
            Act::NoJson => {
                self.ledger.rate(self.call, Worth::Broken);
                let body = format!("\"id\":\"call-{}\" oh dear", self.call);
                self.send(self.head(Frame::Length, Some(body.len()), After::Keep).into_bytes()).await?;
                self.send(body.into_bytes()).await?;
                Some(Next::Keep)
            }
            Act::NoDone => {
                self.send(self.head(Frame::Chunked, None, After::Keep).into_bytes()).await?;
                for event in self.events(usize::MAX, "stop") {
                    self.send(chunk(&event)).await?;
                }
                self.ledger.rate(self.call, Worth::Whole);
                self.send(b"0\r\n\r\n".to_vec()).await?;
                Some(Next::Keep)
            }
            Act::FalseOk => {
                self.ledger.rate(self.call, Worth::Error);
                let body = false_ok(self.call, self.form);
                self.send(self.head(Frame::Length, Some(body.len()), After::Keep).into_bytes()).await?;
                self.send(body).await?;
                Some(Next::Keep)
            }
            Act::FirstError | Act::RoleAlone => {
                self.send(self.head(Frame::Chunked, None, After::Keep).into_bytes()).await?;
                if act == Act::RoleAlone || between(0, 1) == 0 {
                    self.send(chunk(&role_event(self.call))).await?;
                    self.rest().await;
                }
                if act == Act::RoleAlone {
                    return Some(Next::Close);
                }
                self.send(chunk(b"data: {\"error\":{\"message\":\"no\",\"code\":\"overloaded\"}}\n\n")).await?;
                self.send(b"0\r\n\r\n".to_vec()).await?;
                Some(Next::Keep)
            }
            Act::ErrorEvent => {
                self.send(self.head(Frame::Chunked, None, After::Keep).into_bytes()).await?;
                for event in self.events(2, "stop").into_iter().take(2) {
                    self.send(chunk(&event)).await?;
                    self.rest().await;
                }
                self.send(chunk(b"data: {\"error\":{\"message\":\"no\",\"code\":\"overloaded\"}}\n\n")).await?;
                if between(0, 1) == 0 {
                    self.send(chunk(b"data: [DONE]\n\n")).await?;
                }
                self.send(b"0\r\n\r\n".to_vec()).await?;
                Some(Next::Keep)
            }
            Act::LongLength | Act::ShortLength => {
                let body = self.body();
                let said = if act == Act::LongLength { body.len() + 10 } else { body.len() - 10 };
                if act == Act::ShortLength {
                    self.ledger.rate(self.call, Worth::Broken);
                }
                self.send(self.head(Frame::Length, Some(said), After::Keep).into_bytes()).await?;
                self.send(body).await?;
                self.rest().await;
                Some(Next::Close)
            }
            Act::Hang(when) | Act::Leave(when) | Act::Reset(when) | Act::Garbage(when) => {
                self.begin(act, when).await?;
                if let Act::Garbage(_) = act {
                    // Inside of a length it is a body like any other.
                    self.ledger.rate(self.call, Worth::Broken);
                    self.send(b"\0\x01 what is this\r\n\xff\r\n\r\n".to_vec()).await?;
                }
                reader_gone(self.socket, act).await;
                Some(Next::Close)
            }
        }
    }

    async fn rest(&self) {
        if self.rest_ms > 0 && between(0, 2) > 0 {
            sleep_ms(between(0, self.rest_ms)).await;
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Option<()> {
        self.socket.write(bytes).await.0.ok()
    }

    fn head(&self, frame: Frame, length: Option<usize>, after: After) -> String {
        let kind = if self.form == Form::NonStreaming { "application/json" } else { "text/event-stream" };
        let mut head = String::new();
        if between(0, 9) == 0 {
            head.push_str("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        }
        head.push_str(&format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nServer: secret\r\n"));
        match (frame, length) {
            (Frame::Length, Some(length)) => head.push_str(&format!("Content-Length: {length}\r\n")),
            (Frame::Chunked, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        if after == After::Close {
            head.push_str("Connection: close\r\n");
        }
        head + "\r\n"
    }

    fn events(&self, count: usize, finish: &str) -> Vec<Vec<u8>> {
        let usage = self.form == Form::Streaming { usage: true };
        events(self.number, self.call, count.min(words(self.number).len()), finish, usage)
    }

    /// A whole answer, or a stream's events without `[DONE]`.
    fn body(&self) -> Vec<u8> {
        match self.form {
            Form::NonStreaming => whole_answer(self.number, self.call, words(self.number).len(), "stop"),
            Form::Streaming { .. } => self.events(usize::MAX, "stop").concat(),
        }
    }

    async fn answer(&mut self, frame: Frame, after: After, count: usize, finish: &str, worth: Worth) -> Option<()> {
        let parts = match self.form {
            Form::NonStreaming => {
                vec![whole_answer(self.number, self.call, count.min(words(self.number).len()), finish)]
            }
            Form::Streaming { .. } => {
                let mut parts = self.events(count, finish);
                parts.push(b"data: [DONE]\n\n".to_vec());
                parts
            }
        };
        let length = (frame == Frame::Length).then(|| parts.iter().map(Vec::len).sum());
        // Rated before its last byte goes out: whoever gets it then may be told so.
        self.send(self.head(frame, length, after).into_bytes()).await?;
        let last = parts.len() - 1;
        // Long answers would take for ever at one rest an event.
        let rests = if parts.len() > 100 { 20 } else { 1 };
        for (index, part) in parts.into_iter().enumerate() {
            if index == last {
                self.ledger.rate(self.call, worth);
            }
            if index % rests == 0 {
                self.rest().await;
            }
            self.send(if frame == Frame::Chunked { chunk(&part) } else { part }).await?;
        }
        if frame == Frame::Chunked {
            self.send(b"0\r\n\r\n".to_vec()).await?;
        }
        Some(())
    }

    /// Sends as much of an answer as comes before `when`.
    async fn begin(&mut self, act: Act, when: When) -> Option<()> {
        let frame = frame(self.form);
        // A close would be the proper end of such an answer; a reset is not.
        let is_end = frame == Frame::UntilClose && !matches!(act, Act::Reset(_));
        let frame = if is_end { Frame::Chunked } else { frame };
        let body = self.body();
        let head = self.head(frame, Some(body.len()), After::Keep).into_bytes();
        match when {
            When::AtAccept | When::NoHead => Some(()),
            When::InHead => self.send(head[..between(1, head.len() as u64 - 1) as usize].to_vec()).await,
            When::AfterHead => self.send(head).await,
            When::InBody => {
                self.send(head).await?;
                let part = &body[..between(1, body.len() as u64 - 1) as usize];
                self.send(if frame == Frame::Chunked { chunk(part) } else { part.to_vec() }).await?;
                self.rest().await;
                Some(())
            }
        }
    }
}

/// The body of an error's answer to `call`.
pub fn error_body(call: usize) -> String {
    format!("{{\"error\":{{\"message\":\"no\",\"type\":\"x\",\"code\":\"c\",\"call\":{call}}}}}")
}

/// The body of an answer of status 200 that is none.
pub fn false_ok(call: usize, form: Form) -> Vec<u8> {
    let whole = ["", "{}", "{\"choices\":null}", "<html>", "{\"base_resp\":{\"status_code\":1000}}"].map(str::to_owned);
    let bodies = [&[error_body(call)], &whole[..]].concat();
    match form {
        Form::NonStreaming => bodies[between(0, bodies.len() as u64 - 1) as usize].clone().into_bytes(),
        Form::Streaming { .. } => {
            let data = match between(0, bodies.len() as u64) as usize {
                place if place < bodies.len() => bodies[place].clone(),
                _ => "[DONE]".to_owned(),
            };
            format!("data: {data}\n\n").into_bytes()
        }
    }
}

/// An event that says who speaks, and nothing more.
pub fn role_event(call: usize) -> Vec<u8> {
    let event = format!(
        "data: {{\"id\":\"call-{call}\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"real-m\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\"}},\"finish_reason\":null}}]}}\n\n"
    );
    event.into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}
