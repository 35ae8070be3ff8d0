"""The configuration of nodes in etcd, Redis and Consul: what changes there is in force at once, and whatever becomes of the
store, requests are answered by the last good one.

    sources.py RINGWAY ETCD REDIS_SERVER [SCENARIO...]

etcd and Redis are real. Consul is a server in this script that behaves as its documentation says. Standard library only.
"""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import front
import house
from house import ask, check

PROGRAM, ETCD, REDIS = sys.argv[1:4]
KEY = "ringway/config"
PASSWORD = "a/password@with:signs"
SECONDS = 30


def wait(what, holds, seconds=SECONDS):
    """How long it took."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return time.monotonic() - began
        if time.monotonic() > began + seconds:
            raise RuntimeError(f"it never happens: {what}")
        time.sleep(0.01)


class Backend:
    """Answers with its own name."""

    def __init__(self, name):
        self.name = name
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        choice = {"index": 0, "message": {"role": "assistant", "content": name}, "finish_reason": "stop"}
        text = json.dumps({**body, "choices": [choice]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # a head and its body are one write

            def log_message(self, *_):
                pass

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"


class Store(house.Process):
    """What scenarios do with a store, whichever it is."""

    def run(self, *arguments):
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=house.die_with_parent)

    def stop(self):
        self.child.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.child.send_signal(signal.SIGCONT)


class Etcd(Store):
    name = "etcd"
    more = ""

    def __init__(self, secured=None):
        """`secured`: files by which a further port of it admits who has a certificate of the same authority."""
        self.port, self.peers, self.secure_port, self.secured = house.free_port(), house.free_port(), house.free_port(), secured
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-etcd-"))
        house.directories.append(self.directory)
        house.Process.all.append(self)
        self.token = None
        self.start()

    def start(self):
        url, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peers}"
        urls, files = url, []
        if self.secured:
            urls += f",https://127.0.0.1:{self.secure_port}"
            files = ["--cert-file", self.secured["cert"], "--key-file", self.secured["key"], "--client-cert-auth", "--trusted-ca-file", self.secured["ca"]]
        self.run(ETCD, "--data-dir", str(self.directory / "data"), "--listen-client-urls", urls, "--advertise-client-urls", url, *files,
                 "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}")
        wait("etcd is healthy", lambda: json.loads(ask(self.port, "GET", "/health")[2])["health"] == "true")

    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def call(self, path, **body):
        headers = {"authorization": self.token} if self.token else {}
        status, _, text = ask(self.port, "POST", f"/v3/{path}", body, headers=headers)
        assert status == 200, (status, text)
        return json.loads(text)

    def put(self, value):
        if isinstance(value, str):
            value = value.encode()
        self.call("kv/put", key=base64.b64encode(KEY.encode()).decode(), value=base64.b64encode(value).decode())

    def delete(self):
        self.call("kv/deleterange", key=base64.b64encode(KEY.encode()).decode())

    def admit_users(self):
        """From here on, only users are admitted."""
        for name, password in (("root", "root"), ("ringway", PASSWORD)):
            self.call("auth/user/add", name=name, password=password)
        self.call("auth/role/add", name="reader")
        key = base64.b64encode(KEY.encode()).decode()
        self.call("auth/role/grant", name="reader", perm={"permType": "READ", "key": key})
        self.call("auth/role/add", name="root")
        self.call("auth/user/grant", user="root", role="root")
        self.call("auth/user/grant", user="ringway", role="reader")
        self.call("auth/enable")
        self.token = self.call("auth/authenticate", name="root", password="root")["token"]


class Redis(Store):
    """With a user that may do what a node does, and no more, besides the default one."""

    name = "redis"
    more = f'user = "ringway"\npassword = {json.dumps(PASSWORD)}\n'

    def __init__(self, secured=None):
        self.port, self.secure_port, self.secured = house.free_port(), house.free_port(), secured
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        house.directories.append(self.directory)
        house.Process.all.append(self)
        self.start()

    def start(self):
        rights = "~ringway/* &ringway/* +get +subscribe +ping +select"
        lines = [f"user ringway on >{PASSWORD} {rights}", "appendonly yes", "appendfsync always", f"dir {self.directory}"]
        lines += [f"port {self.port}", "bind 127.0.0.1", "logfile redis.log"]
        if self.secured:
            lines += [f"tls-port {self.secure_port}", f"tls-cert-file {self.secured['cert']}", f"tls-key-file {self.secured['key']}"]
            lines += [f"tls-ca-cert-file {self.secured['ca']}", "tls-auth-clients yes"]
        (self.directory / "redis.conf").write_text("\n".join(lines) + "\n")
        self.run(REDIS, str(self.directory / "redis.conf"))
        wait("Redis answers", lambda: self.command("PING") == "+PONG")

    def endpoint(self):
        return f"redis://127.0.0.1:{self.port}/2"

    def command(self, *parts):
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            for command in (("SELECT", "2"), parts):
                packed = f"*{len(command)}\r\n".encode()
                for part in command:
                    part = part if isinstance(part, bytes) else part.encode()
                    packed += f"${len(part)}\r\n".encode() + part + b"\r\n"
                connection.sendall(packed)
            file = connection.makefile("rb")
            file.readline()
            return file.readline().decode().strip()

    def put(self, value):
        self.command("SET", KEY, value)
        self.command("PUBLISH", KEY, "changed")

    def delete(self):
        self.command("DEL", KEY)
        self.command("PUBLISH", KEY, "changed")


class Consul:
    """The key-value store of Consul for one key, with blocking queries as its documentation describes them: the answer has an
    index, also where there is no such key; a query with that index waits until it changes, or for `wait` and up to a
    sixteenth of that; it may return without a change; and an index may go back. It can hang, fail, and answer anything."""

    name = "consul"
    more = 'token = "a-token"\n'

    def __init__(self):
        self.port = house.free_port()
        self.value, self.modified, self.index = None, 0, 10
        self.changed = threading.Condition()
        self.mood, self.queries = "well", 0
        self.start()

    def start(self):
        consul = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *_):
                pass

            def do_GET(self):
                with contextlib.suppress(OSError):
                    consul.answer(self)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = allow_reuse_address = allow_reuse_port = True

            def handle_error(self, *_):
                pass  # of a client that left

        self.mood = "well"
        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, request):
        url = urllib.parse.urlsplit(request.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        body, fields, status = b"", {}, 200
        with self.changed:
            self.queries += 1
            if request.headers.get("x-consul-token") != "a-token":
                status = 403
            elif url.path != f"/v1/kv/{KEY}":
                status = 400
            else:
                index = int(asked.get("index", 0))
                if index and self.mood in ("well", "hangs"):
                    longest = float(asked["wait"].removesuffix("s")) * (1 + 1 / 16)
                    self.changed.wait_for(lambda: self.index != index or self.mood not in ("well", "hangs"), longest)
                if self.mood == "hangs":
                    self.changed.wait_for(lambda: self.mood != "hangs", 120)
                if self.mood == "fails":
                    status, body = 500, b"rpc error: No cluster leader"
                elif self.mood == "garbage":
                    fields, body = {"X-Consul-Index": "\xe9"}, b"{" * 100
                elif self.mood == "endless":
                    fields, body = {"X-Consul-Index": "7"}, b"[" + b" " * (3 << 20) + b"]"
                elif self.value is None:
                    status, fields = 404, {"X-Consul-Index": str(self.index)}
                else:
                    pair = {"LockIndex": 0, "Key": KEY, "Flags": 0, "Value": base64.b64encode(self.value).decode(),
                            "CreateIndex": 5, "ModifyIndex": self.modified}
                    fields, body = {"X-Consul-Index": str(self.index)}, json.dumps([pair]).encode()
        request.send_response(status)
        request.send_header("content-length", str(len(body)))
        for name, value in fields.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def put(self, value):
        with self.changed:
            self.value = value.encode() if isinstance(value, str) else value
            self.index += 1
            self.modified = self.index
            self.changed.notify_all()

    def delete(self):
        with self.changed:
            self.value = None
            self.index += 1
            self.changed.notify_all()

    def restore(self, value):
        """From a snapshot of long ago: the indices go back."""
        with self.changed:
            self.value, self.index, self.modified = value.encode(), 3, 3
            self.changed.notify_all()

    def feel(self, mood):
        with self.changed:
            self.mood = mood
            self.changed.notify_all()

    def stop(self):
        self.feel("hangs")

    def go_on(self):
        self.feel("well")

    def kill(self):
        self.feel("fails")
        self.server.shutdown()
        self.server.server_close()


class Node(house.Process):
    """A gateway whose own file leads to `store`."""

    def __init__(self, store, directory=None, more="", refresh="60s", endpoints=None, timeout="500ms", start=True):
        self.directory = directory or pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        if directory is None:
            house.directories.append(self.directory)
        self.state = self.directory / "state"
        self.state.mkdir(exist_ok=True)
        self.port, self.admin = house.free_port(), house.free_port()
        endpoints = endpoints or [store.endpoint()]
        text = f"""[server]
