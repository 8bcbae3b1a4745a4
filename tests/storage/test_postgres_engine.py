"""What only PostgreSQL can meet: several cores, deltas, its limits of text, and a server that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import pytest
from maniac_common import supervised
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.postgres.database import PostgresDatabase
from maniac_core.storage.postgres.listener import Listener
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.postgres.upkeep import Upkeep
from maniac_core.storage.postgres.writer import Writer
from maniac_core.storage.queries import Queries
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from plain_sql import PostgresSession
from postgres_server import PostgresServer

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]

_SUMS = {
    "usage_daily": "requests",
    "completion_counts": "completions",
    "facet_counts": "completions",
    "usage_tags_daily": "requests",
    "usage_tag_days": "requests",
    "trace_counts": "traces",
}


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
async def server(make_postgres: Callable[[], PostgresServer]) -> PostgresServer:
    made = await asyncio.to_thread(make_postgres)
    migrate_postgres(f"{made.url}/postgres")
    return made


@pytest.fixture
async def private(server: PostgresServer) -> AsyncIterator[PostgresDatabase]:
    """Yield a database on a server of the test's own, not started."""
    opened = PostgresDatabase(f"{server.url}/postgres", pool=5, timeout_s=50)
    yield opened
    await opened.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process may do it; there is no event
            await asyncio.sleep(0.01)


async def test_sums_are_the_same_before_and_after_folding(
    completions: CompletionStore, make_record: RecordFactory, trace: Trace, read_table: ReadTable
) -> None:
    """Readers see what was folded and what is not yet as one; folding leaves no delta behind."""

    def sums() -> dict[str, int]:
        return {
            name: read_table(f"SELECT SUM({column}) AS n FROM {name}")[0]["n"]
            for name, column in _SUMS.items()
        }

    def deltas() -> int:
        return sum(read_table(f"SELECT COUNT(*) AS n FROM {name}_deltas")[0]["n"] for name in _SUMS)

    expected = dict.fromkeys(_SUMS, 0)
    for _ in range(3):
        await asyncio.gather(*[completions.capture(make_record(trace=trace)) for _ in range(7)])
        # Each has two facets, and two tags besides the one that counts it once.
        for name, number in zip(_SUMS, (7, 7, 14, 21, 21, 0), strict=True):
            expected[name] += number
        expected["trace_counts"] = 1
        assert sums() == expected
        await _until(lambda: deltas() == 0)
        assert sums() == expected


async def test_cores_that_add_to_the_same_sums_do_not_disturb_each_other(
    open_database: Callable[[], Database],
    make_record: RecordFactory,
    trace: Trace,
    caller: Caller,
    read_table: ReadTable,
) -> None:
    """Four cores write the same traces and counters at once; every record is there once, in every sum."""
    traces = [msgspec.structs.replace(trace, id=f"t{number}") for number in range(5)]
    cores = [open_database() for _ in range(4)]
    await asyncio.gather(*[core.start() for core in cores])
    try:
        await asyncio.gather(
            *[
                core.capture(make_record(trace=traces[number % 5]))
                for number in range(100)
                for core in cores
            ]
        )
        store = CompletionStore(cores[0])
        assert await store.count(caller.project, CompletionFilter()) == 400
    finally:
        await asyncio.gather(*[core.close() for core in cores])
    assert read_table("SELECT SUM(requests) AS n FROM usage_daily") == [{"n": 400}]
    assert read_table("SELECT SUM(requests) AS n, COUNT(*) AS m FROM traces") == [
        {"n": 400, "m": 5}
    ]
    assert read_table("SELECT COUNT(DISTINCT seq) AS n FROM completions") == [{"n": 400}]


async def test_keys_made_by_several_cores_share_their_project(
    open_database: Callable[[], Database],
) -> None:
    """Writes take turns over all cores, so that what one finds missing another does not make meanwhile."""
    cores = [open_database() for _ in range(3)]
    await asyncio.gather(*[core.start() for core in cores])
    try:
        made = await asyncio.gather(
            *[
                KeyStore(core).create(
                    name="k",
                    secret_hash=b"%d" % number,
                    prefix="p",
                    project="web",
                    organization="acme",
                )
                for number, core in enumerate(cores * 5)
            ]
        )
    finally:
        await asyncio.gather(*[core.close() for core in cores])
    assert len({key.project_id for key in made}) == 1


