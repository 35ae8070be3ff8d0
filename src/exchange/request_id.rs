//! The correlation id of a request.

use crate::limits::REQUEST_ID_BYTES;
use crate::net::random_u64;

/// The correlation id of a request: the client's, or one made here.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; REQUEST_ID_BYTES],
    length: u8,
}

impl RequestId {
    /// Takes over a client's id if it is visible ASCII and not too long; else makes one.
    pub fn of(sent: Option<&[u8]>) -> RequestId {
        let mut id = RequestId { bytes: [0; REQUEST_ID_BYTES], length: 0 };
        match sent {
            Some(sent) if (1..=REQUEST_ID_BYTES).contains(&sent.len()) && sent.iter().all(u8::is_ascii_graphic) => {
                id.bytes[..sent.len()].copy_from_slice(sent);
                id.length = sent.len() as u8;
            }
            _ => {
                let drawn = [random_u64(), random_u64()];
                let halves = drawn.into_iter().flat_map(|bits| [(bits >> 32) as u32, bits as u32]);
                for (digits, half) in id.bytes.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
                    *digits = hex(half);
                }
                id.length = 32;
            }
        }
        id
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The eight digits of a number, all at once.
fn hex(bits: u32) -> [u8; 8] {
    let mut digits = u64::from(bits);
    digits = (digits << 16 | digits) & 0x0000_FFFF_0000_FFFF;
    digits = (digits << 8 | digits) & 0x00FF_00FF_00FF_00FF;
    digits = (digits << 4 | digits) & 0x0F0F_0F0F_0F0F_0F0F;
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn digits_are_those_of_the_number() {
        for bits in [0, 1, 9, 10, 0x1234_5678, 0x9abc_def0, 0xdead_beef, u32::MAX, 0xa0a0_0909] {
            assert_eq!(hex(bits).to_vec(), format!("{bits:08x}").into_bytes());
        }
    }
}
