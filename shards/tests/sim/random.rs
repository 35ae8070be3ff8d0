//! Random numbers for tests and the example: the same sequence from the same seed on every machine. `SEED=n` replays
//! one seed, `SEEDS=n` runs that many; a failing seed is printed.
#![allow(dead_code, reason = "each of the targets that share this file uses its part")]

/// splitmix64: one addition and a mix; sufficient for choosing events.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Uniform from 0 to `bound` - 1; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with a probability of `times` percent.
    pub fn chance(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()));
        bytes
    }
}

/// Calls `run` for each of `seeds` seeds, or as the environment says. A panic prints its seed.
pub fn each_seed(seeds: u64, mut run: impl FnMut(u64)) {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = match asked("SEED") {
        Some(seed) => (seed, asked("SEEDS").unwrap_or(1)),
        None => (1, asked("SEEDS").unwrap_or(seeds)),
    };
    for seed in first..first.saturating_add(count) {
        let printer = PrintsSeed(seed);
        run(seed);
        drop(printer);
    }
}

struct PrintsSeed(u64);

impl Drop for PrintsSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("failed with seed {0}: SEED={0} replays it", self.0);
        }
    }
}
