"""Many nodes as deploy/ has them: HAProxy (and Envoy) in front of two, their configuration in etcd over TLS, their answers shared
through Redis, Prometheus beside them. All with the shipped files, but for addresses, paths and passwords.

    many.py RINGWAY [ENVOY]

Standard library only.
"""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import front
import house
from house import ask, check, free_port

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
ENVOY = sys.argv[2] if len(sys.argv) > 2 and pathlib.Path(sys.argv[2]).exists() else None
PASSWORD, ADMIN_TOKEN, KEY = "a-password", "an-admin-token", "sk-a-key-of-the-tenant"
SECRETS = {"ETCD_PASSWORD": PASSWORD, "REDIS_PASSWORD": PASSWORD, "RINGWAY_ADMIN_TOKEN": ADMIN_TOKEN, "VLLM_KEY": "vllm"}
NODES = ("10.0.0.11", "10.0.0.12")
CLIENTS = 4
A_DAY = 30  # requests; more than any node's share
LIMITS_SHARED = 'ringway_limits_store_up{store="redis"}'

directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-many-"))
directory.chmod(0o755)
house.directories.append(directory)
certificates = front.Certificates(directory)
certificates.sign("etcd", "localhost")
ports = {name: [free_port(), free_port()] for name in NODES}  # clients, admin


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def replaced(text, pairs):
    for old, new in pairs:
        if old not in text:
            raise RuntimeError(f"{old!r} is not in the file any more")
        text = text.replace(old, new)
    return text


def adapted(path, pairs, name=None):
    """A file of deploy/ in the directory of this test."""
    file = directory / (name or pathlib.Path(path).name)
    file.write_text(replaced((DEPLOY / path).read_text(), pairs))
    return file


def said(name):
    out = open(directory / f"{name}.said", "w")
    return {"stdout": out, "stderr": out}


