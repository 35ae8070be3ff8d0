//! A log whose lines are not collected.

use super::*;

fn entry() -> Entry<'static> {
    Entry {
        unix_ms: 1,
        request_id: b"id",
        core: 0,
        client: None,
        tenant: None,
        credential: None,
        endpoint: "chat",
        model: None,
        backend: None,
        status: 200,
        cache: "miss",
        stream: false,
        total_us: 1,
        first_byte_us: None,
        sent_bytes: 0,
        tokens: None,
        parts: (0, 0),
        cost: None,
        saved: None,
        error: None,
        not_stored: None,
    }
}

/// Writes this many lines and returns what could be sent.
fn write(log: &mut LogBuffer, lines: u64) -> Vec<(Vec<u8>, u64)> {
    let mut sent = Vec::new();
    for _ in 0..lines {
        log.write(&entry());
        if log.is_full() {
            sent.extend(log.take());
        }
    }
    sent
}

fn lines(sent: &[(Vec<u8>, u64)]) -> u64 {
    sent.iter().flat_map(|(lines, _)| lines).filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn what_is_not_written_is_bounded_and_every_line_is_written_or_counted() {
    const LINES: u64 = 200_000;
    let mut log = LogBuffer::new(&AccessLog::Stdout);
    let sent = write(&mut log, LINES);
    let under_way: usize = sent.iter().map(|(lines, _)| lines.capacity()).sum();
    assert!(under_way <= LOG_BYTES + FULL_BYTES + ROOM_BYTES, "{under_way}");
    assert!(log.lines.len() <= FULL_BYTES + ROOM_BYTES);
    assert!(log.dropped_ever() > 0);
    let written = lines(&sent);
    // The disk recovers: the first buffer reports the missing lines.
    for (lines, dropped) in sent {
        assert_eq!(dropped, 0);
        log.put_back(lines);
    }
    let (rest, dropped) = log.take().unwrap();
    assert_eq!(dropped, log.dropped_ever());
    assert_eq!(written + lines(&[(rest, 0)]) + dropped, LINES);
    assert_eq!(write(&mut log, 1000).iter().map(|(_, dropped)| dropped).sum::<u64>(), 0);
}

#[test]
fn lines_that_could_not_be_sent_are_counted() {
    let mut log = LogBuffer::new(&AccessLog::Stdout);
    write(&mut log, 3);
    let (lines, dropped) = log.take().unwrap();
    log.refused(lines, dropped);
    write(&mut log, 1);
    assert_eq!((log.take().unwrap().1, log.dropped_ever()), (3, 3));
    assert_eq!(log.under_way, FULL_BYTES + ROOM_BYTES);
}
