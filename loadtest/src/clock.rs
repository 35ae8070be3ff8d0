//! The tool's time. Durations use the monotonic clock; timestamps that cross processes use the wall clock, and are
//! compared on one machine only.
#![allow(clippy::disallowed_methods, reason = "a measuring tool's subject is the real clock")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970.
pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Nanoseconds since 1970, to distinguish runs.
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
