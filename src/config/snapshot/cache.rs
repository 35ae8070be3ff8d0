//! What the configuration says of the cache, and what of it a purge may name.

use strum::{EnumString, VariantNames};

/// The cache in memory and single-flight.
#[derive(Clone, Debug)]
pub struct Cache {
    pub mode: CacheMode,
    /// Budget of the node, to be divided over the data cores.
    pub memory_bytes: u64,
    pub ttl_ms: u64,
    /// A larger answer is relayed but not stored.
    pub max_entry_bytes: u64,
    pub scope: Scope,
    /// How long a follower waits for a silent flight before it goes alone.
    pub timeout_follow_ms: u64,
    /// How long past its time to live an answer may still serve when every backend fails; 0 = never.
    pub stale_if_error_ms: u64,
    pub key: KeyShown,
    pub snapshot: SnapshotMode,
    /// 0: no schedule.
    pub snapshot_interval_ms: u64,
}

/// Whether stored answers outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    On,
    Off,
}

/// Whether clients see the key under which an answer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShown {
    Shown,
    Hidden,
}

/// Whether answers are stored and requests joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    On,
    Off,
}

/// Which answers of a model are stored and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CachePolicy {
    All,
    /// Those to requests with temperature 0 or a seed, and embeddings.
    Deterministic,
    Off,
}

/// Who may get an answer that another request paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Scope {
    /// Requests of the same tenant.
    Tenant,
    /// Requests with the same credential.
    Key,
    /// Everybody.
    Shared,
}

/// Which stored answers are to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeScope {
    All,
    Model(String),
    /// A tag of a model's `version`.
    Version(String),
    Tenant(String),
    /// One answer, in all its forms.
    Key([u8; 32]),
}
