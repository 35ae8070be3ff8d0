//! The body of a backend's answer as it arrives, under the time-outs of where it stands. Owns the connection until the
//! answer has been read.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use shards::Fault;

use super::tail::Tail;
use super::unwrapping::Unwrapping;
use crate::exchange::core::Core;
use crate::exchange::flight::Flight;
use crate::exchange::send::Answer;
use crate::net::now_ms;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::Lease;
use crate::wire::body::{Body, Decoder};
use crate::wire::http1::Persistence;

/// What bounds the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has reached a client: the whole of what is awaited has one deadline.
    Held,
    /// It flows to clients: each read has its own time.
    Flowing,
}

/// How far a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Idle,
    /// Until the flight's readers are near enough.
    AwaitsRoom,
    AwaitsBytes,
}

pub struct Source<'a> {
    pub flight: &'a Flight,
    lease: Lease,
    decoder: Decoder,
    input: Vec<u8>,
    consumed: usize,
    persistence: Persistence,
    /// How long the peer keeps an idle connection, by its own word.
    idle_ms: Option<u64>,
    /// What is done to the bytes before they are handed out; mostly nothing.
    unwrapping: Option<Box<Unwrapping>>,
    /// The connection has ended where the body does, and something may still be held back.
    is_over: bool,
    deadlines: Deadlines,
    /// Whether silence counts before the first content.
    is_stream: bool,
    /// Since when clients hold the backend back: that time is not the backend's. `u64::MAX` when they do not.
    held_up_ms: u64,
    /// Until when content has to come, where it is told apart from what else does.
    content_until_ms: u64,
    phase: Phase,
    reading: Reading,
}

