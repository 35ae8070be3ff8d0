//! The host as it is examined: its files, its CPUs and interfaces, and the core plan that the gateway would make on it.

use std::path::Path;

use super::list::parse_list;
use super::nic::Nic;
use super::placement::plan_on;
use super::plan::Plan;
use super::root::{Root, Seen};
use super::topology::Topology;
use crate::config::snapshot::{CacheMode, CoreChoice, Cores, Rebalance, Snapshot, Steering};
use crate::limits::CACHE_MEMORY_BYTES;

/// Whether a ring can be made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    Works,
    /// In the kernel's words.
    Fails(String),
    /// The files are those of another host.
    Untried,
}

/// What the examination starts from. Reading it changes nothing.
pub struct Sight<'a> {
    pub root: &'a Root,
    /// The process whose limits, mask and control group count: `self`, or a number.
    pub process: String,
    pub snapshot: Option<&'a Snapshot>,
    pub ring: Ring,
    /// CPUs that the process may use.
    pub cpus: Vec<usize>,
    pub plan: Result<Plan, String>,
    pub topology: Topology,
    pub nics: Vec<Nic>,
}

impl<'a> Sight<'a> {
    pub fn new(root: &'a Root, process: Option<u32>, snapshot: Option<&'a Snapshot>, ring: Ring) -> Sight<'a> {
        let process = process.map_or_else(|| "self".to_owned(), |number| number.to_string());
        let online = || root.text("/sys/devices/system/cpu/online").and_then(|text| parse_list(&text));
        let allowed = field(root, &format!("/proc/{process}/status"), "Cpus_allowed_list:");
        let cpus: Vec<usize> = match (allowed.and_then(|text| parse_list(&text)), online()) {
            // A mask may name CPUs that the machine could have and has not.
            (Some(allowed), Some(online)) => allowed.intersection(&online).copied().collect(),
            (Some(only), None) | (None, Some(only)) => only.into_iter().collect(),
            (None, None) => Vec::new(),
        };
        let auto = Cores {
            data: CoreChoice::Auto,
            io: CoreChoice::Auto,
            background: CoreChoice::Auto,
            steering: Steering::Auto,
            rebalance: Rebalance::On,
        };
        let (topology, nics) = (Topology::read(root, &cpus), Nic::read_all(root));
        let plan = match cpus[..] {
            [] => Err("the CPUs of this host cannot be seen".to_owned()),
            _ => plan_on(&topology, &nics, &cpus, snapshot.map_or(&auto, |snapshot| &snapshot.cores)),
        };
        Sight { root, process, snapshot, ring, cpus, plan, topology, nics }
    }

    /// CPUs of the data cores, in their order; none where there is no plan.
    pub fn data_cpus(&self) -> Vec<usize> {
        self.plan.iter().flat_map(|plan| plan.data.iter().flatten().copied()).collect()
    }

    /// CPUs that have no data core.
    pub fn other_cpus(&self) -> Vec<usize> {
        let data = self.data_cpus();
        self.cpus.iter().copied().filter(|cpu| !data.contains(cpu)).collect()
    }

    /// Data cores near an interface; all of them where its node is not known or has none.
    pub fn data_cpus_near(&self, nic: &Nic) -> Vec<usize> {
        let all = self.data_cpus();
        let near = |cpu: &usize| nic.node.is_some() && self.topology.node(*cpu) == nic.node;
        let near: Vec<usize> = all.iter().copied().filter(near).collect();
        if near.is_empty() { all } else { near }
    }

    /// Bytes of memory the cache may fill; 0 where it is off.
    pub fn cache_bytes(&self) -> u64 {
        match self.snapshot.map(|snapshot| &snapshot.cache) {
            Some(cache) if cache.mode == CacheMode::Off => 0,
            Some(cache) => cache.memory_bytes,
            None => CACHE_MEMORY_BYTES,
        }
    }

    /// A line of `/proc/meminfo`, in bytes.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = field(self.root, "/proc/meminfo", name)?;
        text.trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// A number of the host. Errors: why it is not seen.
    pub fn number(&self, path: &str) -> Result<u64, String> {
        match self.root.read(path) {
            Seen::Text(text) => text.parse().map_err(|_| format!("{path} is not a number: {text}")),
            Seen::Absent => Err(format!("there is no {path}")),
            Seen::Hidden(why) => Err(format!("{path}: {why}")),
        }
    }

    /// Makes a ring as the data cores do and gives it up.
    pub fn try_ring() -> Ring {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let built: std::io::Result<io_uring::IoUring> = builder.build(RING_ENTRIES);
        built.map_or_else(|error| Ring::Fails(error.to_string()), |_| Ring::Works)
    }
}

const RING_ENTRIES: u32 = 8;

/// What follows `name` at the start of a line.
pub fn field(root: &Root, path: &str, name: &str) -> Option<String> {
    let text = root.text(path)?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

/// The tree to look at: this machine, or what `--root` names.
pub fn root(directory: Option<&Path>) -> Root {
    directory.map_or_else(Root::system, Root::at)
}
