//! The rest of a connection behind a complete answer.

use std::future::poll_fn;

use crate::exchange::generation::Generation;
use crate::net::now_ms;
use crate::upstream::lease::Lease;
use crate::wire::body::Decoder;
use crate::wire::http1::Persistence;

/// How long the end of a body may take to come behind the end of its answer.
const TAIL_MS: u64 = 1000;

/// The connection behind a complete answer: what frames the body's end may still be on its way.
pub struct Tail {
    pub(super) lease: Lease,
    pub(super) decoder: Decoder,
    pub(super) input: Vec<u8>,
    pub(super) consumed: usize,
    pub(super) persistence: Persistence,
    pub(super) idle_ms: Option<u64>,
}

impl Tail {
    /// Gives the connection back, if the body's end has come. Else there is something left to wait for.
    pub(super) fn release_now(self, generation: &Generation) -> Option<Box<Tail>> {
        if self.lease.is_stream() || !self.decoder.is_done() && self.persistence == Persistence::KeepAlive {
            return Some(Box::new(self));
        }
        self.over(generation);
        None
    }

    fn over(self, generation: &Generation) {
        // Bytes behind the body that nobody asked for: the connection cannot be trusted.
        let clean = self.decoder.is_done() && self.consumed == self.input.len();
        if clean && self.persistence == Persistence::KeepAlive && !generation.is_draining() {
            self.lease.give_back(self.idle_ms);
        }
        generation.memory.buffers.give(self.input);
    }

    /// Gives the connection back, once the body's end has come: many a server sends the last chunk by itself.
    pub async fn release(mut self: Box<Self>, generation: &Generation) {
        let mut garbage = false;
        self.lease.shut_down_at(now_ms() + TAIL_MS);
        if self.lease.is_stream() {
            // Its end is read, for a stream that is dropped before is reset.
            loop {
                generation.memory.buffers.give(std::mem::take(&mut self.input));
                let result = poll_fn(|context| {
                    self.lease.poll_read_new(|| generation.memory.buffers.take(), &mut self.input, context)
                })
                .await;
                if !matches!(result, Ok(read) if read > 0) {
                    return generation.memory.buffers.give(self.input);
                }
            }
        }
        while !garbage && !self.decoder.is_done() && self.persistence == Persistence::KeepAlive {
            let rest = &self.input[self.consumed..];
            if rest.is_empty() {
                generation.memory.buffers.give(std::mem::take(&mut self.input));
                self.consumed = 0;
                let result = poll_fn(|context| {
                    self.lease.poll_read_new(|| generation.memory.buffers.take(), &mut self.input, context)
                })
                .await;
                garbage = !matches!(result, Ok(read) if read > 0);
                continue;
            }
            match self.decoder.decode(rest) {
                // Content behind the end of the answer is nothing anybody waits for.
                Ok(step) if step.data.is_empty() => self.consumed += step.consumed,
                _ => garbage = true,
            }
        }
        match garbage {
            true => generation.memory.buffers.give(self.input),
            false => self.over(generation),
        }
    }

    pub(super) fn break_off(self, generation: &Generation) {
        generation.memory.buffers.give(self.input);
        self.lease.break_off();
    }
}
