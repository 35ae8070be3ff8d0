"""nginx with HTTP/2 and TLS as the backend: many streams on few connections, event by event; sessions resumed; GOAWAY
under load; certificates that do not fit. Takes the two programs; nginx and openssl have to be installed.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import subprocess
import sys
import threading
import time

import openai

import front
import house
from front import until
from house import check

PROGRAM, LLMOCK = sys.argv[1:3]
CORES = 2


class Asker:
    """OpenAI's SDK, without retries of its own."""

    def __init__(self, port):
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0, timeout=30)
        self.numbers = itertools.count(1)

    def open(self, model, text):
        messages = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model=model, messages=messages, stream=True)

    def streamed(self, model):
        """True for a stream of its own that came whole; what was wrong otherwise."""
        text, finished = "", False
        try:
            for event in self.open(model, f"question {next(self.numbers)}"):
                for choice in event.choices:
                    text += choice.delta.content or ""
                    finished = finished or bool(choice.finish_reason)
        except openai.APIStatusError as error:
            return f"{error.status_code} {error.code}"
        except Exception as error:
            return repr(error)
        return bool(finished and text) or "cut"

    def whole(self, model, text):
        try:
            answer = self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
            return answer.choices[0].finish_reason == "stop" and bool(answer.choices[0].message.content)
        except openai.APIError as error:
            return repr(error)

    def many(self, model, count, workers):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return collections.Counter(pool.map(lambda _: self.streamed(model), range(count)))


class Load:
    """Callers that ask without a pause until they are stopped."""

    def __init__(self, ask, callers):
        self.outcomes, self.lock, self.on = collections.Counter(), threading.Lock(), True
        self.threads = [threading.Thread(target=self.call, args=(ask,)) for _ in range(callers)]
        for thread in self.threads:
            thread.start()

    def call(self, ask):
        while self.on:
            outcome = ask()
            with self.lock:
                self.outcomes[outcome] += 1

    def more(self, count):
        goal = self.outcomes.total() + count
        until(f"{count} more answers", lambda: self.outcomes.total() >= goal)

    def stop(self):
        self.on = False
        for thread in self.threads:
            thread.join()
        return self.outcomes


def servers(directory, mock, steps):
    def to(port):
        options = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; proxy_read_timeout 300s;"
        return f"location / {{ proxy_pass http://127.0.0.1:{port}; {options} }}"

    def tls(name="server"):
        files = f"ssl_certificate {directory}/{name}.pem; ssl_certificate_key {directory}/{name}.key;"
        return f"{files} ssl_session_cache shared:x:1m;"

    verified = f"ssl_client_certificate {directory}/ca.pem; ssl_verify_client on;"
    return {
        "h2": ("ssl", True, f"{tls()} {to(mock)}"),
        "h1": ("ssl", False, f"{tls()} {to(mock)}"),
        "old": ("ssl", True, f"{tls()} ssl_protocols TLSv1.2; {to(mock)}"),
        "plain": ("", True, to(mock)),
        "steps": ("ssl", True, f"{tls()} {to(steps)}"),
        "narrow": ("ssl", True, f"{tls()} http2_max_concurrent_streams 8; {to(steps)}"),
        "brief": ("ssl", True, f"{tls()} keepalive_requests 10; {to(mock)}"),
        "mutual": ("ssl", True, f"{tls()} {verified} {to(mock)}"),
        "expired": ("ssl", True, f"{tls('expired')} {to(mock)}"),
    }


def backends(directory, nginx):
    plain = {"health_interval": "0s", "timeout_stream_idle": "300s", "connections_min": 0, "eject_errors": 1000, "eject_error_percent": 0}
    secure = {**plain, "tls_server_name": "llm.test", "tls_ca": f"{directory}/ca.pem"}
    client = {"tls_cert": f"{directory}/client.pem", "tls_key": f"{directory}/client.key"}
    rows = {name: (name, secure) for name in ("h2", "h1", "old", "steps", "narrow", "brief", "expired")}
    rows |= {
        "plain": ("plain", {**plain, "protocol": "http2"}),
        "forced": ("h2", {**secure, "protocol": "http1"}),
        "idle": ("h2", {**secure, "timeout_idle": "200ms", "http2_connections_min": 0}),
        "mutual": ("mutual", {**secure, **client}),
        "unproven": ("mutual", secure),
        "stranger": ("h2", {**secure, "tls_ca": f"{directory}/stranger.pem"}),
        "misnamed": ("h2", {**secure, "tls_server_name": "other.test"}),
        "unknown": ("h2", {key: value for key, value in secure.items() if key != "tls_ca"}),
    }
    return [{"name": name, "url": nginx.url(server, "http" if server == "plain" else "https"), **keys}
            for name, (server, keys) in rows.items()]


