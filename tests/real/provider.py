"""`llmock` as a process: a provider that fails as it is told to, keeps a journal of who asked what, and judges its
client. Its answers are made of the question (see `answer_to`), so that an answer can be right or wrong.
"""

import json
import subprocess
import sys

import house
from house import ask

ADMIN_SECONDS = 60
# So much of a question is in its answer.
ECHO_LENGTH = 120


def answer_to(question):
    assert len(question) <= ECHO_LENGTH and " ".join(question.split()) == question
    return f"Hello! You said: {question}"


def fail(status, times=1, **more):
    """Answers `times` requests with this status, or all of them from now on if `times` is None."""
    return {"type": "fail", "status": status, "times": times, **more}


def stream_fault(kind, after_chunks, **more):
    """Chunk 0 is the role, 1 the first word; at the end stand the finish reason, the usage, and `[DONE]`."""
    return {"type": "stream_fault", "kind": kind, "after_chunks": after_chunks, **more}


class Provider(house.Process):
    def __init__(self, program, *flags, port=None, seed=None):
        port = port or house.free_port()
        # The program takes no seed for its dice, which are Python's own.
        seeded = f"import random, llmock.cli; random.seed({seed}); llmock.cli.app()"
        start = [program] if seed is None else [sys.executable, "-c", seeded]
        arguments = [*start, "serve", "--port", str(port), "--log-level", "error", "--response-style", "echo", *flags]
        super().__init__(arguments, port, "/health", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def admin(self, method, path, body=None):
        status, _, text = ask(self.port, method, f"/_llmock/{path}", body, ADMIN_SECONDS)
        assert status < 300, (status, text)
        return json.loads(text)

    def script(self, *behaviors):
        """Forgets what was and does this from now on."""
        self.admin("POST", "reset")
        if behaviors:
            self.admin("POST", "scenario", {"behaviors": list(behaviors)})

    def attempts(self):
        """The journal's entries for requests that cost something, in order. Waits for those that are being answered."""
        return [record for record in self.admin("GET", "requests")["requests"] if record["method"] == "POST"]

    def verdict(self):
        """What is wrong with this provider's client: errors and warnings."""
        findings = self.admin("GET", "verdict")["findings"]
        return tuple(
            [finding for finding in findings if finding["severity"] == severity] for severity in ("error", "warning")
        )
