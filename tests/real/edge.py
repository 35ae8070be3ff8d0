"""Real clients over TLS and HTTP/2: curl, httpx, OpenAI's and Anthropic's SDK, by every way a connection can begin; h2load for many
streams; WebSockets of the Realtime API; OCSP. Takes the program; curl with HTTP/2, h2load and openssl have to be installed. The demo's model server answers.
"""

import datetime
import hashlib
import json
import pathlib
import re
import signal
import ssl
import subprocess
import sys

import anthropic
import httpx
import httpx2
import msgpack
import openai
from google.protobuf import json_format, struct_pb2

import websockets
import websockets.sync.client

import front
import house
import sockets
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


def with_the_sdks(directory, ports):
    """OpenAI's, and Anthropic's, whose requests are translated for the backend."""
    context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    mutual = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    mutual.load_cert_chain(f"{directory}/client.pem", f"{directory}/client.key")
    for name, port, verify, http1, http2 in [
        ("HTTP/1.1 in plain text", "plain", True, True, False),
        ("HTTP/2 in plain text", "plain", True, False, True),
        ("HTTP/1.1 over TLS", "auto", context, True, False),
        ("HTTP/2 over TLS", "auto", context, True, True),
        ("HTTP/1.1 over mutual TLS", "mutual", mutual, True, False),
        ("HTTP/2 over mutual TLS", "mutual", mutual, True, True),
    ]:
        seen = set()
        note = {"response": [lambda response: seen.add(response.http_version)]}
        # Each SDK stands on one of two generations of the same library.
        openais, anthropics = (library.Client(http1=http1, http2=http2, verify=verify, event_hooks=note) for library in (httpx, httpx2))
        base = f"{'http' if port == 'plain' else 'https'}://localhost:{ports[port]}"
        with_openais(name, openai.OpenAI(base_url=f"{base}/v1", api_key="x", max_retries=0, timeout=30, http_client=openais))
        with_anthropics(name, anthropic.Anthropic(base_url=base, api_key="x", max_retries=0, timeout=30, http_client=anthropics))
        check(f"SDKs: {name}: what was spoken", seen == {"HTTP/2" if http2 else "HTTP/1.1"}, seen)


def with_openais(name, client):
    answer = client.chat.completions.create(**QUESTION)
    check(f"OpenAI's SDK: {name}: an answer", bool(answer.choices[0].message.content), answer)
    text = ""
    with client.chat.completions.create(**QUESTION, stream=True) as stream:
        for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    check(f"OpenAI's SDK: {name}: a stream", text == answer.choices[0].message.content, text)
    try:
        client.chat.completions.create(**{**QUESTION, "model": "nothing"})
        check(f"OpenAI's SDK: {name}: an error", False)
    except openai.NotFoundError as error:
        check(f"OpenAI's SDK: {name}: an error", error.code == "model_not_found", error.code)
    # A client that goes away in the middle, and the connection goes on.
    with client.chat.completions.create(**QUESTION, stream=True) as stream:
        next(iter(stream))
    check(f"OpenAI's SDK: {name}: the list of models", "demo" in [model.id for model in client.models.list()])


def said(message):
    return message.model_dump(exclude_none=True)


