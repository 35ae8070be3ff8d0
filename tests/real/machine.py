"""The service on a machine of its own: systemd-nspawn boots a Debian, in which the gateway is installed, started, reloaded,
stalled, killed, drained under streams, upgraded, rotated, activated by its socket and removed, and the commands of the operations
guide are run, but a container's. Takes the program, a directory for the machine, and the Debian package; wants root. Standard library only.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

from house import check, die_with_parent, libc, run, verdict

PACKAGES = "systemd,systemd-sysv,dbus,logrotate,iproute2,procps,curl,sysvinit-utils"
GUIDE = pathlib.Path("docs/operations.md")
PATIENCE_SECONDS = 60
PORT, BACKEND_PORT, ADMIN_PORT = 8080, 9100, 9901
SECRET = "sk-of-the-machine"
STREAMS, CHUNKS = 40, 60
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
WALL = 0x40000000  # linux/wait.h

CONFIGURATION = f"""
[server]
listen = ["0.0.0.0:{PORT}"]
timeout_drain = "30s"

[cache]
enabled = false

[log]
access = "/var/log/ringway/access.log"

[[backend]]
name = "mock"
url = "http://127.0.0.1:{BACKEND_PORT}"
api_key = "credential:mock-key"
health_interval = "0s"

[[model]]
name = "m"
backends = ["mock"]

[[tenant]]
name = "t"
keys = ["sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"]
"""

CREDENTIAL = """
[Service]
LoadCredential=mock-key:/etc/ringway/credentials/mock-key
"""

# A model server inside of the machine's network: it insists on its credential, and streams.
BACKEND = r"""
import asyncio, json, sys
port, secret, pause = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])

