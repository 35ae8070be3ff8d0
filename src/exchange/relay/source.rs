//! The body of a backend's answer as it arrives, under the time-outs of where it stands. Owns the connection until the
//! answer has been read.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use shards::Fault;

use super::tail::Tail;
use crate::exchange::core::Core;
use crate::exchange::flight::Flight;
use crate::exchange::send::Answer;
use crate::limits::DECODED_STEP_BYTES;
use crate::net::now_ms;
use crate::upstream::deadlines::Deadlines;
use crate::upstream::lease::Lease;
use crate::wire::body::{Body, Decoder};
use crate::wire::coding::{Coding, Decompressor, Output};
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
    /// Undoes the compression that was not asked for.
    unpacking: Option<Box<Unpacking>>,
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
        coding: Option<Coding>,
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
            unpacking: coding.map(|coding| Box::new(Unpacking::new(coding))),
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
            match &mut self.unpacking {
                None => take(data),
                Some(unpacking) => unpacking.unpack(data, &mut take)?,
            }
            self.consumed += step.consumed;
        }
        if !self.decoder.is_done() {
            return Ok(Body::More);
        }
        self.over()
    }

    /// The body is over; whether what was packed in it is, too.
    fn over(&self) -> Result<Body, Fault> {
        match &self.unpacking {
            Some(unpacking) if !unpacking.is_complete() => Err(Fault::Truncated),
            _ => Ok(Body::Done),
        }
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

/// A compressed body on its way out of its coding.
struct Unpacking {
    decompressor: Decompressor,
    step: Vec<u8>,
    is_begun: bool,
}

impl Unpacking {
    fn new(coding: Coding) -> Unpacking {
        Unpacking { decompressor: Decompressor::new(coding), step: Vec::new(), is_begun: false }
    }

    fn unpack(&mut self, mut data: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Fault> {
        self.is_begun |= !data.is_empty();
        loop {
            self.step.clear();
            let progress =
                self.decompressor.decode(data, &mut self.step, DECODED_STEP_BYTES).map_err(|_| Fault::Garbage)?;
            take(&self.step);
            data = &data[progress.consumed..];
            if progress.output == Output::Given {
                return Ok(());
            }
        }
    }

    /// A body of no bytes has nothing packed in it.
    fn is_complete(&self) -> bool {
        !self.is_begun || self.decompressor.finish().is_ok()
    }
}
