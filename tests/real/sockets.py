"""A backend that speaks OpenAI's Realtime API over WebSockets, as far as a client can tell: for `edge.py`. Each session begins
with `session.created`, and each event is answered; a binary message comes back as it was.
"""

import asyncio
import contextlib
import json
import threading

import websockets
from websockets.asyncio.server import serve


class Realtime:
    """Listens on `port` in a thread of its own, with TLS if there is a `context`."""

    def __init__(self, port, context=None):
        # What each session's opening said, and how it was closed.
        self.opened, self.closed = [], []
        ready = threading.Event()
        threading.Thread(target=asyncio.run, args=(self.run(port, context, ready),), daemon=True).start()
        if not ready.wait(30):
            raise RuntimeError("the backend of WebSockets did not start")

    async def run(self, port, context, ready):
        async with serve(self.session, "127.0.0.1", port, ssl=context, max_size=None, process_request=self.judge,
                         select_subprotocol=lambda _, offered: "realtime" if "realtime" in offered else None):
            ready.set()
            await asyncio.Future()

    def judge(self, connection, request):
        if "model=nothing" in request.path:
            return connection.respond(404, '{"error": {"code": "model_not_found", "message": "There is none."}}')
        return None

    async def session(self, socket):
        self.opened.append((socket.request.path, dict(socket.request.headers.raw_items())))
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.send(json.dumps({"type": "session.created", "event_id": "e0", "session": {"type": "realtime"}}))
            async for message in socket:
                await socket.send(message if isinstance(message, bytes) else self.answer(json.loads(message)))
        self.closed.append((socket.close_code, socket.close_reason))

    def answer(self, event):
        if event["type"] == "session.update":
            return json.dumps({"type": "session.updated", "event_id": "e1", "session": event["session"]})
        return json.dumps({"type": "response.done", "event_id": "e2", "response": {"id": "r", "object": "realtime.response",
                                                                                   "status": "completed"}})
