"""One request and its answer, between a connection and the app.

uvicorn's own examines every header by itself, and waits by primitives that serve many. Most of an edge's requests are
small, so that this was a tenth of their cost.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# All but the tab, line breaks included.
_CONTROL = bytes({*range(32), 127} - {9})
# Answers that have neither a length nor an end.
_BODILESS = frozenset({204, 304})


class Arrival:
    """Says that something of a request has arrived; one task at most waits for it."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """It has."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """It is taken."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait for it."""
        while not self._is_set:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class EdgeCycle(RequestResponseCycle):
    """A cycle whose app gives header names in lower case, and no coding of its own."""

    async def send(self, message: Any) -> None:
        """Send the next part of the answer; waits while the client does not read.

        Raises:
            RuntimeError: it is not one that may follow, or a header would break the answer.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self.response_started = True
            self.waiting_for_100_continue = False
            self.transport.write(self._head(message["status"], message["headers"]))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message["body"], more=message["more_body"])
        else:
            raise RuntimeError(f"{kind} cannot be sent now.")

    def _head(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status]]
        closes = False
        count = 1
        for fields in (self.default_headers, headers):
            for name, value in fields:
                if name == b"content-length":
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                elif name == b"connection" and b"close" in value.lower():
                    closes = True
                lines += (name, b": ", value, b"\r\n")
                count += 1
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
            count += 1
        has_body = self.scope["method"] != "HEAD" and status not in _BODILESS
        if self.chunked_encoding is None and has_body:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
            count += 1
        lines.append(b"\r\n")
        head = b"".join(lines)
        # What more there is than the ends of the lines is in a header.
        if len(head) - len(head.translate(None, _CONTROL)) != 2 * (count + 1):
            raise RuntimeError("A header has a line break or a control character in it.")
        return head

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            pieces = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            if not more:
                pieces.append(b"0\r\n\r\n")
            self.transport.write(b"".join(pieces))
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("The body is longer than its content-length.")
            self.transport.write(body)
        if more:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("The body is shorter than its content-length.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
