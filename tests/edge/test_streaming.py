"""Streams in time: when bytes leave, what keeps them alive, how they fail and how they are given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Iterable
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
    b"x-request-id: %s\r\ncontent-length: %d\r\n\r\n"
)


def request(body: dict[str, Any], request_id: str = "raw") -> bytes:
    """Return the bytes of a request."""
    data = json.dumps(body).encode()
    return HEAD % (request_id.encode(), len(data)) + data


async def test_each_chunk_leaves_when_it_is_there(client: httpx.AsyncClient, core: Any) -> None:
    """A chunk reaches the client before the core makes the next one."""
    go_on = asyncio.Event()

    async def stepwise(_: Any, __: Any) -> Any:
        for text in "abc":
            yield core.chunk(content=text)
            await go_on.wait()
            go_on.clear()

    core.on_stream = stepwise
    seen = []
    async with client.stream("POST", URL, json=REQUEST) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                seen.append(json.loads(line[6:])["choices"][0]["delta"]["content"])
                go_on.set()

    assert seen == ["a", "b", "c"]


async def test_chunks_that_are_ready_together_leave_together(edge: Any, core: Any) -> None:
    """A burst of chunks is written in far fewer pieces than chunks."""

    async def burst(_: Any, __: Any) -> Any:
        for i in range(500):
            yield core.chunk(content=str(i))

    core.on_stream = burst
    pieces = 500
    # On a busy machine they may come one by one, but not always.
    for _ in range(20):
        async with edge.connection(request(REQUEST)) as (reader, _):
            data = await reader.readuntil(b"0\r\n\r\n")
        assert data.count(b"data: {") == 500
        # A piece of the chunked coding starts after its length.
        pieces = min(pieces, data.count(b"\r\ndata: "))
        if pieces < 200:
            break

    assert pieces < 200


async def test_a_failure_before_the_first_chunk_has_its_true_status(
    client: httpx.AsyncClient, core: Any
) -> None:
    """The status line is held until the core's first chunk, so an early failure is plain JSON."""

    async def refuse(_: Any, context: Any) -> Any:
        await core.fail(context, "MODEL_NOT_FOUND", "No such model.", metadata={"param": "model"})
        yield

    core.on_stream = refuse
    answer = await client.post(URL, json=REQUEST)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.headers["x-ratelimit-limit"] == "600"


async def test_a_failure_after_the_first_chunk_is_an_error_frame(
    client: httpx.AsyncClient, core: Any
) -> None:
    """A stream that breaks ends with an error frame of four keys, then the end mark."""

    async def break_off(_: Any, context: Any) -> Any:
        yield core.chunk(content="a")
        await core.fail(context, "UPSTREAM_ERROR", "It broke.")

    core.on_stream = break_off
    answer = await client.post(URL, json=REQUEST)
    frames = answer.text.split("\n\n")

    assert answer.status_code == 200
    assert json.loads(frames[1][6:]) == {
        "error": {
            "message": "It broke.",
            "type": "api_error",
            "param": None,
            "code": "upstream_error",
        }
    }
    assert frames[2:] == ["data: [DONE]", ""]


async def test_a_stream_without_chunks_is_an_empty_answer(
    client: httpx.AsyncClient, core: Any
) -> None:
    """A good end without any chunk is a stream with nothing but the end mark."""

    async def nothing(_: Any, __: Any) -> Any:
        return
        yield

    core.on_stream = nothing
    answer = await client.post(URL, json=REQUEST)

    assert (answer.status_code, answer.text) == (200, "data: [DONE]\n\n")


@pytest.mark.parametrize("before", [True, False], ids=["before the first chunk", "between chunks"])
async def test_a_silent_stream_is_kept_alive(tight_edge: Any, core: Any, before: bool) -> None:
    """Comments come while the core is silent, before the first chunk too; then the stream goes on."""
    go_on = asyncio.Event()

    async def pause(_: Any, __: Any) -> Any:
        if not before:
            yield core.chunk(content="a")
        await go_on.wait()
        yield core.chunk(content="b")

    core.on_stream = pause
    comments = 0
    lines = []
    async with tight_edge.client() as client, client.stream("POST", URL, json=REQUEST) as answer:
        async for line in answer.aiter_lines():
            if line == ": keep-alive":
                comments += 1
                if comments == 3:
                    go_on.set()
            elif line:
                lines.append(line)

    assert comments >= 3
    assert len(lines) == (2 if before else 3)
    assert lines[-1] == "data: [DONE]"


