//! Tenants, their credentials, and what they may spend. Part of the snapshot: immutable but for the counts of requests that
//! run, which all cores share.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use hashbrown::{HashMap, HashSet};
use sha2::{Digest, Sha256};
use strum::{EnumString, VariantNames};

use super::Snapshot;

/// Somebody with credentials.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub name: String,
    pub models: Allowed,
    pub templates: Allowed,
    pub credentials: Vec<Credential>,
    /// Where its requests wait: 0 is served first, 9 last.
    pub priority: u8,
    /// Its share among the tenants of the same priority.
    pub weight: u32,
    /// Of all its keys together.
    pub limits: Limits,
    /// The same of single models: indices into `Snapshot::models`.
    pub model_limits: HashMap<usize, Limits>,
}

/// A key that a tenant's clients send, or a name in their certificates.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Of the key; or [`certificate_credential`].
    pub sha256: [u8; 32],
    pub expires: Option<Moment>,
    pub state: CredentialState,
    pub limits: Limits,
}

/// What stands for a name in a client's certificate where the hash of a key does. No key has it: none has a NUL.
pub fn certificate_credential(name: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"client certificate\0").chain_update(name).finalize().into()
}

/// What the configuration says of a key, besides its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    Enabled,
    Disabled,
}

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970-01-01 UTC. A date is the end of its day.
    pub unix_ms: u64,
    /// As the configuration spells it.
    pub spelled: String,
}

/// Whether a key is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Accepted,
    Expired,
    Disabled,
}

impl Credential {
    /// Whether it is accepted at `unix_ms`, which is read only if it expires.
    pub fn standing(&self, unix_ms: impl FnOnce() -> u64) -> Standing {
        Standing::of(self.state, self.expires.as_ref().map_or(u64::MAX, |expires| expires.unix_ms), unix_ms)
    }
}

impl Standing {
    pub(super) fn of(state: CredentialState, expires_unix_ms: u64, unix_ms: impl FnOnce() -> u64) -> Standing {
        match state {
            CredentialState::Disabled => Standing::Disabled,
            CredentialState::Enabled if expires_unix_ms < u64::MAX && expires_unix_ms <= unix_ms() => Standing::Expired,
            CredentialState::Enabled => Standing::Accepted,
        }
    }
}

/// The models, or the prompt templates, that a tenant may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    All,
    /// Indices into `Snapshot::models`; of templates, where the first version of a name stands in the library.
    Some(HashSet<usize>),
}

impl Allowed {
    /// Whether the one with this index may be asked for.
    pub fn allows(&self, index: usize) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Some(indices) => indices.contains(&index),
        }
    }
}

/// What may be spent, by a tenant, by a key, or by a tenant at a model.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub rates: Vec<Limit>,
    pub concurrent: Option<Concurrent>,
}

impl Limits {
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.concurrent.is_none()
    }
}

/// A limit over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// A hash of whose it is, of what, and of its period: the same in each configuration that has the limit.
    pub id: u64,
    pub of: LimitOf,
    pub counted: Counted,
    pub period: Period,
    /// In units of what is counted; at least 1.
    pub amount: u64,
}

/// Whose a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOf {
    Tenant,
    Key,
    /// A tenant's at a model.
    Model,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Requests,
    Tokens,
    /// In 10^-12 of the unit that prices are in.
    Money,
}

/// Over which time a limit counts: any 60 seconds, or a period of the calendar, in UTC. A week begins on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
pub enum Period {
    #[strum(serialize = "1min")]
    Minute,
    #[strum(serialize = "1d")]
    Day,
    #[strum(serialize = "1w")]
    Week,
    #[strum(serialize = "1mo")]
    Month,
}

impl Period {
    /// Those of a budget.
    pub const CALENDAR: &[&str] = &["1d", "1w", "1mo"];
}

/// How many requests may run at a time. The cores share the count: what one core does not use, all others can.
#[derive(Clone, Debug)]
pub struct Concurrent {
    /// As a [`Limit`]'s.
    pub id: u64,
    pub of: LimitOf,
    pub most: u32,
    count: OnceLock<Arc<Count>>,
}

/// Requests that run.
#[derive(Debug, Default)]
struct Count {
    here: AtomicU32,
    /// In another process of this node: the one before, or the successor.
    elsewhere: AtomicU32,
}

impl Concurrent {
    pub fn new(id: u64, of: LimitOf, most: u32) -> Concurrent {
        Concurrent { id, of, most, count: OnceLock::new() }
    }

    /// Goes on with the count of the same limit in the configuration before. To be called before anything is counted.
    fn continue_from(&self, before: &Concurrent) {
        let _ = self.count.set(before.count().clone());
    }

    fn count(&self) -> &Arc<Count> {
        self.count.get_or_init(Arc::default)
    }

    /// The same limit, with the same count.
    pub fn shared(&self) -> Concurrent {
        self.count();
        self.clone()
    }

    /// So many run in another process.
    pub fn count_elsewhere(&self, running: u32) {
        self.count().elsewhere.store(running, Relaxed);
    }

