//! Where the frames of a WebSocket end (RFC 6455 5.2), as they pass by: one of our own may stand between two, and nowhere else.
//! State: one `Frames` for each direction. Looks at headers only; what is in a frame means nothing here.

/// Why a server ends a WebSocket (RFC 6455 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// It goes away: the client may open another one.
    GoingAway = 1001,
    /// What is behind it broke (registered by the IANA).
    BadGateway = 1014,
}

/// Longest header: two bytes, a length of eight, a mask of four.
const HEADER_BYTES: usize = 14;
/// RFC 6455 5.5.1.
const CLOSE: u8 = 8;

/// Follows the frames of one direction.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_BYTES],
    /// So much of it has come.
    came: u8,
    /// Of the payload, what has not.
    left: u64,
    /// A close frame has begun: behind it comes nothing.
    has_close: bool,
}

impl Frames {
    /// `bytes` have passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            if self.left > 0 {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[usize::from(self.came)] = byte;
            self.came += 1;
            bytes = &bytes[1..];
            if usize::from(self.came) == self.header_length() {
                self.has_close |= self.header[0] & 15 == CLOSE;
                self.left = self.payload_length();
                self.came = 0;
            }
        }
    }

    /// Whether a close frame may come next.
    pub fn may_close(&self) -> bool {
        self.came == 0 && self.left == 0 && !self.has_close
    }

    fn header_length(&self) -> usize {
        if self.came < 2 {
            return 2;
        }
        let extended = match self.header[1] & 127 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 128 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.header;
        match self.header[1] & 127 {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            length => length.into(),
        }
    }
}

/// A server's close frame.
pub fn close(code: CloseCode) -> [u8; 4] {
    let [high, low] = (code as u16).to_be_bytes();
    [128 | CLOSE, 2, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, mask: bool, length: usize) -> Vec<u8> {
        let bit = if mask { 128 } else { 0 };
        let mut out = vec![128 | opcode];
        match length {
            0..126 => out.push(bit | length as u8),
            126..65_536 => {
                out.push(bit | 126);
                out.extend((length as u16).to_be_bytes());
            }
            _ => {
                out.push(bit | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(vec![0x88; length + if mask { 4 } else { 0 }]);
        out
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let lengths = [0, 1, 125, 126, 127, 300];
        let all: Vec<Vec<u8>> =
            lengths.iter().flat_map(|length| [frame(1, false, *length), frame(9, true, *length)]).collect();
        let ends: Vec<usize> = all
            .iter()
            .scan(0, |end, frame| {
                Some({
                    *end += frame.len();
                    *end
                })
            })
            .chain([0])
            .collect();
        let stream = all.concat();
        for cut in 0..=stream.len() {
            let mut frames = Frames::default();
            frames.advance(&stream[..cut]);
            assert_eq!(frames.may_close(), ends.contains(&cut), "cut at {cut}");
            frames.advance(&stream[cut..]);
            assert!(frames.may_close(), "cut at {cut}");
        }
        let mut frames = Frames::default();
        frames.advance(&frame(2, false, 70_000));
        assert!(frames.may_close());
        // One that is longer than anything ever is.
        frames.advance(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert!(!frames.may_close());
    }

    #[test]
    fn nothing_stands_behind_a_close() {
        let mut frames = Frames::default();
        frames.advance(&close(CloseCode::GoingAway));
        assert_eq!(close(CloseCode::BadGateway), [0x88, 2, 0x03, 0xf6]);
        assert!(!frames.may_close());
    }
}
