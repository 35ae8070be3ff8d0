"""What the scripts here share: processes with free ports, a gateway with a written configuration, checks with a verdict."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS = 30

failed = []


def check(what, truth, detail=""):
    print(f"{'ok' if truth else 'NOT OK'}: {what}{'' if truth else f'  {detail}'}", flush=True)
    if not truth:
        failed.append(what)


def verdict():
    print(f"{len(failed)} checks failed" if failed else "all checks passed")
    sys.exit(1 if failed else 0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program that serves HTTP on `port` once it has started; killed with everything else at the end."""

    all = []

    def __init__(self, arguments, port, ready="/", **options):
        self.arguments, self.port, self.ready, self.options = arguments, port, ready, options
        Process.all.append(self)
        self.start()

    def start(self):
        self.child = subprocess.Popen(self.arguments, **self.options)
        deadline = time.monotonic() + START_SECONDS
        while self.child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(self.port, "GET", self.ready)
                return
            time.sleep(0.05)
        kill_all()
        sys.exit(f"{self.arguments[:3]} did not start {self.words()}")

    def words(self):
        return ""

    def kill(self, what=signal.SIGKILL):
        self.child.send_signal(what)
        if what == signal.SIGKILL:
            self.child.wait()


def kill_all():
    for process in Process.all:
        with contextlib.suppress(OSError):
            process.child.send_signal(signal.SIGCONT)
            process.child.kill()
            process.child.wait()


def ask(port, method, path, body=None, timeout=30, headers=None):
    """One request on a connection of its own: status, headers, text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {**({"content-type": "application/json"} if body is not None else {}), **(headers or {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


class Gateway(Process):
    """`backends` and `models` are lists of TOML lines' dictionaries; what it says goes to a file that can be read."""

    def __init__(self, program, backends, models, cache='enabled = false', cores=2):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        port = free_port()
        text = f'[server]\nlisten = ["127.0.0.1:{port}"]\n[cores]\ndata = {cores}\n[cache]\nmemory = "64MiB"\n{cache}\n'
        for table, rows in (("backend", backends), ("model", models)):
            for row in rows:
                text += f"[[{table}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items())
        (directory / "ringway.toml").write_text(text)
        self.said = directory / "said"
        super().__init__(
            [program, "serve", "--config", str(directory / "ringway.toml")],
            port,
            "/healthz",
            stderr=open(self.said, "w"),
            env={**os.environ, "RUST_BACKTRACE": "1"},
        )

    def words(self):
        return self.said.read_text()

    def stop(self):
        self.child.terminate()
        self.child.wait(40)
        check("the gateway ends well and nothing in it panicked", self.child.returncode == 0 and "panicked" not in self.words(), self.words())
