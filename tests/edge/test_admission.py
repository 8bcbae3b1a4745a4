"""The key is asked for before a body is read, and what a body may hold is bounded while it arrives."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

URL = "/v1/chat/completions"
GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
MIB = 2**20
ROUTES = [
    ("POST", URL),
    ("POST", "/api/v1/chat/completions"),
    ("GET", URL),
    ("POST", "/v1/containers"),
    ("PATCH", "/v1/containers/box"),
    ("POST", "/v1/containers/box/models"),
    ("POST", "/v1/models"),
    ("POST", "/v1/evaluators"),
    ("PATCH", "/v1/evaluators/judge"),
    ("POST", "/v1/datasets"),
]


def head(verb: str, path: str, *headers: str) -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


def refuse_everyone(core: Any) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await core.fail(context, "MISSING_API_KEY", "No key.")

    core.on_access = refuse


@pytest.mark.parametrize(("verb", "path"), ROUTES)
@pytest.mark.parametrize("framing", [f"content-length: {30 * MIB}", "transfer-encoding: chunked"])
async def test_a_body_is_not_read_without_a_key(
    edge: Any, core: Any, verb: str, path: str, framing: str
) -> None:
    """On every route a large body is refused after its beginning, and nothing but the gates is asked."""
    refuse_everyone(core)
    async with edge.connection(head(verb, path, framing)) as (reader, writer):
        if "chunked" in framing:
            for _ in range(66):
                writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert b'"code":"missing_api_key"' in answer
    assert {name for name, _, _ in core.calls} == {"access"}
    assert [request.body_follows for request in core.asked("access")] == [True]


async def test_a_small_body_costs_no_question(edge: Any, core: Any) -> None:
    """A body that comes a little after its head, as most HTTP libraries send it, is only waited for."""
    start = head("POST", URL, f"content-length: {len(GOOD)}", "connection: close")
    async with edge.connection(start + GOOD[:10]) as (reader, writer):
        await writer.drain()
        await edge_has_read(edge)
        writer.write(GOOD[10:])
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [name for name, _, _ in core.calls] == ["create"]


async def edge_has_read(edge: Any) -> None:
    """Wait until the edge has served another request."""
    async with edge.client() as client:
        await client.get("/healthz")


async def test_a_large_body_asks_once_and_is_served(client: httpx.AsyncClient, core: Any) -> None:
    """Beyond 64 KiB the gates are asked about a body that follows, and then the whole is served."""
    answer = await client.post(URL, content=GOOD.ljust(3 * MIB))

    assert answer.status_code == 200
    assert [name for name, _, _ in core.calls] == ["access", "create"]
    assert core.asked("create")[0].params.messages[0].text == "hi"


async def test_a_body_that_drips_is_asked_for_its_key(start_edge: Any, core: Any) -> None:
    """Who sends a small body slowly is not waited for without a key."""
    refuse_everyone(core)
    async with start_edge(core.target, python=IMPATIENT) as edge:
        start = head("POST", URL, "content-length: 100")
        async with edge.connection(start + b"{") as (reader, _):
            answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_body_that_never_ends_is_a_408(start_edge: Any, core: Any) -> None:
    """Whoever has a key has a time for the body, too."""
    async with start_edge(core.target, body_timeout_s=0.3) as edge:
        start = head("POST", URL, "content-length: 100000")
        async with edge.connection(start + b"{") as (reader, _):
            answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert [name for name, _, _ in core.calls] == ["access", "access"]


async def test_a_client_that_waits_is_asked_for_its_key_first(edge: Any, core: Any) -> None:
    """With `Expect: 100-continue` a caller without a key is told so instead of being asked to go on."""
    start = head("POST", URL, "expect: 100-continue", f"content-length: {len(GOOD)}")
    async with edge.connection(start) as (reader, writer):
        go_on = await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD)
        served = await reader.readuntil(b"\r\n\r\n")
    refuse_everyone(core)
    async with edge.connection(start) as (reader, _):
        refused = await reader.read()

    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert served.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 401 ")


async def test_a_client_that_sends_it_all_reads_the_refusal(edge: Any, core: Any) -> None:
    """A client that only reads once it has sent everything is not met by a reset."""
    refuse_everyone(core)
    async with httpx.AsyncClient(base_url=edge.url) as client:
        answer = await client.post(URL, content=GOOD.ljust(20 * MIB))

    assert answer.status_code == 401


TINY = b'{"role":"user","content":""}'
MANY = b'{"model":"m","messages":[' + b",".join([TINY] * 1_000_000) + b"]}"


async def test_a_million_tiny_messages_cost_little(start_edge: Any, core: Any) -> None:
    """Neither without a key nor with one is a body of nothing but structure decoded."""
    async with start_edge(core.target) as edge, edge.client() as client:
        before = usage(edge.process.pid)
        refuse_everyone(core)
        without = await client.post(URL, content=MANY)
        core.on_access = core.admit
        with_key = await client.post(URL, content=MANY)
        cpu_s, peak = (b - a for a, b in zip(before, usage(edge.process.pid), strict=True))

    assert without.status_code == 401
    assert with_key.status_code == 413
    assert "values" in with_key.json()["error"]["message"]
    assert cpu_s < 1.5
    assert peak < 96 * MIB


async def test_unread_bodies_of_callers_without_a_key_hold_little(
    start_edge: Any, core: Any
) -> None:
    """Many connections that send a lot before any of them has a key cost the edge less than one body."""
    asked = 0
    all_asked = asyncio.Event()
    answer_now = asyncio.Event()

    async def refuse_late(_: Any, context: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 20:
            all_asked.set()
        await answer_now.wait()
        await core.fail(context, "MISSING_API_KEY", "No key.")

    core.on_access = refuse_late
    async with start_edge(core.target) as edge:
        _, before = usage(edge.process.pid)

        async def send() -> bytes:
            start = head("POST", URL, f"content-length: {30 * MIB}")
            async with edge.connection(start + b" " * 4 * MIB) as (reader, _):
                answer: bytes = await reader.read()
                return answer

        # Their writes are held back until the refusal, after which the edge takes the rest in and throws it away.
        senders = [asyncio.create_task(send()) for _ in range(20)]
        async with asyncio.timeout(30):
            await all_asked.wait()
        _, held = usage(edge.process.pid)
        answer_now.set()
        answers = await asyncio.gather(*senders)
        _, after = usage(edge.process.pid)

    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 401 "}
    assert held - before < 16 * MIB
    assert after - before < 24 * MIB


def usage(pid: int) -> tuple[float, int]:
    """Return the CPU seconds of a process and its peak memory in bytes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu_s, int(peak.split()[1]) * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_edge(start_edge: Any, shared_core: Any) -> AsyncGenerator[Any, None]:
    """An edge with small limits."""
    settings = {
        "max_messages": 3,
        "max_parts": 4,
        "max_tools": 2,
        "max_json_values": 100,
        "max_json_depth": 8,
    }
    async with start_edge(shared_core.target, **settings) as process:
        yield process


