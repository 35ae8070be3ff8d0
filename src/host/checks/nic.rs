//! Network interfaces: queues beside data cores, where their interrupts and packets go, and the node they are attached to.

use super::{Level, Outcome, found};
use crate::config::snapshot::Steering;
use crate::host::list::parse_mask;
use crate::host::nic::Nic;
use crate::host::plan::Cpus;
use crate::host::sight::Sight;
use crate::host::steering::{By, Steered, decide};

const NONE: &str = "there is no network interface with hardware behind it";

pub fn queues(sight: &Sight<'_>) -> Outcome {
    each(
        sight,
        |nic| {
            let cores = sight.data_cpus().len();
            if nic.rx.len() >= cores || steered(sight, nic, &nic.rx, "rps_cpus")? {
                return Ok(None);
            }
            Ok(Some(format!(
                "{} spreads packets over {} of {cores} data cores, and RPS is off",
                nic.name,
                nic.rx.len()
            )))
        },
        |told| {
            found(
                Level::Warning,
                told,
                "/sys/class/net/*/queues/rx-*/rps_cpus",
                "The CPUs that have a queue do the network's work for all the others, and are busy before those are.",
                "ethtool -L INTERFACE combined N where the hardware has more queues; else spread packets by RPS",
            )
            .by("throughput")
        },
    )
}

pub fn flow_steering(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/sys/net/core/rps_sock_flow_entries";
    each(
        sight,
        |nic| {
            let is_on = steered(sight, nic, &nic.rx, "rps_cpus")?;
            Ok((is_on && sight.number(PATH)? == 0).then(|| format!("RPS is on at {} and RFS is off", nic.name)))
        },
        |told| {
            found(
            Level::Note,
            told,
            PATH,
            "RPS alone picks a CPU by the flow's hash; with RFS it is the one where the data core of that connection runs.",
            "net.core.rps_sock_flow_entries = 32768, and rps_flow_cnt of each queue",
        )
        .by("throughput")
        },
    )
}

pub fn interrupts(sight: &Sight<'_>) -> Outcome {
    each(
        sight,
        |nic| {
            if nic.rx.len() < 2 {
                return Ok(None);
            }
            let wanted = nic.rx.len().min(sight.data_cpus_near(nic).len());
            let cpus = nic.interrupted_cpus(sight.root).filter(|_| nic.interrupts.len() >= wanted);
            let cpus = cpus.ok_or_else(|| format!("the interrupts of {} cannot be seen", nic.name))?.len();
            Ok((cpus < wanted).then(|| format!("{} queues of {} interrupt {cpus} CPUs", nic.rx.len(), nic.name)))
        },
        |told| {
            found(
            Level::Warning,
            told,
            "/proc/irq/*/effective_affinity_list",
            "Several queues help only if several CPUs serve them.",
            "place them by /proc/irq/N/smp_affinity, one data core each, and stop irqbalance, which would move them again",
        )
        .by("throughput")
        },
    )
}

pub fn transmit_steering(sight: &Sight<'_>) -> Outcome {
    each(
        sight,
        |nic| {
            let missing = nic.tx.len() > 1 && !steered(sight, nic, &nic.tx, "xps_cpus")?;
            Ok(missing.then(|| format!("{} send queues of {} are not bound to CPUs", nic.tx.len(), nic.name)))
        },
        |told| {
            found(
            Level::Note,
            told,
            "/sys/class/net/*/queues/tx-*/xps_cpus",
            "Without XPS a core sends by any queue, and the lock and the completions of a queue wander between CPUs.",
            "write the CPU of a data core to xps_cpus of each queue",
        )
        .by("throughput")
        },
    )
}

pub fn node(sight: &Sight<'_>) -> Outcome {
    match sight.topology.nodes {
        0 => return Outcome::NotSeen("there is no NUMA node".to_owned()),
        1 => return Outcome::Fine,
        _ => {}
    }
    let data = sight.data_cpus();
    each(
        sight,
        |nic| {
            let Some(node) = nic.node else { return Ok(None) };
            let near: Vec<usize> = data.iter().copied().filter(|&cpu| sight.topology.node(cpu) == Some(node)).collect();
            Ok(near.is_empty().then(|| {
                let there: Vec<usize> =
                    sight.cpus.iter().copied().filter(|&cpu| sight.topology.node(cpu) == Some(node)).collect();
                format!("{} is attached to node {node} (CPU {}), where no data core is", nic.name, Cpus(&there))
            }))
        },
        |told| {
            found(
                Level::Warning,
                told,
                "/sys/class/net/*/device/numa_node",
                "Every packet crosses the link between the nodes.",
                "choose cores.data among the CPUs of the interface's node",
            )
        },
    )
}

/// Only where it was asked for: what `auto` finds, it acts on.
pub fn steering(sight: &Sight<'_>) -> Outcome {
    const REMEDY: &str =
        "place the interrupts by /proc/irq/N/smp_affinity, one data core each, or write cores.steering = \"auto\"";
    let wanted = sight.snapshot.map_or(Steering::Auto, |snapshot| snapshot.cores.steering);
    let Ok(plan) = &sight.plan else { return Outcome::NotSeen("there is no core plan".to_owned()) };
    if wanted != Steering::Cpu {
        return Outcome::Fine;
    }
    let why = "A core whose CPU receives no packets gets no connections from that interface.";
    match decide(Steering::Auto, &plan.data, &sight.nics, sight.root) {
        Steered { by: By::Cpu, .. } => Outcome::Fine,
        Steered { by: By::Hash, why: told } => {
            found(Level::Warning, told, "/proc/irq/*/effective_affinity_list", why, REMEDY)
        }
    }
}

pub fn missed(sight: &Sight<'_>) -> Outcome {
    each(
        sight,
        |nic| {
            let count = sight.number(&format!("/sys/class/net/{}/statistics/rx_missed_errors", nic.name))?;
            Ok((count > 0).then(|| format!("{} missed {count} packets since it is up", nic.name)))
        },
        |told| {
            found(
                Level::Note,
                told,
                "/sys/class/net/*/statistics/rx_missed_errors",
                "Packets came faster than the kernel took them out of the hardware's ring.",
                "ethtool -G INTERFACE rx N for a longer ring, and more queues",
            )
        },
    )
}

/// Looks at every interface and makes one finding of what is wrong with some.
fn each(
    sight: &Sight<'_>,
    look: impl Fn(&Nic) -> Result<Option<String>, String>,
    tell: impl FnOnce(String) -> Outcome,
) -> Outcome {
    if sight.nics.is_empty() {
        return Outcome::NotSeen(NONE.to_owned());
    }
    let looked: Vec<Result<Option<String>, String>> = sight.nics.iter().map(look).collect();
    let told: Vec<&str> = looked.iter().filter_map(|one| one.as_ref().ok()?.as_deref()).collect();
    if !told.is_empty() {
        return tell(told.join("; "));
    }
    looked.into_iter().find_map(Result::err).map_or(Outcome::Fine, Outcome::NotSeen)
}

/// Whether any of an interface's queues is bound to CPUs. Errors: why it is not seen.
fn steered(sight: &Sight<'_>, nic: &Nic, queues: &[String], file: &str) -> Result<bool, String> {
    for queue in queues {
        let path = nic.queue_file(queue, file);
        let text = sight.root.text(&path).ok_or_else(|| format!("{path} cannot be read"))?;
        let cpus = parse_mask(&text).ok_or_else(|| format!("{path} is no mask: {text}"))?;
        if !cpus.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
