"""Lists of models over real connections: tolerant of odd entries, and bounded in bytes, items and time."""

from __future__ import annotations

import asyncio
import gzip
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base_url import base_url_hint, shown_url
from maniac_core.providers.discovery import Discovery, DiscoveryError
from maniac_core.providers.listing import DiscoveredModel
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.transport import HttpTransport

Ask = Callable[..., Awaitable[list[DiscoveredModel]]]


class Lister:
    """A server that answers by path, and keeps the requests it saw."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.head = b""
        self.hangs = False
        self.seen: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen.append(head)
        if self.hangs:
            await reader.read()
        path = head.split(" ")[1]
        body = self.bodies.get(path)
        status = b"404 X" if body is None else b"200 OK"
        length = b"%d" % len(body or b"")
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: " + length + b"\r\n")
        writer.write(self.head + b"connection: close\r\n\r\n" + (body or b""))
        writer.close()


@pytest.fixture
async def lister() -> AsyncIterator[Lister]:
    lister = Lister()
    server = await asyncio.start_server(lister.serve, "127.0.0.1", 0)
    lister.port = server.sockets[0].getsockname()[1]
    yield lister
    server.close()


@pytest.fixture
async def ask(lister: Lister) -> AsyncIterator[Ask]:
    """Ask the lister in a dialect: `ask(kind, base path, timeout_s=…)`."""
    transport = HttpTransport(environ={})

    async def call(kind: str, path: str, **options: float) -> list[DiscoveredModel]:
        url = f"http://127.0.0.1:{lister.port}{path}"
        config = msgspec.convert({"kind": kind, "base_url": url}, ProviderConfig)
        return await Discovery("demo", config, DIALECTS[kind], transport, **options).models("key")

    yield call
    await transport.aclose()


async def test_an_odd_field_costs_itself_and_an_odd_entry_no_other(
    lister: Lister, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a field holds instead of what it should, the model is there; the log names the fields once."""
    odd = [b'"text"', b"7", b"[]", b"{}", b"[[1]]", b"true", b'{"input_modalities": "text"}', b"-1"]
    fields = (
        *("name", "owned_by", "created", "context_length", "max_model_len", "architecture"),
        *("top_provider", "supported_parameters", "pricing"),
    )
    entries = [
        b'{"id": "%s-%d", "%s": %s}' % (name.encode(), number, name.encode(), value)
        for name in fields
        for number, value in enumerate(odd)
    ]
    others = [b"7", b"null", b'"x"', b"[]", b"{}", b'{"id": 7}', b'{"id": ""}', b'{"id": "a\\n"}']
    lister.bodies["/v1/models"] = b'{"data": [%s]}' % b",".join([*others, *entries, b'{"id":"z"}'])

    with caplog.at_level(logging.WARNING):
        models = await ask("openai", "/v1")

    assert len(models) == len(fields) * len(odd) + 1
    assert models[-1].name == "z"
    [record] = caplog.records
    assert "architecture" in record.getMessage()
    assert "an entry" in record.getMessage()


@pytest.mark.parametrize(
    ("kind", "path", "listed"),
    [
        ("openai", "/v1", "/v1/models"),
        ("openai", "/deep/v1/?api-version=7", "/deep/v1/models?api-version=7"),
        ("openai-responses", "/deep/v1/?api-version=7", "/deep/v1/models?api-version=7"),
        ("anthropic", "", "/v1/models?limit=1000"),
        ("anthropic", "/v1/", "/v1/models?limit=1000"),
        ("anthropic", "/proxy", "/proxy/v1/models?limit=1000"),
        ("gemini", "", "/v1beta/models?pageSize=1000"),
        ("gemini", "/v1beta", "/v1beta/models?pageSize=1000"),
        ("gemini", "/v1/projects/p/publishers/google", None),
    ],
)
async def test_the_list_is_where_requests_go(
    lister: Lister, ask: Ask, kind: str, path: str, listed: str | None
) -> None:
    """One rule says what a base_url means, with or without its version."""
    listed = listed or f"{path}/models?pageSize=1000"
    entry = b'{"id": "m", "name": "models/m"}'
    lister.bodies[listed] = b'{"data": [%s], "models": [%s]}' % (entry, entry)

    assert [model.name for model in await ask(kind, path)] == ["m"]


async def test_pages_are_followed(lister: Lister, ask: Ask) -> None:
    """Until there is no more, or the provider repeats itself."""
    page = "/v1beta/models?pageSize=1000"
    lister.bodies[page] = b'{"models": [{"name": "models/a"}], "nextPageToken": "x&y"}'
    lister.bodies[f"{page}&pageToken=x%26y"] = (
        b'{"models": [{"name": "models/b", "supportedGenerationMethods": ["generateContent"]},'
        b' {"name": "models/c", "supportedGenerationMethods": ["embed"]}], "nextPageToken": "x&y"}'
    )

    assert [model.name for model in await ask("gemini", "")] == ["a", "b"]
    assert len(lister.seen) == 2


@pytest.mark.parametrize(
    ("piece", "count"),
    [(b" ", 100_000_000), (b"{},", 2_500_000), (b"0,", 3_000_000)],
    ids=["bytes", "entries", "numbers"],
)
async def test_a_list_that_swells_is_refused_in_bounded_memory(
    lister: Lister, ask: Ask, piece: bytes, count: int
) -> None:
    """Bytes count after decompression, and items before they are decoded."""
    lister.bodies["/v1/models"] = gzip.compress(b'{"data": [%s0]}' % (piece * count), 1)
    lister.head = b"content-encoding: gzip\r\n"
    tracemalloc.start()
    try:
        with pytest.raises(DiscoveryError):
            await ask("openai", "/v1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 64 * 1024 * 1024


async def test_a_list_that_does_not_end_is_given_up(ask: Ask, lister: Lister) -> None:
    """One deadline bounds all of it."""
    lister.hangs = True

    with pytest.raises(DiscoveryError):
        await ask("openai", "/v1", timeout_s=0.2)


@pytest.mark.parametrize(
    ("kind", "url", "hint"),
    [
        ("openai", "http://h", "such as /v1"),
        ("openai", "http://h/openai", "such as /v1"),
        ("openai", "http://h/v1", None),
        ("openai", "http://u:p@h/v1/chat/completions/?k=s", "leave out /chat/completions"),
        ("openai-responses", "http://h", "such as /v1"),
        ("openai-responses", "http://h/v1/responses", "leave out /responses"),
        ("anthropic", "http://h", None),
        ("anthropic", "http://h/v1/messages", "leave out /v1/messages"),
        ("gemini", "http://h/v1beta/models/g:generateContent", "leave out /v1beta/models/g"),
        ("gemini", "http://h", None),
    ],
)
def test_what_is_wrong_with_a_base_url_is_said(kind: str, url: str, hint: str | None) -> None:
    """A missing version, and the path of an endpoint."""
    said = base_url_hint(kind, url)

    assert (said is None) if hint is None else (said is not None and hint in said)
    assert "u:p" not in shown_url(url)
    assert "k=s" not in shown_url(url)
