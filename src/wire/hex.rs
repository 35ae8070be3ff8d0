//! Hexadecimal digits of ids.

/// The eight digits of a number, all at once.
pub fn hex(bits: u32) -> [u8; 8] {
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
