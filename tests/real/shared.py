"""Two nodes hold limits together by a real Redis, and go on when it is killed, paused and emptied.

    shared.py RINGWAY REDIS_SERVER [SCENARIO...]

Standard library only.
"""

import collections
import hashlib
import http.client
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import front
import house
from house import check

PROGRAM, REDIS = sys.argv[1:3]
KEY = "a-key"
FREE = "another-key"  # of a tenant without limits
A_MINUTE = 600
CLIENTS = 4  # of each node
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
).encode()


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a head and its body are one write

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)


class Redis:
    def __init__(self):
        self.port = house.free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        house.directories.append(self.directory)
        house.Process.all.append(self)
        self.start()

    def start(self):
        lines = ['save ""', "appendonly no", f"dir {self.directory}", f"port {self.port}", "bind 127.0.0.1", "logfile redis.log"]
        (self.directory / "redis.conf").write_text("\n".join(lines) + "\n")
        arguments = [REDIS, str(self.directory / "redis.conf")]
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, preexec_fn=house.die_with_parent)
        for _ in range(200):
            try:
                return self.command("PING")
            except OSError:
                time.sleep(0.05)
        sys.exit("Redis does not start")

    def command(self, *parts):
        import socket

        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            packed = f"*{len(parts)}\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in parts)
            connection.sendall(packed.encode())
            return connection.makefile("rb").readline().decode().strip()

    def kill(self):
        self.child.kill()
        self.child.wait()


def node(backend, redis, limits):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    admin = house.free_port()
    text = f'[admin]\nlisten = "127.0.0.1:{admin}"\n[redis]\nurl = "redis://127.0.0.1:{redis.port}"\n[limits]\nnodes_min = 2\n'
    text += f'[[tenant]]\nname = "t"\nkeys = ["sha256:{digest}"]\n{limits}\n'
    text += f'[[tenant]]\nname = "free"\nkeys = ["sha256:{hashlib.sha256(FREE.encode()).hexdigest()}"]\n'
    backends = [{"name": "b", "url": backend, "connections_min": 0}]
    one = house.Gateway(PROGRAM, backends, [{"name": "m", "backends": ["b"], "price_input": "1"}], "", cores=2, more=text)
    one.admin_port = admin
    return one


def limits_of(one):
    """By what is counted: used on this node, and left."""
    _, _, text = house.ask(one.admin_port, "GET", "/v1/limits?tenant=t")
    told = json.loads(text)
    return told["store_up"], {row["counts"]: (row["used"], row["left"]) for row in told["limits"]}


def backend():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Client:
    """One connection. The same question each time: what costs nothing counts as a request all the same."""

    def __init__(self, port, key=KEY):
        self.key = key
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})
        fields = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        self.connection.request("POST", "/v1/chat/completions", body, fields)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.headers


class Flood:
    """Ten times the limit over all nodes, until it is stopped: when requests were admitted, and how long any took."""

    def __init__(self, nodes):
        self.admitted, self.others = [], collections.Counter()
        self.slowest, self.of_slowest, self.machine = 0.0, None, 0.0
        self.lock, self.is_over = threading.Lock(), threading.Event()
        pause = 60 / (10 * A_MINUTE) * len(nodes) * CLIENTS
        self.threads = [threading.Thread(target=self.run, args=(node.port, pause)) for node in nodes for _ in range(CLIENTS)]
        self.threads += [threading.Thread(target=self.run_free, args=(node.port, pause)) for node in nodes]
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()

    def run(self, port, pause):
        client, due = Client(port), time.monotonic()
        while not self.is_over.is_set():
            sent = time.monotonic()
            status, headers = client.ask()
            now = time.monotonic()
            with self.lock:
                if now - sent > self.slowest:
                    self.slowest, self.of_slowest = now - sent, (status, f"sent at {sent - self.began:.1f} s", dict(headers))
                if status == 200:
                    self.admitted.append(now - self.began)
                elif status != 429:
                    self.others[status] += 1
            due = max(due + pause, now)
            self.is_over.wait(due - now)

    def run_free(self, port, pause):
        """Who has no limits waits for nothing but the machine."""
        client = Client(port, FREE)
        while not self.is_over.wait(pause):
            sent = time.monotonic()
            status, _ = client.ask()
            with self.lock:
                self.machine = max(self.machine, time.monotonic() - sent)
                if status != 200:
                    self.others[status] += 1

    def waited(self):
        # On its way to a home core and to Redis it may wait for the machine several times.
        return self.slowest - 3 * self.machine, self.machine, self.of_slowest

    def until(self, second):
        self.is_over.wait(max(0, self.began + second - time.monotonic()))

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        self.admitted.sort()

    def most_in_a_minute(self, since=0.0):
        # A client sees an admission a little later than it was.
        first, most = 0, 0
        times = [at for at in self.admitted if at >= since]
        for last, at in enumerate(times):
            while times[first] + 59.5 <= at:
                first += 1
            most = max(most, last - first + 1)
        return most


