//! The checks that are more than one value against one rule; those are rows of the profiles. Each looks, and changes nothing.

use super::report::{Found, Level, Outcome};
use super::sight::Sight;

mod cgroup; // what the control group allows, beside the plan and the cache
mod cpu; // the plan's CPUs: frequency, idle states, siblings, nodes
mod kernel; // version, io_uring, clock
mod limits; // of the process
mod memory; // what there is, and what is withheld
mod network; // queues that have overflowed, ports
mod nic; // queues, interrupts and steering of the interfaces

/// One check.
pub struct Check {
    /// Its group, a dot, its name.
    pub id: &'static str,
    pub run: fn(&Sight<'_>) -> Outcome,
}

/// In the order they are told.
pub static CHECKS: &[Check] = &[
    Check { id: "kernel.version", run: kernel::version },
    Check { id: "kernel.io-uring", run: kernel::io_uring },
    Check { id: "kernel.clock-source", run: kernel::clock_source },
    Check { id: "kernel.steal", run: kernel::steal },
    Check { id: "limits.locked-memory", run: limits::locked_memory },
    Check { id: "limits.descriptors", run: limits::descriptors },
    Check { id: "cpu.plan", run: cpu::plan },
    Check { id: "cpu.siblings", run: cpu::siblings },
    Check { id: "cpu.nodes", run: cpu::nodes },
    Check { id: "cpu.governor", run: cpu::governor },
    Check { id: "cpu.idle-states", run: cpu::idle_states },
    Check { id: "cgroup.memory", run: cgroup::memory },
    Check { id: "cgroup.cpu", run: cgroup::cpu },
    Check { id: "cgroup.throttled", run: cgroup::throttled },
    Check { id: "memory.cache", run: memory::cache },
    Check { id: "memory.huge-pages", run: memory::huge_pages },
    Check { id: "network.listen-port", run: network::listen_port },
    Check { id: "network.accept-queue", run: network::accept_queue },
    Check { id: "network.backlog-drops", run: network::backlog_drops },
    Check { id: "network.budget", run: network::budget },
    Check { id: "network.conntrack", run: network::conntrack },
    Check { id: "nic.queues", run: nic::queues },
    Check { id: "nic.flow-steering", run: nic::flow_steering },
    Check { id: "nic.interrupts", run: nic::interrupts },
    Check { id: "nic.transmit-steering", run: nic::transmit_steering },
    Check { id: "nic.node", run: nic::node },
    Check { id: "nic.steering", run: nic::steering },
    Check { id: "nic.missed", run: nic::missed },
];

/// A finding that no profile changes, to be completed with `Found::by`.
fn found(level: Level, found: impl Into<String>, seen_in: &str, why: &str, remedy: impl Into<String>) -> Outcome {
    let (found, remedy, profile) = (found.into(), remedy.into(), None);
    Outcome::Found(Found { level, found, seen_in: seen_in.to_owned(), why: why.to_owned(), remedy, profile })
}

impl Outcome {
    /// Says which profile changes it.
    fn by(self, profile: &str) -> Outcome {
        match self {
            Outcome::Found(found) => Outcome::Found(Found { profile: Some(profile.to_owned()), ..found }),
            other => other,
        }
    }
}

/// A share of a whole in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).map_or(0, |share| share.min(u128::from(u64::MAX)) as u64)
}

/// Bytes for people: whole MiB, so that 1.5 GiB stays what it is.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
