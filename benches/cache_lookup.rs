//! Look-ups in a core's shard, with as many answers as a node may hold.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use shards::{CoreId, Fingerprint, Millis, Outcome, Shard};

const ENTRIES: u64 = 100_000;
const BUDGET_BYTES: u64 = 1 << 30;
const ANSWER_BYTES: u64 = 2048;
const TTL_MS: u64 = 300_000;
const CORE: CoreId = CoreId(0);
const NOW: Millis = Millis(1000);

fn fingerprint(number: u64) -> Fingerprint {
    Fingerprint(Sha256::digest(number.to_le_bytes()).into())
}

fn cache_lookup(criterion: &mut Criterion) {
    let mut shard: Shard<u64> = Shard::new(BUDGET_BYTES, 1024, 0);
    let known: Vec<Fingerprint> = (0..ENTRIES).map(fingerprint).collect();
    let unknown: Vec<Fingerprint> = (ENTRIES..2 * ENTRIES).map(fingerprint).collect();
    for (number, fingerprint) in known.iter().enumerate() {
        shard.put(*fingerprint, number as u64, ANSWER_BYTES, NOW, TTL_MS);
    }
    let mut group = criterion.benchmark_group("cache_lookup");
    let mut turn = 0usize;
    // A prime stride visits all entries in an order that defeats the prefetcher.
    let mut next = move || {
        turn = (turn + 7919) % ENTRIES as usize;
        turn
    };
    group.bench_function("hit", |bencher| {
        bencher.iter(|| matches!(shard.ask(black_box(&known[next()]), CORE, NOW), shards::Asked::Hit { .. }));
    });
    group.bench_function("hit_hot", |bencher| {
        bencher.iter(|| matches!(shard.ask(black_box(&known[0]), CORE, NOW), shards::Asked::Hit { .. }));
    });
    // A complete miss in the shard: a flight is started, and ends without an answer to store.
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            let fingerprint = unknown[next()];
            if let shards::Asked::Lead { number, .. } = shard.ask(black_box(&fingerprint), CORE, NOW) {
                shard.settle(fingerprint, number, Outcome::Drop, NOW);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, cache_lookup);
criterion_main!(benches);
