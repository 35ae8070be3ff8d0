//! What cores tell each other of backends. Names backends and models by ids that are never used twice.

use std::sync::Arc;

use shards::CoreId;
use shards::breaker::Change;

use super::node::{BackendId, ModelId};
use crate::net::Dial;
use crate::net::tls::TlsFault;

/// Few, and none on the way of a request that goes well.
pub enum UpstreamMessage {
    /// What is known of a backend's health: from the background core's checks, or from another data core's requests.
    Health { backend: BackendId, news: HealthNews },
    /// To the other data cores, and to the background core, which says so: one target of a model asked to be left alone.
    Cooled { model: ModelId, target: usize, for_ms: u64 },
    /// To the other data cores: a request waits for a connection to this backend; close some that are idle.
    ConnectionWanted { backend: BackendId },
    /// Background core to data cores: the backend's name leads to these now.
    Addresses { backend: BackendId, addresses: Arc<[Dial]> },
    /// Data core to background core: a backend's breaker turned, and why.
    Turned { backend: BackendId, from: CoreId, change: Change },
    /// Data core to background core: a secure connection could not be made, and why.
    Insecure { backend: BackendId, from: CoreId, fault: TlsFault },
}

/// See [`UpstreamMessage::Health`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthNews {
    CheckPassed,
    CheckFailed,
    /// Requests of another core took it out of service for so long. `epoch` orders what crosses on its way.
    Tripped {
        for_ms: u64,
        epoch: u64,
    },
    /// Probes of another core put it back into service.
    Restored {
        epoch: u64,
    },
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    Data(CoreId),
    Background,
}
