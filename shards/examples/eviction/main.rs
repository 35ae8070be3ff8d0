//! Compares eviction policies on synthetic traffic and prints a table: `cargo run --release -p shards --example
//! eviction`. The chosen policy is in `src/cache.rs`; the others exist only here, so that the choice can be
//! re-examined. `SEED=n` changes the traffic, `REQUESTS=n` its length, `SVG=file` draws hit rates at 1, 5 and 20 percent.

mod picture;
mod policies;
mod traffic;

use policies::Policy;
use shards::{Cache, Fingerprint, Lookup, Millis};
use traffic::{Request, Traffic};

/// The real cache behind the same trait: shows that it behaves like its row of the table.
struct Real(Cache<()>);

fn fingerprint(prompt: u32) -> Fingerprint {
    Fingerprint(traffic::Random::new(u64::from(prompt)).bytes())
}

impl Policy for Real {
    fn hit(&mut self, prompt: u32) -> bool {
        matches!(self.0.get(&fingerprint(prompt), Millis(0)), Lookup::Fresh { .. })
    }

    fn insert(&mut self, prompt: u32, size_bytes: u64) {
        let value_bytes = size_bytes - Cache::<()>::OVERHEAD_BYTES.min(size_bytes);
        self.0.insert(fingerprint(prompt), (), value_bytes, Millis(0), 1);
    }
}

/// W-TinyLFU, as the crate `moka` has it.
struct TinyLfu(moka::sync::Cache<u32, u64>);

impl TinyLfu {
    fn new(budget: u64) -> TinyLfu {
        let weigher = |_: &u32, size_bytes: &u64| u32::try_from(*size_bytes).unwrap_or(u32::MAX);
        TinyLfu(moka::sync::Cache::builder().max_capacity(budget).weigher(weigher).build())
    }
}

impl Policy for TinyLfu {
    fn hit(&mut self, prompt: u32) -> bool {
        self.0.get(&prompt).is_some()
    }

    fn insert(&mut self, prompt: u32, size_bytes: u64) {
        self.0.insert(prompt, size_bytes);
        // It decides in batches otherwise, and holds more than its budget meanwhile.
        self.0.run_pending_tasks();
    }
}

fn every(budget: u64) -> Vec<(&'static str, Box<dyn Policy>)> {
    let mut every = policies::all(budget);
    every.push(("W-TinyLFU", Box::new(TinyLfu::new(budget))));
    every.push(("shards::Cache", Box::new(Real(Cache::new(budget)))));
    every
}

const CONVERSATIONS: &str = "conversations that go on";
const EVALUATIONS: &str = "an evaluation in a loop beside users";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let (seed, requests) = (number("SEED", 1), number("REQUESTS", 400_000) as usize);
    println!("seed {seed}, {requests} requests, the first half warms up; hit rate and byte hit rate in percent");
    let every = [
        ("zipf 0.8", Traffic { exponent: 0.8, ..Traffic::STILL }),
        ("zipf 1.0", Traffic::STILL),
        ("zipf 1.2", Traffic { exponent: 1.2, ..Traffic::STILL }),
        ("zipf 1.0, one in ten hot ones replaced every 2000", Traffic { drift_every: 2_000, ..Traffic::STILL }),
        ("zipf 1.0, half of the requests never again", Traffic { once_in_100: 50, ..Traffic::STILL }),
        ("zipf 1.0, both", Traffic { once_in_100: 50, drift_every: 2_000, ..Traffic::STILL }),
    ];
    let drawn = every.map(|(name, traffic)| (name, traffic.draw(seed, requests)));
    let conversations = (CONVERSATIONS, traffic::conversations(seed, requests));
    let evaluations = (EVALUATIONS, traffic::evaluations(seed, requests));
    let mut charts = Vec::new();
    for (name, (stream, footprint_bytes)) in drawn.into_iter().chain([conversations, evaluations]) {
        println!("\n{name}: footprint of the corpus {} KiB", footprint_bytes >> 10);
        print!("{:16}", "budget:");
        let shares = [1, 5, 10, 20, 50];
        shares.iter().for_each(|share| print!("{share:>12} %"));
        println!();
        let names: Vec<_> = self::every(1).into_iter().map(|(name, _)| name).collect();
        let mut rows = Vec::new();
        for (at, name) in names.iter().enumerate() {
            print!("{name:16}");
            let mut row = Vec::new();
            for share in shares {
                let budget = footprint_bytes * share / 100;
                let (hits, bytes) = measure(self::every(budget)[at].1.as_mut(), &stream);
                print!("   {hits:4.1} / {bytes:4.1}");
                if [1, 5, 20].contains(&share) {
                    row.push(hits);
                }
            }
            println!();
            if picture::SHOWN.contains(name) {
                rows.push((*name, row));
            }
        }
        if ["zipf 1.0", CONVERSATIONS, EVALUATIONS].contains(&name) {
            charts.push((name, rows));
        }
    }
    if let Ok(path) = std::env::var("SVG") {
        std::fs::write(&path, picture::draw(&charts)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn measure(policy: &mut dyn Policy, stream: &[Request]) -> (f64, f64) {
    let (mut hits, mut hit_bytes, mut bytes) = (0u64, 0u64, 0u64);
    for (at, request) in stream.iter().enumerate() {
        let hit = policy.hit(request.prompt);
        if !hit {
            policy.insert(request.prompt, request.size_bytes);
        }
        if at >= stream.len() / 2 {
            hits += u64::from(hit);
            hit_bytes += if hit { request.size_bytes } else { 0 };
            bytes += request.size_bytes;
        }
    }
    (100.0 * hits as f64 / (stream.len() - stream.len() / 2) as f64, 100.0 * hit_bytes as f64 / bytes as f64)
}
