"""New processes take over from the old ones while clients use HTTP/1.1, HTTP/2 and TLS: no connection is refused or reset, no
stream is cut, no request fails, sessions resume.

    upgrade.py RINGWAY NODE [UPGRADES [STREAMS]]

By turns, as an operator would: the program file is replaced and SIGHUP comes, or `serve --take-over` is started. In between, a
program that cannot start changes nothing. Standard library, and Node for HTTP/2.
"""

import fcntl
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import front
import house
from house import check

PROGRAM, NODE = sys.argv[1:3]
UPGRADES = int(sys.argv[3]) if len(sys.argv) > 3 else 3
STREAMS = int(sys.argv[4]) if len(sys.argv) > 4 else 40
EVENTS = 40
COMMON = {"id": "x", "created": 1, "model": "m"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers at once; streams take some seconds."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            return self.stream()
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self.whole({**COMMON, "object": "chat.completion", "choices": [choice], "usage": usage})

    def whole(self, body):
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            delta = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
            self.event({**COMMON, "object": "chat.completion.chunk", "choices": [delta]})
            time.sleep(0.1)
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.event({**COMMON, "object": "chat.completion.chunk", "choices": [last]})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")
        self.wfile.flush()

    def event(self, data):
        self.chunk(b"data: " + json.dumps(data).encode() + b"\n\n")
        self.wfile.flush()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


class Load:
    """Clients of HTTP/1.1, each in a thread of its own."""

    def __init__(self, ports, authority):
        self.ports, self.authority = ports, authority
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.counts, self.failures = {}, []
        kinds = [self.kept, self.anew, self.secure_kept, self.secure_anew, self.local]
        self.threads = [threading.Thread(target=self.guarded, args=(kind, name), daemon=True)
                        for kind in kinds for name in ("hit", "miss")]
        self.threads += [threading.Thread(target=self.guarded, args=(self.streaming, number), daemon=True)
                         for number in range(STREAMS)]

    def context(self):
        return ssl.create_default_context(cafile=self.authority)

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def guarded(self, kind, argument):
        for number in range(1 << 30):
            if self.over.is_set():
                return
            try:
                kind(argument, number)
            except Exception as error:
                with self.lock:
                    self.failures.append(f"{kind.__name__} {argument}: {type(error).__name__} {error}")

    def ask(self, connection, name, number, is_last=False):
        content = "the same" if name == "hit" else f"{threading.get_ident()} {number} {time.monotonic()}"
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]})
        fields = {"content-type": "application/json", **({"connection": "close"} if is_last else {})}
        connection.request("POST", "/v1/chat/completions", body, fields)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200 or not json.loads(text)["choices"]:
            raise RuntimeError(f"{answer.status} {text}")
        self.count(f"{name}, {'TLS' if isinstance(connection, http.client.HTTPSConnection) else 'plain'}")

    def plain(self):
        return http.client.HTTPConnection("127.0.0.1", self.ports["plain"], timeout=60)

    def kept(self, name, number):
        # It opens the next one by itself where an answer says that it closes.
        connection = self.plain()
        while not self.over.is_set():
            self.ask(connection, name, number)
            number += 1
        connection.close()

    def anew(self, name, number):
        connection = self.plain()
        self.ask(connection, name, number, is_last=True)
        connection.close()

    def secure(self):
        return http.client.HTTPSConnection("localhost", self.ports["tls"], timeout=60, context=self.context())

    def secure_kept(self, name, number):
        connection = self.secure()
        while not self.over.is_set():
            self.ask(connection, name, number)
            number += 1
        connection.close()

    def secure_anew(self, name, number):
        """Every connection resumes the session of the one before."""
        context, session = self.context(), None
        while not self.over.is_set():
            connection = self.secure()
            connection.connect = lambda: None
            raw = http.client.socket.create_connection(("127.0.0.1", self.ports["tls"]), 60)
            connection.sock = context.wrap_socket(raw, server_hostname="localhost", session=session)
            self.count("resumed" if connection.sock.session_reused else "full handshakes")
            sock = connection.sock
            self.ask(connection, name, number)
            session = sock.session or session  # none where the answer closed it
            connection.close()
            number += 1

    def local(self, name, number):
        connection = self.plain()
        connection.sock = http.client.socket.socket(http.client.socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(self.ports["unix"])
        self.ask(connection, name, number, is_last=True)
        connection.close()

    def streaming(self, place, number):
        connection = self.secure() if place % 2 else self.plain()
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"{place} {number} {time.monotonic()}"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        text = connection.getresponse().read().decode()
        whole = all(f'"{number} "' in text for number in range(EVENTS)) and text.endswith("data: [DONE]\n\n")
        if not whole:
            raise RuntimeError(f"cut after {len(text)} bytes: {text[-200:]}")
        self.count("streams")
        connection.close()


def processes(gateway):
    """Of all that have taken over, in their order."""
    return [int(pid) for pid in re.findall(r"process (\d+) has taken over", gateway.words())]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def replace(program, content):
    shutil.copy(content, f"{program}.new")
    os.rename(f"{program}.new", program)


class Manager:
    """What systemd does with `FDSTORE=1`: keeps descriptors by name, and gives them to the next process."""

    def __init__(self, directory):
        self.path, self.kept = f"{directory}/notify", []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            text, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
            said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            if said.get("FDSTORE") == "1":
                high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]
                self.kept += [(said["FDNAME"], descriptor) for descriptor in high]
            elif said.get("FDSTOREREMOVE") == "1":
                self.kept = [(name, descriptor) for name, descriptor in self.kept if name != said["FDNAME"]]

    def start(self, arguments, **options):
        moves = " ".join(f"{3 + place}<&{descriptor}" for place, (_, descriptor) in enumerate(self.kept))
        names = ":".join(name for name, _ in self.kept)
        return subprocess.Popen(
            ["bash", "-c", f'exec {moves}; export LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} LISTEN_FDNAMES={names}; exec "$0" "$@"',
             *arguments], pass_fds=[descriptor for _, descriptor in self.kept], preexec_fn=house.die_with_parent, **options)


