//! What the control group of the process allows, beside what the plan and the cache want. Version 2, and the memory and
//! CPU controllers of version 1.

use super::{Level, Outcome, found, mebibytes, percent};
use crate::host::sight::Sight;
use crate::limits::HOST_CGROUP_DEPTH;

pub fn memory(sight: &Sight<'_>) -> Outcome {
    let groups = match groups(sight, "memory") {
        Ok(groups) => groups,
        Err(why) => return Outcome::NotSeen(why),
    };
    let files = groups
        .iter()
        .flat_map(|group| ["memory.max", "memory.high", "memory.limit_in_bytes"].map(|file| format!("{group}/{file}")));
    // Version 1 writes a number near 2^63 for no limit.
    let limits = files.filter_map(|file| Some((sight.number(&file).ok().filter(|&bytes| bytes < 1 << 60)?, file)));
    let Some((limit, file)) = limits.min() else { return Outcome::Fine };
    let cache = sight.cache_bytes();
    if percent(cache, limit) <= 50 {
        return Outcome::Fine;
    }
    let level = if cache >= limit { Level::Critical } else { Level::Warning };
    found(
        level,
        format!("the group may have {}, of which the cache may fill {}", mebibytes(limit), mebibytes(cache)),
        &file,
        "Connections and requests need memory besides the cache; a group beyond its limit is killed or made to wait.",
        format!("cache.memory = \"{}MiB\" at most, or a higher MemoryMax", (limit / 2) >> 20),
    )
}

pub fn cpu(sight: &Sight<'_>) -> Outcome {
    let groups = match groups(sight, "cpu") {
        Ok(groups) => groups,
        Err(why) => return Outcome::NotSeen(why),
    };
    let quota = |group: &String| {
        let text = sight.root.text(&format!("{group}/cpu.max"));
        let both = text.or_else(|| {
            let part = |name: &str| sight.root.text(&format!("{group}/cpu.cfs_{name}_us"));
            Some(format!("{} {}", part("quota")?, part("period")?))
        })?;
        let mut words = both.split_whitespace().map(str::parse::<u64>);
        // No number: "max", or -1 in version 1.
        let (Some(Ok(quota)), Some(Ok(period))) = (words.next(), words.next()) else { return None };
        Some((percent(quota, period), group.clone()))
    };
    let Some((allowed, group)) = groups.iter().filter_map(quota).min() else { return Outcome::Fine };
    let cores = sight.data_cpus().len();
    if allowed >= percent(cores as u64, 1) {
        return Outcome::Fine;
    }
    found(
        Level::Warning,
        format!("the group may use {allowed} % of a CPU, and {cores} data cores can use {} %", cores * 100),
        &format!("{group}/cpu.max"),
        "A group that has used up its share is stopped for the rest of the period, with every stream it serves.",
        format!(
            "cores.data = {}, or no CPUQuota; CPUs for the service alone are given by AllowedCPUs",
            (allowed / 100).max(1)
        ),
    )
}

pub fn throttled(sight: &Sight<'_>) -> Outcome {
    let groups = match groups(sight, "cpu") {
        Ok(groups) => groups,
        Err(why) => return Outcome::NotSeen(why),
    };
    for group in groups {
        let file = format!("{group}/cpu.stat");
        let Some(text) = sight.root.text(&file) else { continue };
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let (periods, stopped) = (number("nr_periods ").unwrap_or(0), number("nr_throttled ").unwrap_or(0));
        if percent(stopped, periods) > 0 {
            return found(
                Level::Warning,
                format!("the group was stopped in {stopped} of {periods} periods"),
                &file,
                "While it is stopped every stream of the gateway stands still, up to a tenth of a second at a time.",
                "raise or remove its CPUQuota",
            );
        }
    }
    Outcome::Fine
}

/// The directories of the process's group and of those above it, nearest first. Errors: why there are none to see.
fn groups(sight: &Sight<'_>, controller: &str) -> Result<Vec<String>, String> {
    let path = format!("/proc/{}/cgroup", sight.process);
    let text = sight.root.text(&path).ok_or_else(|| format!("{path} cannot be read"))?;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => "/sys/fs/cgroup".to_owned(),
            list if list.split(',').any(|name| name == controller) => format!("/sys/fs/cgroup/{controller}"),
            _ => continue,
        };
        // Seen from inside of a container the path may lead out of the tree.
        let parts: Vec<&str> = group.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
        for length in (0..=parts.len().min(HOST_CGROUP_DEPTH)).rev() {
            let directory =
                std::iter::once(base.as_str()).chain(parts[..length].iter().copied()).collect::<Vec<_>>().join("/");
            if sight.root.exists(&directory) {
                found.push(directory);
            }
        }
    }
    if found.is_empty() { Err(format!("no group of {path} is below /sys/fs/cgroup")) } else { Ok(found) }
}