def a_limit_is_that_of_both_nodes():
    redis, url = Redis(), backend()
    nodes = [node(url, redis, f"requests_per_minute = {A_MINUTE}") for _ in range(2)]
    # A new store may have forgotten what was granted before: it is careful for three seconds.
    time.sleep(4)
    flood = Flood(nodes)
    flood.until(66)
    flood.end()
    first = sum(at < 62 for at in flood.admitted)
    most = flood.most_in_a_minute()
    print(f"admitted: {first} in the first 62 s, at most {most} in any minute; the limit is {A_MINUTE}")
    check("no minute sees more than the limit", most <= A_MINUTE, most)
    check("95 % of it can be used", first >= A_MINUTE * 0.95, first)
    check("nothing else was answered", not flood.others, flood.others)
    check("nobody waited long", flood.waited()[0] < 2, flood.waited())
    for one in nodes:
        one.stop()
    redis.kill()


def redis_is_killed_paused_and_emptied():
    redis, url = Redis(), backend()
    nodes = [node(url, redis, f"requests_per_minute = {A_MINUTE}") for _ in range(2)]
    time.sleep(4)
    flood = Flood(nodes)
    flood.until(8)
    redis.kill()
    flood.until(20)
    redis.start()
    flood.until(30)
    redis.command("CLIENT", "PAUSE", "4000", "ALL")
    flood.until(40)
    redis.command("FLUSHALL")
    flood.until(115)
    flood.end()
    most, later = flood.most_in_a_minute(), flood.most_in_a_minute(48.0)
    print(f"admitted: at most {most} in any minute, less than {2 * A_MINUTE} is the bound; {later} after the last fault")
    check("never twice the limit", most < 2 * A_MINUTE, most)
    check("a minute later the limit holds again", later <= A_MINUTE, later)
    check("and can be used", later >= A_MINUTE * 0.9, later)
    check("nothing else was answered", not flood.others, flood.others)
    check("nobody waited for Redis", flood.waited()[0] < 2, flood.waited())
    for one in nodes:
        one.stop()
    redis.kill()


def a_day_is_spent_once_over_nodes_and_restarts():
    redis, url = Redis(), backend()
    limits = 'requests_per_day = 10\nbudget = { amount = "1", period = "1mo" }'
    nodes = [node(url, redis, limits) for _ in range(2)]
    time.sleep(4)
    day = time.gmtime().tm_yday
    admitted = 0
    for round_ in range(12):
        admitted += sum(Client(one.port).ask()[0] == 200 for one in nodes)
    # What cores give back is on its way for a moment.
    spent = lambda: [limits_of(one)[1]["requests"] for one in nodes]
    front.until("used on both is what was admitted, and nothing is left", lambda: (
        sum(used for used, _ in spent()) == admitted and all(left == 0 for _, left in spent())) or time.gmtime().tm_yday != day)
    check("the store is up", all(limits_of(one)[0] for one in nodes))
    for one in nodes:
        one.stop()
    again = node(url, redis, limits)
    time.sleep(2)
    after = sum(Client(again.port).ask()[0] == 200 for _ in range(5))
    # What has a time to live may be evicted by a Redis that is full of answers.
    of = "redis.call('KEYS', 'ringway:1:{limits}:*')"
    mortal = redis.command("EVAL", f"local n = 0 for _, key in ipairs({of}) do if redis.call('PTTL', key) >= 0 then n = n + 1 end end return n", "0")
    check("no record of a limit has a time to live", mortal == ":0", mortal)
    redis.command("SET", "ringway:1:{limits}:over", "x")
    redis.command("ZADD", "ringway:1:{limits}:kept", "1", "ringway:1:{limits}:over")
    front.until("one whose time is over is dropped", lambda: redis.command("EXISTS", "ringway:1:{limits}:over") == ":0")
    check("and only that", redis.command("ZCARD", "ringway:1:{limits}:kept") == ":2", redis.command("ZCARD", "ringway:1:{limits}:kept"))
    check("ten requests a day", (admitted, after) == (10, 0) or time.gmtime().tm_yday != day, (admitted, after))
    again.stop()
    redis.kill()


house.run(
    [a_limit_is_that_of_both_nodes, redis_is_killed_paused_and_emptied, a_day_is_spent_once_over_nodes_and_restarts],
    sys.argv[3:],
)
house.verdict()
