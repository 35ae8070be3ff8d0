//! `ringway doctor` and `ringway tune` from outside: output and exit status, on scripted hosts, on this machine, and in a
//! network and mount namespace whose real settings are changed and changed back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    let output = command.args(arguments).env_remove("RINGWAY_CONFIG").stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_exit_status_is_the_worst_level() {
    let host = tempfile::tempdir().unwrap();
    let root = host.path().to_str().unwrap();
    let (status, out, told) = run(&["doctor", "--root", root]);
    assert_eq!((status, told.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("nothing to mend; 0 in order, ") && out.contains("\nnot seen\n"), "{out}");
    for (path, text, expected) in [
        ("proc/sys/net/ipv4/tcp_tw_reuse", "2", 3),
        ("proc/sys/net/core/somaxconn", "128", 4),
        ("proc/sys/kernel/osrelease", "5.4.0", 5),
    ] {
        write(host.path(), path, text);
        let (status, out, _) = run(&["doctor", "--root", root]);
        assert_eq!(status, expected, "{out}");
        assert!(!out.contains('\x1b'), "colours are for terminals: {out}");
    }
    let (status, out, _) = run(&["doctor", "--root", root, "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<&str> = value["findings"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(status, 5);
    assert_eq!(ids, ["kernel.version", "net.core.somaxconn", "net.ipv4.tcp_tw_reuse"]);
}

#[test]
fn this_machine_is_examined_as_json() {
    let (status, out, told) = run(&["doctor", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let count = |key: &str| value[key].as_array().unwrap().len();
    assert!(count("findings") + count("in_order") + count("not_seen") > 40, "{out}");
    let expected = match value["worst"].as_str() {
        None => 0,
        Some("note") => 3,
        Some("warning") => 4,
        Some(_) => 5,
    };
    assert_eq!((status, told.as_str()), (expected, ""));
}

#[test]
fn what_cannot_be_examined_is_said() {
    let (status, out, told) = run(&["doctor", "--profile", "fast"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(
        told.contains("there is no profile \"fast\"; there are base, throughput, latency, numa, virtual-machine"),
        "{told}"
    );
    let (status, _, told) = run(&["doctor", "--pid", "4000000000"]);
    assert_eq!((status, told.as_str()), (1, "ringway: there is no process 4000000000\n"));
    let (status, _, told) = run(&["doctor", "--config", "/nowhere/ringway.toml"]);
    assert_eq!(status, 1);
    assert!(told.contains("cannot read the file"), "{told}");
}

#[test]
fn profiles_are_listed_shown_applied_and_undone() {
    let (status, out, _) = run(&["tune", "--list"]);
    assert_eq!((status, out.lines().count()), (0, 5), "{out}");

    let host = tempfile::tempdir().unwrap();
    let root = host.path().to_str().unwrap();
    write(host.path(), "proc/sys/net/core/somaxconn", "128\n");
    let somaxconn = || fs::read_to_string(host.path().join("proc/sys/net/core/somaxconn")).unwrap();
    let (status, out, told) = run(&["tune", "--profile", "base", "--root", root]);
    assert_eq!((status, told.as_str(), somaxconn().as_str()), (0, "", "128\n"));
    assert!(
        out.contains("  - 128\n  + 4096\n") && out.ends_with("Nothing was changed; use --apply to make the changes.\n"),
        "{out}"
    );
    assert!(!host.path().join("var").exists(), "showing leaves nothing behind");

    let (status, out, told) = run(&["tune", "--profile", "base", "--root", root, "--apply"]);
    assert_eq!((status, told.as_str(), somaxconn().as_str()), (0, "", "4096\n"), "{out}");
    assert!(out.ends_with("the previous settings are saved in ") || out.contains("var/lib/ringway/tune.json"), "{out}");
    assert!(host.path().join("etc/sysctl.d/60-ringway.conf").exists());
    let (status, out, _) = run(&["tune", "--undo", "--root", root]);
    assert_eq!((status, somaxconn().as_str()), (0, "128\n"));
    assert!(out.ends_with("Undone.\n"), "{out}");
    assert!(!host.path().join("etc").exists() && !host.path().join("var/lib/ringway/tune.json").exists());
    let (status, out, _) = run(&["tune", "--undo", "--root", root]);
    assert_eq!(status, 0);
    assert!(out.ends_with("There is nothing to undo.\n"), "{out}");
}

/// What is badly set in the namespace.
const SIX: [&str; 6] = [
    "net.core.somaxconn",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_migrate_req",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_timestamps",
];

/// What belongs to the network is the namespace's own and really set. What belongs to the machine is a copy in its place.
const NAMESPACE: &str = r#"
set -Eeuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
ringway=$1 work=$2
mount --make-rprivate /
for part in vm kernel fs; do
    cp -r "/proc/sys/$part" "$work/$part" 2>/dev/null || true # some can only be written
    mount --bind "$work/$part" "/proc/sys/$part"
done
[[ ! -d /proc/sys/net/netfilter ]] || mount -t tmpfs tmpfs /proc/sys/net/netfilter
mount -t tmpfs tmpfs /sys
mount -t tmpfs tmpfs /etc
set_one() { echo "$2" > "/proc/sys/net/ipv4/$1"; }
set_one tcp_slow_start_after_idle 1
set_one tcp_migrate_req 0
set_one ip_local_port_range '32768 60999'
set_one tcp_tw_reuse 2
set_one tcp_timestamps 0
echo 60 > /proc/sys/vm/swappiness
echo 128 > /proc/sys/net/core/somaxconn
# Some files can only be written.
all() { { grep -raHs '' /proc/sys /etc || true; } | tr '\t' ' ' | sort; }
all > "$work/before"
(($(wc -l < "$work/before") > 500))

# Six of the settings above are no good, and are found: they are the kernel's own, and nobody has told what to look for.
"$ringway" doctor --json > "$work/found" || true
"$ringway" tune --profile base --apply --state "$work/tune.json" > "$work/shown"
"$ringway" doctor --json > "$work/tuned" || true
"$ringway" tune --undo --state "$work/tune.json" > "$work/shown"

for profile in base throughput latency numa virtual-machine; do
    "$ringway" tune --profile "$profile" --apply --state "$work/tune.json" > "$work/shown"
    [[ $(< /proc/sys/net/core/somaxconn) == 4096 && $(< /proc/sys/net/ipv4/tcp_slow_start_after_idle) == 0 ]]
    [[ $(tr '\t' ' ' < /proc/sys/net/ipv4/ip_local_port_range) == '10240 65535' ]]
    grep -q '^net.ipv4.tcp_migrate_req = 1$' /etc/sysctl.d/60-ringway.conf
    "$ringway" tune --profile "$profile" --apply --state "$work/tune.json" | grep -q 'Nothing to change'
    "$ringway" tune --undo --state "$work/tune.json" > "$work/shown"
    all > "$work/after"
    diff "$work/before" "$work/after"
    [[ ! -e $work/tune.json ]]
done

# One line in the middle refuses: nothing of the others stays.
mount --bind /proc/sys/net/ipv4/tcp_tw_reuse /proc/sys/net/ipv4/tcp_tw_reuse
mount -o remount,bind,ro /proc/sys/net/ipv4/tcp_tw_reuse
status=0
"$ringway" tune --profile base --apply --state "$work/tune.json" > "$work/shown" 2> "$work/told" || status=$?
[[ $status == 1 ]]
grep -q 'tcp_tw_reuse: cannot write 1: .*nothing is changed' "$work/told"
all > "$work/after"
diff "$work/before" "$work/after"
[[ ! -e $work/tune.json ]]
echo whole
"#;

#[test]
fn in_a_namespace_every_profile_is_applied_and_undone_without_a_trace() {
    let unshare = |arguments: &[&str]| Command::new("unshare").args(["-n", "-m"]).args(arguments).output();
    if !unshare(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("left out: namespaces cannot be made here (no root, or a container without them)");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let arguments = ["timeout", "120", "bash", "-c", NAMESPACE, "bash", env!("CARGO_BIN_EXE_ringway")];
    let output = unshare(&[&arguments[..], &[work.path().to_str().unwrap()]].concat()).unwrap();
    let told = fs::read_to_string(work.path().join("told")).unwrap_or_default();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("whole\n"), "{out}\n{error}\n{told}");
    let found = |name: &str| {
        let text = fs::read_to_string(work.path().join(name)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        let ids: Vec<String> = findings.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
        SIX.map(|id| ids.iter().any(|found| found == id))
    };
    assert_eq!(found("found"), [true; 6], "of {SIX:?}");
    assert_eq!(found("tuned"), [false; 6], "of {SIX:?}");
}
