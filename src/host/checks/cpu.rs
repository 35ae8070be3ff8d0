//! The CPUs of the core plan: whether they are there, share a physical core, and run at full speed.

use super::{Level, Outcome, found};
use crate::host::plan::Cpus;
use crate::host::setting::slow_states;
use crate::host::sight::Sight;

const SEEN_IN: &str = "the core plan";
const NO_PLAN: &str = "there is no core plan";

pub fn plan(sight: &Sight<'_>) -> Outcome {
    const WHY: &str = "A data core is a thread on a CPU of its own. Two on one CPU wait for each other, and one that \
                       is not there does not start.";
    match &sight.plan {
        Err(error) if sight.cpus.is_empty() => Outcome::NotSeen(error.clone()),
        Err(error) => found(Level::Critical, error.clone(), SEEN_IN, WHY, "choose other CPUs in [cores]"),
        Ok(plan) => match plan.data.iter().filter(|cpu| cpu.is_none()).count() {
            0 => Outcome::Fine,
            count => found(
                Level::Warning,
                format!("{count} of {} data cores have no CPU of their own", plan.data.len()),
                SEEN_IN,
                WHY,
                "lower cores.data, or leave it at \"auto\"",
            ),
        },
    }
}

pub fn siblings(sight: &Sight<'_>) -> Outcome {
    let data = sight.data_cpus();
    if data.is_empty() {
        return Outcome::NotSeen(NO_PLAN.to_owned());
    }
    let first = sight.topology.one_of_each_core(&data);
    if first.len() == data.len() {
        return Outcome::Fine;
    }
    found(
        Level::Note,
        format!("{} data cores stand on {} physical cores", data.len(), first.len()),
        "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
        "Two hardware threads of one core take turns at its units: together they do more than one would, but each answers \
         later, and the highest percentiles grow.",
        format!(
            "for latency one data core a physical core: cores.data = \"{}\"; for throughput leave it",
            Cpus(&first)
        ),
    )
}

pub fn nodes(sight: &Sight<'_>) -> Outcome {
    let data = sight.data_cpus();
    let mut nodes: Vec<usize> = data.iter().filter_map(|&cpu| sight.topology.node(cpu)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Outcome::NotSeen("no CPU of a data core is on a node that can be seen".to_owned());
    }
    let Some(first) = nodes.first().copied().filter(|_| nodes.len() > 1) else { return Outcome::Fine };
    let near: Vec<usize> = data.iter().copied().filter(|&cpu| sight.topology.node(cpu) == Some(first)).collect();
    found(
        Level::Note,
        format!("data cores stand on {} NUMA nodes", nodes.len()),
        "/sys/devices/system/node/node*/cpulist",
        "A request that belongs to a core of another node crosses the link between them, and so does what it reads.",
        format!(
            "a node for each gateway, such as cores.data = \"{}\" for node {first}; see the profile numa",
            Cpus(&near)
        ),
    )
}

pub fn governor(sight: &Sight<'_>) -> Outcome {
    let path = |cpu: usize| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let data = sight.data_cpus();
    let seen: Vec<(usize, String)> = data.iter().filter_map(|&cpu| Some((cpu, sight.root.text(&path(cpu))?))).collect();
    if seen.is_empty() {
        return Outcome::NotSeen("there is no frequency scaling here, as on most virtual machines".to_owned());
    }
    let slow: Vec<&(usize, String)> = seen.iter().filter(|(_, governor)| governor != "performance").collect();
    let Some((first, governor)) = slow.first() else { return Outcome::Fine };
    found(
        Level::Warning,
        format!("{} of {} data cores run under the governor {governor}", slow.len(), data.len()),
        &path(*first),
        "A core that was idle for a moment begins the next request at its lowest frequency.",
        "cpupower frequency-set -g performance",
    )
    .by("latency")
}

/// Leaving a state takes so long at most, in microseconds, before it is told: a tenth of what a hit takes at its median.
const IDLE_US: u64 = 50;

pub fn idle_states(sight: &Sight<'_>) -> Outcome {
    let all =
        sight.data_cpus().iter().any(|cpu| sight.root.exists(&format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle")));
    if !all {
        return Outcome::NotSeen("there are no idle states here, as on most virtual machines".to_owned());
    }
    let slow = slow_states(sight, IDLE_US);
    let on: Vec<&String> =
        slow.iter().filter(|state| sight.number(&format!("{state}/disable")).is_ok_and(|off| off == 0)).collect();
    let Some(first) = on.first() else { return Outcome::Fine };
    let longest =
        on.iter().filter_map(|state| sight.number(&format!("{state}/latency")).ok()).max().unwrap_or_default();
    found(
        Level::Note,
        format!("data cores may fall into idle states that take up to {longest} us to leave"),
        first,
        "Each request that meets a sleeping core waits for it to wake; under steady load cores do not sleep so deeply.",
        "cpupower idle-set -D 50, at the price of power",
    )
    .by("latency")
}
