//! A log whose lines are not collected.

use super::*;

fn entry() -> Entry<'static> {
    Entry {
        unix_ms: 1,
        request_id: b"id",
        endpoint: "chat",
        status: 200,
        cache: "miss",
        total_us: 1,
        ..Entry::default()
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
    let all: u64 = sent.iter().map(|(lines, _)| lines.len() as u64).sum::<u64>() + log.lines.len() as u64;
    assert_eq!(log.dropped_bytes() / log.dropped_ever(), (all + log.dropped_bytes()) / LINES, "each is as long");
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
    let (lines, dropped) = log.take().unwrap();
    assert_eq!((dropped, log.dropped_ever()), (3, 3));
    assert_eq!(log.under_way, FULL_BYTES + ROOM_BYTES);
    log.written(lines, 1);
    write(&mut log, 1);
    assert_eq!(log.dropped_ever(), 4, "the disk was full");
    let line = log.lines.len() as u64;
    assert_eq!(log.dropped_bytes(), 4 * line);
    assert_eq!(log.take().unwrap().1, 0, "which the I/O core has said itself");
}

#[test]
fn the_reference_is_current() {
    crate::golden::check("docs/access-log.md", reference());
}

#[test]
fn a_line_has_the_fields_of_the_reference_in_its_order() {
    let attempt = |backend: &str, result, status| Attempt { backend: backend.into(), result, status, us: 5 };
    let attempts = [attempt("a", Some("server_error"), Some(503)), attempt("b", None, None)];
    let full = Entry {
        unix_ms: 1_796_000_000_007,
        request_id: b"id",
        core: 1,
        client: Some([127, 0, 0, 1].into()),
        tenant: Some("t"),
        credential: Some([1, 2, 3, 4]),
        method: Some("POST"),
        path: Some(b"/v1/x"),
        endpoint: "other",
        model: Some("m"),
        template: Some(("t", "2")),
        served_model: Some("n"),
        backend: Some("b"),
        attempts: &attempts,
        status: 200,
        cache: "miss",
        not_stored: Some("empty"),
        stream: true,
        total_us: 9,
        first_byte_us: Some(8),
        queue_us: 1,
        connect_us: 2,
        received_bytes: 8,
        sent_bytes: 3,
        tokens: Some((4, 5)),
        parts: [1, 1, 1],
        usage_is_estimated: true,
        cost: Some("0.1"),
        saved: Some("0.2"),
        error: Some("client_gone"),
        trace_id: Some([0xab; 16]),
    };
    let mut log = LogBuffer::new(&AccessLog::Stdout);
    log.write(&full);
    let line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&log.take().unwrap().0).unwrap();
    let names: Vec<&str> = line.keys().map(String::as_str).collect();
    assert_eq!(names, FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(line["time"], "2026-11-30T00:53:20.007Z");
    assert_eq!(
        line["attempts"][0],
        serde_json::json!({"backend": "a", "result": "server_error", "status": 503, "us": 5})
    );
    assert_eq!(line["attempts"][1], serde_json::json!({"backend": "b"}));
}

#[test]
fn times_are_spelled_as_rfc_3339_has_them() {
    let spelled = |unix_s| String::from_utf8(spelled(unix_s).to_vec()).unwrap();
    assert_eq!(spelled(0), "1970-01-01T00:00:00");
    assert_eq!(spelled(951_782_399), "2000-02-28T23:59:59");
    assert_eq!(spelled(951_782_400), "2000-02-29T00:00:00");
    assert_eq!(spelled(951_868_800), "2000-03-01T00:00:00");
    assert_eq!(spelled(1_767_225_599), "2025-12-31T23:59:59");
    assert_eq!(spelled(4_107_542_400), "2100-03-01T00:00:00");
}
