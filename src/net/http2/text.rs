//! Header fields of HTTP/2 as the text of HTTP/1.1, in both directions.

use http::HeaderMap;

/// Connection-specific fields are invalid in HTTP/2 (RFC 9113 8.2.2), but would take effect as text.
const OF_CONNECTIONS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whether a field is about the connection and has no place in HTTP/2.
pub(super) fn is_of_connection(name: &str) -> bool {
    OF_CONNECTIONS.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Writes `fields` as lines, without those of connections and `but`. `None`: one has a value that text cannot carry. The
/// types of names and values allow only valid bytes, but somebody will parse this text, so it is checked again.
pub(super) fn write_fields(fields: &HeaderMap, but: &[&str], text: &mut Vec<u8>) -> Option<()> {
    for (name, value) in fields {
        if is_of_connection(name.as_str()) || but.contains(&name.as_str()) {
            continue;
        }
        let value = value.as_bytes();
        // RFC 9113 8.2.1 and RFC 9110 5.5.
        if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return None;
        }
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    Some(())
}
