"""Responses over a WebSocket: each message of the client asks for one, and gets its events as messages.

Each is served as a request by HTTP would be, with the same gates, headers of the handshake, limits and lines in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from maniac_edge.context import Header, RequestContext
from maniac_edge.errors import EdgeError, envelope
from maniac_edge.http.client_connection import CLIENT_WATCH, ClientWatch
from maniac_edge.http.proxies import Proxies
from maniac_edge.requests.bodies import Access

PATHS = frozenset({b"/v1/responses", b"/api/v1/responses"})
_CREATE = "response.create"
_BUSY = "A response is under way: ask for the next one when it has ended."
_INTERNAL_ERROR = 1011
_OK = 200
# Of the handshake and not of the requests, or of each request its own.
_NOT_PASSED = frozenset(
    {b"connection", b"upgrade", b"content-length", b"x-request-id", b"idempotency-key"}
)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_DATA = b"data: "


class ResponsesSocket:
    """Serves the WebSocket connections of an app."""

    def __init__(self, app: ASGIApp, access: Access, proxies: Proxies) -> None:
        self._app = app
        self._access = access
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until its client goes."""
        await receive()
        context = self._context(scope)
        try:
            await self._access.check_access(context, body_follows=True)
        except EdgeError as err:
            await _refuse(send, err, context)
            return
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        watch = ClientWatch(lambda: None, lambda _: None)
        running: asyncio.Task[None] | None = None
        events = _Events(send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                try:
                    body = _request(message.get("text") or "", is_busy=not events.are_over)
                except EdgeError as err:
                    await _send_event(send, _failed(err.status, _decode_any(envelope(err))))
                    continue
                if running is not None:
                    # Its last event is out.
                    await running
                events = _Events(send, are_over=False)
                request = _http_scope(scope, body, watch)
                running = asyncio.create_task(self._answer(request, body, events, watch))
        finally:
            watch.note_gone()
            if running is not None:
                await asyncio.wait([running])

    async def _answer(self, scope: Scope, body: bytes, events: _Events, watch: ClientWatch) -> None:
        try:
            await self._app(scope, _once(body), events.send)
        finally:
            if not events.are_over and not watch.is_gone:
                # The events have no end, and so the connection must have one.
                await events.break_off()

    def _context(self, scope: Scope) -> RequestContext:
        client = scope.get("client")
        address = client[0] if client else ""
        if self._proxies:
            address = self._proxies.client_address(address, scope["headers"])
        return RequestContext(scope["headers"], scope["path"], address)


def _request(text: str, *, is_busy: bool) -> bytes:
    """Return the body of the request that a message asks for. `is_busy`: another one is being answered.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or CONFLICT.
    """
    try:
        members = _decode(text)
        kind = msgspec.json.decode(members.pop("type", msgspec.Raw(b"null")))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as err:
        raise EdgeError("INVALID_JSON", f"The message is not a JSON object: {err}.") from None
    if kind != _CREATE:
        raise EdgeError("INVALID_VALUE", f"type must be {_CREATE!r}.", param="type")
    if is_busy:
        raise EdgeError("CONFLICT", _BUSY)
    # Of this transport, and not of the request.
    members.pop("stream_id", None)
    return _encode({**members, "stream": True})


def _http_scope(scope: Scope, body: bytes, watch: ClientWatch) -> Scope:
    headers: list[Header] = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _NOT_PASSED and not name.startswith(b"sec-websocket-")
    ]
    values: dict[str, Any] = {
        **scope,
        "type": "http",
        "method": "POST",
        "scheme": "https" if scope["scheme"] == "wss" else "http",
        "headers": [*headers, (b"content-length", b"%d" % len(body))],
        "state": dict(scope["state"]),
        "extensions": {CLIENT_WATCH: watch},
    }
    return values  # type: ignore[return-value]


def _once(body: bytes) -> Receive:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class _Events:
    """Sends an answer by HTTP as messages: events, or one for an error."""

    def __init__(self, send: Send, *, are_over: bool = True) -> None:
        self.are_over = are_over
        self._send = send
        self._status = 0
        self._waiting = b""

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        if message["type"] != "http.response.body":
            return
        data = self._waiting + message["body"]
        # The client may answer the last one before it is known here that it was sent.
        self.are_over = not message["more_body"]
        if self._status != _OK:
            self._waiting = data
            if not message["more_body"]:
                await _send_event(self._send, _failed(self._status, _decode_any(data)))
            return
        *events, self._waiting = data.split(b"\n\n")
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(_DATA) and line != b"data: [DONE]":
                    await _send_event(self._send, line[len(_DATA) :])

    async def break_off(self) -> None:
        """Close the connection."""
        end: Any = {"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": ""}
        await self._send(end)


def _failed(status: int, body: Mapping[str, Any]) -> bytes:
    """Return the event of a request that was refused: with the members of a stream's error, too."""
    error = body["error"]
    named = {name: error.get(name) for name in ("code", "message", "param")}
    return _encode(
        {"type": "error", "status": status, "error": error, **named, "sequence_number": 0}
    )


async def _send_event(send: Send, data: bytes) -> None:
    await send({"type": "websocket.send", "bytes": None, "text": data.decode()})


async def _refuse(send: Send, error: EdgeError, context: RequestContext) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", context.request_id.encode("ascii")),
        *context.response_headers.items(),
    ]
    start: Any = {"type": "websocket.http.response.start", "status": error.status}
    start["headers"] = headers
    await send(start)
    body: Any = {"type": "websocket.http.response.body", "body": envelope(error)}
    body["more_body"] = False
    await send(body)
