"""Two nodes share a Redis that is more than one server: Sentinels choose another master, a Cluster moves its slots, servers are
killed, and clients never notice.

    clustered.py RINGWAY REDIS_SERVER [SCENARIO...]

The backend counts its calls and numbers its answers. Standard library only.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import house
from house import ask, check
from levels import CLI, PASSWORD, REDIS, Node, Redis, certified, numbered, under_load, wait

WATCHER = "a-watcher's"


class Sentinel:
    """One of several that watch `master`, where two of them decide after a second."""

    def __init__(self, master, quorum=2, tls=()):
        self.port = house.free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-sentinel-"))
        house.directories.append(self.directory)
        rights = "&+switch-master +subscribe +ping +sentinel|get-master-addr-by-name"
        lines = ["port 0", f"tls-port {self.port}", *tls] if tls else [f"port {self.port}"]
        lines += ["bind 127.0.0.1", f"dir {self.directory}", "logfile sentinel.log"]
        lines += [f"sentinel monitor main 127.0.0.1 {master.port} {quorum}", "sentinel down-after-milliseconds main 1000"]
        lines += ["sentinel failover-timeout main 5000", f'user ringway on "#{sha256(WATCHER)}" {rights}']
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
        arguments = [REDIS, str(self.directory / "sentinel.conf"), "--sentinel"]
        house.Process.all.append(self)
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, preexec_fn=house.die_with_parent)

    def command(self, *parts):
        return cli(self.port, *parts)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def cli(port, *parts):
    return subprocess.run([CLI, "-p", str(port), "--raw", *parts], capture_output=True, text=True, timeout=30).stdout.strip()


class Watched:
    """A master, a replica and three Sentinels."""

    def __init__(self):
        first = Redis()
        self.servers = [first, Redis(lines=[f"replicaof 127.0.0.1 {first.port}"])]
        wait("the replica follows", lambda: "master_link_status:up" in self.servers[1].command("INFO", "replication"))
        self.sentinels = [Sentinel(first) for _ in range(3)]
        for sentinel in self.sentinels:
            wait("Sentinels know each other", lambda: "num-other-sentinels\n2" in sentinel.command("SENTINEL", "MASTER", "main"))
            wait("and the replica", lambda: "num-slaves\n1" in sentinel.command("SENTINEL", "MASTER", "main"))

    def url(self, password=PASSWORD, service="main"):
        # The first of them does not run.
        hosts = ",".join(f"127.0.0.1:{port}" for port in [house.free_port(), *(each.port for each in self.sentinels)])
        return f"redis+sentinel://ringway:{urllib.parse.quote(password, safe='')}@{hosts}/{service}/2"

    def master(self):
        _, port = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").split()
        return next(server for server in self.servers if server.port == int(port))


WATCHED = f'sentinel_user = "ringway"\nsentinel_password = {json.dumps(WATCHER)}'


def shared(a, b, what):
    """What `a` stores, `b` gets from Redis, as soon as it is there."""
    said = a.chat(what)[1]
    before = b.lookups("hit")

    def is_hit():
        # A question of its own each time it comes too early: what was asked is in memory.
        nonlocal said, what
        cache, other, _ = b.chat(what)
        if (cache, other) == ("HIT", said) and b.lookups("hit") > before:
            return True
        what += "."
        said = a.chat(what)[1]
        return False

    wait(f"what one stored the other serves: {what}", is_hit)


def a_new_master_is_found():
    backend, watched = numbered(), Watched()
    a, b = [Node(backend, watched.url(), more=WATCHED) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "by way of the first master")
    check("a start is quiet", "WARN" not in a.words() + b.words(), a.words() + b.words())
    _, old, _ = a.chat("purged before")
    wait("it is replicated", lambda: len(watched.servers[1].keys()) == len(watched.servers[0].keys()) > 0)
    check("a purge is told", a.purge({"model": "m"})[0] == 200)

    first = watched.master()
    times = {"well": under_load(a, lambda: None, seconds=1)}
    times["failover"] = under_load(a, lambda: watched.sentinels[1].command("SENTINEL", "FAILOVER", "main"), seconds=3)
    wait("there is another master", lambda: watched.master() is not first)
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "by way of the second master")
    check("what was purged stays away", b.chat("purged before")[1] != old)
    check("a purge is told to it", a.purge({"model": "m"})[0] == 200)

    wait("the first one is a replica", lambda: "master_link_status:up" in first.command("INFO", "replication"))
    second = watched.master()
    times["killed"] = under_load(a, second.kill, seconds=4)
    wait("the first one is the master again", lambda: watched.master() is first)
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "by way of the first master again")
    check("a purge is told to that, too", a.purge({"all": True})[0] == 200)
    tell(times)
    a.stop(), b.stop()


def tell(times):
    for what, all_times in times.items():
        middle, worst = all_times[len(all_times) // 2], all_times[-1]
        print(f"  {what}: {len(all_times)} answers, median {middle * 1000:.1f} ms, worst {worst * 1000:.1f} ms")


def what_a_lost_master_knew_of_purges_is_told_again():
    backend, watched = numbered(), Watched()
    a, b = [Node(backend, watched.url(), more=WATCHED) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    first, second = watched.servers
    _, old, _ = a.chat("purged")
    wait("the answer is replicated", lambda: len(second.keys()) == len(first.keys()) > 0)
    # The replica hears of nothing more, and so it does not know of the purge.
    second.command("CONFIG", "SET", "masterauth", "wrong"), second.command("CONFIG", "SET", "masteruser", "nobody")
    first.command("CLIENT", "KILL", "TYPE", "replica")
    check("it is purged", a.purge({"model": "m"})[0] == 200)
    check("the replica does not know", "purges" not in second.command("KEYS", "*"))
    first.kill()
    second.command("CONFIG", "SET", "masterauth", ""), second.command("CONFIG", "SET", "masteruser", "")
    wait("it is the master", lambda: watched.master() is second)
    wait("it is told", lambda: "ringway:1:purges" in second.keys())
    c = Node(backend, watched.url(), more=WATCHED)
    c.reaches_redis(backend)
    check("a new node does not have what was purged", c.chat("purged")[1] != old)
    a.stop(), b.stop(), c.stop()


def limits_hold_while_masters_change():
    """Two nodes spend a day's limit at many times the pace that it allows, while one master hands over and the next is killed."""
    watched, limit, keys = Watched(), 400, ("a-key", "a-free-key")
    more = WATCHED + "\n[limits]\nnodes_min = 2\n"
    more += f'[[tenant]]\nname = "t"\nkeys = ["sha256:{sha256(keys[0])}"]\nrequests_per_day = {limit}\n'
    more += f'[[tenant]]\nname = "free"\nkeys = ["sha256:{sha256(keys[1])}"]\n'
    nodes = [Node(numbered(), watched.url(), more=more) for _ in range(2)]
    time.sleep(4)  # a store that is new to a node may have forgotten: it is careful for three seconds
    over, lock, day = threading.Event(), threading.Lock(), time.gmtime().tm_yday
    admitted, others, slowest = [], [], {key: 0.0 for key in keys}

    def client(node, key, pause):
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        while not over.wait(pause):
            began = time.monotonic()
            status, _, _ = ask(node.port, "POST", "/v1/chat/completions", body, headers={"authorization": f"Bearer {key}"})
            with lock:
                slowest[key] = max(slowest[key], time.monotonic() - began)
                if key == keys[0] and status == 200:
                    admitted.append(began)
                elif status != (200 if key == keys[1] else 429):
                    others.append(status)

    clients = [threading.Thread(target=client, args=(node, keys[0], 0.05)) for node in nodes for _ in range(2)]
    clients += [threading.Thread(target=client, args=(node, keys[1], 0.05)) for node in nodes]
    for each in clients:
        each.start()
    try:
        wait("some is spent", lambda: len(admitted) > limit // 8)
        first = watched.master()
        watched.sentinels[1].command("SENTINEL", "FAILOVER", "main")
        wait("there is another master", lambda: watched.master() is not first)
        wait("the first one is a replica", lambda: "master_link_status:up" in first.command("INFO", "replication"))
        at_handover = len(admitted)
        watched.master().kill()
        wait("the first one is the master again", lambda: watched.master() is first)
        wait("all is spent", lambda: len(admitted) >= limit * 0.95)
        time.sleep(2)
        spent = len(admitted)
        time.sleep(3)
    finally:
        over.set()
        for each in clients:
            each.join()
    print(f"  {at_handover} of {limit} at the second change, {spent} in all, slowest {slowest[keys[0]]:.2f} s beside {slowest[keys[1]]:.2f} s")
    if time.gmtime().tm_yday == day:
        check("never twice the limit", limit * 0.95 <= spent < 2 * limit, spent)
        check("then nothing more", len(admitted) == spent, (len(admitted), spent))
    check("nothing else was answered", not others, others)
    # On its way to a home core and to Redis a request may wait for the machine several times.
    check("nobody waited for Redis", slowest[keys[0]] - 3 * slowest[keys[1]] < 2, slowest)
    for node in nodes:
        node.stop()


def wrong_words_for_sentinels_and_servers_are_no_redis():
    backend, watched = numbered(), Watched()
    http = backend.url.rsplit(":", 1)[1]
    for what, url, more, words in (
        ("the servers' password", watched.url(password="wrong"), WATCHED, "WRONGPASS"),
        ("the Sentinels' password", watched.url(), WATCHED.replace(WATCHER, "wrong"), "WRONGPASS"),
        ("the service", watched.url(service="other"), WATCHED, 'no service "other"'),
        ("the Sentinel", f"redis+sentinel://127.0.0.1:{http}/main", "", "no reply of Redis"),
    ):
        node = Node(backend, url, more=more)
        for place in range(4):
            check(f"a right answer with a wrong {what}", node.chat(f"{what} {place}")[1].startswith(f"{what} {place}"))
        wait(f"why is told: {what}", lambda: "redis: " in node.words() and words in node.words())
        check("no password is", PASSWORD not in node.words() and WATCHER not in node.words())
        node.stop()


class Cluster:
    """Three masters with a third of the slots and a replica each."""

    def __init__(self):
        lines = ["cluster-enabled yes", "cluster-node-timeout 1000", "cluster-allow-replica-migration no"]
        self.servers = [Redis(lines=[*lines, f"cluster-port {house.free_port()}"], database=0) for _ in range(6)]
        hosts = [f"127.0.0.1:{server.port}" for server in self.servers]
        arguments = [CLI, "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(arguments, check=True, capture_output=True, timeout=60)
        self.is_well()

    def is_well(self):
        def everybody_agrees():
            maps = {server.command("CLUSTER", "SLOTS").count("127.0.0.1") for server in self.servers}
            return len(maps) == 1 and all("cluster_state:ok" in server.command("CLUSTER", "INFO") for server in self.servers)

        wait("the cluster is well", everybody_agrees)
        wait("the replicas follow", lambda: all("link_status:down" not in s.command("INFO", "replication") for s in self.servers))

    def url(self, password=PASSWORD):
        # The first of them does not run, and of the others it names one.
        return (
            f"redis+cluster://ringway:{urllib.parse.quote(password, safe='')}@127.0.0.1:{house.free_port()},"
            f"127.0.0.1:{self.servers[0].port}"
        )

    def masters(self):
        """The server of each range of slots, by its first one."""
        rows = self.servers[0].command("CLUSTER", "NODES").splitlines() if self.servers[0].child.poll() is None else []
        rows = rows or next(s for s in self.servers if s.child.poll() is None).command("CLUSTER", "NODES").splitlines()
        found = {}
        for row in map(str.split, rows):
            if "master" in row[2] and "fail" not in row[2] and len(row) > 8:
                port = int(re.search(r":(\d+)@", row[1])[1])
                server = next(server for server in self.servers if server.port == port)
                server.id = row[0]
                for slots in row[8:]:
                    if "->" not in slots and "-<-" not in slots:
                        first, _, last = slots.partition("-")
                        found[int(first), int(last or first)] = server
        return found

    def master_of(self, key):
        slot = int(self.servers[1].command("CLUSTER", "KEYSLOT", key))
        return slot, next(server for (first, last), server in self.masters().items() if first <= slot <= last)

    def keys(self):
        return [key for server in set(self.masters().values()) for key in server.keys()]


def stored_in(cluster, node, what):
    """Asks, and waits until the cluster has the answer; its key."""
    before = set(cluster.keys())
    _, said, _ = node.chat(what)
    wait("it is stored", lambda: set(cluster.keys()) - before - {"ringway:1:purges"})
    return said, (set(cluster.keys()) - before - {"ringway:1:purges"}).pop()


def a_key_is_found_wherever_it_goes():
    backend, cluster = numbered(), Cluster()
    a, b = [Node(backend, cluster.url()) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    check("a start is quiet", "WARN" not in a.words() + b.words(), a.words() + b.words())
    for place in range(12):
        shared(a, b, f"all over the cluster {place}")
    spread = {server.port for key in cluster.keys() for server in [cluster.master_of(key)[1]]}
    check("all masters have some", len(spread) == 3, spread)

    # A slot is on its way, and its key has gone already.
    what = next(
        (said, key, f"on its way {place}")
        for place in range(40)
        for said, key in [stored_in(cluster, a, f"on its way {place}")]
        if cluster.master_of(key)[1] is not cluster.master_of("ringway:1:purges")[1]
    )
    said, key, asked = what
    slot, source = cluster.master_of(key)
    target = cluster.master_of("ringway:1:purges")[1]
    other = next(server for server in set(cluster.masters().values()) if server not in (source, target))
    target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
    source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.id)
    source.command("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
    check("the server says so", "ASK" in source.command("GET", key), source.command("GET", key))
    cache, other_said, told = b.chat(asked)
    check("it is found where it went (ASK)", (cache, other_said) == ("HIT", said) and "detail=redis" in told, told)
    for server in (target, source, other):
        server.command("CLUSTER", "SETSLOT", str(slot), "NODE", target.id)
    check("the server says so", "MOVED" in source.command("GET", key), source.command("GET", key))
    c = Node(backend, cluster.url())
    c.reaches_redis(backend)
    check("a new node finds it", c.chat(asked)[:2] == ("HIT", said))
    # Its map is from before: nobody has said that it is wrong.
    a.purge({"tenant": "nobody"})
    moved = [stored_in(cluster, c, f"moved {place}") for place in range(3)]
    for place, (said, key) in enumerate(moved):
        slot, source = cluster.master_of(key)
        target = next(server for server in set(cluster.masters().values()) if server is not source)
        b.reaches_redis(backend)  # what the last one changed may have cost connections
        reshard(cluster, source, target, slot)
        cache, other_said, _ = b.chat(f"moved {place}")
        check("it is found where it went (MOVED)", (cache, other_said) == ("HIT", said), (cache, b.words()))
    a.stop(), b.stop(), c.stop()
    a_limit_is_that_of_both_nodes(cluster)


def a_limit_is_that_of_both_nodes(cluster):
    """Of ten a day one node gets all, which without Redis are five for each; then the other gets none."""
    more = f'[limits]\nnodes_min = 2\n[[tenant]]\nname = "t"\nkeys = ["sha256:{sha256("a-key")}"]\nrequests_per_day = 10'
    a, b = [Node(numbered(), cluster.url(), more=more) for _ in range(2)]

    def is_admitted(node):
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        status, _, text = ask(node.port, "POST", "/v1/chat/completions", body, headers={"authorization": "Bearer a-key"})
        assert status in (200, 429), (status, text)
        return status == 200

    day, admitted = time.gmtime().tm_yday, 0

    def all_ten():
        nonlocal admitted
        admitted += is_admitted(a)
        return admitted >= 10

    wait("one node gets all ten", all_ten)
    more_than_that = sum(is_admitted(node) for node in (a, b) * 5)
    check("the other gets none", more_than_that == 0 or time.gmtime().tm_yday != day, more_than_that)
    a.stop(), b.stop()


def reshard(cluster, source, target, slot):
    """Moves one slot, as redis-cli does."""
    cluster.masters()
    target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
    source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.id)
    keys = source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "100").split()
    for key in keys:
        source.command("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
    for server in (target, source):
        server.command("CLUSTER", "SETSLOT", str(slot), "NODE", target.id)


def a_cluster_changes_under_load():
    backend, cluster = numbered(), Cluster()
    a, b = [Node(backend, cluster.url()) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    _, old, _ = a.chat("purged")
    check("a purge is told", a.purge({"model": "m"})[0] == 200)
    wait("and heard of", lambda: b.chat("purged")[1] != old)
    times = {"well": under_load(a, lambda: None, seconds=1)}

    def move_many():
        masters = list(dict.fromkeys(cluster.masters().values()))
        arguments = [CLI, "--cluster", "reshard", f"127.0.0.1:{masters[0].port}", "--cluster-from", masters[0].id]
        arguments += ["--cluster-to", masters[1].id, "--cluster-slots", "300", "--cluster-yes"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        check("slots are moved", done.returncode == 0, done.stdout[-500:])

    times["moving"] = under_load(a, move_many, seconds=1)
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "after slots have moved")
    cluster.is_well()
    # The one that says what was purged.
    _, killed = cluster.master_of("ringway:1:purges")
    times["killed"] = under_load(a, killed.kill, seconds=4)
    wait("its replica has taken over", lambda: killed not in cluster.masters().values() and len(cluster.masters()) >= 3)
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "after one was killed")
    _, old, _ = a.chat("purged again")
    shared(a, b, "of another model")
    wait("a purge is told", lambda: a.purge({"model": "m"})[0] == 200)
    wait("and heard of", lambda: b.chat("purged again")[1] != old)
    # Without a replica: its slots are gone.
    left = next(server for server in cluster.masters().values() if server.command("INFO", "replication").count("slave0") == 0)
    times["lost"] = under_load(a, left.kill, seconds=2)
    killed.start(), left.start()
    wait("it is back", lambda: "cluster_state:ok" in left.command("CLUSTER", "INFO"))
    a.reaches_redis(backend), b.reaches_redis(backend)
    shared(a, b, "when all are back")
    tell(times)
    a.stop(), b.stop()


def wrong_words_for_a_cluster_are_no_redis():
    backend, alone = numbered(), Redis()
    wrong = Node(backend, f"redis+cluster://ringway:wrong@127.0.0.1:{alone.port}")
    single = Node(backend, f"redis+cluster://127.0.0.1:{alone.port}")
    http = Node(backend, f"redis+cluster://127.0.0.1:{backend.url.rsplit(':', 1)[1]}")
    for node, words in ((wrong, "WRONGPASS"), (single, "cluster support disabled"), (http, "no reply of Redis")):
        for place in range(4):
            check("a right answer", node.chat(f"no cluster {place}")[1].startswith(f"no cluster {place}"))
        wait(f"why is told: {words}", lambda: "redis: " in node.words() and words in node.words())
        node.stop()


def over_tls():
    certificate, files = certified()
    trusted = f'tls_ca = "{certificate}"'
    backend = numbered()
    cluster = Redis(tls=[*files, "tls-cluster yes"], lines=["cluster-enabled yes", f"cluster-port {house.free_port()}"], database=0)
    cluster.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    wait("the cluster is well", lambda: "cluster_state:ok" in cluster.command("CLUSTER", "INFO"))
    master = Redis(tls=[*files, "tls-replication yes"])
    sentinel = Sentinel(master, quorum=1, tls=[*files, "tls-replication yes"])
    password = urllib.parse.quote(PASSWORD, safe="")
    for url, more in (
        (f"rediss+cluster://ringway:{password}@127.0.0.1:{cluster.port}", trusted),
        (f"rediss+sentinel://ringway:{password}@127.0.0.1:{sentinel.port}/main/2", f"{trusted}\n{WATCHED}"),
    ):
        a, b = [Node(backend, url, more=more) for _ in range(2)]
        a.reaches_redis(backend), b.reaches_redis(backend)
        shared(a, b, f"secured {url.split(':')[0]}")
        check("a purge is told", a.purge({"all": True})[0] == 200)
        untrusting = Node(backend, url, more=more.replace(trusted, ""))
        check("an untrusted certificate is refused", untrusting.chat("not shared")[0] == "MISS")
        wait("the log says why", lambda: "no secure connection" in untrusting.words())
        a.stop(), b.stop(), untrusting.stop()


house.run(
    [
        a_new_master_is_found,
        what_a_lost_master_knew_of_purges_is_told_again,
        limits_hold_while_masters_change,
        wrong_words_for_sentinels_and_servers_are_no_redis,
        a_key_is_found_wherever_it_goes,
        a_cluster_changes_under_load,
        wrong_words_for_a_cluster_are_no_redis,
        over_tls,
    ],
    sys.argv[3:],
)
house.verdict()
