//! What the background core does besides signals: checks the health of backends, resolves their names, and serves
//! operators. Reports findings through a closure; knows nothing of cores, messages or exchanges.

pub mod admin; // health, metrics, state and drain, over HTTP
pub mod keep;
pub mod kept; // the copy of the last good configuration of a store // restarts permanent tasks after a panic

pub mod health; // health checks: how many results in a row change a backend's health
pub mod masters; // which servers of Redis take writes: Sentinel, Cluster
pub mod names; // addresses of backends' names, refreshed when they expire
pub mod nodes; // purges over all nodes that share a Redis
pub mod probe; // one health check of one backend
pub mod redis; // connections to Redis from the background core
pub mod shared; // limits that several nodes share
pub mod store; // the store that the configuration is in
pub mod traces; // spans to an OpenTelemetry receiver
pub mod usage; // what tenants have used, by day

/// A finding about a backend, by the number that its task was given for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The health check found it healthy after it had been unhealthy for this long.
    Well { backend: u32, after_ms: u64 },
    /// The health check found it unhealthy, and why.
    Sick { backend: u32, why: String },
    /// Its name resolves to other addresses now.
    Addresses { backend: u32, addresses: std::sync::Arc<[crate::net::Dial]> },
    /// A message for the operator.
    Log(String),
}
