//! The clocks of the real world. On a data core, deadlines and ages use the time at which the current round of tasks
//! began; elsewhere they use the kernel's coarse clock, which ticks every few milliseconds. Reported durations use the
//! precise clock.

use std::cell::Cell;
use std::sync::OnceLock;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::reactor::sleep_until_us;

static START_S: OnceLock<i64> = OnceLock::new();

thread_local! {
    /// When this thread's round began, on the clock of [`now_ms`]; 0 on a thread without rounds. Cached because one
    /// request reads the time some twenty times.
    static ROUND_MS: Cell<u64> = const { Cell::new(0) };
    /// The time of day in that round, once it was asked for; 0 before.
    static ROUND_UNIX_MS: Cell<u64> = const { Cell::new(0) };
}

/// Starts a round at `us` of [`now_us`].
pub(super) fn begin_round(us: u64) {
    ROUND_MS.set(us / 1000);
    ROUND_UNIX_MS.set(0);
}

/// Ends the rounds of this thread; `now_ms` reads the clock again.
pub(super) fn end_rounds() {
    ROUND_MS.set(0);
}

/// Where the numbers of this process's clock begin, in seconds of the kernel's monotonic clock, which all processes share.
pub fn clock_start_s() -> i64 {
    *START_S.get_or_init(|| start_of(clock_gettime(ClockId::Monotonic)))
}

/// Counts seconds from about the first reading in this process, so that the numbers stay small.
fn since_start(now: Timespec) -> (u64, u64) {
    since(*START_S.get_or_init(|| start_of(now)), now)
}

/// One second before the reading: a later reading of the coarse clock may still fall into the previous second.
fn start_of(first: Timespec) -> i64 {
    first.tv_sec - 1
}

fn since(start_s: i64, now: Timespec) -> (u64, u64) {
    ((now.tv_sec - start_s).max(0) as u64, now.tv_nsec as u64)
}

/// Microseconds since about the start of the process; the same clock on every core.
pub fn now_us() -> u64 {
    let (s, ns) = since_start(clock_gettime(ClockId::Monotonic));
    s * 1_000_000 + ns / 1000
}

/// Milliseconds on the same clock, up to a few milliseconds late: for deadlines and ages.
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

/// Milliseconds since 1970-01-01 UTC, up to a few milliseconds late; jumps when the host's clock is set, between two rounds.
pub fn unix_ms() -> u64 {
    if !matches!(ROUND_MS.try_with(Cell::get), Ok(1..)) {
        return coarse_unix_ms();
    }
    if ROUND_UNIX_MS.get() == 0 {
        ROUND_UNIX_MS.set(coarse_unix_ms());
    }
    ROUND_UNIX_MS.get()
}

fn coarse_unix_ms() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.max(0) as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Microseconds since 1970-01-01 UTC, precisely: for what is compared with other hosts' clocks.
pub fn unix_us() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.max(0) as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Sleeps for at least `us`; other tasks run before this one continues.
pub async fn sleep_us(us: u64) {
    sleep_until_us(now_us().saturating_add(us)).await;
}

/// Sleeps for at least `ms`.
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
