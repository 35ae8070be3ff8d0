"""`ringway demo` as a new user tries it: ask, ask again, watch it stream. Takes the program; standard library only.

The second answer must come from the cache (the backend's count of calls stands in the text) and the program must end
well on an interrupt.
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time

START_SECONDS = 30
END_SECONDS = 40


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Demo:
    def __init__(self, program):
        self.port = free_port()
        self.child = subprocess.Popen(
            [program, "demo", "--listen", f"127.0.0.1:{self.port}"], stdout=subprocess.PIPE, text=True
        )

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while self.child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.ask("GET", "/healthz")
                return
            time.sleep(0.05)
        self.child.kill()
        sys.exit("the demo did not start")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json"}
        connection.request(method, path, body and json.dumps(body), headers if body else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    def end(self):
        self.child.send_signal(signal.SIGINT)
        printed, _ = self.child.communicate(timeout=END_SECONDS)
        return self.child.returncode, printed


def check(what, truth):
    print(f"{'ok' if truth else 'NOT OK'}: {what}")
    if not truth:
        raise SystemExit(1)


def main():
    demo = Demo(sys.argv[1])
    try:
        demo.wait()
        question = {"model": "demo", "messages": [{"role": "user", "content": "What did Ringway just do?"}]}
        first, second = [demo.ask("POST", "/v1/chat/completions", question) for _ in range(2)]
        content = json.loads(first[2])["choices"][0]["message"]["content"]
        check("an answer", first[0] == 200 and "call number 1" in content)
        check("x-cache: MISS, then HIT", (first[1]["x-cache"], second[1]["x-cache"]) == ("MISS", "HIT"))
        check("the second answer is the first, byte for byte", first[2] == second[2])

        status, headers, text = demo.ask("POST", "/v1/chat/completions", {**question, "stream": True})
        events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
        streamed = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
        check("the same entry as a stream", status == 200 and headers["x-cache"] == "HIT" and streamed == content)
        check("which ends well", text.endswith("data: [DONE]\n\n"))

        fresh = {"model": "demo-fast", "stream": True, "messages": [{"role": "user", "content": "And now?"}]}
        status, headers, text = demo.ask("POST", "/v1/chat/completions", fresh)
        check("a new question is a call", headers["x-cache"] == "MISS" and text.endswith("data: [DONE]\n\n"))
        status, _, text = demo.ask("GET", "/v1/models")
        check("models", {model["id"] for model in json.loads(text)["data"]} >= {"demo", "demo-fast"})
    except BaseException:
        demo.child.kill()
        raise
    status, printed = demo.end()
    check("it said how to try it", f"127.0.0.1:{demo.port}" in printed)
    check("an interrupt ends it with status 0", status == 0)


if __name__ == "__main__":
    main()
