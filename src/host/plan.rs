//! Which CPUs do what. Pure but for the mask, which is read before anything is pinned.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::snapshot::{CoreChoice, Cores};

/// Fewer CPUs than this are all for data; the other threads float over them.
const SMALL_CPUS: usize = 4;
/// From so many CPUs on, one is left to the system.
const SYSTEM_CPUS: usize = 8;
/// From so many on, two: the I/O thread's disk and network work in the kernel has a place of its own.
const LARGE_CPUS: usize = 16;

/// Where each thread runs. An empty place means that the thread floats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One CPU a data core; none where there are more cores than CPUs.
    pub data: Vec<Option<usize>>,
    pub io: Option<usize>,
    pub background: Option<usize>,
    /// CPUs that get no thread of ours.
    pub system: Vec<usize>,
    /// The NUMA node of each data core's memory; empty where there is one node.
    pub memory: Vec<Option<usize>>,
}

/// Plans for the CPUs this process may use, in the kernel's numbers; data cores take the first ones, the others the last. Errors: a CPU that is not there, or a count of 0.
pub fn plan(cpus: &[usize], wanted: &Cores) -> Result<Plan, String> {
    let mut free: Vec<usize> = cpus.to_vec();
    let listed = |choice: &CoreChoice, key: &str| -> Result<Vec<usize>, String> {
        let CoreChoice::List(list) = choice else { return Ok(Vec::new()) };
        match list.iter().find(|cpu| !cpus.contains(cpu)) {
            None => Ok(list.clone()),
            Some(cpu) => {
                let mut known = cpus.to_vec();
                known.sort_unstable();
                Err(format!(
                    "cores.{key}: CPU {cpu} is not among those this process may use ({}); choose others or widen its mask",
                    Cpus(&known)
                ))
            }
        }
    };
    let lists = (listed(&wanted.data, "data")?, listed(&wanted.io, "io")?, listed(&wanted.background, "background")?);
    free.retain(|cpu| !lists.0.contains(cpu) && !lists.1.contains(cpu) && !lists.2.contains(cpu));
    let small = cpus.len() < SMALL_CPUS;
    let one = |choice: &CoreChoice, list: &[usize], free: &mut Vec<usize>, auto: bool| match choice {
        CoreChoice::List(_) => list.first().copied(),
        CoreChoice::Count(_) => free.pop(),
        CoreChoice::Auto if auto => free.pop(),
        CoreChoice::Auto => None,
    };
    let mut system: Vec<usize> = free.pop_if(|_| cpus.len() >= SYSTEM_CPUS).into_iter().collect();
    let background = one(&wanted.background, &lists.2, &mut free, cpus.len() >= SYSTEM_CPUS);
    let io = one(&wanted.io, &lists.1, &mut free, !small);
    if wanted.io == CoreChoice::Auto && wanted.data == CoreChoice::Auto {
        system.extend(free.pop_if(|_| cpus.len() >= LARGE_CPUS));
        system.sort_unstable();
    }
    let mut data: Vec<Option<usize>> = match &wanted.data {
        CoreChoice::List(_) => lists.0.into_iter().map(Some).collect(),
        CoreChoice::Count(0) => return Err("cores.data: 0 data cores cannot serve; choose at least 1".to_owned()),
        CoreChoice::Count(count) => (0..*count).map(|place| free.get(place).copied()).collect(),
        CoreChoice::Auto if free.is_empty() => vec![None],
        CoreChoice::Auto => free.iter().copied().map(Some).collect(),
    };
    if !matches!(wanted.data, CoreChoice::List(_)) {
        // Those without a CPU stay last.
        data.sort_unstable_by_key(|cpu| cpu.unwrap_or(usize::MAX));
    }
    Ok(Plan { data, io, background, system, memory: Vec::new() })
}

/// The CPUs of this process's mask, in the kernel's numbers. Errors: the kernel's refusal, in words.
pub fn allowed_cpus() -> Result<Vec<usize>, String> {
    let cpus = core_affinity::get_core_ids().ok_or("the CPU mask cannot be read")?;
    Ok(cpus.into_iter().map(|cpu| cpu.id).collect())
}

/// CPUs as the kernel writes lists of them: `0-3,8`.
pub struct Cpus<'a>(pub &'a [usize]);

