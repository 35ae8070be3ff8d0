//! The cost of each stream event: splitting it from the stream and reading its facts.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringway::dialect::facts::Endpoint;
use ringway::dialect::{Dialect, Shapes};
use ringway::wire::json::Tape;
use ringway::wire::sse::Splitter;

const EVENTS: usize = 64;
const EVENT: &[u8] = br#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}

"#;

fn event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event");
    let stream = EVENT.repeat(EVENTS);
    let mut tape = Tape::new();
    // Figures are for EVENTS events: elements per second are events per second.
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("split", |bencher| {
        bencher.iter_batched_ref(
            Splitter::new,
            |splitter| {
                let mut count = 0;
                while let Ok(Some(_)) = splitter.next(black_box(&stream)) {
                    count += 1;
                }
                assert_eq!(count, EVENTS);
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("split_and_facts", |bencher| {
        bencher.iter_batched_ref(
            Splitter::new,
            |splitter| {
                while let Ok(Some(event)) = splitter.next(black_box(&stream)) {
                    black_box(Dialect::OpenAi.event_facts(
                        Endpoint::ChatCompletions,
                        b"",
                        splitter.data(&event, &stream),
                        &mut tape,
                    ));
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut shapes = Shapes::default();
    group.bench_function("split_and_facts_by_shape", |bencher| {
        bencher.iter_batched_ref(
            Splitter::new,
            |splitter| {
                while let Ok(Some(event)) = splitter.next(black_box(&stream)) {
                    let data = splitter.data(&event, &stream);
                    black_box(shapes.event_facts(Endpoint::ChatCompletions, b"", data, &mut tape));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, event);
criterion_main!(benches);
