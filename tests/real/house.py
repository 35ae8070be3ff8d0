"""What the scripts here share: processes on ports of their own, a gateway with a written configuration, and checks with
a verdict. Standard library only. Whatever is started ends with the script, however that ends.
"""

import atexit
import contextlib
import ctypes
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback

START_SECONDS = 60
END_SECONDS = 40
PR_SET_PDEATHSIG = 1  # linux/prctl.h

failed = []
reserved = []
directories = []
libc = ctypes.CDLL(None)
# Of a burst of new connections, more than the usual five would wait whole seconds until the kernel asks again.
socketserver.TCPServer.request_queue_size = 128


def check(what, truth, detail=""):
    print(f"{'ok' if truth else 'NOT OK'}: {what}{'' if truth else f'  {detail}'}", flush=True)
    if not truth:
        failed.append(what)


def run(scenarios, chosen=()):
    """Runs functions one after the other, or those whose names are chosen. Each one passes unless it raises."""
    unknown = set(chosen) - {scenario.__name__ for scenario in scenarios}
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}")
    for scenario in scenarios:
        if chosen and scenario.__name__ not in chosen:
            continue
        began = time.monotonic()
        try:
            scenario()
        except Exception:
            failed.append(scenario.__name__)
            print(f"FAIL {scenario.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"PASS {scenario.__name__} ({time.monotonic() - began:.1f} s)", flush=True)


def verdict():
    """Ends the script."""
    print(f"{len(failed)} failed: {'; '.join(failed)}" if failed else "all passed")
    if not failed:
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


def free_port():
    """A port that stays ours: the socket bound to it never listens, so that whoever is told may listen there, now and
    again after having been killed, while the system gives the port to nobody else.
    """
    socket_ = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        socket_.setsockopt(socket.SOL_SOCKET, option, 1)
    socket_.bind(("127.0.0.1", 0))
    reserved.append(socket_)
    return socket_.getsockname()[1]


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program that serves HTTP on `port` once it has started; killed with everything else at the end."""

    all = []

    def __init__(self, arguments, port, ready="/", **options):
        self.arguments, self.port, self.ready, self.options = arguments, port, ready, options
        Process.all.append(self)
        self.start()

    def start(self):
        self.child = subprocess.Popen(self.arguments, preexec_fn=die_with_parent, **self.options)
        deadline = time.monotonic() + START_SECONDS
        while self.child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(self.port, "GET", self.ready)
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.arguments} did not start. {self.words()}")

    def words(self):
        return ""

    def kill(self, what=signal.SIGKILL):
        self.child.send_signal(what)
        if what == signal.SIGKILL:
            self.child.wait()


@atexit.register
def kill_all():
    for process in Process.all:
        if hasattr(process, "child"):
            with contextlib.suppress(OSError):
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


class Handler(http.server.BaseHTTPRequestHandler):
    """A backend's: quiet, over kept connections, well at each check of its health."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a head and its body are one write

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply({})

    def asked(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def reply(self, value, content_type="application/json"):
        """`value` is text, or becomes JSON."""
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Backend:
    """Answers chat completions, whole or as streams, with the text that `says` makes of a request and the number of its call."""

    def __init__(self, says):
        self.calls, self.lock = 0, threading.Lock()
        backend = self

        class Answering(Handler):
            def do_POST(self):
                asked = self.asked()
                with backend.lock:
                    backend.calls += 1
                    number = backend.calls
                text = says(asked, number)
                usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
                common = {"id": "x", "created": 1, "model": asked["model"]}
                if not asked.get("stream"):
                    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                    return self.reply({**common, "object": "chat.completion", "choices": [choice], "usage": usage})
                deltas = [({"role": "assistant", "content": ""}, None), ({"content": text}, None), ({}, "stop")]
                events = [
                    {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas
                ] + [{"choices": [], "usage": usage}]
                lines = [json.dumps({**common, "object": "chat.completion.chunk", **event}) for event in events]
                self.reply("".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]), "text/event-stream")

        self.url = f"http://127.0.0.1:{served(Answering)}"


def served(handler):
    """The port at which `handler` answers until the script ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def toml(value):
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Gateway(Process):
    """`backends` and `models` are lists of tables as dictionaries, `more` is further text; what it says goes to a file that can be read."""

    def __init__(self, program, backends, models, cache="enabled = false", cores=2, server="", more=""):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        directories.append(directory)
        port = free_port()
        text = f'[server]\nlisten = ["127.0.0.1:{port}"]\n{server}\n'
        text += f'{more}[cores]\ndata = {cores}\n[cache]\nmemory = "64MiB"\n{cache}\n'
        for table, rows in (("backend", backends), ("model", models)):
            for row in rows:
                text += f"[[{table}]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in row.items())
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
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(END_SECONDS)
        well = self.child.returncode == 0 and "panicked" not in self.words()
        check("the gateway ends well and nothing in it panicked", well, f"{self.child.returncode} {self.words()}")
