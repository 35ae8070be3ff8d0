//! What was purged, and when. Purges are numbered; each scope keeps the number of its last one, and each answer how many there
//! had been when its call began: an answer serves if no scope that it belongs to was purged since. Written by the background
//! core alone and read by all, so that a purge has happened everywhere once it returns, whatever is on its way between cores.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shards::Fingerprint;
use shards::balancer::hash_seeded;

use super::core::Core;
use super::messages::Entry;
use crate::config::snapshot::{PurgeScope, Scope, Snapshot};
use crate::limits::{PURGE_KEYS, PURGE_NAMES, WEEDED_AT_A_TIME};
use crate::net::{sleep_ms, spawn};

/// The groups of names that an answer belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    model: u16,
    version: u16,
    tenant: u16,
}

impl Tags {
    /// Of an answer of `model` to a request of `tenant`, by their places in the snapshot.
    pub fn of(snapshot: &Snapshot, model: usize, tenant: Option<usize>) -> Tags {
        let tenant = tenant.filter(|_| snapshot.cache.scope != Scope::Shared);
        let model = &snapshot.models[model];
        Tags {
            model: group(b'm', &model.name),
            version: group(b'v', &model.version),
            tenant: tenant.map_or(0, |tenant| group(b't', &snapshot.tenants[tenant].name)),
        }
    }
}

impl Tags {
    /// The groups of its model, version and tenant.
    pub fn groups(self) -> [u16; 3] {
        [self.model, self.version, self.tenant]
    }

    /// None: there are no such groups.
    pub fn of_groups(groups: [u16; 3]) -> Option<Tags> {
        let [model, version, tenant] = groups;
        let all_are = groups.into_iter().all(|group| usize::from(group) < PURGE_NAMES);
        all_are.then_some(Tags { model, version, tenant })
    }

    /// Names of the scopes of an answer to `request`, for other nodes.
    pub fn fields(self, request: &Fingerprint) -> [String; 5] {
        let Tags { model, version, tenant } = self;
        [
            "all".to_owned(),
            format!("m{model}"),
            format!("v{version}"),
            format!("t{tenant}"),
            format!("k{}", key_group(request)),
        ]
    }
}

/// The group of a name. Stable: generations of the configuration number their models anew, names stay.
fn group(kind: u8, name: &str) -> u16 {
    // Group 0 is nobody's.
    (1 + hash_seeded(name.as_bytes(), u64::from(kind)) % (PURGE_NAMES as u64 - 1)) as u16
}

/// The purges of a node.
pub struct Purges {
    /// The number of the last purge; 0 if there was none.
    latest: AtomicU64,
    all: AtomicU64,
    names: Vec<AtomicU64>,
    keys: Vec<AtomicU64>,
    /// Whether there was a purge here of which the second level does not know: nothing of it serves.
    is_ahead: AtomicBool,
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

/// By bytes that decide neither the owner, nor a place in its tables, nor the group of its stores.
fn key_group(fingerprint: &Fingerprint) -> usize {
    usize::from(u16::from_be_bytes([fingerprint.0[18], fingerprint.0[19]])) % PURGE_KEYS
}

/// Gives back the memory of what was purged, a few slots at a time: one walk at once, which begins anew with each purge.
pub fn weed(core: &Rc<Core>) {
    let ends = (core.shard.borrow().cache().len() as u32, core.near.borrow().len() as u32);
    if core.weeding.replace(Some(ends)).is_none() {
        spawn(&core.panics, walk(core.clone()));
    }
}

/// A walk that ended, however it did, is no longer under way.
struct Walk(Rc<Core>);

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.weeding.set(None);
    }
}

async fn walk(core: Rc<Core>) {
    let _walk = Walk(core.clone());
    while let Some((own, near)) = core.weeding.get() {
        let is_purged = |fingerprint: &Fingerprint, entry: &Entry| !core.purges.is_current(entry, fingerprint);
        let (own, removed) =
            core.shard.borrow_mut().weed(own, WEEDED_AT_A_TIME, |fingerprint, entry| is_purged(fingerprint, entry));
        let (near, _) = core
            .near
            .borrow_mut()
            .weed(near, WEEDED_AT_A_TIME, |fingerprint, copy| is_purged(fingerprint, &copy.entry));
        core.counters.purged.add(u64::from(removed));
        core.weeding.set((own > 0 || near > 0).then_some((own, near)));
        sleep_ms(1).await;
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
