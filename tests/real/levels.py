"""What second.py and clustered.py share: a backend, Redis servers, nodes in front of them, and load. Standard library only."""

import concurrent.futures
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import house
from house import ask

PROGRAM, REDIS = sys.argv[1:3]
CLI = shutil.which("redis-cli")
PASSWORD = "a/password@with:signs"
SECONDS = 30
# A lookup's deadline: above what a busy machine makes of one, under what the scenarios do to Redis. What is shipped (5 ms) would be missed
# now and then, and a hit that is expected be a miss.
LATE = "250ms"


def numbered():
    """Answers each question with its own words and the number of the call."""
    return house.Backend(lambda asked, call: f"{asked['messages'][0]['content']} (call {call})")


class Redis:
    """A server with a user that may do what a node does, and no more, besides the default one. `lines` are more of its
    configuration."""

    def __init__(self, tls=(), lines=(), database=2):
        self.port, self.tls, self.lines, self.database = house.free_port(), tls, lines, database
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        house.directories.append(self.directory)
        house.Process.all.append(self)
        self.start()

    def start(self):
        rights = "~ringway:* &ringway:* +get +set +hget +hset +hmget +hgetall +eval +time +publish +subscribe +ping +select"
        rights += " +hdel +zadd +zrem +zrangebyscore +zremrangebyscore +zcard +del +role +asking +cluster|slots +cluster|info"
        lines = [f"user ringway on >{PASSWORD} {rights}", 'save ""', "appendonly no", f"dir {self.directory}"]
        lines += ["port 0", f"tls-port {self.port}", *self.tls] if self.tls else [f"port {self.port}"]
        lines += ["bind 127.0.0.1", "logfile redis.log", *self.lines]
        (self.directory / "redis.conf").write_text("\n".join(lines) + "\n")
        arguments = [REDIS, str(self.directory / "redis.conf")]
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, preexec_fn=house.die_with_parent)
        wait("Redis starts", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)

    def url(self, password=None, scheme="redis"):
        return f"{scheme}://ringway:{urllib.parse.quote(password or PASSWORD, safe='')}@127.0.0.1:{self.port}/{self.database}"

    def command(self, *parts):
        """One command of the default user, in the database of the nodes; what redis-cli prints."""
        arguments = [CLI, "-p", str(self.port), "-n", str(self.database), "--raw"]
        arguments += [*(["--tls", "--insecure"] if self.tls else []), *parts]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=20).stdout.strip()

    def keys(self):
        return self.command("KEYS", "*").splitlines()

    def kill(self):
        self.child.kill()
        self.child.wait()


class Node(house.Gateway):
    def __init__(self, backend, redis, more="", cache="", models=None, cores=2, server=""):
        self.admin_port = house.free_port()
        text = f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\n[redis]\nurl = {json.dumps(redis)}\ntimeout = "{LATE}"\n{more}\n'
        backends = [{"name": "b", "url": backend.url, "connections_min": 0}]
        models = models or [{"name": "m", "backends": ["b"]}, {"name": "n", "backends": ["b"]}]
        super().__init__(PROGRAM, backends, models, cache=cache, cores=cores, server=server, more=text)

    def chat(self, what, model="m", stream=False, headers=None):
        """Where the answer came from, its text, and all of Cache-Status."""
        body = {"model": model, "messages": [{"role": "user", "content": what}], "stream": stream}
        status, fields, text = ask(self.port, "POST", "/v1/chat/completions", body, headers=headers)
        assert status == 200, (status, text)
        if stream:
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            assert text.endswith("data: [DONE]\n\n"), text
            said = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
        else:
            said = json.loads(text)["choices"][0]["message"]["content"]
        return fields["x-cache"], said, fields["cache-status"]

    def metric(self, name):
        _, _, text = ask(self.admin_port, "GET", "/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def lookups(self, result):
        return self.metric(f'ringway_cache_redis_lookups_total{{result="{result}"}}')

    def reaches_redis(self, backend):
        """Waits until each core has its connection: what is asked here is a look-up, and no core skips one."""

        def nothing_skipped():
            before = self.lookups("skipped")
            for _ in range(16):
                self.chat(f"is it there? {time.monotonic_ns()}")
            return self.lookups("skipped") == before

        wait("each core reaches Redis", nothing_skipped)

    def purge(self, what):
        return ask(self.admin_port, "POST", "/v1/purge", what)


def certified():
    """A certificate for 127.0.0.1, and the lines of a server that has it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-tls-"))
    house.directories.append(directory)
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=redis"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True,
        capture_output=True,
    )
    files = [f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {certificate}"]
    return certificate, [*files, "tls-auth-clients no"]


def wait(what, holds):
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"it never happens: {what}")
        time.sleep(0.02)


def pair(**more):
    backend, redis = numbered(), Redis()
    nodes = [Node(backend, redis.url(), **more) for _ in range(2)]
    for node in nodes:
        node.reaches_redis(backend)
    return backend, redis, *nodes


def stored(redis, node, what, **more):
    """Asks, and waits until Redis has the answer."""
    before = len(redis.keys())
    said = node.chat(what, **more)
    wait("the answer is in Redis", lambda: len(redis.keys()) > before)
    return said


def under_load(node, upset, seconds=2.0):
    """The longest answers' times while `upset` runs, sorted. Every answer is right, or this raises."""
    over, times = threading.Event(), []

    def client(number):
        for place in range(100_000):
            if over.is_set():
                return
            began = time.monotonic()
            what = f"load {number} {place}"
            said = node.chat(what, stream=place % 2 == 0)[1]
            assert said.startswith(what), said
            times.append(time.monotonic() - began)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            upset()
            time.sleep(seconds)
        finally:
            over.set()
        for done in clients:
            done.result()
    return sorted(times)
