//! `[[model]]`.

use strum::{EnumDiscriminants, EnumString, VariantNames};

use super::{CachePolicy, Price, Target};

/// What clients ask for by name, and who answers it.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    /// Part of the cache's fingerprint: another version makes every stored answer of the model unreachable.
    pub version: String,
    /// Part of it, too: the model's names at its backends, and the members that `backend.body` adds to their requests. Empty if
    /// that is its own name alone, and nothing.
    pub upstream_identity: Vec<u8>,
    pub cache: CachePolicy,
    pub cache_ttl_ms: u64,
    /// Events a second at which stored streams are sent; none: at once.
    pub replay_rate: Option<u64>,
    /// How long a request for embeddings waits for others to go upstream with; 0: not at all.
    pub batch_window_ms: u64,
    /// Most inputs that go upstream together.
    pub batch_max_inputs: usize,
    pub balance: Balance,
    /// At least one.
    pub targets: Vec<Target>,
    /// Models to ask when this one cannot answer, in order: indices into `Snapshot::models`, never its own.
    pub fallback: Vec<usize>,
    /// Most requests in flight to backends by the node, to be divided over the data cores.
    pub max_concurrent_requests: u32,
    /// Most requests that wait for their turn on the node, to be divided over the data cores.
    pub max_pending_requests: u32,
    /// Longest wait for a turn.
    pub timeout_queue_ms: u64,
    /// Attempts after the first one, at one model of the chain.
    pub retries: u32,
    /// Retries in percent of requests, beyond a small reserve.
    pub retry_budget_percent: u32,
    /// Longest wait of a request because backends ask for it, over all attempts.
    pub retry_after_max_ms: u64,
    /// Hedged requests in percent of requests; 0 = off.
    pub hedge_percent: u32,
    /// Backends in service, in percent of all, below which those out of service are asked too; 0: only when none is left.
    pub panic_percent: u32,
    pub on_client_disconnect: OnClientDisconnect,
    pub price: Price,
}

/// What becomes of an upstream call whose clients have all gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum OnClientDisconnect {
    Cancel,
    /// Its answer is read to the end.
    Drain,
}

/// How requests are spread over the targets of a model.
#[derive(Clone, Debug, PartialEq, Eq, EnumDiscriminants)]
#[strum_discriminants(
    name(BalanceWord),
    doc = "As the configuration spells it.",
    derive(EnumString, VariantNames),
    strum(serialize_all = "kebab-case")
)]
pub enum Balance {
    RoundRobin,
    /// Fewest requests in flight for its weight, over all cores of the node.
    LeastConnections,
    /// The better of two drawn by weight, by decayed latency.
    P2c,
    /// Requests of one session, told by this header field (lower case), go to one backend while load permits. Those
    /// without the field are told by the beginning of their prompt.
    Sticky(String),
    /// Requests whose prompts begin alike go to one backend while load permits.
    Prefix,
}
