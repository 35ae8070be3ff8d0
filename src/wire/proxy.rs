//! The PROXY protocol, versions 1 and 2: what a proxy says of its client in front of a connection's first byte. As HAProxy's
//! proxy-protocol.txt has it; the sections of that text are cited.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Begins a header of version 2 (2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Longest header of version 1, its line end included (2.1).
const LINE_BYTES: usize = 107;
/// Longest header of version 2 that is taken. Addresses have 216 bytes at most; certificates of clients in further fields reach
/// some thousand.
const HEADER_BYTES: usize = 4 << 10;

/// How far a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// All that has come belongs to it, and more has to.
    Partial,
    /// It has so many bytes; what follows is the client's. Without an address the connection is the proxy's own.
    Complete { length: usize, client: Option<IpAddr> },
}

/// This is no such header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// Reads the header at the beginning of `bytes`.
pub fn header(bytes: &[u8]) -> Result<Header, NoHeader> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] && !bytes.is_empty() {
        return version_2(bytes);
    }
    version_1(bytes)
}

fn version_1(bytes: &[u8]) -> Result<Header, NoHeader> {
    const BEGIN: &[u8] = b"PROXY ";
    let known = bytes.len().min(BEGIN.len());
    if bytes[..known] != BEGIN[..known] {
        return Err(NoHeader);
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES)]) else {
        return if bytes.len() < LINE_BYTES { Ok(Header::Partial) } else { Err(NoHeader) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(NoHeader)?;
    let line = std::str::from_utf8(&line[BEGIN.len()..]).map_err(|_| NoHeader)?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        // Whatever follows is not looked at.
        ["UNKNOWN", ..] => None,
        [family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let [source, destination] = [source, destination].map(str::parse::<IpAddr>);
            let (source, destination) = (source.map_err(|_| NoHeader)?, destination.map_err(|_| NoHeader)?);
            let is_of_family = |address: IpAddr| address.is_ipv4() == (family == "TCP4");
            let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
            if ![source, destination].into_iter().all(is_of_family)
                || ![source_port, destination_port].into_iter().all(is_port)
            {
                return Err(NoHeader);
            }
            Some(source)
        }
        _ => return Err(NoHeader),
    };
    Ok(Header::Complete { length: end + 1, client })
}

fn version_2(bytes: &[u8]) -> Result<Header, NoHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(Header::Partial) };
    let [version_and_command, family] = [fixed[12], fixed[13]];
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version_and_command >> 4 != 2 || FIXED_BYTES + length > HEADER_BYTES {
        return Err(NoHeader);
    }
    let Some(rest) = rest.get(..length) else { return Ok(Header::Partial) };
    let client = match (version_and_command & 15, family) {
        // A check of the proxy's own.
        (0, _) => None,
        (1, 0x11 | 0x12) => {
            Some(IpAddr::V4(Ipv4Addr::from(*rest.get(..12).ok_or(NoHeader)?.first_chunk().ok_or(NoHeader)?)))
        }
        (1, 0x21 | 0x22) => {
            Some(IpAddr::V6(Ipv6Addr::from(*rest.get(..36).ok_or(NoHeader)?.first_chunk().ok_or(NoHeader)?)))
        }
        // Unix sockets, and what is not specified.
        (1, _) => None,
        _ => return Err(NoHeader),
    };
    Ok(Header::Complete { length: FIXED_BYTES + length, client })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(bytes: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        for length in 0..bytes.len() {
            assert_eq!(header(&bytes[..length]), Ok(Header::Partial), "cut at {length}");
        }
        let complete = Ok(Header::Complete { length: bytes.len(), client });
        assert_eq!(header(bytes), complete);
        assert_eq!(header(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), complete);
    }

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[0x20 | command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn the_first_version_is_a_line() {
        is(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Some("192.0.2.1"));
        is(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("2001:db8::1"));
        is(b"PROXY UNKNOWN\r\n", None);
        is(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None);
        for other in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        ] {
            assert_eq!(header(other.as_bytes()), Err(NoHeader), "{other}");
        }
        assert_eq!(header(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()), Err(NoHeader), "without an end");
    }

    #[test]
    fn the_second_version_is_binary() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0, 1, 0, 2];
        is(&second(1, 0x11, &four), Some("192.0.2.1"));
        is(&second(1, 0x11, &[&four[..], &[4, 0, 1, 9]].concat()), Some("192.0.2.1"));
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        is(&second(1, 0x21, &six), Some("2001:db8::"));
        is(&second(1, 0x31, &[0; 216]), None);
        is(&second(1, 0, &[]), None);
        is(&second(0, 0x11, &four), None);
        for other in [second(1, 0x11, &four[..11]), second(1, 0x21, &six[..35]), second(2, 0x11, &four)] {
            assert_eq!(header(&other), Err(NoHeader), "{other:?}");
        }
        let mut first = second(1, 0x11, &four);
        first[12] = 0x11;
        assert_eq!(header(&first), Err(NoHeader), "version 1");
        assert_eq!(header(&second(1, 0, &[0; 5000])[..16]), Err(NoHeader), "too long, before it is here");
    }
}
