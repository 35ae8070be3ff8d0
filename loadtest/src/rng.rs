//! Reproducible random numbers: the same seed gives the same corpus and the same order of requests. Not for secrets.

/// A 64-bit counter run through a mixing function (splitmix64, Steele, Lea and Flood 2014).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }
}

/// Ranks from 0 with probability proportional to 1 / (rank + 1) ^ exponent.
pub struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// `ranks` is at least 1.
    pub fn new(ranks: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let cumulated = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Zipf { cumulated: cumulated.collect() }
    }

    pub fn rank(&self, rng: &mut Rng) -> usize {
        let total = self.cumulated.last().copied().unwrap_or(0.0);
        let point = rng.unit() * total;
        self.cumulated.partition_point(|&upto| upto <= point).min(self.cumulated.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_comes_as_often_as_the_law_says() {
        let (zipf, mut rng) = (Zipf::new(100, 1.0), Rng::new(1));
        let first = (0..100_000).filter(|_| zipf.rank(&mut rng) == 0).count();
        // 1 / H(100) = 0.1928
        assert!((18_500..20_100).contains(&first), "{first}");
    }
}
