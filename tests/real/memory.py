"""What the cache takes: filled to its budget with answers of one size after another, the process stays within a tenth above
`cache.memory` and what docs/cache.md says a process takes besides.

    memory.py RINGWAY [SCENARIO...]

Standard library only.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import sys
import time

import house
from house import ask, check

PROGRAM = sys.argv[1]
MIB = 1 << 20
BUDGET = 64 * MIB  # the house's
LETTERS = os.urandom(MIB).hex()
CLIENTS = 8
DOC = (pathlib.Path(__file__).parents[2] / "docs/cache.md").read_text()
BESIDES, EACH_CORE = (int(number) * MIB for number in re.search(r"plus (\d+) MiB, plus\s+(\d+) MiB per data core", DOC).groups())


class Backend:
    """Answers `number length` with so many letters, and embeds."""

    def __init__(self):
        class Handler(house.Handler):
            def do_POST(self):
                asked = self.asked()
                if "input" in asked:
                    rows = [{"object": "embedding", "index": at, "embedding": [0.5] * 4} for at in range(len(asked["input"]))]
                    usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
                    return self.reply({"object": "list", "data": rows, "model": asked["model"], "usage": usage})
                number, length = map(int, asked["messages"][0]["content"].split())
                at = number * 7919 % (len(LETTERS) - length)
                message = {"role": "assistant", "content": LETTERS[at : at + length]}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
                self.reply({"id": "x", "created": 1, "model": asked["model"], "object": "chat.completion", "choices": [choice], "usage": usage})

        self.url = f"http://127.0.0.1:{house.served(Handler)}"


class Node(house.Gateway):
    def __init__(self, cores):
        self.admin_port = house.free_port()
        more = f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\n'
        backends = [{"name": "b", "url": Backend().url, "connections_min": 0}]
        super().__init__(PROGRAM, backends, [{"name": "m", "backends": ["b"]}], cache="", cores=cores, more=more)

    def answers(self, numbers, length):
        def client(numbers):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for number in numbers:
                body = {"model": "m", "messages": [{"role": "user", "content": f"{number} {length}"}]}
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, [numbers[at::CLIENTS] for at in range(CLIENTS)]))

    def embeddings(self, batches):
        for batch in range(batches):
            body = {"model": "m", "input": [f"{batch} {at}" for at in range(2048)]}
            status, _, text = ask(self.port, "POST", "/v1/embeddings", body)
            assert status == 200, text

    def resident(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10

    def metric(self, name):
        _, _, text = ask(self.admin_port, "GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def filled(cores):
    node = Node(cores)
    most = BUDGET * 1.1 + BESIDES + EACH_CORE * cores
    # Of the budget, near copies of other cores' answers have a part that nobody asks for here.
    least = BUDGET * (0.95 if cores == 1 else 0.9)

    def judged(what):
        deadline = time.monotonic() + 30
        while node.metric("ringway_cache_bytes") < least and time.monotonic() < deadline:
            time.sleep(0.1)
        used, resident = node.metric("ringway_cache_bytes"), node.resident()
        told = f"{cores} cores, {what}: {used / MIB:.1f} MiB counted, {resident / MIB:.1f} MiB resident, {most / MIB:.1f} allowed"
        print(f"  {told}")
        check(f"{what} fill the cache of {cores} cores", least <= used <= BUDGET, told)
        check("the process stays within its bound", resident <= most, told)

    node.embeddings(76)
    judged("small embeddings")
    node.answers(range(750), 100_000)
    judged("long answers")
    node.answers(range(1200), 24_000)
    judged("answers of some length")
    node.stop()


def one_core_stays_within_its_memory():
    filled(1)


def several_cores_stay_within_their_memory():
    filled(3)


house.run([one_core_stays_within_its_memory, several_cores_stay_within_their_memory], sys.argv[2:])
house.verdict()
