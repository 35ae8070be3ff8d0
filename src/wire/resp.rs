//! The protocol of Redis: commands out, replies in (RESP2; the reply types of RESP3 are not asked for). Replies may come in any
//! pieces; what is not one ends the connection.

use super::Span;

/// A reply, whose text stands in the buffer it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(Span),
    /// `-ERR ...`
    Error(Span),
    Integer(i64),
    Bulk(Span),
    /// A bulk or an array that is not there.
    Nothing,
    Array(Vec<Reply>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespFault {
    #[error("no reply of Redis")]
    Malformed,
    #[error("larger than the bound on replies")]
    TooLarge,
}

/// Longest line: a status, an error, or a number.
const LINE_BYTES: usize = 64 << 10;
/// Most elements of an array where nothing else is said, and how deep arrays may nest: far beyond what is asked for.
const ELEMENTS: usize = 1024;
const DEPTH: usize = 4;

/// Appends a command.
pub fn command(parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    let mut head = |kind: u8, count: usize, out: &mut Vec<u8>| {
        out.push(kind);
        out.extend_from_slice(number.format(count).as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    head(b'*', parts.len(), out);
    for part in parts {
        head(b'$', part.len(), out);
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// The reply at the start of `input`, and its length; none if it is not here whole. `most_bytes` bounds all of it. Errors: what
/// is there is no reply.
pub fn reply(input: &[u8], most_bytes: usize) -> Result<Option<(Reply, usize)>, RespFault> {
    long_reply(input, most_bytes, ELEMENTS)
}

/// As [`reply`], where arrays may have up to `elements`.
pub fn long_reply(input: &[u8], most_bytes: usize, elements: usize) -> Result<Option<(Reply, usize)>, RespFault> {
    let mut at = 0;
    match parse(input, &mut at, Bounds { most_bytes, elements }, DEPTH) {
        Ok(reply) => Ok(Some((reply, at))),
        Err(Stop::Short) if input.len() > most_bytes => Err(RespFault::TooLarge),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    most_bytes: usize,
    elements: usize,
}

enum Stop {
    Short,
    Fault(RespFault),
}

fn parse(input: &[u8], at: &mut usize, bounds: Bounds, depth: usize) -> Result<Reply, Stop> {
    let malformed = Stop::Fault(RespFault::Malformed);
    let kind = *input.get(*at).ok_or(Stop::Short)?;
    if !matches!(kind, b'+' | b'-' | b':' | b'$' | b'*') {
        return Err(malformed);
    }
    let rest = &input[*at + 1..];
    let line_end = memchr::memchr(b'\r', &rest[..rest.len().min(LINE_BYTES)]);
    let length = match line_end {
        Some(length) => length,
        None if rest.len() >= LINE_BYTES => return Err(malformed),
        None => return Err(Stop::Short),
    };
    match rest.get(length + 1) {
        Some(b'\n') => {}
        Some(_) => return Err(malformed),
        None => return Err(Stop::Short),
    }
    let line = Span::new(*at + 1, *at + 1 + length);
    *at += 1 + length + 2;
    let number = || number(line.of(input)).ok_or(Stop::Fault(RespFault::Malformed));
    Ok(match kind {
        b'+' => Reply::Status(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number()?),
        b'$' => match number()? {
            -1 => Reply::Nothing,
            length => {
                let length = usize::try_from(length).map_err(|_| Stop::Fault(RespFault::Malformed))?;
                if length > bounds.most_bytes {
                    return Err(Stop::Fault(RespFault::TooLarge));
                }
                let end = *at + length;
                match input.get(end..end + 2) {
                    Some(b"\r\n") => {}
                    Some(_) => return Err(malformed),
                    None => return Err(Stop::Short),
                }
                let bulk = Span::new(*at, end);
                *at = end + 2;
                Reply::Bulk(bulk)
            }
        },
        _ => match number()? {
            -1 => Reply::Nothing,
            count => {
                let count = usize::try_from(count).map_err(|_| Stop::Fault(RespFault::Malformed))?;
                if count > bounds.elements || depth == 0 {
                    return Err(malformed);
                }
                let mut elements = Vec::with_capacity(count.min(16));
                for _ in 0..count {
                    elements.push(parse(input, at, bounds, depth - 1)?);
                }
                Reply::Array(elements)
            }
        },
    })
}

fn number(line: &[u8]) -> Option<i64> {
    // `parse` would accept a plus sign.
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    #[test]
    fn commands_are_arrays_of_bulks() {
        let mut out = Vec::new();
        command(&[b"SET", b"k", b"a\r\nb"], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n");
        // A command reads back as its parts.
        let (reply, length) = super::reply(&out, MOST).unwrap().unwrap();
        assert_eq!(length, out.len());
        let Reply::Array(parts) = reply else { panic!("{reply:?}") };
        let text = |part: &Reply| match part {
            Reply::Bulk(span) => span.of(&out).to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(parts.iter().map(text).collect::<Vec<_>>(), [&b"SET"[..], b"k", b"a\r\nb"]);
    }

    #[test]
    fn replies_come_in_any_pieces() {
        let input = b"+OK\r\n-ERR no\r\n:-42\r\n$5\r\nab\r\nc\r\n$-1\r\n*3\r\n$1\r\nx\r\n$-1\r\n*1\r\n:7\r\n$0\r\n\r\n";
        let mut at = 0;
        let mut seen = Vec::new();
        while at < input.len() {
            let (reply, length) = super::reply(&input[at..], MOST).unwrap().unwrap();
            for cut in 0..length {
                assert_eq!(super::reply(&input[at..at + cut], MOST), Ok(None), "cut at {cut} of {reply:?}");
            }
            seen.push(reply);
            at += length;
        }
        assert_eq!(seen[2..4], [Reply::Integer(-42), Reply::Bulk(Span::new(4, 9))]);
        assert!(matches!(seen[4], Reply::Nothing));
        assert!(matches!(&seen[5], Reply::Array(parts) if parts.len() == 3));
        assert_eq!(seen.len(), 7);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bad in [
            "HTTP/1.1 400 Bad\r\n",
            "$x\r\n",
            "$+1\r\na\r\n",
            "$-2\r\n",
            "$1\r\nab\r\n",
            "*-7\r\n",
            "*9999\r\n",
            "+a\rb",
            ":\r\n",
        ] {
            assert_eq!(reply(bad.as_bytes(), MOST), Err(RespFault::Malformed), "{bad:?}");
        }
        let deep = "*1\r\n".repeat(DEPTH + 2);
        assert_eq!(reply(deep.as_bytes(), MOST), Err(RespFault::Malformed));
        assert_eq!(reply(b"$100\r\n", 99), Err(RespFault::TooLarge));
        let long = format!("+{}", "a".repeat(LINE_BYTES));
        assert_eq!(reply(long.as_bytes(), MOST), Err(RespFault::Malformed));
    }
}
