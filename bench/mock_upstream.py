"""An OpenAI-compatible upstream that costs almost nothing, so that what is measured is the gateway.

The last user message decides on the answer, because every gateway forwards it as it is:
`[deltas=50 pause_ms=5 per_write=1]` asks a stream for 50 deltas, 5 ms apart, each written alone;
`per_write=0` writes the whole stream at once.

    python -m bench.mock_upstream --port 9100 --cpu 1
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import sys
from typing import Any

import httptools
import uvloop

from bench.host import pin

DELTA = " lorem"
"""Text of each delta; the load counts it to know that nothing was lost."""
UNARY_DELTAS = 100
"""Length of a whole answer, in deltas."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_SCRIPT = re.compile(rb"\[deltas=(\d+) pause_ms=(\d+) per_write=(\d+)\]")
_HEAD = '{"id":"chatcmpl-mock","object":"%s","created":1700000000,"model":"gpt-4o-mini","choices":['
_USAGE = (
    '"usage":{"prompt_tokens":24,"completion_tokens":%d,"total_tokens":%d,'
    '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}'
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def _json_response(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


def _usage(deltas: int) -> str:
    return _USAGE % (deltas, deltas + 24)


ANSWER = (
    _HEAD % "chat.completion"
    + '{"index":0,"message":{"role":"assistant","content":"'
    + DELTA * UNARY_DELTAS
    + '"},"logprobs":null,"finish_reason":"stop"}],'
    + _usage(UNARY_DELTAS)
    + "}"
)
"""A whole answer, as JSON."""
_UNARY = _json_response(ANSWER)
_MODELS = _json_response('{"object":"list","data":[{"id":"gpt-4o-mini","object":"model"}]}')


def _event(choice: str, tail: str = "") -> str:
    return f"data: {_HEAD % 'chat.completion.chunk'}{choice}]{tail}}}\n\n"


_DELTA_EVENT = _event(f'{{"index":0,"delta":{{"content":"{DELTA}"}},"finish_reason":null}}')
_FIRST_EVENT = _event('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}')
_FINISH_EVENT = _event('{"index":0,"delta":{},"finish_reason":"stop"}')


def asked(body: bytes) -> tuple[int, int, float] | None:
    """Return what a request asks for: deltas, deltas per write and the pause in seconds; None: a whole answer."""
    if _STREAM.search(body) is None:
        return None
    script = _SCRIPT.search(body)
    deltas, pause_ms, per_write = map(int, script.groups()) if script else (20, 0, 1)
    return deltas, per_write, pause_ms / 1000


@functools.lru_cache(maxsize=64)
def events(deltas: int, per_write: int) -> tuple[tuple[str, ...], ...]:
    """Return the events of a stream, write by write."""
    size = per_write or deltas or 1
    groups = [(_DELTA_EVENT,) * min(size, deltas - at) for at in range(0, deltas, size)] or [()]
    groups[0] = (_FIRST_EVENT, *groups[0])
    end = (_FINISH_EVENT, _event("", "," + _usage(deltas)), "data: [DONE]\n\n")
    groups[-1] = (*groups[-1], *end)
    return tuple(groups)


def _chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


@functools.lru_cache(maxsize=64)
def _pieces(deltas: int, per_write: int) -> tuple[bytes, ...]:
    """Return what is written of a stream, write by write, head and end included."""
    groups = [b"".join(map(_chunk, group)) for group in events(deltas, per_write)]
    groups[0] = _STREAM_HEAD + groups[0]
    groups[-1] += b"0\r\n\r\n"
    return tuple(groups)


class _Connection(asyncio.Protocol):
    """One client connection; requests on it are answered one after another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._writable = True
        self._waiting: tuple[tuple[bytes, ...], int, float] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # Fixed by asyncio.
        self._transport = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._send(*waiting)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as err:
            print(f"mock upstream: {err}", file=sys.stderr)
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._transport is not None
        if self._url.endswith(b"/models"):
            self._transport.write(_MODELS)
        elif not self._url.endswith(b"/chat/completions"):
            self._transport.write(_NOT_FOUND)
        elif (stream := asked(self._body)) is None:
            self._transport.write(_UNARY)
        else:
            deltas, per_write, pause_s = stream
            self._send(_pieces(deltas, per_write), 0, pause_s)

    def _send(self, pieces: tuple[bytes, ...], at: int, pause_s: float) -> None:
        """Write one piece and come back for the next, after the pause or at the loop's next turn."""
        if self._transport is None:
            return
        if not self._writable:
            self._waiting = (pieces, at, pause_s)
            return
        self._transport.write(pieces[at])
        at += 1
        if at == len(pieces):
            return
        if pause_s:
            self._loop.call_later(pause_s, self._send, pieces, at, pause_s)
        else:
            self._loop.call_soon(self._send, pieces, at, pause_s)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", port, backlog=4096)
    print(f"mock upstream on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve on 127.0.0.1 until interrupted."""
    parser = argparse.ArgumentParser(description="OpenAI-compatible mock upstream on 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed")
    parser.add_argument("--cpu", type=int, help="pin to this CPU")
    options = parser.parse_args()
    pin(options.cpu)
    try:
        uvloop.run(_serve(options.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
