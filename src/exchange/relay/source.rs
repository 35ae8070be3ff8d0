//! The body of a backend's answer as it arrives, under the time-outs of where it stands. Owns the connection until the
//! answer has been read.

use shards::Fault;

use super::upstream::Tail;
use crate::exchange::attempt::Deadlines;
use crate::exchange::core::Core;
use crate::exchange::flight::Flight;
use crate::exchange::lease::Lease;
use crate::exchange::send::Answer;
use crate::net::now_ms;
use crate::wire::body::{Body, Decoder};
use crate::wire::http1::Persistence;

/// What bounds the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has reached a client: the whole of what is awaited has one deadline.
    Held,
    /// A stream flows: each read has its own time.
    Flowing,
    /// A whole answer flows.
    Whole,
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
    deadlines: Deadlines,
    phase: Phase,
}

impl<'a> Source<'a> {
    pub fn new(core: &Core, lease: Lease, answer: Answer, deadlines: Deadlines, flight: &'a Flight) -> Source<'a> {
        let (framing, persistence) = (answer.head.framing, answer.head.persistence);
        core.response_heads.give(answer.head);
        lease.shut_down_at(deadlines.first_ms);
        Source {
            flight,
            lease,
            decoder: Decoder::new(framing),
            input: answer.input,
            consumed: answer.consumed,
            persistence,
            idle_ms: answer.idle_ms,
            deadlines,
            phase: Phase::Held,
        }
    }

    /// What is read from here on reaches clients as it comes.
    pub fn flow(&mut self, phase: Phase) {
        self.phase = phase;
        self.lease.shut_down_at(self.deadlines.total_ms);
    }

    /// Hands the decoded bytes that are here to `take`; whether the body is over.
    pub fn decode(&mut self, mut take: impl FnMut(&[u8])) -> Result<Body, Fault> {
        while !self.decoder.is_done() && self.consumed < self.input.len() {
            let rest = &self.input[self.consumed..];
            let step = self.decoder.decode(rest).map_err(|_| Fault::Garbage)?;
            take(&rest[step.data.clone()]);
            self.consumed += step.consumed;
        }
        Ok(if self.decoder.is_done() { Body::Done } else { Body::More })
    }

    /// Reads once. Errors: the answer is cut off, too slow, or nobody wants it any more.
    pub async fn read(&mut self, core: &Core) -> Result<Body, Fault> {
        // Arming anew forgets a deadline that has passed, and with it that the socket is shut down.
        if self.lease.has_tripped() {
            return Err(self.too_late());
        }
        if self.phase != Phase::Held {
            if self.phase == Phase::Flowing {
                // While clients hold it back the backend is not to blame.
                self.lease.shut_down_at(self.deadlines.total_ms);
            }
            self.flight.room().await;
            if self.phase == Phase::Flowing {
                let until_ms = self.deadlines.total_ms.min(now_ms().saturating_add(self.deadlines.gap_ms));
                self.lease.shut_down_at(until_ms);
            }
        }
        let mut input = std::mem::take(&mut self.input);
        input.clear();
        self.consumed = 0;
        let (result, input) = self.lease.read(input).await;
        self.input = input;
        if matches!(result, Ok(read) if read > 0) {
            self.flight.alive(core);
            return Ok(Body::More);
        }
        if self.flight.is_abandoned() {
            return Err(Fault::Cancelled);
        }
        if self.lease.has_tripped() {
            return Err(self.too_late());
        }
        if self.lease.was_refused() {
            return Err(Fault::Refused);
        }
        match (result, self.decoder.eof()) {
            (Ok(_), Ok(())) => Ok(Body::Done),
            _ => Err(Fault::Truncated),
        }
    }

    fn too_late(&self) -> Fault {
        if self.flight.is_abandoned() {
            return Fault::Cancelled;
        }
        match self.phase {
            Phase::Held => self.deadlines.fault(Fault::FirstTimeout),
            Phase::Flowing | Phase::Whole => Fault::Deadline,
        }
    }

    pub fn into_tail(self) -> Tail {
        let Source { lease, decoder, input, consumed, persistence, idle_ms, .. } = self;
        Tail { lease, decoder, input, consumed, persistence, idle_ms }
    }
}
