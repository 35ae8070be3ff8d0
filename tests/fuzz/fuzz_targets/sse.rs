//! The event splitter on an arbitrary stream: however it is cut, the events are the same and no byte is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::dialect::facts::{Endpoint, StreamVerdict};
use ringway::dialect::Dialect;
use ringway::wire::json::Tape;
use ringway::wire::sse::{Ending, EventData, Splitter, SseFault};

type Seen = (Option<Vec<u8>>, Vec<u8>);

fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(Vec<Seen>, Ending), SseFault> {
    let mut splitter = Splitter::new();
    let (mut buffer, mut stream, mut relayed, mut events) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        stream.extend_from_slice(piece);
        while let Some(event) = splitter.next(&buffer)? {
            relayed.extend_from_slice(event.whole.of(&buffer));
            let data = (event.data != EventData::Absent).then(|| splitter.data(&event, &buffer).to_vec());
            events.push((data, event.name.of(&buffer).to_vec()));
        }
        buffer.drain(..splitter.release());
    }
    let ending = splitter.ending(&buffer);
    relayed.extend_from_slice(&buffer);
    assert_eq!(relayed, stream);
    Ok((events, ending))
}

fuzz_target!(|input: &[u8]| {
    let Some((step, stream)) = input.split_first() else { return };
    let whole = split(std::iter::once(stream));
    assert_eq!(whole, split(stream.chunks(usize::from(*step % 16) + 1)));

    let (mut verdict, mut tape) = (StreamVerdict::new(), Tape::new());
    for (data, _) in whole.iter().flat_map(|(events, _)| events) {
        if let Some(data) = data {
            verdict.note(&Dialect::OpenAi.event_facts(Endpoint::ChatCompletions, b"", data, &mut tape));
        }
    }
    let _ = verdict.stored();
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Messages] {
        let dialect = Dialect::of_endpoint(endpoint);
        if let Some(answer) = dialect.whole_of(endpoint, stream, None) {
            serde_json::from_slice::<serde_json::Value>(&answer).expect("a whole answer is JSON");
            // What was merged can be told as a stream again.
            if let Some(streamed) = dialect.streamed_of(endpoint, &answer) {
                let again = dialect.whole_of(endpoint, &streamed.events, streamed.usage_event.as_deref());
                let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
                assert_eq!(again.map(|again| value(&again)), Some(value(&answer)));
            }
        }
    }
});
