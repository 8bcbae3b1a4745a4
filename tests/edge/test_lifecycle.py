"""The process: start, configuration, a core that comes and goes, signals, logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def test_it_is_ready_within_a_second_without_a_core(start_edge: Any, tmp_path: Path) -> None:
    """An edge listens soon after its start, and says that it cannot serve yet."""
    async with start_edge(f"unix:{tmp_path}/none.sock") as edge, edge.client() as client:
        live = await client.get("/healthz")
        took_s = cpu_s(edge.process.pid)
        ready = await client.get("/readyz")

    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert ready.status_code == 503
    assert ready.json()["error"]["code"] == "dependency_unavailable"
    # Of its own time, whoever else uses the machine; a start with nothing cached takes longer.
    assert took_s < 3


def cpu_s(pid: int) -> float:
    """Return the seconds that a process has had a CPU."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ASKED: list[tuple[str, str, Any]] = [
    ("POST", URL, REQUEST),
    ("POST", URL, {**REQUEST, "stream": True}),
    ("POST", URL, {}),
    ("GET", URL, None),
    ("GET", URL + "/x", None),
    ("GET", "/v1/nothing", None),
]


async def test_a_core_that_is_down_is_a_503_until_it_is_back(
    start_edge: Any, tmp_path: Path, shared_core: Any
) -> None:
    """Without a core every request fails at once with 503, also what the edge would refuse; then it recovers."""
    core = type(shared_core)(f"unix:{tmp_path}/core.sock")
    async with start_edge(core.target) as edge, edge.client() as client:
        for method, path, body in ASKED:
            started = time.perf_counter()
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 503, (method, path)
            assert answer.json()["error"]["code"] == "dependency_unavailable"
            assert answer.headers["retry-after"] == "1"
            assert "x-should-retry" not in answer.headers
            assert "x-ratelimit-limit" not in answer.headers
            assert time.perf_counter() - started < 5
        for _ in range(2):
            await core.start()
            await recovered(client)
            assert (await client.post(URL, json=REQUEST)).status_code == 200
            await core.server.stop(0)
            assert (await client.post(URL, json=REQUEST)).status_code == 503


async def recovered(client: httpx.AsyncClient) -> None:
    """Wait until the edge has found its core again, which takes a second."""
    async with asyncio.timeout(60):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def test_a_core_that_dies_in_mid_stream_is_an_error_frame(
    start_edge: Any, tmp_path: Path, shared_core: Any
) -> None:
    """When the core goes away under a stream the client is told, and does not take it for whole."""
    core = type(shared_core)(f"unix:{tmp_path}/core.sock")

    async def hang(_: Any, __: Any) -> Any:
        yield core.chunk(content="a")
        await asyncio.Event().wait()

    core.on_stream = hang
    await core.start()
    text = ""
    async with (
        start_edge(core.target) as edge,
        edge.client() as client,
        client.stream("POST", URL, json={**REQUEST, "stream": True}) as answer,
    ):
        async for piece in answer.aiter_text():
            text += piece
            await core.server.stop(0)

    frames = text.split("\n\n")
    assert json.loads(frames[1][6:])["error"]["code"] == "dependency_unavailable"
    assert frames[2] == "data: [DONE]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_answers_end(
    start_edge: Any, core: Any, number: signal.Signals
) -> None:
    """After a signal no connection is accepted, running streams come to their end, and the status is 0."""
    go_on = asyncio.Event()

    async def pause(_: Any, __: Any) -> Any:
        yield core.chunk(content="a")
        await go_on.wait()
        yield core.chunk(content="b", finish_reason="stop")

    core.on_stream = pause
    text = ""
    async with start_edge(core.target) as edge, edge.client() as client:
        body = {**REQUEST, "stream": True}
        async with client.stream("POST", URL, json=body) as answer:
            async for piece in answer.aiter_text():
                if not text:
                    edge.process.send_signal(number)
                    await refused(edge)
                    go_on.set()
                text += piece
        status = await asyncio.wait_for(edge.process.wait(), 60)

    assert text.count("data: {") == 2
    assert text.endswith("data: [DONE]\n\n")
    assert status == 0


