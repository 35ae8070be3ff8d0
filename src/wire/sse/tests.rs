//! Tests of the splitter and the writers.

use super::*;
use crate::wire::json::tests::law;
use proptest::prelude::*;

/// One event as owned bytes: data (`None` if absent) and name.
type Seen = (Option<Vec<u8>>, Vec<u8>);

/// Passes `pieces` one by one through a buffer that is released after every event or every piece.
fn split(pieces: &[&[u8]], release_often: bool) -> Result<(Vec<Seen>, Ending), SseFault> {
    let mut splitter = Splitter::new();
    let (mut buffer, mut events, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(event) = splitter.next(&buffer)? {
            relayed.extend_from_slice(event.whole.of(&buffer));
            let data = (event.data != EventData::Absent).then(|| splitter.data(&event, &buffer).to_vec());
            events.push((data, event.name.of(&buffer).to_vec()));
            if release_often {
                buffer.drain(..splitter.release());
            }
        }
        buffer.drain(..splitter.release());
    }
    let ending = splitter.ending(&buffer);
    // Nothing is lost or added: the relayed bytes and the rest are the stream.
    relayed.extend_from_slice(&buffer);
    assert_eq!(relayed, pieces.concat());
    Ok((events, ending))
}

fn whole(stream: &[u8]) -> (Vec<Seen>, Ending) {
    split(&[stream], false).expect("a short stream")
}

fn seen(data: &str) -> Seen {
    (Some(data.as_bytes().to_vec()), Vec::new())
}

const COMMENT: Seen = (None, Vec::new());

