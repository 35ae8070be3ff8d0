//! How fast a queue is served: what a newcomer will have to wait. Owned by a [`Queue`](super::Queue); holds no clock.

use crate::Millis;

/// The time between two that are served, as of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Of the stretches before.
    interval_us: Option<u64>,
    /// When that was measured.
    at: Millis,
    /// Since when those of this stretch are counted, while any wait.
    since: Option<Millis>,
    served: u64,
}

/// A stretch counts when it is so long, and something was served in it.
const STRETCH_MS: u64 = 100;
/// A measurement is of no use after so long without a queue.
const USEFUL_MS: u64 = 60_000;

impl Rate {
    /// One begins to wait.
    pub fn waits(&mut self, now: Millis) {
        if self.since.is_none() {
            (self.since, self.served) = (Some(now), 0);
        }
    }

    /// One that waited was served.
    pub fn served(&mut self, now: Millis) {
        let Some(since) = self.since else { return };
        self.served += 1;
        let passed_ms = now.since(since);
        if passed_ms >= STRETCH_MS {
            self.learn(passed_ms, now);
            (self.since, self.served) = (Some(now), 0);
        }
    }

    /// Nobody waits any more.
    pub fn idle(&mut self, now: Millis) {
        if let Some(since) = self.since.take()
            && self.served > 0
        {
            self.learn(now.since(since), now);
        }
    }

    fn learn(&mut self, passed_ms: u64, now: Millis) {
        let new = passed_ms.saturating_mul(1000) / self.served.max(1);
        let known = self.interval_us.filter(|_| now.since(self.at) < USEFUL_MS);
        // The mean of the new and the old: a server that has become slower or faster is believed after a few stretches.
        self.interval_us = Some(known.map_or(new, |known| known.midpoint(new)));
        self.at = now;
    }

    /// How long one waits behind `ahead` others; none if that is not known. The one being served is half done.
    pub fn wait_ms(&self, ahead: u64, now: Millis) -> Option<u64> {
        let known = self.interval_us.filter(|_| self.since.is_some() || now.since(self.at) < USEFUL_MS)?;
        // A server that stands still is slower than it was.
        let open = self.since.map_or(0, |since| now.since(since).saturating_mul(1000) / (self.served + 1));
        let interval_us = u128::from(known.max(open));
        Some(u64::try_from(interval_us * (2 * u128::from(ahead) + 1) / 2000).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
