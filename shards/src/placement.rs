//! Which core owns a fingerprint. No state: every core computes the same answer from the same core count.

use crate::{CoreId, Fingerprint};

/// The core that holds the entry and the flight of `fingerprint` on a node of `cores` data cores.
///
/// Multiply and shift instead of a remainder: one multiplication, and no bias for any core count. 0 cores is treated as
/// 1, so that the result is always a core.
pub const fn owner(fingerprint: &Fingerprint, cores: u16) -> CoreId {
    let cores = if cores == 0 { 1 } else { cores };
    // The product is below cores * 2^64, so its upper half is below `cores` and fits.
    CoreId(((fingerprint.prefix() as u128 * cores as u128) >> 64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_prefix(prefix: u64) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&prefix.to_be_bytes());
        Fingerprint(bytes)
    }

    #[test]
    fn edges_stay_inside() {
        for cores in [0, 1, 2, 3, 12, 255, u16::MAX] {
            assert_eq!(owner(&with_prefix(0), cores), CoreId(0));
            assert_eq!(owner(&with_prefix(u64::MAX), cores), CoreId(cores.max(1) - 1));
        }
    }

    #[test]
    fn shares_are_even() {
        // An odd multiplier spreads the prefixes evenly; real fingerprints are a hash and no worse.
        for cores in [1u16, 2, 3, 5, 12, 64] {
            let mut counts = alloc::vec![0u32; cores as usize];
            let asked = 20_000 * cores as u64;
            for i in 0..asked {
                counts[owner(&with_prefix(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), cores).0 as usize] += 1;
            }
            for count in counts {
                assert!((19_800..=20_200).contains(&count), "{count} of {asked} on one of {cores} cores");
            }
        }
    }
}
