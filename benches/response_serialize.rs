//! Writing an answer: head and body of a non-streaming one, and one stream event in its chunk. Writes the fields that
//! the exchange writes, with the same encoder.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::wire::http1::encode;
use ringway::wire::sse;

fn whole(out: &mut Vec<u8>, date: &[u8], body: &[u8]) {
    out.clear();
    encode::status_line(out, 200);
    encode::field(out, "date", date);
    encode::field(out, "content-type", b"application/json");
    encode::field_number(out, "content-length", body.len() as u64);
    encode::field(out, "cache-control", b"private, no-store");
    encode::field(out, "x-cache", b"HIT");
    encode::field(out, "cache-status", b"ringway; hit; ttl=299");
    encode::field_number(out, "age", 1);
    encode::field(out, "x-request-id", b"77f191157f3d2a04001bdb607286f13d");
    encode::head_end(out);
    out.extend_from_slice(body);
}

fn response_serialize(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response_serialize");
    let mut out = Vec::with_capacity(64 << 10);
    let date = encode::date(1_700_000_000);
    for bytes in [512usize, 16 << 10] {
        let body = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("whole_{bytes}"), |bencher| {
            bencher.iter(|| whole(&mut out, &date, black_box(&body)));
        });
    }
    let data = br#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}"#;
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("event", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode::chunk_prefix(&mut out, data.len() + b"data: \n\n".len());
            sse::event(&mut out, black_box(data));
            out.extend_from_slice(b"\r\n");
        });
    });
    group.finish();
}

criterion_group!(benches, response_serialize);
criterion_main!(benches);
