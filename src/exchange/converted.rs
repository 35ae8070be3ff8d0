//! Answers in another format than JSON, for clients that ask for one: the exchange writes JSON as ever, into memory in place of
//! the client's socket, and what has come whole is converted. Streams of events are no documents and stay as they are. An answer
//! that cannot be converted goes out in JSON, as its content type says.

use std::future::{Future, poll_fn};
use std::mem::replace;
use std::pin::pin;
use std::task::Poll;

use super::client::ClientConnection;
use super::memory::Reserved;
use super::record::RequestRecord;
use crate::dialect::facts::Endpoint;
use crate::error::Failure;
use crate::net::Transport;
use crate::net::pipelined::{self, Answer};
use crate::net::watch::Interrupt;
use crate::wire::body::{Body, Decoder};
use crate::wire::format::Format;
use crate::wire::http1::{Asked, Method, Progress, ResponseHead, encode, parse_response};

/// Whether the answer is to be in another format than JSON. What is passed through unseen keeps its own.
pub fn is_wanted(record: &RequestRecord) -> bool {
    record.format != Format::Json && record.endpoint != Endpoint::Other && record.delivery.method != Method::Head
}

/// A client whose answer is held until it is whole.
pub struct Held {
    /// The client's own.
    transport: Transport,
    /// Of earlier answers, not sent yet.
    earlier: Vec<u8>,
    /// None: it became too large.
    answer: Option<Answer>,
    bytes: Vec<u8>,
    memory: Reserved,
    is_half_closed: bool,
}

impl Held {
    /// From here to [`Held::end`] nothing reaches the client.
    pub fn begin(client: &mut ClientConnection<'_>) -> Held {
        let (writer, answer) = pipelined::answer();
        if client.half_closed {
            answer.half_closed();
        }
        Held {
            transport: replace(client.socket, Transport::Pipelined(Box::new(writer))),
            earlier: std::mem::take(&mut client.output),
            answer: Some(answer),
            bytes: Vec::new(),
            memory: client.memory.beside(),
            is_half_closed: client.half_closed,
        }
    }

    /// Runs the exchange, and takes what it writes. With why the answer cannot be held, if so.
    pub async fn during<T>(&mut self, exchange: impl Future<Output = T>) -> (T, Option<Failure>) {
        let mut exchange = pin!(exchange);
        let mut failure = None;
        self.transport.watch().guard();
        let done = poll_fn(|context| {
            if let Poll::Ready(done) = exchange.as_mut().poll(context) {
                return Poll::Ready(done);
            }
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
                if answer.take(&mut self.bytes).is_some() {
                    break;
                }
                if let Err(full) = self.memory.grow_to(self.bytes.len()) {
                    (failure, self.answer) = (Some(full), None);
                }
            }
            Poll::Pending
        })
        .await;
        self.transport.watch().unguard();
        (done, failure)
    }

    /// Gives the client its connection back, and puts what is held into its output, converted.
    pub fn end(mut self, client: &mut ClientConnection<'_>, record: &mut RequestRecord) {
        drop(replace(client.socket, self.transport));
        client.half_closed = self.is_half_closed;
        if let Some(answer) = &mut self.answer {
            answer.take(&mut self.bytes);
        }
        self.bytes.append(&mut client.output);
        client.output.append(&mut self.earlier);
        let at = client.output.len();
        client.output.append(&mut self.bytes);
        convert(&mut client.output, at, record);
    }
}

/// Converts the answer that stands in `output` from `at` on to the format that its client wants, if it is whole and in JSON.
pub fn convert(output: &mut Vec<u8>, at: usize, record: &mut RequestRecord) {
    if is_wanted(record)
        && let Some((head, body)) = converted(record.format, &output[at..])
    {
        record.sent_bytes = body.len() as u64;
        output.truncate(at + head.interim);
        output.extend_from_slice(&head.bytes);
        output.extend_from_slice(&body);
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
