"""What the cache says and decides, judged by implementations that are not ours: RFC 9111's directives by http-cache-semantics
(npm), RFC 9211's Cache-Status by a parser of structured fields (http_sfv), and what makes two requests the same by a canonical
form in Python. Contents are compared, not only the word HIT.

    caching.py RINGWAY DIRECTORY_OF_NODE_MODULES [SCENARIO...]

Wants http_sfv; the rest is the standard library.
"""

import concurrent.futures
import decimal
import hashlib
import json
import os
import random
import subprocess
import sys
import time

import http_sfv

import house
from house import ask, check

PROGRAM, MODULES = sys.argv[1:3]
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
TTL = 60

# A line of JSON in, a line out: the response as it was stored, the request's fields, and the milliseconds since.
JUDGE = """
const CachePolicy = require('http-cache-semantics');
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { directives, age, ttl } = JSON.parse(line);
  const request = { url: '/v1/chat/completions', method: 'POST', headers: {} };
  const response = { status: 200, headers: { 'cache-control': `max-age=${ttl}`, date: new Date().toUTCString() } };
  const policy = new CachePolicy(request, response, { shared: true });
  policy.now = () => policy._responseTime + age * 1000;
  const headers = directives === null ? {} : { 'cache-control': directives };
  console.log(JSON.stringify({ serves: policy.satisfiesWithoutRevalidation({ ...request, headers }) }));
});
"""


def numbered():
    """Each answer has the number of its call."""
    return house.Backend(lambda _, call: f"call {call}")


