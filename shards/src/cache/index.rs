//! Fingerprint to slot: many tables that grow one by one, so that no insert moves more than one of them. Owned by the
//! cache. Keeps a tag with each slot's index, so that growing reads no slot. Must never take time in proportion to all
//! entries for one insert.

use alloc::boxed::Box;

use hashbrown::HashTable;

/// Bits of a tag that choose the table. With a million entries a table has some 4,000.
const TABLE_BITS: u32 = 8;

pub(crate) struct Index {
    tables: Box<[HashTable<Located>; 1 << TABLE_BITS]>,
}

#[derive(Clone, Copy)]
struct Located {
    tag: u32,
    slot: u32,
}

/// hashbrown places by the low bits and compares by the top seven: entries of one table differ in both.
const fn hash(tag: u32) -> u64 {
    (tag as u64) << 32 | (tag >> TABLE_BITS) as u64
}

const fn table(tag: u32) -> usize {
    tag as usize & ((1 << TABLE_BITS) - 1)
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { tables: Box::new([const { HashTable::new() }; 1 << TABLE_BITS]) }
    }

    /// The slot with this tag for which `is` returns true.
    pub(crate) fn find(&self, tag: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let same = |located: &Located| located.tag == tag && is(located.slot);
        self.tables[table(tag)].find(hash(tag), same).map(|located| located.slot)
    }

    /// Adds a slot that is not in the index.
    pub(crate) fn insert(&mut self, tag: u32, slot: u32) {
        self.tables[table(tag)].insert_unique(hash(tag), Located { tag, slot }, |located| hash(located.tag));
    }

    /// Removes `slot`.
    pub(crate) fn remove(&mut self, tag: u32, slot: u32) {
        if let Ok(entry) = self.tables[table(tag)].find_entry(hash(tag), |located| located.slot == slot) {
            entry.remove();
        }
    }

    /// The content of slot `from` has moved to slot `to`.
    pub(crate) fn rename(&mut self, tag: u32, from: u32, to: u32) {
        if let Some(located) = self.tables[table(tag)].find_mut(hash(tag), |located| located.slot == from) {
            located.slot = to;
        }
    }

    /// Number of slots, counted. For tests and simulation.
    pub(crate) fn count(&self) -> usize {
        self.tables.iter().map(HashTable::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::vec::Vec;

    #[test]
    fn tables_stay_small_and_find_what_came_and_went() {
        const ENTRIES: u32 = 200_000;
        let mut random = Random::new(1);
        let mut index = Index::new();
        let mut tags: Vec<u32> = (0..ENTRIES).map(|_| random.below(1 << 32) as u32).collect();
        for (slot, tag) in (0..).zip(&tags) {
            index.insert(*tag, slot);
        }
        for _ in 0..ENTRIES {
            let slot = random.below(u64::from(ENTRIES)) as u32;
            let tag = &mut tags[slot as usize];
            index.remove(*tag, slot);
            assert_eq!(index.find(*tag, |found| found == slot), None);
            *tag = random.below(1 << 32) as u32;
            index.insert(*tag, slot);
        }
        assert!((0..).zip(&tags).all(|(slot, tag)| index.find(*tag, |found| found == slot) == Some(slot)));
        // An insert moves the entries of its table and nothing else.
        let most = index.tables.iter().map(HashTable::len).max().unwrap();
        assert!(index.count() == ENTRIES as usize && most < ENTRIES as usize / 100, "{most} in one table");
    }
}
