"""The gateway in front of a provider that fails on purpose (`llmock`) and judges its client. Takes the two programs.

Callers are OpenAI's SDK without retries of its own: whatever can be hidden has to be hidden by the gateway. What the
judge calls an error fails the script; each scenario begins with a clean journal.
"""

import concurrent.futures
import json
import subprocess
import sys


import openai

import house
from house import ask, check

PROGRAM, LLMOCK = sys.argv[1:3]


class Provider(house.Process):
    def __init__(self):
        port = house.free_port()
        super().__init__([LLMOCK, "serve", "--port", str(port), "--log-level", "error", "--response-style", "varied"],
            port,
            "/health",
            stdout=subprocess.DEVNULL,
        )

    def script(self, *behaviors):
        ask(self.port, "POST", "/_llmock/reset")
        if behaviors:
            status, _, text = ask(self.port, "POST", "/_llmock/scenario", {"behaviors": list(behaviors)})
            assert status == 201, text

    def attempts(self):
        requests = json.loads(ask(self.port, "GET", "/_llmock/requests")[2])["requests"]
        return [request for request in requests if request["method"] == "POST"]

    def verdict(self, what, expected=()):
        report = json.loads(ask(self.port, "GET", "/_llmock/verdict")[2])
        errors = [finding for finding in report["findings"] if finding["severity"] == "error" and finding["code"] not in expected]
        for finding in report["findings"]:
            print(f"   {finding['severity']}: {finding['code']}: {finding['title']}")
        check(f"{what}: the provider's verdict on the gateway is clean", not errors, json.dumps(errors))


def fail(status, times=1, **more):
    return {"type": "fail", "status": status, "times": times, **more}


def stream_fault(kind, after_chunks, **more):
    return {"type": "stream_fault", "kind": kind, "after_chunks": after_chunks, **more}


provider = Provider()
gateway = house.Gateway(
    PROGRAM,
    [{"name": "p", "url": f"http://127.0.0.1:{provider.port}", "timeout_first": "1s", "timeout_head": "1s", "timeout_gap": "2s",
      "timeout_total": "10s", "eject_errors": 1000, "eject_error_percent": 0, "health_interval": "2s"}],
    [{"name": "gpt-4o-mini", "backends": ["p"], "retry_budget": 100}],
    cache='ttl = "1h"',
)
client = openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0, timeout=30)
count = 0


def question():
    global count
    count += 1
    return [{"role": "user", "content": f"question number {count} of this run"}]


def whole(messages=None):
    return client.chat.completions.create(model="gpt-4o-mini", messages=messages or question()).choices[0].message.content


def streamed(messages=None):
    """The text of a stream that ended as it should; raises otherwise."""
    parts, finished = [], None
    for event in client.chat.completions.create(model="gpt-4o-mini", messages=messages or question(), stream=True):
        for choice in event.choices:
            parts.append(choice.delta.content or "")
            finished = choice.finish_reason or finished
    if not finished:
        raise AssertionError("a stream without an end looked whole")
    return "".join(parts)


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except openai.APIStatusError as error:
        return error.status_code
    except (openai.APIError, openai.APIConnectionError) as error:
        return type(error).__name__


for status in (429, 500, 502, 503, 529, 408):
    for call in (whole, streamed):
        provider.script(fail(status, times=2))
        answer = outcome(call)
        check(f"two answers of {status} are hidden ({call.__name__})", isinstance(answer, str) and len(answer) > 3, answer)
        check("   by two retries", len(provider.attempts()) == 3, len(provider.attempts()))
        provider.verdict(f"{status}, {call.__name__}")

provider.script(fail(429, retry_after=1), fail(503, retry_after=0.5))
answer = outcome(whole)
check("Retry-After is waited for", isinstance(answer, str) and len(provider.attempts()) == 3, answer)
provider.verdict("Retry-After")

provider.script(fail(429, retry_after=3600, times=None))
check("a Retry-After of an hour is passed on", outcome(whole) == 429)
check("   after one attempt", len(provider.attempts()) == 1, len(provider.attempts()))

for status in (400, 401, 403, 404, 422):
    provider.script(fail(status))
    # A credential of the gateway's that is refused is not the caller's to mend.
    check(f"{status} is not tried again", outcome(whole) == (502 if status == 401 else status))
    check("   after one attempt", len(provider.attempts()) == 1, len(provider.attempts()))
    provider.verdict(str(status))

# The first chunk of llmock's streams has a role and no content.
for kind in ("disconnect", "truncate", "malformed", "stall"):
    for after in (0, 1):
        # A malformed event is a part of the answer that nobody can read: it is not held back.
        if kind == "malformed":
            continue
        provider.script(stream_fault(kind, after, **({"stall_seconds": 20} if kind == "stall" else {})))
        answer = outcome(streamed)
        check(f"a stream that meets `{kind}` before its content is asked for again", isinstance(answer, str) and " " in answer, answer)
        check("   once", len(provider.attempts()) == 2, len(provider.attempts()))
        provider.verdict(f"{kind} after {after}")

for kind in ("disconnect", "truncate", "stall"):
    provider.script(stream_fault(kind, 3, **({"stall_seconds": 20} if kind == "stall" else {})))
    asked = question()
    answer = outcome(streamed, asked)
    check(f"a stream that meets `{kind}` inside ends in an error", answer == "APIError", answer)
    check("   and is not asked for again", len(provider.attempts()) == 1, len(provider.attempts()))
    # What an application does then.
    answer = outcome(streamed, asked)
    check("   nor kept: the next one gets the whole", isinstance(answer, str) and " " in answer, answer)
    provider.verdict(f"{kind} inside")

provider.script({"type": "slow_first_token", "seconds": 0.5})
check("a slow first token is waited for", isinstance(outcome(streamed), str) and len(provider.attempts()) == 1)
provider.script({"type": "slow_first_token", "seconds": 20})
check("one that is too slow is asked for again", isinstance(outcome(streamed), str) and len(provider.attempts()) == 2, len(provider.attempts()))
provider.script({"type": "delay", "seconds": 1.5})
check("a slow whole answer is waited for", isinstance(outcome(whole), str) and len(provider.attempts()) == 1)

# Everything at once: whatever comes, it is a right answer or an honest error.
provider.script(
    *[behavior for status in (429, 500, 503) for behavior in [fail(status, times=12, retry_after=0.05)]],
    *[stream_fault(kind, after) for kind in ("disconnect", "truncate") for after in (0, 1, 2, 4) for _ in range(4)],
)
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    asked = [question() for _ in range(200)]
    answers = list(pool.map(lambda pair: outcome(streamed if pair[0] % 2 else whole, pair[1]), enumerate(asked)))
right = sum(isinstance(answer, str) and " " in answer for answer in answers)
odd = [answer for answer in answers if not (isinstance(answer, str) and " " in answer)]
# 502: it broke off after its first content, and before any of it was on its way to the caller.
honest = sum(answer in (429, 500, 502, 503, "APIError") for answer in odd)
print(f"   {right} right, {honest} honest errors of {len(answers)}, {len(provider.attempts())} attempts")
check("in chaos every outcome is right or honest", right + honest == len(answers), odd)
check("   most are right", right >= 160, right)
provider.script()
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    answers = list(pool.map(lambda messages: outcome(streamed, messages), asked))
check("once it is over everybody is served", all(isinstance(answer, str) and " " in answer for answer in answers))

gateway.stop()
house.kill_all()
house.verdict()
