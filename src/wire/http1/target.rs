//! The grammar of request targets and of the Host field, restricted to what clients of models send. Pure functions over
//! bytes; never decodes or normalizes, since the target is forwarded as received.

/// The parts of an accepted request target, as byte offsets into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `host[:port]` of an absolute form; `None` in origin and asterisk form.
    pub authority: Option<(usize, usize)>,
    /// Start of path and query; the end of the target if an absolute form has none.
    pub path_start: usize,
}

/// Whether the asterisk form is allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asterisk {
    Allowed,
    Refused,
}

/// Splits a target: origin form, absolute form with http or https, or `*` (RFC 9112 3.2). `None` if it is none of them
/// or contains a byte that is not allowed.
pub(super) fn split(target: &[u8], asterisk: Asterisk) -> Option<Target> {
    if !target.iter().all(|&byte| is_target(byte)) {
        return None;
    }
    match target {
        [b'*'] if asterisk == Asterisk::Allowed => Some(Target { authority: None, path_start: 0 }),
        [b'/', ..] => Some(Target { authority: None, path_start: 0 }),
        _ => {
            let start = scheme_length(target)?;
            let rest = &target[start..];
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let end = start + length;
            is_host(&target[start..end]).then_some(Target { authority: Some((start, end)), path_start: end })
        }
    }
}

/// Schemes are case-insensitive (RFC 3986 3.1).
fn scheme_length(target: &[u8]) -> Option<usize> {
    let starts_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    [&b"http://"[..], b"https://"].into_iter().find(|scheme| starts_with(scheme)).map(<[u8]>::len)
}

/// Visible ASCII except `#`, and except characters outside RFC 3986 2 that other parsers repair or cut at. Brackets,
/// braces and bars are allowed, because clients send them unencoded in queries.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`')
}

/// `uri-host [ ":" port ]` (RFC 9110 7.2), without user information, percent-encoding and sub-delimiters, which
/// resolvable names do not contain. An empty host is refused (RFC 9110 4.2.1).
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name_is_good, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (address, port) = (&rest[..end], &rest[end + 1..]);
            let good = address.len() >= 2
                && address.contains(&b':')
                && address.iter().all(|&byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            (good, port)
        }
        _ => {
            let end = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
            let (name, port) = host.split_at(end);
            let good = !name.is_empty()
                && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
            (good, port)
        }
    };
    name_is_good && (port.is_empty() || is_port(port))
}

/// A colon and one to five digits that fit 16 bits.
fn is_port(port: &[u8]) -> bool {
    let [b':', digits @ ..] = port else { return false };
    (1..=5).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0u32, |number, byte| number * 10 + u32::from(byte - b'0')) <= u32::from(u16::MAX)
}
