//! Drops what was purged from this core's part of the cache.

use std::rc::Rc;

use shards::Fingerprint;

use super::core::Core;
use super::entry::Entry;
use crate::limits::WEEDED_AT_A_TIME;
use crate::net::{sleep_ms, spawn};

/// Gives back the memory of what was purged, a few slots at a time: one walk at once, which begins anew with each purge.
pub fn weed(core: &Rc<Core>) {
    let ends = (core.cache.shard.borrow().cache().len() as u32, core.cache.near.borrow().len() as u32);
    if core.cache.weeding.replace(Some(ends)).is_none() {
        spawn(&core.panics, walk(core.clone()));
    }
}

/// A walk that ended, however it did, is no longer under way.
struct Walk(Rc<Core>);

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.cache.weeding.set(None);
    }
}

async fn walk(core: Rc<Core>) {
    let _walk = Walk(core.clone());
    while let Some((own, near)) = core.cache.weeding.get() {
        let is_purged = |fingerprint: &Fingerprint, entry: &Entry| !core.cache.purges.is_current(entry, fingerprint);
        let (own, removed) = core
            .cache
            .shard
            .borrow_mut()
            .weed(own, WEEDED_AT_A_TIME, |fingerprint, entry| is_purged(fingerprint, entry));
        let (near, _) = core
            .cache
            .near
            .borrow_mut()
            .weed(near, WEEDED_AT_A_TIME, |fingerprint, copy| is_purged(fingerprint, &copy.entry));
        core.counters.purged.add(u64::from(removed));
        core.cache.weeding.set((own > 0 || near > 0).then_some((own, near)));
        sleep_ms(1).await;
    }
}
