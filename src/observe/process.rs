//! Statistics of this process and its threads from /proc. For the background core: reads files.

use std::fs;

/// Values of the process; 0 if it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_descriptors: u64,
    pub most_descriptors: u64,
    pub threads: u64,
    /// Since 1970-01-01 UTC.
    pub started_seconds: f64,
}

impl Process {
    pub fn read() -> Process {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Process {
            open_descriptors: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            most_descriptors: limit(&read("/proc/self/limits"), "Max open files"),
            ..Process::default()
        };
        process.take_stat(&read("/proc/self/stat"), boot_seconds(&read("/proc/stat")));
        process
    }

    /// The fields of proc_pid_stat(5); the second is a name in parentheses, which may contain anything.
    fn take_stat(&mut self, stat: &str, boot_seconds: f64) {
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        // `fields` starts with field 3.
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        self.cpu_seconds = (field(14) + field(15)) as f64 / ticks;
        self.threads = field(20);
        self.started_seconds = boot_seconds + field(22) as f64 / ticks;
        self.virtual_bytes = field(23);
        self.resident_bytes = field(24) * rustix::param::page_size() as u64;
    }
}

/// Memory of the process as the kernel counts it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryUse {
    pub resident: u64,
    pub resident_peak: u64,
    /// Of the resident: the allocator's, stacks and other mappings without a file.
    pub anonymous: u64,
    /// Of the resident: of the program and other files.
    pub files: u64,
    pub shared: u64,
    pub swapped: u64,
    pub page_tables: u64,
}

impl MemoryUse {
    pub fn read() -> MemoryUse {
        MemoryUse::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// The rows of proc_pid_status(5); 0 for one that is missing.
    fn parse(status: &str) -> MemoryUse {
        let row = |name: &str| {
            let mut lines = status.lines();
            let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
            let kibibytes: u64 = rest.split_ascii_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0);
            kibibytes.saturating_mul(1024)
        };
        MemoryUse {
            resident: row("VmRSS"),
            resident_peak: row("VmHWM"),
            anonymous: row("RssAnon"),
            files: row("RssFile"),
            shared: row("RssShmem"),
            swapped: row("VmSwap"),
            page_tables: row("VmPTE"),
        }
    }
}

/// Page faults of a thread: those without, and those with a read from a disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadFaults {
    pub thread: u64,
    pub name: String,
    pub minor: u64,
    pub major: u64,
}

/// Of each thread that runs now, by its number.
pub fn threads() -> Vec<ThreadFaults> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // A thread may end meanwhile.
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let mut all: Vec<ThreadFaults> = stats.filter_map(|stat| thread_faults(&stat)).collect();
    all.sort_by_key(|one| one.thread);
    all
}

fn thread_faults(stat: &str) -> Option<ThreadFaults> {
    let (start, rest) = stat.rsplit_once(')')?;
    let (thread, name) = start.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace().skip(10 - 3);
    let minor = fields.next()?.parse().ok()?;
    let major = fields.nth(1)?.parse().ok()?;
    Some(ThreadFaults { thread: thread.trim().parse().ok()?, name: name.to_owned(), minor, major })
}

/// CPU time of a thread of this process in seconds.
pub fn thread_cpu_seconds(thread: u64) -> f64 {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|field| field.parse::<u64>().ok());
    nanoseconds.unwrap_or(0) as f64 / 1e9
}

fn boot_seconds(stat: &str) -> f64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0.0)
}

/// The soft limit in a row of proc_pid_limits(5); 0 without one.
fn limit(limits: &str, row: &str) -> u64 {
    let rest = limits.lines().find_map(|line| line.strip_prefix(row)).unwrap_or("");
    rest.split_ascii_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_that_looks_like_fields() {
        let mut process = Process::default();
        let stat = "7 (a ) 1 b) S 1 7 7 0 -1 4 0 0 0 0 150 50 0 0 20 0 9 0 1000 4096000 25 18446744073709551615";
        process.take_stat(stat, 1_000_000.0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((process.threads, process.virtual_bytes), (9, 4_096_000));
        assert_eq!(process.resident_bytes, 25 * rustix::param::page_size() as u64);
        assert_eq!(process.cpu_seconds, 200.0 / ticks);
        assert_eq!(process.started_seconds, 1_000_000.0 + 1000.0 / ticks);
        process.take_stat("", 0.0);
        assert_eq!(process.threads, 0);
    }

    #[test]
    fn faults_and_sizes_stand_in_their_rows() {
        let stat = "7 (a ) 1 b) S 1 7 7 0 -1 4 11 12 13 14 150 50 0 0 20 0 9 0 1000 4096000 25";
        let told = ThreadFaults { thread: 7, name: "a ) 1 b".to_owned(), minor: 11, major: 13 };
        assert_eq!(thread_faults(stat), Some(told));
        assert_eq!(thread_faults("7 (a) S 1"), None);
        let used = MemoryUse::parse("Name:\tVmRSS:\nVmHWM:\t    12 kB\nVmRSS:\t    10 kB\nRssAnon:\t 8 kB\n");
        assert_eq!((used.resident, used.resident_peak, used.anonymous, used.swapped), (10_240, 12_288, 8_192, 0));
        assert!(MemoryUse::read().resident > 0 && !threads().is_empty());
    }

    #[test]
    fn this_process_has_what_every_process_has() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.open_descriptors > 0 && process.threads > 0, "{process:?}");
        assert!(process.started_seconds > 1e9, "{process:?}");
    }
}
