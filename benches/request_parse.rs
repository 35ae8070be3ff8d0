//! Parsing the head of a request, which every request needs.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::wire::http1::{RequestHead, parse_request};

/// As sent by a command-line client.
const SHORT: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8080\r\naccept: */*\r\n\
authorization: Bearer sk-0123456789abcdef\r\ncontent-type: application/json\r\ncontent-length: 214\r\n\r\n";

/// As sent by an SDK behind a proxy.
const LONG: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.example:8080\r\n\
accept: application/json\r\naccept-encoding: gzip, deflate, br\r\nconnection: keep-alive\r\n\
user-agent: AsyncClient/Python 2.1.0\r\nx-client-lang: python\r\nx-client-package-version: 2.1.0\r\n\
x-client-os: Linux\r\nx-client-arch: x64\r\nx-client-runtime: CPython\r\nx-client-runtime-version: 3.13.1\r\n\
x-client-retry-count: 0\r\nx-client-read-timeout: 600\r\nx-forwarded-for: 192.0.2.17\r\nx-forwarded-proto: https\r\n\
x-request-id: 2f9a4c7e10b84d6b9d1c\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\ncontent-type: application/json\r\n\
content-length: 1834\r\n\r\n";

fn request_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request_parse");
    let mut head = RequestHead::default();
    for (name, input) in [("short", SHORT), ("sdk", LONG)] {
        assert!(parse_request(input, &mut head).is_ok() && head.length == input.len());
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse_request(black_box(input), &mut head)));
    }
    group.finish();
}

criterion_group!(benches, request_parse);
criterion_main!(benches);