impl fmt::Display for Cpus<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().enumerate().take_while(|(place, cpu)| **cpu == first + place).count();
            match run {
                1 => write!(out, "{separator}{first}")?,
                _ => write!(out, "{separator}{first}-{}", first + run - 1)?,
            }
            separator = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |cpu: &Option<usize>| cpu.map_or("floating".to_owned(), |cpu| format!("CPU {cpu}"));
        let pinned: Vec<usize> = self.data.iter().flatten().copied().collect();
        let floating = self.data.len() - pinned.len();
        write!(out, "core plan: {} data", self.data.len())?;
        match (pinned.is_empty(), floating) {
            (true, _) => write!(out, " (floating)")?,
            (false, 0) => write!(out, " (CPU {})", Cpus(&pinned))?,
            (false, more) => write!(out, " (CPU {}, {more} floating)", Cpus(&pinned))?,
        }
        write!(out, ", I/O ({}), background ({})", place(&self.io), place(&self.background))?;
        if !self.system.is_empty() {
            write!(out, ", left to the system: CPU {}", Cpus(&self.system))?;
        }
        let mut nodes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (cpu, node) in self.data.iter().zip(&self.memory) {
            if let (Some(cpu), Some(node)) = (cpu, node) {
                nodes.entry(*node).or_default().push(*cpu);
            }
        }
        for (place, (node, cpus)) in nodes.iter().enumerate() {
            let before = if place == 0 { ", memory" } else { " and" };
            write!(out, "{before} of node {node} (CPU {})", Cpus(cpus))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::{Rebalance, Steering};

    fn auto() -> Cores {
        let data = CoreChoice::Auto;
        let (steering, rebalance) = (Steering::Auto, Rebalance::On);
        Cores { data, io: CoreChoice::Auto, background: CoreChoice::Auto, steering, rebalance }
    }

    fn shown(cpus: usize, wanted: &Cores) -> String {
        plan(&(0..cpus).collect::<Vec<_>>(), wanted).map_or_else(|error| error, |plan| plan.to_string())
    }

    #[test]
    fn sixteen_cpus_are_twelve_data_two_for_io_one_background_one_system() {
        let plan = plan(&(0..16).collect::<Vec<_>>(), &auto()).expect("a plan");
        assert_eq!((plan.data.len(), plan.io, plan.background), (12, Some(13), Some(14)));
        assert_eq!(plan.system, [12, 15]);
    }

    #[test]
    fn small_machines_give_all_to_data() {
        for cpus in 1..=3 {
            let plan = plan(&(0..cpus).collect::<Vec<_>>(), &auto()).expect("a plan");
            assert_eq!((plan.data.len(), plan.io, plan.background), (cpus, None, None), "{cpus} CPUs");
        }
        assert_eq!(shown(2, &auto()), "core plan: 2 data (CPU 0-1), I/O (floating), background (floating)");
    }

    #[test]
    fn every_size_has_a_data_core_and_uses_no_cpu_twice() {
        for cpus in 1..=256 {
            let plan = plan(&(0..cpus).collect::<Vec<_>>(), &auto()).expect("a plan");
            let mut used: Vec<usize> = plan.data.iter().flatten().copied().collect();
            used.extend(plan.io.into_iter().chain(plan.background).chain(plan.system.clone()));
            let count = used.len();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), count, "{cpus} CPUs: {plan}");
            assert!(plan.data.contains(&None) || count == cpus, "each CPU has its use: {plan}");
            assert!(!plan.data.is_empty());
        }
    }

    #[test]
    fn lists_and_counts_are_kept() {
        let wanted = Cores { data: CoreChoice::List(vec![0]), io: CoreChoice::List(vec![1]), ..auto() };
        assert_eq!(shown(2, &wanted), "core plan: 1 data (CPU 0), I/O (CPU 1), background (floating)");
        let wanted = Cores { data: CoreChoice::Count(4), ..auto() };
        assert_eq!(shown(2, &wanted), "core plan: 4 data (CPU 0-1, 2 floating), I/O (floating), background (floating)");
    }

    #[test]
    fn a_missing_cpu_is_named_with_the_ones_there_are() {
        let wanted = Cores { data: CoreChoice::List(vec![0, 7]), ..auto() };
        assert!(shown(4, &wanted).contains("CPU 7 is not among those this process may use (0-3)"));
    }
}
