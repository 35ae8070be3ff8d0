//! Hosts as trees of files: two CPUs on two physical cores of one node, one interface with two queues.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// Every file of a host on which nothing is to be mended.
pub static PERFECT: &[(&str, &str)] = &[
    ("/proc/sys/kernel/osrelease", "6.12.0-1-amd64\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    ("/proc/sys/kernel/nmi_watchdog", "0\n"),
    ("/proc/sys/kernel/numa_balancing", "0\n"),
    ("/proc/sys/kernel/random/boot_id", "5a4c0f1e-0000-4000-8000-000000000001\n"),
    ("/proc/sys/net/core/somaxconn", "4096\n"),
    ("/proc/sys/net/core/netdev_max_backlog", "2000\n"),
    ("/proc/sys/net/core/netdev_budget", "300\n"),
    ("/proc/sys/net/core/netdev_budget_usecs", "2000\n"),
    ("/proc/sys/net/core/rps_sock_flow_entries", "32768\n"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
    ("/proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("/proc/sys/net/ipv4/tcp_abort_on_overflow", "0\n"),
    ("/proc/sys/net/ipv4/tcp_migrate_req", "1\n"),
    ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0\n"),
    ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432\n"),
    ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("/proc/sys/net/ipv4/tcp_moderate_rcvbuf", "1\n"),
    ("/proc/sys/net/ipv4/tcp_window_scaling", "1\n"),
    ("/proc/sys/net/ipv4/tcp_sack", "1\n"),
    ("/proc/sys/net/ipv4/tcp_timestamps", "1\n"),
    ("/proc/sys/net/ipv4/tcp_congestion_control", "bbr\n"),
    ("/proc/sys/net/ipv4/tcp_fastopen", "3\n"),
    ("/proc/sys/net/ipv4/tcp_autocorking", "1\n"),
    ("/proc/sys/net/ipv4/tcp_tw_reuse", "1\n"),
    ("/proc/sys/net/ipv4/ip_local_port_range", "10240\t65535\n"),
    ("/proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
    ("/proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
    ("/proc/sys/fs/nr_open", "1048576\n"),
    ("/proc/sys/fs/file-max", "9223372036854775807\n"),
    ("/proc/sys/vm/swappiness", "10\n"),
    ("/proc/sys/vm/overcommit_memory", "0\n"),
    ("/proc/sys/vm/zone_reclaim_mode", "0\n"),
    ("/proc/sys/vm/stat_interval", "1\n"),
    ("/proc/stat", "cpu  1000 0 500 90000 10 0 5 20 0 0\ncpu0 500 0 250 45000 5 0 2 10 0 0\n"),
    (
        "/proc/meminfo",
        "MemTotal:       16000000 kB\nSwapTotal:       2000000 kB\nHugePages_Free:        0\nHugepagesize:       2048 kB\n",
    ),
    ("/proc/net/softnet_stat", "00100000 00000000 00000000 00000000\n00100000 00000000 00000001 00000000\n"),
    ("/proc/self/status", "Name:\tringway\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n"),
    (
        "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            1048576              1048576              files\n\
         Max locked memory         unlimited            unlimited            bytes\n",
    ),
    ("/proc/self/cgroup", "0::/system.slice/ringway.service\n"),
    (
        "/proc/self/net/netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 5 0 0\nIpExt: InNoRoutes\nIpExt: 3\n",
    ),
    ("/sys/fs/cgroup/system.slice/memory.max", "max\n"),
    ("/sys/fs/cgroup/system.slice/ringway.service/memory.max", "12884901888\n"),
    ("/sys/fs/cgroup/system.slice/ringway.service/memory.high", "max\n"),
    ("/sys/fs/cgroup/system.slice/ringway.service/cpu.max", "max 100000\n"),
    ("/sys/fs/cgroup/system.slice/ringway.service/cpu.stat", "usage_usec 5\nnr_periods 0\nnr_throttled 0\n"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("/sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm\n"),
    ("/sys/devices/system/cpu/online", "0-1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
    ("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
    ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"),
    ("/sys/devices/system/cpu/cpu1/cpuidle/state2/latency", "133\n"),
    ("/sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "1\n"),
    ("/sys/devices/system/node/node0/cpulist", "0-1\n"),
    ("/sys/class/net/lo/operstate", "unknown\n"),
    ("/sys/class/net/eth0/operstate", "up\n"),
    ("/sys/class/net/eth0/device/numa_node", "-1\n"),
    ("/sys/class/net/eth0/device/msi_irqs/39", "msix\n"),
    ("/sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
    ("/sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("/sys/class/net/eth0/statistics/rx_missed_errors", "0\n"),
    ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("/sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0\n"),
    ("/sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("/sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "0\n"),
    ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n"),
    ("/sys/class/net/eth0/queues/tx-1/xps_cpus", "2\n"),
    ("/proc/irq/39/virtio0-config/empty", ""),
    ("/proc/irq/39/smp_affinity_list", "0\n"),
    ("/proc/irq/40/virtio0-input.0/empty", ""),
    ("/proc/irq/40/smp_affinity", "3\n"),
    ("/proc/irq/40/smp_affinity_list", "0-1\n"),
    ("/proc/irq/40/effective_affinity_list", "0\n"),
    ("/proc/irq/41/virtio0-input.1/empty", ""),
    ("/proc/irq/41/smp_affinity", "2\n"),
    ("/proc/irq/41/smp_affinity_list", "1\n"),
    ("/proc/irq/41/effective_affinity_list", "1\n"),
];

/// A host in a directory of its own, which goes with it.
pub struct Host(TempDir);

impl Host {
    pub fn perfect() -> Host {
        let host = Host(tempfile::tempdir().unwrap());
        PERFECT.iter().for_each(|(path, text)| host.write(path, text));
        host
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path().join(path.trim_start_matches('/'))).ok()
    }

    pub fn remove(&self, path: &str) {
        let path = self.path().join(path.trim_start_matches('/'));
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Puts each CPU on a node of its own.
    pub fn two_nodes(&self) {
        self.write("/sys/devices/system/node/node0/cpulist", "0\n");
        self.write("/sys/devices/system/node/node1/cpulist", "1\n");
    }
}
