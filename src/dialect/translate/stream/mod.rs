//! Streams, both ways: bytes of the backend's events in, whole events of the client's API out. Owns the part of an event that
//! has not come whole and what the API that is written needs to know of what was said before. Must never write the end of a
//! stream whose end has not come.

mod to_anthropic;
mod to_openai;

use to_anthropic::ToAnthropic;
use to_openai::ToOpenAi;

use super::Direction;
use super::error;
use super::value::{self, Object};
use crate::limits::TRANSLATED_EVENT_BYTES;
use crate::wire::sse::{Ending, EventData, Splitter};

/// Why a stream cannot be translated further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    #[error("an event is not one of the backend's API, or too long")]
    Garbage,
    #[error("the stream ended before the answer did")]
    Truncated,
}

/// A stream on its way from one API to the other.
#[derive(Debug)]
pub struct Stream {
    splitter: Splitter,
    pending: Vec<u8>,
    writer: Writer,
    direction: Direction,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Its end was said, or an error in its place: what follows belongs to nothing.
    Ended,
}

#[derive(Debug)]
enum Writer {
    ToAnthropic(ToAnthropic),
    ToOpenAi(ToOpenAi),
}

impl Stream {
    /// The answer to a request that went in `direction`. `created` is in seconds since 1970.
    pub fn new(direction: Direction, created: u64) -> Stream {
        let writer = match direction {
            Direction::ToOpenAi | Direction::ToTokenizer => Writer::ToAnthropic(ToAnthropic::default()),
            Direction::ToAnthropic => Writer::ToOpenAi(ToOpenAi::new(created)),
        };
        Stream { splitter: Splitter::new(), pending: Vec::new(), writer, direction, state: State::Running }
    }

    /// Takes the backend's next bytes and appends the events that they make to `out`.
    pub fn take_in(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), StreamFault> {
        if self.state == State::Ended {
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        loop {
            let event = match self.splitter.next(&self.pending) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => return Err(StreamFault::Garbage),
            };
            if event.data == EventData::Absent {
                continue;
            }
            let data = self.splitter.data(&event, &self.pending).trim_ascii();
            let name = event.name.of(&self.pending);
            if data.is_empty() {
                continue;
            }
            let after = match value::object(data) {
                Ok(root) if name == b"error" || error::is_error(&root) => {
                    write_error(self.direction, root, out);
                    State::Ended
                }
                root => self.writer.event(data, root.ok(), out)?,
            };
            if after == State::Ended {
                self.state = after;
                self.pending = Vec::new();
                return Ok(());
            }
        }
        let released = self.splitter.release();
        self.pending.drain(..released);
        if self.pending.len() > TRANSLATED_EVENT_BYTES { Err(StreamFault::Garbage) } else { Ok(()) }
    }

    /// Whether its end was said: nothing that still comes belongs to the answer.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The backend's stream is over. Errors: its answer was not.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), StreamFault> {
        if self.state == State::Running && self.splitter.ending(&self.pending) == Ending::Incomplete {
            // Servers leave the last line ends out.
            self.take_in(b"\n\n", out)?;
        }
        match (self.state, &mut self.writer) {
            (State::Ended, _) => Ok(()),
            (State::Running, Writer::ToAnthropic(writer)) => writer.end_unsaid(out),
            (State::Running, Writer::ToOpenAi(_)) => Err(StreamFault::Truncated),
        }
    }
}

impl Writer {
    fn event(&mut self, data: &[u8], root: Option<Object>, out: &mut Vec<u8>) -> Result<State, StreamFault> {
        match self {
            Writer::ToAnthropic(writer) => writer.event(data, root, out),
            Writer::ToOpenAi(writer) => writer.event(root.ok_or(StreamFault::Garbage)?, out),
        }
    }
}

/// An error of the backend's, as the last event.
fn write_error(direction: Direction, root: Object, out: &mut Vec<u8>) {
    let error = error::of_object(direction, 200, root);
    if direction == Direction::ToOpenAi {
        out.extend_from_slice(b"event: error\n");
    }
    write_data(&error, out);
}

/// JSON has no line ends but escaped ones.
fn write_data(data: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&value::bytes(data));
    out.extend_from_slice(b"\n\n");
}
