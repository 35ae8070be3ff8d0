//! Histograms of one core: fixed buckets of relaxed atomics with a single writer, read in place by the background core.
//! Owned by the core's counters. Recording never allocates, locks, or uses a read-modify-write.

use std::fmt;

use super::counters::Counter;

/// The gateway's own time, in microseconds. Fine steps below a millisecond; the objectives (p50, p95, p99 of hits and
/// of misses) are bucket bounds.
pub const OWN_TIME_US: &[u64] = &[
    25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 8_000, 10_000, 20_000,
    50_000, 100_000, 500_000, 1_000_000,
];

/// Whole requests and waits for a model: from a fraction of a millisecond for a hit to minutes.
pub const REQUEST_US: &[u64] = &[
    500,
    1_000,
    1_500,
    2_000,
    3_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// Between two tokens. The bounds of OpenTelemetry's `gen_ai.server.time_per_output_token`, and finer ones below.
pub const TOKEN_US: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000,
    1_000_000, 2_500_000,
];

/// Connecting to a backend; its objectives (20, 80, 100 and 150 ms) are bucket bounds.
pub const CONNECT_US: &[u64] = &[
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 80_000, 100_000, 150_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// A histogram of integers: microseconds or tokens.
pub struct Histogram {
    /// Upper bounds, inclusive, ascending.
    bounds: &'static [u64],
    /// One per bound, and one for values above the last.
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Histogram { bounds, counts, sum: Counter::default() }
    }

    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].add(1);
        self.sum.add(value);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} values, sum {}", self.count(), self.sum.get())
    }
}

/// The sum of several cores' histograms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    pub bounds: &'static [u64],
    pub counts: Vec<u64>,
    pub sum: u64,
}

impl Totals {
    pub fn new(bounds: &'static [u64]) -> Totals {
        Totals { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// `of` must have the same bounds.
    pub fn add(&mut self, of: &Histogram) {
        debug_assert_eq!(self.bounds, of.bounds);
        for (total, count) in self.counts.iter_mut().zip(&of.counts) {
            *total += count.get();
        }
        self.sum += of.sum.get();
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was recorded since `earlier`, which must have the same bounds.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Totals { bounds: self.bounds, counts: counts.collect(), sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// Adds `other`, which must have the same bounds.
    pub fn merge(&mut self, other: &Totals) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// The value below which `percent` of the values are, taken as spread evenly over its bucket; none without values.
    /// Above the last bound, the last bound.
    pub fn estimate(&self, percent: u64) -> Option<f64> {
        let wanted = self.count() as f64 * percent as f64 / 100.0;
        let (mut below, mut lower) = (0, 0);
        for (count, bound) in self.counts.iter().zip(self.bounds) {
            if *count > 0 && (below + count) as f64 >= wanted {
                let share = ((wanted - below as f64) / *count as f64).clamp(0.0, 1.0);
                return Some(lower as f64 + share * (bound - lower) as f64);
            }
            (below, lower) = (below + count, *bound);
        }
        (self.count() > 0).then_some(lower as f64)
    }

    /// The bound below which `percent` of the values are; none without values. Above the last bound, the last bound.
    pub fn quantile(&self, percent: u64) -> Option<u64> {
        let (mut below, wanted) = (0, (self.count() * percent).div_ceil(100));
        self.counts.iter().zip(self.bounds.iter().chain(self.bounds.last())).find_map(|(count, bound)| {
            below += count;
            (below >= wanted && below > 0).then_some(*bound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_up_to_its_bound_and_what_is_above_all_is_kept() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, u64::from(u32::MAX)] {
            histogram.record(value);
        }
        let mut totals = Totals::new(&[10, 20]);
        totals.add(&histogram);
        totals.add(&histogram);
        assert_eq!(totals.counts, [4, 4, 4]);
        assert_eq!(totals.sum, 2 * (10 + 11 + 20 + 21 + u64::from(u32::MAX)));
        assert_eq!(
            [1, 33, 34, 66, 67, 100].map(|percent| totals.quantile(percent)),
            [10, 10, 20, 20, 20, 20].map(Some)
        );
        assert_eq!(Totals::new(&[10]).quantile(50), None);
        // Eight values: four up to 10 and four up to 20, four above.
        assert_eq!(
            [0, 25, 33, 50, 100].map(|percent| totals.estimate(percent).map(f64::round)),
            [Some(0.0), Some(8.0), Some(10.0), Some(15.0), Some(20.0)]
        );
        assert_eq!(Totals::new(&[10]).estimate(50), None);
        assert_eq!(totals.since(&totals).count(), 0);
    }

    #[test]
    fn bounds_ascend_and_hold_every_objective() {
        for bounds in [OWN_TIME_US, REQUEST_US, TOKEN_US, CONNECT_US] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        }
        // Cache hits, and the time added to misses: target, p50, p95, p99.
        for objective in [500, 1_500, 2_000, 3_000, 4_000, 5_000, 8_000] {
            assert!(OWN_TIME_US.contains(&objective), "{objective}");
        }
        for objective in [20_000, 80_000, 100_000, 150_000] {
            assert!(CONNECT_US.contains(&objective), "{objective}");
        }
    }
}
