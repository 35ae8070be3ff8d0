//! Bytes to values and back. No I/O, no clock, no panic on any input; every decoder has a fuzz target. Values are spans
//! into the caller's buffer, so that parsing copies and allocates nothing.
pub mod blocks; // files of the cache
pub mod body;
pub mod cluster; // where a cluster of Redis servers says that keys are
pub mod coding;
pub mod format; // MessagePack and Protocol Buffers
pub mod forwarded; // the client's address, as proxies tell it
pub mod hex; // digits of ids
pub mod http1;
pub mod json;
pub(crate) mod known;
pub mod multipart;
pub mod percent;
pub mod proxy; // the PROXY protocol's header
pub mod resp; // the protocol of Redis
pub mod retry_after;
pub mod sse;
pub mod trace_context; // W3C's traceparent
pub mod websocket; // where frames end

/// A range of bytes in a buffer that the caller holds. Offsets are 32 bits: no message reaches 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The span `start..end`; both must be within the bounds of `limits`, which stay far below 4 GiB.
    pub fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes in `buffer`; empty if the span is out of range.
    pub fn of<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    /// The span shifted by `by` (wrapping: 2^32 - n shifts back by n).
    pub fn moved(self, by: u32) -> Span {
        Span { start: self.start.wrapping_add(by), end: self.end.wrapping_add(by) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
