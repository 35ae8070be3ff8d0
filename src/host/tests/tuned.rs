//! Changing a host and back: all of it or nothing, once or twice, by one profile or another, and what others did in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::profile::Profile;
use super::super::root::Root;
use super::super::sight::{Ring, Sight};
use super::super::tune::{Intent, Lock, Saved, apply, intend, saved, show};
use super::fixture::Host;

/// A host as a distribution leaves it.
fn stock() -> Host {
    let host = Host::perfect();
    for (path, text) in [
        ("/proc/sys/net/core/somaxconn", "128\n"),
        ("/proc/sys/net/core/rps_sock_flow_entries", "0\n"),
        ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
        ("/proc/sys/net/ipv4/tcp_migrate_req", "0\n"),
        ("/proc/sys/net/ipv4/tcp_fastopen", "1\n"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
        ("/proc/sys/vm/swappiness", "60\n"),
        ("/proc/cmdline", "root=/dev/vda1 quiet\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always\n"),
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
        ("/sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "0\n"),
        ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000\n"),
        ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
    ] {
        host.write(path, text);
    }
    host
}

/// A host, and where its state is.
struct Bench {
    host: Host,
    root: Root,
    state: PathBuf,
}

impl Bench {
    fn new(host: Host) -> Bench {
        let root = Root::at(host.path());
        let state = host.path().join("var/lib/ringway/tune.json");
        fs::create_dir_all(state.parent().unwrap()).unwrap();
        Bench { host, root, state }
    }

    fn saved(&self) -> Saved {
        saved(&self.state).unwrap()
    }

    /// What changing to `profile` would do; an empty name is none.
    fn intend(&self, profile: &str) -> Intent {
        let profile = (!profile.is_empty()).then(|| Profile::named(profile).unwrap());
        intend(&Sight::new(&self.root, None, None, Ring::Untried), profile.as_ref(), &self.saved()).unwrap()
    }

    fn tune(&self, profile: &str) -> Result<usize, String> {
        let intent = self.intend(profile);
        apply(&self.root, &intent, &self.saved(), &self.state).map(|()| intent.changes.len())
    }

    /// Every file and directory, with one space between the fields of a file: the kernel writes tabs.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        walk(self.host.path(), &mut found);
        found
    }

    fn read(&self, path: &str) -> String {
        self.host.read(path).unwrap_or_default().trim().to_owned()
    }
}

fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
            found.insert(path, String::new());
        } else {
            // Masks of a few CPUs: leading zeros are spelling.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let text = if path.ends_with("xps_cpus") { text.trim_start_matches('0').to_owned() } else { text };
            found.insert(path, text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
}

#[test]
fn every_profile_is_applied_once_and_undone_without_a_trace() {
    for profile in Profile::names() {
        let bench = Bench::new(stock());
        let before = bench.tree();
        assert!(bench.tune(profile).unwrap() > 8, "{profile}");
        assert_eq!(bench.read("/proc/sys/net/core/somaxconn"), "4096");
        assert_eq!(bench.read("/proc/sys/net/ipv4/tcp_fastopen"), "3");
        let (after, state) = (bench.tree(), bench.saved());
        assert_eq!(bench.tune(profile), Ok(0), "{profile}: the second time nothing is to change");
        assert_eq!((bench.tree(), bench.saved()), (after, state), "{profile}");
        assert!(bench.tune("").unwrap() > 8);
        assert_eq!(bench.tree(), before, "{profile}");
        assert_eq!(bench.tune(""), Ok(0), "undoing twice is undoing once");
        assert_eq!(bench.tree(), before, "{profile}");
    }
}

#[test]
fn wherever_a_change_fails_nothing_is_changed() {
    for profile in ["base", "throughput", "latency"] {
        let bench = Bench::new(stock());
        let before = bench.tree();
        let writes = bench.intend(profile).changes.len();
        for place in 0..writes {
            bench.root.writes_left.set(Some(place));
            let told = bench.tune(profile).unwrap_err();
            assert!(told.contains("cannot write") && told.ends_with("; nothing is changed"), "{told}");
            assert_eq!(bench.tree(), before, "{profile}, at change {place}: {told}");
        }
        // And so with the way back, and from one profile to another.
        bench.root.writes_left.set(None);
        bench.tune(profile).unwrap();
        let (after, state) = (bench.tree(), bench.saved());
        for other in ["", "numa"] {
            for place in 0..bench.intend(other).changes.len() {
                bench.root.writes_left.set(Some(place));
                assert!(bench.tune(other).is_err());
                assert_eq!(
                    (bench.tree(), bench.saved()),
                    (after.clone(), state.clone()),
                    "{profile} to {other}, at {place}"
                );
            }
        }
    }
}

#[test]
fn a_value_that_the_kernel_does_not_keep_is_a_failure() {
    let bench = Bench::new(stock());
    // Takes every write and reads as nothing.
    let path = bench.host.path().join("proc/sys/net/ipv4/tcp_fastopen");
    let before = bench.tree();
    let intent = bench.intend("base");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let told = apply(&bench.root, &intent, &bench.saved(), &bench.state).unwrap_err();
    assert!(told.contains("3 was written, and  is there; not taken back: /proc/sys/net/ipv4/tcp_fastopen"), "{told}");
    assert!(bench.state.exists(), "undoing can be tried again");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    bench.tune("").unwrap();
    assert_eq!(bench.tree(), before);
}

#[test]
fn another_profile_takes_back_what_only_the_first_wanted() {
    let bench = Bench::new(stock());
    let before = bench.tree();
    bench.tune("throughput").unwrap();
    assert_eq!(bench.read("/proc/sys/net/ipv4/tcp_rmem"), "4096 131072 16777216");
    bench.tune("latency").unwrap();
    assert_eq!(bench.read("/proc/sys/net/ipv4/tcp_rmem"), "4096 131072 6291456");
    assert_eq!(bench.read("/proc/sys/net/ipv4/tcp_autocorking"), "0");
    assert_eq!(bench.read("/sys/devices/system/cpu/cpu1/cpuidle/state2/disable"), "1");
    assert_eq!(bench.saved().profile.as_deref(), Some("latency"));
    bench.tune("").unwrap();
    assert_eq!(bench.tree(), before);
}

#[test]
fn what_somebody_else_has_changed_since_stays() {
    let bench = Bench::new(stock());
    bench.host.write("/etc/sysctl.d/60-ringway.conf", "# mine\n");
    bench.tune("base").unwrap();
    assert!(bench.read("/etc/sysctl.d/60-ringway.conf").contains("net.core.somaxconn = 4096"));
    bench.host.write("/proc/sys/net/core/somaxconn", "9999\n");
    bench.host.write("/etc/tmpfiles.d/60-ringway.conf", "# theirs\n");
    let intent = bench.intend("");
    assert_eq!(intent.left.len(), 2, "{:?}", intent.left);
    assert!(show(&intent).contains("changed by somebody else since"));
    bench.tune("").unwrap();
    assert_eq!(bench.read("/proc/sys/net/core/somaxconn"), "9999");
    assert_eq!(bench.read("/etc/tmpfiles.d/60-ringway.conf"), "# theirs");
    assert_eq!(bench.read("/etc/sysctl.d/60-ringway.conf"), "# mine", "what was there is there again");
    assert!(!bench.state.exists());
}

#[test]
fn a_change_that_was_cut_off_is_undone() {
    let bench = Bench::new(stock());
    let before = bench.tree();
    bench.tune("base").unwrap();
    // As if the machine had gone down in the middle: the state knows everything, half of it never happened.
    bench.host.write("/proc/sys/net/core/somaxconn", "128\n");
    bench.host.remove("/etc/systemd/system/ringway.slice.d/60-tune.conf");
    bench.tune("").unwrap();
    assert_eq!(bench.tree(), before);
}

#[test]
fn what_ended_with_the_machine_is_not_undone_after_it() {
    let bench = Bench::new(stock());
    bench.tune("throughput").unwrap();
    assert_eq!(bench.read("/proc/irq/40/smp_affinity"), "1");
    bench.host.write("/proc/sys/kernel/random/boot_id", "another\n");
    let paths = |intent: &Intent| intent.changes.iter().map(|change| change.path.clone()).collect::<Vec<_>>();
    let undo = paths(&bench.intend(""));
    assert!(undo.iter().all(|path| !path.starts_with("/proc/irq") && !path.contains("/queues/")), "{undo:?}");
    assert!(undo.contains(&"/proc/sys/net/core/somaxconn".to_owned()));
}

#[test]
fn queues_and_interrupts_go_to_the_data_cores() {
    let bench = Bench::new(stock());
    bench.host.remove("/sys/class/net/eth0/queues/rx-1");
    bench.host.remove("/sys/class/net/eth0/queues/tx-1");
    bench.tune("throughput").unwrap();
    assert_eq!(bench.read("/sys/class/net/eth0/queues/rx-0/rps_cpus"), "3");
    assert_eq!(bench.read("/sys/class/net/eth0/queues/rx-0/rps_flow_cnt"), "32768");
    assert_eq!(bench.read("/proc/irq/39/smp_affinity_list"), "0", "the device's own interrupt stays");

    let bench = Bench::new(stock());
    bench.host.two_nodes();
    bench.host.write("/sys/class/net/eth0/device/numa_node", "1");
    bench.tune("numa").unwrap();
    for number in [40, 41] {
        assert_eq!(bench.read(&format!("/proc/irq/{number}/smp_affinity")), "2", "both on the interface's node");
    }
    assert_eq!(bench.read("/sys/class/net/eth0/queues/tx-0/xps_cpus"), "2");
}

#[test]
fn masks_of_many_cpus_are_written_in_words_of_32_bits() {
    let bench = Bench::new(stock());
    bench.host.write("/proc/self/status", "Cpus_allowed_list:\t0-71");
    bench.host.write("/sys/devices/system/cpu/online", "0-71");
    bench.host.write("/proc/irq/41/smp_affinity", "ff,ffffffff,ffffffff\n");
    let before = bench.tree();
    bench.tune("throughput").unwrap();
    // 72 CPUs: 68 data, one for I/O, one in the background, two for the system.
    assert_eq!(bench.read("/sys/class/net/eth0/queues/rx-0/rps_cpus"), "f,ffffffff,ffffffff");
    assert_eq!(bench.read("/sys/class/net/eth0/queues/tx-1/xps_cpus"), "a,aaaaaaaa,aaaaaaaa");
    assert_eq!(bench.read("/proc/irq/41/smp_affinity"), "2");
    assert_eq!(bench.tune("throughput"), Ok(0));
    bench.tune("").unwrap();
    assert_eq!(bench.tree(), before);
}

#[test]
fn the_files_that_make_it_last_say_what_the_kernel_has_now() {
    let bench = Bench::new(stock());
    bench.tune("latency").unwrap();
    let sysctl = bench.read("/etc/sysctl.d/60-ringway.conf");
    let told = sysctl.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut count = 0;
    for line in told {
        let (name, value) = line.split_once(" = ").unwrap();
        assert_eq!(bench.read(&format!("/proc/sys/{}", name.replace('.', "/"))), value);
        count += 1;
    }
    assert!(count >= 8, "{sysctl}");
    assert!(!sysctl.contains("tcp_syncookies"), "what was good is not written down");
    let tmpfiles = bench.read("/etc/tmpfiles.d/60-ringway.conf");
    assert!(tmpfiles.contains("\nw /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise"), "{tmpfiles}");
    assert!(bench.read("/etc/security/limits.d/60-ringway.conf").contains("ringway - memlock 65536"));
    assert!(bench.read("/etc/systemd/system/ringway.service.d/60-tune.conf").contains("[Service]\n"));
    assert!(bench.read("/etc/systemd/system/ringway.slice.d/60-tune.conf").contains("CPUWeight=1000"));
}

#[test]
fn the_difference_says_what_and_why_and_what_is_left_to_people() {
    let bench = Bench::new(stock());
    let before = bench.tree();
    let text = show(&bench.intend("latency"));
    assert_eq!(bench.tree(), before, "looking changes nothing");
    assert!(text.starts_with("profile latency: "), "{text}");
    assert!(text.contains("/proc/sys/net/core/somaxconn\n  - 128\n  + 4096\n      Caps how many"), "{text}");
    assert!(text.contains("(kernel admin-guide/sysctl/net.rst; listen(2))"), "the source, too: {text}");
    assert!(!text.contains("nohz_full"), "with every CPU a data core none may be isolated");

    bench.host.write("/proc/self/status", "Cpus_allowed_list:\t0-15");
    bench.host.write("/sys/devices/system/cpu/online", "0-15");
    let text = show(&bench.intend("latency"));
    assert!(text.contains("  nohz_full=0-11\n") && text.contains("  irqaffinity=12-15\n"), "{text}");
    bench.host.write("/proc/cmdline", "quiet nohz_full=0-11");
    assert!(!show(&bench.intend("latency")).contains("  nohz_full=0-11\n"), "it is there already");
}

#[test]
fn a_strange_state_and_another_run_are_refused() {
    let bench = Bench::new(stock());
    for text in [
        "",
        "{}x",
        "[]",
        "{\"lines\": 3}",
        "{\"profile\": null, \"boot\": null, \"lines\": [], \"directories\": [], \"x\": 1}",
    ] {
        fs::write(&bench.state, text).unwrap();
        assert!(saved(&bench.state).unwrap_err().contains("it is no state of tune"), "{text}");
    }
    let held = Lock::take(&bench.state).unwrap();
    assert!(Lock::take(&bench.state).unwrap_err().contains("another run of tune is at work"));
    drop(held);
    let elsewhere = bench.host.path().join("new/place/tune.json");
    drop(Lock::take(&elsewhere).unwrap());
    assert!(!elsewhere.parent().unwrap().exists(), "a directory that was made in vain goes again");
}

mod strange {
    use proptest::prelude::*;

    use super::super::fixture::PERFECT;
    use super::{Bench, Host};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_values_are_they_come_back(
            changes in proptest::collection::vec((0..PERFECT.len(), "[0-9]{1,9}( [0-9]{1,9}){0,2}"), 0..30),
            first in 0usize..5,
            second in 0usize..5,
        ) {
            let bench = Bench::new(Host::perfect());
            for (place, text) in changes {
                // Of sets of CPUs only those that a host can have: the kernel writes no others.
                if !["status", "online", "cpus", "affinity"].iter().any(|part| PERFECT[place].0.contains(part)) {
                    bench.host.write(PERFECT[place].0, text);
                }
            }
            let before = bench.tree();
            let names: Vec<&str> = super::Profile::names().collect();
            bench.tune(names[first]).unwrap();
            prop_assert_eq!(bench.tune(names[first]), Ok(0));
            bench.tune(names[second]).unwrap();
            bench.tune("").unwrap();
            prop_assert_eq!(bench.tree(), before);
        }
    }
}
