//! A stream of events on its way into a flight's log: what clients get is rendered anew, what only the gateway asked for
//! is taken out, and what the stream says of itself is remembered. Owns the part of an event that has not come whole.

use std::task::{Context, Poll, ready};

use shards::Fault;

use super::source::Source;
use crate::dialect::facts::{Endpoint, EventKind, NotStored, StreamVerdict, Substance, TokenUsage, UsageEvent};
use crate::exchange::attempt::first_event;
use crate::exchange::core::{Core, Scratch};
use crate::exchange::order::Order;
use crate::wire::body::Body;
use crate::wire::sse::{self, EventData, Splitter};

/// What the first event with a meaning was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The answer has begun.
    Content,
    /// It failed before it began.
    Error(Fault),
}

pub struct Events {
    endpoint: Endpoint,
    usage_hidden: bool,
    usage_asked: bool,
    splitter: Splitter,
    verdict: StreamVerdict,
    usage_event: Option<Vec<u8>>,
    tokens: Option<TokenUsage>,
    pending: Vec<u8>,
    first: Option<First>,
}

impl Events {
    pub fn new(order: &Order, usage_hidden: bool) -> Events {
        Events {
            endpoint: order.endpoint,
            usage_hidden,
            usage_asked: order.facts.is_some_and(|facts| facts.usage_event == UsageEvent::Asked),
            splitter: Splitter::new(),
            verdict: StreamVerdict::new(),
            usage_event: None,
            tokens: None,
            pending: Vec::new(),
            first: None,
        }
    }

    /// What the first event with a meaning was, if there was one.
    pub fn first(&self) -> Option<First> {
        self.first
    }

    /// Whether the terminal event was seen: nothing that still comes belongs to the answer.
    pub fn is_done(&self) -> bool {
        self.verdict.is_done()
    }

    /// Takes the bytes that are here out of `source`; whether the body is over.
    pub fn take_in(&mut self, core: &Core, source: &mut Source<'_>) -> Result<Body, Fault> {
        if self.pending.capacity() == 0 {
            self.pending = core.buffers.take();
        }
        source.decode(|bytes| self.pending.extend_from_slice(bytes))
    }

    /// Writes the whole events that are here to `log`. Errors: one is too long or cut off, and is a part of the answer;
    /// without it nothing behind it may look whole.
    pub fn render(&mut self, core: &Core, log: &mut Vec<u8>) -> Result<(), Fault> {
        let Scratch { tape, shapes, .. } = &mut *core.scratch.borrow_mut();
        loop {
            let event = match self.splitter.next(&self.pending) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => return Err(Fault::Garbage),
            };
            if event.data == EventData::Absent {
                continue; // comments: clients get our own while a backend thinks
            }
            let data = self.splitter.data(&event, &self.pending);
            let facts = shapes.event_facts(self.endpoint, event.name.of(&self.pending), data, tape);
            if facts.kind == EventKind::Cut {
                return Err(Fault::Garbage); // a client that skips what it cannot read would miss it unawares
            }
            self.verdict.note(&facts);
            self.tokens = facts.usage.or(self.tokens);
            if self.first.is_none() {
                self.first = match facts.substance {
                    Substance::Error(kind) => Some(First::Error(first_event(kind))),
                    Substance::Content => Some(First::Content),
                    Substance::Preamble if facts.kind == EventKind::Done => Some(First::Content),
                    Substance::Preamble => None,
                };
            }
            match (facts.kind, facts.usage_member) {
                (EventKind::Done, _) => {}
                (EventKind::UsageOnly, _) => {
                    let mut rendered = Vec::with_capacity(data.len() + 8);
                    sse::event(&mut rendered, data);
                    self.usage_event = Some(rendered);
                }
                // Where the client asked, others who did not may read along: what says nothing goes.
                (_, Some(member)) if self.usage_hidden || (self.usage_asked && facts.usage.is_none()) => {
                    // One line: no line end can stand inside JSON but as white space, which `event` splits again.
                    let cut = [&data[..member.start as usize], &data[member.end as usize..]].concat();
                    sse::event(log, &cut);
                }
                _ if event.name.is_empty() => sse::event(log, data),
                _ => log.extend_from_slice(event.whole.of(&self.pending)),
            }
        }
        let released = self.splitter.release();
        self.pending.drain(..released);
        // Between two reads there is rarely anything to keep: the next stream uses the same buffer while it is warm.
        if self.pending.is_empty() {
            core.buffers.give(std::mem::take(&mut self.pending));
        }
        Ok(())
    }

    /// Reads on into the flight's log until the terminal event; `body` is what the last read said. Errors: it did not come.
    pub fn poll_finish(
        &mut self,
        core: &Core,
        source: &mut Source<'_>,
        body: &mut Body,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let flight = source.flight;
        while !self.is_done() {
            if *body == Body::Done || ready!(source.poll_read(core, context))? == Body::Done {
                return Poll::Ready(Err(Fault::Truncated));
            }
            let state = self.take_in(core, source);
            let mut rendered = Ok(());
            flight.push(core, |log| rendered = self.render(core, log));
            rendered?;
            if !self.is_done() {
                *body = state?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the buffers back.
    pub fn release(self, core: &Core) {
        core.buffers.give(self.pending);
    }

    /// What is known at the end: whether it may be kept, the usage event, and the tokens.
    pub fn into_parts(self, core: &Core) -> (Result<(), NotStored>, Option<Vec<u8>>, Option<TokenUsage>) {
        let stored = self.verdict.stored();
        core.buffers.give(self.pending);
        (stored, self.usage_event, self.tokens)
    }
}
