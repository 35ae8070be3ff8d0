//! The `traceparent` field of W3C Trace Context (Level 2): which trace a request belongs to, who called, and whether the caller
//! records it. Pure; values are fixed-size.

use data_encoding::HEXLOWER;

/// Bytes of the field as version 00 has it.
pub const LENGTH: usize = 55;

/// Bits of `flags`: the caller records the trace; the last seven bytes of the trace id are random.
pub const SAMPLED: u8 = 1;
pub const RANDOM: u8 = 2;

/// A valid field. Neither id is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    pub parent_id: [u8; 8],
    pub flags: u8,
}

impl TraceParent {
    /// Reads a field. None: it is to be treated as absent (W3C Trace Context 4.3).
    pub fn parse(field: &[u8]) -> Option<TraceParent> {
        let (head, rest) = field.split_at_checked(LENGTH)?;
        let version = hex::<1>(&head[..2])?[0];
        // 3.2.4: of a later version this much is understood, and what follows begins with a dash.
        if version == 0xff || version == 0 && !rest.is_empty() || rest.first().is_some_and(|byte| *byte != b'-') {
            return None;
        }
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let (trace_id, parent_id) = (hex::<16>(&head[3..35])?, hex::<8>(&head[36..52])?);
        let flags = hex::<1>(&head[53..])?[0];
        if trace_id == [0; 16] || parent_id == [0; 8] {
            return None;
        }
        // 4.3: of a later version no other flags are understood.
        let known = if version == 0 { flags & (SAMPLED | RANDOM) } else { flags & SAMPLED };
        Some(TraceParent { trace_id, parent_id, flags: known })
    }

    /// The field, in version 00.
    pub fn write(&self) -> [u8; LENGTH] {
        let mut field = *b"00-00000000000000000000000000000000-0000000000000000-00";
        HEXLOWER.encode_mut(&self.trace_id, &mut field[3..35]);
        HEXLOWER.encode_mut(&self.parent_id, &mut field[36..52]);
        HEXLOWER.encode_mut(&[self.flags], &mut field[53..]);
        field
    }
}

/// 3.2.2: lower case only.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_field_is_read_and_written_as_it_came() {
        let read = TraceParent::parse(FIELD.as_bytes()).unwrap();
        assert_eq!((read.trace_id[0], read.parent_id[7], read.flags), (0x0a, 0x31, SAMPLED));
        assert_eq!(&read.write(), FIELD.as_bytes());
        let flags = |field: &str| TraceParent::parse(field.as_bytes()).map(|read| read.flags);
        assert_eq!(flags(&FIELD.replace("-01", "-03")), Some(SAMPLED | RANDOM));
        assert_eq!(flags(&FIELD.replace("-01", "-fe")), Some(RANDOM));
        assert_eq!(flags(&FIELD.replace("00-0", "cc-0")), Some(SAMPLED), "a later version");
        assert_eq!(flags(&(FIELD.replace("00-0", "cc-0") + "-what-the-future-will-be-like")), Some(SAMPLED));
    }

    #[test]
    fn what_is_no_field_is_absent() {
        let with = |place: usize, byte: &str| {
            let mut field = FIELD.to_owned();
            field.replace_range(place..place + byte.len(), byte);
            field
        };
        let zero_trace = FIELD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let zero_parent = FIELD.replace("b7ad6b7169203331", &"0".repeat(16));
        let bad = [zero_trace, zero_parent, with(0, "ff"), with(3, "A"), with(2, "_"), with(35, " "), with(53, "0g")];
        let further = [FIELD.to_owned() + "-more", FIELD.replace("00-0", "cc-0") + ".more", FIELD[..54].to_owned()];
        for field in bad.iter().chain(&further).map(String::as_str).chain(["", "00", "garbage"]) {
            assert_eq!(TraceParent::parse(field.as_bytes()), None, "{field}");
        }
        for cut in 0..LENGTH {
            assert_eq!(TraceParent::parse(&FIELD.as_bytes()[..cut]), None);
        }
    }
}