listen = ["127.0.0.1:{self.port}"]
state_dir = {json.dumps(str(self.state))}
[admin]
listen = "127.0.0.1:{self.admin}"
[cores]
data = 1
[config]
source = "{store.name}"
endpoints = {json.dumps(endpoints)}
refresh = "{refresh}"
timeout = "{timeout}"
{store.more}{more}"""
        self.file, self.said = self.directory / "node.toml", self.directory / f"said-{self.port}"
        self.file.write_text(text)
        arguments = [PROGRAM, "serve", "--config", str(self.file)]
        options = {"stderr": open(self.said, "w"), "env": {**os.environ, "RUST_BACKTRACE": "1"}}
        if start:
            super().__init__(arguments, self.port, "/healthz", **options)

    def words(self):
        return self.said.read_text()

    def asks(self):
        """Who answers."""
        body = {"model": "m", "messages": [{"role": "user", "content": "who?"}]}
        status, _, text = ask(self.port, "POST", "/v1/chat/completions", body)
        return json.loads(text)["choices"][0]["message"]["content"] if status == 200 else f"{status} {text}"

    def source(self):
        return json.loads(ask(self.admin, "GET", "/v1/status")[2])["config_source"]

    def metric(self, name):
        text = ask(self.admin, "GET", "/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def reload(self):
        status, _, text = ask(self.admin, "POST", "/v1/reload")
        return status, json.loads(text)

    def watches(self):
        wait("the store is watched", lambda: self.source()["watched"])
        wait("a copy is kept", lambda: (self.state / "config.kept.toml").exists())

    def ends(self):
        self.child.terminate()
        code = self.child.wait(house.END_SECONDS)
        check("the gateway ends well and nothing in it panicked", code == 0 and "panicked" not in self.words(), self.words()[-2000:])


def document(backend, more=""):
    return f"""[cache]
