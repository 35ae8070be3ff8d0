//! Which data core gets a new connection: the one on the CPU that received it, or the one that the kernel's hash gives. By CPU,
//! packets and requests of a connection stay on one CPU; but a core whose CPU receives nothing would get no connections.

use std::fmt;

use super::nic::Nic;
use super::root::Root;
use crate::config::snapshot::Steering;

/// What is in force, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    pub by: By,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Cpu,
    Hash,
}

impl By {
    /// As the configuration spells it.
    pub fn label(self) -> &'static str {
        match self {
            By::Cpu => "cpu",
            By::Hash => "hash",
        }
    }
}

impl fmt::Display for Steered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Cpu => "the CPU that receives them",
            By::Hash => "the kernel's hash",
        };
        write!(out, "new connections go to data cores by {by}: {}", self.why)
    }
}

/// For data cores on the CPUs `data`.
pub fn decide(wanted: Steering, data: &[Option<usize>], nics: &[Nic], root: &Root) -> Steered {
    let by = |by, why: &str| Steered { by, why: why.to_owned() };
    let Some(cpus) = data.iter().copied().collect::<Option<Vec<usize>>>() else {
        return by(By::Hash, "not every data core has a CPU of its own");
    };
    match wanted {
        _ if cpus.len() < 2 => return by(By::Hash, "there is one data core"),
        Steering::Hash => return by(By::Hash, "cores.steering says so"),
        Steering::Cpu => return by(By::Cpu, "cores.steering says so"),
        Steering::Auto => {}
    }
    // As in the core plan, of several interfaces the one with the most queues is the one that traffic comes by.
    let Some(nic) = nics.iter().max_by_key(|nic| nic.rx.len()) else {
        return by(By::Hash, "there is no network interface with hardware behind it");
    };
    let name = &nic.name;
    let Some(receiving) = nic.receiving_cpus(root) else {
        return by(By::Hash, &format!("which CPUs receive the packets of {name} cannot be seen"));
    };
    match cpus.iter().find(|cpu| !receiving.contains(cpu)) {
        Some(cpu) => by(By::Hash, &format!("CPU {cpu} receives no packets of {name}")),
        None => by(By::Cpu, &format!("the CPU of every data core receives packets of {name}; loopback by the hash")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::fixture::Host;

    fn decided(host: &Host, wanted: Steering, data: &[Option<usize>]) -> (By, String) {
        let root = Root::at(host.path());
        let Steered { by, why } = decide(wanted, data, &Nic::read_all(&root), &root);
        (by, why)
    }

    #[test]
    fn by_cpu_where_every_data_core_receives_packets() {
        let host = Host::perfect();
        let both = [Some(0), Some(1)];
        assert_eq!(decided(&host, Steering::Auto, &both).0, By::Cpu);
        assert_eq!(decided(&host, Steering::Hash, &both).0, By::Hash);
        // Neither a core that floats nor one that is alone.
        assert_eq!(decided(&host, Steering::Cpu, &[Some(0), None]).0, By::Hash);
        assert_eq!(decided(&host, Steering::Cpu, &[Some(0)]).0, By::Hash);
        let (by, why) = decided(&host, Steering::Auto, &[Some(0), Some(2)]);
        assert_eq!((by, &*why), (By::Hash, "CPU 2 receives no packets of eth0"));
        assert_eq!(decided(&host, Steering::Cpu, &[Some(0), Some(2)]).0, By::Cpu, "as it was asked for");

        host.write("/proc/irq/41/effective_affinity_list", "0");
        assert_eq!(decided(&host, Steering::Auto, &both).1, "CPU 1 receives no packets of eth0");
        // RPS has the last word of which CPU that is.
        host.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "3");
        assert_eq!(decided(&host, Steering::Auto, &both).0, By::Cpu);
        host.write("/sys/class/net/eth0/operstate", "down");
        assert!(decided(&host, Steering::Auto, &both).1.contains("no network interface"));
    }
}
