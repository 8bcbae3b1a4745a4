"""The writer shares commits, keeps failures apart, and recovers by itself."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.storage.base import ConstraintError, Database, Statement, StorageError
from maniac_core.storage.postgres import connection as postgres_connection
from maniac_core.storage.sqlite import connection as sqlite_connection
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]


@pytest.fixture
async def impatient(
    monkeypatch: pytest.MonkeyPatch, open_database: Callable[[], Database]
) -> AsyncIterator[Database]:
    """Yield a database that waits for another writer hardly at all."""
    monkeypatch.setattr(sqlite_connection, "BUSY_TIMEOUT_S", 0.25)
    monkeypatch.setattr(postgres_connection, "LOCK_TIMEOUT_S", 0.25)
    database = open_database()
    await database.start()
    yield database
    await database.close()


async def test_what_waits_is_committed_together(
    database: Database,
    completions: CompletionStore,
    make_record: RecordFactory,
    plain_sql: PlainSQL,
) -> None:
    """While the first commit is held up the others gather, and all of them need one more."""
    with plain_sql.writing():
        pending = [completions.capture(make_record()) for _ in range(300)]
    await asyncio.gather(*pending)
    assert database.commits <= 2


async def test_captures_and_management_writes_share_a_commit(
    database: Database,
    completions: CompletionStore,
    keys: KeyStore,
    make_record: RecordFactory,
    plain_sql: PlainSQL,
) -> None:
    """A key made under load waits for no turn of its own, or takes one that nobody else waits for."""
    with plain_sql.writing():
        pending = [completions.capture(make_record()) for _ in range(20)]
        key = asyncio.ensure_future(
            keys.create(name="k", secret_hash=b"h", prefix="p", project="a", organization="b")
        )
        await asyncio.sleep(0)
        pending += [completions.capture(make_record()) for _ in range(20)]
    await asyncio.gather(key, *pending)
    assert database.commits <= 3


async def test_one_bad_record_fails_alone(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """A record that cannot be written, for whatever reason, takes none of its batch along."""
    twin = make_record()
    bad = [
        make_record(id=twin.id),
        make_record(usage=Usage(input_tokens=1 << 70)),
        make_record(requested_model="half \ud800 pair"),
        make_record(metadata=b'{"not utf-8": "\xff"}'),
        make_record(latency_us="no number"),
    ]
    good = [make_record() for _ in range(20)]
    batch = [twin, *good[:7], *bad, *good[7:]]
    results = await asyncio.gather(
        *[completions.capture(record) for record in batch], return_exceptions=True
    )
    failed = [record for record, result in zip(batch, results, strict=True) if result is not None]
    assert failed == bad
    errors = [result for result in results if result is not None]
    assert all(isinstance(error, StorageError) for error in errors)
    assert [isinstance(error, ConstraintError) for error in errors] == [True] + [False] * 4
    assert await completions.count(caller.project, CompletionFilter()) == 21


async def test_a_refused_write_fails_alone_and_whole(
    database: Database,
    completions: CompletionStore,
    keys: KeyStore,
    make_record: RecordFactory,
    caller: Caller,
) -> None:
    """A write that breaks a rule leaves nothing, not even its first half; its batch is committed."""
    new: dict[str, Any] = {"name": "k", "prefix": "p", "organization": "org"}
    await keys.create(secret_hash=b"taken", project="first", **new)
    results = await asyncio.gather(
        completions.capture(make_record()),
        keys.create(secret_hash=b"taken", project="second", **new),
        keys.create(secret_hash=b"free", project="third", **new),
        completions.capture(make_record()),
        return_exceptions=True,
    )
    assert isinstance(results[1], ConstraintError)
    assert not any(isinstance(results[index], Exception) for index in (0, 2, 3))
    assert await keys.find_project("second") is None
    assert await keys.find_project("third") is not None
    assert await completions.count(caller.project, CompletionFilter()) == 2
    assert len(await database.fetch_all("list_keys")) == 2


async def test_a_faulty_statement_fails_alone(
    database: Database, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """A write that lacks a parameter is refused, and the captures beside it are kept."""
    results = await asyncio.gather(
        completions.capture(make_record()),
        database.write([Statement("revoke_key", {"key": "k"})]),
        completions.capture(make_record()),
        return_exceptions=True,
    )
    assert [isinstance(result, StorageError) for result in results] == [False, True, False]


async def test_a_locked_database_is_refused_and_recovers(
    impatient: Database, make_record: RecordFactory, caller: Caller, plain_sql: PlainSQL
) -> None:
    """Captures and writes fail while another process holds the lock; reads do not; later all is well."""
    completions, keys = CompletionStore(impatient), KeyStore(impatient)
    await completions.capture(make_record())
    with plain_sql.writing():
        with pytest.raises(StorageError, match="locked"):
            await completions.capture(make_record())
        with pytest.raises(StorageError, match="locked"):
            await keys.revoke("k", 1)
        assert await completions.count(caller.project, CompletionFilter()) == 1
    await completions.capture(make_record())
    assert await completions.count(caller.project, CompletionFilter()) == 2


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_full_disk_is_refused_and_recovers(
    completions: CompletionStore,
    make_record: RecordFactory,
    caller: Caller,
    path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is acknowledged that did not fit, it is logged once, and capture goes on once there is room."""
    await completions.capture(make_record())
    log_bytes = path.with_name(f"{path.name}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_bytes, hard))
    try:
        for _ in range(3):
            with pytest.raises(StorageError):
                await completions.capture(make_record())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [record.getMessage() for record in caplog.records] == [
        "storage: nothing can be committed"
    ]
    await completions.capture(make_record())
    assert await completions.count(caller.project, CompletionFilter()) == 2
    assert len(await completions.list(caller.project, CompletionFilter(), Page())) == 2


async def test_a_waiter_that_goes_away_changes_nothing(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller, plain_sql: PlainSQL
) -> None:
    """A record is committed though nobody waits for it any more, and its batch is told."""
    with plain_sql.writing():
        gone = completions.capture(make_record())
        other = completions.capture(make_record())
        gone.cancel()
    await other
    assert await completions.count(caller.project, CompletionFilter()) == 2


async def test_closing_finishes_what_waits(
    database: Database,
    completions: CompletionStore,
    make_record: RecordFactory,
    open_database: Callable[[], Database],
    caller: Caller,
) -> None:
    """Everything queued before the close is committed and acknowledged; what comes later is refused."""
    pending = [completions.capture(make_record()) for _ in range(50)]
    await database.close()
    await asyncio.gather(*pending)
    with pytest.raises(StorageError):
        await completions.capture(make_record())
    with pytest.raises(StorageError):
        await completions.count(caller.project, CompletionFilter())
    with pytest.raises(StorageError):
        await database.write([Statement("revoke_key", {"key": "k", "now": 1})])
    again = open_database()
    await again.start()
    assert await CompletionStore(again).count(caller.project, CompletionFilter()) == 50
    await again.close()


async def test_two_processes_write_the_same_file(
    completions: CompletionStore,
    open_database: Callable[[], Database],
    make_record: RecordFactory,
    caller: Caller,
) -> None:
    """Two writers interleave without losing or mixing up a record."""
    second = open_database()
    await second.start()
    stores: list[Any] = [completions, CompletionStore(second)]
    other = msgspec.structs.replace(caller, project=caller.project + 1)
    callers = [caller, other]
    try:
        for _ in range(10):
            await asyncio.gather(
                *[
                    stores[side].capture(make_record(caller=callers[side]))
                    for side in (0, 1)
                    for _ in range(5)
                ]
            )
    finally:
        await second.close()
    for who in callers:
        assert await completions.count(who.project, CompletionFilter()) == 50
        page = Page(limit=100)
        assert len(await completions.list(who.project, CompletionFilter(), page)) == 50
