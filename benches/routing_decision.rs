//! Choosing a backend: the model by its name, the tenant's permission, and the pick among its targets.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::config::load::load;
use ringway::config::snapshot::Snapshot;
use shards::balancer::{RoundRobin, least};

const MODELS: usize = 50;
const CREDENTIAL: [u8; 32] = [0xab; 32];

/// `MODELS` models, each with the same `backends` backends of different weights, and one tenant with access to all.
fn snapshot(backends: usize) -> Snapshot {
    let mut text = String::new();
    let mut targets = String::new();
    for number in 0..backends {
        let weight = number % 3 + 1;
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "[[backend]]\nname = \"b{number}\"\nurl = \"http://127.0.0.1:9000\"\nweight = {weight}\n");
        let _ = write!(targets, "{{ backend = \"b{number}\" }}, ");
    }
    for number in 0..MODELS {
        let _ = writeln!(text, "[[model]]\nname = \"model-{number}\"\nbackends = [{targets}]\n");
    }
    let _ = writeln!(text, "[[tenant]]\nname = \"t\"\nkeys = [\"sha256:{}\"]", "ab".repeat(32));
    let no_file = |_: &Path| Err(std::io::Error::other("no file"));
    load(&text, Path::new("bench.toml"), &|_| None, &no_file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn routing_decision(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing_decision");
    for backends in [1, 8, 50] {
        let snapshot = snapshot(backends);
        let weights: Vec<u32> = snapshot.models[0].targets.iter().map(|target| target.weight).collect();
        let mut round_robin = RoundRobin::new(weights.len());
        let in_flight: Vec<u32> = (0..backends as u32).map(|number| number * 7 % 5).collect();
        let mut cursor = 0;
        let model = |name: &[u8]| {
            let (tenant, _) = snapshot.credential(black_box(&CREDENTIAL))?;
            let model = snapshot.asked(name)?.model;
            snapshot.tenants[tenant].models.allows(model).then_some(model)
        };
        assert!(model(b"model-33").is_some());
        group.bench_function(format!("round_robin_{backends}"), |bencher| {
            bencher.iter(|| model(black_box(b"model-33")).and_then(|_| round_robin.pick(|at| weights[at])));
        });
        group.bench_function(format!("least_connections_{backends}"), |bencher| {
            bencher.iter(|| {
                model(black_box(b"model-33"))
                    .and_then(|_| least(weights.len(), |at| in_flight[at], |at| weights[at], &mut cursor))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, routing_decision);
criterion_main!(benches);
