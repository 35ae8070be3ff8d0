//! Which CPU and which NUMA node each thread gets on a host: data cores on physical cores before hardware threads, those near the
//! interface first, and each with memory of its own node.

use super::nic::Nic;
use super::plan::{Plan, allowed_cpus, plan};
use super::root::Root;
use super::steering::{Steered, decide};
use super::topology::Topology;
use crate::config::snapshot::{Cores, Steering};

/// The plan of this process on this machine. Errors: as for [`plan`].
pub fn plan_here(wanted: &Cores) -> Result<Plan, String> {
    let (root, cpus) = (Root::system(), allowed_cpus()?);
    plan_on(&Topology::read(&root, &cpus), &Nic::read_all(&root), &cpus, wanted)
}

/// Which data core of `plan` gets a new connection on this machine.
pub fn steered_here(wanted: Steering, plan: &Plan) -> Steered {
    let root = Root::system();
    decide(wanted, &plan.data, &Nic::read_all(&root), &root)
}

/// The plan for `cpus` of a host. Errors: as for [`plan`].
pub fn plan_on(topology: &Topology, nics: &[Nic], cpus: &[usize], wanted: &Cores) -> Result<Plan, String> {
    // Of several interfaces, the one with the most queues is the one that traffic comes by.
    let near = nics.iter().filter(|nic| nic.node.is_some()).max_by_key(|nic| nic.rx.len()).and_then(|nic| nic.node);
    let mut plan = plan(&topology.order_of_use(cpus, near), wanted)?;
    if topology.nodes > 1 {
        plan.memory = plan.data.iter().map(|cpu| topology.node((*cpu)?)).collect();
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::{CoreChoice, Rebalance};

    /// Two nodes of four physical cores with two hardware threads each, numbered as Linux does: 0-3 and 4-7 are cores of
    /// nodes 0 and 1, 8-15 their second threads. The interface is on `nic_node`.
    fn host(nic_node: Option<usize>) -> (tempfile::TempDir, Vec<Nic>) {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: String, text: String| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for cpu in 0..16 {
            let siblings = format!("{},{}\n", cpu % 8, cpu % 8 + 8);
            write(format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
        }
        write("sys/devices/system/node/node0/cpulist".into(), "0-3,8-11\n".into());
        write("sys/devices/system/node/node1/cpulist".into(), "4-7,12-15\n".into());
        let nic = Nic { name: "eth0".into(), node: nic_node, rx: vec!["rx-0".into()], tx: vec![], interrupts: vec![] };
        (directory, vec![nic])
    }

    fn shown(nic_node: Option<usize>, data: CoreChoice) -> String {
        let (directory, nics) = host(nic_node);
        let cpus: Vec<usize> = (0..16).collect();
        let topology = Topology::read(&Root::at(directory.path()), &cpus);
        let (steering, rebalance) = (Steering::Auto, Rebalance::On);
        let wanted = Cores { data, io: CoreChoice::Auto, background: CoreChoice::Auto, steering, rebalance };
        plan_on(&topology, &nics, &cpus, &wanted).map_or_else(|error| error, |plan| plan.to_string())
    }

    #[test]
    fn data_cores_take_physical_cores_near_the_interface_first() {
        assert!(shown(Some(1), CoreChoice::Count(3)).starts_with("core plan: 3 data (CPU 4-6)"));
        assert!(shown(Some(0), CoreChoice::Count(4)).starts_with("core plan: 4 data (CPU 0-3)"));
        // The other node's cores come before second threads of this one's.
        assert!(shown(Some(1), CoreChoice::Count(6)).starts_with("core plan: 6 data (CPU 0-1,4-7)"));
        assert!(shown(None, CoreChoice::Count(8)).starts_with("core plan: 8 data (CPU 0-7)"));
    }

    #[test]
    fn the_other_threads_get_second_threads_of_the_far_node() {
        assert_eq!(
            shown(Some(1), CoreChoice::Auto),
            "core plan: 12 data (CPU 0-7,12-15), I/O (CPU 9), background (CPU 10), left to the system: CPU 8,11, \
             memory of node 0 (CPU 0-3) and of node 1 (CPU 4-7,12-15)"
        );
    }

    #[test]
    fn a_list_stays_as_it_is_and_gets_the_memory_of_its_nodes() {
        let plan = shown(Some(1), CoreChoice::List(vec![7, 0]));
        assert!(
            plan.starts_with("core plan: 2 data (CPU 7,0), ")
                && plan.ends_with("memory of node 0 (CPU 0) and of node 1 (CPU 7)"),
            "{plan}"
        );
    }
}
