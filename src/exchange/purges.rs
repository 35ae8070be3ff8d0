//! What was purged, and when. Purges are numbered; each scope keeps the number of its last one, and each answer how many there
//! had been when its call began: an answer serves if no scope that it belongs to was purged since. Written by the background
//! core alone and read by all, so that a purge has happened everywhere once it returns, whatever is on its way between cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shards::Fingerprint;

use super::entry::Entry;
use super::purge_numbers::PurgeNumbers;
use super::tags::{Tags, group, key_group};
use crate::config::snapshot::PurgeScope;
use crate::limits::{PURGE_KEYS, PURGE_NAMES};

/// The purges of a node.
pub struct Purges {
    /// The number of the last purge; 0 if there was none.
    latest: AtomicU64,
    all: AtomicU64,
    names: Vec<AtomicU64>,
    keys: Vec<AtomicU64>,
    /// Whether there was a purge here of which the second level does not know: nothing of it serves.
    is_ahead: AtomicBool,
    /// What the second level knew of purges.
    pub numbers: PurgeNumbers,
}

impl Purges {
    pub fn new() -> Arc<Purges> {
        let row = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Purges {
            latest: AtomicU64::new(0),
            all: AtomicU64::new(0),
            names: row(PURGE_NAMES),
            keys: row(PURGE_KEYS),
            is_ahead: AtomicBool::new(false),
            numbers: PurgeNumbers::default(),
        })
    }

    /// Purges: what belongs to `scope` and was asked for before is not served from here on, by no core. One thread alone may
    /// call it.
    /// Returns its name for other nodes, which are to be told of it: until then the second level is ahead of.
    pub fn purge(&self, scope: &PurgeScope) -> String {
        self.is_ahead.store(true, Ordering::SeqCst);
        let name = |kind, name: &str| &self.names[usize::from(group(kind, name))];
        let place = match scope {
            PurgeScope::All => &self.all,
            PurgeScope::Model(model) => name(b'm', model),
            PurgeScope::Version(version) => name(b'v', version),
            PurgeScope::Tenant(tenant) => name(b't', tenant),
            PurgeScope::Key(key) => self.key(&Fingerprint(*key)),
        };
        self.advance(place);
        match scope {
            PurgeScope::All => "all".to_owned(),
            PurgeScope::Model(name) => format!("m{}", group(b'm', name)),
            PurgeScope::Version(name) => format!("v{}", group(b'v', name)),
            PurgeScope::Tenant(name) => format!("t{}", group(b't', name)),
            PurgeScope::Key(key) => format!("k{}", key_group(&Fingerprint(*key))),
        }
    }

    /// Another node purged the scope with this name. A name that is not understood may be of a later version: then all goes.
    pub fn purge_named(&self, name: &str) {
        self.advance(self.named(name).unwrap_or(&self.all));
    }

    fn named(&self, name: &str) -> Option<&AtomicU64> {
        match name.split_at_checked(1) {
            Some(("n", group)) => group.parse().ok().and_then(|group: usize| self.names.get(group)),
            Some(("m" | "v" | "t", group)) => group.parse().ok().and_then(|group: usize| self.names.get(group)),
            Some(("k", group)) => group.parse().ok().and_then(|group: usize| self.keys.get(group)),
            _ => None,
        }
    }

    /// The number of the last purge of each scope that was ever purged, and of all, by names for [`Purges::recall`].
    pub fn all_purges(&self) -> (u64, Vec<(String, u64)>) {
        // Read first: what is purged meanwhile is told again.
        let latest = self.latest();
        let row = |kind: char, row: &[AtomicU64]| {
            let numbers = row.iter().map(|place| place.load(Ordering::Acquire)).enumerate();
            let purged = numbers.filter(|(_, number)| *number > 0);
            purged.map(|(group, number)| (format!("{kind}{group}"), number)).collect::<Vec<_>>()
        };
        let all = self.all.load(Ordering::Acquire);
        let all = (all > 0).then(|| ("all".to_owned(), all));
        let names = row('n', &self.names);
        (latest, all.into_iter().chain(names).chain(row('k', &self.keys)).collect())
    }

    /// Goes on with the numbers of an earlier process. Before anything else happens here.
    pub fn recall(&self, latest: u64, purges: impl Iterator<Item = (String, u64)>) {
        let mut latest = latest;
        for (name, number) in purges {
            self.named(&name).unwrap_or(&self.all).fetch_max(number, Ordering::SeqCst);
            latest = latest.max(number);
        }
        self.latest.store(latest, Ordering::SeqCst);
    }

    /// The second level may lack purges that are known of here.
    pub fn behind(&self) {
        self.is_ahead.store(true, Ordering::SeqCst);
    }

    /// The second level knows of all purges.
    pub fn caught_up(&self) {
        self.is_ahead.store(false, Ordering::SeqCst);
    }

    /// Whether the second level may have what was purged.
    pub fn is_ahead(&self) -> bool {
        self.is_ahead.load(Ordering::Acquire)
    }

    fn advance(&self, place: &AtomicU64) {
        let number = self.latest.load(Ordering::Relaxed) + 1;
        // In this order: a call that begins in between counts as one from before.
        place.store(number, Ordering::SeqCst);
        self.latest.store(number, Ordering::SeqCst);
    }

    /// How many purges there have been.
    pub fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// The number of the last purge that concerns the answers to a request: those that are older may not serve.
    pub fn least(&self, tags: Tags, request: &Fingerprint) -> u64 {
        if self.latest() == 0 {
            return 0;
        }
        let names = [tags.model, tags.version, tags.tenant].map(|group| &self.names[usize::from(group)]);
        let names = names.into_iter().chain([&self.all, self.key(request)]);
        names.map(|place| place.load(Ordering::Acquire)).max().unwrap_or(0)
    }

    /// Whether an answer to `request` may serve.
    pub fn is_current(&self, entry: &Entry, request: &Fingerprint) -> bool {
        entry.born >= self.latest() || entry.born >= self.least(entry.tags, request)
    }

    fn key(&self, fingerprint: &Fingerprint) -> &AtomicU64 {
        &self.keys[key_group(fingerprint)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(model: &str, version: &str, tenant: &str) -> Tags {
        Tags { model: group(b'm', model), version: group(b'v', version), tenant: group(b't', tenant) }
    }

    #[test]
    fn a_purge_concerns_what_belongs_to_its_scope_and_came_before() {
        let (one, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let mine = tags("m", "1", "t");
        for (scope, request, concerns, spares) in [
            (PurgeScope::All, one, mine, None),
            (PurgeScope::Model("m".to_owned()), one, mine, Some((one, tags("n", "1", "t")))),
            (PurgeScope::Version("1".to_owned()), one, mine, Some((one, tags("m", "2", "t")))),
            (PurgeScope::Tenant("t".to_owned()), one, mine, Some((one, tags("m", "1", "u")))),
            (PurgeScope::Key(one.0), one, mine, Some((other, mine))),
        ] {
            let purges = Purges::new();
            let before = purges.latest();
            assert!(before >= purges.least(concerns, &request));
            purges.purge(&scope);
            assert!(before < purges.least(concerns, &request), "{scope:?}");
            assert!(purges.latest() >= purges.least(concerns, &request), "what begins now serves");
            if let Some((request, tags)) = spares {
                assert!(before >= purges.least(tags, &request), "{scope:?} takes more than it says");
            }
        }
    }

    #[test]
    fn a_model_a_version_and_a_tenant_of_one_name_are_three() {
        let groups = [b'm', b'v', b't'].map(|kind| group(kind, "same"));
        assert!(groups[0] != groups[1] && groups[1] != groups[2] && groups[0] != groups[2]);
    }
}
