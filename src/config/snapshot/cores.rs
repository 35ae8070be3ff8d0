//! Which CPUs do what, and which data core serves a connection.

use strum::{EnumString, VariantNames};

/// Which CPUs do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    pub data: CoreChoice,
    pub io: CoreChoice,
    pub background: CoreChoice,
    pub steering: Steering,
    pub rebalance: Rebalance,
}

/// Whether busy cores give connections to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    On,
    Off,
}

/// Which data core gets a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Steering {
    /// As the host's network interface suggests.
    Auto,
    /// The one on the CPU that received it.
    Cpu,
    /// The one that the kernel's hash of addresses and ports gives.
    Hash,
}

/// How the CPUs of one kind of thread are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreChoice {
    /// By the core plan.
    Auto,
    /// So many threads, on CPUs the core plan picks.
    Count(usize),
    /// Exactly these CPUs (the kernel's numbers), in this order, each once.
    List(Vec<usize>),
}
