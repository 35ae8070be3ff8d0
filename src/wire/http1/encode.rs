//! Serializes HTTP/1.1: start lines, fields, chunks and dates, appended to a vector. State: none. Never writes a byte
//! that could start a new line or message: control bytes in values become spaces, empty chunks are not written.

use super::fields::{are_values, is_token, is_value};

/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends a line, a head (as the blank line) and each chunk's data.
pub const LINE_END: &[u8] = b"\r\n";

/// The interim response that asks for the body (RFC 9110 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Length of an HTTP date in bytes.
pub const DATE_BYTES: usize = 29;

/// Writes a status line such as `HTTP/1.1 200 OK` with its line end. `status` has three digits.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..=999).contains(&status));
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"); // the common case
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(LINE_END);
}

/// Writes a request line such as `POST /path HTTP/1.1` with its line end. Bytes of `method` that are not token
/// characters become `-`; bytes of `target` that are not visible ASCII are percent-encoded; an empty target becomes
/// `/`.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    match all(method, is_token) {
        true => out.extend_from_slice(method),
        false => out.extend(method.iter().map(|&byte| if is_token(byte) { byte } else { b'-' })),
    }
    out.push(b' ');
    if target.is_empty() {
        out.push(b'/');
    }
    if all(target, |byte| byte.is_ascii_graphic()) {
        out.extend_from_slice(target);
    } else {
        for &byte in target {
            match byte.is_ascii_graphic() {
                true => out.push(byte),
                false => out.extend_from_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte & 0xF)]),
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes one field. Control bytes in the value except HTAB become spaces, as RFC 9110 5.5 requires. The name is a
/// constant of the program: whether it is a token is checked in debug builds.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(!name.is_empty() && all(name.as_bytes(), is_token), "{name:?} is not a field name");
    // Inlined here so that a constant name is copied in a few words.
    out.extend_from_slice(name.as_bytes());
    field_value(out, value);
}

/// Writes the rest of a field after its name.
fn field_value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(b": ");
    match are_values(value) {
        true => out.extend_from_slice(value),
        false => out.extend(value.iter().map(|&byte| if is_value(byte) { byte } else { b' ' })),
    }
    out.extend_from_slice(LINE_END);
}

/// Writes one field with a decimal value.
#[inline]
pub fn field_number(out: &mut Vec<u8>, name: &str, value: u64) {
    debug_assert!(!name.is_empty() && all(name.as_bytes(), is_token), "{name:?} is not a field name");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    number(out, value);
    out.extend_from_slice(LINE_END);
}

/// Writes the blank line.
pub fn head_end(out: &mut Vec<u8>) {
    out.extend_from_slice(LINE_END);
}

/// Writes one chunk with its framing; nothing if `data` is empty, which would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        chunk_prefix(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(LINE_END);
    }
}

/// Writes the size line of a chunk; the caller then sends its `length` bytes and `LINE_END`. Writes nothing for zero;
/// the caller must send nothing then.
pub fn chunk_prefix(out: &mut Vec<u8>, length: usize) {
    if length == 0 {
        return;
    }
    let digit_count = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digit_count).rev() {
        out.push(hex_digit((length >> (place * 4)) as u8 & 0xF));
    }
    out.extend_from_slice(LINE_END);
}

/// `unix_seconds` as an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7). Times after the year 9999 are
/// clamped to its last second: the format has four digits.
pub fn date(unix_seconds: u64) -> [u8; DATE_BYTES] {
    const LAST_SECOND: u64 = 253_402_300_799;
    const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let weekday = (days % 7) as usize * 3;
    text[..3].copy_from_slice(&WEEKDAYS[weekday..weekday + 3]);
    text[5..7].copy_from_slice(&two_digits(day));
    let month = (month as usize - 1) * 3;
    text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
    text[12..14].copy_from_slice(&two_digits(year / 100));
    text[14..16].copy_from_slice(&two_digits(year % 100));
    text[17..19].copy_from_slice(&two_digits(second_of_day / 3600));
    text[20..22].copy_from_slice(&two_digits(second_of_day / 60 % 60));
    text[23..25].copy_from_slice(&two_digits(second_of_day % 60));
    text
}

/// Year, month and day of day `days` after 1970-01-01. Uses years that begin on 1 March, so that the leap day comes
/// last, and eras of 400 years, after which the calendar repeats.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Checks every byte, in blocks: the common case is that all are good.
fn all(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, &byte| all & good(byte))
}

/// Writes a number in decimal.
pub fn number(out: &mut Vec<u8>, number: u64) {
    if number < 100 {
        // Most are times in seconds.
        if number >= 10 {
            out.push(b'0' + (number / 10) as u8);
        }
        return out.push(b'0' + (number % 10) as u8);
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' - 10 + nibble,
    }
}

/// The registered reason phrase (RFC 9110 15, RFC 6585), or an empty one: the space before it is mandatory.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}
