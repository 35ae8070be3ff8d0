//! Memory: whether the cache fits, and what huge pages withhold from it.

use super::{Level, Outcome, found, mebibytes, percent};
use crate::host::sight::Sight;

const PATH: &str = "/proc/meminfo";

pub fn cache(sight: &Sight<'_>) -> Outcome {
    let Some(total) = sight.memory("MemTotal:") else { return Outcome::NotSeen(format!("{PATH} has no MemTotal")) };
    let cache = sight.cache_bytes();
    if percent(cache, total) <= 50 {
        return Outcome::Fine;
    }
    let level = if cache >= total { Level::Critical } else { Level::Warning };
    found(
        level,
        format!("the machine has {}, of which the cache may fill {}", mebibytes(total), mebibytes(cache)),
        PATH,
        "The cache grows to its bound. Connections, requests and the kernel need memory besides it, or the process is killed.",
        format!("cache.memory = \"{}MiB\" at most", (total / 2) >> 20),
    )
}

/// Reserved and unused pages are told from this share of the memory on, in percent.
const WITHHELD_PERCENT: u64 = 5;

pub fn huge_pages(sight: &Sight<'_>) -> Outcome {
    let Some(total) = sight.memory("MemTotal:") else { return Outcome::NotSeen(format!("{PATH} has no MemTotal")) };
    // A count, without a unit.
    let Some(free) = sight.memory("HugePages_Free:").map(|bytes| bytes / 1024) else {
        return Outcome::NotSeen(format!("{PATH} has no HugePages_Free"));
    };
    let size = sight.memory("Hugepagesize:").unwrap_or(2 << 20);
    let withheld = free.saturating_mul(size);
    if percent(withheld, total) < WITHHELD_PERCENT {
        return Outcome::Fine;
    }
    found(
        Level::Note,
        format!("{} are reserved as huge pages that nobody uses", mebibytes(withheld)),
        PATH,
        "The gateway takes ordinary pages: a huge one is zeroed whole when it is touched first, which stalls a core in the \
         middle of streams. What is reserved is withheld from its cache.",
        "sysctl -w vm.nr_hugepages=0, unless another program is about to use them",
    )
}
