"""Server-sent events: frames, and the response they are written to."""

from __future__ import annotations

from litestar.types import Send

from maniac_edge.context import Header, RequestContext

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    # Asks proxies in between not to hold events back.
    (b"x-accel-buffering", b"no"),
]


def frame(data: bytes) -> bytes:
    """Return the event for a JSON text without line breaks. Clients insist on the space."""
    return b"data: " + data + b"\n\n"


class EventStream:
    """A 200 response of events. The status line leaves with the first write."""

    def __init__(self, send: Send, context: RequestContext) -> None:
        self._send = send
        self._context = context
        self.is_open = False

    async def write(self, data: bytes) -> None:
        """Write complete frames, at once; waits while the client does not read."""
        if not self.is_open:
            await self._open()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Write the last frames and end the response."""
        if not self.is_open:
            await self._open()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _open(self) -> None:
        self.is_open = True
        self._context.streamed = True
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
