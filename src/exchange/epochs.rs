//! When a core stored something last, so that no other core serves a copy of what was replaced. One row a core, one number for
//! each of many groups of fingerprints; a core writes its own row alone, and nobody waits for anybody.
//! A store costs the owner one write, a copy that serves one read; copies of the same group are asked for once more.
//! The same groups tell which answers of the second level are older than what was served here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use shards::{CoreId, Fingerprint};

use crate::limits::STORE_EPOCHS;

/// How often something was stored, by owner and group. It wraps: a copy would have to outlive four billion stores.
pub struct Epochs {
    counts: Vec<AtomicU32>,
    /// By group: when an answer was stored last of which the second level may have an older one, in the time of `Entry::stored_ms`.
    /// Written by whichever core stores it, for that is rare.
    doubtful_ms: Vec<AtomicI64>,
}

/// The state of a group when an answer was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(u32);

impl Epochs {
    pub fn new(cores: u16) -> Arc<Epochs> {
        let counts = (0..STORE_EPOCHS * usize::from(cores)).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Epochs { counts, doubtful_ms: (0..STORE_EPOCHS).map(|_| AtomicI64::new(i64::MIN)).collect() })
    }

    fn count(&self, owner: CoreId, fingerprint: &Fingerprint) -> &AtomicU32 {
        &self.counts[usize::from(owner.0) * STORE_EPOCHS + group(fingerprint)]
    }

    /// What is copied now is as new as what its owner has.
    pub fn get(&self, owner: CoreId, fingerprint: &Fingerprint) -> Epoch {
        Epoch(self.count(owner, fingerprint).load(Ordering::Acquire))
    }

    /// The owner has stored something: copies made before are no longer good.
    pub fn advance(&self, owner: CoreId, fingerprint: &Fingerprint) {
        let count = self.count(owner, fingerprint);
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// An answer was stored, and served, of which the second level may have an older one.
    pub fn doubt_second(&self, request: &Fingerprint, stored_ms: i64) {
        self.doubtful_ms[group(request)].fetch_max(stored_ms, Ordering::AcqRel);
    }

    /// Whether an answer of the second level is older than one that was served here.
    pub fn is_outdated(&self, request: &Fingerprint, stored_ms: i64) -> bool {
        stored_ms < self.doubtful_ms[group(request)].load(Ordering::Acquire)
    }
}

/// By bytes that decide neither the owner nor a place in its tables.
fn group(fingerprint: &Fingerprint) -> usize {
    usize::from(u16::from_be_bytes([fingerprint.0[16], fingerprint.0[17]])) % STORE_EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_ends_the_copies_of_its_own_group_alone() {
        let epochs = Epochs::new(2);
        let in_group = |group: u8| {
            let mut bytes = [7; 32];
            bytes[17] = group;
            Fingerprint(bytes)
        };
        let copied = epochs.get(CoreId(1), &in_group(1));
        epochs.advance(CoreId(1), &in_group(2));
        epochs.advance(CoreId(0), &in_group(1));
        assert_eq!(epochs.get(CoreId(1), &in_group(1)), copied, "other groups and owners");
        epochs.advance(CoreId(1), &in_group(1));
        assert_ne!(epochs.get(CoreId(1), &in_group(1)), copied);
    }

    #[test]
    fn what_is_older_than_the_last_doubtful_store_of_its_group_is_outdated() {
        let epochs = Epochs::new(1);
        let (one, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        assert!(!epochs.is_outdated(&one, -5));
        epochs.doubt_second(&one, 20);
        epochs.doubt_second(&one, 10);
        assert!(epochs.is_outdated(&one, 19) && !epochs.is_outdated(&one, 20) && !epochs.is_outdated(&other, 0));
    }

    #[test]
    fn every_group_has_a_place() {
        let epochs = Epochs::new(1);
        epochs.advance(CoreId(0), &Fingerprint([0xff; 32]));
        epochs.advance(CoreId(0), &Fingerprint([0; 32]));
    }
}
