//! The clock of the real world: monotonic since the first reading, and Unix time for dates.
#![allow(clippy::disallowed_methods)] // the one place where they are meant to be

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the process first asked. The same on every core.
pub fn now_us() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Milliseconds since 1970-01-01 UTC; may step when the host's clock is set.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Sleeps on the core's own timer wheel.
pub async fn sleep_ms(ms: u64) {
    monoio::time::sleep(Duration::from_millis(ms)).await;
}
