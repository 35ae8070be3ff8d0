//! What is done to the bytes of a backend's answer before anybody looks at them: a compression that was not asked for is undone,
//! and what is said in another API than the client's is translated. Owns what has not come whole.

use shards::Fault;

use crate::dialect::translate::{Direction, Stream, StreamFault};
use crate::limits::{DECODED_STEP_BYTES, TRANSLATED_ANSWER_BYTES};
use crate::wire::coding::{Coding, Decompressor, Output};

/// Both steps, in their order; one of them is there.
pub struct Unwrapping {
    unpacking: Option<Unpacking>,
    translating: Option<Translating>,
    /// The stream ended without a word of it, in a form that says so by its last event.
    pub ended_unsaid: bool,
}

impl Unwrapping {
    /// `None` if nothing is to be done.
    pub fn of(coding: Option<Coding>, translating: Option<Translating>) -> Option<Box<Unwrapping>> {
        if coding.is_none() && translating.is_none() {
            return None;
        }
        let unpacking = coding.map(Unpacking::new);
        Some(Box::new(Unwrapping { unpacking, translating, ended_unsaid: false }))
    }

    /// Whether something may still come out when nothing more goes in.
    pub fn holds_back(&self) -> bool {
        self.translating.is_some()
    }

    /// Hands what comes out of `data` to `take`.
    pub fn take_in(&mut self, data: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Fault> {
        match (&mut self.unpacking, &mut self.translating) {
            (Some(unpacking), None) => unpacking.unpack(data, take),
            (None, Some(translating)) => translating.take_in(data, take),
            (Some(unpacking), Some(translating)) => {
                let mut translated = Ok(());
                unpacking.unpack(data, &mut |plain| {
                    if translated.is_ok() {
                        translated = translating.take_in(plain, take);
                    }
                })?;
                translated
            }
            (None, None) => {
                take(data);
                Ok(())
            }
        }
    }

    /// The body is over. Errors: what was packed in it, or the answer that it is, is not.
    pub fn end(&mut self, take: &mut impl FnMut(&[u8])) -> Result<(), Fault> {
        if self.unpacking.as_ref().is_some_and(|unpacking| !unpacking.is_complete()) {
            return Err(Fault::Truncated);
        }
        if let Some(translating) = self.translating.take() {
            self.ended_unsaid = translating.end(take)?;
        }
        Ok(())
    }
}

/// An answer on its way into the client's API.
pub enum Translating {
    /// Held until it is whole.
    Whole {
        direction: Direction,
        status: u16,
        created: u64,
        body: Vec<u8>,
    },
    Stream(Box<Stream>),
}

impl Translating {
    fn take_in(&mut self, data: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Fault> {
        match self {
            Translating::Whole { body, .. } if body.len() + data.len() > TRANSLATED_ANSWER_BYTES => Err(Fault::Garbage),
            Translating::Whole { body, .. } => {
                body.extend_from_slice(data);
                Ok(())
            }
            Translating::Stream(stream) => {
                let mut events = Vec::new();
                stream.take_in(data, &mut events).map_err(fault)?;
                take(&events);
                Ok(())
            }
        }
    }

    /// Whether it is a stream that ended without a word of it.
    fn end(self, take: &mut impl FnMut(&[u8])) -> Result<bool, Fault> {
        match self {
            Translating::Whole { direction, status: status @ 200..300, created, body } => {
                match direction.answer(&body, created) {
                    Some(answer) => take(&answer),
                    // What it is, or that it is none, is found as if it was the client's API.
                    None if status != 200 || body.trim_ascii().is_empty() => take(&body),
                    None => return Err(cut_or_garbage(&body)),
                }
                Ok(false)
            }
            Translating::Whole { direction, status, body, .. } => {
                take(&direction.error(status, &body));
                Ok(false)
            }
            Translating::Stream(mut stream) => {
                let mut events = Vec::new();
                let was_running = !stream.has_ended();
                stream.end(&mut events).map_err(fault)?;
                take(&events);
                Ok(was_running)
            }
        }
    }
}

fn cut_or_garbage(body: &[u8]) -> Fault {
    match body.trim_ascii() {
        [b'{', .., b'}'] => Fault::Garbage,
        [b'{', ..] => Fault::Truncated,
        _ => Fault::Garbage,
    }
}

fn fault(fault: StreamFault) -> Fault {
    match fault {
        StreamFault::Garbage => Fault::Garbage,
        StreamFault::Truncated => Fault::Truncated,
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
