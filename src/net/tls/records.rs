//! Where the records of a session begin and end, followed from outside.

/// Position of the received bytes within the records of RFC 8446 5.1.
#[derive(Default)]
pub struct Records {
    /// Bytes of the next header: type, version and length.
    header: [u8; 5],
    have: usize,
    /// Remaining bytes of the body.
    left: usize,
}

impl Records {
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == self.header.len() {
                self.have = 0;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
    }

    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    #[test]
    fn records_are_followed_however_they_are_cut() {
        let stream: Vec<u8> = [&[22, 3, 3, 0, 2, 9, 9][..], &[23, 3, 3, 0, 0], &[23, 3, 3, 1, 1], &[7; 257]].concat();
        let ends = [0, 7, 12, stream.len()];
        for cut in 0..=stream.len() {
            for second in cut..=stream.len() {
                let mut records = Records::default();
                for (part, at) in [(&stream[..cut], cut), (&stream[cut..second], second)] {
                    records.advance(part);
                    assert_eq!(records.is_between(), ends.contains(&at), "cut at {cut} and {second}");
                }
            }
        }
    }
}
