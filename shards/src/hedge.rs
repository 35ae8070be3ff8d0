//! How long something usually takes, and where it begins to be unusual: for the decision to send a request twice.
//! Owned by one core, one a model and form. It forgets slowly, so that it follows what changes.

/// Eight steps an octave: a bound is at most an eighth too high.
const STEPS: usize = 8;
/// Up to 2^32 us, more than an hour.
const BUCKETS: usize = 30 * STEPS;
/// Below so many samples there is no judgement.
const LEAST: u32 = 20;
/// At so many, all counts are halved.
const FORGET: u32 = 1024;

/// Counts of durations in microseconds, in buckets that grow with the duration.
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

    /// One more took so long.
    pub fn note(&mut self, us: u64) {
        if self.all >= FORGET {
            self.forget();
        }
        self.counts[bucket(us)] += 1;
        self.all += 1;
    }

    /// Halves all counts. The half of an odd one goes to the next place that is odd: were it dropped, a thin tail would
    /// vanish first, and what is slow would seem slower than it is.
    fn forget(&mut self) {
        let mut odd = 0;
        for count in &mut self.counts {
            let both = *count + odd;
            (*count, odd) = (both / 2, both % 2);
        }
        self.all /= 2;
    }

    /// In microseconds, what 95 of 100 stay below; `None` as long as too few are known.
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

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        let sum: u32 = self.counts.iter().map(|&count| u32::from(count)).sum();
        assert_eq!(sum, self.all, "each sample stands in one place");
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

/// The first duration above a bucket.
fn upper(place: usize) -> u64 {
    let next = place + 1;
    if next <= STEPS {
        return next as u64;
    }
    ((STEPS + next % STEPS) as u64) << (next / STEPS - 1)
}

#[cfg(test)]
mod tests;
