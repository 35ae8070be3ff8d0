//! Translation of arbitrary requests, answers and streams: what comes out is of the other API, however a stream is cut it is the
//! same, and no end is said that did not come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::dialect::Dialect;
use ringway::dialect::facts::StreamVerdict;
use ringway::dialect::translate::{Direction, Settings, Stream, StreamFault};
use ringway::wire::json::{self, Tape};
use ringway::wire::sse::{EventData, Splitter};

fn translated<'a>(direction: Direction, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<(), StreamFault>) {
    let (mut stream, mut out) = (Stream::new(direction, 7), Vec::new());
    for piece in pieces {
        if let Err(fault) = stream.take_in(piece, &mut out) {
            return (out, Err(fault));
        }
    }
    let ended = stream.end(&mut out);
    (out, ended)
}

fuzz_target!(|input: &[u8]| {
    let Some((step, body)) = input.split_first() else { return };
    let mut tape = Tape::new();
    // Tokens are counted whole, and have no way back.
    if json::parse(body, &mut tape).is_ok()
        && let Ok(request) = Direction::ToTokenizer.request(body, Settings { answer_tokens: 9 })
    {
        json::parse(&request, &mut tape).expect("a request is JSON without duplicate names");
    }
    if let Some(answer) = Direction::ToTokenizer.answer(body, 7) {
        json::parse_unchecked_names(&answer, &mut tape).expect("an answer is JSON");
    }
    json::parse_unchecked_names(&Direction::ToTokenizer.error(400, body), &mut tape).expect("an error is JSON");
    for direction in [Direction::ToOpenAi, Direction::ToAnthropic] {
        let endpoint = direction.endpoint();
        if json::parse(body, &mut tape).is_ok()
            && let Ok(request) = direction.request(body, Settings { answer_tokens: 9 })
        {
            json::parse(&request, &mut tape).expect("a request is JSON without duplicate names");
        }
        if let Some(answer) = direction.answer(body, 7) {
            let back = if direction == Direction::ToOpenAi { Direction::ToAnthropic } else { Direction::ToOpenAi };
            json::parse_unchecked_names(&answer, &mut tape).expect("an answer is JSON");
            let _ = Dialect::of_endpoint(endpoint).answer_facts(endpoint, &answer, &mut tape);
            // Mostly; arguments that were text may be nested too deeply as values.
            let _ = back.answer(&answer, 7);
        }
        json::parse_unchecked_names(&direction.error(400, body), &mut tape).expect("an error is JSON");

        let whole = translated(direction, std::iter::once(body));
        assert_eq!(whole, translated(direction, body.chunks(usize::from(*step % 16) + 1)));
        // The client's API.
        let client = if direction == Direction::ToOpenAi { Dialect::Anthropic } else { Dialect::OpenAi };
        let endpoint =
            if direction == Direction::ToOpenAi { Direction::ToAnthropic } else { Direction::ToOpenAi }.endpoint();
        let (out, ended) = whole;
        let (mut splitter, mut verdict) = (Splitter::new(), StreamVerdict::new());
        while let Some(event) = splitter.next(&out).expect("events are short") {
            assert!(event.data != EventData::Absent);
            let (name, data) = (event.name.of(&out), splitter.data(&event, &out));
            verdict.note(&client.event_facts(endpoint, name, data, &mut tape));
        }
        assert!(ended.is_ok() || !verdict.is_done(), "an end that did not come");
    }
});
