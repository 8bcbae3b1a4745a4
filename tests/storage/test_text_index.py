"""The index of texts finds what a scan finds, follows what comes and what goes, and can be had and dropped."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import Condition, Dataset, Operand
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.services.history.retention import Retention
from maniac_core.services.history.text_index import TextIndexer
from maniac_core.storage import open_database
from maniac_core.storage.base import NO_PARAMS, Database, Params, Row, StorageError
from maniac_core.storage.engines import drop_text_index, migrate_database
from maniac_core.storage.migrations import shipped_migrations
from maniac_core.storage.postgres.connection import numbered
from maniac_core.storage.postgres.partitions import Month, make_partitions
from maniac_core.storage.postgres.text_index import make_text_index
from maniac_core.storage.queries import Queries
from maniac_core.storage.sqlite import migrate as sqlite_migrate
from maniac_core.storage.sqlite.connection import connect
from maniac_core.storage.stores import datasets as dataset_store
from maniac_core.storage.stores import text_index as text_index_store
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.retention import RetentionStore
from maniac_core.storage.stores.text_index import TextIndexStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
Fill = Callable[[], Awaitable[None]]

CONTAINER = Container(
    key=0,
    id="5d1c4f5e-0000-4000-8000-000000000001",
    project_id="",
    organization_id="",
    label="support",
    initial_model="m",
    created=1,
)
PIECES = (
    "Ab",
    "ab",
    "Ä",
    "ß",
    "日本",
    "🦜",
    '"',
    "'",
    "%",
    "_",
    "\\",
    "*",
    " ",
    "\n",
    "NEAR",
    "(",
    "0",
    "a",
)


class Watched:
    """A database that counts what it is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on."""
        return getattr(self._database, name)

    async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
        """Read, and note it."""
        self.asked.append(name)
        return await self._database.fetch_all(name, params)


@pytest.fixture
async def tenant(database: Database, keys: KeyStore) -> tuple[Caller, Container]:
    await keys.create(
        name="k", secret_hash=b"h", prefix="mk-", project="default", organization="default"
    )
    row = await keys.resolve(b"h")
    assert row is not None
    store = ContainerStore(database)
    await store.add(row.caller.project, CONTAINER)
    made = await store.find_by_label(row.caller.project, "support")
    assert made is not None
    return row.caller, made


@pytest.fixture
def fill(database: Database, config: CoreConfig) -> Fill:
    """Return a function that makes the index, and fills it as a core does."""

    async def fill() -> None:
        await asyncio.to_thread(
            migrate_database,
            CoreConfig(data_dir=config.data_dir, database_url=config.database_url, text_index=True),
        )
        if config.database_url == "sqlite":
            await TextIndexer(TextIndexStore(database)).catch_up()

    return fill


@pytest.fixture
def capture(
    completions: CompletionStore, make_record: RecordFactory, tenant: tuple[Caller, Container]
) -> Callable[..., Awaitable[None]]:
    """Return a function that captures a completion with a request and an answer."""
    caller, container = tenant

    async def capture(name: str, asked: str, answered: str = "Yes.", **fields: Any) -> None:
        messages = [{"role": "user", "content": asked}]
        choices = [{"message": {"role": "assistant", "content": answered}}]
        await completions.capture(
            make_record(
                id=name,
                caller=caller,
                container=container.key,
                input=json.dumps({"messages": messages}).encode(),
                output=json.dumps(choices).encode(),
                **fields,
            )
        )

    return capture


def contains(needle: str, key: str = "input.text", operator: str = "contains") -> Condition:
    return Condition(key=key, operator=operator, operands=(Operand("text", needle),))  # type: ignore[arg-type]


async def taken(
    database: Any, tenant: tuple[Caller, Container], *conditions: Condition, size: int = 100
) -> list[str]:
    """Make a dataset and return the ids of its completions, in its order."""
    caller, container = tenant
    store = DatasetStore(database)
    wanted = Dataset(id=uuid_id(), name="d", container="", requested_size=size, filters=())
    await store.create(caller.project, container.key, wanted, conditions)
    made = await store.get(caller.project, wanted.id)
    assert made is not None
    return [item.completion.id async for batch in store.items(made) for item in batch]


async def test_it_finds_what_a_scan_finds(
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
) -> None:
    """Whatever the texts and what is looked for, in the same order, also of what is not indexed yet."""
    chance = random.Random(7)
    for number in range(60):
        texts = ["".join(chance.choices(PIECES, k=chance.randint(1, 30))) for _ in range(2)]
        await capture(f"c{number}", *texts, created=1_700_000_000 + chance.randint(0, 20))
    cases = [
        [
            contains(
                "".join(chance.choices(PIECES, k=chance.randint(1, 5))),
                key=chance.choice(["input.text", "output.text"]),
                operator=chance.choice(["contains", "contains", "contains", "not_contains"]),
            )
            for _ in range(chance.randint(1, 2))
        ]
        for _ in range(80)
    ]
    scanned = [await taken(database, tenant, *case) for case in cases]
    assert sum(map(len, scanned)) > 200
    await fill()
    watched = Watched(database)
    assert [await taken(watched, tenant, *case) for case in cases] == scanned
    assert watched.asked.count("find_text_candidates") > 20
    assert await taken(watched, tenant, *cases[0], size=1) == scanned[0][:1]
    await capture("late", "Something rare comes late.", created=1_600_000_000)
    assert await taken(watched, tenant, contains("rare comes")) == ["late"]


async def test_long_texts_are_found_all_the_same(
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are in no index of SQLite's."""
    monkeypatch.setattr(text_index_store, "LARGEST_BYTES", 1000)
    await capture("long", "word " * 400 + "needle")
    await capture("short", "a needle")
    await fill()
    assert await taken(database, tenant, contains("needle")) == ["short", "long"]


