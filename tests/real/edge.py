"""Real clients over TLS and HTTP/2: curl, httpx and the OpenAI SDK, by every way a connection can begin; h2load for many
streams. Takes the program; curl with HTTP/2, h2load and openssl have to be installed. The demo's model server answers.
"""

import json
import pathlib
import re
import signal
import ssl
import subprocess
import sys

import httpx
import openai

import front
import house
from house import check

PROGRAM = sys.argv[1]
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "Hello, edge"}]}


def listeners(directory, ports):
    def table(port, *lines):
        return "\n".join(["[[listener]]", f'address = "127.0.0.1:{port}"', *lines, ""])

    own = [f'tls_cert = "{directory}/own.pem"', f'tls_key = "{directory}/own.key"']
    return "".join([
        table(ports["auto"], *own),
        table(ports["http1"], *own, 'protocol = "http1"'),
        table(ports["mutual"], *own, f'tls_client_ca = "{directory}/ca.pem"'),
        table(ports["clear2"], 'protocol = "http2"'),
    ])


def curl(*arguments):
    result = subprocess.run(["curl", "--silent", "--show-error", "--max-time", "30", *arguments],
                            capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


def with_curl(directory, ports):
    trusted = ["--cacert", f"{directory}/ca.pem"]
    body = ["-H", "content-type: application/json", "-d", json.dumps(QUESTION), "-o", "/dev/null"]
    told = ["-w", "%{http_version} %{http_code}"]
    for name, port, options, expected in [
        ("by ALPN", "auto", ["--http2"], "2 200"),
        ("HTTP/1.1 by choice", "auto", ["--http1.1"], "1.1 200"),
        ("TLS 1.2", "auto", ["--http2", "--tls-max", "1.2"], "2 200"),
        ("TLS 1.3", "auto", ["--http2", "--tlsv1.3"], "2 200"),
        ("a listener without HTTP/2", "http1", ["--http2"], "1.1 200"),
        ("a client certificate", "mutual", ["--http2", "--cert", f"{directory}/client.pem", "--key",
                                            f"{directory}/client.key"], "2 200"),
    ]:
        got = curl(*options, *trusted, *body, *told, f"https://localhost:{ports[port]}/v1/chat/completions")
        check(f"curl: {name}", got[:2] == (0, expected), got)
    for name, port, options, expected in [
        ("prior knowledge", "plain", ["--http2-prior-knowledge"], "2 200"),
        ("prior knowledge where nothing else is spoken", "clear2", ["--http2-prior-knowledge"], "2 200"),
        ("an h2c upgrade is ignored", "plain", ["--http2"], "1.1 200"),
    ]:
        got = curl(*options, *body, *told, f"http://localhost:{ports[port]}/v1/chat/completions")
        check(f"curl: {name}", got[:2] == (0, expected), got)
    status, _, why = curl(*trusted, f"https://localhost:{ports['mutual']}/v1/models")
    # The alert, unless the reset behind it is faster, for the client is still sending: curl then says what it noticed first.
    check("curl: without a client certificate", status != 0, why)
    status, _, why = curl(*trusted, "--tls-max", "1.1", f"https://localhost:{ports['auto']}/v1/models")
    check("curl: TLS 1.1 is refused", status != 0, why)


def with_the_sdk(directory, ports):
    context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    mutual = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    mutual.load_cert_chain(f"{directory}/client.pem", f"{directory}/client.key")
    for name, port, verify, http1, http2 in [
        ("HTTP/2 over TLS", "auto", context, True, True),
        ("HTTP/1.1 over TLS", "auto", context, True, False),
        ("mutual TLS", "mutual", mutual, True, True),
        ("HTTP/2 in plain text", "plain", True, False, True),
    ]:
        seen = set()
        transport = httpx.Client(http1=http1, http2=http2, verify=verify,
                                 event_hooks={"response": [lambda response: seen.add(response.http_version)]})
        scheme = "http" if port == "plain" else "https"
        client = openai.OpenAI(base_url=f"{scheme}://localhost:{ports[port]}/v1", api_key="x", max_retries=0,
                               timeout=30, http_client=transport)
        answer = client.chat.completions.create(**QUESTION)
        check(f"SDK: {name}: an answer", bool(answer.choices[0].message.content), answer)
        text = ""
        with client.chat.completions.create(**QUESTION, stream=True) as stream:
            for chunk in stream:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        check(f"SDK: {name}: a stream", bool(text))
        try:
            client.chat.completions.create(**{**QUESTION, "model": "nothing"})
            check(f"SDK: {name}: an error", False)
        except openai.NotFoundError as error:
            check(f"SDK: {name}: an error", error.code == "model_not_found", error.code)
        # A client that goes away in the middle, and the connection goes on.
        with client.chat.completions.create(**QUESTION, stream=True) as stream:
            next(iter(stream))
        check(f"SDK: {name}: the list of models", "demo" in [model.id for model in client.models.list()])
        check(f"SDK: {name}: what was spoken", seen == {"HTTP/2" if http2 else "HTTP/1.1"}, seen)


def with_h2load(directory, ports):
    body = directory / "question.json"
    body.write_text(json.dumps(QUESTION))
    for scheme, port in [("http", "plain"), ("https", "auto")]:
        result = subprocess.run(["h2load", "-n", "5000", "-c", "10", "-m", "50", "-d", str(body), "-H",
                                 "content-type: application/json",
                                 f"{scheme}://localhost:{ports[port]}/v1/chat/completions"],
                                capture_output=True, text=True)
        found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", result.stdout)
        good = found is not None and found.groups() == ("5000", "5000", "0", "0")
        check(f"h2load: {scheme}: every request is answered", good, result.stdout + result.stderr)


def main():
    with front.directory() as directory:
        certificates = front.Certificates(directory)
        certificates.sign("own", "localhost")
        certificates.sign("client", "client.test")
        port = house.free_port()
        house.Process([PROGRAM, "demo", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{house.free_port()}"],
                      port, "/livez", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ports = {name: house.free_port() for name in ("auto", "http1", "mutual", "clear2")}
        gateway = house.Gateway(PROGRAM, [{"name": "b", "url": f"http://127.0.0.1:{port}"}],
                                [{"name": "demo", "backends": ["b"]}], cache="enabled = true",
                                more=listeners(pathlib.Path(directory), ports))
        ports["plain"] = gateway.port
        with_curl(directory, ports)
        with_the_sdk(directory, ports)
        with_h2load(directory, ports)
        gateway.kill(signal.SIGTERM)
        check("it ends well", gateway.child.wait(house.END_SECONDS) == 0, gateway.words())
    house.verdict()


main()
