//! Network interfaces with hardware behind them: their queues, the interrupts of these, and the node they are attached to.

use std::collections::BTreeSet;

use super::list::{parse_list, parse_mask};
use super::root::Root;
use crate::limits::HOST_NICS;

/// One interface.
#[derive(Clone, Debug)]
pub struct Nic {
    pub name: String,
    /// The NUMA node of its slot, where it has one.
    pub node: Option<usize>,
    /// Names such as `rx-0`.
    pub rx: Vec<String>,
    pub tx: Vec<String>,
    pub interrupts: Vec<Interrupt>,
}

/// The interrupt of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    pub number: u32,
    /// Which queue it is for, as its name says.
    pub queue: usize,
}

impl Nic {
    /// The interfaces that are up and have a device, which leaves out bridges, tunnels and loopback.
    pub fn read_all(root: &Root) -> Vec<Nic> {
        let names = root.list("/sys/class/net").into_iter();
        let is_real = |name: &String| {
            let state = root.text(&format!("/sys/class/net/{name}/operstate"));
            root.exists(&format!("/sys/class/net/{name}/device")) && state.is_none_or(|state| state != "down")
        };
        names.filter(is_real).take(HOST_NICS).map(|name| Nic::read(root, name)).collect()
    }

    fn read(root: &Root, name: String) -> Nic {
        let base = format!("/sys/class/net/{name}");
        let mut queues = root.list(&format!("{base}/queues"));
        let tx = queues.extract_if(.., |queue| queue.starts_with("tx-")).collect();
        queues.retain(|queue| queue.starts_with("rx-"));
        let node = root.text(&format!("{base}/device/numa_node")).and_then(|text| text.parse().ok());
        // A virtio interface hangs below the PCI device that has the interrupts.
        let mut numbers = root.list(&format!("{base}/device/msi_irqs"));
        if numbers.is_empty() {
            numbers = root.list(&format!("{base}/device/../msi_irqs"));
        }
        let interrupt = |number: &String| {
            let number: u32 = number.parse().ok()?;
            let names = root.list(&format!("/proc/irq/{number}"));
            Some(Interrupt { number, queue: names.iter().find_map(|name| queue_of(name))? })
        };
        let interrupts = numbers.iter().filter_map(interrupt).collect();
        Nic { name, node, rx: queues, tx, interrupts }
    }

    /// A file of one of its queues.
    pub fn queue_file(&self, queue: &str, file: &str) -> String {
        format!("/sys/class/net/{}/queues/{queue}/{file}", self.name)
    }

    /// CPUs on which its packets enter the network stack: those that RPS spreads them over where that is on, otherwise those that the
    /// interrupts go to. `None`: it cannot be seen.
    pub fn receiving_cpus(&self, root: &Root) -> Option<BTreeSet<usize>> {
        let mut cpus = BTreeSet::new();
        for queue in &self.rx {
            let mask = root.text(&self.queue_file(queue, "rps_cpus"));
            cpus.extend(mask.and_then(|mask| parse_mask(&mask)).unwrap_or_default());
        }
        if cpus.is_empty() { self.interrupted_cpus(root) } else { Some(cpus) }
    }

    /// The CPUs that the interrupts of its queues go to. `None`: it cannot be seen.
    pub fn interrupted_cpus(&self, root: &Root) -> Option<BTreeSet<usize>> {
        let mut cpus = BTreeSet::new();
        for interrupt in &self.interrupts {
            // Where the kernel sends it, which is one of those that it may go to.
            let file = |name: &str| root.text(&format!("/proc/irq/{}/{name}", interrupt.number));
            let effective = file("effective_affinity_list").filter(|text| !text.is_empty());
            cpus.extend(parse_list(&effective.or_else(|| file("smp_affinity_list"))?)?);
        }
        if self.interrupts.is_empty() { None } else { Some(cpus) }
    }
}

/// The queue that an interrupt's name speaks of: `virtio0-input.1`, `i40e-eth0-TxRx-7`, `mlx5_comp3@pci:0000:01:00.0`.
/// `None` for the other names in an interrupt's directory and for interrupts of the device as a whole.
fn queue_of(name: &str) -> Option<usize> {
    let name = name.split('@').next()?.to_ascii_lowercase();
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let kind = stem.trim_end_matches(['-', '.', '_']);
    let is_queue = ["input", "output", "rx", "tx", "comp", "queue"].iter().any(|end| kind.ends_with(end));
    if is_queue { name[stem.len()..].parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::queue_of;

    #[test]
    fn interrupts_of_queues_are_told_by_their_names() {
        for (name, queue) in [
            ("virtio0-input.1", Some(1)),
            ("virtio0-output.12", Some(12)),
            ("i40e-eth0-TxRx-7", Some(7)),
            ("mlx5_comp3@pci:0000:01:00.0", Some(3)),
            ("eth0-Tx-Rx-2", Some(2)),
            ("eth0-rx-0", Some(0)),
            ("virtio0-config", None),
            ("mlx5_async0@pci:0000:01:00.0", None),
            ("ena-mgmnt@pci:0000:00:05.0", None),
            ("smp_affinity", None),
            ("", None),
            ("rx-99999999999999999999", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }
}
