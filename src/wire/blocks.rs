//! Files of the cache: blocks that begin at page boundaries, each with a checksum of its head and one of its records. A block that
//! is not whole is lost alone: the next one is found by its head, which nobody can forge who does not know the file's id.
//! Owns nothing but what it is given. Never panics, and never gives a record of which a bit has changed.

use sha2::{Digest, Sha256};

/// Blocks begin at multiples of this: what direct I/O asks for.
pub const PAGE_BYTES: usize = 4096;
/// Of the head of a block; its records come right behind.
pub const HEAD_BYTES: usize = 72;

const MAGIC: &[u8; 7] = b"RINGWAY";
/// Of the layout; another layout has another one.
const VERSION: u8 = 1;
const ID_BYTES: usize = 16;
const SUM_BYTES: usize = 16;

/// Made anew for each file, by chance.
pub type Id = [u8; ID_BYTES];

/// What the records of a block are; what they mean is for those who write and read them.
pub type Kind = u8;

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it is no file of Ringway's")]
    Foreign,
    #[error("it is of layout {0}, and this program reads {VERSION}")]
    Version(u8),
    #[error("it ends in the middle of a block")]
    Torn,
    #[error("a checksum is wrong")]
    Damaged,
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub id: Id,
    pub kind: Kind,
    pub records: u32,
    pub records_bytes: u32,
    sum: [u8; SUM_BYTES],
}

impl Head {
    /// Reads the head of a file's first block. Errors: the file is none of ours, or not one that is understood.
    pub fn first(page: &[u8]) -> Result<Head, Fault> {
        let bytes = page.get(..HEAD_BYTES).ok_or(if page.is_empty() { Fault::Torn } else { Fault::Foreign })?;
        let (bytes, sum) = bytes.split_at(HEAD_BYTES - SUM_BYTES);
        let (magic, rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Fault::Foreign);
        }
        if rest[0] != VERSION {
            return Err(Fault::Version(rest[0]));
        }
        if checksum(bytes) != *sum {
            return Err(Fault::Damaged);
        }
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|place| rest[at + place]));
        Ok(Head {
            kind: rest[1],
            id: std::array::from_fn(|place| rest[2 + place]),
            records: number(18),
            records_bytes: number(22),
            sum: std::array::from_fn(|place| rest[26 + place]),
        })
    }

    /// Reads the head of a later block of the file with this id; none if no block begins here.
    pub fn next(page: &[u8], id: &Id) -> Option<Head> {
        Head::first(page).ok().filter(|head| head.id == *id)
    }

    /// Of the whole block, to the beginning of the next.
    pub fn block_bytes(&self) -> u64 {
        (HEAD_BYTES as u64 + u64::from(self.records_bytes)).next_multiple_of(PAGE_BYTES as u64)
    }

    /// The records of this block, of which `block` is all.
    pub fn records<'a>(&self, block: &'a [u8]) -> Result<Records<'a>, Fault> {
        let end = HEAD_BYTES + self.records_bytes as usize;
        let bytes = block.get(HEAD_BYTES..end).ok_or(Fault::Torn)?;
        if checksum(bytes) != self.sum {
            return Err(Fault::Damaged);
        }
        Ok(Records { rest: bytes, left: self.records })
    }
}

/// The records of a block, one by one.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(record)
    }
}

/// A block that is being made. Reused for the next one.
#[derive(Debug)]
pub struct Block {
    kind: Kind,
    bytes: Vec<u8>,
    records: u32,
}

impl Block {
    pub fn new(kind: Kind) -> Block {
        Block { kind, bytes: vec![0; HEAD_BYTES], records: 0 }
    }

    /// Adds a record. The caller bounds the block: it stays far below 4 GiB.
    pub fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Hands the finished block to `write`, in whole pages, and begins the next one.
    pub fn finish<T>(&mut self, id: &Id, write: impl FnOnce(&[u8]) -> T) -> T {
        let records = &self.bytes[HEAD_BYTES..];
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&[VERSION, self.kind]);
        head.extend_from_slice(id);
        head.extend_from_slice(&self.records.to_le_bytes());
        head.extend_from_slice(&(records.len() as u32).to_le_bytes());
        head.extend_from_slice(&checksum(records));
        // Room for what a later layout says; part of the checksum.
        head.resize(HEAD_BYTES - SUM_BYTES, 0);
        let sum = checksum(&head);
        head.extend_from_slice(&sum);
        self.bytes[..HEAD_BYTES].copy_from_slice(&head);
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE_BYTES), 0);
        let written = write(&self.bytes);
        self.bytes.truncate(HEAD_BYTES);
        self.records = 0;
        written
    }
}

fn checksum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let whole = Sha256::digest(bytes);
    std::array::from_fn(|place| whole[place])
}

