//! Answers in another format than JSON, for clients that ask for one: the exchange writes JSON as ever, into memory in place of
//! the client's socket, and what has come whole is converted. Streams of events are no documents and stay as they are. An answer
//! that cannot be converted goes out in JSON, as its content type says.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem::replace;
use std::pin::pin;
use std::task::Context;

use super::client::ClientConnection;
use super::memory::Reserved;
use crate::error::Failure;
use crate::net::Transport;
use crate::net::pipelined::{self, Answer};
use crate::net::watch::Interrupt;
use crate::wire::body::{Body, Decoder};
use crate::wire::format::Format;
use crate::wire::http1::{Asked, Progress, ResponseHead, encode, parse_response};

/// Where an answer is held until it is whole. Shared by the exchange, which begins it once it is known that the answer is no stream,
/// and by what polls the exchange.
#[derive(Default)]
pub struct Holder(RefCell<Option<Held>>);

struct Held {
    /// The client's own.
    transport: Transport,
    /// None: the client has gone, or there is no memory for it.
    answer: Option<Answer>,
    bytes: Vec<u8>,
    memory: Reserved,
    is_full: bool,
    is_half_closed: bool,
}

impl Holder {
    /// From here on nothing reaches the client, whose output was flushed.
    pub fn begin(&self, client: &mut ClientConnection<'_>) {
        let (writer, answer) = pipelined::answer();
        if client.half_closed {
            answer.half_closed();
        }
        let transport = replace(client.socket, Transport::Pipelined(Box::new(writer)));
        transport.watch().guard();
        *self.0.borrow_mut() = Some(Held {
            transport,
            answer: Some(answer),
            bytes: Vec::new(),
            memory: client.memory.beside(),
            is_full: false,
            is_half_closed: client.half_closed,
        });
    }

    /// Runs the exchange, and takes what it writes.
    pub async fn during<T>(&self, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        poll_fn(|context| {
            let done = exchange.as_mut().poll(context);
            if done.is_pending()
                && let Some(held) = &mut *self.0.borrow_mut()
            {
                held.take(context);
            }
            done
        })
        .await
    }

    /// Gives the client its connection back, and makes its answer one in `format` if that can be. Errors: there was no memory to hold
    /// it, and nothing of it was sent.
    pub fn end(&self, client: &mut ClientConnection<'_>, format: Format, sent_bytes: &mut u64) -> Result<(), Failure> {
        if let Some(mut held) = self.0.borrow_mut().take() {
            drop(replace(client.socket, held.transport));
            client.socket.watch().unguard();
            client.half_closed = held.is_half_closed;
            if held.is_full {
                client.output.clear();
                return Err(Failure::MemoryFull);
            }
            if let Some(answer) = &mut held.answer {
                answer.take(&mut held.bytes);
            }
            held.bytes.append(&mut client.output);
            client.output = held.bytes;
        }
        let Some((head, body)) = converted(format, &client.output) else { return Ok(()) };
        client.output.truncate(head.interim);
        client.output.extend_from_slice(&head.bytes);
        client.output.extend_from_slice(&body);
        *sent_bytes = body.len() as u64;
        Ok(())
    }
}

impl Held {
    fn take(&mut self, context: &mut Context<'_>) {
        match self.transport.watch().poll_interrupt(context.waker()) {
            None | Some(Interrupt::Deadline) => {}
            // Dropping it ends the exchange.
            Some(Interrupt::Gone | Interrupt::Abandoned) => self.answer = None,
            Some(Interrupt::HalfClosed) => {
                self.is_half_closed = true;
                self.answer.iter().for_each(Answer::half_closed);
            }
        }
        while let Some(answer) = &mut self.answer
            && answer.poll_some(context).is_ready()
        {
            let is_over = answer.take(&mut self.bytes).is_some();
            if self.memory.grow_to(self.bytes.len()).is_err() {
                (self.is_full, self.answer) = (true, None);
            }
            if is_over {
                return;
            }
        }
    }
}

struct Head {
    /// Length of the interim heads before it, which stay.
    interim: usize,
    bytes: Vec<u8>,
}

fn converted(format: Format, answer: &[u8]) -> Option<(Head, Vec<u8>)> {
    let (mut head, mut interim) = (ResponseHead::default(), 0);
    while parse_response(&answer[interim..], Asked::Other, &mut head) == Ok(Progress::Complete) && head.status < 200 {
        interim += head.length;
    }
    let answer = &answer[interim..];
    if Format::of_content_type(head.fields.get(answer, "content-type")?) != Format::Json {
        return None;
    }
    let body = format.from_json(&whole(&head, answer.get(head.length..)?)?).ok()?;
    let mut bytes = Vec::with_capacity(head.length);
    encode::status_line(&mut bytes, head.status);
    encode::field(&mut bytes, "content-type", format.content_type().as_bytes());
    encode::field_number(&mut bytes, "content-length", body.len() as u64);
    for field in head.fields.iter() {
        let name = std::str::from_utf8(field.name.of(answer)).ok()?;
        if !["content-type", "content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
            encode::field(&mut bytes, name, field.value.of(answer));
        }
    }
    encode::head_end(&mut bytes);
    Some((Head { interim, bytes }, body))
}

/// The content of a body without its framing; None if it is not all there.
fn whole(head: &ResponseHead, mut rest: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut content) = (Decoder::new(head.framing), Vec::with_capacity(rest.len()));
    loop {
        let step = decoder.decode(rest).ok()?;
        content.extend_from_slice(rest.get(step.data)?);
        rest = rest.get(step.consumed..)?;
        match step.state {
            Body::Done => return rest.is_empty().then_some(content),
            _ if rest.is_empty() => return decoder.eof().is_ok().then_some(content),
            _ => {}
        }
    }
}