async def test_what_is_deleted_leaves_it(  # noqa: PLR0917 - fixtures
    database: Database,
    completions: CompletionStore,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    config: CoreConfig,
    plain_sql: PlainSQL,
) -> None:
    """With its body, whoever deletes that; and it goes on where it was after a restart."""
    await capture("gone", "secret needle")
    await capture("kept", "another needle")
    await fill()
    assert await completions.delete(tenant[0].project, "gone")
    assert await taken(database, tenant, contains("needle")) == ["kept"]
    if config.database_url == "sqlite":
        texts = [row["text"] for row in plain_sql.read("SELECT text FROM text_index")]
        assert texts == ["another needle\nYes."]
    other = open_database(config)
    await other.start()
    await capture("next", "a third needle")
    if config.database_url == "sqlite":
        await TextIndexer(TextIndexStore(other)).catch_up()
    assert await taken(other, tenant, contains("third needle")) == ["next"]
    await other.close()


async def test_common_texts_are_scanned_for(
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nearly everything is a candidate, the newest that fit are found sooner without the index."""
    monkeypatch.setattr(dataset_store, "_MOST_CANDIDATES", 3)
    for number in range(5):
        await capture(f"c{number}", "the same words", created=1_700_000_000 + number)
    await fill()
    watched = Watched(database)
    assert await taken(watched, tenant, contains("same"), size=2) == ["c4", "c3"]
    assert "match_completions_with_bodies" in watched.asked


async def test_it_can_be_dropped(
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    config: CoreConfig,
) -> None:
    """Then everything is as before there was one; made again, it is whole."""
    await capture("one", "a needle")
    await fill()
    await asyncio.to_thread(drop_text_index, config)
    assert await TextIndexStore(database).covered() == 0
    assert await taken(database, tenant, contains("needle")) == ["one"]
    await fill()
    watched = Watched(database)
    assert await taken(watched, tenant, contains("needle")) == ["one"]
    assert "find_text_candidates" in watched.asked


async def test_dropped_during_a_search_it_is_scanned_for(
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    config: CoreConfig,
) -> None:
    """An index that is no longer whole names no candidates, and the dataset has them all the same."""
    await capture("one", "a needle")
    await fill()

    class Dropping(Watched):
        async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
            if name == "find_text_candidates":
                await asyncio.to_thread(drop_text_index, config)
            return await super().fetch_all(name, params)

    watched = Dropping(database)
    assert await taken(watched, tenant, contains("needle")) == ["one"]
    assert {"find_text_candidates", "match_completions_with_bodies"} <= set(watched.asked)


async def test_what_expires_leaves_it(  # noqa: PLR0917 - fixtures
    database: Database,
    tenant: tuple[Caller, Container],
    capture: Callable[..., Awaitable[None]],
    fill: Fill,
    config: CoreConfig,
    plain_sql: PlainSQL,
) -> None:
    """Row by row, and with a month that goes as a whole; what stays is found by the index."""
    this = Month.of(now_s())
    if config.database_url != "sqlite":
        connection = await asyncpg.connect(config.database_url)
        await make_partitions(connection, this.plus(-3).start, now_s())
        await connection.close()
    for name, created in (
        ("expired", this.plus(-3).start),
        ("recent", this.start),
        ("new", now_s()),
    ):
        await capture(name, f"needle {name}", created=created)
    await fill()
    await Retention(RetentionStore(database), 60).round(now_s())
    watched = Watched(database)
    assert await taken(watched, tenant, contains("needle")) == ["new", "recent"]
    assert "match_completions_with_bodies" not in watched.asked
    if config.database_url == "sqlite":
        texts = [row["text"] for row in plain_sql.read("SELECT text FROM text_index")]
        assert texts == ["needle recent\nYes.", "needle new\nYes."]
    else:
        assert plain_sql.read("SELECT 1 FROM completion_bodies WHERE seq = 1") == []


async def test_the_engine_uses_it(
    config: CoreConfig, fill: Fill, database: Database, plan_of: Callable[..., Any]
) -> None:
    """To find candidates it looks into the index, and into nothing else that grows."""
    await fill()
    condition = database.text_condition([("input.text", "rare needle")])
    plan = await plan_of("find_text_candidates", {"filters": condition, "limit": 10})
    if config.database_url == "sqlite":
        assert any("SCAN t VIRTUAL TABLE INDEX" in step for step in plan), plan
        assert [step for step in plan if "completion" in step] == []
    else:
        assert any("input_text" in step and "Index Cond" in step for step in plan), plan
        assert [step for step in plan if "Seq Scan" in step] == []


@pytest.fixture
def plan_of(config: CoreConfig) -> Callable[..., Awaitable[list[str]]]:
    """Return a function that tells the plan of a statement, step by step."""

    async def plan(name: str, params: Params) -> list[str]:
        if config.database_url == "sqlite":
            sql, bound = Queries.load("sqlite").bind(name, params)
            with closing(sqlite3.connect(config.database_path)) as file:
                return [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}", bound)]
        sql, bound = Queries.load("postgres").bind(name, params)
        numbered_sql, names = numbered(sql)
        server = await asyncpg.connect(config.database_url)
        try:
            # Reading all of nothing would be best.
            await server.execute("SET enable_seqscan = off")
            values = [bound[each] for each in names]
            rows = await server.fetch(f"EXPLAIN {numbered_sql}", *values)
        finally:
            await server.close()
        text = "\n".join(row[0] for row in rows)
        return re.split(r"\n\s*->", text)

    return plan


def _without_fts5(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a file as a Python whose SQLite has no FTS5 would."""
    connection = connect(path, **options)

    def refuse(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_CREATE_VTABLE else sqlite3.SQLITE_OK

    connection.set_authorizer(refuse)
    return connection


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_sqlite_without_fts5_has_no_index(
    config: CoreConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves all the same; to ask for the index is refused in a line, and with FTS5 it is made later on."""
    file = tmp_path / "plain" / config.database_path.name
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_migrate, "connect", _without_fts5)
        assert sqlite_migrate.migrate(file)
        with pytest.raises(StorageError, match="text_index needs SQLite with FTS5") as refused:
            sqlite_migrate.migrate(file, text_index=True)
    assert "\n" not in str(refused.value)
    plain = CoreConfig(data_dir=file.parent)
    drop_text_index(plain)
    database = open_database(plain)
    await database.start()
    try:
        assert await TextIndexStore(database).covered() == 0
        assert migrate_database(CoreConfig(data_dir=file.parent, text_index=True)) == []
        await TextIndexer(TextIndexStore(database)).catch_up()
    finally:
        await database.close()
    with closing(sqlite3.connect(file)) as opened:
        names = opened.execute("SELECT name FROM sqlite_master").fetchall()
    assert {("text_index",), ("completion_bodies_text_index",)} <= set(names)


def test_a_file_from_before_it_has_nothing_to_drop(tmp_path: Path) -> None:
    """Whoever drops it by way of precaution need not migrate first."""
    config = CoreConfig(data_dir=tmp_path)
    sqlite_migrate.migrate(config.database_path, shipped_migrations("sqlite")[:15])
    drop_text_index(config)


def test_texts_are_not_indexed_beside_encrypted_ones(config: CoreConfig) -> None:
    """The index would hold what the keys protect."""
    both = CoreConfig(data_dir=config.data_dir, database_url=config.database_url, text_index=True)
    with pytest.raises(ConfigError, match="an index holds the texts unencrypted"):
        open_database(both, {"MANIAC_BODY_KEY": "x"})


async def test_a_server_without_the_extension_is_named() -> None:
    """The setting and the extension are said."""

    class Refusing:
        async def execute(self, _: str) -> None:
            raise asyncpg.UndefinedFileError("could not open extension control file")

    with pytest.raises(StorageError, match="text_index needs the extension pg_trgm"):
        await make_text_index(Refusing())  # type: ignore[arg-type]
