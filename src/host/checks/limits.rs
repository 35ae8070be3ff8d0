//! Limits of the process.

use super::{Level, Outcome, found};
use crate::host::sight::{Sight, field};

/// What the I/O core's ring cannot do without.
const LOCKED_LEAST: u64 = 512 << 10;
/// What it registers (three times 2 MiB), and the rings themselves on kernels that count them.
const LOCKED_WANTED: u64 = 8 << 20;
/// A descriptor each for 5,000 clients and as many connections to backends leave room here for a busy day.
const DESCRIPTORS_WANTED: u64 = 65_536;
/// Below this a fraction of the 5,000 connections that a node is made for is refused.
const DESCRIPTORS_LEAST: u64 = 4_096;

pub fn locked_memory(sight: &Sight<'_>) -> Outcome {
    const WHY: &str = "The I/O core registers its buffers with the kernel, three times 2 MiB, as locked memory; below 512 KiB \
                       its ring is refused and nothing starts.";
    limit(sight, "Max locked memory", LOCKED_LEAST, LOCKED_WANTED, WHY, "LimitMEMLOCK=64M")
}

pub fn descriptors(sight: &Sight<'_>) -> Outcome {
    const WHY: &str = "Each client and each connection to a backend holds a descriptor; beyond the limit connections are \
                       not accepted.";
    limit(sight, "Max open files", DESCRIPTORS_LEAST, DESCRIPTORS_WANTED, WHY, "LimitNOFILE=1048576")
}

fn limit(sight: &Sight<'_>, name: &str, least: u64, wanted: u64, why: &str, line: &str) -> Outcome {
    let path = format!("/proc/{}/limits", sight.process);
    let Some(text) = field(sight.root, &path, name) else { return Outcome::NotSeen(format!("{path} cannot be read")) };
    let soft = match text.split_whitespace().next() {
        Some("unlimited") => return Outcome::Fine,
        Some(number) => number.parse::<u64>(),
        None => return Outcome::NotSeen(format!("{path} has no number for {name}")),
    };
    let Ok(soft) = soft else { return Outcome::NotSeen(format!("{path}: {name} is {text}")) };
    if soft >= wanted {
        return Outcome::Fine;
    }
    let level = if soft < least { Level::Critical } else { Level::Warning };
    let whose =
        if sight.process == "self" { "of this shell; --pid looks at a running gateway" } else { "of that process" };
    let remedy = format!("{line} in the service's unit, or limits.conf for a login; for the next start");
    found(level, format!("{soft} ({whose}), should be at least {wanted}"), &path, why, remedy).by("base")
}
