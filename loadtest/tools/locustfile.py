"""Users for Locust: each asks a prompt of the corpus, reads the answer, and pauses; one in five asks for a stream.

From the environment: KEY, CORPUS (a file written by `loadtest corpus`). Locust is a closed model of load: see README.md.
"""

import bisect
import itertools
import json
import os
import pathlib
import random

from locust import HttpUser, between, task

EXPONENT = 0.9
BODIES = pathlib.Path(os.environ.get("CORPUS", "corpus.jsonl")).read_text().splitlines()
CUMULATED = list(itertools.accumulate(rank**-EXPONENT for rank in range(1, len(BODIES) + 1)))


def draw():
    rank = bisect.bisect(CUMULATED, random.random() * CUMULATED[-1])
    return json.loads(BODIES[min(rank, len(BODIES) - 1)])


class Reader(HttpUser):
    wait_time = between(0.5, 2)

    def on_start(self):
        self.client.headers["authorization"] = f"Bearer {os.environ.get('KEY', 'none')}"

    @task(4)
    def whole(self):
        self.client.post("/v1/chat/completions", json=draw(), name="non-streaming")

    @task(1)
    def stream(self):
        body = {**draw(), "stream": True}
        with self.client.post("/v1/chat/completions", json=body, stream=True, name="streaming", catch_response=True) as answer:
            last = b""
            for line in answer.iter_lines():
                last = line or last
            if answer.status_code != 200 or last != b"data: [DONE]":
                answer.failure("the stream has no end")
            else:
                answer.success()
