//! The gzip coding (RFC 1952): a sequence of members, each a header, deflated data, a checksum and a length. Owned by
//! one decompressor. It must never accept a member with a wrong checksum.

use super::deflate::run;
use super::{CodingFault, Step};
use crate::limits::GZIP_HEADER_BYTES;
use flate2::{Crc, Decompress, Status};

/// RFC 1952 2.3.1. The text flag has no effect; the upper three bits are reserved.
const HEADER_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

pub(super) struct Gzip {
    part: Part,
    inflate: Decompress,
    /// Of the header while reading it, then of the content.
    crc: Crc,
    flags: u8,
    header_bytes: usize,
    members: Members,
}

/// Whether a complete member was read: anything after it that is not a member is garbage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    None,
    Some,
}

/// The position in a member; numbers are bytes of the part read so far, or remaining.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Fixed { seen: u8 },
    ExtraLength { low: Option<u8> },
    Extra { left: u16 },
    Name,
    Comment,
    HeaderChecksum { expected: [u8; 2], seen: u8 },
    Data,
    Trailer { seen: u8, bytes: [u8; 8] },
}

const START: Part = Part::Fixed { seen: 0 };

impl Gzip {
    pub(super) fn new() -> Gzip {
        Gzip {
            part: START,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            flags: 0,
            header_bytes: 0,
            members: Members::None,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.part == START && self.members == Members::Some
    }

    /// Proceeds until content is produced or the input ends.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodingFault> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if self.part == Part::Data {
                let (step, status) = run(&mut self.inflate, rest, out)?;
                self.crc.update(&out[..step.produced]);
                consumed += step.consumed;
                if status == Status::StreamEnd {
                    self.part = Part::Trailer { seen: 0, bytes: [0; 8] };
                }
                // The data may end without producing a byte; the step must not look like a stall then.
                if step.produced > 0 || status != Status::StreamEnd {
                    return Ok(Step { consumed, produced: step.produced });
                }
                continue;
            }
            let Some(byte) = rest.first() else { return Ok(Step { consumed, produced: 0 }) };
            consumed += 1;
            match self.part {
                Part::Trailer { seen, bytes } => self.trailer(seen, bytes, *byte)?,
                _ => self.header(*byte)?,
            }
        }
    }

    fn header(&mut self, byte: u8) -> Result<(), CodingFault> {
        self.header_bytes += 1;
        if self.header_bytes > GZIP_HEADER_BYTES {
            return Err(CodingFault::Malformed);
        }
        if !matches!(self.part, Part::HeaderChecksum { .. }) {
            self.crc.update(&[byte]);
        }
        self.part = match self.part {
            Part::Fixed { seen } => {
                // RFC 1952 2.3: magic, then method 8. Time, flags of the compressor and system are ignored.
                match (seen, byte) {
                    (0, 0x1f) | (1, 0x8b) | (2, 8) | (4.., _) => {}
                    (3, flags) if flags & RESERVED == 0 => self.flags = flags,
                    (0, _) if self.members == Members::Some => return Err(CodingFault::TrailingBytes),
                    _ => return Err(CodingFault::Malformed),
                }
                if seen < 9 { Part::Fixed { seen: seen + 1 } } else { self.field(&[EXTRA, NAME, COMMENT]) }
            }
            Part::ExtraLength { low: None } => Part::ExtraLength { low: Some(byte) },
            Part::ExtraLength { low: Some(low) } => match u16::from_le_bytes([low, byte]) {
                0 => self.field(&[NAME, COMMENT]),
                left => Part::Extra { left },
            },
            Part::Extra { left: 1 } => self.field(&[NAME, COMMENT]),
            Part::Extra { left } => Part::Extra { left: left - 1 },
            Part::Name if byte == 0 => self.field(&[COMMENT]),
            Part::Comment if byte == 0 => self.field(&[]),
            Part::HeaderChecksum { expected: [first, second], seen } => match (seen, byte) {
                (0, byte) if byte == first => Part::HeaderChecksum { expected: [first, second], seen: 1 },
                (1, byte) if byte == second => self.data(),
                _ => return Err(CodingFault::Checksum),
            },
            part @ (Part::Name | Part::Comment | Part::Data | Part::Trailer { .. }) => part,
        };
        Ok(())
    }

    /// The first of these optional fields that the flags announce, otherwise the next mandatory part.
    fn field(&mut self, fields: &[u8]) -> Part {
        match fields.iter().find(|field| self.flags & **field != 0) {
            Some(&EXTRA) => Part::ExtraLength { low: None },
            Some(&NAME) => Part::Name,
            Some(_) => Part::Comment,
            // The lower half of the CRC of the header so far.
            None if self.flags & HEADER_CHECKSUM != 0 => {
                Part::HeaderChecksum { expected: (self.crc.sum() as u16).to_le_bytes(), seen: 0 }
            }
            None => self.data(),
        }
    }

    fn data(&mut self) -> Part {
        self.crc.reset();
        Part::Data
    }

    /// RFC 1952 2.3: CRC and length modulo 2^32 of the content.
    fn trailer(&mut self, seen: u8, mut bytes: [u8; 8], byte: u8) -> Result<(), CodingFault> {
        bytes[usize::from(seen)] = byte;
        if seen < 7 {
            self.part = Part::Trailer { seen: seen + 1, bytes };
            return Ok(());
        }
        let expected = u64::from(self.crc.amount()) << 32 | u64::from(self.crc.sum());
        if u64::from_le_bytes(bytes) != expected {
            return Err(CodingFault::Checksum);
        }
        self.members = Members::Some;
        self.part = START;
        self.flags = 0;
        self.header_bytes = 0;
        self.crc.reset();
        self.inflate.reset(false);
        Ok(())
    }
}