enabled = false
memory = "64MiB"
[[backend]]
name = "b"
url = "{backend.url}"
connections_min = 0
health_interval = "0s"
[[model]]
name = "m"
backends = ["b"]
{more}"""


class Load:
    """Clients that ask without end; every answer has to be one of a backend."""

    def __init__(self, node):
        self.node, self.over, self.faults, self.answers = node, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(3)]

    def client(self):
        while not self.over.is_set():
            try:
                said = self.node.asks()
            except OSError as error:
                said = repr(error)
            self.answers += 1
            if not said.startswith("backend "):
                self.faults.append(said)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        check(f"all of {self.answers} requests were answered meanwhile", self.answers > 0 and not self.faults, self.faults[:3])


one, two = Backend("backend one"), Backend("backend two")


def a_change_is_in_force_at_once(store):
    store.put(document(one))
    node = Node(store)
    check("it serves by what the store has", node.asks() == "backend one")
    node.watches()
    with Load(node):
        times = []
        for backend in (two, one) * 5:
            store.put(document(backend))
            times.append(wait("the change is in force", lambda: node.asks() == backend.name))
    print(f"  {store.name}: in force after {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms")
    source = node.source()
    check("the source is shown", (source["kind"], source["place"], source["kept_copy"]) == (store.name, KEY, False), source)
    check("so is its revision", bool(source["revision"]) and source["last_error"] is None, source)
    check("the store is up", node.metric(f'ringway_config_source_up{{source="{store.name}"}}') == 1)
    copy = node.state / "config.kept.toml"
    wait("the copy is the last one", lambda: one.url in copy.read_text())
    check("nobody else may read the copy", stat.S_IMODE(copy.stat().st_mode) & 0o137 == 0, oct(copy.stat().st_mode))
    status, outcome = node.reload()
    check("a reload finds nothing new", (status, outcome["result"]) == (200, "unchanged"), outcome)
    node.ends()


def what_is_no_configuration_changes_nothing(store):
    store.put(document(one))
    node = Node(store, timeout="5s")
    node.watches()
    generation = node.metric("ringway_config_generation")
    garbage = {
        "not TOML": ("[[backend", f"{store.name}:{KEY}:1:"),
        "not text": (b"\xff\xfe\x00", "is not UTF-8"),
        "nothing": ("", "there is no [[backend]]"),
        "too long": ("#" * ((1 << 20) + 1), "over 1048576 bytes"),
        "with an error": (document(one) + 'fallback = ["nobody"]\n', f"{store.name}:{KEY}:12:"),
        "that leads elsewhere": (document(one) + '[config]\nsource = "file"\n', "each node's own file"),
    }
    with Load(node):
        for what, (value, why) in garbage.items():
            if what == "too long" and store.name == "etcd":
                value = value[: (1 << 20) + 1]
            store.put(value)
            wait(f"a value that is {what} is told", lambda: why in (node.source()["last_error"] or ""))
            status, outcome = node.reload()
            check(f"a reload refuses a value that is {what}", status == 422 and why in outcome["errors"][0], outcome)
        store.delete()
        wait("a key that is gone is told", lambda: "there is no key" in (node.source()["last_error"] or ""))
        check("it is a refusal", node.reload()[1]["result"] == "refused")
    check("nothing has changed", node.metric("ringway_config_generation") == generation and node.asks() == "backend one")
    check("it is counted", node.metric("ringway_config_source_errors_total") >= len(garbage))
    check("the last reload is shown as refused", node.metric("ringway_config_last_reload_success") == 0)
    check("the copy is the last good one", one.url in (node.state / "config.kept.toml").read_text())
    store.put(document(two))
    wait("a good one is in force", lambda: node.asks() == "backend two")
    wait("the error is gone", lambda: node.source()["last_error"] is None and node.metric("ringway_config_last_reload_success") == 1)
    check("why is in the log", "(refused, the store changed)" in node.words(), node.words()[-2000:])
    node.ends()


def a_store_that_dies_hangs_or_flaps_is_not_noticed(store):
    store.put(document(one))
    node = Node(store, refresh="1s")
    node.watches()
    up = f'ringway_config_source_up{{source="{store.name}"}}'
    with Load(node):
        store.kill()
        wait("that it is gone is told", lambda: node.metric(up) == 0 and not node.source()["watched"])
        status, outcome = node.reload()
        check("a reload cannot read it", (status, outcome["result"]) == (503, "unavailable"), outcome)
        store.start()
        store.put(document(two))
        print(f"  {store.name}: back, in force after {wait('what it has now is in force', lambda: node.asks() == two.name):.2f} s")
        wait("it is watched again", lambda: node.source()["watched"])
        store.stop()
        wait("that it hangs is told", lambda: node.metric(up) == 0 and not node.source()["watched"], 60)
        began = time.monotonic()
        status, outcome = node.reload()
        check("a reload does not wait for it", status == 503 and time.monotonic() - began < 10, outcome)
        store.go_on()
        store.put(document(one))
        print(f"  {store.name}: goes on, in force after {wait('what it has then is in force', lambda: node.asks() == one.name):.2f} s")
        for backend in (two, one, two):
            store.kill()
            store.start()
            store.put(document(backend))
        wait("the last one is in force", lambda: node.asks() == "backend two" and node.source()["last_error"] is None)
    node.ends()


def a_node_starts_without_its_store(store):
    store.put(document(one))
    node = Node(store)
    node.watches()
    node.ends()
    store.kill()
    node = Node(store, directory=node.directory)
    source = node.source()
    check("it serves by the copy", node.asks() == "backend one" and source["kept_copy"], source)
    check("the reason is shown", "cannot be read" in source["last_error"] and "refused" in source["last_error"], source)
    check("and told", "this node starts with what it had kept of it" in node.words(), node.words())
    check("and counted", node.metric("ringway_config_kept_copy") == 1)
    with Load(node):
        store.start()
        store.put(document(two))
        wait("what the store has is in force", lambda: node.asks() == "backend two")
        wait("it is no copy any more", lambda: not node.source()["kept_copy"])
    node.ends()
    # The store is there, and has nothing that is one.
    store.put("[[backend")
    node = Node(store, directory=node.directory)
    check("it starts with the copy beside garbage", node.asks() == "backend two" and node.source()["kept_copy"])
    node.ends()
    # So it is with one that this machine does not support.
    store.put(document(one) + '[server]\nrequest_memory = "60TiB"\n')
    node = Node(store, directory=node.directory)
    check("it starts with the copy beside what does not fit", node.asks() == "backend two" and "60TiB" in node.words(), node.words())
    node.ends()
    store.put("[[backend")
    (node.state / "config.kept.toml").write_text("torn")
    refused = starts_not(store, node.directory)
    check("a copy that is torn is refused", "it is no kept configuration" in refused or "nor can" in refused or "TOML" in refused, refused)
    if store.name != "etcd":
        return  # the rest takes long, and is the same for all
    store.kill()
    refused = starts_not(store, node.directory)
    check("so it is without the store", "the store cannot be read" in refused and "nor can the kept copy be used" in refused, refused)
    (node.state / "config.kept.toml").unlink()
    refused = starts_not(store, node.directory)
    check("without a copy it does not start", "there is no copy of an earlier one" in refused, refused)
    store.start()


def starts_not(store, directory, **more):
    """What a node says that does not start."""
    node = Node(store, directory=directory, start=False, **more)
    done = subprocess.run([PROGRAM, "serve", "--config", str(node.file)], capture_output=True, text=True, timeout=60)
    check("it ends with a failure", done.returncode == 1, done.returncode)
    return done.stderr


def check_looks_into_the_store(store):
    store.put(document(one))
    node = Node(store, start=False)

    def checked():
        done = subprocess.run([PROGRAM, "check", str(node.file)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    code, said = checked()
    check("both are good", code == 0 and f"{store.name}:{KEY}, revision" in said and "1 model over 1 backend" in said, said)
    store.put(document(one).replace("backends = ", "backend = "))
    code, said = checked()
    check("an error has its place in the store", code == 1 and f"{store.name}:{KEY}:11:1: model.backend" in said, said)
    store.put(document(one))
    node.file.write_text(node.file.read_text() + '[[model]]\nname = "own"\nbackends = ["b"]\n')
    code, said = checked()
    check("models stand in the store", code == 1 and "stands in the store" in said and str(node.file) in said, said)


def what_a_node_says_itself_wins(store):
    store.put(document(one) + '[server]\nlisten = ["127.0.0.1:1"]\ntimeout_drain = "7s"\n[log]\nlevel = "error"\n')
    node = Node(store, more='[log]\nformat = "json"\n')
    config = json.loads(ask(node.admin, "GET", "/v1/config")[2])
    check("its listeners are its own", config["server"]["listen"] == [f"127.0.0.1:{node.port}"], config["server"])
    check("what it does not say comes from the store", config["server"]["timeout_drain"] == "7s")
    check("key by key", (config["log"]["level"], config["log"]["format"]) == ("error", "json"), config["log"])
    check("secrets are masked", PASSWORD not in json.dumps(config) and "a-token" not in json.dumps(config))
    # Another store, at a reload.
    other = type(store)()
    other.put(document(two))
    node.file.write_text(node.file.read_text().replace(store.endpoint(), other.endpoint()))
    status, outcome = node.reload()
    check("another store is read", (status, outcome["result"]) == (200, "in_force") and node.asks() == "backend two", outcome)
    wait("and watched", lambda: node.source()["watched"] and node.source()["endpoints"] == [other.endpoint()])
    other.put(document(one))
    wait("its changes are in force", lambda: node.asks() == "backend one")
    # A file again.
    whole = document(two) + f'[server]\nlisten = ["127.0.0.1:{node.port}"]\n[admin]\nlisten = "127.0.0.1:{node.admin}"\n'
    node.file.write_text(whole)
    status, outcome = node.reload()
    check("a file is read", status == 200 and node.asks() == "backend two" and node.source()["kind"] == "file", outcome)
    other.kill()
    node.ends()


def without_a_watch_it_is_read_when_asked_and_now_and_then(store):
    store.put(document(one))
    node = Node(store, more="watch = false\n", refresh="0s")
    # It looks once more when it serves.
    wait("a copy is kept", lambda: (node.state / "config.kept.toml").exists())
    store.put(document(two))
    check("nobody has looked", node.asks() == "backend one" and not node.source()["watched"])
    status, outcome = node.reload()
    check("asked, it looks", (status, outcome["changes"]) == (200, ['backend "b" changed: url']) and node.asks() == two.name, outcome)
    node.file.write_text(node.file.read_text().replace('refresh = "0s"', 'refresh = "1s"'))
    check("what its own file says is read, too", node.reload()[1]["changes"] == ["config changed: refresh"])
    store.put(document(one))
    wait("it looks now and then", lambda: node.asks() == "backend one")
    node.ends()


def the_next_server_is_asked(store):
    nobody = store.endpoint().replace(str(store.port), str(house.free_port()))
    store.put(document(one))
    node = Node(store, endpoints=[nobody, store.endpoint()])
    check("it starts", node.asks() == "backend one")
    wait("it is watched", lambda: node.source()["watched"])
    store.put(document(two))
    wait("changes are in force", lambda: node.asks() == "backend two")
    node.ends()


def etcd_knows_users():
    etcd = Etcd()
    etcd.put(document(one))
    etcd.admit_users()
    etcd.more = f'user = "ringway"\npassword = {json.dumps(PASSWORD)}\n'
    # etcd takes its time for a password: that is how they are hashed.
    node = Node(etcd, refresh="1s", timeout="10s")
    node.watches()
    etcd.put(document(two))
    wait("the change is in force", lambda: node.asks() == "backend two")
    # Its tokens are forgotten with it.
    etcd.kill()
    etcd.token = None
    etcd.start()
    etcd.token = etcd.call("auth/authenticate", name="root", password="root")["token"]
    etcd.put(document(one))
    wait("it is admitted again", lambda: node.asks() == "backend one" and node.source()["watched"])
    node.ends()
    etcd.more = 'user = "ringway"\npassword = "wrong"\n'
    refused = starts_not(etcd, None, timeout="10s")
    check("a wrong password is told", "it refuses" in refused and "authentication failed" in refused, refused)
    etcd.kill()


def etcd_compacts_its_past():
    etcd = Etcd()
    etcd.put(document(one))
    node = Node(etcd)
    node.watches()
    etcd.stop()
    etcd.go_on()
    for backend in (two, one, two):
        etcd.put(document(backend))
    revision = etcd.call("kv/range", key=base64.b64encode(KEY.encode()).decode())["header"]["revision"]
    etcd.call("kv/compaction", revision=revision, physical=True)
    wait("the last one is in force", lambda: node.asks() == "backend two")
    etcd.put(document(one))
    wait("so is the next", lambda: node.asks() == "backend one")
    node.ends()
    etcd.kill()


def consul_answers_anything():
    consul = Consul()
    consul.put(document(one))
    node = Node(consul, refresh="1s")
    node.watches()
    with Load(node):
        for mood, why in (("garbage", "it answers something else"), ("endless", "over 2097152 bytes"), ("fails", "it answers 500")):
            consul.feel(mood)
            wait(f"that it {mood} is told", lambda: why in (node.source()["last_error"] or ""))
        consul.go_on()
        wait("it is watched again", lambda: node.source()["watched"])
        consul.put(document(two))
        wait("the change is in force", lambda: node.asks() == "backend two")
        consul.restore(document(one))
        wait("an index that goes back is followed", lambda: node.asks() == "backend one")
        consul.put(document(two))
        wait("and what comes after it", lambda: node.asks() == "backend two")
        with consul.changed:
            before = consul.queries
        wait("queries block", lambda: node.reload()[0] == 200)
        time.sleep(1)
        with consul.changed:
            check("it is not asked without end", consul.queries - before < 20, consul.queries - before)
    consul.more = 'token = "another"\n'
    refused = starts_not(consul, None)
    check("a wrong token is told", "the token may not read the key" in refused, refused)
    node.ends()


def who_has_a_certificate_is_admitted():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-tls-"))
    house.directories.append(directory)
    certificates = front.Certificates(directory)
    certificates.sign("server", "localhost")
    certificates.sign("node", "node")
    files = {"cert": str(directory / "server.pem"), "key": str(directory / "server.key"), "ca": str(directory / "ca.pem")}
    own = f'tls_cert = "{directory}/node.pem"\ntls_key = "{directory}/node.key"\n'
    for kind, scheme, path in ((Etcd, "https", ""), (Redis, "rediss", "/2")):
        store = kind(secured=files)
        store.put(document(one))
        endpoints = [f"{scheme}://localhost:{store.secure_port}{path}"]
        trusted = f'tls_ca = "{directory}/ca.pem"\n'
        node = Node(store, endpoints=endpoints, more=trusted + own)
        node.watches()
        store.put(document(two))
        wait("a change is in force over TLS", lambda: node.asks() == "backend two")
        node.ends()
        refused = starts_not(store, None, endpoints=endpoints, more=trusted)
        check("without a certificate it is not admitted", "cannot be read" in refused, refused)
        refused = starts_not(store, None, endpoints=endpoints, more=f'tls_ca = "{directory}/stranger.pem"\n' + own)
        check("a server that is not trusted is not asked", "no secure connection" in refused, refused)
        store.kill()


def redis_announces_keys():
    redis = Redis()
    redis.command("CONFIG", "SET", "notify-keyspace-events", "K$g")
    redis.more = ""
    redis.put(document(one))
    node = Node(redis)
    node.watches()
    redis.command("SET", KEY, document(two))
    print(f"  in force after {wait('a change that nobody published is in force', lambda: node.asks() == two.name) * 1000:.0f} ms")
    node.ends()
    redis.kill()


ALIKE = [
    a_change_is_in_force_at_once,
    what_is_no_configuration_changes_nothing,
    a_store_that_dies_hangs_or_flaps_is_not_noticed,
    a_node_starts_without_its_store,
    check_looks_into_the_store,
    what_a_node_says_itself_wins,
    without_a_watch_it_is_read_when_asked_and_now_and_then,
    the_next_server_is_asked,
]


def with_each(scenario):
    """One scenario for each kind of store."""

    def of(kind):
        def run():
            store = kind()
            scenario(store)
            store.kill()

        run.__name__ = f"{kind.name}_{scenario.__name__}"
        return run

    return [of(kind) for kind in (Etcd, Redis, Consul)]


house.run(
    [run for scenario in ALIKE for run in with_each(scenario)]
    + [etcd_knows_users, etcd_compacts_its_past, consul_answers_anything, who_has_a_certificate_is_admitted, redis_announces_keys],
    sys.argv[4:],
)
house.verdict()
