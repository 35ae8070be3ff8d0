"""HAProxy, nginx and Envoy with the configurations of deploy/ in front of two nodes: they answer, stream event by event, and
pass over a node that stops or dies; they pass WebSockets on and say whose requests they are. Takes the program and, if it is there,
Envoy; wants the Python package websockets.

The configurations run as they are shipped, but for addresses and paths. The system calls of the container profile are those
that the program gets, by libseccomp where its Python binding is installed.
"""

import concurrent.futures
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

import websockets.sync.client

import front
import sockets
from house import Gateway, Process, ask, check, directories, free_port, run, verdict

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
ENVOY = sys.argv[2] if len(sys.argv) > 2 and pathlib.Path(sys.argv[2]).exists() else None
CHAT = "/v1/chat/completions"
CLIENTS = 8
CLIENT = "127.0.0.7"  # where a client comes from

directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-balanced-"))
directory.chmod(0o755)
directories.append(directory)
certificates = front.Certificates(directory)
certificates.sign("ringway", "localhost")
(directory / "both.pem").write_text((directory / "ringway.pem").read_text() + (directory / "ringway.key").read_text())
for file in directory.glob("*.key"):
    file.chmod(0o644)
steps = front.Steps()


class Demo(Process):
    """`ringway demo`: a gateway and the embedded backend."""

    def __init__(self):
        port = free_port()
        super().__init__([PROGRAM, "demo", "--listen", f"127.0.0.1:{port}", "--cores", "1"], port, "/readyz",
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def node():
    """A gateway in front of the backend that takes one step at a time."""
    backend = {"name": "steps", "url": f"http://127.0.0.1:{steps.port}", "connections_min": 0, "health_interval": "0s"}
    return Gateway(PROGRAM, [backend], [{"name": "steps", "backends": ["steps"]}], cores=1, more='[admin]\nlisten = "off"\n')


def replaced(text, pairs):
    for old, new in pairs:
        if old not in text:
            raise RuntimeError(f"{old!r} is not in the file any more")
        text = text.replace(old, new)
    return text


def said(name):
    out = open(directory / f"{name}.said", "w")
    return {"stdout": out, "stderr": out}


def checked(name, *command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    output = done.stdout + done.stderr
    check(f"{name} finds nothing wrong with its file", done.returncode == 0 and "[WARNING]" not in output, output[-2000:])


def haproxy(nodes):
    port, metrics = free_port(), free_port()
    text = replaced((DEPLOY / "haproxy/haproxy.cfg").read_text(), [
        ("/etc/haproxy/ringway.pem", f"{directory}/both.pem"), ("/run/haproxy/", f"{directory}/"),
        ("mode 660 level", "mode 600 level"), ("maxconn 100000", "maxconn 1000"), ("log /dev/log local0", "log stdout format raw local0")])
    file = directory / "haproxy.cfg"
    file.write_text(text)
    checked("haproxy -c", "haproxy", "-c", "-f", file)
    file.write_text(replaced(text, [
        (f"bind :443 ssl crt {directory}/both.pem alpn h2,http/1.1", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8404", f"127.0.0.1:{metrics}"), ("server node3 10.0.0.13:8080\n", "\n"),
        ("10.0.0.11:8080", f"127.0.0.1:{nodes[0].port}"), ("10.0.0.12:8080", f"127.0.0.1:{nodes[1].port}")]))
    return Process(["haproxy", "-db", "-f", file], port, "/readyz", **said("haproxy"))


def nginx(nodes):
    port = free_port()
    text = replaced((DEPLOY / "nginx/ringway.conf").read_text(), [
        ("/etc/nginx/ringway.pem", f"{directory}/ringway.pem"), ("/etc/nginx/ringway.key", f"{directory}/ringway.key")])
    temporary = "".join(f"{kind}_temp_path {directory}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = directory / "nginx.conf"
    main.write_text(f"pid {directory}/nginx.pid; error_log {directory}/error.log; daemon off; worker_processes 1;\n"
                    f"events {{ worker_connections 1024; }}\nhttp {{ {temporary} access_log off; include {directory}/ringway.conf; }}\n")
    command = ["nginx", "-c", str(main), "-p", str(directory)]
    (directory / "ringway.conf").write_text(replaced(text, [("listen 443", f"listen 127.0.0.1:{free_port()}")]))
    checked("nginx -t", *command, "-t")
    server = "server 10.0.0.13:8080 max_fails=2 fail_timeout=5s;\n"
    (directory / "ringway.conf").write_text(replaced(text, [
        ("listen 443 ssl http2", f"listen 127.0.0.1:{port}"), (server, "\n"),
        ("10.0.0.11:8080", f"127.0.0.1:{nodes[0].port}"), ("10.0.0.12:8080", f"127.0.0.1:{nodes[1].port}")]))
    return Process(command, port, "/readyz", **said("nginx"))


def envoy(nodes):
    port = free_port()
    text = replaced((DEPLOY / "envoy/envoy.yaml").read_text(), [
        ("/etc/envoy/ringway.pem", f"{directory}/ringway.pem"), ("/etc/envoy/ringway.key", f"{directory}/ringway.key")])
    file = directory / "envoy.yaml"
    file.write_text(text)
    checked("envoy --mode validate", ENVOY, "--mode", "validate", "-c", file)
    # Without the certificate, on ports of our own.
    before, rest = text.split("        - transport_socket:", 1)
    text = before + "        - filters:" + rest.split("          filters:", 1)[1]
    third = "              - endpoint: { address: { socket_address: { address: 10.0.0.13, port_value: 8080 } } }"
    file.write_text(replaced(text, [
        ("address: 0.0.0.0, port_value: 443", f"address: 127.0.0.1, port_value: {port}"), (third, ""),
        ("port_value: 9902", f"port_value: {free_port()}"),
        ("address: 10.0.0.11, port_value: 8080", f"address: 127.0.0.1, port_value: {nodes[0].port}"),
        ("address: 10.0.0.12, port_value: 8080", f"address: 127.0.0.1, port_value: {nodes[1].port}")]))
    return Process([ENVOY, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"], port, "/readyz", **said("envoy"))


def question(model, text, **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def answers_and_survives(make, stops):
    """Both nodes of `ringway demo` answer; one stops or dies in the middle of requests, which go to the other."""
    nodes = [Demo(), Demo()]
    proxy = make(nodes)
    stopped, results = threading.Event(), []

    def client(number):
        mine = []
        while not stopped.is_set() or len(mine) < 40:
            text = f"question {number}-{len(mine)}"
            status, _, body = ask(proxy.port, "POST", CHAT, question("demo-fast", text))
            mine.append((status, json.loads(body)["object"] if status == 200 else body))
        return mine

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        front.until("the nodes have answered", lambda: ask(proxy.port, "GET", "/v1/models")[0] == 200)
        if stops:
            nodes[0].kill(signal.SIGTERM)
            nodes[0].child.wait(60)
        stopped.set()
        for done in clients:
            results += done.result()
    wrong = [result for result in results if result != (200, "chat.completion")]
    # A node that stops closes connections that the proxy keeps, and a POST that is on its way there is not sent again.
    check(f"all of {len(results)} requests were answered, or one of each kept connection was not",
          len(wrong) <= (CLIENTS if stops else 0), wrong)
    if not stops:
        nodes[0].kill()  # what was on its way, and on connections whose end is not noticed yet, is lost with it
        after = lambda: [ask(proxy.port, "POST", CHAT, question("demo-fast", f"after {number}"))[0] for number in range(10)]
        front.until("a dead node is passed over", lambda: after() == [200] * 10)
    for process in (proxy, *nodes):
        process.kill()


def streams_event_by_event(make):
    nodes = [node(), node()]
    proxy = make(nodes)
    name = f"{make.__name__}"
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    body = json.dumps(question("steps", name, stream=True))
    connection.request("POST", CHAT, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    words = []
    while True:
        line = answer.readline()
        if not line or line == b"data: [DONE]\n":
            break
        if not line.startswith(b"data: "):
            continue
        choice = json.loads(line[6:])["choices"]
        if choice and choice[0]["delta"].get("content"):
            # The backend says the next word only now: a proxy that held this one back would wait for ever.
            words.append(choice[0]["delta"]["content"])
            steps.go(name)
    check("each event arrives before the next one is made", words == steps.words, words)
    connection.close()
    proxy.kill()
    for gateway in nodes:
        gateway.stop()


def the_client_is_known_and_websockets_open(make):
    backend = free_port()
    realtime = sockets.Realtime(backend)
    table = {"name": "live", "url": f"http://127.0.0.1:{backend}", "connections_min": 0, "health_interval": "0s"}
    log = directory / f"{make.__name__}.log"
    more = f'[admin]\nlisten = "off"\n[log]\naccess = "{log}"\n'
    nodes = [Gateway(PROGRAM, [table], [{"name": "live", "backends": ["live"]}], cores=1,
                     server='trusted_proxies = ["127.0.0.1"]', more=more) for _ in range(2)]
    proxy = make(nodes)
    with websockets.sync.client.connect(f"ws://127.0.0.1:{proxy.port}/v1/realtime?model=live", source_address=(CLIENT, 0),
                                        additional_headers={"x-forwarded-for": "192.0.2.1"}, proxy=None) as socket:
        created = json.loads(socket.recv(30))
        socket.send(b"as it is")
        check(f"a WebSocket through {make.__name__}", created["type"] == "session.created" and socket.recv(30) == b"as it is")
    lines = lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    sessions = lambda: [line for line in lines() if line["path"] == "/v1/realtime"]
    front.until("the session is in the log", sessions)
    found = [(line["status"], line["client"]) for line in sessions()]
    check("with the address of the client", found == [(101, CLIENT)] and len(realtime.opened) == 1, found)
    proxy.kill()
    for gateway in nodes:
        gateway.stop()


def proxies():
    return [haproxy, nginx] + ([envoy] if ENVOY else [])


def answers():
    for make in proxies():
        answers_and_survives(make, stops=False)


def a_node_stops():
    for make in proxies():
        answers_and_survives(make, stops=True)


def streams():
    for make in proxies():
        streams_event_by_event(make)


def websockets_and_addresses():
    for make in proxies():
        the_client_is_known_and_websockets_open(make)


def prometheus_reads_its_file():
    checked("promtool", "promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus/prometheus.yml")


def the_container_profile_lets_the_program_serve():
    runner = pathlib.Path(__file__).with_name("confined.py")
    python = "/usr/bin/python3"  # Debian's, which has the binding
    if subprocess.run([python, "-c", "import seccomp"], capture_output=True).returncode:
        print("   not checked: python3-seccomp is not installed")
        return
    profile = DEPLOY / "docker/seccomp.json"
    port = free_port()
    command = [python, runner, profile]
    demo = Process([*command, PROGRAM, "demo", "--listen", f"127.0.0.1:{port}", "--cores", "1"], port, "/readyz", **said("confined"))
    status, _, _ = ask(port, "POST", CHAT, question("demo-fast", "hello"))
    check("an answer under the profile", status == 200, status)
    demo.kill(signal.SIGTERM)
    check("and a good end", demo.child.wait(60) == 0)
    refused = subprocess.run([*command, "unshare", "--user", "true"], capture_output=True, text=True, timeout=30)
    check("no new namespaces under it", refused.returncode != 0 and "not permitted" in refused.stderr, refused.stderr)


run([prometheus_reads_its_file, the_container_profile_lets_the_program_serve, answers, a_node_stops, streams, websockets_and_addresses], sys.argv[3:])
verdict()
