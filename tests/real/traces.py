"""A receiver of spans on OpenTelemetry's own schema (opentelemetry-proto) and gRPC's own server: what it gets over OTLP/HTTP and
OTLP/gRPC, in plain text and over TLS, and what the gateway does when it is slow, sick or gone.

    traces.py RINGWAY [SCENARIO...]
"""

import concurrent.futures
import http.server
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

# What is forked here becomes another program at once: gRPC's own handlers of forks only get in its way.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

import house
from house import ask, check

PROGRAM = sys.argv[1]
PATIENCE = 30
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Kind, Code = trace_pb2.Span.SpanKind, trace_pb2.Status.StatusCode


held = threading.Event()


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(200, "{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][0]["content"]
        if text == "held":
            held.wait(PATIENCE)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        answer = {"id": "chatcmpl-of-the-house", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        self.reply(200, json.dumps(answer))

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


def serve(handler):
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


backend_port = serve(Backend)


class Receiver:
    """What both receivers share: the batches that came, and what the next ones are answered."""

    def __init__(self):
        self.batches, self.answers, self.resume = queue.Queue(), queue.SimpleQueue(), threading.Event()

    def next_answer(self):
        try:
            answer = self.answers.get_nowait()
        except queue.Empty:
            return None
        if answer == "hang":
            self.resume.wait(PATIENCE)
            return None
        return answer

    def spans(self, count):
        """So many spans, and what they came with."""
        found, deadline = [], time.monotonic() + PATIENCE
        while len(found) < count:
            request, fields = self.batches.get(timeout=max(0.1, deadline - time.monotonic()))
            for of_resource in request.resource_spans:
                resource = {item.key: item.value.string_value for item in of_resource.resource.attributes}
                for scope in of_resource.scope_spans:
                    found += [(span, resource, scope.scope, fields) for span in scope.spans]
        return found


class Http(Receiver):
    def __init__(self):
        super().__init__()
        receiver = self

        class Handler(Backend):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = receiver.next_answer()
                if answer is not None:
                    return self.reply(answer, "{}")
                request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                receiver.batches.put((request, dict(self.headers)))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

        self.endpoint, self.protocol, self.more = f"http://127.0.0.1:{serve(Handler)}", "http", ""


class Grpc(Receiver, trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, secure=None):
        super().__init__()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.protocol, self.more = "grpc", ""
        if secure is None:
            self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        else:
            credentials = grpc.ssl_server_credentials([(secure.key.read_bytes(), secure.cert.read_bytes())])
            self.endpoint = f"https://localhost:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
            self.more = f'tls_ca = "{secure.ca}"\n'
        self.server.start()

    def Export(self, request, context):
        answer = self.next_answer()
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as it was told")
        self.batches.put((request, dict(context.invocation_metadata())))
        response = trace_service_pb2.ExportTraceServiceResponse()
        if isinstance(answer, int):
            response.partial_success.rejected_spans = answer
            response.partial_success.error_message = "too many"
        return response


class Secure:
    """A certificate for localhost, and its authority."""

    def __init__(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        house.directories.append(folder)
        self.ca, self.key, self.cert = folder / "ca.pem", folder / "key.pem", folder / "cert.pem"
        ca_key = folder / "ca.key"
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        leaf = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.ca, "-CAkey", ca_key]
        for more in (["-subj", "/CN=house", "-keyout", ca_key, "-out", self.ca],
                     ["-subj", "/CN=localhost", *leaf, "-keyout", self.key, "-out", self.cert]):
            subprocess.run([*new, *more], check=True, capture_output=True)


class Traced(house.Gateway):
    def __init__(self, receiver, lines="", **more):
        self.admin_port = house.free_port()
        super().__init__(
            PROGRAM,
            [{"name": "b", "url": f"http://127.0.0.1:{backend_port}"}],
            [{"name": "m", "backends": ["b"]}],
            more=f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\n[traces]\nendpoint = "{receiver.endpoint}"\n'
            f'protocol = "{receiver.protocol}"\nsample_ratio = 1\n{receiver.more}{lines}',
            **more,
        )

    def chat(self, text, headers=None):
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        status, _, answer = ask(self.port, "POST", "/v1/chat/completions", body, headers=headers)
        assert status == 200, (status, answer)

    def metric(self, sample):
        _, _, text = ask(self.admin_port, "GET", "/metrics")
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(sample + " "))

    def eventually(self, sample, least):
        deadline = time.monotonic() + PATIENCE
        while (value := self.metric(sample)) < least and time.monotonic() < deadline:
            time.sleep(0.05)
        check(f"{sample} reaches {least}", value >= least, value)

    def stop(self):
        began = time.monotonic()
        self.child.terminate()
        code = self.child.wait(PATIENCE)
        return code, time.monotonic() - began


def plain(value):
    found = getattr(value, value.WhichOneof("value"))
    return [plain(item) for item in found.values] if value.HasField("array_value") else found


def attributes(span):
    return {item.key: plain(item.value) for item in span.attributes}


def a_request_is_a_trace(receiver):
    gateway = Traced(receiver, 'headers = "authorization=Bearer%20secret"\nservice_name = "house"\n')
    began = time.time_ns()
    gateway.chat("first", {"traceparent": PARENT, "tracestate": "a=1"})
    found = receiver.spans(2)
    ended = time.time_ns()
    spans = {span.kind: span for span, *_ in found}
    server, client = spans[Kind.SPAN_KIND_SERVER], spans[Kind.SPAN_KIND_CLIENT]
    check("one trace", {span.trace_id.hex() for span in spans.values()} == {PARENT[3:35]})
    check("the client's span is the parent", server.parent_span_id.hex() == PARENT[36:52])
    check("the attempt is a child", client.parent_span_id == server.span_id)
    check("trace state", {span.trace_state for span in spans.values()} == {"a=1"})
    times = [server.start_time_unix_nano, client.start_time_unix_nano, client.end_time_unix_nano, server.end_time_unix_nano]
    slack = 1_000_000
    check("times are in order, and the host's", began - slack <= times[0] <= times[1] <= times[2] <= ended and times[3] <= ended, (began, times, ended))
    check("flags", (server.flags, client.flags) == (0x301, 0x101), (server.flags, client.flags))
    check("names", (server.name, client.name) == ("POST /v1/chat/completions", "chat m"))
    check("status", server.status.code == Code.STATUS_CODE_UNSET)
    of_client = attributes(client)
    wanted = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.request.stream": False, "server.port": backend_port}
    check("attributes", wanted.items() <= of_client.items(), of_client)
    said = {"gen_ai.response.id": "chatcmpl-of-the-house", "gen_ai.response.finish_reasons": ["stop"], "gen_ai.response.model": "m"}
    check("what the answer says of itself", all(said.items() <= attributes(span).items() for span in spans.values()), said)
    check("nobody is linked", not server.links and not client.links)
    _, resource, scope, fields = found[0]
    check("resource", resource["service.name"] == "house" and resource["service.instance.id"], resource)
    check("scope", scope.name == "ringway")
    fields = {name.lower(): value for name, value in fields.items()}
    check("headers", fields.get("authorization") == "Bearer secret", fields)
    gateway.eventually("ringway_spans_sent_total", 2)
    code, seconds = gateway.stop()
    check("it ends well and in time", code == 0 and seconds < 10, (code, seconds))


def over_http():
    a_request_is_a_trace(Http())


def over_grpc():
    a_request_is_a_trace(Grpc())


def over_grpc_and_tls():
    a_request_is_a_trace(Grpc(Secure()))


def who_waits_for_another_one_is_linked_to_it():
    receiver = Grpc()
    gateway = Traced(receiver, cache='ttl = "60s"')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        chats = [pool.submit(gateway.chat, "held") for _ in range(8)]
        gateway.eventually("ringway_requests_in_flight", 8)
        held.set()
        for chat in chats:
            chat.result()
    spans = [span for span, *_ in receiver.spans(9)]
    (attempt,) = [span for span in spans if span.kind == Kind.SPAN_KIND_CLIENT]
    (leader,) = [span for span in spans if span.span_id == attempt.parent_span_id]
    others = [span for span in spans if span.span_id not in (attempt.span_id, leader.span_id)]
    joined = [span for span in others if attributes(span)["ringway.cache"] == "joined"]
    links = [(link.trace_id, link.span_id) for span in joined for link in span.links]
    # Whoever is very late finds the answer in the cache.
    words = [attributes(span)["ringway.cache"] for span in others]
    check("seven were answered by one call", len(joined) > 0 and len(words) == 7 and set(words) <= {"joined", "hit"}, words)
    check("each is linked to it, once", links == [(leader.trace_id, leader.span_id)] * len(joined), links)
    check("and the leader to nobody", not leader.links and not attempt.links)
    check("each says what its answer is", {attributes(span).get("gen_ai.response.id") for span in spans} == {"chatcmpl-of-the-house"})
    gateway.stop()


def what_may_be_sent_again_is(*_):
    for receiver, answers in ((Http(), (503, 429)), (Grpc(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED))):
        gateway = Traced(receiver)
        for answer in answers:
            receiver.answers.put(answer)
        gateway.chat("one")
        check(f"{receiver.protocol}: it comes in the end", len(receiver.spans(2)) == 2)
        gateway.eventually("ringway_spans_sent_total", 2)
        check("and nothing is dropped", gateway.metric('ringway_spans_dropped_total{reason="failed"}') == 0)
        gateway.stop()


def what_is_refused_is_dropped_and_counted():
    for receiver, answer in ((Http(), 400), (Grpc(), grpc.StatusCode.INVALID_ARGUMENT)):
        gateway = Traced(receiver)
        receiver.answers.put(answer)
        gateway.chat("one")
        gateway.eventually('ringway_spans_dropped_total{reason="failed"}', 2)
        gateway.chat("two")
        gateway.eventually("ringway_spans_sent_total", 2)
        gateway.stop()
    receiver = Grpc()
    gateway = Traced(receiver)
    receiver.answers.put(1)
    gateway.chat("one")
    gateway.eventually('ringway_spans_dropped_total{reason="rejected"}', 1)
    check("the others were taken", gateway.metric("ringway_spans_sent_total") == 1)
    gateway.stop()


def a_receiver_that_hangs_costs_spans_and_no_request():
    for receiver in (Http(), Grpc()):
        gateway = Traced(receiver, 'timeout = "10s"\n')
        for _ in range(10):
            receiver.answers.put("hang")
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: gateway.chat(str(number)), range(9000)))
        print(f"{receiver.protocol}: 9000 requests in {time.monotonic() - began:.1f} s")
        gateway.eventually('ringway_spans_dropped_total{reason="full"}', 1)
        code, seconds = gateway.stop()
        check(f"{receiver.protocol}: it ends in time", code == 0 and seconds < 10, (code, seconds))
        receiver.resume.set()


house.run(
    [
        over_http,
        over_grpc,
        over_grpc_and_tls,
        who_waits_for_another_one_is_linked_to_it,
        what_may_be_sent_again_is,
        what_is_refused_is_dropped_and_counted,
        a_receiver_that_hangs_costs_spans_and_no_request,
    ],
    sys.argv[2:],
)
house.verdict()
