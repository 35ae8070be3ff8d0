"""One of three backends is not there yet, is killed, stops, or is cut off from the network, under load, and comes back.

    dying.py RINGWAY LLMOCK [SCENARIO...]

Callers are OpenAI's SDK without retries. The law: a caller who has received no content gets the right answer, whole;
one who has gets the rest or an error, and never an end that looks like one. Afterwards the load is even again. Times
are printed and not judged.
"""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import openai

import house
from provider import Provider, answer_to

PROGRAM, LLMOCK = sys.argv[1:3]
CALLERS = 30
PATIENCE_SECONDS = 60
WINDOW = 300  # answers over which the load is even, or not
WINDOWS_MAX = 10
# Answers take a while, most of which nobody computes: else the machine's mood would decide who answers how many.
PACE = ("--latency-ms", "60", "--stream-chunk-delay-ms", "10")
NAMES = ("b0", "b1", "b2")

BACKEND = {"timeout_connect": "500ms", "timeout_head": "1s", "timeout_first_token": "1s", "timeout_stream_idle": "2s"}
BACKEND |= {"timeout_request": "30s", "eject_errors": 3, "eject_time": "500ms", "eject_probes": 1, "slow_start": "1s"}
ACTIVE = {"health_interval": "500ms", "health_timeout": "400ms"}
# Only what requests meet counts.
PASSIVE = {"health_interval": "0s"}


class Caller:
    """Asks one thing after the other, and knows what is a right answer."""

    def __init__(self, port):
        url = f"http://127.0.0.1:{port}/v1"
        self.client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=PATIENCE_SECONDS)

    def whole(self, question):
        """What became of it, and who answered: backends know the model by names of their own."""
        try:
            answer = self.client.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
        except Exception as error:  # whatever it is, there was no content before
            return f"failed without content: {error!r}", None
        choice = answer.choices[0]
        right = choice.finish_reason == "stop" and choice.message.content == answer_to(question)
        return "right" if right else f"wrong: {answer!r}", answer.model

    def streamed(self, question):
        text, finish, served_by = "", None, None
        asked = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": True}
        try:
            for event in self.client.chat.completions.create(**asked):
                served_by = event.model
                for choice in event.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
        except openai.APIError as error:
            if not text:
                return f"failed without content: {error!r}", None
            return "cut after content" if answer_to(question).startswith(text) else f"wrong: {text!r}", served_by
        except Exception as error:
            return f"failed oddly: {error!r}", None
        right = finish == "stop" and text == answer_to(question)
        return "right" if right else f"wrong: {text!r} {finish}", served_by


class Load:
    """Callers that ask without a pause, every other one for streams, until told to stop."""

    def __init__(self, port):
        self.outcomes, self.served, self.asked, self.on = collections.Counter(), [], 0, True
        self.changed = threading.Condition()
        self.callers = [threading.Thread(target=self.call, args=(Caller(port), place)) for place in range(CALLERS)]
        for caller in self.callers:
            caller.start()

    def call(self, caller, place):
        form = caller.streamed if place % 2 else caller.whole
        while self.on:
            with self.changed:
                self.asked += 1
                number = self.asked
            outcome, served_by = form(f"what do you say to number {number}?")
            with self.changed:
                self.outcomes[outcome] += 1
                if outcome == "right":
                    self.served.append((served_by, number))
                self.changed.notify_all()

    def until(self, what, holds):
        with self.changed:
            came = self.changed.wait_for(holds, PATIENCE_SECONDS)
        assert came, f"{what}: not within {PATIENCE_SECONDS} s, {self.outcomes}"

    def more(self, count):
        """Waits for `count` more answers; who gave them."""
        start = len(self.served)
        self.until(f"{count} more answers", lambda: len(self.served) >= start + count)
        return collections.Counter(name for name, _ in self.served[start : start + count])

    def until_served_by(self, name):
        """Waits until this one has answered a question that was asked after now."""
        start, asked = len(self.served), self.asked
        fresh = lambda: any(served_by == name and number > asked for served_by, number in self.served[start:])
        self.until(f"{name} serves", fresh)

    def until_even(self):
        """Waits until each backend gives a third of the answers, up to a fifth of that."""
        for number in range(1, WINDOWS_MAX + 1):
            counts = self.more(WINDOW)
            if all(abs(counts[name] * len(NAMES) - WINDOW) <= WINDOW / 5 for name in NAMES):
                print(f"   even in window {number} of {WINDOW} answers: {dict(sorted(counts.items()))}")
                return
        raise AssertionError(f"the load is not even again: {counts}")

    def stop(self):
        self.on = False
        for caller in self.callers:
            caller.join()
        print(f"   {dict(self.outcomes)}")
        assert set(self.outcomes) <= {"right", "cut after content"}, self.outcomes


