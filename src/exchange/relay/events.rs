//! A stream of events on its way into a flight's log: what clients get is rendered anew, usage is taken out of the chunks
//! and kept for those who asked, and what the stream says of itself is remembered. Owns the part of an event that has not
//! come whole.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use shards::Fault;

use super::source::Source;
use crate::dialect::Dialect;
use crate::dialect::facts::{
    Endpoint, ErrorKind, EventFacts, EventKind, NotStored, RequestFacts, StreamVerdict, Substance, TokenUsage,
    UsageMembers,
};
use crate::exchange::buffers::BUFFER_BYTES;
use crate::exchange::core::Core;
use crate::exchange::scratch::Scratch;
use crate::exchange::upstream_request::UpstreamRequest;
use crate::limits::{EVENT_BYTES, EVENTS_NODE_BYTES};
use crate::wire::body::Body;
use crate::wire::json::Tape;
use crate::wire::sse::{self, Ending, EventData, Splitter};

/// What the first event with a meaning was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The answer has begun.
    Content,
    /// It failed before it began; what failed is in [`Events::take_error`].
    Error,
    /// It ended before it began.
    Nothing,
}

/// What becomes of usage that stands in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InChunks {
    /// It goes, and so does each null in its place: nobody asked for it.
    Hidden,
    /// It goes, to come once behind the last chunk; a null stays, as whoever asked expects one in each chunk.
    Gathered,
    /// It stays: the client's own options may ask for it.
    Kept,
}

/// How much of a stream may come before its first content.
const PREAMBLE_BYTES: usize = 64 << 10;
/// The same of a response, whose first events repeat the request's instructions and tools, twice.
const PREAMBLE_OF_RESPONSES_BYTES: usize = 1 << 20;

pub struct Events {
    dialect: Dialect,
    endpoint: Endpoint,
    in_chunks: InChunks,
    splitter: Splitter,
    verdict: StreamVerdict,
    /// The data of the usage event; empty for none.
    usage: Vec<u8>,
    tokens: Option<TokenUsage>,
    pending: Vec<u8>,
    room: Room,
    first: Option<First>,
    /// The data of what may be an error in place of an answer.
    error: Option<(ErrorKind, Vec<u8>)>,
    /// Whether what was rendered last had more in it than comments and empty events.
    had_content: bool,
    /// An error event was passed on: nothing of an answer may follow it.
    had_error: bool,
    /// Events with content that came.
    contents: u64,
}

impl Events {
    pub fn new(core: &Core, upstream: &UpstreamRequest, usage_hidden: bool) -> Events {
        let in_chunks = match upstream.facts {
            _ if usage_hidden => InChunks::Hidden,
            Some(facts) if RequestFacts::may_want_usage_in_chunks(&facts) => InChunks::Kept,
            _ => InChunks::Gathered,
        };
        Events {
            dialect: Dialect::of_endpoint(upstream.endpoint),
            endpoint: upstream.endpoint,
            in_chunks,
            splitter: Splitter::new(),
            verdict: StreamVerdict::new(),
            usage: Vec::new(),
            tokens: None,
            pending: Vec::new(),
            room: Room::new(core),
            first: None,
            error: None,
            had_content: false,
            had_error: false,
            contents: 0,
        }
    }

    /// What the first event with a meaning was, if there was one.
    pub fn first(&self) -> Option<First> {
        self.first
    }

    /// What came in place of an answer, once: of what kind it is, and its data.
    pub fn take_error(&mut self) -> Option<(ErrorKind, Vec<u8>)> {
        self.error.take()
    }

    /// Whether `bytes` before the first content are more than an answer of this kind begins with.
    pub fn is_long_preamble(&self, bytes: usize) -> bool {
        let most = if self.dialect == Dialect::Responses { PREAMBLE_OF_RESPONSES_BYTES } else { PREAMBLE_BYTES };
        bytes > most
    }

    /// How many events had content: mostly one for each token.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// What it has said of its usage so far.
    pub fn tokens(&self) -> Option<TokenUsage> {
        self.tokens
    }