#[test]
fn events_are_found_in_all_spellings() {
    let cases: &[(&[u8], &[Seen])] = &[
        (b"data: a\n\ndata: b\n\n", &[seen("a"), seen("b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", &[seen("a"), seen("b")]),
        (b"data: a\r\rdata: b\r\r", &[seen("a"), seen("b")]),
        (b"data: a\r\n\ndata: b\n\r\n", &[seen("a"), seen("b")]),
        (b"data:a\n\ndata:  b \n\n", &[seen("a"), seen(" b ")]),
        (b"data: a\ndata: b\ndata\ndata:c\n\n", &[seen("a\nb\n\nc")]),
        (b"data\n\n", &[seen("")]),
        (b"\xef\xbb\xbfdata: a\n\n", &[seen("a")]),
        // Only the first line may have a byte order mark; elsewhere it belongs to the field name.
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", &[seen("a"), COMMENT]),
        (b": hello\n\n", &[COMMENT]),
        (b"\n", &[COMMENT]),
        (b": x\ndata: a\n: y\n\n", &[seen("a")]),
        (b"id: 1\nretry: 5\ndata: a\ndatax: b\n data: c\n\n", &[seen("a")]),
        (b"data: a: b\n\n", &[seen("a: b")]),
    ];
    for (stream, events) in cases {
        let (found, ending) = whole(stream);
        assert_eq!(found, *events, "{}", stream.escape_ascii());
        assert_eq!(ending, Ending::Complete, "{}", stream.escape_ascii());
    }
}

#[test]
fn names_belong_to_their_event() {
    let (found, _) = whole(b"event: a\nevent: ping\ndata: 1\n\ndata: 2\n\nevent\ndata: 3\n\nevent:x\n\n");
    let names: Vec<&[u8]> = found.iter().map(|(_, name)| &name[..]).collect();
    assert_eq!(names, [&b"ping"[..], b"", b"", b"x"]);
}

#[test]
fn an_unfinished_event_is_not_an_event() {
    for stream in ["data: a", "data: a\n", "data: a\r\n", "data: x\n\ndata: a\n", "d", ": c\n", "\u{feff}"] {
        let (_, ending) = whole(stream.as_bytes());
        assert_eq!(ending, Ending::Incomplete, "{stream:?}");
    }
    assert_eq!(whole(b""), (vec![], Ending::Complete));
    assert_eq!(whole(b"data: a\n").0, []);
}

#[test]
fn the_only_data_line_is_not_copied() {
    let stream = b"event: e\ndata: {\"a\":1}\n\n";
    let event = Splitter::new().next(stream).unwrap().unwrap();
    assert_eq!(
        event,
        Event { whole: Span::new(0, 24), data: EventData::Line(Span::new(15, 22)), name: Span::new(7, 8) }
    );
}

#[test]
fn a_finished_event_is_not_held_back_for_a_line_feed() {
    let mut splitter = Splitter::new();
    let mut buffer = b"data: a\r\n\r".to_vec();
    let event = splitter.next(&buffer).unwrap().unwrap();
    assert_eq!(splitter.data(&event, &buffer), b"a");
    buffer.drain(..splitter.release());
    assert_eq!(splitter.ending(&buffer), Ending::Complete);
    buffer.extend_from_slice(b"\n");
    assert_eq!(splitter.next(&buffer), Ok(None));
    assert_eq!(splitter.ending(&buffer), Ending::Complete);
    buffer.extend_from_slice(b"data: b\r\n\r\n");
    let event = splitter.next(&buffer).unwrap().unwrap();
    assert_eq!(splitter.data(&event, &buffer), b"b");
}

#[test]
fn every_cut_gives_the_same_events() {
    let streams: [&[u8]; 4] = [
        b"\xef\xbb\xbf: c\r\n\r\nevent: e\r\ndata: a\r\ndata: b\r\n\r\ndata: {\"x\":1}\r\n\r\ndata: [DONE]\r\n\r\n",
        b"data: a\n\n: ping\n\ndata: b\ndata: c\ndata: d\n\nevent: x\ndata: e\n\ndata: rest",
        b"data: a\rdata: b\r\revent: x\rdata: c\r\r",
        b"data: a\r\n\ndata: b\n\r\n\r\r\n\n",
    ];
    for stream in streams {
        let expected = whole(stream);
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            for release_often in [false, true] {
                assert_eq!(split(&[head, tail], release_often).as_ref(), Ok(&expected), "cut at {cut}");
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(split(&bytes, true), Ok(expected));
    }
}

#[test]
fn long_events_are_a_fault_wherever_they_are_cut() {
    // `data: ` and two line feeds count towards the length.
    let fits = [b"data: ".to_vec(), vec![b'x'; EVENT_BYTES - 8], b"\n\n".to_vec()].concat();
    let (found, ending) = whole(&fits);
    assert_eq!((found.len(), ending), (1, Ending::Complete));
    let long = [b"data: x".to_vec(), fits[6..].to_vec()].concat();
    assert_eq!(split(&[&long], false), Err(SseFault::EventTooLong));
    let pieces: Vec<&[u8]> = long.chunks(100_000).collect();
    assert_eq!(split(&pieces, false), Err(SseFault::EventTooLong));
    let endless = b"data: y\n".repeat(EVENT_BYTES / 8 + 1);
    assert_eq!(split(&[&endless], false), Err(SseFault::EventTooLong));
    // The bound is per event, not per buffer.
    let many = b"data: y\n\n".repeat(EVENT_BYTES / 4);
    assert_eq!(split(&[&many], false).map(|(found, _)| found.len()), Ok(EVENT_BYTES / 4));
}

/// The standard's algorithm over the whole stream, without state.
fn naive(whole_stream: &[u8]) -> (Vec<Seen>, Ending) {
    let stream = whole_stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(whole_stream);
    let mut text = Vec::new();
    for (at, byte) in stream.iter().enumerate() {
        match byte {
            b'\r' => text.push(b'\n'),
            b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
            other => text.push(*other),
        }
    }
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let unfinished = lines.pop().unwrap_or(b"");
    let (mut events, mut present): (Vec<Seen>, Seen) = (Vec::new(), COMMENT);
    let mut inside = false;
    for line in lines {
        inside = !line.is_empty();
        if line.is_empty() {
            events.push(std::mem::replace(&mut present, COMMENT));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let value = colon.map_or(&b""[..], |colon| &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (&line[..colon.unwrap_or(line.len())], &mut present.0) {
            (b"data", Some(data)) => data.extend([b"\n", value].concat()),
            (b"data", data) => *data = Some(value.to_vec()),
            (b"event", _) => present.1 = value.to_vec(),
            _ => {}
        }
    }
    // A byte order mark alone is the start of an event.
    let unfinished = if events.is_empty() && text.is_empty() { whole_stream } else { unfinished };
    let ending = if inside || !unfinished.is_empty() { Ending::Incomplete } else { Ending::Complete };
    (events, ending)
}

#[test]
fn the_splitter_agrees_with_the_naive_reading() {
    let part = prop::sample::select(vec![
        "data",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "event",
        "x",
        "\n\n",
        "data: a\n",
        "\u{feff}",
        ": c\n",
        "id: 4\n",
        "data: b\n\n",
    ]);
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    law(3000, (prop::collection::vec(part, 0..24), cuts, any::<bool>()), |(parts, cuts, release_often)| {
        let stream = parts.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&pieces, release_often), Ok(naive(&stream)), "{}", stream.escape_ascii());
        Ok(())
    });
}

#[test]
fn written_events_read_back() {
    let mut out = Vec::new();
    event(&mut out, b"{\"a\":1}");
    comment(&mut out, "waiting");
    event(&mut out, b"two\nlines\r\nthree\r");
    event(&mut out, b"");
    assert_eq!(out, b"data: {\"a\":1}\n\n: waiting\n\ndata: two\ndata: lines\ndata: three\ndata: \n\ndata: \n\n");
    assert_eq!(whole(&out).0, [seen("{\"a\":1}"), COMMENT, seen("two\nlines\nthree\n"), seen("")]);
}