impl<'a> Source<'a> {
    pub fn new(
        core: &Core,
        lease: Lease,
        answer: Answer,
        unwrapping: Option<Box<Unwrapping>>,
        deadlines: Deadlines,
        flight: &'a Flight,
    ) -> Source<'a> {
        let (framing, persistence) = (answer.head.framing, answer.head.persistence);
        core.memory.response_heads.give(answer.head);
        lease.shut_down_at(deadlines.first_ms);
        Source {
            flight,
            lease,
            decoder: Decoder::new(framing),
            input: answer.input,
            consumed: answer.consumed,
            persistence,
            idle_ms: answer.idle_ms,
            unwrapping,
            is_over: false,
            deadlines,
            is_stream: false,
            held_up_ms: u64::MAX,
            content_until_ms: u64::MAX,
            phase: Phase::Held,
            reading: Reading::Idle,
        }
    }

    /// It is a stream whose events are looked into: silence and content are told apart.
    pub fn watch_events(&mut self) {
        self.is_stream = true;
    }

    /// What is read from here on reaches clients as it comes.
    pub fn flow(&mut self) {
        self.phase = Phase::Flowing;
        self.lease.shut_down_at(self.deadlines.stream_ms);
        if self.is_stream {
            self.content_came();
        }
    }

    /// What was read last had content in it.
    pub fn content_came(&mut self) {
        self.content_until_ms = now_ms().saturating_add(self.deadlines.content_ms);
    }

    /// Hands the decoded bytes that are here to `take`; whether the body is over.
    pub fn decode(&mut self, mut take: impl FnMut(&[u8])) -> Result<Body, Fault> {
        while !self.decoder.is_done() && self.consumed < self.input.len() {
            let rest = &self.input[self.consumed..];
            let step = self.decoder.decode(rest).map_err(|_| Fault::Garbage)?;
            let data = &rest[step.data.clone()];
            match &mut self.unwrapping {
                None => take(data),
                Some(unwrapping) => unwrapping.take_in(data, &mut take)?,
            }
            self.consumed += step.consumed;
        }
        if !self.decoder.is_done() && !self.is_over {
            return Ok(Body::More);
        }
        if let Some(unwrapping) = &mut self.unwrapping {
            unwrapping.end(&mut take)?;
        }
        Ok(Body::Done)
    }

    /// The connection has ended where the body does. What is held back comes out by `decode`.
    fn over(&mut self) -> Result<Body, Fault> {
        match &mut self.unwrapping {
            None => Ok(Body::Done),
            Some(unwrapping) if unwrapping.holds_back() => {
                self.is_over = true;
                Ok(Body::More)
            }
            Some(unwrapping) => unwrapping.end(&mut |_| {}).map(|()| Body::Done),
        }
    }

    /// Whether it was a stream that should have said its end and did not, although it is over.
    pub fn ended_unsaid(&self) -> bool {
        self.unwrapping.as_ref().is_some_and(|unwrapping| unwrapping.ended_unsaid)
    }

    /// Whether it is known that nothing more comes: the next read says at once how it ended.
    pub fn has_ended(&self) -> bool {
        self.lease.has_ended()
    }

    /// Reads once. Errors: the answer is cut off, too slow, or nobody wants it any more.
    pub async fn read(&mut self, core: &Core) -> Result<Body, Fault> {
        poll_fn(|context| self.poll_read(core, context)).await
    }

    /// As `read`. All that is known of a read that waits is here, and not in a future: whoever waits for thousands of streams
    /// finds what it needs of each in one place.
    pub fn poll_read(&mut self, core: &Core, context: &mut Context<'_>) -> Poll<Result<Body, Fault>> {
        if self.reading == Reading::Idle {
            core.memory.buffers.give(std::mem::take(&mut self.input));
            self.consumed = 0;
            let waits = self.phase != Phase::Held && !self.flight.has_room();
            // While clients hold it back the backend is not to blame.
            if waits {
                if !self.lease.go_on_until(self.deadlines.stream_ms) {
                    return Poll::Ready(Err(self.too_late()));
                }
                self.held_up_ms = now_ms();
            }
            self.reading = Reading::AwaitsRoom;
        }
        if self.reading == Reading::AwaitsRoom {
            if self.phase != Phase::Held {
                ready!(self.flight.poll_room(context));
            }
            let now = now_ms();
            let held_up_ms = now.saturating_sub(std::mem::replace(&mut self.held_up_ms, u64::MAX));
            self.content_until_ms = self.content_until_ms.saturating_add(held_up_ms);
            let silent_ms = now.saturating_add(self.deadlines.idle_ms);
            let goes_on = match self.phase {
                Phase::Flowing => {
                    self.lease.go_on_until(self.deadlines.stream_ms.min(silent_ms).min(self.content_until_ms))
                }
                Phase::Held if self.is_stream => self.lease.go_on_until(self.deadlines.first_ms.min(silent_ms)),
                Phase::Held => !self.lease.was_interrupted(),
            };
            if !goes_on {
                self.reading = Reading::Idle;
                return Poll::Ready(Err(self.too_late()));
            }
            self.reading = Reading::AwaitsBytes;
        }
        let result = ready!(self.lease.poll_read_new(|| core.memory.buffers.take(), &mut self.input, context));
        self.reading = Reading::Idle;
        Poll::Ready(self.has_read(core, result))
    }

    fn has_read(&mut self, core: &Core, result: io::Result<usize>) -> Result<Body, Fault> {
        if matches!(result, Ok(read) if read > 0) {
            self.flight.alive(core);
            return Ok(Body::More);
        }
        if self.flight.is_abandoned() {
            return Err(Fault::Cancelled);
        }
        if self.lease.was_interrupted() {
            return Err(self.too_late());
        }
        if self.lease.was_refused() {
            return Err(Fault::Refused);
        }
        match (result, self.decoder.eof()) {
            (Ok(_), Ok(())) => self.over(),
            _ => Err(Fault::Truncated),
        }
    }

    fn too_late(&self) -> Fault {
        if self.flight.is_abandoned() {
            return Fault::Cancelled;
        }
        match self.phase {
            Phase::Held => self.deadlines.fault(Fault::FirstTimeout),
            Phase::Flowing => Fault::Deadline,
        }
    }

    pub fn into_tail(self) -> Tail {
        let Source { lease, decoder, input, consumed, persistence, idle_ms, .. } = self;
        Tail { lease, decoder, input, consumed, persistence, idle_ms }
    }
}