    /// Whether the terminal event was seen: nothing that still comes belongs to the answer.
    pub fn is_done(&self) -> bool {
        self.verdict.is_done()
    }

    /// Whether the answer is whole if nothing more comes.
    pub fn is_complete(&self) -> bool {
        self.verdict.is_complete()
    }

    /// Takes the bytes that are here out of `source`; whether the body is over.
    pub fn take_in(&mut self, core: &Core, source: &mut Source<'_>) -> Result<Body, Fault> {
        if self.pending.capacity() == 0 {
            self.pending = core.memory.buffers.take();
        }
        let state = source.decode(|bytes| self.pending.extend_from_slice(bytes))?;
        self.room.hold(self.pending.capacity())?;
        Ok(state)
    }

    /// Writes the whole events that are here to `log`. Errors: one is too long or cut off, and is a part of the answer;
    /// without it nothing behind it may look whole.
    pub fn render(&mut self, core: &Core, log: &mut Vec<u8>) -> Result<(), Fault> {
        let Scratch { tape, shapes, .. } = &mut *core.memory.scratch.borrow_mut();
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
            if data.is_empty() && event.name.is_empty() {
                continue; // no event, by WHATWG HTML 9.2.6
            }
            let name = event.name.of(&self.pending);
            let facts = match self.dialect {
                Dialect::Anthropic | Dialect::Responses => self.dialect.event_facts(self.endpoint, name, data, tape),
                Dialect::OpenAi => shapes.event_facts(self.endpoint, name, data, tape),
            };
            if facts.kind == EventKind::Cut {
                return Err(Fault::Garbage); // a client that skips what it cannot read would miss it unawares
            }
            self.verdict.note(&facts);
            self.had_content |= facts.substance != Substance::Preamble;
            self.had_error |= facts.kind == EventKind::Error;
            self.contents += u64::from(facts.kind == EventKind::Content);
            if let Some(tokens) = facts.usage {
                // The last one that comes stands.
                self.tokens = match (self.dialect, self.tokens) {
                    (Dialect::Anthropic, Some(before)) => Some(tokens.after(before)),
                    _ => Some(tokens),
                };
                self.usage.clear();
                self.dialect.usage_event(data, tape, &mut self.usage);
            }
            if self.first.is_none() {
                self.first = match facts.substance {
                    Substance::Error(_) => Some(First::Error),
                    Substance::Content | Substance::Cut => Some(First::Content),
                    Substance::Preamble | Substance::Unknown(_) if facts.kind == EventKind::Done => {
                        Some(if self.error.is_some() { First::Error } else { First::Nothing })
                    }
                    Substance::Preamble | Substance::Unknown(_) => None,
                };
                match facts.substance {
                    Substance::Error(kind) => self.error = Some((kind, data.to_vec())),
                    Substance::Unknown(kind) if self.error.is_none() => self.error = Some((kind, data.to_vec())),
                    Substance::Content | Substance::Cut => self.error = None,
                    Substance::Preamble | Substance::Unknown(_) => {}
                }
            }
            match facts.kind {
                EventKind::Done | EventKind::UsageOnly if self.dialect.terminal().is_some() => {}
                _ => match cut_of(self.in_chunks, &facts) {
                    UsageMembers::None if event.name.is_empty() => sse::event(log, data),
                    UsageMembers::None => log.extend_from_slice(event.whole.of(&self.pending)),
                    cut => {
                        if !event.name.is_empty() {
                            log.extend_from_slice(b"event: ");
                            log.extend_from_slice(event.name.of(&self.pending));
                            log.push(b'\n');
                        }
                        write_cut(self.dialect, cut, data, tape, log);
                    }
                },
            }
        }
        let released = self.splitter.release();
        self.pending.drain(..released);
        // Between two reads there is rarely anything to keep: the next stream uses the same buffer while it is warm.
        if self.pending.is_empty() {
            core.memory.buffers.give(std::mem::take(&mut self.pending));
        } else if self.pending.len() <= BUFFER_BYTES {
            self.pending.shrink_to(BUFFER_BYTES);
        }
        self.room.hold(self.pending.capacity())
    }

    /// The body is over, properly. An event whose blank line is missing is one all the same, if it is whole: servers leave
    /// the last line ends out. Errors: it is not.
    pub fn end(&mut self, core: &Core, log: &mut Vec<u8>) -> Result<(), Fault> {
        if self.splitter.ending(&self.pending) == Ending::Incomplete {
            self.pending.extend_from_slice(b"\n\n");
            return self.render(core, log).map_err(|_| Fault::Truncated);
        }
        Ok(())
    }

    /// Reads on into the flight's log until the answer is whole; `body` is what the last read said. Errors: it is not.
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
                let mut ended = Ok(());
                flight.push(core, |log| ended = self.end(core, log));
                ended?;
                return Poll::Ready(if self.is_complete() { Ok(()) } else { Err(Fault::Truncated) });
            }
            let state = self.take_in(core, source);
            let mut rendered = Ok(());
            flight.push(core, |log| rendered = self.render(core, log));
            rendered?;
            if std::mem::take(&mut self.had_content) {
                source.content_came();
            }
            if !self.is_done() {
                *body = state?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the buffers back.
    pub fn release(self, core: &Core) {
        core.memory.buffers.give(self.pending);
    }

    /// What is known at the end: whether it may be kept, the usage event, and the tokens.
    pub fn into_parts(self, core: &Core) -> (Result<(), NotStored>, Option<Vec<u8>>, Option<TokenUsage>) {
        let stored = self.verdict.stored();
        core.memory.buffers.give(self.pending);
        let usage = (!self.usage.is_empty() && !self.had_error).then(|| {
            let mut event = Vec::with_capacity(self.usage.len() + 8);
            sse::event(&mut event, &self.usage);
            event
        });
        (stored, usage, self.tokens)
    }
}

