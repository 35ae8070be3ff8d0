//! How fast a backend has been lately. Owned by one core, one a backend; holds no clock.
//! A slow answer counts at once, a failure for more than any answer, fast ones win it back slowly, and what is long ago
//! counts for less.

use crate::Millis;

/// A latency in microseconds that decays.
#[derive(Clone, Debug)]
pub struct Latency {
    half_life_ms: u64,
    /// As of `at`. `None`: nothing was noted yet.
    us: Option<u64>,
    at: Millis,
}

/// A fast answer pulls the estimate down by 1 / this of the difference.
const PULL: u64 = 8;
/// What an unknown backend is taken for while its first request is out: slow, or everybody would go there until the
/// first answer says how it is.
const UNKNOWN_US: u64 = 10_000_000;
/// A failure counts as so many times what was known.
const FAILED_TIMES: u64 = 4;
/// While requests are out, at most so much of what was known is forgotten (1 / this), for the same reason.
const FORGOTTEN_MOST: u64 = 4;

impl Latency {
    /// Nothing known: as cheap as can be, so that a new backend is tried, by one request at first.
    pub const fn new(half_life_ms: u64) -> Self {
        Self { half_life_ms, us: None, at: Millis(0) }
    }

    /// An answer took so long.
    pub fn note(&mut self, us: u64, now: Millis) {
        let known = self.decayed(now);
        self.us = Some(if us >= known { us } else { known - (known - us).div_ceil(PULL) });
        self.at = now;
    }

    /// A request failed after so long, by the backend's fault.
    ///
    /// Not noted, a backend that fails at once would look idle and fast, and draw the traffic of those that work. Others
    /// let a failure count as the time-out, as a constant, or by a success rate beside the latency. A time-out for models
    /// that think is minutes, so that one failure would shut a backend out for longer than a breaker does; a constant is
    /// nothing beside a slow model and much beside a fast one; a rate is a second thing that decays. So it counts as a
    /// multiple of what was known, before any of it was forgotten, and at least what it took: one failure costs a backend
    /// two half-lives of its turns while others are at rest, each one more in a row two more, up to what an
    /// unknown one is taken for. Successes win it back as from any slow answer.
    pub fn note_failure(&mut self, us: u64, now: Millis) {
        let counted = match self.us {
            None => UNKNOWN_US,
            Some(known) => known.saturating_add(1).saturating_mul(FAILED_TIMES).min(UNKNOWN_US).max(known),
        };
        self.us = Some(counted.max(us));
        self.at = now;
    }

    /// What one more request would have to wait behind `in_flight` others, in no unit but comparable.
    ///
    /// One that was left alone for long looks fast, so that it is tried again; as soon as a request is out to it, it is
    /// taken for what it was, or for slow if that is unknown, until the answer says more. So it is one request that pays
    /// for the news, not all that come meanwhile.
    pub fn cost(&self, in_flight: u32, now: Millis) -> u64 {
        let us = match (in_flight, self.us) {
            (0, _) => self.decayed(now),
            (_, None) => UNKNOWN_US,
            (_, Some(us)) => self.decayed(now).max(us / FORGOTTEN_MOST),
        };
        us.saturating_add(1).saturating_mul(u64::from(in_flight) + 1)
    }

    /// Halved each half-life, and straight in between; 0 where nothing is known.
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

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self, now: Millis) {
        assert!(self.decayed(now) <= self.us.unwrap_or(0), "time makes nothing slower");
        assert!(self.cost(0, now) <= self.cost(1, now), "more in flight is never cheaper");
    }
}

#[cfg(test)]
mod tests;
