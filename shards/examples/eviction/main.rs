//! Compares eviction policies on synthetic traffic and prints a table: `cargo run --release -p shards --example
//! eviction`. The chosen policy is in `src/cache.rs`; the others exist only here, so that the choice can be
//! re-examined. `SEED=n` changes the traffic, `REQUESTS=n` its length.

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
    for (name, traffic) in every {
        let (stream, footprint_bytes) = traffic.draw(seed, requests);
        println!("\n{name}: footprint of the corpus {} KiB", footprint_bytes >> 10);
        print!("{:16}", "budget:");
        let shares = [1, 5, 10, 25, 50];
        shares.iter().for_each(|share| print!("{share:>12} %"));
        println!();
        let names: Vec<_> = policies::all(1).into_iter().map(|(name, _)| name).chain(["shards::Cache"]).collect();
        for (at, name) in names.iter().enumerate() {
            print!("{name:16}");
            for share in shares {
                let budget = footprint_bytes * share / 100;
                let mut every = policies::all(budget);
                every.push(("shards::Cache", Box::new(Real(Cache::new(budget)))));
                let (hits, bytes) = measure(every[at].1.as_mut(), &stream);
                print!("   {hits:4.1} / {bytes:4.1}");
            }
            println!();
        }
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
