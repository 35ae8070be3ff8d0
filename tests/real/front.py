"""What stands in front of a backend in `proxied.py`: nginx with a written configuration and what it logged,
certificates made as the script runs, and a backend that takes one step at a time. Waits for things to happen, never for
time to pass.
"""

import collections
import contextlib
import http.server
import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import house

Line = collections.namedtuple("Line", "port protocol tls reused connection pid status path")

# Names of nginx's own variables, in the order of `Line`.
LOGGED = "$server_port $server_protocol $ssl_protocol $ssl_session_reused $connection $pid $status $uri"
PATIENCE_SECONDS = 20
# How long a stream waits to be told to go on: as long as whatever a script does meanwhile takes on a busy machine.
STEP_SECONDS = 300


def until(what, holds, seconds=PATIENCE_SECONDS):
    """Waits until `holds`; a check that fails if that takes longer than anything should."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            house.check(f"{what} (within {seconds} s)", False)
            return
        time.sleep(0.02)


class Certificates:
    """An authority and a stranger to it, and what they sign, as PEM files `NAME.pem` and `NAME.key` in `directory`."""

    def __init__(self, directory):
        self.directory = directory
        for name in ("ca", "stranger"):
            self.openssl("req", "-x509", *self.key(name), "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}",
                         "-addext", "keyUsage = critical, keyCertSign, cRLSign")
        (directory / "index").write_text("")
        (directory / "ca.conf").write_text(
            f"[ca]\ndefault_ca = x\n[x]\ndatabase = {directory}/index\nnew_certs_dir = {directory}\nrand_serial = yes\n"
            "default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n"
        )

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def key(self, name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"

    def sign(self, name, host, begin="20200101000000Z", end="20990101000000Z", signer="ca"):
        self.openssl("req", *self.key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.directory / f"{name}.ext").write_text(f"subjectAltName = DNS:{host}\nauthorityKeyIdentifier = keyid\n")
        self.openssl("ca", "-config", "ca.conf", "-batch", "-notext", "-cert", f"{signer}.pem",
                     "-keyfile", f"{signer}.key", "-startdate", begin, "-enddate", end, "-extfile", f"{name}.ext", "-in", f"{name}.csr",
                     "-out", f"{name}.pem")

    def staple(self, name, days):
        """An OCSP response about certificate `name`, as its authority's register has it now."""
        self.openssl("ocsp", "-issuer", "ca.pem", "-cert", f"{name}.pem", "-no_nonce", "-reqout", f"{name}.req")
        self.openssl("ocsp", "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key", "-reqin", f"{name}.req",
                     "-respout", f"{name}.ocsp.new", "-ndays", str(days))
        (self.directory / f"{name}.ocsp.new").replace(self.directory / f"{name}.ocsp")

    def revoke(self, name):
        self.openssl("ca", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-revoke", f"{name}.pem")


class Nginx:
    """`servers` maps a name to (words of `listen`, whether HTTP/2, further directives); each listens on a free port."""

    def __init__(self, directory, servers, options):
        self.directory, self.ports = directory, {name: house.free_port() for name in [*servers, "status"]}
        said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        self.version = tuple(int(part) for part in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said).groups())
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {directory}/{kind}; " for kind in kinds)
        blocks = "\n".join(f"server {{ {self.listen(name, words, http2)} {rest} }}"
                           for name, (words, http2, rest) in servers.items())
        (directory / "nginx.conf").write_text(f"""
pid {directory}/pid; error_log {directory}/error.log notice; worker_processes 1; daemon off;
events {{ worker_connections 4096; }}
http {{
{temporary}
log_format facts '{LOGGED}'; access_log {directory}/access.log facts;
{options}
{blocks}
server {{ listen 127.0.0.1:{self.ports['status']}; access_log off; location / {{ stub_status; }} }}
}}
""")
        command = ["nginx", "-c", str(directory / "nginx.conf"), "-p", str(directory)]
        self.child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until("nginx listens", lambda: self.connections() is not None)

    def listen(self, name, words, http2):
        # The parameter became a directive in 1.25.1.
        here = f"listen 127.0.0.1:{self.ports[name]} {words}"
        if not http2:
            return f"{here};"
        return f"{here}; http2 on;" if self.version >= (1, 25, 1) else f"{here} http2;"

    def url(self, name, scheme="https"):
        return f"{scheme}://127.0.0.1:{self.ports[name]}"

    def lines(self, name):
        """What was logged of requests to the server `name`, in the order in which they ended."""
        rows = [Line(*row.split()) for row in (self.directory / "access.log").read_text().splitlines()]
        return [row for row in rows if row.port == str(self.ports[name])]

    def connections(self):
        """Connections that are open, but for the one that asks."""
        with contextlib.suppress(OSError):
            text = house.ask(self.ports["status"], "GET", "/")[2]
            return int(re.search(r"Active connections: (\d+)", text).group(1)) - 1

    def reload(self):
        """Returns once new workers run; the old ones say GOAWAY and finish what they have."""
        log = self.directory / "error.log"
        count = lambda: log.read_text().count("gracefully shutting down")
        before = count()
        self.child.send_signal(signal.SIGHUP)
        until("nginx reloads", lambda: count() > before)

    def stop(self):
        self.child.terminate()
        self.child.wait()


class Steps(http.server.ThreadingHTTPServer):
    """A backend whose streams say one word, then wait until they are told to go on, for each of four words."""

    daemon_threads = True
    request_queue_size = 512
    words = ["one ", "two ", "three ", "four"]

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Stepping)
        self.port, self.lock = self.server_address[1], threading.Condition()
        self.allowed, self.running, self.most = collections.Counter(), 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def go(self, name, steps=1):
        """Lets the streams that were asked for `name` say so many more words."""
        with self.lock:
            self.allowed[name] += steps
            self.lock.notify_all()

    def await_step(self, name, step):
        with self.lock:
            return self.lock.wait_for(lambda: self.allowed[name] >= step, STEP_SECONDS)

    def count(self, change):
        with self.lock:
            self.running += change
            self.most = max(self.most, self.running)
            self.lock.notify_all()

    def handle_error(self, request, client_address):
        pass  # clients that leave are part of the script


class Stepping(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = question["messages"][0]["content"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self.server.count(+1)
        try:
            for step, word in enumerate(self.server.words):
                if step and not self.server.await_step(name, step):
                    return
                self.event({"delta": {"content": word}, "finish_reason": None})
            self.event({"delta": {}, "finish_reason": "stop"})
            self.wfile.write(b"data: [DONE]\n\n")
        finally:
            self.server.count(-1)

    def event(self, choice):
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        event["choices"] = [{"index": 0, **choice}]
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def directory():
    """A directory that a server's workers may look into; kept when something fails."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringway-nginx-"))
    path.chmod(0o711)
    yield path
    if house.failed:
        print(f"   logs are in {path}")
    else:
        shutil.rmtree(path)