async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(l.split(":")[1]) for l in head.splitlines() if l.lower().startswith("content-length")), 0)
            body = json.loads(await reader.readexactly(length) or b"{}")
            if f"authorization: bearer {secret}" not in head.lower():
                writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
                continue
            if not body.get("stream"):
                choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
                answer = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
                continue
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for number in range(int(body["max_tokens"]) + 1):
                last = number == int(body["max_tokens"])
                choice = {"index": 0, "delta": {} if last else {"content": f"w{number} "}, "finish_reason": "stop" if last else None}
                event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
                send(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
                await writer.drain()
                await asyncio.sleep(pause)
            send(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

def send(writer, chunk):
    writer.write(b"%x\r\n" % len(chunk) + chunk + b"\r\n")

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

# Clients of the gateway: prints a line when all streams run, and at the end how each one ended.
CLIENTS = r"""
import json, sys, threading, http.client
port, secret, count, chunks = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
begun, ends, everyone = [0], [], threading.Condition()

def stream(number):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": "m", "stream": True, "max_tokens": chunks, "messages": [{"role": "user", "content": str(number)}]}
    first = True
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {secret}", "content-type": "application/json"})
        answer = connection.getresponse()
        words = done = 0
        for line in answer:
            if b'"content"' in line:
                words += 1
            done += line.startswith(b"data: [DONE]")
            if words and first:
                first = False
                with everyone:
                    begun[0] += 1
                    everyone.notify()
        end = "whole" if (answer.status, words, done) == (200, chunks, 1) else f"{answer.status}: {words} words, {done} ends"
    except Exception as error:
        end = repr(error)
    with everyone:
        ends.append(end)
        everyone.notify()

threads = [threading.Thread(target=stream, args=[number]) for number in range(count)]
for thread in threads:
    thread.start()
with everyone:
    everyone.wait_for(lambda: begun[0] == count or len(ends) == count, 60)
print("running" if begun[0] == count and not ends else f"{begun[0]} began, {ends}", flush=True)
for thread in threads:
    thread.join()
print(json.dumps({end: ends.count(end) for end in ends}), flush=True)
"""


class Machine:
    """A booted Debian. Its root is thrown away at the end; the image below it is kept for the next run."""

    def __init__(self, program, directory, package):
        directory.mkdir(parents=True, exist_ok=True)
        self.image, self.console = directory / "image", directory / "console.log"
        self.make_image()
        self.program = directory / "ringway"
        if self.program.exists():
            self.program.unlink()
        shutil.copy(program, self.program)
        if package is not None:
            shutil.copy(package, directory / "ringway.deb")
        # Standing alone, without a manager of its own around it; a network of its own with nothing but the loopback.
        command = ["systemd-nspawn", "--directory", self.image, "--volatile=overlay", "--private-network", "--boot"]
        command += ["--register=no", "--keep-unit", "--machine=ringway-machine", f"--bind-ro={directory}:/opt"]
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=open(self.console, "w"), stderr=subprocess.STDOUT, env=environment, preexec_fn=die_with_parent
        )
        self.leader = until(self.find_leader, "the machine's first process")
        until(lambda: self.words("systemctl", "is-system-running") in ("running", "degraded"), "the machine has booted")

    def make_image(self):
        stamp = self.image.with_suffix(".packages")
        release = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().split("\n") if "=" in line)
        codename = release["VERSION_CODENAME"] if release["ID"] == "debian" else "bookworm"
        wanted = f"{codename} {PACKAGES}\n"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        shutil.rmtree(self.image, ignore_errors=True)
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", codename, self.image], check=True)
        stamp.write_text(wanted)

    def find_leader(self):
        """The first process of its process namespace."""
        if self.child.poll() is not None:
            sys.exit(f"the machine does not boot:\n{self.console.read_text()}")
        below = [self.child.pid]
        for pid in below:
            with contextlib.suppress(OSError):
                below += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                spaces = re.search(r"NSpid:\t(.*)", pathlib.Path(f"/proc/{pid}/status").read_text())[1].split()
                if len(spaces) > 1 and spaces[-1] == "1" and pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
        return None

    def inside(self, *command, **options):
        """Runs a command in it: status, output."""
        line = ["nsenter", "--target", str(self.leader), "--all", "--", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        done = subprocess.run(line + list(command), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS * 2, **options)
        return done.returncode, done.stdout + done.stderr

    def words(self, *command):
        return self.inside(*command)[1].strip()

    def do(self, *command):
        """Runs a command that has to succeed."""
        status, out = self.inside(*command)
        if status != 0:
            raise RuntimeError(f"{' '.join(command)}: {status}\n{out}{self.journal()}")
        return out

    def sh(self, line):
        return self.do("bash", "-euc", line)

    def write(self, path, text, mode="0644"):
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", "--", "sh", "-c", f"mkdir -p $(dirname {path}); cat > {path}; chmod {mode} {path}"], input=text, text=True
        )
        done.check_returncode()

    def beside(self, script, *arguments):
        """A Python program of this host in the machine's network."""
        line = ["nsenter", "--target", str(self.leader), "--net", sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

    def ask(self, path="/v1/chat/completions", body=None, port=PORT, called=""):
        """The status of a request."""
        script = (
            "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=30)\n"
            "try:\n"
            "    c.request('POST' if sys.argv[3] else 'GET', sys.argv[2], sys.argv[3] or None,"
            " {'authorization': 'Bearer ' + sys.argv[4], 'content-type': 'application/json', 'x-request-id': sys.argv[5] or 'unnamed'})\n"
            "    print(c.getresponse().status)\n"
            "except OSError as error: print(type(error).__name__)\n"
        )
        asked = self.beside(script, port, path, json.dumps(body) if body else "", SECRET, called)
        text = asked.communicate(timeout=PATIENCE_SECONDS)[0].strip()
        return int(text) if text.isdigit() else text

    def chat(self, model="m", called=""):
        return self.ask(body={"model": model, "messages": [{"role": "user", "content": "hello"}]}, called=called)

    def shows(self, *names, unit="ringway.service"):
        """Properties of the service."""
        lines = self.do("systemctl", "show", unit, *(f"--property={name}" for name in names)).splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return [found.get(name) for name in names]

    def pid(self):
        """The gateway's main process, as this host knows it."""
        (inner,) = self.shows("MainPID")
        for path in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                spaces = re.search(r"NSpid:\t(.*)", path.read_text())[1].split()
                if len(spaces) == 2 and spaces[1] == inner and is_below(int(spaces[0]), self.leader):
                    return int(spaces[0])
        return None

    def journal(self, unit="ringway.service"):
        return self.words("journalctl", "--unit", unit, "--no-pager", "--output=cat", "--lines=60")

    def serves(self):
        return self.shows("ActiveState", "SubState") == ["active", "running"] and self.ask("/readyz") == 200

    def is_restarted(self, before):
        """Whether it serves again after an unplanned end."""
        return lambda: int(self.shows("NRestarts")[0]) > before and self.serves()

    def end(self):
        # SIGRTMIN+4 asks systemd to power off.
        with contextlib.suppress(OSError):
            os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def is_below(pid, ancestor):
    while pid > 1 and pid != ancestor:
        pid = int(re.search(r"PPid:\t(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
    return pid == ancestor


def until(condition, what, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise RuntimeError(f"waited in vain: {what}")


class Stopped:
    """A thread that another process holds still, as a debugger does."""

    def __init__(self, pid, name):
        tids = [int(path.parent.name) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm") if path.read_text().strip() == name]
        # The kernel cuts names at 15 bytes.
        (self.tid,) = tids
        self.held = threading.Event()
        # What a tracer does is bound to its thread.
        self.thread = threading.Thread(target=self.hold, daemon=True)
        self.thread.start()
        assert self.held.wait(10)

    def hold(self):
        ptrace = libc.ptrace
        ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        assert ptrace(PTRACE_SEIZE, self.tid, None, None) == 0
        assert ptrace(PTRACE_INTERRUPT, self.tid, None, None) == 0
        os.waitpid(self.tid, WALL)
        self.held.set()
        # Until it is killed: it is gone only when its tracer knows.
        os.waitpid(self.tid, WALL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join(PATIENCE_SECONDS)
        m.do("systemctl", "reset-failed")


@contextlib.contextmanager
def asking():
    """One request after the other while the block runs: their statuses."""
    done, running = [], [True]

    def ask_on():
        while running and len(done) < 5000:
            done.append(m.chat(called=f"one-of-many-{len(done)}"))

    asker = threading.Thread(target=ask_on, daemon=True)
    asker.start()
    try:
        yield done
    finally:
        running.clear()
        asker.join(PATIENCE_SECONDS)


def it_is_installed_as_the_readme_says():
    section = pathlib.Path("README.md").read_text().split("\n## Install it\n")[1]
    packages, toolchain, *rest = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1].splitlines()
    # In a second copy of the image, with this host's network and not booted.
    fresh = ["systemd-nspawn", "--quiet", "--directory", m.image, "--volatile=overlay", "--register=no", "--keep-unit", "--pipe"]
    # Where this host's network shows certificates of its own, its roots are trusted.
    roots = "/etc/ssl/certs/ca-certificates.crt"
    if pathlib.Path(roots).exists():
        fresh += [f"--bind-ro={roots}:/opt/roots.crt", "--setenv=SSL_CERT_FILE=/opt/roots.crt", "--setenv=CURL_CA_BUNDLE=/opt/roots.crt"]
    fresh += ["--machine=ringway-fresh", "bash", "-ec", f"cd\n{packages}\n{toolchain}\ncargo --version"]
    out = subprocess.run(fresh, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS * 10)
    check("packages and toolchain come as the README says", out.returncode == 0 and re.search(r"^cargo 1\.", out.stdout, re.MULTILINE), out.stderr[-2000:])
    # Not built again, which would take a quarter of an hour: `cargo` stands for the program that is there.
    m.write("/usr/local/sbin/cargo", "#!/bin/sh\nmkdir -p target/release && cp /opt/ringway target/release/\n", "0755")
    m.sh("\n".join(["cd /root", *rest]))
    until(lambda: m.ask("/readyz") == 200, "the sample serves")
    m.sh("systemctl disable --now ringway; rm -r /root/target")
    m.write("/etc/ringway/ringway.toml", CONFIGURATION, "0640")
    m.write("/etc/ringway/credentials/mock-key", SECRET + "\n", "0600")
    m.write("/etc/systemd/system/ringway.service.d/credential.conf", CREDENTIAL)
    m.sh("systemd-tmpfiles --create && systemctl daemon-reload")
    check("the configuration is root's and the group's", m.words("stat", "-c", "%U %G %a", "/etc/ringway/ringway.toml") == "root ringway 640")
    status, out = m.inside("systemd-analyze", "verify", "/etc/systemd/system/ringway.service", "/etc/systemd/system/ringway.socket", "/etc/systemd/system/ringway.slice")
    check("systemd-analyze verify has nothing to say", (status, out.strip()) == (0, ""), out)
    status, out = m.inside("systemd-analyze", "security", "--threshold=19", "ringway.service")
    check("systemd-analyze security is below 2.0", status == 0, out)
    m.do("systemctl", "enable", "--now", "ringway.service")
    until(m.serves, "it serves")


def it_starts_and_says_so():
    (line,) = m.shows("StatusText")
    check(f"the status line says what it does: {line}", line.startswith("serving"))
    check("its user, slice and cgroup", m.shows("User", "Slice", "ControlGroup") == ["ringway", "ringway.slice", "/ringway.slice/ringway.service"])
    check("a request passes, with the credential that systemd hands over", m.chat() == 200)
    check("which is not in its environment", SECRET.encode() not in pathlib.Path(f"/proc/{m.pid()}/environ").read_bytes())
    check("it may not write where it need not", "Read-only" in m.words("bash", "-c", "nsenter -t $(systemctl show -p MainPID --value ringway) -m touch /etc/x"))
    for name, limit, wanted in (("Max open files", resource.RLIMIT_NOFILE, 1 << 20), ("Max locked memory", resource.RLIMIT_MEMLOCK, 64 << 20)):
        there = re.search(name + r" +(\d+)", pathlib.Path(f"/proc/{m.pid()}/limits").read_text())[1]
        # Where this script may not raise its own bound, the machine inside may not either.
        hard = resource.getrlimit(limit)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        check(f"{name} as the unit has it, or all that this machine gives: {there}", int(there) in (wanted, bound))



def it_reloads_without_cutting_a_stream():
    clients = m.beside(CLIENTS, PORT, SECRET, STREAMS, CHUNKS)
    assert (line := clients.stdout.readline()) == "running\n", line
    pid = m.pid()
    more = CONFIGURATION.replace("[[tenant]]", '[[model]]\nname = "later"\nbackends = ["mock"]\n\n[[tenant]]')
    m.write("/etc/ringway/ringway.toml", more, "0640")
    m.do("systemctl", "reload", "ringway")
    until(lambda: m.chat("later") == 200, "the new model answers")
    check("the same process", m.pid() == pid)
    m.write("/etc/ringway/ringway.toml", "[server]\nlisten = 7\n", "0640")
    m.inside("systemctl", "reload", "ringway")
    until(lambda: "server.listen" in m.journal(), "the journal has the error")
    check("one with an error changes nothing", m.chat("later") == 200 and m.serves())
    m.write("/etc/ringway/ringway.toml", more, "0640")
    m.do("systemctl", "reload", "ringway")
    check(f"{STREAMS} streams are whole", json.loads(clients.stdout.readline()) == {"whole": STREAMS})


def a_data_core_that_hangs_is_restarted():
    (before,) = m.shows("NRestarts")
    with Stopped(m.pid(), "ringway-data-0"):
        until(m.is_restarted(int(before)), "it serves again")
    check("the journal says why", "data core 0 has made no progress" in m.journal(), m.journal())
    check("a request passes", m.chat() == 200)


def a_process_that_cannot_even_say_so_is_restarted_by_the_watchdog():
    (before,) = m.shows("NRestarts")
    # The main thread watches the others.
    with Stopped(m.pid(), "ringway"):
        until(m.is_restarted(int(before)), "it serves again", 90)
    check("the journal has the watchdog", "Watchdog timeout" in m.journal(), m.journal())
    check("a request passes", m.chat() == 200)


def a_killed_one_comes_back():
    (before,) = m.shows("NRestarts")
    os.kill(m.pid(), signal.SIGKILL)
    until(m.is_restarted(int(before)), "it serves again")
    check("a request passes", m.chat() == 200)


def it_stops_under_load_without_cutting_a_stream():
    clients = m.beside(CLIENTS, PORT, SECRET, STREAMS, CHUNKS)
    assert (line := clients.stdout.readline()) == "running\n", line
    m.do("systemctl", "stop", "ringway")
    ends = json.loads(clients.stdout.readline())
    check(f"{STREAMS} streams are whole", ends == {"whole": STREAMS}, ends)
    check("it ended well", m.shows("ActiveState", "Result", "ExecMainStatus") == ["inactive", "success", "0"], m.journal())
    check("nothing listens", m.chat() == "ConnectionRefusedError")
    m.do("systemctl", "start", "ringway")
    until(m.serves, "it serves")


def a_new_program_takes_over_and_stops_without_cutting_a_stream():
    clients = m.beside(CLIENTS, PORT, SECRET, STREAMS, CHUNKS)
    assert (line := clients.stdout.readline()) == "running\n", line
    pid = m.pid()
    m.sh("cp /usr/local/bin/ringway /usr/local/bin/ringway.new && mv /usr/local/bin/ringway.new /usr/local/bin/ringway")
    m.do("systemctl", "reload-or-restart", "ringway")
    until(lambda: m.pid() not in (None, pid) and m.serves(), "another process serves")
    check(f"{STREAMS} streams of the old one are whole", json.loads(clients.stdout.readline()) == {"whole": STREAMS})
    until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the old one ends")
    clients = m.beside(CLIENTS, PORT, SECRET, STREAMS, CHUNKS)
    assert (line := clients.stdout.readline()) == "running\n", line
    m.do("systemctl", "stop", "ringway")
    ends = json.loads(clients.stdout.readline())
    check(f"{STREAMS} streams of the new one are whole", ends == {"whole": STREAMS}, ends)
    check("it ended well", m.shows("ActiveState", "Result") == ["inactive", "success"], m.journal())
    m.do("systemctl", "start", "ringway")
    until(m.serves, "it serves")


def the_log_is_rotated_and_no_line_is_lost():
    with asking() as done:
        for _ in range(3):
            until(lambda seen=len(done): len(done) > seen + 1, "requests pass")
            m.do("logrotate", "--force", "/etc/logrotate.d/ringway")
        until(lambda seen=len(done): len(done) > seen + 1, "requests pass")
    check("every request was answered", set(done) == {200}, done)
    lines = lambda: sorted(re.findall("one-of-many-[0-9]+", m.words("bash", "-c", "zcat -f /var/log/ringway/access.log*")))
    until(lambda: len(lines()) >= len(done), f"{len(done)} lines in the logs: {lines()}")
    check("and has one line", lines() == sorted(f"one-of-many-{number}" for number in range(len(done))), lines())
    owners = m.words("bash", "-c", "stat -c '%U %G %a' /var/log/ringway/access.log* | sort -u")
    check("the new files are the service's, and nobody else reads them", owners == "ringway ringway 640", owners)


def its_socket_starts_it():
    m.do("systemctl", "stop", "ringway")
    m.write("/etc/systemd/system/ringway.socket.d/port.conf", f"[Socket]\nListenStream=\nListenStream=0.0.0.0:{PORT}\nListenStream=127.0.0.1:{ADMIN_PORT}\n")
    m.sh("systemctl daemon-reload && systemctl start ringway.socket")
    check("systemd listens", m.shows("ActiveState", unit="ringway.socket") == ["active"] and m.shows("ActiveState") == ["inactive"])
    check("the first request starts it, and be it an operator's", m.ask("/livez", port=ADMIN_PORT) == 200 and m.chat() == 200)
    check("it says where its socket is from", f"the service manager listens on 0.0.0.0:{PORT} (ringway.socket)" in m.journal(), m.journal())
    check("of the admin listener, too", f"the service manager listens on 127.0.0.1:{ADMIN_PORT} (ringway.socket)" in m.journal() and "nobody is served there" not in m.journal(), m.journal())
    with asking() as done:
        m.do("systemctl", "restart", "ringway")
        until(lambda seen=len(done): len(done) > seen + 1, "requests pass")
        # Away for longer: what comes meanwhile starts it again.
        m.do("systemctl", "stop", "ringway")
        until(lambda seen=len(done): len(done) > seen + 1, "requests pass")
    check(f"a restart refuses none of {len(done)} connections", set(done) == {200}, done)
    m.sh("systemctl stop ringway.socket ringway.service; rm -r /etc/systemd/system/ringway.socket.d; systemctl daemon-reload")


def every_command_of_the_guide_runs():
    text = GUIDE.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    unknown = {kind for kind, _ in blocks} - {"sh", "docker"}
    check("the guide has no block that is not run here or, of a container, by the stage `deploy`", not unknown, unknown)
    profiles = [pathlib.Path(path) for kind, block in blocks if kind == "docker" for path in re.findall(r"seccomp=(\S+)", block)]
    check("the container's profile is there", profiles and all(json.loads(path.read_text())["syscalls"] for path in profiles))
    m.inside("systemctl", "disable", "--now", "ringway.service")
    m.do("install", "-m", "755", "/opt/ringway", "/usr/local/bin/ringway")
    m.write("/etc/ringway/ringway.toml", CONFIGURATION, "0640")
    seen = set()
    for _, block in (found for found in blocks if found[0] == "sh"):
        status, out = m.inside("bash", "-euo", "pipefail", "-c", block)
        check(block.strip().splitlines()[0], status == 0, f"{status}\n{block}\n{out}\n{m.journal()}")
        if "enable --now" in block:
            until(m.serves, "it serves")
            for called in range(3):
                check("a request passes", m.chat(called=f"of-the-guide-{called}") == 200)
            until(lambda: "of-the-guide-2" in m.words("cat", "/var/log/ringway/access.log"), "the lines are in the log")
            for line in m.words("cat", "/var/log/ringway/access.log").splitlines():
                seen |= set(json.loads(line))
    fields = pathlib.Path("docs/access-log.md").read_text()
    missing = {field for field in seen if f"`{field}`" not in fields}
    check(f"each field of the log is in its page: {', '.join(sorted(seen))}", seen and not missing, missing)


def it_comes_as_a_package_too():
    if PACKAGE is None:
        return print("left out: no package was given")
    m.inside("bash", "-c", "systemctl stop ringway.service; systemctl reset-failed; ringway uninstall --apply; rm -rf /etc/ringway /etc/systemd/system/ringway*; systemctl daemon-reload; userdel ringway")
    m.do("dpkg", "--install", "/opt/ringway.deb")
    check("nothing is started", m.shows("ActiveState") == ["inactive"], str(m.shows("ActiveState", "Result", "ExecMainStatus")) + m.journal())
    check("what was installed is as packed", m.words("dpkg", "--verify", "ringway") == "")
    m.write("/etc/ringway/ringway.toml", CONFIGURATION.replace('"credential:mock-key"', f'"{SECRET}"'), "0640")
    check("its configuration is root's and the group's", m.sh("systemd-tmpfiles --create && stat -c '%U %G %a' /etc/ringway/ringway.toml").strip() == "root ringway 640")
    status, out = m.inside("systemd-analyze", "verify", "ringway.service", "ringway.slice")
    check("systemd-analyze verify has nothing to say", (status, out.strip()) == (0, ""), out)
    m.do("systemctl", "enable", "--now", "ringway")
    until(m.serves, "it serves")
    check("a request passes", m.chat() == 200)
    pid = m.pid()
    m.do("dpkg", "--install", "/opt/ringway.deb")
    check("installed again, it serves", m.serves() and m.chat() == 200, m.journal())
    m.do("dpkg", "--purge", "ringway")
    left = m.words("bash", "-c", "ls -d /usr/bin/ringway /usr/lib/systemd/system/ringway.* /etc/logrotate.d/ringway /var/lib/ringway /etc/ringway 2>/dev/null || true")
    check("purged, nothing is left", left == "", left)
    check("and nothing runs", m.chat() == "ConnectionRefusedError" and not pathlib.Path(f"/proc/{pid}").exists())


def it_is_uninstalled():
    m.do("systemctl", "disable", "--now", "ringway.service")
    out = m.do("ringway", "uninstall", "--apply")
    gone = m.words("bash", "-c", "ls /etc/systemd/system/ringway.* /usr/local/bin/ringway /etc/logrotate.d/ringway 2>/dev/null || true")
    check("its files are gone but for the drop-ins", "ringway.slice" not in gone and "/bin/ringway" not in gone and "logrotate" not in gone, gone)
    check("the configuration stays", "listen" in m.words("cat", "/etc/ringway/ringway.toml"), out)


SCENARIOS = [
    it_is_installed_as_the_readme_says,
    it_starts_and_says_so,
    it_reloads_without_cutting_a_stream,
    a_data_core_that_hangs_is_restarted,
    a_process_that_cannot_even_say_so_is_restarted_by_the_watchdog,
    a_killed_one_comes_back,
    it_stops_under_load_without_cutting_a_stream,
    a_new_program_takes_over_and_stops_without_cutting_a_stream,
    the_log_is_rotated_and_no_line_is_lost,
    its_socket_starts_it,
    it_is_uninstalled,
    every_command_of_the_guide_runs,
    it_comes_as_a_package_too,
]

if os.geteuid() != 0:
    sys.exit("a machine is booted by root alone")
PACKAGE = pathlib.Path(sys.argv[3]) if sys.argv[3:] and sys.argv[3].endswith(".deb") else None
m = Machine(sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), PACKAGE)
try:
    backend = m.beside(BACKEND, BACKEND_PORT, SECRET, 0.05)
    backend.stdout.readline()
    run(SCENARIOS, [chosen for chosen in sys.argv[3:] if not chosen.endswith(".deb")])
finally:
    m.end()
verdict()
