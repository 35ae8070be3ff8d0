//! How fast a backend has been lately. Owned by one core, one a backend; holds no clock.
//! A slow answer counts at once, fast ones win it back slowly, and what is long ago counts for less.

use crate::Millis;

/// A latency in microseconds that decays.
#[derive(Clone, Debug)]
pub struct Latency {
    half_life_ms: u64,
    us: u64,
    at: Millis,
}

/// A fast answer pulls the estimate down by 1 / this of the difference.
const PULL: u64 = 8;

impl Latency {
    /// Nothing known: as cheap as can be, so that a new backend is tried.
    pub const fn new(half_life_ms: u64) -> Self {
        Self { half_life_ms, us: 0, at: Millis(0) }
    }

    /// An answer took so long.
    pub fn note(&mut self, us: u64, now: Millis) {
        let known = self.decayed(now);
        self.us = if us >= known { us } else { known - (known - us).div_ceil(PULL) };
        self.at = now;
    }

    /// What one more request would have to wait behind `in_flight` others, in no unit but comparable.
    pub fn cost(&self, in_flight: u32, now: Millis) -> u64 {
        (self.decayed(now) + 1).saturating_mul(u64::from(in_flight) + 1)
    }

    /// Halved each half-life, and straight in between.
    fn decayed(&self, now: Millis) -> u64 {
        let passed = now.since(self.at);
        let half_life_ms = self.half_life_ms.max(1);
        let halves = passed / half_life_ms;
        if halves >= 63 {
            return 0;
        }
        let us = self.us >> halves;
        us - (u128::from(us) * u128::from(passed % half_life_ms) / u128::from(2 * half_life_ms)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_counts_at_once_and_fast_slowly() {
        let mut latency = Latency::new(1_000);
        assert_eq!(latency.cost(0, Millis(0)), 1, "unknown is cheap");
        latency.note(8_000, Millis(0));
        latency.note(0, Millis(0));
        assert_eq!(latency.cost(0, Millis(0)), 7_001);
        latency.note(9_000, Millis(0));
        assert_eq!((latency.cost(0, Millis(0)), latency.cost(3, Millis(0))), (9_001, 36_004));
    }

    #[test]
    fn what_is_long_ago_counts_for_less() {
        let mut latency = Latency::new(1_000);
        latency.note(8_000, Millis(5_000));
        let costs = [5_000, 5_500, 6_000, 7_000, 5_000_000].map(|at| latency.cost(0, Millis(at)));
        assert_eq!(costs, [8_001, 6_001, 4_001, 2_001, 1]);
    }
}