def kept_by_the_service_manager():
    """While no process is there, connections wait; the next process serves them."""
    with front.directory() as directory:
        manager = Manager(directory)
        os.environ.update(NOTIFY_SOCKET=manager.path, FDSTORE="100")
        backend = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        admin = house.free_port()
        gateway = house.Gateway(
            PROGRAM, [{"name": "b", "url": f"http://127.0.0.1:{backend.server_address[1]}"}], [{"name": "m", "backends": ["b"]}],
            server=f'control_socket = "{directory}/control.sock"',
            more=f'[[listener]]\naddress = "unix:{directory}/gateway.sock"\n[admin]\nlisten = "127.0.0.1:{admin}"\n')
        front.until("a socket for each core, the Unix socket and admin", lambda: len(manager.kept) == 4)
        names = {*(f"client-member{core}-127.0.0.1_{gateway.port}" for core in range(2)), f"client-unix_{directory}/gateway.sock", f"admin-127.0.0.1_{admin}"}
        check("they are kept by name", {name for name, _ in manager.kept} == names, manager.kept)
        gateway.child.terminate()
        check("it ends well", gateway.child.wait(house.END_SECONDS) == 0, gateway.words())
        waiting = []
        for kind, address in 4 * [(socket.AF_INET, ("127.0.0.1", gateway.port)), (socket.AF_UNIX, f"{directory}/gateway.sock")]:
            client = socket.socket(kind)
            client.settimeout(60)
            client.connect(address)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            waiting.append(client)
        child = manager.start(gateway.arguments, stderr=open(gateway.said, "a"))
        answers = [client.recv(12) for client in waiting]
        check("what waited is served", answers == 8 * [b"HTTP/1.1 200"], answers)
        status, _, _ = house.ask(admin, "GET", "/readyz")
        check("the admin listener too", status == 200)
        # A crash is a restart, too.
        child.kill()
        child.wait()
        client = socket.create_connection(("127.0.0.1", gateway.port), 60)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        manager.kept = manager.kept[:4]
        child = manager.start(gateway.arguments, stderr=open(gateway.said, "a"))
        answer = client.recv(12)
        check("after a crash as well", answer == b"HTTP/1.1 200", answer)
        child.terminate()
        check("the last one ends well", child.wait(house.END_SECONDS) == 0, gateway.words())
        del os.environ["NOTIFY_SOCKET"], os.environ["FDSTORE"]


