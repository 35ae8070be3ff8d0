//! From a request's body to its fingerprint: scan, facts, canonical form, SHA-256. The largest part of the gateway's
//! own work on a hit.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::dialect::Dialect;
use ringway::dialect::facts::Endpoint;
use ringway::wire::json::{self, Tape};
use sha2::{Digest, Sha256};

const ENDPOINT: Endpoint = Endpoint::ChatCompletions;

fn body(prompt_bytes: usize) -> Vec<u8> {
    let sentence = "Compare the two bridges over the river, and say \\\"why\\\".\\n";
    let prompt = sentence.repeat(prompt_bytes / sentence.len() + 1);
    format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{prompt}"}}],"temperature":0,"max_tokens":256,"user":"u-17"}}"#
    )
    .into_bytes()
}

fn fingerprint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprint");
    let (mut tape, mut bytes) = (Tape::new(), Vec::new());
    for prompt_bytes in [100, 1000, 10_000] {
        let input = body(prompt_bytes);
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("scan_{prompt_bytes}"), |bencher| {
            bencher.iter(|| json::parse(black_box(&input), &mut tape));
        });
        group.bench_function(format!("whole_{prompt_bytes}"), |bencher| {
            bencher.iter(|| {
                json::parse(black_box(&input), &mut tape).ok()?;
                let facts = Dialect::OpenAi.request_facts(ENDPOINT, &input, &tape).ok()?;
                bytes.clear();
                json::canonical(&input, &tape, facts.not_in_key, &mut bytes);
                Some(Sha256::digest(&bytes))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fingerprint);
criterion_main!(benches);