class Backend:
    """Answers with its name and the number of the call."""

    def __init__(self, name):
        self.calls, lock, backend = 0, threading.Lock(), self

        class Handler(house.Handler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    backend.calls += 1
                    text = f"{name} {backend.calls}"
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
                self.reply({"id": "x", "object": "chat.completion", "created": 1, "model": "qwen", "choices": [choice], "usage": usage})

        self.port = house.served(Handler)


class Etcd(house.Process):
    """One member, with the shipped file and the users that its head asks for."""

    def __init__(self):
        self.client, peer = free_port(), free_port()
        file = adapted("etcd/etcd.conf.yml", [
            ("etcd1=https://10.0.0.31:2380,etcd2=https://10.0.0.32:2380,etcd3=https://10.0.0.33:2380", f"etcd1=https://127.0.0.1:{peer}"),
            ("https://10.0.0.31:2379", f"https://127.0.0.1:{self.client}"), ("https://10.0.0.31:2380", f"https://127.0.0.1:{peer}"),
            ("/var/lib/etcd", f"{directory}/etcd"), ("/etc/etcd/etcd.pem", f"{directory}/etcd.pem"),
            ("/etc/etcd/etcd.key", f"{directory}/etcd.key"), ("/etc/etcd/ca.pem", f"{directory}/ca.pem")])
        house.Process.all.append(self)
        self.child = subprocess.Popen(["etcd", "--config-file", file], preexec_fn=house.die_with_parent, **said("etcd"))
        self.trust = ssl.create_default_context(cafile=directory / "ca.pem")
        self.token = None
        front.until("etcd is healthy", self.is_healthy)
        for path, body in (
            ("auth/user/add", {"name": "root", "password": "root"}),
            ("auth/role/add", {"name": "root"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/role/add", {"name": "ringway"}),
            ("auth/role/grant", {"name": "ringway", "perm": {"permType": "READ", "key": self.coded("ringway/config")}}),
            ("auth/user/add", {"name": "ringway", "password": PASSWORD}),
            ("auth/user/grant", {"user": "ringway", "role": "ringway"}),
            ("auth/enable", {}),
        ):
            self.call(path, body)
        self.token = self.call("auth/authenticate", {"name": "root", "password": "root"})["token"]

    def coded(self, text):
        return base64.b64encode(text.encode()).decode()

    def request(self, method, path, body=None):
        connection = http.client.HTTPSConnection("localhost", self.client, timeout=10, context=self.trust)
        connection.request(method, path, body and json.dumps(body), {"authorization": self.token} if self.token else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def is_healthy(self):
        try:
            return "true" in self.request("GET", "/health")[1]
        except OSError:
            return False

    def call(self, path, body):
        status, text = self.request("POST", f"/v3/{path}", body or {"": ""})
        assert status == 200, (path, status, text)
        return json.loads(text)

    def put(self, text):
        self.call("kv/put", {"key": self.coded("ringway/config"), "value": self.coded(text)})


class Redis(house.Process):
    def __init__(self):
        self.port = free_port()
        self.acl = acl = adapted("redis/users.acl", [("0" * 64, sha256(PASSWORD))])
        file = adapted("redis/redis.conf", [("bind 10.0.0.41", "bind 127.0.0.1"), ("port 6379", f"port {self.port}"),
                                            ("/etc/redis/users.acl", str(acl)), ("8gb", "64mb"), ("/var/lib/redis", str(directory))])
        self.file = file
        house.Process.all.append(self)
        self.start()

    def start(self):
        self.child = subprocess.Popen(["redis-server", self.file], cwd=directory, preexec_fn=house.die_with_parent, **said("redis"))

    def allow(self, rights):
        """Starts again; Ringway's user has these rights."""
        self.kill()
        self.acl.write_text(rights)
        self.start()


class Node(house.Process):
    def __init__(self, name, etcd):
        client, self.admin = ports[name]
        own = directory / name
        (own / "state").mkdir(parents=True, exist_ok=True)
        self.file = adapted("ringway/node.toml", [
            ('"https://10.0.0.31:2379", "https://10.0.0.32:2379", "https://10.0.0.33:2379"', f'"https://localhost:{etcd.client}"'),
            ("/etc/ringway/etcd-ca.pem", f"{directory}/ca.pem"), ("10.0.0.11:8080", f"127.0.0.1:{client}"), ('"10.0.0.21"', '"127.0.0.1"'),
            ("10.0.0.11:9901", f"127.0.0.1:{self.admin}"), ("/var/lib/ringway", str(own / "state"))], f"{name}.toml")
        self.file.write_text(self.file.read_text() + "[cores]\ndata = 1\n")
        self.said = directory / f"{name}.said"
        options = {"stderr": open(self.said, "w"), "env": {**os.environ, **SECRETS}}
        super().__init__([PROGRAM, "serve", "--config", self.file], client, "/healthz", **options)

    def words(self):
        return self.said.read_text()

    def status(self):
        _, _, text = ask(self.admin, "GET", "/v1/status", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
        return json.loads(text)

    def metric(self, sample):
        _, _, text = ask(self.admin, "GET", "/metrics", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
        found = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0]) if found else None

    def stop(self):
        self.child.terminate()
        well = self.child.wait(house.END_SECONDS) == 0 and "panicked" not in self.words()
        check("the node ends well and nothing in it panicked", well, self.words()[-2000:])


def haproxy():
    port, metrics = free_port(), free_port()
    file = adapted("haproxy/haproxy.cfg", [
        ("/run/haproxy/", f"{directory}/"), ("mode 660 level", "mode 600 level"), ("maxconn 100000", "maxconn 1000"),
        ("log /dev/log local0", "log stdout format raw local0"),
        ("bind :443 ssl crt /etc/haproxy/ringway.pem alpn h2,http/1.1", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8404", f"127.0.0.1:{metrics}"), ("server node3 10.0.0.13:8080\n", "\n"),
        *((f"{name}:8080", f"127.0.0.1:{ports[name][0]}") for name in NODES)])
    done = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, timeout=60)
    check("haproxy -c", done.returncode == 0, done.stdout + done.stderr)
    return house.Process(["haproxy", "-db", "-f", file], port, "/readyz", **said("haproxy")), metrics


def envoy():
    port = free_port()
    text = (DEPLOY / "envoy/envoy.yaml").read_text()
    before, rest = text.split("        - transport_socket:", 1)
    text = before + "        - filters:" + rest.split("          filters:", 1)[1]
    third = "              - endpoint: { address: { socket_address: { address: 10.0.0.13, port_value: 8080 } } }"
    file = directory / "envoy.yaml"
    file.write_text(replaced(text, [
        ("address: 0.0.0.0, port_value: 443", f"address: 127.0.0.1, port_value: {port}"), (third, ""), ("port_value: 9902", f"port_value: {free_port()}"),
        *((f"address: {name}, port_value: 8080", f"address: 127.0.0.1, port_value: {ports[name][0]}") for name in NODES)]))
    return house.Process([ENVOY, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"], port, "/readyz", **said("envoy"))


def prometheus(metrics):
    port = free_port()
    (directory / "ringway.token").write_text(ADMIN_TOKEN)
    adapted("prometheus/ringway.rules.yml", [])
    targets = ", ".join(f'"127.0.0.1:{ports[name][1]}"' for name in NODES)
    file = adapted("prometheus/prometheus.yml", [
        ('"10.0.0.11:9901", "10.0.0.12:9901", "10.0.0.13:9901"', targets), ("127.0.0.1:8404", f"127.0.0.1:{metrics}"),
        ("/etc/prometheus/ringway.token", f"{directory}/ringway.token"), ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s")])
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True, timeout=60)
    check("promtool check config", done.returncode == 0, done.stdout + done.stderr)
    options = ["--config.file", file, "--storage.tsdb.path", directory / "data"]
    return house.Process(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], port, "/-/ready", **said("prometheus"))


def chat(port, what, key=KEY):
    body = {"model": "qwen", "messages": [{"role": "user", "content": what}]}
    status, fields, text = ask(port, "POST", "/v1/chat/completions", body, headers={"authorization": f"Bearer {key}"})
    return (fields["x-cache"], json.loads(text)["choices"][0]["message"]["content"]) if status == 200 else (status, text)


class Load:
    """Clients that ask through a proxy without end."""

    def __init__(self, port):
        self.over, self.wrong, self.answers, self.port = threading.Event(), [], 0, port
        self.threads = [threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)]

    def client(self, number):
        count = 0
        while not self.over.is_set():
            count += 1
            try:
                found, _ = chat(self.port, f"question {self.port} {number} {count}")
            except OSError as error:
                found = repr(error)
            self.answers += 1
            if found not in ("HIT", "MISS"):
                self.wrong.append(found)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        check(f"all of {self.answers} requests were answered", self.answers > 0 and not self.wrong, self.wrong[:3])


old, new = Backend("old"), Backend("new")
etcd, redis = Etcd(), Redis()


def shared(backend, more=""):
    return replaced((DEPLOY / "ringway/shared.toml").read_text(), [
        ("10.0.0.41:6379", f"127.0.0.1:{redis.port}"), ("10.0.0.51:8000", f"127.0.0.1:{backend.port}"),
        ("10.0.0.52:8000", f"127.0.0.1:{backend.port}"), ("0" * 64, sha256(KEY))]) + more


etcd.put(shared(old))
nodes = [Node(name, etcd) for name in NODES]


def limited(key, what):
    return f'[[tenant]]\nname = "{key}"\nkeys = ["sha256:{sha256(key)}"]\n{what}\n'


def until_limits_are_shared():
    front.until("limits are shared", lambda: all(node.metric(LIMITS_SHARED) == 1 for node in nodes))


def the_files_are_good():
    env = {**os.environ, **SECRETS}
    document = directory / "shared.toml"
    document.write_text(shared(old))
    for file, what in ((nodes[0].file, "etcd:ringway/config, revision"), (document, "1 tenant with 1 key")):
        text = file.read_text()
        # Its ports are in use.
        other = directory / f"checked-{file.name}"
        other.write_text(re.sub(r'listen = (\[?)"127.0.0.1:\d+"', lambda found: f'listen = {found[1]}"127.0.0.1:{free_port()}"', text))
        done = subprocess.run([PROGRAM, "check", other], capture_output=True, text=True, timeout=60, env=env)
        check(f"ringway check {file.name}", done.returncode == 0 and what in done.stdout, done.stdout + done.stderr)


def what_one_node_answered_is_a_hit_on_the_other():
    proxy, _ = haproxy()

    def shares():
        what = f"shared {time.monotonic_ns()}"
        answers = [chat(node.port, what) for node in nodes]
        return [cache for cache, _ in answers] == ["MISS", "HIT"] and answers[0][1] == answers[1][1]

    front.until("a hit on the other node", shares)
    check("a key is asked for", chat(proxy.port, "hello", key="sk-another")[0] == 401)
    proxy.kill()


def admitted(node, key):
    """How many of more requests than the limit allows."""
    return sum(chat(node.port, f"{key} {number}", key)[0] in ("HIT", "MISS") for number in range(2 * A_DAY))


def a_limit_is_that_of_both_nodes_and_survives_redis():
    document = shared(old, "".join(limited(key, f"requests_per_day = {A_DAY}") for key in ("first", "second")))
    etcd.put(document)
    front.until("the tenants are there", lambda: all(chat(node.port, "hello", "first")[0] != 401 for node in nodes))
    until_limits_are_shared()
    time.sleep(4)  # for three seconds after its first limit a new Redis lets each node have its share only
    day = time.gmtime().tm_yday
    # On the first node, more than its share; the second has nothing left, nor when Redis has been killed.
    found = [admitted(node, "second") for node in nodes]
    check("a limit is that of both nodes", found == [A_DAY, 0] or time.gmtime().tm_yday != day, found)
    redis.kill()
    front.until("both know it", lambda: all(node.metric(LIMITS_SHARED) == 0 for node in nodes))
    redis.start()
    until_limits_are_shared()
    time.sleep(4)
    found = admitted(nodes[1], "second")
    check("what a node has spent is known after a restart of Redis", found == 0 or time.gmtime().tm_yday != day, found)
    etcd.put(shared(old))


def redis_admits_nobody_else():
    with socket.create_connection(("127.0.0.1", redis.port), 10) as connection:
        connection.sendall(b"GET ringway:1:x\r\n")
        check("Redis wants a password", connection.recv(100).startswith(b"-NOAUTH"))


def a_purge_on_one_node_reaches_the_other():
    first, second = nodes

    def kept():
        answers = [chat(node.port, "purged") for node in (first, second, second)]
        return answers[0][1] == answers[1][1] == answers[2][1] and answers[2][0] == "HIT"

    front.until("both nodes have an answer", kept)
    _, before = chat(second.port, "purged")
    status, _, text = ask(first.admin, "POST", "/v1/purge", {"model": "qwen"}, headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
    check("a purge", status == 200, text)
    front.until("the other node serves it no longer", lambda: chat(second.port, "purged")[1] != before)


def a_change_is_in_force_on_all_nodes_and_no_request_fails():
    proxies = [("HAProxy", haproxy()[0])] + ([("Envoy", envoy())] if ENVOY else [])
    for name, proxy in proxies:
        etcd.put(shared(old))
        in_force = lambda backend: all(chat(node.port, f"who {time.monotonic_ns()}")[1].startswith(backend) for node in nodes)
        front.until("the first is in force", lambda: in_force("old"))
        with Load(proxy.port):
            for backend, document in (("new", new), ("old", old), ("new", new)):
                etcd.put(shared(document))
                front.until(f"the change is in force on both nodes behind {name}", lambda: in_force(backend))
            etcd.put(shared(old, "balanse = 1\n"))
            front.until("both refuse one with an error", lambda: all(node.status()["config_source"]["last_error"] for node in nodes))
            check("and nothing has changed", in_force("new"))
        proxy.kill()
    etcd.put(shared(old))


def prometheus_sees_all_of_them():
    proxy, metrics = haproxy()
    server = prometheus(metrics)

    def query(expression):
        status, _, text = ask(server.port, "GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if status == 503:  # it listens before it can answer
            return []
        return [(result["metric"], float(result["value"][1])) for result in json.loads(text)["data"]["result"]]

    front.until("two nodes and HAProxy are up", lambda: sorted(value for _, value in query("up")) == [1, 1, 1])
    front.until("their store is up", lambda: [value for _, value in query('ringway_config_source_up{source="etcd"}')] == [1, 1])
    rights = redis.acl.read_text()
    redis.allow(replaced(rights, [(" +zadd", "")]))
    front.until("the alert on limits that Redis refuses is pending or fires on both", lambda: len([
        found for found, _ in query("ALERTS") if found["alertname"] == "RingwayLimitsNotShared"]) == 2)
    front.until("the log has the reason", lambda: all("it refuses: " in node.words() for node in nodes))
    redis.allow(rights)
    until_limits_are_shared()
    etcd.put("[[backend")
    front.until("the alert on a refused configuration is pending or fires", lambda: any(
        found["alertname"] == "RingwayConfigRefused" for found, _ in query("ALERTS")))
    etcd.put(shared(old))
    server.kill(), proxy.kill()


def etcd_and_a_node_die():
    proxy, _ = haproxy()
    with Load(proxy.port):
        etcd.kill()
        front.until("both tell it", lambda: all(node.status()["config_source"]["last_error"] for node in nodes))
        # Without its store it starts with what it kept. The proxy hears that it is about to stop, and turns to the other one.
        nodes[0].stop()
        nodes[0].start()
        check("it serves by the kept copy", nodes[0].status()["config_source"]["kept_copy"])
        check("and answers", chat(nodes[0].port, "hello")[1].startswith("old"))
    proxy.kill()
    for node in nodes:
        node.stop()


house.run([
    the_files_are_good,
    what_one_node_answered_is_a_hit_on_the_other,
    a_limit_is_that_of_both_nodes_and_survives_redis,
    redis_admits_nobody_else,
    a_purge_on_one_node_reaches_the_other,
    a_change_is_in_force_on_all_nodes_and_no_request_fails,
    prometheus_sees_all_of_them,
    etcd_and_a_node_die,
], sys.argv[3:])
house.verdict()