/// A stream's part of what large events may take of the core's memory.
struct Room {
    all: Rc<Cell<u64>>,
    most: u64,
    own: u64,
}

impl Room {
    fn new(core: &Core) -> Room {
        Room { all: core.memory.event_bytes.clone(), most: EVENTS_NODE_BYTES / u64::from(core.count.max(1)), own: 0 }
    }

    /// Takes as much as `bytes`, and gives back the rest. Errors: there is no room for it.
    fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        // What fits into a buffer of the core's is bounded with these.
        let own = if bytes > BUFFER_BYTES { bytes as u64 } else { 0 };
        if own == self.own {
            return Ok(()); // nearly always
        }
        let all = self.all.get() - self.own + own;
        (self.own, _) = (own, self.all.replace(all));
        // One of the largest always finds room, however many cores there are.
        if all > self.most.max(2 * EVENT_BYTES as u64) { Err(Fault::Garbage) } else { Ok(()) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.own);
    }
}

/// What goes of the usage in a chunk.
fn cut_of(in_chunks: InChunks, facts: &EventFacts) -> UsageMembers {
    match (in_chunks, facts.usage_members) {
        (InChunks::Kept, _) => UsageMembers::None,
        (InChunks::Gathered, UsageMembers::Null(_)) => UsageMembers::None,
        (_, members) => members,
    }
}

/// Appends a chunk without its usage.
fn write_cut(dialect: Dialect, cut: UsageMembers, data: &[u8], tape: &Tape, log: &mut Vec<u8>) {
    match cut {
        // One client, nearly always.
        UsageMembers::Null(member) if memchr::memchr2(b'\n', b'\r', data).is_none() => {
            log.extend_from_slice(b"data: ");
            log.extend_from_slice(&data[..member.start as usize]);
            log.extend_from_slice(&data[member.end as usize..]);
            log.extend_from_slice(b"\n\n");
        }
        // No line end can stand inside JSON but as white space, which `event` splits again.
        UsageMembers::Null(member) => {
            sse::event(log, &[&data[..member.start as usize], &data[member.end as usize..]].concat());
        }
        UsageMembers::Some => {
            let mut rest = Vec::with_capacity(data.len());
            dialect.without_usage(data, tape, &mut rest);
            sse::event(log, &rest);
        }
        UsageMembers::None => sse::event(log, data),
    }
}
