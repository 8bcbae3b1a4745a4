"""A scripted provider on a real socket: each test says, byte by byte if need be, what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request that reached the provider."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.gone = threading.Event()
        """Set once the gateway has closed the connection."""
        self._reader = reader
        self._writer = writer

    @property
    def json(self) -> Any:
        """The request's body, decoded."""
        return json.loads(self.body)

    async def respond(
        self, status: int, body: bytes, content_type: str = "application/json", **headers: str
    ) -> None:
        """Send a whole response."""
        head = {"content-type": content_type, "content-length": str(len(body))}
        head |= {name.replace("_", "-"): value for name, value in headers.items()}
        await self.send(_head(status, head) + body)

    async def answer(self, text: str = "Hello!", **message: Any) -> None:
        """Send a whole OpenAI answer."""
        await self.respond(200, json.dumps(completion(text, **message)).encode())

    async def begin_stream(self) -> None:
        """Send the head of an event stream, with chunked framing."""
        await self.send(
            _head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        )

    async def event(self, data: Any) -> None:
        """Send one event of the stream."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self.chunk(f"data: {text}\n\n".encode())

    async def chunk(self, data: bytes) -> None:
        """Send one piece of a chunked body; an empty one ends it."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def stream(self, pieces: Iterable[str], *, usage: Any = None) -> None:
        """Send a whole stream of an OpenAI answer."""
        await self.begin_stream()
        for piece in pieces:
            await self.event(chunk(piece))
        await self.event(chunk(None, finish_reason="stop"))
        await self.event({"choices": [], "usage": usage or USAGE})
        await self.event("[DONE]")
        await self.chunk(b"")

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def wait_until_gone(self) -> None:
        """Wait until the gateway closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(4096):
                pass
        self.gone.set()

    async def is_gone_within(self, seconds: float) -> bool:
        """Wait so long for the gateway to close the connection."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait_until_gone()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection: the gateway sees ECONNRESET."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Upstream:
    """The provider. `handler` answers every request until it is replaced."""

    def __init__(self) -> None:
        self.handler: Handler = answer_or_stream
        self.exchanges: list[Exchange] = []
        self.models: list[dict[str, Any]] = []
        """What GET /models lists."""
        self.lists: dict[str, bytes] = {}
        """Bodies of other lists, by path."""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    @property
    def base_url(self) -> str:
        """What goes into the provider's configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Exchange:
        """The newest request."""
        return self.exchanges[-1]

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._started.wait(10)

    def stop(self) -> None:
        """Stop listening and end what runs."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def reset(self) -> None:
        """Forget requests, and answer normally again."""
        self.handler = answer_or_stream
        self.exchanges.clear()

    def event(self) -> asyncio.Event:
        """Return an event of the provider's loop, for a handler to wait on; set it with `set`."""
        return asyncio.Event()

    def set(self, event: asyncio.Event) -> None:
        """Set an event from the test's thread."""
        self._loop.call_soon_threadsafe(event.set)

    def wait_for_requests(self, count: int, timeout: float = 30) -> None:
        """Wait until that many requests have arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.exchanges) >= count, timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.strip().split("\r\n")
                headers = {
                    name.lower(): value for name, value in (line.split(": ", 1) for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if request.startswith("GET "):
                    # The gateway asks by itself, in the background; no test counts that.
                    path = request.split(" ")[1]
                    await _list_models(writer, self.lists.get(path) or _encoded(self.models))
                    continue
                exchange = Exchange(reader, writer, request.split(" ")[1], headers, body)
                with self._arrived:
                    self.exchanges.append(exchange)
                    self._arrived.notify_all()
                await self.handler(exchange)
                if writer.is_closing():
                    return
        writer.close()


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


async def answer_or_stream(exchange: Exchange) -> None:
    """Answer as a well-behaved provider does."""
    if exchange.path.endswith("/embeddings"):
        vectors = [{"index": i, "embedding": [0.5]} for i in range(len(exchange.json["input"]))]
        await exchange.respond(200, json.dumps({"data": vectors, "usage": USAGE}).encode())
    elif exchange.json.get("stream"):
        await exchange.stream(["Hel", "lo", "!"])
    else:
        await exchange.answer()


def _encoded(models: list[dict[str, Any]]) -> bytes:
    return json.dumps({"object": "list", "data": models}).encode()


async def _list_models(writer: asyncio.StreamWriter, body: bytes) -> None:
    head = {"content-type": "application/json", "content-length": str(len(body))}
    writer.write(_head(200, head) + body)
    await writer.drain()


def completion(text: str | None = "Hello!", **extra: Any) -> dict[str, Any]:
    """Return an OpenAI answer."""
    return {
        "id": "upstream-1",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **extra},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def chunk(text: str | None, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return a step of an OpenAI stream."""
    if text is not None:
        delta["content"] = text
    return {
        "id": "upstream-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
