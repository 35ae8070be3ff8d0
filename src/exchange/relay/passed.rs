//! Which fields of a backend's response head reach the client. All others stay here: framing, connection, cookies, and
//! whatever would tell where the backend is, or how much of its provider's limits is left, which all tenants share.

use std::borrow::Cow;

use crate::config::snapshot::{ApiPath, Backend};
use crate::wire::http1::{Fields, ResponseHead, encode};

/// Fields that reach the client as they came.
const PASSED: [&str; 10] = [
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-range",
    "etag",
    "last-modified",
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
];

const PASSED_MARKS: u64 = Fields::marks(&PASSED);

/// Writes the fields of `head` that pass, as header lines.
pub fn fields(head: &ResponseHead, bytes: &[u8], backend: &Backend, out: &mut Vec<u8>) {
    if head.fields.may_have(PASSED_MARKS) {
        for name in PASSED {
            if let Some(value) = head.fields.get(bytes, name) {
                encode::field(out, name, value);
            }
        }
    }
    if let Some(value) = head.fields.get(bytes, "location") {
        encode::field(out, "location", &location(value, &backend.authority, &backend.paths));
    }
}

/// Where a redirect leads, for the client (RFC 9110 10.2.2): the path at this gateway, if it leads to the backend itself;
/// else, such as to signed storage, as it is.
fn location<'a>(value: &'a [u8], authority: &str, paths: &ApiPath) -> Cow<'a, [u8]> {
    let rest = match value.windows(2).position(|pair| pair == b"//") {
        Some(at) if at == 0 || value[at - 1] == b':' && is_scheme(&value[..at - 1]) => &value[at + 2..],
        // A path, or something relative to the one that was asked for.
        _ => return paths.back(value),
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let host = rest[..end].rsplit(|&byte| byte == b'@').next().unwrap_or(&[]);
    if !is_same(host, authority.as_bytes()) {
        return Cow::Borrowed(value);
    }
    match &rest[end..] {
        // Nothing, or a query of the root.
        target if !target.starts_with(b"/") => Cow::Borrowed(b"/"),
        target => paths.back(target),
    }
}

/// RFC 3986 3.1.
fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// Whether two authorities are of one server. A port that is left out is its scheme's, and a backend that is reached in plain
/// text may send to its secure port.
fn is_same(host: &[u8], authority: &[u8]) -> bool {
    let (name, port) = split_port(host);
    let (own_name, own_port) = split_port(authority);
    let is_usual = |port: &[u8]| matches!(port, b"" | b"80" | b"443");
    name.eq_ignore_ascii_case(own_name) && (port == own_port || is_usual(port) && is_usual(own_port))
}

fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    match authority.iter().rposition(|&byte| byte == b':') {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) => (&authority[..at], &authority[at + 1..]),
        _ => (authority, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiPath, location};

    #[track_caller]
    fn at(value: &str, authority: &str, base_path: &str, expected: &str) {
        let paths = ApiPath::new(base_path.to_owned(), "/v1");
        let got = location(value.as_bytes(), authority, &paths);
        assert_eq!(std::str::from_utf8(&got).unwrap(), expected, "{value} at {authority}{base_path}");
    }

    #[test]
    fn what_leads_to_the_backend_leads_to_the_gateway() {
        at("http://10.0.0.1:8000/v1/files/a?b=c", "10.0.0.1:8000", "", "/v1/files/a?b=c");
        at("//10.0.0.1:8000/v1/files", "10.0.0.1:8000", "", "/v1/files");
        at("HTTPS://Host/api/v1/files", "host", "/api", "/v1/files");
        at("https://host:443/v1/x", "host", "", "/v1/x");
        at("https://host/v1/x", "host:443", "", "/v1/x");
        at("https://host/v1/x", "host:80", "", "/v1/x");
        at("http://user:secret@host/v1/x", "host", "", "/v1/x");
        at("http://[::1]:8000/v1/x", "[::1]:8000", "", "/v1/x");
        at("http://host", "host", "", "/");
        at("http://host?x", "host", "", "/");
        at("/api/v1/x", "host", "/api", "/v1/x");
        at("/apiary/x", "host", "/api", "/apiary/x");
        at("content?x=//y", "host", "", "content?x=//y");
    }

    #[test]
    fn what_leads_elsewhere_is_left_as_it_is() {
        for value in [
            "https://storage.example/bucket/a?X-Amz-Signature=%2F",
            "http://host:9000/a",
            "http://hostx/a",
            "http://a.host/a",
            "https://storage.example/?u=http://host/",
            "mailto:someone@host",
            "",
        ] {
            at(value, "host", "", value);
        }
        at("http://127.0.0.1:2/a", "127.0.0.1:1", "", "http://127.0.0.1:2/a");
    }
}
