//! The correlation id of a request.

use crate::limits::REQUEST_ID_BYTES;
use crate::net::random_u64;
use crate::wire::hex::hex;

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
