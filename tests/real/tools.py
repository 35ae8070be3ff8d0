"""The scripts of loadtest/tools, each for a second or two on a gateway that asks for a key: hey, ab, wrk with wrk2's script, and
Locust. Nothing may fail, and the gateway has to have answered as many requests as the tool says. Takes the gateway, the load
generator (which is the backend and makes the corpus) and Locust.
"""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from house import Gateway, Process, ask, check, free_port, run, verdict

TOOLS = pathlib.Path("loadtest/tools")
KEY = "sk-of-the-tools-0123456789"
REQUESTS, CONNECTIONS = 500, 8
MOST_SECONDS = 60


def answered():
    """How many requests the gateway has answered, by status."""
    text = ask(admin, "GET", "/metrics")[2]
    found = re.findall(r'^ringway_requests_total\{([^}]*)\} (\d+)', text, re.MULTILINE)
    assert found, text
    counts = {}
    for labels, count in found:
        status = re.search(r'status="(\d+)"', labels)[1]
        counts[status] = counts.get(status, 0) + int(count)
    return counts


def tool(name, command, said):
    """Runs it; `said` finds the number of requests in its words. Whatever was answered meanwhile had status 200."""
    before = answered()
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=MOST_SECONDS)
    words = done.stdout + done.stderr
    more = {status: count - before.get(status, 0) for status, count in answered().items()}
    good = more.pop("200", 0)
    check(f"{name}: status", done.returncode == 0, words)
    check(f"{name}: every answer is a 200", good and not any(more.values()), more)
    found = re.search(said, words)
    # A request may be on its way when the time is over.
    check(f"{name}: says how many", found and 0 < int(found[1]) <= good <= int(found[1]) + CONNECTIONS, f"{good} {words}")


def hey():
    tool("hey", [TOOLS / "single.sh", "hey", REQUESTS, CONNECTIONS], r"\[200\]\s+(\d+) responses")


def ab():
    tool("ab", [TOOLS / "single.sh", "ab", REQUESTS, CONNECTIONS], r"(?s)Complete requests:\s+(\d+)\s.*Failed requests:\s+0\s")


def single_fails_with_its_requests():
    for name in ("hey", "ab"):
        wrong = {**environment, "KEY": "sk-of-nobody"}
        done = subprocess.run([TOOLS / "single.sh", name, "20", "2"], env=wrong, capture_output=True, text=True, timeout=MOST_SECONDS)
        check(f"single.sh {name}: answers that are no 200 make it fail", done.returncode == 1, done.stdout + done.stderr)


def wrk():
    command = ["wrk", "-t", 1, "-c", CONNECTIONS, "-d", "1s", "-s", TOOLS / "wrk2.lua", environment["URL"]]
    tool("wrk", command, r"requests (\d+), failed 0\n")


def locust():
    command = [*LOCUST, "-f", TOOLS / "locustfile.py", "--headless", "-u", 8, "-r", 8, "-t", "3s", "-H", environment["URL"], "--only-summary"]
    tool("locust", command, r"Aggregated\s+(\d+)\s+0\(0\.00%\)")


program, generator, *LOCUST = sys.argv[1:]
with tempfile.TemporaryDirectory(prefix="ringway-tools-") as directory:
    corpus = pathlib.Path(directory) / "corpus.jsonl"
    corpus.write_bytes(subprocess.run([generator, "corpus", "--seed", "1"], check=True, capture_output=True).stdout)
    port = free_port()
    Process([generator, "backend", "--listen", f"127.0.0.1:{port}"], port, stdout=subprocess.DEVNULL)
    admin = free_port()
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    gateway = Gateway(
        program,
        [{"name": "mock", "url": f"http://127.0.0.1:{port}", "health_path": "/"}],
        [{"name": name, "backends": ["mock"]} for name in ("gpt-4", "claude-3", "llama-3")],
        cache="",
        more=f'[admin]\nlisten = "127.0.0.1:{admin}"\n[[tenant]]\nname = "tools"\nkeys = ["sha256:{digest}"]\n',
    )
    environment = {**os.environ, "URL": f"http://127.0.0.1:{gateway.port}", "KEY": KEY, "CORPUS": str(corpus)}
    run([hey, ab, single_fails_with_its_requests, wrk, locust])
    gateway.stop()
verdict()