async def refused(edge: Any) -> None:
    """Wait until the edge accepts no connection any more."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with edge.connection():
                    continue
            except OSError:
                return


async def test_an_edge_that_leaves_says_so_first(start_edge: Any, core: Any) -> None:
    """After a signal it is not ready, but still answers, and asks clients to close; a second signal ends that."""
    async with start_edge(core.target, drain_s=30) as edge, edge.client() as client:
        assert "connection" not in (await client.post(URL, json=REQUEST)).headers
        edge.process.terminate()
        async with asyncio.timeout(60):
            while (ready := await client.get("/readyz")).status_code == 200:
                continue
            while "connection" not in (answer := await client.post(URL, json=REQUEST)).headers:
                continue
        live = await client.get("/healthz")
        edge.process.terminate()
        status = await asyncio.wait_for(edge.process.wait(), 60)

    assert ready.status_code == 503
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert live.status_code == 200
    assert status == -signal.SIGTERM


async def test_an_edge_has_left_after_its_time(start_edge: Any, core: Any) -> None:
    """It stops accepting when the time for leaving is over, and ends with status 0."""
    async with start_edge(core.target, drain_s=0.2) as edge:
        edge.process.terminate()
        await refused(edge)
        assert await asyncio.wait_for(edge.process.wait(), 60) == 0


async def endless(core: Any, started: asyncio.Event, cancelled: asyncio.Event) -> Any:
    """Be a stream that never ends."""
    try:
        yield core.chunk(content="a")
        started.set()
        await asyncio.Event().wait()
    finally:
        cancelled.set()


@pytest.mark.parametrize("second", [True, False], ids=["second signal", "end of the grace"])
async def test_answers_that_do_not_end_are_ended(start_edge: Any, core: Any, second: bool) -> None:
    """A second signal ends the process at once, the end of the grace with status 0; the core's call is cancelled."""
    started, cancelled = asyncio.Event(), asyncio.Event()
    core.on_stream = lambda _, __: endless(core, started, cancelled)
    body = json.dumps({**REQUEST, "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    async with (
        start_edge(core.target, grace_s=30 if second else 1) as edge,
        edge.connection(head % len(body) + body) as (reader, _),
    ):
        await reader.readuntil(b'"a"')
        edge.process.terminate()
        await refused(edge)
        asked = time.perf_counter()
        if second:
            edge.process.terminate()
        rest = await reader.read()
        status = await asyncio.wait_for(edge.process.wait(), 60)
        took_s = time.perf_counter() - asked
        await asyncio.wait_for(cancelled.wait(), 60)

    assert b"[DONE]" not in rest
    assert status == (-signal.SIGTERM if second else 0)
    assert took_s < 20, "far from the grace of 30 seconds"


async def test_logs_hold_one_line_per_request_and_no_secret(start_edge: Any, core: Any) -> None:
    """Each request is one JSON line with its numbers; keys, prompts and queries are in none."""
    secret = {"model": "m", "messages": [{"role": "user", "content": "prompt-text"}]}
    async with start_edge(core.target) as edge:
        async with edge.client(headers={"authorization": "Bearer mk-secret"}) as client:
            await client.post(URL, json=secret, headers={"x-request-id": "log-1"})
            await client.post(
                URL, json={**secret, "stream": True}, headers={"x-request-id": "log-2"}
            )
            await client.get(URL + "?metadata[k]=query-text", headers={"x-request-id": "log-3"})
            await client.post(URL, content=b"prompt-text", headers={"x-request-id": "log-4"})
            await client.get("/v1/a%0Ab", headers={"x-request-id": "log-5"})
        records = [await edge.record(f"log-{i}") for i in range(1, 6)]
        await edge.stop()
        lines = [line for line in edge.lines if "log-" in line]
        text = "\n".join(edge.lines)

    assert len(lines) == 5
    assert [
        (r["method"], r["path"], r["status"], r["streamed"], r.get("error")) for r in records
    ] == [
        ("POST", URL, 200, False, None),
        ("POST", URL, 200, True, None),
        ("GET", URL, 200, False, None),
        ("POST", URL, 400, False, "invalid_json"),
        ("GET", "/v1/a%0Ab", 404, False, "route_not_found"),
    ]
    assert all(r["duration_ms"] > 0 and r["bytes"] > 0 for r in records)
    assert not any(word in text for word in ("mk-secret", "prompt-text", "query-text"))


async def start_with(file: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Start an edge that ought to refuse, and return its status and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "maniac_edge", "--config", str(file), *arguments,
        env={"PATH": "/usr/bin:/bin", **environ}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, errors.decode()


CONFIGS: list[tuple[str, dict[str, str], str]] = [
    ("[edge]\nprot = 1", {}, "prot"),
    ("[egde]\nport = 1", {}, "egde"),
    ("[edge]\nport = 'x'", {}, "port"),
    ("edge = 1", {}, "edge"),
    ("[edge", {}, "not valid TOML"),
    ("", {"MANIAC_EDGE__PORTT": "1"}, "MANIAC_EDGE__PORTT"),
    ("[edge]\ncore = 'nowhere'", {}, "core: 'nowhere' is not HOST:PORT"),
    ("[edge]\ncore = 'a:1,b:2'", {}, "dns:///NAME:PORT"),
    (
        "[edge]\ncore = 'ipv4:10.0.0.1:4141,core:4141'",
        {},
        "'core' is not an IPv4 address; for a host name use dns:///NAME:PORT",
    ),
]


@pytest.mark.parametrize(("text", "environ", "expected"), CONFIGS)
async def test_a_wrong_configuration_is_refused_by_name(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str
) -> None:
    """An edge does not start with a key it does not know or cannot read, and says which."""
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    status, errors = await start_with(file, **environ)

    assert status == 2
    assert expected in errors


async def test_tables_of_others_are_left_alone(tmp_path: Path) -> None:
    """One file serves the core and the edge, each reading its own; arguments win over both sources."""
    from maniac_edge.config import load

    file = tmp_path / "gateway.toml"
    file.write_text("[core]\nanything = 1\n[providers.x]\ny = 1\n[edge]\nport = 1\nhost = '::1'")
    config = load(file, {"MANIAC_EDGE__PORT": "2", "MANIAC_EDGE__STRICT_REQUESTS": "true"}, port=3)

    assert (config.port, config.host, config.strict_requests) == (3, "::1", True)


async def test_a_port_in_use_is_a_failed_start(edge: Any, tmp_path: Path) -> None:
    """An edge that cannot listen ends with a status that says so."""
    file = tmp_path / "gateway.toml"
    file.write_text("")
    status, errors = await start_with(file, "--port", str(edge.address[1]))

    assert status != 0
    assert "address already in use" in errors
