"""A plain ASGI app under uvicorn that answers the mock upstream's bytes itself: what any Python server costs at least.

    python -m bench.plain_app --port 9101

Times differ from machine to machine; how many times this app's cost a gateway needs differs less.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench.mock_upstream import ANSWER, asked, events

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_ANSWER = ANSWER.encode()
_JSON = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_ANSWER)).encode()),
]
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Read the request and answer it."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    stream = asked(body)
    if stream is None:
        await send({"type": "http.response.start", "status": 200, "headers": _JSON})
        await send({"type": "http.response.body", "body": _ANSWER})
        return
    deltas, per_write, pause_s = stream
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})
    for number, group in enumerate(events(deltas, per_write)):
        if number:
            await asyncio.sleep(pause_s)
        data = "".join(group).encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    """Serve on 127.0.0.1 until interrupted."""
    parser = argparse.ArgumentParser(description="the least that a Python server costs")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