class Judge:
    def __init__(self):
        environment = {**os.environ, "NODE_PATH": MODULES}
        self.child = subprocess.Popen(
            ["node", "-e", JUDGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        house.Process.all.append(self)

    def serves(self, directives, age):
        # Names of directives are the same in upper case (RFC 9111 5.2), which this judge does not know.
        directives = directives and directives.lower()
        line = json.dumps({"directives": directives, "age": age, "ttl": TTL})
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())["serves"]


def gateway(backend, cache=""):
    return house.Gateway(
        PROGRAM,
        [{"name": "b", "url": backend.url, "connections_min": 0}],
        [{"name": "m", "backends": ["b"]}, {"name": "off", "backends": ["b"], "cache": "off"}],
        cache=f'ttl = "{TTL}s"\nshow_key = true\n' + cache,
        more='[admin]\nlisten = "off"\n',
    )


def chat(node, what, directives=None, model="m"):
    body = {"model": model, "messages": [{"role": "user", "content": what}]}
    headers = {} if directives is None else {"cache-control": directives}
    status, fields, text = ask(node.port, "POST", "/v1/chat/completions", body, headers=headers)
    return status, fields, json.loads(text)["choices"][0]["message"]["content"] if status == 200 else text


def told(fields):
    """Cache-Status as RFC 9211 has it: a list of caches, each a token with parameters."""
    field = http_sfv.List()
    field.parse(fields["cache-status"].encode())
    assert len(field) == 1 and str(field[0].value) == "ringway", fields["cache-status"]
    return dict(field[0].params)


DIRECTIVES = [None, "", "no-cache", "NO-CACHE", "no-store", "only-if-cached", "max-age=0", "max-age=1", "Max-Age=1", "max-age=30"]
DIRECTIVES += ["max-age=30, no-cache", "no-transform", "max-age=1, no-transform", " max-age=30 , no-transform ", "x=y, max-age=1"]
DIRECTIVES += ["only-if-cached, max-age=30", "max-stale", "max-stale=10", "max-age=1000000000", "private", "unknown"]


def directives_are_kept_as_another_cache_keeps_them():
    backend, judge = numbered(), Judge()
    node = gateway(backend)
    for place, _ in enumerate(DIRECTIVES):
        assert chat(node, f"question {place}")[0] == 200
    stored = {place: chat(node, f"question {place}")[2] for place, _ in enumerate(DIRECTIVES)}
    time.sleep(2.2)
    for place, directives in enumerate(DIRECTIVES):
        status, fields, said = chat(node, f"question {place}", directives)
        # A request that is not to be stored is not looked up here, for which it may be asked to (RFC 9111 5.2.1.5).
        serves = judge.serves(directives, 2.2) and directives != "no-store"
        is_same = status == 200 and said == stored[place]
        check(f"{directives!r}: served from the cache: {serves}", is_same == serves, (status, dict(fields), said))
        check(f"{directives!r}: and that is what it says", (fields["x-cache"] == "HIT") == serves, dict(fields))
        if fields["x-cache"] == "HIT":
            age, parameters = int(fields["age"]), told(fields)
            check(f"{directives!r}: a hit with age and time", parameters["hit"] is True and 2 <= age <= 10)
            check(f"{directives!r}: whose sum is the time to live", TTL - 2 <= age + parameters["ttl"] <= TTL, parameters)
        elif status == 200:
            check(f"{directives!r}: why not", str(told(fields).get("fwd")) in ("request", "stale", "bypass"), told(fields))
    for directives in ("only-if-cached", "only-if-cached, max-age=5"):
        calls = backend.calls
        check(f"{directives!r}: nothing is asked for", chat(node, "never asked", directives)[0] == 504 and backend.calls == calls)
    node.stop()


def every_cache_status_is_a_structured_field():
    backend = numbered()
    node = gateway(backend)
    for what, directives, model, expected in (
        ("a", None, "m", {"fwd": "uri-miss"}),
        ("a", None, "m", {"hit": True}),
        ("a", "no-cache", "m", {"fwd": "request"}),
        ("b", "no-store", "m", {"fwd": "bypass", "detail": "no_store"}),
        ("c", None, "off", {"fwd": "bypass", "detail": "model_off"}),
    ):
        _, fields, _ = chat(node, what, directives, model)
        parameters = told(fields)
        shown = {name: parameters[name] if name == "hit" else str(parameters.get(name)) for name in expected}
        check(f"{what} {directives} {model}: {expected}", shown == expected, fields["cache-status"])
        known = {"hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "key", "detail"}
        check("parameters that RFC 9211 has", set(parameters) <= known, set(parameters))
        check("a hit was not forwarded", ("hit" in parameters) != ("fwd" in parameters))
        if "key" in parameters:
            key = parameters["key"]
            check("a key is a string of 64 digits", isinstance(key, str) and len(key) == 64 and int(key, 16) >= 0)
    node.stop()


# ---- what makes two requests the same ------------------------------------------------------------------------------

SKIPPED = {"stream", "stream_options", "user", "safety_identifier", "prompt_cache_key"}


def canonical(value, is_root=True):
    """What a value of JSON means, as text: an implementation that has nothing in common with the gateway's."""
    if isinstance(value, dict):
        names = sorted(name for name in value if not (is_root and name in SKIPPED))
        return "{" + ",".join(json.dumps(name) + ":" + canonical(value[name], False) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item, False) for item in value) + "]"
    if isinstance(value, decimal.Decimal):
        sign, digits, exponent = value.as_tuple()
        digits = "".join(map(str, digits)).lstrip("0")
        if not digits:
            return "0"
        kept = digits.rstrip("0")
        return f"{'-' if sign else ''}{kept}e{exponent + len(digits) - len(kept)}"
    return json.dumps(value)


def meaning(text):
    value = json.loads(text, parse_int=decimal.Decimal, parse_float=decimal.Decimal)
    return hashlib.sha256(canonical(value).encode()).hexdigest()


NAMES = ["a", "b", "temperature", "n", "é", "user", "stream_options2", "x\ty", "\U0001f600", "", "input", "A", "metadata"]
TEXTS = ["", "a", "b", "a b", "é", "e\u0301", "\u0000", '"', "\\", "/", "\U0001f600", "null", "1", "\u2028", "a" * 300]
NUMBERS = ["0", "-0", "1", "10", "1.0", "0.1", "1e1", "100e-1", "1e-7", "12345678901234567890123", "-1.50", "0.5e0", "1e300", "3"]


def a_value(random_, depth):
    kind = random_.random()
    if depth > 0 and kind < 0.2:
        return {random_.choice(NAMES): a_value(random_, depth - 1) for _ in range(random_.randrange(4))}
    if depth > 0 and kind < 0.35:
        return [a_value(random_, depth - 1) for _ in range(random_.randrange(4))]
    if kind < 0.6:
        return decimal.Decimal(random_.choice(NUMBERS))
    return random_.choice(TEXTS) if kind < 0.85 else random_.choice([True, False, None])


def a_body(random_):
    body = {"model": "m", "messages": [{"role": "user", "content": random_.choice(TEXTS) or "x"}]}
    more = {name: a_value(random_, 3) for name in random_.sample(["metadata", "tools2", "seed2", "x", "é"], random_.randrange(4))}
    if random_.random() < 0.5:
        more["user"] = random_.choice(["u", "v"])
    return {**body, **more}


def spelled(random_, value):
    """A value in some of its spellings."""

    def space():
        return random_.choice(["", "", " ", "\n", "\t", "\r\n  "])

    def text(value):
        out = []
        for letter in value:
            units = letter.encode("utf-16-be")
            escaped = "".join(f"\\u{units[at] << 8 | units[at + 1]:04{random_.choice('xX')}}" for at in range(0, len(units), 2))
            short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\t": "\\t"}.get(letter)
            choices = [escaped] + ([short] if short else []) + ([letter] if letter >= " " and letter not in '"\\' else [])
            out.append(random_.choice(choices))
        return '"' + "".join(out) + '"'

    def number(value):
        sign, digits, exponent = value.as_tuple()
        digits = "".join(map(str, digits))
        more = random_.randrange(3)
        digits, exponent = digits + "0" * more, exponent - more
        cut = random_.randrange(1, len(digits) + 1)
        whole, rest = digits[:cut].lstrip("0") or "0", digits[cut:]
        exponent += len(rest)
        spelled_ = ("-" if sign else "") + whole + (f".{rest}" if rest else "")
        if exponent or random_.random() < 0.3:
            spelled_ += random_.choice("eE") + (random_.choice(["", "+"]) if exponent >= 0 else "-") + random_.choice(["", "0"]) + str(abs(exponent))
        return spelled_

    if isinstance(value, dict):
        members = list(value.items())
        random_.shuffle(members)
        inside = ",".join(f"{space()}{text(name)}{space()}:{space()}{spelled(random_, item)}{space()}" for name, item in members)
        return "{" + (inside or space()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{space()}{spelled(random_, item)}{space()}" for item in value) or space()) + "]"
    if isinstance(value, decimal.Decimal):
        return number(value)
    return text(value) if isinstance(value, str) else json.dumps(value)


def changed(random_, value):
    """The value with something in it that may mean another thing."""
    if isinstance(value, dict) and value and random_.random() < 0.8:
        name = random_.choice(list(value))
        return {**value, name: changed(random_, value[name])}
    if isinstance(value, list) and value and random_.random() < 0.8:
        place = random_.randrange(len(value))
        return [*value[:place], changed(random_, value[place]), *value[place + 1 :]]
    if isinstance(value, list) and random_.random() < 0.5:
        return [*value, None]
    if isinstance(value, str) and value and random_.random() < 0.5:
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    return a_value(random_, 1)


def requests_are_the_same_exactly_if_they_mean_the_same():
    backend = numbered()
    node, random_ = gateway(backend), random.Random(SEED)
    print(f"  seed {SEED}")
    texts = []
    for _ in range(250):
        body = a_body(random_)
        others = [changed(random_, body) for _ in range(3)]
        for one in [body, body, *others]:
            if isinstance(one, dict) and one.get("model") == "m" and is_talk(one.get("messages")) and isinstance(one.get("user", ""), str):
                texts.append(spelled(random_, one))

    def key(text):
        connection = house.http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
        try:
            connection.request("POST", "/v1/chat/completions", text.encode(), {"content-type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            return (told(answer.headers).get("key"), said) if answer.status == 200 else (None, said)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(key, texts))
    refused = [(text, said) for text, (key_, said) in zip(texts, keys) if key_ is None]
    check("everything is understood", not refused, refused[:2])
    by_key, by_meaning = {}, {}
    for text, (key_, _) in zip(texts, keys):
        by_key.setdefault(key_, set()).add(meaning(text))
        by_meaning.setdefault(meaning(text), set()).add(key_)
    apart = [(meaning_, found) for meaning_, found in by_meaning.items() if len(found) > 1]
    check("one meaning, one key, however it is spelled", not apart, apart[:2])
    together = [(key_, found) for key_, found in by_key.items() if len(found) > 1]
    check("one key, one meaning", not together, together[:2])
    print(f"  {len(texts)} bodies, {len(by_key)} keys")
    check("of both kinds there were many", 200 < len(by_key) < len(texts) - 100, (len(texts), len(by_key)))
    node.stop()


def is_talk(messages):
    return isinstance(messages, list) and messages and all(
        isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str) and message["content"]
        for message in messages
    )


house.run(
    [
        directives_are_kept_as_another_cache_keeps_them,
        every_cache_status_is_a_structured_field,
        requests_are_the_same_exactly_if_they_mean_the_same,
    ],
    sys.argv[3:],
)
house.verdict()