def with_anthropics(name, client):
    question = {**QUESTION, "max_tokens": 200}
    answer = client.messages.create(**question)
    text = "".join(block.text for block in answer.content if block.type == "text")
    check(f"Anthropic's SDK: {name}: an answer", bool(text) and answer.role == "assistant" and bool(answer.stop_reason), answer)
    with client.messages.stream(**question) as stream:
        streamed = "".join(stream.text_stream)
        whole = stream.get_final_message()
    check(f"Anthropic's SDK: {name}: a stream", streamed == text and whole.stop_reason == answer.stop_reason, whole)
    # One entry of the cache for both forms: what the SDK makes of the events is the message itself.
    check(f"Anthropic's SDK: {name}: a stream of a message", said(whole) == said(answer), (said(whole), said(answer)))
    other = {**question, "messages": [{"role": "user", "content": f"Hello, {name}"}]}
    with client.messages.stream(**other) as stream:
        whole = stream.get_final_message()
    answer = client.messages.with_raw_response.create(**other)
    check(f"Anthropic's SDK: {name}: a message of a stream", answer.headers["x-cache"] == "HIT" and said(answer.parse()) == said(whole),
          (answer.headers, said(whole)))
    models = client.models.list(limit=1)
    names = [model.id for model in models]
    check(f"Anthropic's SDK: {name}: models", QUESTION["model"] in names and len(set(names)) == len(names) and
          all(model.type == "model" and model.display_name == model.id for model in models.data), models)
    one = client.models.retrieve(QUESTION["model"])
    check(f"Anthropic's SDK: {name}: a model", one in models.data, one)
    try:
        client.models.retrieve("nothing")
        check(f"Anthropic's SDK: {name}: no such model", False)
    except anthropic.NotFoundError as error:
        check(f"Anthropic's SDK: {name}: no such model", error.body["error"]["type"] == "not_found_error", error.body)
    try:
        client.messages.create(**{**question, "model": "nothing"})
        check(f"Anthropic's SDK: {name}: an error", False)
    except anthropic.NotFoundError as error:
        check(f"Anthropic's SDK: {name}: an error", error.body["error"]["type"] == "not_found_error", error.body)
    with client.messages.create(**question, stream=True) as stream:
        next(iter(stream))
    check(f"Anthropic's SDK: {name}: the next one", bool(client.messages.create(**question).content))


def with_formats(directory, ports):
    """Other implementations of MessagePack and Protocol Buffers than the gateway's."""
    def struct(document):
        message = struct_pb2.Struct()
        message.update(document)
        return message.SerializeToString()

    def plain(bytes_):
        return json_format.MessageToDict(struct_pb2.Struct.FromString(bytes_))

    formats = [("application/msgpack", "application/vnd.msgpack", msgpack.packb, msgpack.unpackb),
               ("application/protobuf", "application/protobuf", struct, plain)]
    context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    for name, url, http2 in [("HTTP/1.1", f"http://localhost:{ports['plain']}", False),
                             ("HTTP/2 over TLS", f"https://localhost:{ports['auto']}", True)]:
        with httpx.Client(base_url=url, http2=http2, verify=context, timeout=30) as client:
            expected = client.post("/v1/chat/completions", json=QUESTION).json()
            for media_type, answered, write, read in formats:
                kind = {"content-type": media_type, "accept": media_type}
                answer = client.post("/v1/chat/completions", content=write(QUESTION), headers=kind)
                check(f"{media_type} over {name}: the answer", read(answer.content) == expected, answer.content)
                check(f"{media_type} over {name}: its type", answer.headers["content-type"] == answered)
                check(f"{media_type} over {name}: from the same cache", answer.headers["x-cache"] == "HIT", answer.headers)
                refused = client.post("/v1/chat/completions", content=write({**QUESTION, "model": "nothing"}), headers=kind)
                check(f"{media_type} over {name}: an error",
                      refused.status_code == 404 and read(refused.content)["error"]["code"] == "model_not_found", refused.content)
                models = client.get("/v1/models", headers={"accept": media_type})
                check(f"{media_type} over {name}: the models", "demo" in [model["id"] for model in read(models.content)["data"]])


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


def with_sslyze(certificates, directory):
    """Mozilla's intermediate profile, protocol bugs of other programs' past included, as a scanner sees the listener. The
    certificate is as a public one would be: short-lived, and signed by who is trusted.
    """
    day = datetime.timedelta(days=1)
    begin, end = ((datetime.datetime.now(datetime.timezone.utc) + days).strftime("%Y%m%d%H%M%SZ") for days in (-day, 90 * day))
    certificates.sign("public", "localhost", begin, end)
    port = house.free_port()
    listener = f'[[listener]]\naddress = "127.0.0.1:{port}"\ntls_cert = "{directory}/public.pem"\ntls_key = "{directory}/public.key"\n'
    gateway = house.Gateway(PROGRAM, [{"name": "b", "url": "http://127.0.0.1:9"}], [{"name": "m", "backends": ["b"]}], more=listener)
    result = subprocess.run([sys.executable, "-m", "sslyze", "--mozilla_config", "intermediate", "--certinfo_ca_file",
                             f"{directory}/ca.pem", f"localhost:{port}"], capture_output=True, text=True)
    said = result.stdout.partition("COMPLIANCE AGAINST")[2]
    good = result.returncode == 0 and f"localhost:{port}: OK - Compliant." in said
    check("sslyze: Mozilla's intermediate profile", good, said + result.stderr)
    for what in ("OK - Not vulnerable to OpenSSL CCS injection", "OK - Not vulnerable to Heartbleed", "OK - Compression disabled"):
        check(f"sslyze: {what}", what in result.stdout, result.stdout)
    gateway.stop()


