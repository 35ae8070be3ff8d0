//! Serialized bytes against golden files in `tests/golden/http1/` (UPDATE=1 rewrites them), and what is never written.

use crate::wire::http1::encode::{self, LAST_CHUNK};

fn golden(name: &str, written: &[u8]) {
    crate::golden::check(format!("tests/golden/http1/{name}"), written);
}

#[test]
fn request_matches_golden() {
    let mut out = Vec::new();
    encode::request_line(&mut out, b"POST", b"/v1/chat/completions?x=1");
    encode::field(&mut out, "host", b"10.0.0.5:8000");
    encode::field(&mut out, "content-type", b"application/json");
    encode::field(&mut out, "x-empty", b"");
    encode::field_number(&mut out, "content-length", 2);
    encode::head_end(&mut out);
    out.extend_from_slice(b"{}");
    golden("request.http", &out);
}

#[test]
fn streamed_response_matches_golden() {
    let mut out = Vec::new();
    encode::status_line(&mut out, 200);
    encode::field(&mut out, "date", &encode::date(784_111_777));
    encode::field(&mut out, "content-type", b"text/event-stream");
    encode::field(&mut out, "transfer-encoding", b"chunked");
    encode::head_end(&mut out);
    encode::chunk(&mut out, b"data: {\"a\":1}\n\n");
    encode::chunk(&mut out, b"");
    encode::chunk(&mut out, &[b'x'; 255]);
    encode::chunk_prefix(&mut out, 16);
    out.extend_from_slice(b"data: [DONE]\n\n\n\n");
    out.extend_from_slice(encode::LINE_END);
    out.extend_from_slice(LAST_CHUNK);
    golden("streamed_response.http", &out);
}

#[test]
fn status_lines_match_golden() {
    let mut out = encode::CONTINUE.to_vec();
    for status in 100..=599 {
        let start = out.len();
        encode::status_line(&mut out, status);
        if out[start..].ends_with(b" \r\n") {
            out.truncate(start);
        }
    }
    encode::status_line(&mut out, 599);
    golden("status_lines.http", &out);
}

#[test]
fn repaired_bytes_match_golden() {
    let mut out = Vec::new();
    encode::request_line(&mut out, b"G T\r\n", b"/a b\r\nX: y\0\xe9");
    encode::request_line(&mut out, b"GET", b"");
    encode::field(&mut out, "x-split", b"a\r\nInjected: yes\r\n\r\nbody");
    encode::field(&mut out, "x-control", b"\0\x01\x1f\x7f\x0b|\t|\xff");
    encode::field_number(&mut out, "x-number", u64::MAX);
    golden("repaired.http", &out);
}

#[test]
fn dates_match_golden() {
    let mut out = Vec::new();
    for seconds in [0, 951_782_400, 784_111_777, 1_709_164_800, 1_709_251_199, 4_107_542_399, 4_107_542_400] {
        out.extend_from_slice(&encode::date(seconds));
        out.push(b'\n');
    }
    for seconds in [253_402_300_799, 253_402_300_800, u64::MAX] {
        out.extend_from_slice(&encode::date(seconds));
        out.push(b'\n');
    }
    golden("dates.txt", &out);
}

/// Against a calendar that counts day by day.
#[test]
fn dates_follow_the_calendar() {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let mut days = 0;
    for year in 1970..2500 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (month, length) in MONTHS {
            let length = if month == "Feb" && leap { 29 } else { length };
            for day in 1..=length {
                let weekday = WEEKDAYS[days as usize % 7];
                let expected = format!("{weekday}, {day:02} {month} {year} 23:59:59 GMT");
                assert_eq!(encode::date(days * 86_400 + 86_399), expected.as_bytes());
                days += 1;
            }
        }
    }
}