MESSAGE = {"role": "user", "content": "hi"}
PART = {"type": "text", "text": "a"}
TOOL = {"type": "function", "function": {"name": "f"}}


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [MESSAGE], **fields}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


WITHIN = {
    "messages": request(messages=[MESSAGE] * 3),
    "parts": request(messages=[{"role": "user", "content": [PART] * 2}] * 2),
    "tools": request(tools=[TOOL] * 2),
    "values": request(x=[1] * 93),
    "depth": request(x=nested(7)),
    "brackets in strings": request(x="[" * 500 + ',{"' * 500),
}
BEYOND = {
    "messages": (request(messages=[MESSAGE] * 4), 400, "messages", "max_messages"),
    "parts": (
        request(messages=[{"role": "user", "content": [PART] * 5}]),
        400,
        "messages",
        "max_parts",
    ),
    "tools": (request(tools=[TOOL] * 3), 400, "tools", "max_tools"),
    "values": (request(x=[1] * 94), 413, None, "max_json_values"),
    "depth": (request(x=nested(8)), 400, None, "max_json_depth"),
    "depth beside brackets in strings": (
        request(x=["]", nested(8), "]]]]]]]]"]),
        400,
        None,
        "max_json_depth",
    ),
}


@pytest.mark.parametrize("body", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("padding", [0, 300_000])
async def test_a_request_at_the_limits_is_served(
    small_edge: Any, core: Any, body: Any, padding: int
) -> None:
    """What may be may be, whether it arrives in one piece or in many."""
    del core
    async with small_edge.client() as client:
        answer = await client.post(URL, content=json.dumps(body).encode() + b" " * padding)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("body", "status", "param", "setting"), BEYOND.values(), ids=BEYOND)