async def test_a_failure_after_a_comment_is_an_error_frame(tight_edge: Any, core: Any) -> None:
    """Once a comment has committed the 200, a failure before the first chunk is a frame."""
    go_on = asyncio.Event()

    async def late_refusal(_: Any, context: Any) -> Any:
        await go_on.wait()
        await core.fail(context, "UPSTREAM_TIMEOUT")
        yield

    core.on_stream = late_refusal
    text = ""
    async with tight_edge.client() as client, client.stream("POST", URL, json=REQUEST) as answer:
        async for piece in answer.aiter_text():
            text += piece
            go_on.set()

    assert answer.status_code == 200
    assert '"code":"upstream_timeout"' in text
    assert text.endswith("data: [DONE]\n\n")


class Cancelled:
    """Notes when a call of the core is cancelled."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.at = 0.0

    async def wait(self) -> None:
        """Wait to be cancelled."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.at = time.perf_counter()
            self.cancelled.set()
            raise


@pytest.mark.parametrize("moment", ["whole", "before the first chunk", "in mid-stream"])
async def test_a_client_that_leaves_cancels_the_core(edge: Any, core: Any, moment: str) -> None:
    """When the client closes its connection the core's call is cancelled within 100 ms."""

    async def leave(request_id: str) -> float:
        watch = Cancelled()

        async def create(_: Any, __: Any) -> Any:
            await watch.wait()

        async def stream(_: Any, __: Any) -> Any:
            if moment == "in mid-stream":
                yield core.chunk(content="a")
            await watch.wait()

        core.on_create, core.on_stream = create, stream
        body = {**REQUEST, "stream": moment != "whole"}
        async with edge.connection(request(body, request_id)) as (reader, _):
            if moment == "in mid-stream":
                await reader.readuntil(b'"content":"a"')
            await watch.started.wait()
            left = time.perf_counter()
        await asyncio.wait_for(watch.cancelled.wait(), 60)
        record = await edge.record(request_id)

        assert record["status"] == 499
        return watch.at - left

    assert await soon(leave(f"gone-{moment.replace(' ', '-')}-{n}") for n in range(20))


async def soon(tries: Iterable[Awaitable[float]]) -> bool:
    """Say whether one of the tries took less than 100 ms: a busy machine may be late, but not always."""
    for one in tries:
        if await one < 0.1:
            return True
    return False


class Flood(Cancelled):
    """Yields large chunks without end, counting those that were taken."""

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._response = core.chunk(content="x" * 32_768)
        self._progress = asyncio.Event()
        self.sent = 0

    async def stream(self, _request: Any, _context: Any) -> Any:
        """Be the core's answer."""
        try:
            while True:
                yield self._response
                self.sent += 1
                self._progress.set()
        finally:
            self.at = time.perf_counter()
            self.cancelled.set()

    async def rest(self) -> None:
        """Wait until nothing was taken for a quarter of a second."""
        with contextlib.suppress(TimeoutError):
            while True:
                await asyncio.wait_for(self._progress.wait(), 0.25)
                self._progress.clear()


async def test_a_slow_reader_stops_its_core_and_nothing_else(edge: Any, core: Any) -> None:
    """Behind a client that does not read, the core's stream comes to rest after a bounded amount; others go on.

    When that client leaves, though its data are buffered everywhere, the core's call is cancelled within 100 ms.
    """

    async def leave() -> float:
        flood = Flood(core)
        core.on_stream = flood.stream
        async with edge.connection(request(REQUEST), limit=1024) as (reader, _):
            await reader.readuntil(b"200 OK")
            await flood.rest()
            sent = flood.sent
            core.on_stream = core.chunks
            async with edge.client() as client:
                other = await client.post(URL, json=REQUEST)
            left = time.perf_counter()
        await asyncio.wait_for(flood.cancelled.wait(), 60)

        assert sent * 32_768 < 32 * 1024 * 1024
        assert other.text.endswith("data: [DONE]\n\n")
        return flood.at - left

    assert await soon(leave() for _ in range(10))


async def test_a_client_that_leaves_in_a_flood_does_not_hang_the_edge(edge: Any, core: Any) -> None:
    """Leaving while chunks pour in cancels the core and leaves the process able to serve."""
    flood = Flood(core)
    core.on_stream = flood.stream
    async with edge.connection(request(REQUEST)) as (reader, _):
        await reader.readexactly(5_000_000)
    await asyncio.wait_for(flood.cancelled.wait(), 60)

    async with edge.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_a_client_that_stays_is_not_taken_for_gone(edge: Any, core: Any) -> None:
    """Two requests on one connection, the second sent before the first is answered, are both answered."""
    go_on = asyncio.Event()

    async def wait(asked: Any, context: Any) -> Any:
        await go_on.wait()
        return await core.answer(asked, context)

    core.on_create = wait
    body = {**REQUEST, "stream": False}
    async with edge.connection(request(body, "one") + request(body, "two")) as (reader, _):
        go_on.set()
        first = await reader.readuntil(b'"total_tokens":12')
        second = await reader.readuntil(b'"total_tokens":12')

    assert b"x-request-id: one" in first
    assert b"x-request-id: two" in second
