"""Fixtures: a scripted core on a real gRPC socket, and real edge processes in front of it."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from maniac_gateway.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    errors_pb2,
    keys_pb2,
    keys_pb2_grpc,
    relay_pb2,
    relay_pb2_grpc,
)
from relayed import answer_of, events_of, params_of

RATE = (
    ("x-ratelimit-limit", "600"),
    ("x-ratelimit-remaining", "599"),
    ("x-ratelimit-reset", "1900000000"),
)
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one event loop, which the scripted core lives in."""
    for item in items:
        is_async = inspect.iscoroutinefunction(getattr(item, "function", None))
        if is_async and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def usage() -> chat_pb2.Usage:
    """Return some usage."""
    return chat_pb2.Usage(
        prompt_tokens=5, completion_tokens=7, total_tokens=12, cached_tokens=3, reasoning_tokens=2
    )


def completion(**fields: Any) -> chat_pb2.ChatCompletion:
    """Return a whole answer."""
    message = chat_pb2.ChatMessage(role="assistant", text="Hello.")
    plain: dict[str, Any] = {
        "id": "chatcmpl-1",
        "create_time": Timestamp(seconds=1_800_000_000, nanos=5),
        "model": "openai/gpt-4o",
        "provider": "openai",
        "choices": [chat_pb2.Choice(index=0, message=message, finish_reason="stop")],
        "usage": usage(),
    }
    return chat_pb2.ChatCompletion(**{**plain, **fields})


def chunk(**delta: Any) -> chat_pb2.StreamChatCompletionResponse:
    """Return a step of a stream."""
    return chat_pb2.StreamChatCompletionResponse(
        chunk=chat_pb2.ChatCompletionChunk(
            id="chatcmpl-1",
            create_time=Timestamp(seconds=1_800_000_000),
            model="openai/gpt-4o",
            provider="openai",
            container="support",
            choices=[chat_pb2.ChoiceDelta(index=0, **delta)],
        )
    )


def usage_chunk() -> chat_pb2.StreamChatCompletionResponse:
    """Return the last step of a stream with usage."""
    response = chunk()
    del response.chunk.choices[:]
    response.chunk.usage.CopyFrom(usage())
    return response


def stored(completion_id: str, **fields: Any) -> chat_pb2.StoredChatCompletion:
    """Return a captured completion."""
    plain: dict[str, Any] = {
        "completion": completion(id=completion_id),
        "model_id": "0b0e8b1e-0000-4000-8000-000000000000",
        "spend_nano_usd": 1_500_000,
        "tags": ["a"],
        "metadata_json": b'{"big":12345678901234567}',
        "trace": chat_pb2.TraceContext(id="t", span_id="s"),
        "status": chat_pb2.COMPLETION_STATUS_COMPLETED,
        "usage_source": chat_pb2.USAGE_SOURCE_PROVIDER,
        "time_to_first_token_us": 250_000,
        "latency_us": 1_000_500,
    }
    return chat_pb2.StoredChatCompletion(**{**plain, **fields})


