//! The scopes that an answer belongs to, by which it can be purged.

use shards::Fingerprint;
use shards::balancer::hash_seeded;

use crate::config::snapshot::{Scope, Snapshot};
use crate::limits::{PURGE_KEYS, PURGE_NAMES};

/// The groups of names that an answer belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    pub(super) model: u16,
    pub(super) version: u16,
    pub(super) tenant: u16,
}

/// The tags of all models and tenants of a snapshot: names are hashed once.
pub struct AllTags {
    models: Vec<Tags>,
    tenants: Vec<u16>,
}

impl AllTags {
    pub fn of(snapshot: &Snapshot) -> AllTags {
        let models = snapshot.models.iter().map(|model| Tags {
            model: group(b'm', &model.name),
            version: group(b'v', &model.version),
            tenant: 0,
        });
        let tenants = snapshot.tenants.iter().map(|tenant| match snapshot.cache.scope {
            Scope::Shared => 0,
            Scope::Tenant | Scope::Key => group(b't', &tenant.name),
        });
        AllTags { models: models.collect(), tenants: tenants.collect() }
    }

    /// Of an answer of `model` to a request of `tenant`, by their places in the snapshot.
    pub fn get(&self, model: usize, tenant: Option<usize>) -> Tags {
        Tags { tenant: tenant.map_or(0, |tenant| self.tenants[tenant]), ..self.models[model] }
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
pub fn group(kind: u8, name: &str) -> u16 {
    // Group 0 is nobody's.
    (1 + hash_seeded(name.as_bytes(), u64::from(kind)) % (PURGE_NAMES as u64 - 1)) as u16
}

/// By bytes that decide neither the owner, nor a place in its tables, nor the group of its stores.
pub fn key_group(fingerprint: &Fingerprint) -> usize {
    usize::from(u16::from_be_bytes([fingerprint.0[18], fingerprint.0[19]])) % PURGE_KEYS
}
