"""Moving an install from SQLite to PostgreSQL: everything arrives, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.budgets import Limit, Owner, Period
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import Attempt, CompletionFilter, CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.history.text_index import TextIndexer
from maniac_core.storage import open_database
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.move import move as move_module
from maniac_core.storage.move.move import Outcome, move
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.sqlite.migrate import migrate
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.text_index import TextIndexStore

RecordFactory = Callable[..., CompletionRecord]
_PERIODS: tuple[Period, ...] = ("day", "month", "total")
_SUMS = (
    *("completion_counts", "facet_counts", "usage_daily", "usage_tags_daily"),
    *("usage_tag_days", "traces"),
)


@asynccontextmanager
async def _opened(config: CoreConfig) -> AsyncIterator[Database]:
    database = open_database(config)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def source(path: Path) -> CoreConfig:
    return CoreConfig(data_dir=path.parent)


@pytest.fixture
def target(empty_postgres_url: str) -> CoreConfig:
    return CoreConfig(database_url=empty_postgres_url)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(move_module, "_BATCH", 40)


async def _move(source: CoreConfig, target: CoreConfig, *, is_running: bool = False) -> Outcome:
    return await move(
        source.database_path,
        target.database_url,
        is_running=lambda: is_running,
        report=lambda *_: None,
    )


@pytest.fixture
async def records(
    source: CoreConfig,
    make_record: RecordFactory,
    make_attempt: Callable[..., Attempt],
    trace: Trace,
) -> list[CompletionRecord]:
    """Return what was captured in the source: over two months, of every kind, beside a key and a container."""
    async with _opened(source) as database:
        await KeyStore(database).create(
            name="k", secret_hash=b"h", prefix="mk-1", project="web", organization="acme"
        )
        row = await KeyStore(database).resolve(b"h")
        assert row is not None
        container = Container(
            key=0,
            id=uuid_id(),
            project_id="",
            organization_id="",
            label="support",
            initial_model="m",
            created=1,
        )
        await ContainerStore(database).add(row.caller.project, container)
        budgets, owner = BudgetStore(database), Owner(organization=row.caller.organization)
        for period in _PERIODS:
            await budgets.set(owner, Limit(nano_usd=10**9, period=period), now_s())
        await budgets.remove(owner, "day")
        records = [
            make_record(
                caller=row.caller,
                created=now_s() - number * 86_400,
                store=number % 5 != 0,
                status="rejected" if number % 7 == 0 else "completed",
                metadata=b'{"n":%d,"even":%d}' % (number, number % 2),
                spend_nano_usd=None if number % 3 == 0 else number,
                trace=trace if number % 2 else None,
                attempts=(make_attempt(), make_attempt(number=1)),
            )
            for number in range(60)
        ]
        records.append(make_record(caller=row.caller, requested_model="nul \0", model="nul \0"))
        await asyncio.gather(*map(database.capture, records))
    return records


async def _state(config: CoreConfig, records: list[CompletionRecord]) -> list[Any]:
    """Return what the stores and the sums say."""
    caller = records[0].caller
    async with _opened(config) as database:
        store = CompletionStore(database)
        listed = await store.list(caller.project, CompletionFilter(), Page(limit=100))
        selections = (
            CompletionFilter(),
            CompletionFilter(metadata=(("even", b"1"),)),
            CompletionFilter(model=records[0].model, metadata=(("n", b"3"),)),
        )
        return [
            listed,
            [await store.count(caller.project, selection) for selection in selections],
            [await store.explain(caller.project, record.id) for record in records],
            await KeyStore(database).list(),
            await ContainerStore(database).list(caller.project, Page()),
            await BudgetStore(database).list(now_s()),
        ]


def _plain(state: list[Any]) -> str:
    """Return a state as text, with U+0000 as PostgreSQL keeps it."""
    return repr(state).replace("\\x00", "\N{REPLACEMENT CHARACTER}")


def _count(config: CoreConfig, table: str) -> int:
    with closing(sqlite3.connect(config.database_path)) as connection:
        (number,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        return int(number)


def _interrupt_after(count: int) -> Callable[[str, float, int], None]:
    reports = itertools.count(1)

    def report(_name: str, _share: float, _rows: int) -> None:
        if next(reports) == count:
            raise KeyboardInterrupt

    return report


async def test_everything_arrives(
    source: CoreConfig, target: CoreConfig, records: list[CompletionRecord]
) -> None:
    """What the stores answer after the move is what they answered before, and both sides are told to be equal."""
    outcome = await _move(source, target)

    assert outcome.is_finished
    assert _plain(await _state(target, records)) == _plain(await _state(source, records))
    rows = {table.name: table.rows for table in outcome.tables}
    assert rows["completions"] == 61
    assert rows["attempts"] == 120
    assert rows == {name: _count(source, name) for name in rows}
    connection = await asyncpg.connect(target.database_url)
    try:
        for name in _SUMS:
            assert await connection.fetchval(f"SELECT COUNT(*) FROM {name}") == rows[name]
    finally:
        await connection.close()


async def test_an_index_of_texts_stays_behind(
    source: CoreConfig, target: CoreConfig, records: list[CompletionRecord]
) -> None:
    """A filled one is not copied and keeps nothing from being moved; the target makes its own where it is asked for."""
    async with _opened(source) as database:
        await TextIndexer(TextIndexStore(database)).catch_up()
        assert await TextIndexStore(database).covered() >= len(records)
    outcome = await _move(source, target)

    assert outcome.is_finished
    assert [table.name for table in outcome.tables if table.name.startswith("text_index")] == []
    async with _opened(target) as database:
        assert await TextIndexStore(database).covered() == 0
    await asyncio.to_thread(migrate_postgres, target.database_url, text_index=True)
    async with _opened(target) as database:
        assert await TextIndexStore(database).covered() >= len(records)


async def test_work_goes_on_after_the_move(
    source: CoreConfig,
    target: CoreConfig,
    records: list[CompletionRecord],
    make_record: RecordFactory,
) -> None:
    """New records and keys are numbered after those that were moved, and counted on top of them."""
    await _move(source, target)
    caller = records[0].caller
    async with _opened(target) as database:
        store = CompletionStore(database)
        before = await store.count(caller.project, CompletionFilter())
        new = make_record(caller=caller, created=now_s() + 1)
        await store.capture(new)
        await KeyStore(database).create(
            name="k2", secret_hash=b"h2", prefix="mk-2", project="app", organization="acme"
        )
        assert await store.count(caller.project, CompletionFilter()) == before + 1
        [first] = await store.list(caller.project, CompletionFilter(), Page(limit=1))
        assert first.id == new.id
        assert len({key.project_id for key in await KeyStore(database).list()}) == 2
        budgets, owner = BudgetStore(database), Owner(organization=caller.organization)
        await budgets.set(owner, Limit(nano_usd=5, period="day"), now_s())
        assert len(await budgets.list(now_s())) == 3


async def test_a_running_gateway_is_copied_and_then_followed(
    source: CoreConfig,
    target: CoreConfig,
    records: list[CompletionRecord],
    make_record: RecordFactory,
) -> None:
    """While it runs the ledger is copied; once it is stopped what came since follows, and what retention took, or a caller deleted, goes."""
    first = await _move(source, target, is_running=True)
    assert not first.is_finished
    assert {table.name: table.rows for table in first.tables}["completions"] == 61
    with pytest.raises(StorageError, match="is being moved"):
        async with _opened(target):
            pass

    later = [make_record(caller=records[0].caller) for _ in range(5)]
    async with _opened(source) as database:
        await asyncio.gather(*map(database.capture, later))
        store = CompletionStore(database)
        for deleted in (records[31], records[32], later[0]):
            assert await store.delete(records[0].caller.project, deleted.id)
    with closing(sqlite3.connect(source.database_path)) as connection:
        connection.execute("UPDATE completions SET content_hash = NULL WHERE seq < 10")
        connection.execute("DELETE FROM completion_bodies WHERE seq < 10")
        connection.commit()

    assert (await _move(source, target)).is_finished
    everything = [*records, *later]
    assert _plain(await _state(target, everything)) == _plain(await _state(source, everything))


async def test_a_move_that_was_cut_off_goes_on(
    source: CoreConfig, target: CoreConfig, records: list[CompletionRecord]
) -> None:
    """Cut off after any batch, the next run copies the rest, and nothing twice."""
    for cut in range(1, 6):
        with pytest.raises(KeyboardInterrupt):
            await move(
                source.database_path,
                target.database_url,
                is_running=lambda: False,
                report=_interrupt_after(cut),
            )
    assert (await _move(source, target)).is_finished
    assert _plain(await _state(target, records)) == _plain(await _state(source, records))


async def test_a_row_that_changes_on_the_way_is_noticed(
    source: CoreConfig, target: CoreConfig, records: list[CompletionRecord]
) -> None:
    """What is read back is compared: a target that stores something else is no move."""
    migrate_postgres(target.database_url)
    connection = await asyncpg.connect(target.database_url)
    try:
        await connection.execute(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.latency_us := NEW.latency_us + 1; RETURN NEW; END $$;"
            "CREATE TRIGGER change BEFORE INSERT ON completions FOR EACH ROW EXECUTE FUNCTION change()"
        )
        with pytest.raises(StorageError, match="completions: rows that were read back differ"):
            await _move(source, target)
        assert await connection.fetchval("SELECT COUNT(*) FROM completions") == 0
    finally:
        await connection.close()
    assert len(records) == _count(source, "completions")


async def test_only_an_empty_target_is_taken_and_only_once(
    source: CoreConfig, target: CoreConfig, records: list[CompletionRecord], tmp_path: Path
) -> None:
    """A target with data of its own, of another install, or of a finished move is left alone."""
    assert records
    other = CoreConfig(data_dir=tmp_path / "other")
    migrate(other.database_path)
    async with _opened(other) as database:
        await KeyStore(database).create(
            name="k", secret_hash=b"x", prefix="mk-x", project="p", organization="o"
        )
    await _move(source, target, is_running=True)
    with pytest.raises(StorageError, match="another install"):
        await _move(other, target)
    await _move(source, target)
    with pytest.raises(StorageError, match="moved into the target already"):
        await _move(source, target)
    connection = await asyncpg.connect(target.database_url)
    await connection.execute("DELETE FROM moves")
    await connection.close()
    with pytest.raises(StorageError, match="holds data already"):
        await _move(source, target)
