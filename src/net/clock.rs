//! The clocks of the real world. Deadlines, ages and dates come from the kernel's coarse clocks, which tick every few
//! milliseconds and cost a few nanoseconds to read; durations that are shown come from the precise one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use monoio::time::{Instant, sleep_until};
use rustix::time::{ClockId, Timespec, clock_gettime};

static START_S: OnceLock<i64> = OnceLock::new();

/// Seconds are counted from the process's first reading, so that the numbers stay small.
fn since_start(now: Timespec) -> (u64, u64) {
    let start = *START_S.get_or_init(|| now.tv_sec);
    (now.tv_sec.saturating_sub(start) as u64, now.tv_nsec as u64)
}

/// Microseconds since about the start of the process. The same clock on every core.
pub fn now_us() -> u64 {
    let (s, ns) = since_start(clock_gettime(ClockId::Monotonic));
    s * 1_000_000 + ns / 1000
}

/// Milliseconds on the same clock, some milliseconds late: for deadlines and ages.
pub fn now_ms() -> u64 {
    let (s, ns) = since_start(clock_gettime(ClockId::MonotonicCoarse));
    s * 1000 + ns / 1_000_000
}

/// Milliseconds since 1970-01-01 UTC, some milliseconds late; may step when the host's clock is set.
pub fn unix_ms() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.max(0) as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sleeps on the core's own timer wheel.
pub async fn sleep_ms(ms: u64) {
    let until = Instant::now() + Duration::from_millis(ms);
    let mut sleep = pin!(sleep_until(until));
    let mut sleeper: Option<Waker> = None;
    poll_fn(|context| {
        // The runtime's timer wakes for ever whoever polled it first; what waits may have gone over to another task.
        if sleeper.as_ref().is_some_and(|sleeper| !sleeper.will_wake(context.waker())) {
            sleep.set(sleep_until(until));
            sleeper = None;
        }
        let state = sleep.as_mut().poll(context);
        if state.is_pending() && sleeper.is_none() {
            sleeper = Some(context.waker().clone());
        }
        state
    })
    .await;
}