def with_openssl(certificates, directory):
    """A stapled OCSP response, renewed and refused; and a certificate that names a tenant."""
    certificates.sign("stapled", "localhost")
    certificates.staple("stapled", 2)
    port, mutual = house.free_port(), house.free_port()
    own = [f'tls_cert = "{directory}/stapled.pem"', f'tls_key = "{directory}/stapled.key"', f'tls_ocsp = "{directory}/stapled.ocsp"']
    more = "\n".join(["[[listener]]", f'address = "127.0.0.1:{port}"', *own, "[[listener]]", f'address = "127.0.0.1:{mutual}"', *own,
                      f'tls_client_ca = "{directory}/ca.pem"', "[[tenant]]", 'name = "t"', 'client_certificates = ["DNS:client.test"]', ""])
    gateway = house.Gateway(PROGRAM, [{"name": "b", "url": "http://127.0.0.1:9"}], [{"name": "m", "backends": ["b"]}], more=more)

    def said(*options):
        result = subprocess.run(["openssl", "s_client", "-status", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile",
                                 f"{directory}/ca.pem", "-verify_return_error", *options],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return result.stdout + result.stderr

    def until():
        return re.search(r"Next Update: (.*)", said())[1]

    for version in ("-tls1_2", "-tls1_3"):
        got = said(version)
        good = all(word in got for word in ("OCSP Response Status: successful", "Cert Status: good", "Verification: OK"))
        check(f"openssl: a response is stapled with {version[1:]}", good, got)
    before = until()
    certificates.staple("stapled", 3)
    gateway.kill(signal.SIGHUP)
    front.until("openssl: a reload staples a new response", lambda: until() != before)
    after = until()
    certificates.revoke("stapled")
    certificates.staple("stapled", 4)
    front.until("openssl: a response that says that it is revoked is seen and refused", lambda: "is revoked" in gateway.words())
    check("openssl: the good one stays", until() == after)
    models = f"https://localhost:{mutual}/v1/models"
    own = ["--cacert", f"{directory}/ca.pem", "--cert", f"{directory}/client.pem", "--key", f"{directory}/client.key"]
    for version in ("--http1.1", "--http2"):
        status, answer, why = curl(version, *own, models)
        check(f"curl: a certificate is a tenant's key with {version[2:]}", status == 0 and '"m"' in answer, answer + why)
    _, answer, _ = curl(*own, "-H", "authorization: Bearer wrong", models)
    check("curl: a wrong key is not made good by it", "invalid_api_key" in answer, answer)
    gateway.stop()


KEY = "sk-edge"


def with_websockets(directory):
    """The Realtime API by the SDK, and plain WebSockets of every kind, to backends in plain text and with TLS."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(f"{directory}/own.pem", f"{directory}/own.key")
    ports = {name: house.free_port() for name in ("plain", "secure", "tls")}
    plain, secure = sockets.Realtime(ports["plain"]), sockets.Realtime(ports["secure"], served)
    backends = [{"name": "plain", "url": f"http://127.0.0.1:{ports['plain']}", "api_key": "sk-upstream"},
                {"name": "secure", "url": f"https://localhost:{ports['secure']}", "tls_ca": f"{directory}/ca.pem"}]
    models = [{"name": "plain", "backends": [{"backend": "plain", "model": "real/name"}]},
              {"name": "secure", "backends": ["secure"]},
              {"name": "none", "backends": [{"backend": "plain", "model": "nothing"}]}]
    tenant = f'[[tenant]]\nname = "t"\nkeys = ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]\n'
    listener = "\n".join(["[[listener]]", f'address = "127.0.0.1:{ports["tls"]}"', f'tls_cert = "{directory}/own.pem"',
                          f'tls_key = "{directory}/own.key"', ""])
    gateway = house.Gateway(PROGRAM, backends, models, more=listener + tenant)
    trusted = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    for name, port, options in [("plain", gateway.port, {}), ("TLS", ports["tls"], {"ssl": trusted})]:
        scheme = "https" if options else "http"
        client = openai.OpenAI(base_url=f"{scheme}://localhost:{port}/v1", api_key=KEY, max_retries=0)
        for model in ("plain", "secure"):
            seen = []
            with client.realtime.connect(model=model, websocket_connection_options=dict(options)) as session:
                seen.append(session.recv().type)
                session.session.update(session={"type": "realtime", "instructions": "Talk"})
                seen.append(session.recv().type)
                session.response.create()
                seen.append(session.recv().type)
            check(f"Realtime API of the SDK by {name} to {model}", seen == ["session.created", "session.updated",
                                                                            "response.done"], seen)
        try:
            with client.realtime.connect(model="none", websocket_connection_options=dict(options)):
                check(f"a refusal of the backend by {name}", False)
        except Exception as error:
            check(f"a refusal of the backend by {name}", "404" in str(error), error)
        # As a page does it, which can set no field; with compression, and messages in many frames.
        scheme = "wss" if options else "ws"
        protocols = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]
        with websockets.sync.client.connect(f"{scheme}://localhost:{port}/v1/realtime?model=plain", subprotocols=protocols,
                                            max_size=None, **options) as socket:
            check(f"as a page by {name}: the protocol is agreed on", socket.subprotocol == "realtime", socket.subprotocol)
            check(f"as a page by {name}: a session", json.loads(socket.recv())["type"] == "session.created")
            large = bytes(range(256)) * (8 << 10)
            socket.send([large[start:start + 100_000] for start in range(0, len(large), 100_000)])
            check(f"as a page by {name}: two mebibytes there and back", socket.recv() == large)
            check(f"as a page by {name}: a ping is answered", socket.ping().wait(30))
            socket.close(4001, "enough")
        front.until("the backend sees how it was closed", lambda: (4001, "enough") in plain.closed)
        plain.closed.clear()
    paths, heads = zip(*plain.opened)
    check("the model has its backend's name", set(paths) == {"/v1/realtime?model=real%2Fname"}, paths)
    check("the client's key stays here", not any(KEY in json.dumps(head) for head in heads), heads)
    check("the backend's own key goes there", all(head["authorization"] == "Bearer sk-upstream" for head in heads), heads)
    check("the TLS backend was reached", len(secure.opened) == 2, secure.opened)
    gateway.stop()


def main():
    with front.directory() as directory:
        certificates = front.Certificates(directory)
        certificates.sign("own", "localhost")
        certificates.sign("client", "client.test")
        port = house.free_port()
        house.Process([PROGRAM, "demo", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{house.free_port()}"],
                      port, "/livez", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ports = {name: house.free_port() for name in ("auto", "http1", "mutual", "clear2")}
        gateway = house.Gateway(PROGRAM, [{"name": "b", "url": f"http://127.0.0.1:{port}", "api": "openai"}],
                                [{"name": "demo", "backends": ["b"]}], cache="enabled = true",
                                more=listeners(pathlib.Path(directory), ports))
        ports["plain"] = gateway.port
        with_curl(directory, ports)
        with_the_sdks(directory, ports)
        with_formats(directory, ports)
        with_h2load(directory, ports)
        with_websockets(directory)
        with_openssl(certificates, directory)
        with_sslyze(certificates, directory)
        gateway.kill(signal.SIGTERM)
        check("it ends well", gateway.child.wait(house.END_SECONDS) == 0, gateway.words())
    house.verdict()


main()
