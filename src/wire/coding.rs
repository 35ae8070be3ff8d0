//! Content codings (RFC 9110 8.4), taken off as the bytes arrive: for backends that compress although they are asked not
//! to, and clients that compress what they send. Sans-IO: the caller owns both buffers, the decompressor owns its window and nothing else.
//! It must never hold back what can be given, nor give more in one call than it was told, nor call a cut stream whole.

mod deflate;
mod gzip;

#[cfg(test)]
mod tests;

use crate::limits::{DECODED_FREE_BYTES, DECODED_RATIO, DECODED_STEP_BYTES, ZSTD_WINDOW_LOG};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The codings that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 1950; bare RFC 1951 is taken too, since some servers mean that by the name.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, any number of frames, windows up to 8 MiB (RFC 9659).
    Zstd,
}

/// A coding, or a row of codings, that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content coding that is not understood")]
pub struct UnknownCoding;

impl Coding {
    /// Those that are understood, as `Accept-Encoding` lists them (RFC 9110 12.5.3).
    pub const ACCEPTED: &str = "gzip, deflate, br, zstd";

    /// The name that is registered for it.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding a `Content-Encoding` value names; `None` if it names none, or only `identity`. Several fields have to
    /// be joined by commas first: two codings on top of each other are unknown, wherever they were written.
    pub fn of(content_encoding: &[u8]) -> Result<Option<Coding>, UnknownCoding> {
        let mut found = None;
        // RFC 9110 5.6.1.2: empty elements of a list are nothing.
        for name in content_encoding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // RFC 9110 8.4.1: names are case-insensitive, and x-gzip is gzip.
            let coding = match name.to_ascii_lowercase().as_slice() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"deflate" => Coding::Deflate,
                b"br" => Coding::Brotli,
                b"zstd" => Coding::Zstd,
                _ => return Err(UnknownCoding),
            };
            if found.replace(coding).is_some() {
                return Err(UnknownCoding);
            }
        }
        Ok(found)
    }
}

/// Why a coded stream is not taken. Every later call says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingFault {
    #[error("not the coding it is said to be")]
    Malformed,
    #[error("the checksum does not fit the content")]
    Checksum,
    #[error("bytes after the end of the coded stream")]
    TrailingBytes,
    #[error("the coded stream ended too early")]
    Truncated,
    #[error("more than {DECODED_RATIO} times as much content as was received")]
    Bomb,
}

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are not needed again.
    pub consumed: usize,
    pub output: Output,
}

/// Whether a call gave all it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// All input is consumed, and all content that follows from it was given.
    Given,
    /// The call stopped at its bound: call again with the rest of the input, even if nothing is left of it.
    Held,
}

/// Takes one coding off one body. Memory: the coding's window, 32 KiB (gzip, deflate), up to 16 MiB (brotli) or up to
/// 8 MiB (zstd) as the stream asks for it.
pub struct Decompressor {
    machine: Machine,
    /// Bytes consumed and given since the beginning.
    taken: u64,
    given: u64,
    output: Output,
    /// Most content for each byte received.
    ratio_max: u64,
    fault: Option<CodingFault>,
}

enum Machine {
    Gzip(gzip::Gzip),
    Deflate(deflate::Deflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
    /// The coding's library could not be set up.
    Broken,
}

/// What one step of a machine did. A machine that leaves input and room alone has nothing more to do.
struct Step {
    consumed: usize,
    produced: usize,
}

impl Decompressor {
    pub fn new(coding: Coding) -> Decompressor {
        let machine = match coding {
            Coding::Gzip => Machine::Gzip(gzip::Gzip::new()),
            Coding::Deflate => Machine::Deflate(deflate::Deflate::new()),
            Coding::Brotli => Machine::Brotli(Box::new(Brotli::new())),
            Coding::Zstd => Zstd::new().map_or(Machine::Broken, Machine::Zstd),
        };
        Decompressor { machine, taken: 0, given: 0, output: Output::Given, ratio_max: DECODED_RATIO, fault: None }
    }

    /// One whose caller bounds all content: however well it was compressed, it is no bomb.
    pub fn of_bounded(coding: Coding) -> Decompressor {
        Decompressor { ratio_max: u64::MAX, ..Decompressor::new(coding) }
    }

