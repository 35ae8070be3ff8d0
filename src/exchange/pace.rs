//! How slowly a client may move bytes: no pause longer than a time-out, and on average no slower than a rate. Pure: the
//! caller says how long it waited and what moved. Without the rate, a byte now and then would hold a connection for ever.

/// The pace of one body or of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pause_ms: u64,
    bytes_per_second: u64,
    waited_ms: u64,
    moved_bytes: u64,
}

impl Pace {
    /// `pause_ms` is the longest single pause, and what the whole may take beyond its bytes at `bytes_per_second`.
    pub fn new(pause_ms: u64, bytes_per_second: u64) -> Pace {
        Pace { pause_ms, bytes_per_second: bytes_per_second.max(1), waited_ms: 0, moved_bytes: 0 }
    }

    /// Nothing has been waited for yet.
    pub fn restart(&mut self) {
        (self.waited_ms, self.moved_bytes) = (0, 0);
    }

    /// Somebody waited for the client for `ms`, and it moved `bytes`.
    pub fn note(&mut self, ms: u64, bytes: usize) {
        self.waited_ms = self.waited_ms.saturating_add(ms);
        self.moved_bytes = self.moved_bytes.saturating_add(bytes as u64);
    }

    /// How long a wait for the next bytes may take; 0 means that the client is too slow.
    pub fn pause_left_ms(&self) -> u64 {
        self.pause_ms.min(self.total_left_ms(0))
    }

    /// How long moving `bytes` may take in all.
    pub fn total_left_ms(&self, bytes: usize) -> u64 {
        let owed = self.moved_bytes.saturating_add(bytes as u64).saturating_mul(1000) / self.bytes_per_second;
        self.pause_ms.saturating_add(owed).saturating_sub(self.waited_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drips_end_and_a_steady_pace_does_not() {
        let lasts = |step_bytes: usize, step_ms: u64| {
            let mut pace = Pace::new(30_000, 1000);
            let mut steps = 0;
            while steps < 10_000 && pace.pause_left_ms() >= step_ms {
                pace.note(step_ms, step_bytes);
                steps += 1;
            }
            steps
        };
        assert_eq!(lasts(1, 1000), 30, "a byte a second");
        assert_eq!(lasts(999, 1000), 10_000, "a thousandth too slow: the grace lasts for 30,000 s");
        assert_eq!(lasts(1000, 1000), 10_000);
        assert_eq!(lasts(1 << 20, 30_001), 0, "no pause is longer than the time-out, whatever came before");
    }

    #[test]
    fn what_came_fast_is_no_credit_for_one_long_pause() {
        let mut pace = Pace::new(2000, 1000);
        pace.note(10, 10 << 20);
        assert_eq!(pace.pause_left_ms(), 2000);
        assert_eq!(pace.total_left_ms(500), 2000 + ((10 << 20) + 500) - 10);
        pace.restart();
        pace.note(1500, 0);
        assert_eq!((pace.pause_left_ms(), pace.total_left_ms(1000)), (500, 1500));
        pace.note(u64::MAX, usize::MAX);
        assert_eq!(pace.pause_left_ms(), 0, "no overflow");
    }
}