async def test_text_that_postgres_cannot_hold_is_captured_all_the_same(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """U+0000 is stored and looked up as U+FFFD, and a name that fits into no index is cut off."""
    endless = "".join(map(chr, range(200, 5000)))
    odd = [
        make_record(requested_model="a\0b", model="a\0b", tags=("t\0",), error_message="\0"),
        make_record(model=endless, trace=Trace(id=endless)),
    ]
    good = [make_record() for _ in range(5)]
    await asyncio.gather(*[completions.capture(record) for record in (*good, *odd)])
    selection = CompletionFilter(model="a\0b")
    [stored] = await completions.list(caller.project, selection, Page())
    assert (stored.id, stored.model) == (odd[0].id, "a\N{REPLACEMENT CHARACTER}b")
    assert await completions.count(caller.project, selection) == 1
    cut = await completions.get(caller.project, odd[1].id)
    assert cut is not None
    assert cut.model == endless[: len(cut.model or "")]
    assert await completions.get(caller.project, "no\0such") is None


async def test_an_error_does_not_quote_what_was_to_be_written(
    completions: CompletionStore, make_record: RecordFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A record that cannot be written is refused without its content in the error or in the log."""
    first = make_record(requested_model="XYZZY")
    await completions.capture(first)
    for bad in (
        make_record(id=first.id, requested_model="XYZZY"),
        make_record(requested_model="XYZZY\ud800"),
    ):
        with pytest.raises(StorageError) as caught:
            await completions.capture(bad)
        assert "XYZZY" not in str(caught.value)
        assert caught.value.__cause__ is None
    assert "XYZZY" not in caplog.text


async def test_a_pool_is_never_exceeded(
    config: Any, open_database: Callable[[], Database], plain_sql: PostgresSession
) -> None:
    """However much is read and written at once, a core holds the connections that it was given."""
    database = open_database()
    await database.start()
    try:
        reads = [database.fetch_all("list_keys") for _ in range(100)]
        writes = [database.write([]) for _ in range(100)]
        await asyncio.gather(*reads, *writes)
        [row] = plain_sql.read(
            "SELECT COUNT(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'maniac-gateway'"
        )
        assert 4 <= row["n"] <= config.database_pool
    finally:
        await database.close()


async def test_an_outage_is_told_at_once_and_ends_by_itself(
    private: PostgresDatabase, server: PostgresServer, make_record: RecordFactory, caller: Caller
) -> None:
    """Without the server everything fails promptly; with it again everything works, and caches are told."""
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    private.on_change(told.put_nowait)
    await private.start()
    completions = CompletionStore(private)
    await completions.capture(make_record())

    await asyncio.to_thread(server.stop)
    for _ in range(3):
        started = time.monotonic()
        results = await asyncio.gather(
            *[completions.capture(make_record()) for _ in range(20)],
            completions.count(caller.project, CompletionFilter()),
            private.write([]),
            return_exceptions=True,
        )
        assert all(isinstance(result, StorageError) for result in results)
        assert time.monotonic() - started < 20
    assert told.empty()

    await asyncio.to_thread(server.start)
    assert {"api_keys", "projects", "organizations", "containers"} <= await told.get()
    await completions.capture(make_record())
    assert await completions.count(caller.project, CompletionFilter()) == 2
    await private.write([])


async def test_captures_in_flight_when_the_server_dies_are_kept_or_refused(
    private: PostgresDatabase, server: PostgresServer, make_record: RecordFactory
) -> None:
    """Of what was under way when the server died, all that was acknowledged is there once, with its sums."""
    await private.start()
    records = [make_record() for _ in range(6000)]
    pending = [private.capture(record) for record in records]
    await pending[300]
    await asyncio.to_thread(server.stop)
    results = await asyncio.gather(*pending, return_exceptions=True)
    acknowledged = {
        record.id for record, result in zip(records, results, strict=True) if result is None
    }
    assert 300 < len(acknowledged) < 6000
    await asyncio.to_thread(server.start)

    connection = await asyncpg.connect(f"{server.url}/postgres")
    try:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM completions")]
        assert acknowledged <= set(ids)
        assert len(ids) == len(set(ids))
        for table, column in _SUMS.items():
            if table in ("usage_daily", "completion_counts"):
                assert await connection.fetchval(f"SELECT SUM({column}) FROM {table}") == len(ids)
    finally:
        await connection.close()


async def test_a_mistake_of_the_writer_refuses_its_batch_only(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for that batch learns of it, and the next one is written."""
    answers: list[list[str]] = [[], ["kept"]]

    async def commit(_: asyncpg.Connection, __: list[str]) -> list[str]:
        return answers.pop(0)

    writer: Writer[str, str] = Writer(
        lambda: asyncpg.connect(f"{server.url}/postgres"),
        commit,
        size=lambda _: 1,
        max_size=10,
    )
    await writer.start()
    async with asyncio.timeout(10):
        with pytest.raises(StorageError):
            await writer.put("lost")
        assert await writer.put("next") == "kept"
    await writer.close()
    assert "a batch could not be written" in caplog.text


async def test_a_mistake_of_the_upkeep_is_made_good(
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next round folds, and the log says what happened."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    mistakes = [AttributeError("odd")]
    is_kept = asyncio.Event()

    @contextlib.asynccontextmanager
    async def acquire() -> AsyncIterator[Any]:
        if mistakes:
            raise mistakes.pop()
        connection = await asyncpg.connect(f"{server.url}/postgres")
        try:
            yield connection
        finally:
            await connection.close()
        is_kept.set()

    upkeep = Upkeep(acquire, Queries.load("postgres"))
    upkeep.start()
    async with asyncio.timeout(30):
        await is_kept.wait()
    await upkeep.close()
    assert "upkeep of the database failed" in caplog.text


async def test_a_mistake_of_the_listener_is_made_good(
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It listens again, and tells that it can hear again if it has told that it could not."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    mistakes = [AttributeError("odd"), StorageError("away")]
    made: list[asyncpg.Connection] = []
    told: asyncio.Queue[object] = asyncio.Queue()

    async def connect() -> asyncpg.Connection:
        if made and mistakes:
            raise mistakes.pop()
        made.append(await asyncpg.connect(f"{server.url}/postgres"))
        return made[-1]

    listener = Listener(
        connect, "SELECT 'a' AS name, 1 AS version", told.put_nowait, told.put_nowait
    )
    await listener.start()
    made[0].terminate()
    async with asyncio.timeout(30):
        assert [await told.get() for _ in range(3)] == [False, frozenset({"a"}), True]
    await listener.close()
    assert "listening for changes failed" in caplog.text
