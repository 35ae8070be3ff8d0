//! A backend's recent latency. Owned by one core, one per backend; holds no clock. A slow answer counts at once, a
//! failure more than any answer; fast answers lower the estimate gradually, and old samples decay.

use crate::Millis;

/// A latency in microseconds that decays.
#[derive(Clone, Debug)]
pub struct Latency {
    half_life_ms: u64,
    /// As of `at`; `None` before the first sample.
    us: Option<u64>,
    at: Millis,
}

/// A fast answer lowers the estimate by 1/8 of the difference.
const PULL: u64 = 8;
/// Assumed latency of an unknown backend while its first request is in flight: slow, or all requests would go there
/// until the first answer arrives.
const UNKNOWN_US: u64 = 10_000_000;
/// A failure counts as this many times the last estimate.
const FAILED_TIMES: u64 = 4;
/// While requests are in flight, at most 1/4 of the estimate decays, for the same reason.
const FORGOTTEN_MOST: u64 = 4;

impl Latency {
    /// Unknown: as cheap as possible, so that a new backend is tried, by one request at first.
    pub const fn new(half_life_ms: u64) -> Self {
        Self { half_life_ms, us: None, at: Millis(0) }
    }

    /// Records an answer that took `us`.
    pub fn note(&mut self, us: u64, now: Millis) {
        let known = self.decayed(now);
        self.us = Some(if us >= known { us } else { known - (known - us).div_ceil(PULL) });
        self.at = now;
    }

    /// Records a request that failed after `us` by the backend's fault.
    ///
    /// Without this, a backend that fails at once would look idle and fast and attract traffic. Common alternatives
    /// count a failure as the time-out, as a constant, or by a success rate beside the latency. A time-out for
    /// reasoning models is minutes, so that one failure would exclude a backend for longer than a breaker does; a
    /// constant is negligible for a slow model and large for a fast one; a rate is a second value that decays. So a
    /// failure counts as a multiple of the estimate before decay, and at least as its duration: while the others are
    /// idle, one failure costs a backend its share for two half-lives, each consecutive one for two more, up to the
    /// cost of an unknown backend. Successes lower it again as after any slow answer.
    pub fn note_failure(&mut self, us: u64, now: Millis) {
        let counted = match self.us {
            None => UNKNOWN_US,
            Some(known) => known.saturating_add(1).saturating_mul(FAILED_TIMES).min(UNKNOWN_US).max(known),
        };
        self.us = Some(counted.max(us));
        self.at = now;
    }

    /// The expected cost of one more request behind `in_flight` others; unitless, for comparison.
    ///
    /// A backend without requests for long looks fast, so that it is tried again; once a request is in flight to it,
    /// its undecayed estimate counts, or `UNKNOWN_US`, until the answer arrives. So one request probes it, not all that
    /// arrive meanwhile.
    pub fn cost(&self, in_flight: u32, now: Millis) -> u64 {
        let us = match (in_flight, self.us) {
            (0, _) => self.decayed(now),
            (_, None) => UNKNOWN_US,
            (_, Some(us)) => self.decayed(now).max(us / FORGOTTEN_MOST),
        };
        us.saturating_add(1).saturating_mul(u64::from(in_flight) + 1)
    }

    /// Halved each half-life, linear in between; 0 if unknown.
    fn decayed(&self, now: Millis) -> u64 {
        let passed = now.since(self.at);
        let half_life_ms = self.half_life_ms.max(1);
        let halves = passed / half_life_ms;
        if halves >= 63 {
            return 0;
        }
        let us = self.us.unwrap_or(0) >> halves;
        us - (u128::from(us) * u128::from(passed % half_life_ms) / (2 * u128::from(half_life_ms))) as u64
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self, now: Millis) {
        assert!(self.decayed(now) <= self.us.unwrap_or(0), "time does not raise the estimate");
        assert!(self.cost(0, now) <= self.cost(1, now), "more in flight is not cheaper");
    }
}

#[cfg(test)]
mod tests;
