//! One connection of the generator: sends a request, reads its answer, records the outcome.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::{now, unix_us};
use crate::message::{AnswerHead, Chunks, Delimited, Form, answer_head};
use crate::report::Tally;

const STAMP: &[u8] = b"\"at_us\":";

pub struct Client {
    address: SocketAddr,
    socket: Option<TcpStream>,
    input: Vec<u8>,
    /// Decoded body that was not yet examined.
    body: Vec<u8>,
    /// The stream's terminal event was seen.
    ended: bool,
    tally: Rc<RefCell<Tally>>,
}

/// Kinds of failure, as named in the report.
struct Failed(String);

impl Failed {
    fn at(step: &str, error: &std::io::Error) -> Failed {
        Failed(format!("{step}: {}", error.kind()))
    }
}

impl Client {
    pub fn new(address: SocketAddr, tally: Rc<RefCell<Tally>>) -> Client {
        Client { address, socket: None, input: Vec::with_capacity(16 << 10), body: Vec::new(), ended: false, tally }
    }

    /// Sends a request and records the outcome in the tally. `intended` is when it was due, `part` what it belongs to.
    pub async fn ask(&mut self, request: &[u8], intended: Instant, part: usize) {
        let micros = |instant: Instant| instant.saturating_duration_since(intended).as_micros() as u64;
        self.tally.borrow_mut().behind.note(micros(now()));
        let outcome = self.exchange(request).await;
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(head) if head.status == 200 => tally.answer(part, micros(now()), head.cache),
            Ok(head) => tally.error(part, &format!("status {}", head.status)),
            Err(Failed(kind)) => {
                tally.error(part, &kind);
                self.socket = None;
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<AnswerHead, Failed> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                self.input.clear();
                let socket = TcpStream::connect(self.address).await.map_err(|error| Failed::at("connect", &error))?;
                socket.set_nodelay(true).map_err(|error| Failed::at("connect", &error))?;
                socket
            }
        };
        socket.write_all(request).await.map_err(|error| Failed::at("send", &error))?;
        let head = loop {
            if let Some(head) = answer_head(&self.input).map_err(|why| Failed(format!("bad answer: {why}")))? {
                break head;
            }
            self.fill(&mut socket, "head").await?;
        };
        self.input.drain(..head.length);
        self.body.clear();
        self.ended = false;
        match head.delimited {
            Delimited::Length(length) => {
                while self.input.len() < length {
                    self.fill(&mut socket, "body").await?;
                }
                self.body.extend(self.input.drain(..length));
                if head.form == Form::Events {
                    self.note_events();
                }
            }
            Delimited::Chunks => {
                let mut chunks = Chunks::default();
                loop {
                    let taken = chunks.take(&self.input, &mut self.body);
                    let taken = taken.map_err(|why| Failed(format!("bad answer: {why}")))?;
                    self.input.drain(..taken);
                    if head.form == Form::Events {
                        self.note_events();
                    }
                    if chunks.is_done() {
                        break;
                    }
                    self.fill(&mut socket, "body").await?;
                }
            }
            Delimited::Close => loop {
                let taken = std::mem::take(&mut self.input);
                self.body.extend_from_slice(&taken);
                self.input = taken;
                self.input.clear();
                if head.form == Form::Events {
                    self.note_events();
                }
                let read = socket.read_buf(&mut self.input).await.map_err(|error| Failed::at("body", &error))?;
                if read == 0 {
                    break;
                }
            },
        }
        // Complete on the wire, but not a complete answer.
        if head.form == Form::Events && !self.ended {
            return Err(Failed("stream without its end".to_owned()));
        }
        if head.keeps_open {
            self.socket = Some(socket);
        }
        Ok(head)
    }

    async fn fill(&mut self, socket: &mut TcpStream, part: &str) -> Result<(), Failed> {
        match socket.read_buf(&mut self.input).await {
            Ok(0) => Err(Failed(format!("closed before the end of the {part}"))),
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::at(part, &error)),
        }
    }

    /// Records the lateness of each complete event in `body`, and removes these events.
    fn note_events(&mut self) {
        let arrived_us = unix_us();
        let mut tally = self.tally.borrow_mut();
        let mut start = 0;
        while let Some(length) = self.body[start..].windows(2).position(|pair| pair == b"\n\n") {
            let event = &self.body[start..start + length];
            start += length + 2;
            self.ended |= event == b"data: [DONE]";
            if let Some(at) = event.windows(STAMP.len()).rposition(|window| window == STAMP) {
                let digits = &event[at + STAMP.len()..];
                let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
                let stamp = std::str::from_utf8(&digits[..end]).ok().and_then(|text| text.parse::<u64>().ok());
                if let Some(stamp) = stamp {
                    tally.chunks += 1;
                    tally.lateness.note(arrived_us.saturating_sub(stamp));
                }
            }
        }
        self.body.drain(..start);
    }
}
