"""Reloads under load: hits, misses and streams go on while the configuration is replaced again and again, one in three times by a
broken one, else by one with other backends, models and tenants. No request fails, each core serves by what was acknowledged, and
memory stays flat. Standard library only.

    soak.py RINGWAY [SECONDS [RELOADS_A_MINUTE]]
"""

import hashlib
import http.client
import http.server
import itertools
import json
import pathlib
import sys
import threading
import time

import house
from house import ask, check

PROGRAM = sys.argv[1]
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 20
A_MINUTE = float(sys.argv[3]) if len(sys.argv) > 3 else 100
CORES = 2
# Connections of their own that look whether a change is in force: enough to meet each core.
LOOKS = 8
# What may be added after the first third of the time: buffers and tables that have grown to their size.
GROWTH_KIB = 16 << 10


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply("application/json", "{}")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        common = {"id": "x", "created": 1, "model": asked["model"]}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
            whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            return self.reply("application/json", json.dumps(whole))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        deltas = [*(({"content": f"{number} "}, None) for number in range(10)), ({}, "stop")]
        for delta, finish in deltas:
            event = {**common, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            self.chunk(f"data: {json.dumps(event)}\n\n")
            self.wfile.flush()
            time.sleep(0.05)  # a stream that outlives a reload
        self.chunk("data: [DONE]\n\n")
        self.chunk("")

    def chunk(self, text):
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def reply(self, kind, text):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Backend)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"


def tenant(name, key):
    return f'[[tenant]]\nname = "{name}"\nkeys = ["sha256:{hashlib.sha256(key.encode()).hexdigest()}"]\n'


admin = house.free_port()
by_hand = f'[admin]\nlisten = "127.0.0.1:{admin}"\n[config]\nwatch = false\nrefresh = "0s"\n'
gateway = house.Gateway(
    PROGRAM, [{"name": "b", "url": url}], [{"name": "m", "backends": ["b"]}], cache="", cores=CORES, more=by_hand + tenant("steady", "steady")
)
path = pathlib.Path(gateway.arguments[-1])
base = path.read_text()


class Load(threading.Thread):
    """One client with one connection, which is to stay open."""

    def __init__(self, kind, number):
        super().__init__(daemon=True)
        self.kind, self.number, self.count, self.faults = kind, number, 0, []
        self.over = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        for count in itertools.count():
            if self.over.is_set():
                return
            body = {"model": "m", "messages": [{"role": "user", "content": self.kind}]}
            headers = {"authorization": "Bearer steady", "content-type": "application/json"}
            if self.kind != "hit":
                # Not kept, so that the cache does not grow, nor do two of them share a call.
                body["messages"][0]["content"] += f" {self.number} {count}"
                headers["cache-control"] = "no-store"
            body["stream"] = self.kind == "stream"
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                local = connection.sock
                answer = connection.getresponse()
                text = answer.read().decode()
                whole = text.endswith("data: [DONE]\n\n") if self.kind == "stream" else '"yes"' in text
                if answer.status != 200 or not whole or connection.sock is not local:
                    self.faults.append((answer.status, text[-200:], connection.sock is local))
            except (OSError, http.client.HTTPException) as fault:
                self.faults.append(repr(fault))
                connection.close()
            self.count += 1


def resident_kib():
    status = pathlib.Path(f"/proc/{gateway.child.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def written(text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def reload():
    status, _, text = ask(admin, "POST", "/v1/reload", headers={"content-length": "0"})
    return status, json.loads(text)


def looks(key, model):
    """What each of several connections is told."""
    body = {"model": model, "messages": [{"role": "user", "content": "look"}]}
    return {ask(gateway.port, "POST", "/v1/chat/completions", body, headers={"authorization": f"Bearer {key}"})[0] for _ in range(LOOKS)}


def reloads_under_load():
    loads = [Load(kind, number) for number, kind in enumerate(("hit", "hit", "miss", "miss", "stream", "stream", "stream"))]
    for load in loads:
        load.start()
    began, generation, refused, wrong, sizes, number = time.monotonic(), 1, 0, [], [], 0
    while (now := time.monotonic() - began) < SECONDS:
        number += 1
        if number % 3 == 0:
            written(base + f'[[model]]\nname = "broken{number}"\nbackends = ["nowhere"]\n')
            status, answer = reload()
            refused += 1
            if status < 400 or answer["result"] != "refused" or answer["generation"] != generation:
                wrong.append((number, status, answer))
        else:
            extra = f'[[backend]]\nname = "b{number}"\nurl = "{url}"\n[[model]]\nname = "m{number}"\nbackends = ["b{number}", "b"]\n'
            written(base + extra + tenant(f"t{number}", f"key{number}"))
            status, answer = reload()
            generation += 1
            if status != 200 or answer["result"] != "in_force" or answer["generation"] != generation:
                wrong.append((number, status, answer))
            # On every core: what came is there, and what went is gone.
            before = number - (2 if number % 3 == 1 else 1)
            found = looks(f"key{number}", f"m{number}"), looks(f"key{before}", f"m{number}") if before > 0 else {401}
            if found != ({200}, {401}):
                wrong.append((number, found))
        sizes.append((now, resident_kib()))
        time.sleep(max(0, number * 60 / A_MINUTE - (time.monotonic() - began)))
    for load in loads:
        load.over.set()
    for load in loads:
        load.join(30)
    faults = [fault for load in loads for fault in load.faults]
    counts = {kind: sum(load.count for load in loads if load.kind == kind) for kind in ("hit", "miss", "stream")}
    early = max(size for at, size in sizes if at <= max(SECONDS / 3, sizes[0][0]))
    print(f"{number} reloads, {refused} refused, in {SECONDS:.0f} s; {counts}; resident {early} then {sizes[-1][1]} KiB")
    check("every reload ends as it should, on every core", not wrong, wrong[:3])
    check("there was load of each kind", all(counts.values()), counts)
    check("no request fails and no connection is closed", not faults, faults[:3])
    check("memory is flat", sizes[-1][1] - early < GROWTH_KIB, (early, sizes[-1]))
    _, _, text = ask(admin, "GET", "/v1/status")
    check("the status has the last generation", json.loads(text)["config_generation"] == generation, generation)
    _, _, text = ask(admin, "GET", "/metrics")
    for sample in (f"ringway_config_generation {generation}", f'ringway_config_reloads_total{{result="refused"}} {refused}'):
        check(f"the metrics have {sample}", f"{sample}\n" in text)
    gateway.stop()


house.run([reloads_under_load])
house.verdict()