    /// Appends to `out` the content that follows from `input`, up to `most` bytes of it, at least 1. After a fault
    /// `out` holds what the steps before it gave, which may be less than could be read.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<Progress, CodingFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => self.steps(input, out, most).inspect_err(|fault| self.fault = Some(*fault)),
        }
    }

    fn steps(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<Progress, CodingFault> {
        let (mut consumed, mut left) = (0, most.max(1));
        // zstd takes an empty step for the beginning of a frame, and counts them.
        if input.is_empty() && self.output == Output::Given {
            return Ok(Progress { consumed, output: Output::Given });
        }
        while left > 0 {
            let (rest, before, room) = (&input[consumed..], out.len(), left.min(DECODED_STEP_BYTES));
            out.resize(before + room, 0);
            let step = self.machine.step(rest, &mut out[before..]);
            out.truncate(before + step.as_ref().map_or(0, |step| step.produced));
            let step = step?;
            consumed += step.consumed;
            left -= step.produced;
            self.taken += step.consumed as u64;
            self.given += step.produced as u64;
            if self.given > DECODED_FREE_BYTES && self.given / self.ratio_max > self.taken {
                return Err(CodingFault::Bomb);
            }
            if consumed == input.len() && step.produced < room {
                self.output = Output::Given;
                return Ok(Progress { consumed, output: Output::Given });
            }
            if step.consumed == 0 && step.produced == 0 {
                return Err(CodingFault::Malformed); // input that no machine wants would be offered for ever
            }
        }
        self.output = Output::Held;
        Ok(Progress { consumed, output: Output::Held })
    }

    /// What it means if the body ends here: `Ok` only if the coded stream has come to its end. A body without any byte
    /// is no coded stream, so answers that have no body must not be asked about.
    pub fn finish(&self) -> Result<(), CodingFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.output == Output::Given && self.machine.is_complete() => Ok(()),
            None => Err(CodingFault::Truncated),
        }
    }
}

impl Machine {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodingFault> {
        match self {
            Machine::Gzip(gzip) => gzip.step(input, out),
            Machine::Deflate(deflate) => deflate.step(input, out),
            Machine::Brotli(brotli) => brotli.step(input, out),
            Machine::Zstd(zstd) => zstd.step(input, out),
            Machine::Broken => Err(CodingFault::Malformed),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Machine::Gzip(gzip) => gzip.is_complete(),
            Machine::Deflate(deflate) => deflate.is_complete(),
            Machine::Brotli(brotli) => brotli.complete,
            Machine::Zstd(zstd) => zstd.complete,
            Machine::Broken => false,
        }
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    complete: bool,
}

impl Brotli {
    fn new() -> Brotli {
        let state = BrotliState::new(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
        Brotli { state, complete: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodingFault> {
        if self.complete {
            return if input.is_empty() {
                Ok(Step { consumed: 0, produced: 0 })
            } else {
                Err(CodingFault::TrailingBytes)
            };
        }
        let (mut available, mut consumed, mut room, mut produced, mut total) = (input.len(), 0, out.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut consumed,
            input,
            &mut room,
            &mut produced,
            out,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(CodingFault::Malformed),
            BrotliResult::ResultSuccess => self.complete = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Step { consumed, produced })
    }
}

struct Zstd {
    decoder: Decoder<'static>,
    /// At the end of a frame, with nothing of the next one seen.
    complete: bool,
}

impl Zstd {
    fn new() -> Option<Zstd> {
        let mut decoder = Decoder::new().ok()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
        Some(Zstd { decoder, complete: false })
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodingFault> {
        if input.is_empty() && self.complete {
            return Ok(Step { consumed: 0, produced: 0 });
        }
        let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(out));
        // Checksums and sizes are checked by the library. Another frame begins by itself (RFC 8878 3.1).
        match self.decoder.run(&mut source, &mut target) {
            Ok(hint) => {
                self.complete = hint == 0;
                Ok(Step { consumed: source.pos(), produced: target.pos() })
            }
            Err(_) if self.complete => Err(CodingFault::TrailingBytes),
            Err(_) => Err(CodingFault::Malformed),
        }
    }
}
