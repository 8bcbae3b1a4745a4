"""The index of texts finds what a scan finds, follows what comes and what goes, and can be had and dropped."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import Condition, Dataset, Operand
from maniac_core.domain.ids import uuid_id
from maniac_core.services.history.text_index import TextIndexer
from maniac_core.storage import open_database
from maniac_core.storage.base import NO_PARAMS, Database, Params, Row, StorageError
from maniac_core.storage.engines import drop_text_index, migrate_database
from maniac_core.storage.postgres.text_index import make_text_index
from maniac_core.storage.stores import datasets as dataset_store
from maniac_core.storage.stores import text_index as text_index_store
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.keys import KeyStore
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
