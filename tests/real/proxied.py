"""nginx with HTTP/2 and TLS as the backend: many streams on few connections, sessions resumed, reloads under load, and
certificates that do not fit. Takes the two programs; nginx and openssl have to be installed.
"""

import collections
import concurrent.futures
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import openai

import house
from house import check

PROGRAM, LLMOCK = sys.argv[1:3]
DIRECTORY = pathlib.Path(tempfile.mkdtemp(prefix="ringway-nginx-"))


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=DIRECTORY, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def authority(name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")


def certificate(name, names, signer, days="2"):
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    (DIRECTORY / f"{name}.ext").write_text(f"subjectAltName={names}\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", days, "-extfile", f"{name}.ext")


authority("ca")
authority("stranger")
certificate("server", "DNS:llm.test", "ca")
certificate("client", "DNS:gateway.test", "ca")

mock_port = house.free_port()
house.Process([LLMOCK, "serve", "--port", str(mock_port), "--log-level", "error", "--stream-chunk-delay-ms", "20", "--response-style", "varied"],
              mock_port, "/health", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
ports = {name: house.free_port() for name in ("h2", "h1", "plain", "mutual")}
tls = f"ssl_certificate {DIRECTORY}/server.pem; ssl_certificate_key {DIRECTORY}/server.key; ssl_session_cache shared:x:1m;"
proxy = f"location / {{ proxy_pass http://127.0.0.1:{mock_port}; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; proxy_read_timeout 30s; }}"
(DIRECTORY / "nginx.conf").write_text(f"""
pid {DIRECTORY}/pid; error_log {DIRECTORY}/error.log; worker_processes 1; daemon off;
events {{ worker_connections 2048; }}
http {{
    log_format facts '$server_port $server_protocol $ssl_protocol $ssl_session_reused $connection $status $request_uri';
    access_log {DIRECTORY}/access.log facts;
    keepalive_timeout 2s; http2_max_concurrent_streams 128;
    client_body_temp_path {DIRECTORY}/body; proxy_temp_path {DIRECTORY}/proxy; fastcgi_temp_path {DIRECTORY}/f; uwsgi_temp_path {DIRECTORY}/u; scgi_temp_path {DIRECTORY}/s;
    upstream mock {{ server 127.0.0.1:{mock_port}; keepalive 64; }}
    server {{ listen 127.0.0.1:{ports['h2']} ssl http2; {tls} {proxy} }}
    server {{ listen 127.0.0.1:{ports['h1']} ssl; {tls} {proxy} }}
    server {{ listen 127.0.0.1:{ports['plain']} http2; {proxy} }}
    server {{ listen 127.0.0.1:{ports['mutual']} ssl http2; {tls} ssl_client_certificate {DIRECTORY}/ca.pem; ssl_verify_client on; {proxy} }}
}}
""")
nginx = subprocess.Popen(["nginx", "-c", str(DIRECTORY / "nginx.conf"), "-p", str(DIRECTORY)], stderr=subprocess.DEVNULL)
time.sleep(0.5)


def lines(port):
    """What nginx logged for a port: protocol, TLS version, resumed or not, connection, status."""
    rows = [line.split() for line in (DIRECTORY / "access.log").read_text().splitlines()]
    return [row[1:6] for row in rows if row[0] == str(ports[port]) and row[6].startswith("/v1/")]


backend = {"tls_name": "llm.test", "tls_ca": f"{DIRECTORY}/ca.pem", "health_interval": "0s", "connections_min": 0, "timeout_idle": "1s"}
gateway = house.Gateway(
    PROGRAM,
    [
        {"name": "h2", "url": f"https://127.0.0.1:{ports['h2']}", **backend},
        {"name": "h1", "url": f"https://127.0.0.1:{ports['h1']}", **backend},
        {"name": "forced", "url": f"https://127.0.0.1:{ports['h2']}", "protocol": "http1", **backend},
        {"name": "plain", "url": f"http://127.0.0.1:{ports['plain']}", "protocol": "http2", "health_interval": "0s"},
        {"name": "mutual", "url": f"https://127.0.0.1:{ports['mutual']}", "tls_cert": f"{DIRECTORY}/client.pem", "tls_key": f"{DIRECTORY}/client.key", **backend},
        {"name": "stranger", "url": f"https://127.0.0.1:{ports['h2']}", **{**backend, "tls_ca": f"{DIRECTORY}/stranger.pem"}},
        {"name": "misnamed", "url": f"https://127.0.0.1:{ports['h2']}", **{**backend, "tls_name": "other.test"}},
        {"name": "unproven", "url": f"https://127.0.0.1:{ports['mutual']}", **backend},
    ],
    [{"name": name, "backends": [name], "in_flight_max": 1000, "retries": 3}
     for name in ("h2", "h1", "forced", "plain", "mutual", "stranger", "misnamed", "unproven")],
)
client = openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0, timeout=30)
number, lock = 0, threading.Lock()


def streamed(model):
    """Whether a stream of its own came whole; an error's code otherwise."""
    global number
    with lock:
        number += 1
        question = [{"role": "user", "content": f"question {number}"}]
    text, finished = "", False
    try:
        for event in client.chat.completions.create(model=model, messages=question, stream=True):
            for choice in event.choices:
                text += choice.delta.content or ""
                finished = finished or bool(choice.finish_reason)
    except openai.APIStatusError as error:
        return error.code
    except openai.APIError as error:
        return repr(error)
    return finished and bool(text)


def many(model, count, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return collections.Counter(pool.map(lambda _: streamed(model), range(count)))


try:
    for model in ("h2", "plain"):
        outcomes = many(model, 200, 100)
        check(f"{model}: 200 streams, 100 at a time, come whole", outcomes == {True: 200}, outcomes)
        rows = lines(model)
        connections = {row[3] for row in rows}
        check(f"{model}: all by HTTP/2", len(rows) == 200 and {row[0] for row in rows} == {"HTTP/2.0"}, rows[:2])
        # Two data cores, each with its own.
        check(f"{model}: on few connections", len(connections) <= 4, len(connections))
        print(f"   {len(connections)} connections")
    for model, port in (("h1", "h1"), ("forced", "h2")):
        before = len(lines(port))
        outcomes = many(model, 40, 20)
        check(f"{model}: streams over TLS and HTTP/1.1 come whole", outcomes == {True: 40}, outcomes)
        rows = lines(port)[before:]
        check(f"{model}: all by HTTP/1.1", {row[0] for row in rows} == {"HTTP/1.1"}, rows[:2])
        check(f"{model}: connections are used again", len({row[3] for row in rows}) < 40, len(rows))
    # Connections go when they are idle; their sessions stay.
    for model in ("h2", "h1"):
        time.sleep(3)
        before = len(lines(model))
        outcomes = many(model, 8, 4)
        rows = lines(model)[before:]
        check(f"{model}: sessions are resumed", outcomes == {True: 8} and all(row[2] == "r" for row in rows), rows)

    stop = time.monotonic() + 6
    outcomes, reloads = collections.Counter(), 0

    def keep_asking(_):
        while time.monotonic() < stop:
            outcome = streamed("h2")
            with lock:
                outcomes[outcome] += 1

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(keep_asking, place) for place in range(50)]
        while time.monotonic() < stop - 1:
            time.sleep(0.5)
            nginx.send_signal(signal.SIGHUP)
            reloads += 1
        [task.result() for task in asking]
    print(f"   {outcomes[True]} streams over {reloads} reloads")
    check("reloads under load (GOAWAY) cost nobody an answer", set(outcomes) == {True} and reloads >= 8, outcomes)

    check("a client certificate is shown where it is asked for", streamed("mutual") is True)
    for model, words in (("stranger", "leads to no authority"), ("misnamed", "not for `other.test` but for"), ("unproven", None)):
        outcome = streamed(model)
        expected = ("backend_insecure",) if words else ("backend_insecure", "backend_closed", "400", None)
        check(f"{model}: no request goes out over it", outcome in expected, outcome)
        if words:
            check(f"{model}: the log says which", words in gateway.words(), gateway.words())
    print("   " + "\n   ".join(line for line in gateway.words().splitlines() if "secure" in line))
    gateway.stop()
finally:
    nginx.terminate()
    nginx.wait()
    house.kill_all()
house.verdict()
