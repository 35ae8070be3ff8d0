//! Which CPUs there are, which of them share a physical core, and which belong to which NUMA node.

use std::collections::{BTreeMap, BTreeSet};

use super::list::parse_list;
use super::root::Root;

/// What could be read; a CPU about which nothing is known stands alone and on no node.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// CPUs that share a physical core with others, by CPU, themselves included.
    siblings: BTreeMap<usize, BTreeSet<usize>>,
    node: BTreeMap<usize, usize>,
    /// NUMA nodes that have CPUs.
    pub nodes: usize,
}

impl Topology {
    /// Reads what there is about `cpus`.
    pub fn read(root: &Root, cpus: &[usize]) -> Topology {
        let mut topology = Topology::default();
        for &cpu in cpus {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            if let Some(list) = root.text(&path).and_then(|text| parse_list(&text)) {
                topology.siblings.insert(cpu, list);
            }
        }
        for path in root.matching("/sys/devices/system/node/node*") {
            let Some(number) = path.rsplit("node").next().and_then(|digits| digits.parse().ok()) else { continue };
            let list = root.text(&format!("{path}/cpulist")).and_then(|text| parse_list(&text)).unwrap_or_default();
            topology.nodes += usize::from(!list.is_empty());
            topology.node.extend(list.into_iter().map(|cpu| (cpu, number)));
        }
        topology
    }

    pub fn node(&self, cpu: usize) -> Option<usize> {
        self.node.get(&cpu).copied()
    }

    /// CPUs in the order in which data cores take them: one of each physical core before their other hardware threads, and in
    /// both those of the node `near` first.
    pub fn order_of_use(&self, cpus: &[usize], near: Option<usize>) -> Vec<usize> {
        let first: BTreeSet<usize> = self.one_of_each_core(cpus).into_iter().collect();
        let mut order = cpus.to_vec();
        order.sort_by_key(|cpu| (!first.contains(cpu), near.is_some() && self.node(*cpu) != near));
        order
    }

    /// One CPU of each physical core, in the order of `cpus`.
    pub fn one_of_each_core(&self, cpus: &[usize]) -> Vec<usize> {
        let mut taken = BTreeSet::new();
        let mut first = Vec::new();
        for &cpu in cpus {
            if taken.insert(cpu) {
                first.push(cpu);
                taken.extend(self.siblings.get(&cpu).into_iter().flatten().copied());
            }
        }
        first
    }
}