class Setting:
    """Three backends behind a gateway; the last one is not started yet."""

    def __init__(self, balance, health):
        self.backends = [Provider(LLMOCK, *PACE) for _ in NAMES[:-1]]
        self.late_port = house.free_port()
        urls = [backend.url() for backend in self.backends] + [f"http://127.0.0.1:{self.late_port}"]
        rows = [{"name": name, "url": url, **BACKEND, **health} for name, url in zip(NAMES, urls)]
        targets = [{"backend": name, "model": name} for name in NAMES]
        model = {"name": "m", "balance": balance, "backends": targets, "max_concurrent_requests": 1000}
        self.gateway = house.Gateway(PROGRAM, rows, [model])

    def out_of_service(self, name):
        return self.gateway.words().count(f"backend {name} is out of service")

    @contextlib.contextmanager
    def load(self):
        load = Load(self.gateway.port)
        try:
            yield load
        finally:
            load.on = False
        load.stop()

    def comes_late(self):
        """Connections are refused from the beginning, until it is there."""
        with self.load() as load:
            counts = load.more(WINDOW)
            assert counts["b2"] == 0 and counts["b0"] and counts["b1"], counts
            assert self.out_of_service("b2")
            self.back("b2", load, lambda: self.backends.append(Provider(LLMOCK, *PACE, port=self.late_port)))

    def is_killed(self):
        with self.load() as load:
            load.more(WINDOW)
            before = self.out_of_service("b0")
            self.backends[0].kill()
            load.until("it is found out", lambda: self.out_of_service("b0") > before)
            load.more(WINDOW)
            self.back("b0", load, self.backends[0].start)

    def stops(self):
        """Connections are accepted, by the system, and nothing is said on them."""
        with self.load() as load:
            load.more(WINDOW)
            before = self.out_of_service("b1")
            self.backends[1].kill(signal.SIGSTOP)
            load.until("it is found out", lambda: self.out_of_service("b1") > before)
            load.more(WINDOW)
            self.back("b1", load, lambda: self.backends[1].kill(signal.SIGCONT))

    def back(self, name, load, heal):
        began = time.monotonic()
        heal()
        up = time.monotonic()
        load.until_served_by(name)
        took = time.monotonic()
        print(f"   {name} serves {took - up:.2f} s after it is up, {took - began:.2f} s after it was healed")
        load.until_even()

    def end(self):
        words = [line for line in self.gateway.words().splitlines() if "backend" in line]
        print("   " + "\n   ".join(words))
        self.gateway.stop()
        for backend in self.backends:
            backend.kill()


def survives(balance, health):
    setting = Setting(balance, health)
    for phase in (setting.comes_late, setting.is_killed, setting.stops):
        print(f"   -- {phase.__name__}", flush=True)
        phase()
    setting.end()


def least_connections_with_checks():
    survives("least-connections", ACTIVE)


def round_robin_without_checks():
    survives("round-robin", PASSIVE)


@contextlib.contextmanager
def cut_off(port):
    """No packet to or from `port` arrives any more, not even one that says so."""
    name = f"ringway_test_{os.getpid()}"
    drops = f"tcp dport {port} drop; tcp sport {port} drop;"
    rules = f"table inet {name} {{\n chain input {{\n type filter hook input priority 0; {drops}\n }}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", name], check=True)


def cut_off_without_a_word():
    """A backend that vanishes sends no FIN: its kept connections look alive. No time-out of the configuration ends a
    request that is sent on one; that its packets stay unacknowledged has to."""
    first, second = Provider(LLMOCK), Provider(LLMOCK)
    patient = {"timeout_head": "10m", "timeout_first_token": "10m", "timeout_request": "20m", "health_interval": "0s"}
    both = (("b0", first), ("b1", second))
    rows = [{"name": name, "url": one.url(), "priority": place, **patient} for place, (name, one) in enumerate(both)]
    targets = [{"backend": name, "model": name} for name, _ in both]
    gateway = house.Gateway(PROGRAM, rows, [{"name": "m", "backends": targets}])
    caller = Caller(gateway.port)
    assert caller.whole("who is there?") == ("right", "b0")
    with cut_off(first.port):
        began = time.monotonic()
        assert caller.whole("and now?") == ("right", "b1")
        print(f"   answered elsewhere after {time.monotonic() - began:.1f} s")
    gateway.stop()
    first.kill()
    second.kill()


SCENARIOS = [least_connections_with_checks, round_robin_without_checks]
if os.geteuid() == 0:
    SCENARIOS.append(cut_off_without_a_word)
else:
    print("dying: not root, so no packet filter: cut_off_without_a_word is left out")
house.run(SCENARIOS, sys.argv[3:])
house.verdict()