def few_connections(nginx, asker):
    for model in ("h2", "plain"):
        outcomes = asker.many(model, 200, 100)
        check(f"{model}: 200 streams, 100 at a time, come whole", outcomes == {True: 200}, outcomes)
        rows = nginx.lines(model)
        connections = {row.connection for row in rows}
        check(f"{model}: all by HTTP/2", len(rows) == 200 and {row.protocol for row in rows} == {"HTTP/2.0"}, rows[:2])
        check(f"{model}: on few connections", len(connections) <= 4 * CORES, len(connections))
        print(f"   {len(connections)} connections")
        check(f"{model}: whole answers, and a long question", asker.whole(model, "x" * 600_000) is True)
    for model, server, protocol, version in (
        ("h1", "h1", "HTTP/1.1", "TLSv1.3"),
        ("forced", "h2", "HTTP/1.1", "TLSv1.3"),
        ("old", "old", "HTTP/2.0", "TLSv1.2"),
    ):
        before = len(nginx.lines(server))
        outcomes = asker.many(model, 40, 20)
        check(f"{model}: streams come whole", outcomes == {True: 40}, outcomes)
        rows = nginx.lines(server)[before:]
        spoken = {row[1:3] for row in rows}
        check(f"{model}: all by {protocol} over {version}", spoken == {(protocol, version)}, spoken)
        check(f"{model}: connections are used again", len({row.connection for row in rows}) < 40, len(rows))


