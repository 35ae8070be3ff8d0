"""The gateway on a machine with two NUMA nodes: QEMU emulates one (no KVM is needed) with Debian's cloud kernel, and the gateway
takes each data core's memory from the core's node. Shown by the plan's text and /proc/PID/numa_maps. Takes the program and a
directory for the kernel; standard library only.
"""

import pathlib
import re
import shutil
import subprocess
import sys

from house import check, verdict

GUEST_SECONDS = 600
KERNEL = "linux-image-cloud-amd64"
BUSYBOX = "/bin/busybox"

# The guest's CPUs 0 and 1 are on node 0, 2 and 3 on node 1. With one node in use, the other threads are there, too.
PLANS = {
    "both": 'data = "0-3"',
    "first": 'data = "0"\nio = "1"\nbackground = "1"',
    "second": 'data = "2"\nio = "3"\nbackground = "3"',
}

CONFIGURATION = """
[server]
listen = ["127.0.0.1:8080"]
[admin]
listen = "off"
[log]
access = "off"
[cores]
{cores}
[cache]
memory = "256MiB"
[[backend]]
name = "demo"
url = "http://127.0.0.1:9100"
health_interval = "0s"
[[model]]
name = "m"
backends = ["demo"]
"""

# Each request is another one, with a long body, so that buffers are touched and answers are kept. What is seen are the
# anonymous pages by node, and each data core's policy.
INIT = r"""#!/bin/sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /var/lib/ringway
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ip link set lo up
echo "@@ nodes $(cat /sys/devices/system/node/online)"
tr -dc a-z </dev/urandom | head -c 20000 >/tmp/padding
tr -dc a-z </dev/urandom | head -c 100000 >/tmp/long
answer='{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"'$(cat /tmp/long)'"},"finish_reason":"stop"}]}'
printf 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' "${#answer}" "$answer" >/tmp/answer
# Reads a while, answers, closes.
cat >/bin/answer <<'EOS'
#!/bin/sh
dd bs=64k count=1 of=/dev/null 2>/dev/null
cat /tmp/answer
EOS
chmod +x /bin/answer
nc -ll -p 9100 -e /bin/answer &
for plan in both first second; do
    # As in the unit.
    MIMALLOC_ALLOW_THP=0 /ringway serve --config /$plan.toml 2>/tmp/said &
    pid=$!
    for _ in $(seq 300); do grep -q 'listening on' /tmp/said && break; sleep 0.2; done
    echo "@@ $plan $(grep -o 'core plan.*' /tmp/said)"
    n=0
    while [ $n -lt 120 ]; do
        n=$((n + 1))
        wget -q -O /dev/null --header 'content-type: application/json' \
            --post-data '{"model":"m","messages":[{"role":"user","content":"'"$n $(cat /tmp/padding)"'"}]}' \
            http://127.0.0.1:8080/v1/chat/completions && good=$((good + 1))
    done
    echo "@@ $plan answered $good"; good=0
    for task in /proc/$pid/task/*; do
        name=$(cat $task/comm)
        case $name in ringway-data*)
            echo "@@ $plan $name cpu $(grep Cpus_allowed_list $task/status | tr -dc 0-9,-) policy $(head -1 $task/numa_maps | cut -d' ' -f2)";;
        esac
    done
    grep anon= /proc/$pid/numa_maps | grep -v file= >/tmp/maps
    for node in 0 1; do
        sum=0
        for pages in $(grep -o "N$node=[0-9]*" /tmp/maps | cut -d= -f2); do sum=$((sum + pages)); done
        echo "@@ $plan node$node $sum"
    done
    kill $pid; wait $pid
    echo "@@ $plan ended $?"
done
poweroff -f
"""


def kernel(directory):
    """Debian's kernel for virtual machines, unpacked and not installed."""
    found = sorted(directory.glob("kernel/boot/vmlinuz-*"))
    if not found:
        shown = subprocess.run(["apt-cache", "depends", KERNEL], capture_output=True, text=True, check=True).stdout
        package = re.search(r"Depends: (linux-image-\S+)", shown)[1]
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=directory, check=True)
        (archive,) = directory.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, directory / "kernel"], check=True)
        archive.unlink()
        found = sorted(directory.glob("kernel/boot/vmlinuz-*"))
    return found[-1]


def memory_disk(program, directory):
    """Everything of the guest: a shell, the gateway with its libraries, and what the guest is to do."""
    root = directory / "root"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    # Its symbols are most of it, and an emulated machine unpacks slowly.
    subprocess.run(["strip", "-o", root / "ringway", program], check=True)
    for library in re.findall(r"(/\S+\.so\S*)", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout):
        at = root / library.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, at)
    for name, cores in PLANS.items():
        (root / f"{name}.toml").write_text(CONFIGURATION.format(cores=cores))
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    image = directory / "initrd"
    with image.open("wb") as out:
        names = subprocess.run(["find", ".", "-print0"], cwd=root, capture_output=True, check=True).stdout
        subprocess.run([BUSYBOX, "cpio", "-0", "-o", "-H", "newc"], cwd=root, input=names, stdout=out, stderr=subprocess.DEVNULL, check=True)
    return image


def main():
    program, directory = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "4,sockets=2,cores=2", "-m", "2G"]
    for node, cpus in enumerate(("0-1", "2-3")):
        command += ["-object", f"memory-backend-ram,id=m{node},size=1G", "-numa", f"node,nodeid={node},cpus={cpus},memdev=m{node}"]
    command += ["-kernel", kernel(directory), "-initrd", memory_disk(program, directory), "-append", "console=ttyS0 quiet panic=-1"]
    command += ["-nographic", "-no-reboot", "-nic", "none"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=GUEST_SECONDS)
    (directory / "console.log").write_text(done.stdout)
    said = re.findall(r"@@ (.*?)\r?\n", done.stdout)
    print("\n".join(said))
    look = lambda pattern: (re.search(pattern, "\n".join(said)) or [None, ""])[1]
    check("the guest has two nodes", look("nodes (.*)") == "0-1", done.stdout[-3000:])
    check("the plan has the nodes", "memory of node 0 (CPU 0-1) and of node 1 (CPU 2-3)" in look("both (core plan.*)"))
    for plan, cores in {"both": ["0", "0", "1", "1"], "first": ["0"], "second": ["1"]}.items():
        policies = sorted(re.findall(rf"{plan} ringway-data-\d cpu (\d) policy (\S+)", "\n".join(said)))
        check(f"{plan}: each data core prefers its CPU's node", [policy for _, policy in policies] == [f"prefer:{node}" for node in cores], policies)
        check(f"{plan}: every request was answered, and it ended well", look(f"{plan} answered (.*)") == "120" and look(f"{plan} ended (.*)") == "0")
    pages = {plan: [int(look(f"{plan} node{node} (.*)") or 0) for node in (0, 1)] for plan in PLANS}
    check(f"the memory of cores of node 0 is there: {pages['first']}", pages["first"][0] > 3 * pages["first"][1])
    check(f"that of cores of node 1 there: {pages['second']}", pages["second"][1] > 3 * pages["second"][0])
    check(f"and of both on both: {pages['both']}", min(pages["both"]) * 5 > max(pages["both"]))
    verdict()


main()
