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
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().map(|&count| u32::from(count)).sum();
        }
        self.counts[bucket(us)] += 1;
        self.all += 1;
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
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn each_duration_is_below_the_bound_of_its_bucket_and_near_it() {
        for us in (0..5_000).chain((13..32).flat_map(|bit| [1 << bit, (1 << bit) + 1, (1 << bit) * 3 / 2])) {
            let bound = upper(bucket(us));
            assert!(us < bound, "{us} in a bucket below {bound}");
            assert!(bound <= us + us / 8 + 1, "{us} in a bucket up to {bound}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn it_knows_the_slowest_twentieth_and_follows_what_changes() {
        let mut quantile = Quantile::new();
        let mut random = Random::new(7);
        for _ in 0..19 {
            quantile.note(10);
        }
        assert_eq!(quantile.p95(), None);
        for _ in 0..10_000 {
            quantile.note(random.below(100_000));
        }
        let p95 = quantile.p95().expect("enough");
        assert!((90_000..=112_000).contains(&p95), "{p95}");
        for _ in 0..10_000 {
            quantile.note(random.below(1_000));
        }
        let p95 = quantile.p95().expect("enough");
        assert!((900..=1_200).contains(&p95), "{p95}");
    }
}
