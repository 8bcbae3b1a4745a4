"""A started database per engine, a second one on the same data, and records to put in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from maniac_core import storage
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import Attempt, CompletionRecord
from maniac_core.domain.ids import completion_id, now_s, now_us, request_id
from maniac_core.storage.base import Database
from maniac_core.storage.sqlite.migrate import migrate
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from plain_sql import PlainSQL, PostgresSession, SQLiteSession

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
Open = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return SQLite's file, migrated."""
    file = CoreConfig(data_dir=tmp_path).database_path
    migrate(file)
    return file


@pytest.fixture
def config(engine: str, request: pytest.FixtureRequest) -> CoreConfig:
    """Return a configuration whose database is migrated and has no data."""
    if engine == "sqlite":
        file: Path = request.getfixturevalue("path")
        return CoreConfig(data_dir=file.parent)
    # Several are opened at once, by several runs of the tests, and the server has a hundred connections for all.
    return CoreConfig(database_url=request.getfixturevalue("postgres_url"), database_pool=5)


@pytest.fixture
def open_database(config: CoreConfig) -> Open:
    """Return a function that opens the data once more, as another process would."""
    return lambda: storage.open_database(config)


@pytest.fixture
async def database(open_database: Open) -> AsyncIterator[Database]:
    opened = open_database()
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def plain_sql(config: CoreConfig) -> Iterator[PlainSQL]:
    """Yield a way around the storage layer: what another process might do, and what is really there."""
    session: PlainSQL = (
        SQLiteSession(config.database_path)
        if config.database_url == "sqlite"
        else PostgresSession(config.database_url)
    )
    yield session
    session.close()


@pytest.fixture
def read_table(plain_sql: PlainSQL) -> ReadTable:
    """Return a function that reads with plain SQL: counters and sums have no store of their own here."""
    read: ReadTable = plain_sql.read
    return read


@pytest.fixture
def completions(database: Database) -> CompletionStore:
    return CompletionStore(database)


@pytest.fixture
def keys(database: Database) -> KeyStore:
    return KeyStore(database)


@pytest.fixture
def usage() -> Usage:
    """Return usage in which every count is another number."""
    return Usage(
        input_tokens=11,
        cache_read_tokens=12,
        cache_write_tokens=13,
        cache_write_1h_tokens=14,
        output_tokens=15,
        reasoning_tokens=16,
        input_audio_tokens=3,
        output_audio_tokens=4,
        cost_nano_usd=17,
        service_tier="flex",
    )


@pytest.fixture
def caller() -> Caller:
    return Caller(key=5, project=7, organization=9, project_id="p", organization_id="o")


@pytest.fixture
def make_record(caller: Caller, usage: Usage) -> RecordFactory:
    """Return a function that makes a record in which every field has a value of its own."""

    def make(**changes: Any) -> CompletionRecord:
        fields: dict[str, Any] = {
            "id": completion_id(),
            "caller": caller,
            "created": now_s(),
            "request_id": request_id(),
            "status": "completed",
            "store": True,
            "streamed": True,
            "requested_model": "openai:gpt-4o",
            "model": "openai/gpt-4o",
            "provider": "openai",
            "model_id": "4a1d0c5e-0000-4000-8000-000000000001",
            "container": 21,
            "container_label": "support",
            "finish_reason": "stop",
            "error_reason": None,
            "error_message": None,
            "usage": usage,
            "usage_source": "provider",
            "spend_nano_usd": 1234567890123,
            "time_to_first_token_us": 210_000,
            "latency_us": 950_000,
            "tags": ("a", "ü"),
            "metadata": b'{"user":"u1","n":1}',
            "input": b'{"messages":[{"role":"user","content":"hi"}]}',
            "output": b'[{"index":0,"message":{"role":"assistant","content":"ho"}}]',
            "route": b'{"candidates":["openai/gpt-4o"]}',
            "replay_of": "chatcmpl-first",
        }
        return CompletionRecord(**{**fields, **changes})

    return make


@pytest.fixture
def make_attempt(usage: Usage) -> Callable[..., Attempt]:
    def make(**changes: Any) -> Attempt:
        fields: dict[str, Any] = {
            "number": 0,
            "provider": "openai",
            "model": "gpt-4o",
            "started_us": now_us(),
            "latency_us": 900_000,
            "time_to_first_token_us": 190_000,
            "outcome": "ok",
            "http_status": 200,
            "error_reason": None,
            "error_message": None,
            "usage": usage,
            "spend_nano_usd": 42,
        }
        return Attempt(**{**fields, **changes})

    return make


@pytest.fixture
def trace() -> Trace:
    return Trace(id="trace/ü ?#", span_id="s1", parent_span_id="s0", name="checkout", source="web")
