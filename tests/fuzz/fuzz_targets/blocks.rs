//! Files of the cache in arbitrary bytes, bare and changed in one place: nothing panics, and no record is given that was not
//! written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::blocks::{Block, walk};

fuzz_target!(|input: &[u8]| {
    let _ = walk(input, |_, records| records.into_iter().flatten().for_each(drop));
    // Records of the input, in blocks of three; then bytes of the input in their place.
    let [at, to, rest @ ..] = input else { return };
    let records: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    let mut file = Vec::new();
    for (kind, some) in records.chunks(3).enumerate() {
        let mut block = Block::new(kind as u8);
        some.iter().for_each(|record| block.push(record));
        block.finish(&[7; 16], |bytes| file.extend_from_slice(bytes));
    }
    let place = usize::from(*at) * 37 % file.len().max(1);
    if let Some(byte) = file.get_mut(place) {
        *byte = *to;
    }
    let _ = walk(&file, |kind, found| {
        if let Ok(found) = found {
            let written = records.chunks(3).nth(usize::from(kind)).expect("a block that was written");
            assert!(found.eq(written.iter().copied()));
        }
    });
});
