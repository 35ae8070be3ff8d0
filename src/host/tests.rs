//! Scripted hosts: one that is as it should be, ones with planted faults, ones that cannot be seen, and strange ones.

use std::collections::BTreeSet;
use std::path::Path;

use super::doctor::{examine, id};
use super::profile::{Profile, Target};
use super::report::{Colours, Level, Report};
use super::sight::{Ring, Sight, root};
use crate::config::load::load;
use crate::config::snapshot::Snapshot;
use fixture::{Host, PERFECT};

pub mod fixture; // hosts as trees of files
mod installed; // the service's files
mod strange; // any contents
mod tuned; // changing and undoing

/// Examines a host by the profile `base`.
fn look(host: &Host) -> Report {
    look_with(host, None, Ring::Works)
}

fn look_with(host: &Host, snapshot: Option<&Snapshot>, ring: Ring) -> Report {
    let root = root(Some(host.path()));
    examine(&Sight::new(&root, None, snapshot, ring), &Profile::named("base").unwrap())
}

fn ids(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.id.as_str()).collect()
}

fn configured(text: &str) -> Snapshot {
    let rest = "[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n[[model]]\nname = \"m\"\nbackends = [\"b\"]\n";
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    load(&format!("{text}{rest}"), Path::new("test.toml"), &|_| None, &none)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_perfect_host_has_no_finding_and_all_of_it_is_seen() {
    let report = look(&Host::perfect());
    assert_eq!((report.findings, report.not_seen, report.worst), (vec![], vec![], None));
    assert!(report.in_order.len() >= 45, "{:?}", report.in_order);
    let distinct: BTreeSet<&String> = report.in_order.iter().collect();
    assert_eq!(distinct.len(), report.in_order.len(), "each check has a name of its own");
}

#[test]
fn six_planted_faults_are_these_six_worst_first() {
    let host = Host::perfect();
    host.write("/proc/sys/kernel/io_uring_disabled", "2\n");
    host.write("/proc/sys/net/core/somaxconn", "128\n");
    host.write("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n");
    host.write("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    host.write("/proc/sys/vm/swappiness", "60\n");
    host.write("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    let report = look(&host);
    assert_eq!(report.worst, Some(Level::Critical));
    assert_eq!(
        ids(&report),
        [
            "kernel.io-uring",
            "cpu.governor",
            "net.core.somaxconn",
            "net.ipv4.tcp_slow_start_after_idle",
            "vm.swappiness",
            "net.ipv4.ip_local_port_range",
        ]
    );
    let queue = &report.findings[2];
    assert_eq!(queue.found, "it is 128, should be at least 4096");
    assert_eq!(queue.seen_in, "/proc/sys/net/core/somaxconn");
    assert_eq!(queue.remedy, "sysctl -w net.core.somaxconn=\"4096\", and in /etc/sysctl.d to stay");
    assert_eq!(queue.tunable.as_deref(), Some("ringway tune --profile base --apply"));
    assert!(report.findings[0].tunable.is_none(), "a decision about security is nobody else's to undo");
    for finding in &report.findings {
        assert!(finding.why.len() > 20 && !finding.remedy.is_empty(), "{finding:?}");
    }

    let value: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!((value["worst"].as_str(), value["findings"].as_array().unwrap().len()), (Some("critical"), 6));
    for key in ["id", "level", "found", "seen_in", "why", "remedy", "tunable"] {
        assert!(value["findings"][5].get(key).is_some(), "{key}");
    }
    let text = report.text(Colours::Off);
    assert!(text.starts_with("1 critical, 4 warnings, 1 note; "), "{text}");
    assert!(!text.contains('\x1b') && report.text(Colours::On).contains("\x1b[1;31mcritical\x1b[0m"));
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

/// The check that is to find it, how bad it is, and the files of it.
type Fault = (&'static str, Level, &'static [(&'static str, &'static str)]);

/// Each check is made to speak by one change to the perfect host, and then no other check speaks.
#[test]
fn each_check_finds_its_own_fault_and_no_other() {
    let faults: &[Fault] = &[
        ("kernel.version", Level::Critical, &[("/proc/sys/kernel/osrelease", "5.15.0-91-generic")]),
        ("kernel.io-uring", Level::Warning, &[("/proc/sys/kernel/io_uring_disabled", "1")]),
        (
            "kernel.clock-source",
            Level::Warning,
            &[("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")],
        ),
        ("kernel.steal", Level::Warning, &[("/proc/stat", "cpu  600 0 200 9000 0 0 0 400 0 0")]),
        (
            "limits.locked-memory",
            Level::Critical,
            &[("/proc/self/limits", "Max open files 99999 99999 files\nMax locked memory 65536 65536 bytes")],
        ),
        (
            "limits.descriptors",
            Level::Critical,
            &[("/proc/self/limits", "Max open files 1024 4096 files\nMax locked memory unlimited unlimited bytes")],
        ),
        (
            "cpu.siblings",
            Level::Note,
            &[
                ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1"),
                ("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1"),
            ],
        ),
        ("cpu.governor", Level::Warning, &[("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil")]),
        ("cpu.idle-states", Level::Note, &[("/sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "0")]),
        ("cgroup.memory", Level::Warning, &[("/sys/fs/cgroup/system.slice/memory.max", "6442450944")]),
        (
            "cgroup.memory",
            Level::Critical,
            &[("/sys/fs/cgroup/system.slice/ringway.service/memory.high", "4294967296")],
        ),
        ("cgroup.cpu", Level::Warning, &[("/sys/fs/cgroup/system.slice/ringway.service/cpu.max", "150000 100000")]),
        (
            "cgroup.throttled",
            Level::Warning,
            &[("/sys/fs/cgroup/system.slice/ringway.service/cpu.stat", "nr_periods 1000\nnr_throttled 30")],
        ),
        (
            "memory.cache",
            Level::Warning,
            &[("/proc/meminfo", "MemTotal: 6000000 kB\nSwapTotal: 0 kB\nHugePages_Free: 0\nHugepagesize: 2048 kB")],
        ),
        (
            "memory.huge-pages",
            Level::Note,
            &[("/proc/meminfo", "MemTotal: 16000000 kB\nSwapTotal: 0 kB\nHugePages_Free: 2000\nHugepagesize: 2048 kB")],
        ),
        (
            "network.accept-queue",
            Level::Note,
            &[(
                "/proc/self/net/netstat",
                "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 17 17\nIpExt: InNoRoutes\nIpExt: 0",
            )],
        ),
        ("network.backlog-drops", Level::Warning, &[("/proc/net/softnet_stat", "00001000 00000005 00000000 00000000")]),
        ("network.budget", Level::Note, &[("/proc/net/softnet_stat", "00001000 00000000 00000030 00000000")]),
        ("network.conntrack", Level::Warning, &[("/proc/sys/net/netfilter/nf_conntrack_count", "250000")]),
        (
            "nic.flow-steering",
            Level::Note,
            &[("/proc/sys/net/core/rps_sock_flow_entries", "0"), ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "3")],
        ),
        ("nic.interrupts", Level::Warning, &[("/proc/irq/40/effective_affinity_list", "1")]),
        (
            "nic.transmit-steering",
            Level::Note,
            &[("/sys/class/net/eth0/queues/tx-0/xps_cpus", "0"), ("/sys/class/net/eth0/queues/tx-1/xps_cpus", "0")],
        ),
        ("nic.missed", Level::Note, &[("/sys/class/net/eth0/statistics/rx_missed_errors", "12")]),
    ];
    for (id, level, changes) in faults {
        let host = Host::perfect();
        changes.iter().for_each(|(path, text)| host.write(path, text));
        let report = look(&host);
        assert_eq!(ids(&report), [*id], "{changes:?}\n{}", report.text(Colours::Off));
        assert_eq!(report.findings[0].level, *level, "{changes:?}");
    }
    let report = look_with(&Host::perfect(), None, Ring::Fails("Operation not permitted (os error 1)".to_owned()));
    assert_eq!(ids(&report), ["kernel.io-uring"]);
    assert!(report.findings[0].found.contains("Operation not permitted"));
}

/// The rows of every profile: a value that breaks the rule is found under the row's own name.
#[test]
fn each_row_finds_its_own_fault() {
    let profile = Profile::named("base").unwrap();
    for row in &profile.rows {
        let (Some(id), Target::Sysctl(_) | Target::Sysfs(_)) = (id(row), &row.target) else { continue };
        let host = Host::perfect();
        host.write(
            "/proc/meminfo",
            "MemTotal: 16000000 kB\nSwapTotal: 1000 kB\nHugePages_Free: 0\nHugepagesize: 2048 kB",
        );
        host.two_nodes();
        let path = match &row.target {
            Target::Sysctl(name) => super::setting::sysctl_path(name),
            Target::Sysfs(path) => path.clone(),
            _ => continue,
        };
        let bad = if id == "net.ipv4.tcp_rmem" || id == "net.ipv4.tcp_wmem" { "1 1 1" } else { "9" };
        let bad = match id.as_str() {
            "net.ipv4.ip_local_port_range" => "40000 50000",
            "vm.swappiness" => "100",
            "net.ipv4.tcp_fastopen" => "0",
            _ => bad,
        };
        host.write(&path, bad);
        let report = look(&host);
        let expected =
            |finding: &&super::report::Finding| finding.id != "cpu.nodes" && finding.id != "network.conntrack";
        let found: Vec<&str> = report.findings.iter().filter(expected).map(|finding| finding.id.as_str()).collect();
        assert_eq!(found, [id.as_str()], "{}", report.text(Colours::Off));
    }
}

#[test]
fn nodes_and_few_queues_are_told_with_what_to_write() {
    let host = Host::perfect();
    host.two_nodes();
    host.write("/sys/class/net/eth0/device/numa_node", "1");
    host.write("/proc/self/status", "Cpus_allowed_list:\t0");
    let report = look(&host);
    assert_eq!(ids(&report), ["nic.node"]);
    host.write("/proc/self/status", "Cpus_allowed_list:\t0-1");
    let report = look(&host);
    assert_eq!(ids(&report), ["cpu.nodes"]);
    assert!(report.findings[0].remedy.contains("cores.data = \"0\" for node 0"), "{}", report.findings[0].remedy);

    let host = Host::perfect();
    host.remove("/sys/class/net/eth0/queues/rx-1");
    let report = look(&host);
    assert_eq!(ids(&report), ["nic.queues"]);
    assert_eq!(report.findings[0].found, "eth0 spreads packets over 1 of 2 data cores, and RPS is off");
}

#[test]
fn a_configuration_is_held_against_the_host() {
    assert_eq!(configured("").cache.memory_bytes, crate::limits::CACHE_MEMORY_BYTES, "the default without a file");
    let host = Host::perfect();
    let look = |text: &str| look_with(&host, Some(&configured(text)), Ring::Works);
    assert_eq!(ids(&look("[server]\nlisten = [\"127.0.0.1:8080\"]\n")), [] as [&str; 0]);
    let report = look("[cores]\ndata = \"0,7\"\n");
    assert_eq!((ids(&report), report.worst), (vec!["cpu.plan"], Some(Level::Critical)));
    assert_eq!(ids(&look("[cores]\ndata = 3\n")), ["cpu.plan"]);
    assert_eq!(ids(&look("[cores]\nsteering = \"cpu\"\n")), [] as [&str; 0]);
    let away = Host::perfect();
    away.write("/proc/irq/40/effective_affinity_list", "1");
    let report = look_with(&away, Some(&configured("[cores]\nsteering = \"cpu\"\n")), Ring::Works);
    assert_eq!(ids(&report), ["nic.interrupts", "nic.steering"]);
    assert_eq!(report.findings[1].found, "CPU 0 receives no packets of eth0");
    let report = look("[cache]\nmemory = \"15GiB\"\n");
    assert_eq!((ids(&report), report.worst), (vec!["cgroup.memory", "memory.cache"], Some(Level::Critical)));
    assert_eq!(ids(&look("[cache]\nmemory = \"15GiB\"\nenabled = false\n")), [] as [&str; 0]);
    let report = look("[server]\nlisten = [\"127.0.0.1:20000\", \"127.0.0.1:30000\"]\n");
    assert_eq!(ids(&report), ["network.listen-port"]);
    assert!(report.findings[0].remedy.contains("ip_local_reserved_ports=20000,30000"), "{}", report.findings[0].remedy);
    host.write("/proc/sys/net/ipv4/ip_local_reserved_ports", "8000,19000-20000,30000");
    assert_eq!(ids(&look("[server]\nlisten = [\"127.0.0.1:20000\", \"127.0.0.1:30000\"]\n")), [] as [&str; 0]);
}

#[test]
fn what_is_not_there_or_cannot_be_read_is_not_seen_and_no_fault() {
    let empty = tempfile::tempdir().unwrap();
    let root = root(Some(empty.path()));
    let report = examine(&Sight::new(&root, None, None, Ring::Untried), &Profile::named("base").unwrap());
    assert_eq!(ids(&report), [] as [&str; 0], "{}", report.text(Colours::Off));
    assert!(report.not_seen.len() > 30, "{:?}", report.not_seen);

    // One by one: each file of the perfect host is missed, and a directory in its place cannot be read.
    for (path, _) in PERFECT.iter().filter(|(path, _)| !path.contains("/queues/") && !path.contains("/meminfo")) {
        let host = Host::perfect();
        host.remove(path);
        let without = look(&host);
        std::fs::create_dir_all(host.path().join(path.trim_start_matches('/'))).unwrap();
        let hidden = look(&host);
        for report in [without, hidden] {
            assert_eq!(ids(&report), [] as [&str; 0], "{path}: {}", report.text(Colours::Off));
        }
    }
}

#[test]
fn another_process_is_looked_at_when_asked() {
    let host = Host::perfect();
    host.write("/proc/77/limits", "Max open files 1024 4096 files\nMax locked memory 8388608 8388608 bytes");
    // A mask names CPUs that the machine could have and has not.
    host.write("/proc/77/status", "Cpus_allowed_list:\t1-7");
    let root = root(Some(host.path()));
    let sight = Sight::new(&root, Some(77), None, Ring::Works);
    assert_eq!(sight.data_cpus(), [1]);
    assert_eq!(ids(&examine(&sight, &Profile::named("base").unwrap())), ["limits.descriptors"]);
}

#[test]
fn this_machine_is_examined_whatever_it_is() {
    let root = root(None);
    for name in Profile::names() {
        let report = examine(&Sight::new(&root, None, None, Sight::try_ring()), &Profile::named(name).unwrap());
        assert!(report.in_order.len() + report.findings.len() + report.not_seen.len() > 40);
    }
}
