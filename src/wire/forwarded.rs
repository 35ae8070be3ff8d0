//! What proxies say of the client in a request's head: `X-Forwarded-For`, and `Forwarded` (RFC 7239). Each proxy adds an element on
//! the right, and only what trusted ones have added is to be believed. Decides nothing of who is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The field that the trusted proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    XForwardedFor,
    Forwarded,
}

/// The client: from the right, the first address that is no trusted proxy's, or the last one before something that is no
/// address. `values` are the field's values in their order. `None`: nothing is said.
pub fn client<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    form: Form,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut found = None;
    for value in values {
        let mut rest = value;
        while !rest.is_empty() {
            let (element, behind) = cut(rest, b',', form);
            rest = behind;
            let element = element.trim_ascii();
            // An empty element is none (RFC 9110 5.6.1).
            if element.is_empty() {
                continue;
            }
            let address = match form {
                Form::XForwardedFor => node(element),
                Form::Forwarded => of_pairs(element),
            };
            found = match (address, found) {
                // What stands before says nothing.
                (None, _) => None,
                // Whoever it heard of stays.
                (Some(address), Some(found)) if is_trusted(address) => Some(found),
                (Some(address), _) => Some(address),
            };
        }
    }
    found
}

/// What stands before the next `separator`, and behind it. Quoted strings are passed over (RFC 9110 5.6.4).
fn cut(text: &[u8], separator: u8, form: Form) -> (&[u8], &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if form == Form::Forwarded => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => return (&text[..place], &text[place + 1..]),
            _ => {}
        }
    }
    (text, &[])
}

/// The only `for` of an element (RFC 7239 4).
fn of_pairs(element: &[u8]) -> Option<IpAddr> {
    let (mut rest, mut found) = (element, None);
    while !rest.is_empty() {
        let (pair, behind) = cut(rest, b';', Form::Forwarded);
        rest = behind;
        let Some(at) = memchr::memchr(b'=', pair) else { continue };
        if !pair[..at].trim_ascii().eq_ignore_ascii_case(b"for") {
            continue;
        }
        let value = pair[at + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        if found.replace(node(value)?).is_some() {
            return None;
        }
    }
    found
}

/// An address, alone or with a port (RFC 7239 6).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_port).map(|address| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    port.parse::<u16>().ok()?;
    address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(form: Form, values: &[&str]) -> Option<String> {
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.") || address.to_string() == "fd00::1";
        client(values.iter().map(|value| value.as_bytes()), form, is_trusted).map(|address| address.to_string())
    }

    #[test]
    fn what_trusted_proxies_have_added_counts_and_nothing_before() {
        for (values, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["192.0.2.1, 10.0.0.1"], Some("192.0.2.1")),
            // The client's own claim stands on the left.
            (&["127.0.0.1, 192.0.2.1, 10.0.0.1,10.0.0.2"], Some("192.0.2.1")),
            (&["127.0.0.1", "192.0.2.1", "10.0.0.1"], Some("192.0.2.1")),
            (&["10.0.0.3, 10.0.0.1"], Some("10.0.0.3")),
            (&["192.0.2.1, nonsense, 10.0.0.1"], Some("10.0.0.1")),
            (&["192.0.2.1, 10.0.0.1, nonsense"], None),
            (&["192.0.2.1:4711, 10.0.0.1:80"], Some("192.0.2.1")),
            (&["2001:db8::7, fd00::1"], Some("2001:db8::7")),
            (&["[2001:db8::7]:443"], Some("2001:db8::7")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&[" ,, 192.0.2.1 ,"], Some("192.0.2.1")),
            (&["192.0.2.1:x"], None),
            (&["[2001:db8::7"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(says(Form::XForwardedFor, values).as_deref(), expected, "{values:?}");
        }
        for (values, expected) in [
            (&["for=192.0.2.1"][..], Some("192.0.2.1")),
            (&["for=127.0.0.1, For=192.0.2.1;proto=https;by=10.0.0.9, for=10.0.0.1"], Some("192.0.2.1")),
            (&["for=\"[2001:db8::7]:443\"", "for=10.0.0.1"], Some("2001:db8::7")),
            (&["for=192.0.2.1;host=\"a,b;for=10.0.0.1\\\"\""], Some("192.0.2.1")),
            (&["for=192.0.2.1, for=unknown, for=10.0.0.1"], Some("10.0.0.1")),
            (&["for=192.0.2.1, for=_hidden"], None),
            (&["for=192.0.2.1, proto=http"], None),
            (&["for=192.0.2.1;for=192.0.2.2"], None),
            (&["192.0.2.1"], None),
        ] {
            assert_eq!(says(Form::Forwarded, values).as_deref(), expected, "{values:?}");
        }
    }
}
