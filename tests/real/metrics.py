"""Prometheus' own tools on the metrics and the rules: promtool reads what the gateway writes, in both formats by way of a real
server that scrapes it, and the sums are those of the requests that were sent. Takes the program; standard library only.
"""

import concurrent.futures
import hashlib
import http.client
import http.server
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from house import Gateway, Process, ask, check, directories, free_port, run, verdict

REQUESTS = 40
PATIENCE_SECONDS = 60
BACKENDS, MODELS, TENANTS, WORKERS = 64, 100, 1000, 8
RULES = pathlib.Path("deploy/prometheus")
DASHBOARD = pathlib.Path("deploy/grafana/ringway.json")

program = sys.argv[1]
# The objective is of an optimized program; tests are not optimized, which makes a scrape about six times dearer.
SCRAPE_MS = 20 if "/release/" in program else 120


class Backend(http.server.BaseHTTPRequestHandler):
    """A model server with one answer."""

    protocol_version = "HTTP/1.1"

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        self.answer({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message], "usage": usage})

    def log_message(self, *_):
        pass


backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
threading.Thread(target=backend.serve_forever, daemon=True).start()
admin = free_port()
gateway = Gateway(
    program,
    [{"name": "b", "url": f"http://127.0.0.1:{backend.server_port}"}],
    [{"name": "m", "backends": ["b"]}],
    more=f'[admin]\nlisten = "127.0.0.1:{admin}"\n[metrics]\ngenai = true\n',
)


def promtool(*arguments, given=None):
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def prometheus_text_passes_the_linter():
    for number in range(REQUESTS):
        body = {"model": "m", "messages": [{"role": "user", "content": str(number)}]}
        assert ask(gateway.port, "POST", "/v1/chat/completions", body)[0] == 200
    status, headers, text = ask(admin, "GET", "/metrics")
    check("it says its format", headers["content-type"].startswith("text/plain; version=0.0.4"), headers)
    code, said = promtool("check", "metrics", given=text)
    check("promtool check metrics", status == 200 and code == 0, said)


def a_server_scrapes_it():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
    directories.append(directory)
    jobs = [{"job_name": "ringway", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}]}]
    rules = [str((RULES / "ringway.rules.yml").resolve())]
    # JSON is YAML.
    (directory / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs, "rule_files": rules}))
    port = free_port()
    options = ["--config.file", directory / "prometheus.yml", "--storage.tsdb.path", directory / "data"]
    said = open(directory / "said", "w")
    Process(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], port, "/-/ready", stdout=said, stderr=said)

    def query(expression):
        _, _, text = ask(port, "GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        result = json.loads(text)["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    deadline = time.monotonic() + PATIENCE_SECONDS
    requests = None
    while requests != REQUESTS and time.monotonic() < deadline:
        time.sleep(0.2)
        requests = query('sum(ringway_requests_total{endpoint="chat_completions"})')
    targets = json.loads(ask(port, "GET", "/api/v1/targets")[2])["data"]["activeTargets"]
    check("the scrape has no error", all(target["lastError"] == "" for target in targets), targets)
    check("the sum of the requests", requests == REQUESTS, requests)
    metadata = json.loads(ask(port, "GET", "/api/v1/metadata?metric=ringway_overhead_seconds")[2])["data"]
    check("kinds and help arrive", metadata["ringway_overhead_seconds"][0]["type"] == "histogram", metadata)


def rules_hold():
    for arguments in (("check", "rules", str(RULES / "ringway.rules.yml")), ("test", "rules", str(RULES / "ringway.rules.test.yml"))):
        code, said = promtool(*arguments)
        check(f"promtool {' '.join(arguments)}", code == 0, said)


def the_dashboard_asks_for_metrics_that_exist():
    _, _, text = ask(admin, "GET", "/metrics")
    there = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    asked = set()
    for path in (DASHBOARD, RULES / "ringway.rules.yml"):
        asked |= set(re.findall(r"\b(?:ringway|process)_[a-z_]+", path.read_text()))
    missing = {name for name in asked if name.removesuffix("_bucket") not in there}
    check("every metric of the dashboard and the rules", asked and not missing, missing)
    json.loads(DASHBOARD.read_text())


def background_core(gateway):
    """CPU time of the background core's thread since its start, in milliseconds."""
    for task in pathlib.Path(f"/proc/{gateway.child.pid}/task").iterdir():
        if (task / "comm").read_text().startswith("ringway-backgr"):
            return int((task / "schedstat").read_text().split()[0]) / 1e6
    raise RuntimeError("there is no background core")


def a_scrape_of_a_large_node_is_cheap():
    """CPU time of the background core, as the kernel counts it."""
    port = free_port()
    keys = [f"sk-of-tenant-{number}" for number in range(TENANTS)]
    tenants = [{"name": f"tenant-{number}", "keys": ["sha256:" + hashlib.sha256(key.encode()).hexdigest()]} for number, key in enumerate(keys)]
    large = Gateway(
        program,
        [{"name": f"b{number}", "url": f"http://127.0.0.1:{backend.server_port}", "health_interval": "0s", "connections_min": 0} for number in range(BACKENDS)],
        [{"name": f"m{number}", "backends": [f"b{number % BACKENDS}"]} for number in range(MODELS)],
        more=f'[admin]\nlisten = "127.0.0.1:{port}"\n[metrics]\ngenai = true\n'
        + "".join("[[tenant]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in tenant.items()) for tenant in tenants),
    )

    def chats(worker):
        connections = [http.client.HTTPConnection("127.0.0.1", large.port, timeout=60) for _ in range(4)]
        for number in range(worker, TENANTS, WORKERS):
            body = json.dumps({"model": f"m{number % MODELS}", "messages": [{"role": "user", "content": str(number)}]})
            connection = connections[number // WORKERS % len(connections)]
            connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {keys[number]}", "content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(chats, range(WORKERS)))
    text = ask(port, "GET", "/metrics")[2]
    series = sum(not line.startswith("#") for line in text.splitlines())
    cores = [core["requests"] for core in json.loads(ask(port, "GET", "/v1/status")[2])["cores"]]
    check("every tenant, model and backend has its series", all(text.count(f'tenant="tenant-{number}"') >= 3 for number in (0, TENANTS - 1)) and f'backend="b{BACKENDS - 1}"' in text)
    check("on every core", len(cores) == 2 and min(cores) > 0, cores)
    before, scrapes = background_core(large), 20
    for _ in range(scrapes):
        assert ask(port, "GET", "/metrics")[0] == 200
    cost = (background_core(large) - before) / scrapes
    print(f"{series} series, {len(text) >> 10} KiB: {cost:.1f} ms of the background core for each scrape")
    check(f"a scrape costs under {SCRAPE_MS} ms", cost < SCRAPE_MS, cost)
    large.stop()


run([prometheus_text_passes_the_linter, a_server_scrapes_it, rules_hold, the_dashboard_asks_for_metrics_that_exist, a_scrape_of_a_large_node_is_cheap], sys.argv[2:])
gateway.stop()
verdict()
