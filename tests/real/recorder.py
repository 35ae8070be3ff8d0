"""A model server that remembers: what arrived, and how each exchange ended. The model's name chooses its behaviour.

Prints `listening URL` on standard output and ends when standard input closes. Standard library only.

    steady     answers well: words, or a call if tools are given; streams pause 20 ms between events
    endless    streams an event every 10 ms until the client leaves
    silent     takes the request and never answers
    broken     streams five events, then closes without an end
    refusing   400, overloaded 429 with Retry-After, failing 500: in OpenAI's shape

Two questions may be asked, with `tag` a word that stands in the body of the requests meant:

    GET /recorded?tag=T   the requests with that word, as JSON, with `ended` one of answered, left, open
    GET /ended?tag=T      the same, once none of them is open any more (or after 20 s)
"""

import asyncio
import contextlib
import json
import os
import sys
import urllib.parse

BODY_BYTES = 16 << 20
WAIT_SECONDS = 20
ENDLESS_EVENTS = 6000

records = []
changed = asyncio.Condition()


class Gone(Exception):
    """The client has closed its side."""


async def settle(record, ended):
    async with changed:
        record["ended"] = ended
        changed.notify_all()


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = start.split(" ", 2)
    headers = [line.split(":", 1) for line in lines if line]
    headers = [[name.strip().lower(), value.strip()] for name, value in headers]
    named = dict(headers)
    if named.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
            assert len(body) <= BODY_BYTES
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    else:
        length = int(named.get("content-length", "0"))
        assert length <= BODY_BYTES
        body = await reader.readexactly(length)
    return method, target, headers, body


class Exchange:
    """One request being answered. Between events it looks whether the client is still there."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def pause(self, seconds):
        """Waits, unless the client leaves first. A byte of a next request would be an error: nobody pipelines here."""
        try:
            early = await asyncio.wait_for(self.reader.read(1), seconds)
        except asyncio.TimeoutError:
            return
        except OSError as error:
            raise Gone from error
        if early:
            raise RuntimeError("a second request before the first was answered")
        raise Gone

    async def send(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise Gone from error

    async def whole(self, status, value, extra=""):
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.send(head.encode() + body)

    async def open_stream(self):
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, data):
        line = f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
        await self.send(b"%x\r\n%b\r\n" % (len(line), line))

    async def close_stream(self):
        await self.event("[DONE]")
        await self.send(b"0\r\n\r\n")


def chunk(number, **rest):
    return {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": "recorder", **rest}


def choice(delta, finish=None):
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]


def answer_of(body, number):
    """The message, the deltas that make it, and its finish reason."""
    if body.get("tools"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        opening = {"index": 0, **call, "function": {**function, "arguments": ""}}
        pieces = [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ('{"ci', 'ty": "Pa', 'ris"}')
        ]
        deltas = [{"role": "assistant", "content": None, "tool_calls": [opening]}, *pieces]
        return {"role": "assistant", "content": None, "tool_calls": [call]}, deltas, "tool_calls"
    words = [f"word{place} " for place in range(20)] + [f"of answer {number} – “äöü” ✓"]
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    return {"role": "assistant", "content": "".join(words)}, deltas, "stop"


async def answer_steady(exchange, body, number):
    message, deltas, finish = answer_of(body, number)
    usage = {"prompt_tokens": 7, "completion_tokens": len(deltas), "total_tokens": 7 + len(deltas)}
    if not body.get("stream"):
        await exchange.pause(0.05)
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
        value = chunk(number, choices=choices, usage=usage)
        await exchange.whole(200, {**value, "object": "chat.completion"})
        return
    await exchange.open_stream()
    for delta in deltas:
        await exchange.pause(0.02)
        await exchange.event(chunk(number, choices=choice(delta)))
    await exchange.event(chunk(number, choices=choice({}, finish)))
    if (body.get("stream_options") or {}).get("include_usage"):
        await exchange.event(chunk(number, choices=[], usage=usage))
    await exchange.close_stream()


async def answer(exchange, body, number):
    """Answers by the model's name; returns False when the connection must close."""
    match body.get("model"):
        case "steady":
            await answer_steady(exchange, body, number)
        case "endless":
            await exchange.open_stream()
            for place in range(ENDLESS_EVENTS):
                await exchange.event(chunk(number, choices=choice({"content": f"{place} "})))
                await exchange.pause(0.01)
            return False
        case "silent":
            await exchange.pause(60)
            return False
        case "broken":
            await exchange.open_stream()
            for place in range(5):
                await exchange.event(chunk(number, choices=choice({"content": f"{place} "})))
            return False
        case "refusing":
            error = {
                "message": "temperature is out of range",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": "odd",
            }
            await exchange.whole(400, {"error": error})
        case "overloaded":
            error = {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
            await exchange.whole(429, {"error": error}, "retry-after: 7\r\n")
        case "failing":
            await exchange.whole(
                500, {"error": {"message": "broken", "type": "server_error", "param": None, "code": None}}
            )
        case other:
            error = {
                "message": f"no model {other}",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
            await exchange.whole(404, {"error": error})
    return True


async def until_ended(found):
    async with changed:
        await changed.wait_for(lambda: found() and all(record["ended"] != "open" for record in found()))


async def question(exchange, target):
    parts = urllib.parse.urlsplit(target)
    tag = urllib.parse.parse_qs(parts.query).get("tag", [""])[0]
    found = lambda: [record for record in records if tag in record["body"]]
    if parts.path == "/ended":
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(until_ended(found), WAIT_SECONDS)
    elif parts.path != "/recorded":
        await exchange.whole(404, {"error": {"message": "nothing here"}})
        return
    await exchange.whole(200, found())


async def serve(reader, writer):
    exchange = Exchange(reader, writer)
    try:
        while True:
            method, target, headers, raw = await read_request(reader)
            if method == "GET":
                await question(exchange, target)
                continue
            record = {"path": target, "headers": headers, "body": raw.decode(), "ended": "open"}
            records.append(record)
            try:
                kept = await answer(exchange, json.loads(raw), len(records))
            except Gone:
                await settle(record, "left")
                return
            await settle(record, "answered")
            if not kept:
                return
    except (asyncio.IncompleteReadError, OSError, Gone):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024, limit=64 << 10)
    port = server.sockets[0].getsockname()[1]
    print(f"listening http://127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
