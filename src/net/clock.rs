//! The clocks of the real world. Deadlines and ages are reckoned from when the tasks of a round began to run on a data
//! core, and elsewhere from the kernel's coarse clock, which ticks every few milliseconds; durations that are shown come
//! from the precise one.

use std::cell::Cell;
use std::sync::OnceLock;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::reactor::sleep_until_us;

static START_S: OnceLock<i64> = OnceLock::new();

thread_local! {
    /// When this thread's round began, on the clock of [`now_ms`]; 0 on a thread that has no rounds. A request asks for the
    /// time a score of times.
    static ROUND_MS: Cell<u64> = const { Cell::new(0) };
}

/// A round begins at `us` of [`now_us`].
pub(super) fn begin_round(us: u64) {
    ROUND_MS.set(us / 1000);
}

/// This thread has no more rounds.
pub(super) fn end_rounds() {
    ROUND_MS.set(0);
}

/// Seconds are counted from about the process's first reading, so that the numbers stay small.
fn since_start(now: Timespec) -> (u64, u64) {
    since(*START_S.get_or_init(|| start_of(now)), now)
}

/// A second before the reading: one of a coarse clock that follows may be of the second before.
fn start_of(first: Timespec) -> i64 {
    first.tv_sec - 1
}

fn since(start_s: i64, now: Timespec) -> (u64, u64) {
    ((now.tv_sec - start_s).max(0) as u64, now.tv_nsec as u64)
}

/// Microseconds since about the start of the process. The same clock on every core.
pub fn now_us() -> u64 {
    let (s, ns) = since_start(clock_gettime(ClockId::Monotonic));
    s * 1_000_000 + ns / 1000
}

/// Milliseconds on the same clock, some milliseconds late: for deadlines and ages.
pub fn now_ms() -> u64 {
    match ROUND_MS.try_with(Cell::get) {
        Ok(0) | Err(_) => coarse_ms(),
        Ok(ms) => ms,
    }
}

fn coarse_ms() -> u64 {
    let (s, ns) = since_start(clock_gettime(ClockId::MonotonicCoarse));
    s * 1000 + ns / 1_000_000
}

/// Milliseconds since 1970-01-01 UTC, some milliseconds late; may step when the host's clock is set.
pub fn unix_ms() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.max(0) as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sleeps for so long at least; other tasks run before this one goes on.
pub async fn sleep_us(us: u64) {
    sleep_until_us(now_us().saturating_add(us)).await;
}

/// Sleeps for so long at least.
pub async fn sleep_ms(ms: u64) {
    sleep_until_us(now_us().saturating_add(ms.saturating_mul(1000))).await;
}

#[cfg(test)]
mod tests {
    use super::{Timespec, since, start_of};

    #[test]
    fn a_coarse_reading_behind_the_first_one_is_no_eternity() {
        let precise = Timespec { tv_sec: 100, tv_nsec: 1 };
        let coarse = Timespec { tv_sec: 99, tv_nsec: 998_000_000 };
        let start_s = start_of(precise);
        assert_eq!(since(start_s, coarse), (0, 998_000_000));
        assert_eq!(since(start_s, precise), (1, 1));
    }
}
