//! Estimates a high quantile of durations, to decide when to hedge a request. Owned by one core, one per model and
//! form. Old samples fade, so that the estimate follows changes.

/// Eight buckets per octave: a bound is at most an eighth too high.
const STEPS: usize = 8;
/// Up to 2^32 us, more than an hour.
const BUCKETS: usize = 30 * STEPS;
/// Minimum number of samples for an estimate.
const LEAST: u32 = 20;
/// At this many samples all counts are halved.
const FORGET: u32 = 1024;

/// Histogram of durations in microseconds, in buckets that grow with the duration.
#[derive(Clone, Debug)]
pub struct Quantile {
    counts: [u16; BUCKETS],
    all: u32,
}

impl Default for Quantile {
    fn default() -> Self {
        Self::new()
    }
}

impl Quantile {
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], all: 0 }
    }

    /// Records one duration.
    pub fn note(&mut self, us: u64) {
        if self.all >= FORGET {
            self.forget();
        }
        self.counts[bucket(us)] += 1;
        self.all += 1;
    }

    /// Halves all counts. The remainder of an odd count is carried to the next odd one: dropping it would empty a thin
    /// tail first and underestimate the quantile.
    fn forget(&mut self) {
        let mut odd = 0;
        for count in &mut self.counts {
            let both = *count + odd;
            (*count, odd) = (both / 2, both % 2);
        }
        self.all /= 2;
    }

    /// The 95th percentile in microseconds; `None` while there are too few samples.
    pub fn p95(&self) -> Option<u64> {
        if self.all < LEAST {
            return None;
        }
        let mut above = self.all / 20;
        for (place, &count) in self.counts.iter().enumerate().rev() {
            if u32::from(count) > above {
                return Some(upper(place));
            }
            above -= u32::from(count);
        }
        None
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        let sum: u32 = self.counts.iter().map(|&count| u32::from(count)).sum();
        assert_eq!(sum, self.all, "each sample is in one bucket");
        assert!(self.all <= FORGET, "{} samples", self.all);
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let octave = 63 - us.leading_zeros() as usize;
    let step = (us >> (octave - 3)) as usize & (STEPS - 1);
    ((octave - 2) * STEPS + step).min(BUCKETS - 1)
}

/// The lower bound of the next bucket.
fn upper(place: usize) -> u64 {
    let next = place + 1;
    if next <= STEPS {
        return next as u64;
    }
    ((STEPS + next % STEPS) as u64) << (next / STEPS - 1)
}

#[cfg(test)]
mod tests;
