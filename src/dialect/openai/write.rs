//! Bodies that the gateway itself writes in OpenAI's format: errors and the list of models. Appends to the caller's
//! buffer; must never write a byte of a message unescaped.

use crate::dialect::facts::PublicError;
use crate::wire::json::write_json_string;

const SEQUENCE_NUMBER: &[u8] = br#""sequence_number""#;

/// Appends `{"error":{...}}`.
pub fn write_error(out: &mut Vec<u8>, error: &PublicError<'_>) {
    out.extend_from_slice(br#"{"error":{"message":"#);
    write_json_string(out, error.message);
    out.extend_from_slice(br#","type":"#);
    write_json_string(out, error.kind);
    out.extend_from_slice(br#","param":"#);
    write_optional(out, error.param);
    out.extend_from_slice(br#","code":"#);
    write_optional(out, error.code);
    out.extend_from_slice(b"}}");
}

/// Appends the error as an event, for a stream that has begun. No terminal event follows it.
pub fn write_error_event(out: &mut Vec<u8>, error: &PublicError<'_>) {
    out.extend_from_slice(b"data: ");
    write_error(out, error);
    out.extend_from_slice(b"\n\n");
}

/// As `write_error_event`, in a stream of `/v1/responses`. Its events are numbered from 0; `before` ends with the last of them.
pub fn write_response_error_event(out: &mut Vec<u8>, error: &PublicError<'_>, before: &[u8]) {
    out.extend_from_slice(
        br#"event: error
data: {"type":"error","code":"#,
    );
    write_optional(out, error.code);
    out.extend_from_slice(br#","message":"#);
    write_json_string(out, error.message);
    out.extend_from_slice(br#","param":"#);
    write_optional(out, error.param);
    out.extend_from_slice(br#","sequence_number":"#);
    out.extend_from_slice(itoa::Buffer::new().format(next_number(before)).as_bytes());
    out.extend_from_slice(b"}\n\n");
}

/// The number behind that of the last event in `stream`. Quotes inside JSON strings are escaped, so that only a member's name
/// can look like one.
fn next_number(stream: &[u8]) -> u64 {
    let Some(at) = memchr::memmem::rfind(stream, SEQUENCE_NUMBER) else { return 0 };
    let value = stream[at + SEQUENCE_NUMBER.len()..].trim_ascii_start();
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
    let digits = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    let number = str::from_utf8(&value[..digits]).ok().and_then(|digits| digits.parse::<u64>().ok());
    number.map_or(0, |number| number.saturating_add(1))
}

/// Appends the response body of `GET /v1/models`. `created` is in seconds since 1970.
pub fn write_models<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>, created: u64) {
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (place, name) in names.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_model(out, name, created);
    }
    out.extend_from_slice(b"]}");
}

/// Appends the response body of `GET /v1/models/NAME`.
pub fn write_model(out: &mut Vec<u8>, name: &str, created: u64) {
    out.extend_from_slice(br#"{"id":"#);
    write_json_string(out, name);
    out.extend_from_slice(br#","object":"model","created":"#);
    out.extend_from_slice(itoa::Buffer::new().format(created).as_bytes());
    out.extend_from_slice(br#","owned_by":"ringway"}"#);
}

fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_json_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}