    /// Leaves another process all room but that of the requests that run, and of `more`: how many may run here from now on. Never
    /// more than at the last call.
    pub fn leave_room(&self, more: u32) -> u32 {
        let count = self.count();
        let left = self.most.saturating_sub(count.elsewhere.load(Relaxed));
        let may_run = left.min(count.here.load(Relaxed).saturating_add(more));
        count.elsewhere.store(self.most.saturating_sub(may_run), Relaxed);
        // One may have come meanwhile.
        may_run.max(count.here.load(Relaxed))
    }

    /// Counts one more, if that is not one too many. No other memory is published by it.
    pub fn enter(&self) -> Option<Running> {
        let count = self.count();
        let most = self.most.saturating_sub(count.elsewhere.load(Relaxed));
        let enter = |running: u32| running.checked_add(1).filter(|running| *running <= most);
        count.here.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(Running(count.clone()))
    }

    /// How many run.
    pub fn running(&self) -> u32 {
        self.count().here.load(Relaxed)
    }
}

impl Snapshot {
    /// The index of the tenant with this credential, and its number there.
    pub fn credential_place(&self, sha256: &[u8; 32]) -> Option<(usize, usize)> {
        let known = self.known_credentials.find(sha256)?;
        Some((known.tenant as usize, known.number as usize))
    }

    /// The credential with this SHA-256, accepted or not, and the index of its tenant. The look-up compares hashes of
    /// secrets, never secrets, so its timing tells nothing that helps to guess one.
    pub fn credential(&self, sha256: &[u8; 32]) -> Option<(usize, &Credential)> {
        let (tenant, number) = self.credential_place(sha256)?;
        Some((tenant, self.tenants.get(tenant)?.credentials.get(number)?))
    }

    /// All limits of requests at a time.
    pub fn concurrent_limits(&self) -> impl Iterator<Item = &Concurrent> {
        let all = self.tenants.iter().flat_map(|tenant| {
            let keys = tenant.credentials.iter().map(|key| &key.limits);
            std::iter::once(&tenant.limits).chain(keys).chain(tenant.model_limits.values())
        });
        all.filter_map(|limits| limits.concurrent.as_ref())
    }

    /// What runs under the configuration `before` counts in this one, too. To be called before this one is in force.
    pub fn continue_running(&self, before: &Snapshot) {
        let continued = |now: &Limits, was: &Limits| {
            if let (Some(now), Some(was)) = (&now.concurrent, &was.concurrent) {
                now.continue_from(was);
            }
        };
        let names: HashMap<&str, &Tenant> =
            before.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant)).collect();
        let models: HashMap<&str, usize> =
            before.models.iter().enumerate().map(|(index, model)| (model.name.as_str(), index)).collect();
        for tenant in &self.tenants {
            for credential in &tenant.credentials {
                if let Some((_, was)) = before.credential(&credential.sha256) {
                    continued(&credential.limits, &was.limits);
                }
            }
            let Some(was) = names.get(tenant.name.as_str()) else { continue };
            continued(&tenant.limits, &was.limits);
            for (model, limits) in &tenant.model_limits {
                let before = models.get(self.models[*model].name.as_str());
                if let Some(was) = before.and_then(|model| was.model_limits.get(model)) {
                    continued(limits, was);
                }
            }
        }
    }
}

/// A request that counts while this lives.
#[derive(Debug)]
pub struct Running(Arc<Count>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Relaxed);
    }
}

/// What a model costs, in 10^-12 of the unit of money per token: millionths per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    /// Of input that the provider had in its cache.
    pub cached_input: u64,
    /// Of input that the provider wrote into its cache.
    pub cache_write: u64,
    pub output: u64,
}

impl Price {
    /// Without caches, in 10^-12; what is beyond 64 bits is so many.
    pub fn of(self, input_tokens: u64, output_tokens: u64) -> u64 {
        let (input, output) = (input_tokens.saturating_mul(self.input), output_tokens.saturating_mul(self.output));
        input.saturating_add(output)
    }

    pub fn is_free(self) -> bool {
        self == Price::default()
    }
}

/// Money as text: 10^-12 of its unit, exactly.
pub fn spell_money(money: u64) -> String {
    const UNIT: u64 = 1_000_000_000_000;
    let text = format!("{}.{:012}", money / UNIT, money % UNIT);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What holds for all limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRules {
    pub cached_tokens: CachedTokens,
    /// Of the answer to a request beyond a budget.
    pub budget_status: u16,
    /// Where there is a Redis.
    pub nodes: LimitNodes,
    /// There are at least so many nodes.
    pub nodes_min: u16,
    /// The priorities of requests that name a tier of service.
    pub service_tiers: Vec<(String, u8)>,
}

impl LimitRules {
    /// The priority of a tier, if it has one.
    pub fn priority_of_tier(&self, tier: &[u8]) -> Option<u8> {
        self.service_tiers.iter().find(|(name, _)| name.as_bytes() == tier).map(|(_, priority)| *priority)
    }
}

/// Whose limits are: of all nodes that share a Redis, or of each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitNodes {
    Shared,
    Apart,
}

/// Whether tokens of answers from the cache count against limits of tokens and money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedTokens {
    Counted,
    Free,
}

/// Which web pages may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// As browsers spell them; `*` is all. None: no page.
    pub origins: Vec<String>,
}

impl Cors {
    /// Which of the origins allows a page of `origin`.
    pub fn place(&self, origin: &[u8]) -> Option<usize> {
        self.origins.iter().position(|allowed| allowed == "*" || allowed.as_bytes() == origin)
    }
}
