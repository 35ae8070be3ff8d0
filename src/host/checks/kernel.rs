//! The kernel: its version, io_uring, the clock, and what a hypervisor takes.

use super::{Level, Outcome, found, percent};
use crate::host::sight::{Ring, Sight};

/// The first kernel with every ring flag that the data cores set.
const OLDEST: (u32, u32) = (6, 1);

pub fn version(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/sys/kernel/osrelease";
    let Some(text) = sight.root.text(PATH) else { return Outcome::NotSeen(format!("{PATH} cannot be read")) };
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Outcome::NotSeen(format!("{PATH} is no version: {text}"));
    };
    if (major, minor) >= OLDEST {
        return Outcome::Fine;
    }
    found(
        Level::Critical,
        format!("Linux {text}"),
        PATH,
        "Data cores set ring flags that came with Linux 6.1 (IORING_SETUP_DEFER_TASKRUN); an older kernel refuses them.",
        "install Linux 6.1 or later",
    )
}

pub fn io_uring(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/sys/kernel/io_uring_disabled";
    const WHY: &str = "Every data core and the I/O core wait on a ring; without io_uring nothing starts.";
    let disabled = sight.root.text(PATH);
    match (disabled.as_deref(), &sight.ring) {
        (Some("2"), _) => found(
            Level::Critical,
            "kernel.io_uring_disabled is 2: forbidden for everybody",
            PATH,
            WHY,
            "sysctl -w kernel.io_uring_disabled=0 (tune leaves this to you: somebody has set it for security)",
        ),
        (_, Ring::Fails(error)) => found(
            Level::Critical,
            format!("a ring cannot be made: {error}"),
            "io_uring_setup, tried",
            WHY,
            "in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile; \
             otherwise look at kernel.io_uring_disabled and the locked-memory limit",
        ),
        (Some("1"), _) => found(
            Level::Warning,
            "kernel.io_uring_disabled is 1: for root and one group only",
            PATH,
            WHY,
            "sysctl -w kernel.io_uring_group=GID with a group of the service's user, or kernel.io_uring_disabled=0",
        ),
        (_, Ring::Works) | (Some("0"), Ring::Untried) => Outcome::Fine,
        (Some(strange), Ring::Untried) => Outcome::NotSeen(format!("{PATH} is {strange}")),
        // The switch came with Linux 6.6.
        (None, Ring::Untried) => Outcome::NotSeen("a ring is tried on this machine only".to_owned()),
    }
}

/// Sources that cost a system call, and some a trip to a slow device, each time the clock is read.
const SLOW_CLOCKS: &[&str] = &["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies", "xen"];

pub fn clock_source(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(now) = sight.root.text(PATH) else { return Outcome::NotSeen(format!("{PATH} cannot be read")) };
    if !SLOW_CLOCKS.contains(&now.as_str()) {
        return Outcome::Fine;
    }
    let others = sight.root.text("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    found(
        Level::Warning,
        format!("the clock source is {now}; there are {}", others.unwrap_or_else(|| now.clone())),
        PATH,
        "The clock is read several times a request. This source needs a system call each time; tsc, kvm-clock and \
         the like are read without one.",
        "choose another with clocksource=tsc on the kernel's command line, once dmesg says why the kernel left it",
    )
}

pub fn steal(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/stat";
    let text = sight.root.text(PATH).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let times: Vec<u64> =
        line.into_iter().flat_map(str::split_whitespace).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what follows is part of user and nice.
    let [.., steal] = times[..times.len().min(8)] else { return Outcome::NotSeen(format!("{PATH} has no times")) };
    if times.len() < 8 {
        return Outcome::NotSeen(format!("{PATH} has no time that was stolen"));
    }
    let busy = [times[0], times[1], times[2], times[5], times[6], steal]
        .iter()
        .fold(0u64, |sum, time| sum.saturating_add(*time));
    match percent(steal, busy) {
        0..=4 => Outcome::Fine,
        share => found(
            if share > 15 { Level::Warning } else { Level::Note },
            format!("{share} % of the time that this machine wanted to run since it started was given to others"),
            PATH,
            "A data core that is not running answers nobody; the delay lands in the highest percentiles.",
            "ask for dedicated CPUs at the hypervisor, or plan fewer data cores",
        ),
    }
}
