"""One of three backends is killed, stopped and refused under load, and comes back. Takes the two programs.

Callers are OpenAI's SDK without retries. The law: a caller who has received no content gets a whole answer; one who has
gets the rest or an error, and never an end that looks like one.
"""

import collections
import json
import signal
import subprocess
import sys
import threading
import time

import openai

import house
from house import ask, check

PROGRAM, LLMOCK = sys.argv[1:3]
CALLERS = 24


class Backend(house.Process):
    def __init__(self):
        port = house.free_port()
        arguments = [LLMOCK, "serve", "--port", str(port), "--log-level", "error", "--stream-chunk-delay-ms", "15",
                     "--response-style", "varied"]
        super().__init__(arguments, port, "/health", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def served(self):
        requests = json.loads(ask(self.port, "GET", "/_llmock/requests")[2])["requests"]
        return sum(request["method"] == "POST" for request in requests)

    def forget(self):
        ask(self.port, "POST", "/_llmock/reset")


class Load:
    """Callers that ask without a pause, one thing after the other, every other one as a stream."""

    def __init__(self, port):
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0, timeout=30)
        self.outcomes = collections.Counter()
        self.broken, self.number, self.lock = [], 0, threading.Lock()
        self.on = True
        self.callers = [threading.Thread(target=self.call, args=(caller,)) for caller in range(CALLERS)]
        for caller in self.callers:
            caller.start()

    def call(self, caller):
        while self.on:
            with self.lock:
                self.number += 1
                question = [{"role": "user", "content": f"question {self.number}"}]
            outcome = self.stream(question) if caller % 2 else self.whole(question)
            with self.lock:
                self.outcomes[outcome] += 1

    def whole(self, question):
        try:
            answer = self.client.chat.completions.create(model="m", messages=question)
            return "right" if answer.choices[0].finish_reason else "wrong"
        except openai.APIError as error:
            self.broken.append(repr(error))
            return "failed without content"

    def stream(self, question):
        content = finished = False
        try:
            for event in self.client.chat.completions.create(model="m", messages=question, stream=True):
                for choice in event.choices:
                    content = content or bool(choice.delta.content)
                    finished = finished or bool(choice.finish_reason)
        except openai.APIError as error:
            if not content:
                self.broken.append(repr(error))
            return "ended in an error after content" if content else "failed without content"
        except Exception as error:  # the connection was cut, which is as visible
            if not content:
                self.broken.append(repr(error))
            return "ended in an error after content" if content else "failed without content"
        return "right" if finished else "wrong"

    def until(self, what, holds, seconds=20):
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                check(f"{what} (within {seconds} s)", False)
                return
            time.sleep(0.02)

    def more(self, count):
        """Waits for `count` more answers."""
        with self.lock:
            goal = sum(self.outcomes.values()) + count
        self.until(f"{count} more answers", lambda: sum(self.outcomes.values()) >= goal, 60)

    def stop(self, what):
        self.on = False
        for caller in self.callers:
            caller.join()
        print(f"   {dict(self.outcomes)}")
        check(f"{what}: nobody who had no content got an error", self.outcomes["failed without content"] == 0, self.broken[:5])
        check(f"{what}: no broken answer looked whole", self.outcomes["wrong"] == 0)


def even(backends, gateway, what):
    load = Load(gateway.port)
    load.more(400)  # its share has grown whole by then
    for backend in backends:
        backend.forget()
    load.more(600)
    load.stop(what)
    counts = [backend.served() for backend in backends]
    fair = sum(counts) / len(counts)
    check(f"{what}: the load is even again", all(abs(count - fair) <= 0.2 * fair for count in counts), counts)
    print(f"   {counts}")


for balance in ("least-connections", "round-robin"):
    backends = [Backend() for _ in range(3)]
    gateway = house.Gateway(
        PROGRAM,
        [{"name": f"b{place}", "url": f"http://127.0.0.1:{backend.port}", "timeout_connect": "500ms", "timeout_head": "1s",
          "timeout_first": "1s", "timeout_gap": "2s", "timeout_total": "20s", "eject_errors": 3, "eject_time": "500ms",
          "eject_probes": 1, "slow_start": "1s", "health_interval": "500ms", "health_timeout": "400ms"}
         for place, backend in enumerate(backends)],
        [{"name": "m", "backends": ["b0", "b1", "b2"], "balance": balance, "in_flight_max": 1000}],
    )
    victim = backends[0]
    for what, hurt, heal in (
        ("kill -9", victim.kill, victim.start),
        ("SIGSTOP", lambda: victim.kill(signal.SIGSTOP), lambda: victim.kill(signal.SIGCONT)),
    ):
        load = Load(gateway.port)
        load.more(100)
        hurt()
        load.more(200)
        healed = time.monotonic()
        heal()
        if what == "kill -9":
            started = time.monotonic()
            load.until("the one that was killed serves again", lambda: victim.served() > 0)
            print(f"   it serves {time.monotonic() - started:.2f} s after it is up ({time.monotonic() - healed:.2f} s after its start)")
        load.more(200)
        load.stop(f"{balance}, {what}")
        even(backends, gateway, f"{balance}, after {what}")
    print("   " + "\n   ".join(line for line in gateway.words().splitlines() if "backend" in line))
    gateway.stop()
    for backend in backends:
        backend.kill()

house.kill_all()
house.verdict()
