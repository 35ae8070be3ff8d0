"""A node whose answers outlive it: stopped, killed while it writes, on a full disk, with its files cut and changed in every place.

    restart.py RINGWAY [SCENARIO...]

Standard library only; the full disk wants root, for a mount.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

import house
from house import ask, check

PROGRAM = sys.argv[1]
SECONDS = 30
PAGE = 4096
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))


def words(what, length):
    """The same for everybody, and not to be compressed."""
    text, number = [], 0
    while sum(map(len, text)) < length:
        text.append(hashlib.sha256(f"{what} {number}".encode()).hexdigest())
        number += 1
    return "".join(text)[:length]


def spelling():
    """Answers `N what` with N letters that belong to it."""

    def says(asked, _):
        what = asked["messages"][0]["content"]
        return words(what, int(what.split()[0]))

    return house.Backend(says)


class Node(house.Gateway):
    def __init__(self, backend, state, cores=2, cache=""):
        self.admin_port = house.free_port()
        backends = [{"name": "b", "url": backend.url, "connections_min": 0}]
        super().__init__(
            PROGRAM,
            backends,
            [{"name": "m", "backends": ["b"]}, {"name": "n", "backends": ["b"]}],
            cache='ttl = "1h"\nsnapshot = true\nsnapshot_interval = "0s"\n' + cache,
            cores=cores,
            server=f'state_dir = "{state}"',
            more=f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\n',
        )

    def chat(self, what, model="m"):
        body = {"model": model, "messages": [{"role": "user", "content": what}]}
        status, fields, text = ask(self.port, "POST", "/v1/chat/completions", body)
        assert status == 200, (status, text)
        said = json.loads(text)["choices"][0]["message"]["content"]
        assert said == words(what, int(what.split()[0])), what
        return fields["x-cache"], int(fields.get("age") or 0)

    def fill(self, questions):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return [cache for cache, _ in pool.map(self.chat, questions)]

    def told(self):
        return json.loads(ask(self.admin_port, "GET", "/v1/status")[2])["cache"]["snapshot"]

    def restored(self):
        deadline = time.monotonic() + SECONDS
        while (told := self.told())["restore"] == "running":
            assert time.monotonic() < deadline, told
            time.sleep(0.01)
        return told

    def snapshot(self):
        return ask(self.admin_port, "POST", "/v1/snapshot", timeout=120)


def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringway-state-"))
    house.directories.append(path)
    return path


def ages_go_on_and_time_runs_out():
    backend, state = spelling(), directory()
    node = Node(backend, state)
    node.chat("100 old")
    time.sleep(2.1)
    node.stop()
    node = Node(backend, state, cores=1)
    node.restored()
    cache, age = node.chat("100 old")
    check("a hit, as old as it is", cache == "HIT" and 2 <= age <= 10, (cache, age))
    node.stop()
    short = 'ttl = "3s"\nsnapshot = true\nsnapshot_interval = "0s"\n'
    state = directory()
    node = Node(backend, state)
    node.kill()
    path = pathlib.Path(node.arguments[-1])
    path.write_text(path.read_text().replace('ttl = "1h"\nsnapshot = true\nsnapshot_interval = "0s"\n', short))
    node.start()
    node.chat("100 short")
    node.stop()
    time.sleep(3.1)
    node.start()
    told = node.restored()
    check("what has expired is left out", told["restored"] == {"expired": 1}, told)
    check("and asked for again", node.chat("100 short")[0] == "MISS")
    node.stop()


def killed_while_it_writes():
    backend, state = spelling(), directory()
    node = Node(backend, state, cache="max_entry = \"1MiB\"\n")
    first = [f"40000 first {number}" for number in range(100)]
    node.fill(first)
    check("a first snapshot", node.snapshot()[0] == 200)
    second = [f"60000 second {number}" for number in range(500)]
    node.fill(second)
    new, old = state / "cache.snapshot.new", state / "cache.snapshot"
    caught, random_ = 0, random.Random(SEED)
    for attempt in range(6):
        before = old.read_bytes()
        threading.Thread(target=safe, args=(node.snapshot,), daemon=True).start()
        deadline = time.monotonic() + SECONDS
        while not (new.exists() and new.stat().st_size > 0) and old.stat().st_size == len(before):
            assert time.monotonic() < deadline
        time.sleep(random_.random() * 0.03)
        node.kill()
        caught += new.exists()
        whole = old.read_bytes()
        node.start()
        told = node.restored()
        check("what is there is whole", told["restore_fault"] is None and "damaged_block" not in told["restored"], told)
        many = told["restored"].get("restored", 0)
        check("the one before, or the new one", many in (len(first), len(first) + len(second)), told)
        check("all of it serves", set(node.fill(first)) == {"HIT"})
        if whole == before:
            node.fill(second)
    check("it was caught in the act", caught > 0, caught)
    # A file that was left behind is no trouble.
    check("the next one is written", node.snapshot()[0] == 200 and not new.exists())
    node.stop()


def safe(work):
    with contextlib.suppress(Exception):
        work()


def whatever_is_cut_or_changed_nothing_wrong_is_served():
    backend, state = spelling(), directory()
    node = Node(backend, state)
    questions = [f"{2000 + number * 150} damaged {number}" for number in range(60)]
    node.fill(questions)
    node.fill(questions[:20])
    node.stop()
    path, random_ = state / "cache.snapshot", random.Random(SEED)
    whole = path.read_bytes()
    print(f"  seed {SEED}, {len(whole)} bytes")
    places = [random_.randrange(len(whole)) for _ in range(10)] + [0, 7, 8, 30, 60, PAGE, PAGE + 8, len(whole) - PAGE]
    files = [(f"a bit at {at}", whole[:at] + bytes([whole[at] ^ (1 << random_.randrange(8))]) + whole[at + 1 :]) for at in places]
    files += [(f"cut at {at}", whole[:at]) for at in (1, PAGE - 1, PAGE, len(whole) // 2, len(whole) - 1)]
    files += [("noise", random_.randbytes(50_000)), ("zeros", bytes(3 * PAGE)), ("twice", whole + whole)]
    lost = 0
    for what, bytes_ in files:
        path.write_bytes(bytes_)
        node.start()
        told = node.restored()
        hits = node.fill(questions).count("HIT")  # each one checks its words
        lost += len(questions) - hits
        said = told["restored"].get("restored", 0) == hits
        why = hits == len(questions) or told["restore_fault"] or "damaged_block" in told["restored"]
        check(f"{what}: right answers, {hits} of them hits, with a reason for the others", said and why, told)
        node.kill()
    check("something was lost at all", lost > 0)
    path.write_bytes(whole)
    node.start()
    check("the whole file comes back whole", node.restored()["restored"] == {"restored": len(questions)})
    node.stop()


def requests_run_while_it_writes_and_reads():
    backend, state = spelling(), directory()
    node = Node(backend, state)
    questions = [f"30000 loaded {number}" for number in range(1000)]
    node.fill(questions)
    over, times = threading.Event(), []

    def client():
        number = 0
        while not over.is_set():
            began = time.monotonic()
            assert node.chat(questions[number % 1000])[0] in ("HIT", "MISS")
            times.append(time.monotonic() - began)
            number += 7

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(client) for _ in range(2)]
        for _ in range(5):
            check("a snapshot under load", node.snapshot()[0] == 200)
        over.set()
        [done.result() for done in clients]
    print(f"  {len(times)} answers beside five snapshots, the slowest in {max(times) * 1000:.0f} ms")
    node.stop()
    node = Node(backend, state, cores=1)
    calls = backend.calls
    served = node.fill(questions)
    told = node.restored()
    check("what was asked for meanwhile is right, and the rest is back", set(node.fill(questions)) == {"HIT"}, told)
    print(f"  {served.count('HIT')} hits while it was read, {backend.calls - calls} calls")
    node.stop()


def a_full_disk_costs_a_snapshot_and_no_purge():
    mount = directory()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount]).returncode != 0:
        print("  no mount: left out")
        return
    try:
        backend = spelling()
        node = Node(backend, mount)
        node.chat("1000 kept")
        check("a small one fits", node.snapshot()[0] == 200)
        node.fill([f"60000 full {number}" for number in range(80)])
        status, _, text = node.snapshot()
        check("a large one does not, and that is said", status == 503 and ("No space left" in text or "disk is full" in text), (status, text))
        check("the status says it, too", node.told()["failed"] == 1 and node.told()["fault"], node.told())
        check("nothing of it is left", not (mount / "cache.snapshot.new").exists())
        (mount / "ballast").write_bytes(b"")
        with contextlib.suppress(OSError), open(mount / "ballast", "ab", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        status, _, text = ask(node.admin_port, "POST", "/v1/purge", {"model": "m"})
        check("a purge is done all the same", status == 200, text)
        check("for which the snapshot goes", not (mount / "cache.snapshot").exists(), list(mount.iterdir()))
        node.kill()
        (mount / "ballast").unlink()
        node.start()
        node.restored()
        check("it does not come back", node.chat("1000 kept")[0] == "MISS")
        node.stop()
    finally:
        subprocess.run(["umount", "-l", mount], check=False)


house.run(
    [
        ages_go_on_and_time_runs_out,
        killed_while_it_writes,
        whatever_is_cut_or_changed_nothing_wrong_is_served,
        requests_run_while_it_writes_and_reads,
        a_full_disk_costs_a_snapshot_and_no_purge,
    ],
    sys.argv[2:],
)
house.verdict()