def step_by_step(nginx, asker, steps):
    """Nothing goes on at the backend before the client has seen what came before, with all streams open at once."""
    for model, count, limit in (("steps", 100, 4 * CORES), ("narrow", 24, 24 // 8 + CORES)):
        steps.most = 0
        names = [f"{model} {place}" for place in range(count)]
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            streams = list(pool.map(lambda name: Words(asker, model, name), names))
            firsts = list(pool.map(lambda stream: stream.next(), streams))
            together = firsts == ["one "] * count and steps.most == count
            check(f"{model}: {count} streams run at once", together, (steps.most, firsts))
            for step, word in enumerate(steps.words[1:], 1):
                for name in names:
                    steps.go(name)
                got = collections.Counter(pool.map(lambda stream: stream.next(), streams))
                check(f"{model}: word {step + 1} comes when it is said", got == {word: count}, got)
            ends = collections.Counter(pool.map(lambda stream: stream.next(), streams))
            check(f"{model}: and the end", ends == {"stop": count}, ends)
        until(f"{model}: nginx has logged them", lambda: len(nginx.lines(model)) == count)
        connections = {row.connection for row in nginx.lines(model)}
        check(f"{model}: on few connections", len(connections) <= limit, len(connections))
        print(f"   {len(connections)} connections")

    # One who leaves takes nobody along.
    stays, leaves = Words(asker, "steps", "stays"), Words(asker, "steps", "leaves")
    check("two more streams", (stays.next(), leaves.next()) == ("one ", "one "))
    before = len(nginx.lines("steps"))
    leaves.close()
    # It logs a stream when it is over, and neither was told to go on.
    until("nginx learns that one client has left", lambda: len(nginx.lines("steps")) == before + 1)
    steps.go("stays", 3)
    check("the other one goes on", [stays.next() for _ in range(4)] == [*steps.words[1:], "stop"])


class Words:
    """The words of a stream, one at a time, and its finish reason behind them."""

    def __init__(self, asker, model, name):
        self.response = asker.open(model, name)
        self.events = iter(self.response)

    def next(self):
        try:
            for event in self.events:
                for choice in event.choices:
                    if choice.delta.content or choice.finish_reason:
                        return choice.delta.content or choice.finish_reason
            return "cut"
        except Exception as error:
            return repr(error)

    def close(self):
        self.response.close()


def resumption(nginx, asker):
    """`asker` asks a gateway of one data core: a core takes up sessions of its own only, and which core gets a client's
    connection is chance.
    """
    for model, server in (("idle", "h2"), ("h1", "h1"), ("old", "old")):
        offset = clock_offset()
        first = len(nginx.lines(server))
        asker.many(model, 20, 20)
        # Ours go when they are idle, the others when nginx finds them idle.
        until("idle connections are closed", lambda: nginx.connections() == 0)
        before = len(nginx.lines(server))
        outcomes = asker.many(model, 8, 4)
        rows = nginx.lines(server)[before:]
        resumed = outcomes == {True: 8} and {row.reused for row in rows} == {"r"}
        earlier = [(row.connection, row.reused) for row in nginx.lines(server)[first:before]]
        # A clock that is set while this runs ends sessions early.
        check(f"{model}: sessions are resumed", resumed, (outcomes, rows, earlier, clock_offset() - offset))


def clock_offset():
    """Seconds between the clock of the day and one that nobody sets."""
    return time.time() - time.monotonic()


def goaway(nginx, asker, steps):
    running = [Words(asker, "steps", "over a reload") for _ in range(50)]
    check("50 streams run", {stream.next() for stream in running} == {"one "})
    for model, callers in (("h2", 50), ("h1", 20)):
        load = Load(lambda: asker.streamed(model), callers)
        load.more(50)
        for _ in range(8):
            nginx.reload()
            load.more(50)
        outcomes = load.stop()
        check(f"{model}: 8 reloads under load cost nobody an answer", set(outcomes) == {True}, outcomes)
        workers = {row.pid for row in nginx.lines(model)}
        check(f"{model}: every worker was asked", len(workers) >= 9, len(workers))
        print(f"   {outcomes[True]} streams")
    steps.go("over a reload", 3)
    ends = collections.Counter(" ".join(stream.next() for _ in range(4)) for stream in running)
    check("streams that ran before the first reload come whole", ends == {"two  three  four stop": 50}, ends)

    outcomes = asker.many("brief", 300, 50)
    check("a connection that ends every ten requests costs nobody an answer", outcomes == {True: 300}, outcomes)
    check("and it did", len({row.connection for row in nginx.lines("brief")}) >= 30)


def certificates(nginx, asker, gateway):
    check("a client certificate is shown where it is asked for", asker.streamed("mutual") is True)
    # nginx shakes hands without one and then says what it thinks of it.
    outcome = asker.streamed("unproven")
    statuses = [row.status for row in nginx.lines("mutual")]
    check("unproven: nginx refuses", str(outcome).startswith("400") and statuses == ["200", "400"], (outcome, statuses))
    before = len(nginx.lines("h2"))
    for model, words in (
        ("stranger", "is not signed by a trusted authority"),
        ("unknown", "is not signed by a trusted authority"),
        ("misnamed", "not for `other.test` but for llm.test"),
        ("expired", "expired "),
    ):
        outcome = asker.streamed(model)
        check(f"{model}: no request goes out", outcome == "502 backend_insecure", outcome)
        said = lambda: any(f"backend {model}: " in line and words in line for line in gateway.words().splitlines())
        until(f"{model}: the log says which", said)
    check("nginx got none", len(nginx.lines("h2")) == before and not nginx.lines("expired"))
    print("   " + "\n   ".join(line for line in gateway.words().splitlines() if "secure" in line))


def main():
    with front.directory() as directory, contextlib.ExitStack() as at_end:
        made = front.Certificates(directory)
        made.sign("server", "llm.test")
        made.sign("client", "gateway.test")
        made.sign("expired", "llm.test", end="20210101000000Z")
        at_end.callback(house.kill_all)
        port = house.free_port()
        provider = [LLMOCK, "serve", "--port", str(port), "--log-level", "error", "--stream-chunk-delay-ms", "20",
                    "--response-style", "varied"]
        house.Process(provider, port, "/health", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        steps = front.Steps()
        options = ("ssl_protocols TLSv1.2 TLSv1.3; keepalive_timeout 1s; http2_max_concurrent_streams 128; "
                   "client_max_body_size 10m;")
        nginx = front.Nginx(directory, servers(directory, port, steps.port), options)
        at_end.callback(nginx.stop)
        rows = backends(directory, nginx)
        models = [{"name": row["name"], "backends": [row["name"]], "max_concurrent_requests": 1000} for row in rows]
        gateway = house.Gateway(PROGRAM, rows, models, cores=CORES)
        alone = house.Gateway(PROGRAM, rows, models, cores=1)
        asker = Asker(gateway.port)
        few_connections(nginx, asker)
        step_by_step(nginx, asker, steps)
        resumption(nginx, Asker(alone.port))
        goaway(nginx, asker, steps)
        certificates(nginx, asker, gateway)
        gateway.stop()
        alone.stop()
    house.verdict()


main()
