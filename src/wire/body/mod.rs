//! Extracts a message's content from its framing: by length, chunked or until close. State: one `Decoder` per message,
//! owned by the caller; content stays in the caller's buffer. Never reports a truncated body as complete, nor consumes
//! bytes of the next message.

mod chunked;

use std::ops::Range;

use thiserror::Error;

use super::http1::Framing;
use crate::limits;
use chunked::Chunked;

#[cfg(test)]
mod tests;

/// Whether the body has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    More,
    Done,
}

/// The result of one call of `decode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes consumed from the start of the input; the next call starts after them. Zero only if the input is empty or
    /// the body had already ended.
    pub consumed: usize,
    /// The content among them, as a range of the input; may be empty.
    pub data: Range<usize>,
    pub state: Body,
}

/// Why a body was refused. The connection must close; a request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyFault {
    #[error("A chunk size is not one to sixteen hexadecimal digits.")]
    ChunkSize,
    #[error("Chunk extensions are longer than {} bytes in a line or {} KiB in all.",
        limits::CHUNK_LINE_BYTES, limits::CHUNK_EXTENSIONS_BYTES >> 10)]
    ExtensionTooLong,
    #[error("A chunk extension holds a control character.")]
    Extension,
    #[error("A line of the chunked body does not end in CR LF.")]
    LineEnd,
    #[error("A chunk is longer than its size says.")]
    ChunkEnd,
    #[error("A trailer field is malformed.")]
    Trailer,
    #[error("The trailer section is larger than {} KiB.", limits::TRAILER_BYTES >> 10)]
    TrailerTooLong,
    #[error("The connection ended before the body did.")]
    Truncated,
}

/// Decodes one body. After a fault every further call returns the same fault.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Counted { left: u64 },
    Chunked(Chunked),
    UntilClose,
    Done,
    Failed(BodyFault),
}

impl Decoder {
    /// A decoder at the first byte after the head. `Empty` and `Length(0)` are done at once.
    pub fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Counted { left: length },
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { state }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Decodes the next bytes of the body. One call returns at most one range of content, so the caller loops: while
    /// the state is `More` and input is left, drop `consumed` bytes and call again. Input may be split anywhere;
    /// consumed bytes need not be kept.
    ///
    /// `UntilClose` never becomes `Done` here: it ends by `eof`.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, BodyFault> {
        match &mut self.state {
            State::Done => Ok(Step { consumed: 0, data: 0..0, state: Body::Done }),
            State::Failed(fault) => Err(*fault),
            State::UntilClose => Ok(Step { consumed: input.len(), data: 0..input.len(), state: Body::More }),
            State::Counted { left } => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                let state = if *left == 0 { Body::Done } else { Body::More };
                Ok(self.step(Step { consumed: taken, data: 0..taken, state }))
            }
            State::Chunked(chunked) => match chunked.decode(input) {
                Ok(step) => Ok(self.step(step)),
                Err(fault) => {
                    self.state = State::Failed(fault);
                    Err(fault)
                }
            },
        }
    }

    /// The peer has closed the connection. This ends a body without a length (RFC 9112 6.3, rule 8); any other
    /// unfinished body is truncated (RFC 9112 8).
    pub fn eof(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(fault) => Err(fault),
            State::Counted { .. } | State::Chunked(_) => {
                self.state = State::Failed(BodyFault::Truncated);
                Err(BodyFault::Truncated)
            }
        }
    }

    fn step(&mut self, step: Step) -> Step {
        if step.state == Body::Done {
            self.state = State::Done;
        }
        step
    }
}