def main():
    kept_by_the_service_manager()
    with front.directory() as directory:
        certificates = front.Certificates(directory)
        certificates.sign("own", "localhost")
        backend = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        program = pathlib.Path(directory) / "ringway"
        shutil.copy(PROGRAM, program)
        tls, admin = house.free_port(), house.free_port()
        listener = f'[[listener]]\naddress = "127.0.0.1:{tls}"\ntls_cert = "{directory}/own.pem"\ntls_key = "{directory}/own.key"\n'
        gateway = house.Gateway(
            str(program),
            [{"name": "b", "url": f"http://127.0.0.1:{backend.server_address[1]}", "connections_max": 1000}],
            [{"name": "m", "backends": ["b"]}], cache="enabled = true",
            server=f'control_socket = "{directory}/control.sock"',
            more=f'{listener}[[listener]]\naddress = "unix:{directory}/gateway.sock"\n[admin]\nlisten = "127.0.0.1:{admin}"\n')
        configuration = gateway.arguments[-1]
        ports = {"plain": gateway.port, "tls": tls, "unix": f"{directory}/gateway.sock"}
        load = Load(ports, f"{directory}/ca.pem")
        for thread in load.threads:
            thread.start()
        clients = subprocess.Popen(
            [NODE, str(pathlib.Path(__file__).with_name("upgrade.mjs")), f"{directory}/ca.pem",
             f"https://localhost:{tls}", f"http://127.0.0.1:{gateway.port}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=house.die_with_parent)
        check("HTTP/2 has begun", clients.stdout.readline() == "begun\n")
        pids = [gateway.child.pid]
        children = [gateway.child]
        for number in range(UPGRADES):
            seen = load.counts.get("streams", 0)
            # The file of the program that runs is not the one that it was started from for long.
            if number % 2 == 0:
                replace(program, shutil.which("false"))
                os.kill(pids[-1], signal.SIGHUP)
                front.until("a program that cannot start is given up", lambda: gateway.words().count("the successor has ended") > number // 2)
                replace(program, PROGRAM)
                os.kill(pids[-1], signal.SIGHUP)
            else:
                replace(program, PROGRAM)
                children.append(subprocess.Popen([program, "serve", "--config", configuration, "--take-over"],
                                                 stderr=open(gateway.said, "a"), preexec_fn=house.die_with_parent))
            front.until(f"upgrade {number + 1}: another process has taken over", lambda: len(processes(gateway)) > number, 60)
            pids = [gateway.child.pid, *processes(gateway)]
            front.until("streams go on", lambda: load.counts.get("streams", 0) >= seen + STREAMS, 60)
        load.over.set()
        clients.stdin.close()
        for thread in load.threads:
            thread.join(60)
        many = json.loads(clients.stdout.read())
        print(load.counts, {**many, "failures": len(many["failures"])}, flush=True)
        check("HTTP/1.1: nothing failed", not load.failures, load.failures[:5])
        check("HTTP/2: nothing failed", not many["failures"] and many["answers"] > 100, many["failures"][:5])
        check("HTTP/2: connections were told to go", many["connections"] >= 2 + 2 * UPGRADES, many)
        check("sessions are resumed by successors", load.counts.get("full handshakes") == 2, load.counts)
        check("there were many of each", all(load.counts.get(kind, 0) > 20 for kind in ("hit, TLS", "miss, TLS", "hit, plain", "miss, plain")))
        *old, last = pids
        front.until("the old processes have ended", lambda: not any(map(is_running, old)), 60)
        status, _, text = house.ask(admin, "GET", "/readyz")
        check("the last one is ready", status == 200, text)
        os.kill(last, signal.SIGTERM)
        front.until("the last one has ended", lambda: not is_running(last), 60)
        check("all of them ended well", [child.wait() for child in children] == [0] * len(children), gateway.words())
        check("nothing panicked", "panicked" not in gateway.words(), gateway.words())
    house.verdict()


main()
