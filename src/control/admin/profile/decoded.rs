//! Reads what `proto` writes, for tests.

/// Takes a varint off the front (protobuf.dev, "Encoding").
fn varint(bytes: &mut &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (own, rest) = bytes.split_at(length);
    *bytes = rest;
    own.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

/// Those of a packed field.
pub fn varints(mut bytes: &[u8]) -> Vec<u64> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        all.push(varint(&mut bytes));
    }
    all
}

/// The fields of a message: number, value of a varint, or bytes.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (key, value) = (varint(&mut bytes), varint(&mut bytes));
        match key & 7 {
            0 => all.push((key >> 3, value, Vec::new())),
            _ => {
                let (own, rest) = bytes.split_at(value as usize);
                bytes = rest;
                all.push((key >> 3, 0, own.to_vec()));
            }
        }
    }
    all
}
