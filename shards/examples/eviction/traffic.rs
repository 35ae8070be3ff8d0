//! Requests from a seed: 10,000 prompts of 100 B to 10 KB (uniform on a logarithmic scale), popularity by Zipf's law.

#[path = "../../tests/sim/random.rs"]
mod random;

pub use random::Random;

/// Uniform from 0 (inclusive) to 1 (exclusive).
fn unit(random: &mut Random) -> f64 {
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}

#[derive(Clone, Copy)]
pub struct Request {
    pub prompt: u32,
    pub size_bytes: u64,
}

#[derive(Clone, Copy)]
pub struct Traffic {
    pub prompts: usize,
    pub exponent: f64,
    /// After this many requests a tenth of the 1,000 most popular prompts are swapped with random ones; 0 means never.
    pub drift_every: usize,
    /// Percentage of requests whose prompt is never repeated.
    pub once_in_100: u64,
}

impl Traffic {
    pub const STILL: Traffic = Traffic { prompts: 10_000, exponent: 1.0, drift_every: 0, once_in_100: 0 };

    /// The requests, and the total size in bytes of all recurring prompts.
    pub fn draw(&self, seed: u64, requests: usize) -> (Vec<Request>, u64) {
        let mut random = Random::new(seed);
        let sizes: Vec<u64> = (0..self.prompts).map(|_| size_bytes(&mut random)).collect();
        let mut sum = 0.0;
        let weight = |rank: usize| 1.0 / (rank as f64 + 1.0).powf(self.exponent);
        let cumulated: Vec<f64> = (0..self.prompts)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        let mut by_rank: Vec<usize> = (0..self.prompts).collect();
        let mut once = self.prompts as u32;
        let mut stream = Vec::with_capacity(requests);
        for at in 0..requests {
            if self.drift_every > 0 && at % self.drift_every == 0 {
                for _ in 0..100 {
                    by_rank.swap(random.below(1_000) as usize, random.below(self.prompts as u64) as usize);
                }
            }
            if random.below(100) < self.once_in_100 {
                stream.push(Request { prompt: once, size_bytes: size_bytes(&mut random) });
                once += 1;
            } else {
                let point = unit(&mut random) * sum;
                let rank = cumulated.partition_point(|&upto| upto < point).min(self.prompts - 1);
                let prompt = by_rank[rank];
                stream.push(Request { prompt: prompt as u32, size_bytes: sizes[prompt] });
            }
        }
        (stream, sizes.iter().sum())
    }
}

/// Conversations: the popular ones go on most often; half of their requests ask the last turn once more, the others the next one,
/// which is larger and has never been asked.
pub fn conversations(seed: u64, requests: usize) -> (Vec<Request>, u64) {
    let mut random = Random::new(seed);
    let mut turns: Vec<(u32, u64)> = Vec::new();
    let (mut next, mut stream, mut footprint) = (0, Vec::with_capacity(requests), 0);
    for _ in 0..requests {
        // One in fifty begins anew; the youngest are the liveliest.
        if turns.is_empty() || random.below(50) == 0 {
            turns.push((next, 300));
            next += 1;
        }
        let age = (turns.len() as f64).powf(unit(&mut random)) as usize;
        let place = turns.len() - age.clamp(1, turns.len());
        let turn = &mut turns[place];
        if random.below(2) == 0 {
            *turn = (next, (turn.1 + size_bytes(&mut random) / 4).min(64 << 10));
            next += 1;
            footprint += turn.1;
        }
        stream.push(Request { prompt: turn.0, size_bytes: turn.1 });
    }
    (stream, footprint)
}

/// Evaluations beside users: 5,000 prompts in a row, again and again, and as many by Zipf's law.
pub fn evaluations(seed: u64, requests: usize) -> (Vec<Request>, u64) {
    let (users, footprint) = Traffic { prompts: 5_000, ..Traffic::STILL }.draw(seed, requests / 2);
    let mut random = Random::new(seed + 1);
    let sizes: Vec<u64> = (0..5_000).map(|_| size_bytes(&mut random)).collect();
    let mut stream = Vec::with_capacity(requests);
    for (at, user) in users.into_iter().enumerate() {
        let place = at % sizes.len();
        stream.push(Request { prompt: 1 << 24 | place as u32, size_bytes: sizes[place] });
        stream.push(user);
    }
    (stream, footprint + sizes.iter().sum::<u64>())
}

/// 100 B to 10 KB, plus the cache's overhead.
fn size_bytes(random: &mut Random) -> u64 {
    (100.0 * 100f64.powf(unit(random))) as u64 + shards::Cache::<()>::OVERHEAD_BYTES
}
