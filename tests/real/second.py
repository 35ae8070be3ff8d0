"""Two nodes share a Redis: what one has stored is a hit on the other, and whatever becomes of Redis, clients never notice.

    second.py RINGWAY REDIS_SERVER [SCENARIO...]

The backend counts its calls and numbers its answers. Standard library only.
"""

import concurrent.futures
import http.server
import itertools
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import house
from house import ask, check

PROGRAM, REDIS = sys.argv[1:3]
PASSWORD = "a/password@with:signs"
SECONDS = 30


class Backend:
    """Answers each question with its own words and the number of the call, whole or as a stream."""

    def __init__(self):
        self.calls, self.lock = 0, threading.Lock()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # a head and its body are one write

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.reply("application/json", "{}")

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with backend.lock:
                    backend.calls += 1
                    text = f"{asked['messages'][0]['content']} (call {backend.calls})"
                usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
                common = {"id": "x", "created": 1, "model": asked["model"]}
                if not asked.get("stream"):
                    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                    whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
                    return self.reply("application/json", json.dumps(whole))
                deltas = [({"role": "assistant", "content": ""}, None), ({"content": text}, None), ({}, "stop")]
                events = [
                    {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas
                ] + [{"choices": [], "usage": usage}]
                lines = [json.dumps({**common, "object": "chat.completion.chunk", **event}) for event in events]
                self.reply("text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]))

            def reply(self, content_type, text):
                body = text.encode()
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"


class Redis:
    """A server with a user that may do what a node does, and no more, besides the default one."""

    def __init__(self, tls=()):
        self.port, self.tls = house.free_port(), tls
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        house.directories.append(self.directory)
        house.Process.all.append(self)
        self.start()

    def start(self):
        rights = "~ringway:* &ringway:* +get +set +hget +hset +hmget +hgetall +eval +time +publish +subscribe +ping +select"
        rights += " +hdel +expire +zadd +zremrangebyscore +zcard"
        lines = [f"user ringway on >{PASSWORD} {rights}", 'save ""', "appendonly no", f"dir {self.directory}"]
        lines += ["port 0", f"tls-port {self.port}", *self.tls] if self.tls else [f"port {self.port}"]
        lines += ["bind 127.0.0.1", "logfile redis.log"]
        (self.directory / "redis.conf").write_text("\n".join(lines) + "\n")
        arguments = [REDIS, str(self.directory / "redis.conf")]
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, preexec_fn=house.die_with_parent)
        wait("Redis starts", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)

    def url(self, password=None, scheme="redis"):
        return f"{scheme}://ringway:{urllib.parse.quote(password or PASSWORD, safe='')}@127.0.0.1:{self.port}/2"

    def command(self, *parts):
        """One command of the default user, in the database of the nodes; the first line of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            for command in (("SELECT", "2"), parts):
                packed = f"*{len(command)}\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in command)
                connection.sendall(packed.encode())
            file = connection.makefile("rb")
            file.readline()
            return file.readline().decode().strip()

    def keys(self):
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n")
            file = connection.makefile("rb")
            file.readline()
            count = int(file.readline()[1:])
            return [file.read(int(file.readline()[1:]) + 2)[:-2].decode() for _ in range(count)]

    def kill(self):
        self.child.kill()
        self.child.wait()


class Node(house.Gateway):
    def __init__(self, backend, redis, more="", cache="", models=None, cores=2):
        self.admin_port = house.free_port()
        text = f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\n[redis]\nurl = {json.dumps(redis)}\n{more}\n'
        backends = [{"name": "b", "url": backend.url, "connections_min": 0}]
        models = models or [{"name": "m", "backends": ["b"]}, {"name": "n", "backends": ["b"]}]
        super().__init__(PROGRAM, backends, models, cache=cache, cores=cores, more=text)

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
    backend, redis = Backend(), Redis()
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


def what_one_node_stored_the_other_serves():
    backend, redis, a, b = pair()
    for place in range(8):
        what, stream = f"shared {place} " + "word " * (place * 200), place % 2 == 0
        _, said, _ = stored(redis, a, what, stream=stream)
        calls = backend.calls
        # First the other form, of which the leader's own is converted.
        for asked in (not stream, stream):
            cache, other, told = b.chat(what, stream=asked)
            check(f"question {place} is a hit with the same words", (cache, other) == ("HIT", said), (cache, told))
        check("no call was made", backend.calls == calls)
    _, _, told = b.chat("level", stream=False)
    stored(redis, a, "from redis")
    told = [b.chat("from redis")[2] for _ in range(2)]
    check("the level is told", "detail=redis" in told[0] and "detail" not in told[1], told)
    prompts = [key for key in redis.keys() if "shared" in key or "word" in key]
    check("no key has a prompt in it", not prompts and all(key.startswith("ringway:1:") for key in redis.keys()))
    a.stop(), b.stop()


def a_crowd_makes_one_look_up():
    backend, redis, a, b = pair()
    _, said, _ = stored(redis, a, "crowded")
    before, calls = b.lookups("hit"), backend.calls
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda place: b.chat("crowded", stream=place % 2 == 0), range(24)))
    # Those who join the leader while it asks are told that they did: MISS, collapsed.
    check("everybody gets it", all(answer[1] == said for answer in answers), answers)
    check("mostly as a hit", any(answer[0] == "HIT" for answer in answers), answers)
    check("no call, few look-ups", backend.calls == calls and b.lookups("hit") - before <= 2, b.lookups("hit"))
    a.stop(), b.stop()


def who_wants_what_is_cached_alone_gets_it_from_redis():
    backend, redis, a, b = pair()
    only = {"cache-control": "only-if-cached"}
    _, said, _ = stored(redis, a, "cached alone")
    calls = backend.calls
    body = {"model": "m", "messages": [{"role": "user", "content": "never asked"}]}
    status, _, _ = ask(b.port, "POST", "/v1/chat/completions", body, headers=only)
    check("what nobody has is a 504", status == 504, status)
    cache, other, told = b.chat("cached alone", headers=only)
    check("what the other node has is a hit", (cache, other) == ("HIT", said) and "detail=redis" in told, told)
    check("also from memory", b.chat("cached alone", headers=only)[0] == "HIT")
    check("no call was made", backend.calls == calls)
    a.stop(), b.stop()


def a_purge_reaches_both_nodes_and_redis():
    backend, redis, a, b = pair()
    for scope, model in (({"all": True}, "m"), ({"model": "n"}, "n")):
        _, old, _ = stored(redis, a, f"purged {scope}", model=model)
        check("both have it", b.chat(f"purged {scope}", model=model)[1] == old)
        beside = f"of the other model, beside {scope}"
        _, other, _ = stored(redis, a, beside)
        status, _, text = a.purge(scope)
        check("it is purged", status == 200, text)
        check("not served here", a.chat(f"purged {scope}", model=model)[1] != old)
        wait("nor there", lambda: b.chat(f"purged {scope}", model=model)[1] != old)
        if model == "n":
            check("another model's answers stay", b.chat(beside)[:2] == ("HIT", other))
    # A node that is new, or was away, does not serve what was purged before.
    _, old, _ = stored(redis, a, "purged while away")
    check("it is purged", a.purge({"model": "m"})[0] == 200)
    c = Node(backend, redis.url())
    c.reaches_redis(backend)
    check("a new node does not have it", c.chat("purged while away")[1] != old)
    a.stop(), b.stop(), c.stop()


def a_node_that_missed_a_purge_hears_of_it():
    backend, redis, a, b = pair()
    _, old, _ = stored(redis, a, "missed")
    check("both have it", b.chat("missed")[1] == old)
    # Nobody hears of what happens while Redis is gone, and Redis forgets everything.
    redis.kill()
    status, _, text = a.purge({"all": True})
    check("that Redis was not told is said", status == 503 and "redis_not_told" in text, (status, text))
    check("it is purged here", a.chat("missed")[1] != old)
    redis.start()
    wait("the other node hears of it", lambda: b.chat("missed")[1] != old)
    a.reaches_redis(backend), b.reaches_redis(backend)
    stored(redis, a, "afterwards")
    check("both share again", b.chat("afterwards")[0] == "HIT")
    a.stop(), b.stop()


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


def whatever_becomes_of_redis_clients_do_not_notice():
    backend, redis, a, b = pair()
    times = {}
    times["well"] = under_load(a, lambda: None)
    times["paused"] = under_load(a, lambda: redis.command("CLIENT", "PAUSE", "1500", "ALL"))
    a.reaches_redis(backend)
    times["flushed"] = under_load(a, lambda: [redis.command("FLUSHALL") for _ in range(5)])
    times["stopped"] = under_load(a, lambda: redis.child.send_signal(signal.SIGSTOP))
    redis.child.send_signal(signal.SIGCONT)
    seen = {result: a.lookups(result) for result in ("miss", "timeout", "error", "skipped")}
    check("look-ups were too late, then skipped", seen["timeout"] > 0 and seen["skipped"] > 0, seen)
    a.reaches_redis(backend)
    times["killed"] = under_load(a, redis.kill)
    times["back"] = under_load(a, redis.start)
    a.reaches_redis(backend)
    for what, all_times in times.items():
        middle, worst = all_times[len(all_times) // 2], all_times[-1]
        print(f"  {what}: {len(all_times)} answers, median {middle * 1000:.1f} ms, worst {worst * 1000:.1f} ms")
    a.stop(), b.stop()


def what_is_damaged_foreign_or_refused_is_a_miss():
    backend, redis, a, b = pair()
    for garbage in ("x", "", "RW", "a" * 100_000):
        stored(redis, a, f"damaged {garbage[:3]}")
        for key in redis.keys():
            if key != "ringway:1:purges":
                redis.command("SET", key, garbage)
        cache, said, _ = b.chat(f"damaged {garbage[:3]}")
        check("a miss, and a right answer", cache == "MISS" and said.startswith("damaged"), (cache, said))
    check("it is counted", b.lookups("damaged") > 0)
    stored(redis, a, "of another type")
    for key in redis.keys():
        redis.command("DEL", key)
        redis.command("LPUSH", key, "a")  # an error for whoever reads it
    check("an error is a miss", b.chat("of another type")[0] == "MISS" and b.lookups("error") > 0)
    a.stop(), b.stop()


def a_wrong_password_or_another_server_is_no_redis():
    backend, redis = Backend(), Redis()
    wrong = Node(backend, redis.url(password="wrong"))
    http = Node(backend, f"redis://127.0.0.1:{backend.url.rsplit(':', 1)[1]}")
    nobody = Node(backend, f"redis://127.0.0.1:{house.free_port()}")
    for node in (wrong, http, nobody):
        for place in range(4):
            check("a right answer", node.chat(f"no redis {place}")[1].startswith(f"no redis {place}"))
        check("it is a hit in memory", node.chat("no redis 1")[0] == "HIT")
        wait("why is told", lambda: "redis: " in node.words())
        node.stop()
    check("the password is not", PASSWORD not in wrong.words() and "wrong@" not in wrong.words())
    check("what Redis says is told", "WRONGPASS" in wrong.words(), wrong.words())


def over_tls():
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
    backend, redis = Backend(), Redis(tls=[*files, "tls-auth-clients no"])
    url, trusted = redis.url(scheme="rediss"), f'tls_ca = "{certificate}"'
    a, b = [Node(backend, url, more=trusted) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    numbers = itertools.count()

    def shared():
        what = f"secured {next(numbers)}"
        return a.chat(what)[1] == b.chat(what)[1]

    wait("what one stored the other serves", shared)
    check("a purge is told", a.purge({"all": True})[0] == 200)
    stranger = Node(backend, url)
    check("an unknown certificate is no Redis", stranger.chat("strange")[0] == "MISS")
    wait("why is told", lambda: "no secure connection" in stranger.words())
    a.stop(), b.stop(), stranger.stop()


house.run(
    [
        what_one_node_stored_the_other_serves,
        a_crowd_makes_one_look_up,
        who_wants_what_is_cached_alone_gets_it_from_redis,
        a_purge_reaches_both_nodes_and_redis,
        a_node_that_missed_a_purge_hears_of_it,
        whatever_becomes_of_redis_clients_do_not_notice,
        what_is_damaged_foreign_or_refused_is_a_miss,
        a_wrong_password_or_another_server_is_no_redis,
        over_tls,
    ],
    sys.argv[3:],
)
house.verdict()
