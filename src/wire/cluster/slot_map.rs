//! What Redis Cluster says of where keys are: slots, redirections, the map of slots. Follows the Redis Cluster specification.

use crate::wire::Span;
use crate::wire::resp::Reply;

/// Slots of a cluster (specification, "Key distribution model").
pub const SLOTS: u16 = 16_384;

/// The slot of a key: of its hash tag, if it has one that is not empty (specification, "Hash tags").
pub fn slot(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        memchr::memchr(b'}', rest).filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM (specification, appendix A).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Whether the other server has the slot from now on, or is only to be asked for this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Moved,
    /// The slot is on its way; the command is to follow an ASKING.
    Ask,
}

/// Another server has it. An empty `host` is that of the server which says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirection<'a> {
    pub kind: Kind,
    pub slot: u16,
    pub host: &'a str,
    pub port: u16,
}

impl Redirection<'_> {
    /// Reads `MOVED 3999 10.0.0.1:6381`. None: the error is another one.
    pub fn of(error: &[u8]) -> Option<Redirection<'_>> {
        let error = std::str::from_utf8(error).ok()?;
        let mut words = error.split(' ');
        let kind = match words.next()? {
            "MOVED" => Kind::Moved,
            "ASK" => Kind::Ask,
            _ => return None,
        };
        let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        // An address of IPv6 has no brackets here.
        let (host, port) = words.next()?.rsplit_once(':')?;
        Some(Redirection { kind, slot, host, port: port.parse().ok().filter(|port| *port > 0)? })
    }
}

/// Slots `first` to `last`, and their master. An empty `host` is that of the server which says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange<'a> {
    pub first: u16,
    pub last: u16,
    pub host: &'a str,
    pub port: u16,
}

/// Reads the reply to `CLUSTER SLOTS`. None: it is something else.
pub fn slots<'a>(reply: &Reply, text: &'a [u8]) -> Option<Vec<SlotRange<'a>>> {
    let Reply::Array(ranges) = reply else { return None };
    let number = |reply: &Reply| match reply {
        Reply::Integer(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let word = |span: &Span| std::str::from_utf8(span.of(text)).ok();
    ranges
        .iter()
        .map(|range| {
            let Reply::Array(range) = range else { return None };
            // Behind the master stand its replicas.
            let [first, last, Reply::Array(master), ..] = &range[..] else { return None };
            let (first, last) = (number(first)?, number(last)?);
            let (host, port) = match &master[..] {
                [Reply::Bulk(host), port, ..] => (word(host)?, number(port)?),
                [Reply::Nothing, port, ..] => ("", number(port)?),
                _ => return None,
            };
            // A server that knows no address of another says "?".
            let host = if host == "?" { "" } else { host };
            (first <= last && last < SLOTS && port > 0).then_some(SlotRange { first, last, host, port })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resp;

    #[test]
    fn slots_are_those_of_redis() {
        // The specification's check value, and `CLUSTER KEYSLOT` of a server for the others.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [
            ("foo", 12182),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
            ("{user1000}.following", 3443),
            ("", 0),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        // Examples of the specification: what is no tag, and which of several is one.
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn redirections_are_read() {
        let moved = Redirection { kind: Kind::Moved, slot: 3999, host: "127.0.0.1", port: 6381 };
        assert_eq!(Redirection::of(b"MOVED 3999 127.0.0.1:6381"), Some(moved));
        let ask = Redirection { kind: Kind::Ask, slot: 0, host: "2001:db8::1", port: 1 };
        assert_eq!(Redirection::of(b"ASK 0 2001:db8::1:1"), Some(ask));
        assert_eq!(Redirection::of(b"MOVED 1 :7").map(|to| (to.host, to.port)), Some(("", 7)));
        for other in
            ["", "ERR no", "MOVED", "MOVED 1", "MOVED 16384 h:1", "MOVED x h:1", "ASK 1 h", "ASK 1 h:0", "ask 1 h:1"]
        {
            assert_eq!(Redirection::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_map_is_read() {
        let read = |text: &str| {
            let (reply, length) = resp::reply(text.as_bytes(), 1 << 20).unwrap().unwrap();
            assert_eq!(length, text.len());
            let ranges = slots(&reply, text.as_bytes());
            ranges.map(|ranges| {
                ranges
                    .iter()
                    .map(|range| (range.first, range.last, range.host.to_owned(), range.port))
                    .collect::<Vec<_>>()
            })
        };
        // As Redis 7 has it: the identity, and a list of what else is known, behind each address.
        let node = |host: &str, port: u16| {
            format!("*4\r\n${}\r\n{host}\r\n:{port}\r\n$2\r\nid\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n", host.len())
        };
        let text = format!("*2\r\n*4\r\n:0\r\n:8191\r\n{}{}", node("10.0.0.1", 7), node("10.0.0.9", 7))
            + &format!("*3\r\n:8192\r\n:16383\r\n{}", node("", 8));
        let expected = vec![(0, 8191, "10.0.0.1".to_owned(), 7), (8192, 16383, String::new(), 8)];
        assert_eq!(read(&text), Some(expected));
        assert_eq!(read("*0\r\n"), Some(Vec::new()));
        for bad in [
            "+OK\r\n".to_owned(),
            "*1\r\n:1\r\n".to_owned(),
            "*1\r\n*2\r\n:0\r\n:1\r\n".to_owned(),
            format!("*1\r\n*3\r\n:0\r\n:16384\r\n{}", node("h", 1)),
            format!("*1\r\n*3\r\n:5\r\n:4\r\n{}", node("h", 1)),
            format!("*1\r\n*3\r\n:0\r\n:4\r\n{}", node("h", 0)),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
