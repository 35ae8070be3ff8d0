//! The chunked coding (RFC 9112 7.1): framing byte by byte, chunk data in slices. State: the position in the grammar;
//! no bytes are kept. Never accepts a bare LF, or a sign, space or overflow in a size: parsers disagree about them.

use super::{Body, BodyFault, Step};
use crate::limits;
use crate::wire::http1::{is_token, is_value};

/// Most hexadecimal digits of a chunk size: those of 64 bits.
const SIZE_DIGITS: u8 = 16;

/// The position of the next byte in the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// The state of a partly read chunked body.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    digits: u8,
    /// The size being read; then the remaining bytes of the chunk.
    left: u64,
    line_bytes: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Chunked {
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Step, BodyFault> {
        let mut at = 0;
        while at < input.len() {
            if self.place == Place::Data {
                let taken = (input.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                return Ok(self.data_step(input, at, at + taken));
            }
            let byte = input[at];
            at += 1;
            if self.place == Place::EndLf {
                return match byte {
                    b'\n' => Ok(Step { consumed: at, data: at..at, state: Body::Done }),
                    _ => Err(BodyFault::LineEnd),
                };
            }
            self.place = self.next_place(byte)?;
        }
        Ok(Step { consumed: at, data: at..at, state: Body::More })
    }

    /// Also consumes the CR LF after a chunk if present, so that a contiguous chunk is one step.
    fn data_step(&mut self, input: &[u8], start: usize, end: usize) -> Step {
        let mut consumed = end;
        if self.place == Place::DataCr && input[end..].starts_with(b"\r\n") {
            consumed += 2;
            self.place = Place::Size;
        }
        Step { consumed, data: start..end, state: Body::More }
    }

    fn next_place(&mut self, byte: u8) -> Result<Place, BodyFault> {
        match self.place {
            Place::Size => self.size(byte),
            Place::Extension => self.extension(byte),
            Place::SizeLf => match (byte, self.left) {
                (b'\n', 0) => Ok(self.line_start(Place::Trailer)),
                (b'\n', _) => Ok(self.line_start(Place::Data)),
                _ => Err(BodyFault::LineEnd),
            },
            Place::DataCr if byte == b'\r' => Ok(Place::DataLf),
            Place::DataLf if byte == b'\n' => Ok(Place::Size),
            Place::DataCr | Place::DataLf => Err(BodyFault::ChunkEnd),
            Place::Trailer | Place::TrailerName | Place::TrailerValue | Place::TrailerLf => self.trailer(byte),
            // `decode` handles these two before.
            Place::Data | Place::EndLf => Err(BodyFault::LineEnd),
        }
    }

    fn line_start(&mut self, place: Place) -> Place {
        self.line_bytes = 0;
        self.digits = 0;
        place
    }

    /// `chunk-size = 1*HEXDIG`. RFC 9112 7.1.1 merely tolerates white space before an extension ("bad" whitespace); it
    /// is refused.
    fn size(&mut self, byte: u8) -> Result<Place, BodyFault> {
        self.line_bytes += 1;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(Place::SizeLf),
            b';' if self.digits > 0 => return Ok(Place::Extension),
            b'\n' if self.digits > 0 => return Err(BodyFault::LineEnd),
            _ => return Err(BodyFault::ChunkSize),
        };
        if self.digits == SIZE_DIGITS {
            return Err(BodyFault::ChunkSize);
        }
        let base = if self.digits == 0 { 0 } else { self.left };
        self.digits += 1;
        self.left = base.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit))).unwrap_or(u64::MAX);
        // Some parsers use signed numbers: a size that would be negative for them is refused.
        if self.left > i64::MAX as u64 { Err(BodyFault::ChunkSize) } else { Ok(Place::Size) }
    }

    /// RFC 9112 7.1.1: unrecognized extensions are ignored, but their total size is bounded.
    fn extension(&mut self, byte: u8) -> Result<Place, BodyFault> {
        self.line_bytes += 1;
        self.extension_bytes += 1;
        match byte {
            b'\r' => Ok(Place::SizeLf),
            b'\n' => Err(BodyFault::LineEnd),
            _ if !is_value(byte) => Err(BodyFault::Extension),
            _ if self.line_bytes > limits::CHUNK_LINE_BYTES
                || self.extension_bytes > limits::CHUNK_EXTENSIONS_BYTES =>
            {
                Err(BodyFault::ExtensionTooLong)
            }
            _ => Ok(Place::Extension),
        }
    }

    /// RFC 9112 7.1.2: trailer fields are parsed and discarded, since the head has already been acted on.
    fn trailer(&mut self, byte: u8) -> Result<Place, BodyFault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > limits::TRAILER_BYTES {
            return Err(BodyFault::TrailerTooLong);
        }
        match self.place {
            Place::Trailer if byte == b'\r' => Ok(Place::EndLf),
            Place::Trailer | Place::TrailerName if is_token(byte) => Ok(Place::TrailerName),
            Place::TrailerName if byte == b':' => Ok(Place::TrailerValue),
            Place::TrailerValue if byte == b'\r' => Ok(Place::TrailerLf),
            Place::TrailerValue if is_value(byte) => Ok(Place::TrailerValue),
            Place::TrailerLf if byte == b'\n' => Ok(Place::Trailer),
            Place::TrailerLf => Err(BodyFault::LineEnd),
            _ if byte == b'\n' => Err(BodyFault::LineEnd),
            _ => Err(BodyFault::Trailer),
        }
    }
}