@pytest.mark.parametrize("padding", [0, 300_000])
async def test_a_request_beyond_a_limit_is_refused(  # noqa: PLR0917 - One case.
    small_edge: Any,
    core: Any,
    body: Any,
    status: int,
    param: str | None,
    setting: str,
    padding: int,
) -> None:
    """The refusal names the field and the setting, and nothing reaches a provider."""
    async with small_edge.client() as client:
        answer = await client.post(URL, content=json.dumps(body).encode() + b" " * padding)
    error = answer.json()["error"]

    assert (answer.status_code, error["param"]) == (status, param)
    assert setting in error["message"]
    assert core.asked("create") == []


@pytest.mark.parametrize("path", ["/v1/containers", "/v1/evaluators", "/v1/datasets"])
async def test_management_requests_have_the_same_limits(
    small_edge: Any, core: Any, path: str
) -> None:
    """Whatever reads JSON reads so much of it."""
    del core
    async with small_edge.client() as client:
        many = await client.post(path, json={"x": [1] * 200})
        deep = await client.post(path, json={"x": nested(20)})

    assert many.status_code == 413
    assert (deep.status_code, deep.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_large_request_reaches_the_core_whole(client: httpx.AsyncClient, core: Any) -> None:
    """What is read in a thread is the same request, as a stream too."""
    content = "é" * 400_000
    body = request(messages=[{"role": "user", "content": content}], temperature=0.5)
    whole = await client.post(URL, json=body)
    stream = await client.post(
        URL, json={**body, "stream": True, "stream_options": {"include_usage": True}}
    )

    assert whole.status_code == 200
    assert b'"usage":{' in stream.content
    assert stream.content.endswith(b"data: [DONE]\n\n")
    for asked in (*core.asked("create"), *core.asked("stream")):
        assert asked.params.messages[0].text == content
        assert asked.params.temperature == 0.5


async def test_connections_from_one_address_are_bounded(start_edge: Any, core: Any) -> None:
    """One too many is told so in the envelope; once another has gone there is room again."""
    async with start_edge(core.target, max_connections_per_address=2) as edge:
        async with edge.connection(), edge.connection() as (held, _):
            async with edge.connection(head("GET", "/healthz")) as (reader, _):
                refused = await reader.read()
            del held
        async with asyncio.timeout(30):
            while True:
                async with edge.connection(head("GET", "/healthz", "connection: close")) as (r, _):
                    if (await r.read()).startswith(b"HTTP/1.1 200 "):
                        break

    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b'"code":"too_many_connections"' in refused
    assert b"retry-after: 1\r\n" in refused


async def test_connections_in_all_are_bounded_also_from_proxies(start_edge: Any, core: Any) -> None:
    """A trusted proxy has no limit of its own but that of all connections."""
    settings = {
        "max_connections": 3,
        "max_connections_per_address": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    async with (
        start_edge(core.target, **settings) as edge,
        edge.connection(),
        edge.connection(),
        edge.connection(head("GET", "/healthz")) as (reader, _),
    ):
        third = await reader.readuntil(b"\r\n\r\n")
        async with edge.connection() as (fourth, _):
            refused = await fourth.read()

    assert third.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 429 ")


_SCRIPT = """
import sys
from maniac_edge import __main__
from maniac_edge.requests import bodies
bodies._UNASKED_S = 0.2
sys.exit(__main__.main())
"""
IMPATIENT = ("-c", _SCRIPT)
