//! Streaming decoders of content codings (RFC 9110 8.4): for backends that compress unasked, and clients that compress
//! requests. Sans-IO: the caller owns both buffers, the decompressor only its window. It must never withhold available
//! content, exceed the bound of a call, or report a truncated stream as complete.

mod deflate;
mod gzip;

#[cfg(test)]
mod tests;

use crate::limits::{DECODED_FREE_BYTES, DECODED_RATIO, DECODED_STEP_BYTES, ZSTD_WINDOW_LOG};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The supported codings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 1950; raw RFC 1951 is accepted too, since some servers send it under this name.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, any number of frames, windows up to 8 MiB (RFC 9659).
    Zstd,
}

/// An unsupported coding, or several codings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an unsupported content coding")]
pub struct UnknownCoding;

impl Coding {
    /// The supported codings for `Accept-Encoding` (RFC 9110 12.5.3).
    pub const ACCEPTED: &str = "gzip, deflate, br, zstd";

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding that a `Content-Encoding` value names; `None` for none or `identity`. Join several fields by commas
    /// first: stacked codings are unsupported, in one field or several.
    pub fn of(content_encoding: &[u8]) -> Result<Option<Coding>, UnknownCoding> {
        let mut found = None;
        // RFC 9110 5.6.1.2: empty list elements are ignored.
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

/// Why a coded stream was refused. Every later call returns the same fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingFault {
    #[error("malformed data")]
    Malformed,
    #[error("the checksum does not match the content")]
    Checksum,
    #[error("bytes after the end of the coded stream")]
    TrailingBytes,
    #[error("the coded stream ended too early")]
    Truncated,
    #[error("more than {DECODED_RATIO} times as much content as was received")]
    Bomb,
}

/// The result of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that were consumed.
    pub consumed: usize,
    pub output: Output,
}

/// Whether a call returned all available content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// All input is consumed, and all content from it was returned.
    Given,
    /// The call stopped at its bound: call again with the rest of the input, even if it is empty.
    Held,
}

/// Decodes one coding of one body. Memory: the window of the coding; 32 KiB (gzip, deflate), up to 16 MiB (brotli) or
/// up to 8 MiB (zstd), as the stream requires.
pub struct Decompressor {
    machine: Machine,
    /// Bytes consumed and returned so far.
    taken: u64,
    given: u64,
    output: Output,
    /// Maximum ratio of content to received bytes.
    ratio_max: u64,
    fault: Option<CodingFault>,
}

enum Machine {
    Gzip(gzip::Gzip),
    Deflate(deflate::Deflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
    /// The library failed to initialize.
    Broken,
}

/// The result of one step of a decoder. Without progress in either, it has nothing more to do.
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

    /// For callers that bound the total content: no limit on the compression ratio.
    pub fn of_bounded(coding: Coding) -> Decompressor {
        Decompressor { ratio_max: u64::MAX, ..Decompressor::new(coding) }
    }

    /// Appends the content of `input` to `out`, up to `most` bytes, at least 1. After a fault `out` holds the content
    /// of the earlier steps, which may be less than was decodable.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<Progress, CodingFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => self.steps(input, out, most).inspect_err(|fault| self.fault = Some(*fault)),
        }
    }

    fn steps(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<Progress, CodingFault> {
        let (mut consumed, mut left) = (0, most.max(1));
        // zstd would take an empty step for the start of a frame.
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
                return Err(CodingFault::Malformed); // no progress on input: avoids an endless loop
            }
        }
        self.output = Output::Held;
        Ok(Progress { consumed, output: Output::Held })
    }

    /// The result if the body ends here: `Ok` only if the coded stream has ended. An empty body is not a coded stream;
    /// do not call this for responses without a body.
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
    /// At the end of a frame, with no byte of the next one read.
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
        // The library verifies checksums and sizes. Further frames start automatically (RFC 8878 3.1).
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
