//! The deflate coding: RFC 1951 data in the RFC 1950 frame, or raw, as some servers send it. Owned by one decompressor.
//! It must never change its guess once data was returned.

use super::{CodingFault, Step};
use flate2::{Decompress, FlushDecompress, Status};

pub(super) struct Deflate {
    /// The first byte, until the second one shows which form it is.
    first: Option<u8>,
    inflate: Option<Decompress>,
    complete: bool,
}

impl Deflate {
    pub(super) fn new() -> Deflate {
        Deflate { first: None, inflate: None, complete: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodingFault> {
        if self.complete {
            return if input.is_empty() {
                Ok(Step { consumed: 0, produced: 0 })
            } else {
                Err(CodingFault::TrailingBytes)
            };
        }
        if let Some(inflate) = &mut self.inflate {
            let (step, status) = run(inflate, input, out)?;
            self.complete = status == Status::StreamEnd;
            return Ok(step);
        }
        let (first, second) = match (self.first, input) {
            (Some(first), [second, ..]) => (first, second),
            (None, [first, second, ..]) => (*first, second),
            (first, _) => {
                self.first = first.or(input.first().copied());
                return Ok(Step { consumed: input.len(), produced: 0 });
            }
        };
        let mut inflate = Decompress::new(is_frame(first, *second));
        if self.first.is_some() {
            // A single byte yields no content.
            run(&mut inflate, &[first], &mut [0])?;
        }
        let (step, status) = run(&mut inflate, input, out)?;
        self.complete = status == Status::StreamEnd;
        self.inflate = Some(inflate);
        Ok(step)
    }
}

/// RFC 1950 2.2: method 8, window up to 32 KiB, check bits valid, no dictionary (HTTP cannot agree on one). Raw data
/// never begins like this: it would be a stored block with padding bits set, which no encoder writes.
fn is_frame(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(first) << 8 | u16::from(second)) % 31 == 0 && second & 0x20 == 0
}

/// Inflates as far as input and room permit.
pub(super) fn run(inflate: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<(Step, Status), CodingFault> {
    let (taken, given) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, out, FlushDecompress::None).map_err(|_| CodingFault::Malformed)?;
    // Both are deltas of one call, so they fit the slices' lengths.
    let consumed = (inflate.total_in() - taken) as usize;
    let produced = (inflate.total_out() - given) as usize;
    Ok((Step { consumed, produced }, status))
}