async def fail(
    context: Context,
    reason: str,
    message: str = "It failed.",
    *,
    metadata: dict[str, str] | None = None,
    violations: list[tuple[str, str, str]] | None = None,
    retry_after_s: float | None = None,
    trailing: tuple[tuple[str, str], ...] = RATE,
) -> None:
    """End a call with a reason of the error table."""
    number = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    options = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number[number].GetOptions()
    code = options.Extensions[errors_pb2.error_mapping].grpc_code
    status = status_pb2.Status(code=code, message=message)
    info = error_details_pb2.ErrorInfo(
        reason=reason, domain="maniac_gateway", metadata=metadata or {}
    )
    status.details.add().Pack(info)
    if violations:
        bad = error_details_pb2.BadRequest()
        for field, description, kind in violations:
            bad.field_violations.add(field=field, description=description, reason=kind)
        status.details.add().Pack(bad)
    if retry_after_s is not None:
        delay = Duration(seconds=int(retry_after_s), nanos=int(retry_after_s % 1 * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    code_of = {value.value[0]: value for value in grpc.StatusCode}
    details = ("grpc-status-details-bin", status.SerializeToString())
    await context.abort(code_of[code], message, (*trailing, details))


class ScriptedCore(
    chat_pb2_grpc.ChatServiceServicer,
    keys_pb2_grpc.AccessServiceServicer,
    relay_pb2_grpc.RelayServiceServicer,
):
    """A core that answers by script, and remembers what it was asked. Scripts speak the typed contract."""

    # For tests, which cannot import this module.
    completion = staticmethod(completion)
    chunk = staticmethod(chunk)
    stored_completion = staticmethod(stored)
    fail = staticmethod(fail)

    def __init__(self, target: str) -> None:
        self.target = target
        self.reset()

    def reset(self) -> None:
        """Go back to plain answers."""
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.on_create: Handler = self.answer
        self.on_stream: Callable[[Any, Context], AsyncGenerator[Any, None]] = self.chunks
        self.on_get: Handler = self.stored
        self.on_list: Handler = self.page
        self.on_access: Handler = self.admit

    def asked(self, method: str) -> list[Any]:
        """Return the requests of one method."""
        return [request for name, request, _ in self.calls if name == method]

    async def start(self, relay: relay_pb2_grpc.RelayServiceServicer | None = None) -> None:
        """Listen; without `relay` each request comes by an RPC of its own."""
        # As the core does: an edge asks every ten seconds whether its core is there, and a server that is not prepared
        # for it breaks the connection.
        self.server = grpc.aio.server(
            options=[
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ]
        )
        relay_pb2_grpc.add_RelayServiceServicer_to_server(relay or self, self.server)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(self, self.server)
        keys_pb2_grpc.add_AccessServiceServicer_to_server(self, self.server)
        self.health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(  # type: ignore[no-untyped-call]
            self.health, self.server
        )
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.server.add_insecure_port(self.target)
        await self.server.start()

    def _note(self, method: str, request: Any, context: Context) -> None:
        self.calls.append((method, request, dict(context.invocation_metadata() or ())))

    async def Relay(  # noqa: N802, D102
        self, _messages: Any, context: Context
    ) -> AsyncGenerator[relay_pb2.RelayResponse, None]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "There is no relay.")
        yield relay_pb2.RelayResponse()

    async def Call(  # noqa: N802, D102
        self, request: relay_pb2.CallRequest, context: Context
    ) -> AsyncGenerator[relay_pb2.CallResponse, None]:
        params = params_of(request.start)
        frame = relay_pb2.RelayResponseFrame
        if not request.start.stream:
            asked = chat_pb2.CreateChatCompletionRequest(params=params)
            self._note("create", asked, context)
            answer = answer_of((await self.on_create(asked, context)).completion)
            yield relay_pb2.CallResponse(frame=frame(answer=answer))
            return
        streamed = chat_pb2.StreamChatCompletionRequest(params=params)
        self._note("stream", streamed, context)
        async for response in self.on_stream(streamed, context):
            events = events_of(response.chunk, include_usage=params.include_usage)
            yield relay_pb2.CallResponse(frame=frame(events=events))

    async def GetChatCompletion(self, request: Any, context: Context) -> Any:  # noqa: N802, D102
        self._note("get", request, context)
        return await self.on_get(request, context)

    async def ListChatCompletions(self, request: Any, context: Context) -> Any:  # noqa: N802, D102
        self._note("list", request, context)
        return await self.on_list(request, context)

    async def CheckAccess(self, request: Any, context: Context) -> Any:  # noqa: N802, D102
        self._note("access", request, context)
        return await self.on_access(request, context)

    async def answer(self, _request: Any, context: Context) -> Any:
        """Answer `Hello.`."""
        await context.send_initial_metadata(RATE)
        return chat_pb2.CreateChatCompletionResponse(completion=completion())

    async def chunks(self, request: Any, context: Context) -> AsyncGenerator[Any, None]:
        """Stream `Hello.` in three deltas, and usage if asked."""
        await context.send_initial_metadata(RATE)
        yield chunk(role="assistant", content="")
        yield chunk(content="Hello")
        yield chunk(content=".", finish_reason="stop")
        if request.params.include_usage:
            yield usage_chunk()

    async def stored(self, request: Any, context: Context) -> Any:
        """Return a record of the id asked for."""
        await context.send_initial_metadata(RATE)
        return chat_pb2.GetChatCompletionResponse(completion=stored(request.id))

    async def page(self, _request: Any, context: Context) -> Any:
        """Return a page of one record."""
        await context.send_initial_metadata(RATE)
        return chat_pb2.ListChatCompletionsResponse(
            completions=[stored("chatcmpl-1")], total_size=7
        )

    async def admit(self, _request: Any, context: Context) -> Any:
        """Let everyone pass."""
        await context.send_initial_metadata(RATE)
        return keys_pb2.CheckAccessResponse(project_id="p")


class EdgeProcess:
    """A running edge."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())
        self.url = ""

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._changed:
                self.lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        async with self._changed:
            self.lines.append("")  # Wakes whoever waits for a line that will not come.
            self._changed.notify_all()

    async def line(self, pattern: str, start: int = 0) -> re.Match[str]:
        """Wait for a line of the log."""
        async with asyncio.timeout(60), self._changed:
            while True:
                for line in self.lines[start:]:
                    if match := re.search(pattern, line):
                        return match
                assert self.lines[-1:] != [""], f"the edge ended:\n{self.lines}"
                await self._changed.wait()

    async def record(self, request_id: str) -> dict[str, Any]:
        """Wait for the log record of a request."""
        match = await self.line(f".*{re.escape(request_id)}.*")
        record: dict[str, Any] = json.loads(match.group())
        return record

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client with a key."""
        options.setdefault("headers", {"authorization": "Bearer mk-test"})
        return httpx.AsyncClient(base_url=self.url, timeout=20, **options)

    @asynccontextmanager
    async def connection(
        self, data: bytes = b"", limit: int = 2**20
    ) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
        """Open a socket and send something."""
        reader, writer = await asyncio.open_connection(*self.address, limit=limit)
        try:
            writer.write(data)
            await writer.drain()
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    async def stop(self) -> int:
        """End the process and return its status."""
        if self.process.returncode is None:
            self.process.terminate()
        status = await self.process.wait()
        await self._reader
        return status


@asynccontextmanager
async def run_edge(
    core: str, *, python: tuple[str, ...] = ("-m", "maniac_edge"), **settings: object
) -> AsyncGenerator[EdgeProcess, None]:
    """Run an edge on a free port."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "MANIAC_EDGE__LOG_FORMAT": "json",
        **{f"MANIAC_EDGE__{key.upper()}": str(value) for key, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *python, "--port", "0", "--core", core,
        env=environ, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    edge = EdgeProcess(process)
    try:
        edge.url = (await edge.line(r"listening on (http://[^\"]+)")).group(1)
        yield edge
    finally:
        if process.returncode is None:
            process.kill()
        await edge.stop()


@pytest.fixture(scope="session")
def start_edge() -> Callable[..., Any]:
    """Return a context manager that runs an edge with settings of its own."""
    return run_edge


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_core(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[ScriptedCore, None]:
    """One core for all tests."""
    core = ScriptedCore(  # type: ignore[abstract]
        f"unix:{tmp_path_factory.mktemp('core')}/core.sock"
    )
    await core.start()
    yield core
    await core.server.stop(0)


@pytest.fixture
def core(shared_core: ScriptedCore) -> ScriptedCore:
    """The core, with plain answers."""
    shared_core.reset()
    return shared_core


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def edge(shared_core: ScriptedCore) -> AsyncGenerator[EdgeProcess, None]:
    """An edge with default settings."""
    async with run_edge(shared_core.target) as process:
        yield process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tight_edge(shared_core: ScriptedCore) -> AsyncGenerator[EdgeProcess, None]:
    """An edge with a small body limit, strict requests and early keep-alive comments."""
    settings: dict[str, Any] = {
        "max_body_bytes": 2000,
        "strict_requests": "true",
        "keep_alive_comment_s": 0.05,
    }
    async with run_edge(shared_core.target, **settings) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def client(edge: EdgeProcess, core: ScriptedCore) -> AsyncGenerator[httpx.AsyncClient, None]:
    """An HTTP client of the default edge, whose core has plain answers."""
    del core
    async with edge.client() as http:
        yield http