/// Every block of a file that is in memory, whole or not: what a reader of files does page by page.
pub fn walk(file: &[u8], mut see: impl FnMut(Kind, Result<Records<'_>, Fault>)) -> Result<(), Fault> {
    let id = Head::first(file)?.id;
    let mut at = 0;
    while at < file.len() {
        let Some(head) = Head::next(&file[at..], &id) else {
            at += PAGE_BYTES;
            continue;
        };
        let records = head.records(&file[at..]);
        let is_whole = records.is_ok();
        see(head.kind, records);
        // The length of a block that is not whole may be all that is wrong with it.
        at = if is_whole { at.saturating_add(head.block_bytes() as usize) } else { at + PAGE_BYTES };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Id = [7; 16];

    fn record(block: usize, place: usize) -> Vec<u8> {
        format!("record {place} of block {block}").repeat(1 + place * 40).into_bytes()
    }

    /// A file of three blocks, and where each begins.
    fn file() -> (Vec<u8>, [usize; 4]) {
        let mut file = Vec::new();
        let mut begins = [0; 4];
        for block in 0..3 {
            let mut made = Block::new(block as u8);
            (0..4 + block).for_each(|place| made.push(&record(block, place)));
            made.finish(&FILE, |bytes| file.extend_from_slice(bytes));
            begins[block + 1] = file.len();
        }
        assert!(begins[1] >= PAGE_BYTES && begins.iter().all(|begin| begin % PAGE_BYTES == 0));
        (file, begins)
    }

    /// The blocks that are read whole, after it was made sure that nothing in them has changed.
    fn whole(file: &[u8]) -> Result<Vec<usize>, Fault> {
        let mut found = Vec::new();
        walk(file, |kind, records| {
            if let Ok(records) = records {
                let block = usize::from(kind);
                let records: Vec<&[u8]> = records.collect();
                assert_eq!(records, (0..4 + block).map(|place| record(block, place)).collect::<Vec<_>>());
                found.push(block);
            }
        })?;
        Ok(found)
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let (file, _) = file();
        assert_eq!(whole(&file), Ok(vec![0, 1, 2]));
        let mut empty = Vec::new();
        Block::new(9).finish(&FILE, |bytes| empty.extend_from_slice(bytes));
        let mut kinds = Vec::new();
        walk(&empty, |kind, records| kinds.push((kind, records.unwrap().count()))).unwrap();
        assert_eq!(kinds, [(9, 0)]);
    }

    #[test]
    fn what_is_cut_off_is_lost_alone() {
        let (file, begins) = file();
        assert_eq!(whole(&[]), Err(Fault::Torn));
        for cut in 1..file.len() {
            match whole(&file[..cut]) {
                Ok(blocks) => {
                    // The padding of a block may be missing.
                    let ends = begins.windows(2).filter(|pair| cut >= pair[1]).count();
                    assert!(blocks.len() == ends || blocks.len() == ends + 1, "cut at {cut}: {blocks:?}");
                    assert_eq!(blocks, (0..blocks.len()).collect::<Vec<_>>());
                }
                Err(fault) => assert!(cut < HEAD_BYTES && fault == Fault::Foreign, "cut at {cut}: {fault}"),
            }
        }
    }

    #[test]
    fn a_changed_bit_loses_its_block_alone() {
        let (file, begins) = file();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1 << (at % 8);
            let block = begins.iter().rposition(|begin| *begin <= at).unwrap();
            let others: Vec<usize> = (0..3).filter(|other| *other != block).collect();
            match whole(&changed) {
                // What is behind the records means nothing.
                Ok(blocks) => assert!(blocks == others || blocks == [0, 1, 2], "byte {at}: {blocks:?}"),
                Err(fault) => assert!(at < HEAD_BYTES, "byte {at}: {fault}"),
            }
        }
    }

    #[test]
    fn another_file_is_named_for_what_it_is() {
        assert_eq!(whole(b"hello"), Err(Fault::Foreign));
        assert_eq!(whole(&[0; 2 * PAGE_BYTES]), Err(Fault::Foreign));
        let (mut file, begins) = file();
        file[MAGIC.len()] = 9;
        assert_eq!(whole(&file), Err(Fault::Version(9)));
        // A block of another file in the middle of this one.
        let (mut file, _) = (self::file().0, ());
        let mut foreign = Vec::new();
        let mut block = Block::new(1);
        block.push(b"x");
        block.finish(&[8; 16], |bytes| foreign.extend_from_slice(bytes));
        file[begins[1]..begins[1] + PAGE_BYTES].copy_from_slice(&foreign);
        assert_eq!(whole(&file), Ok(vec![0, 2]));
    }
}
