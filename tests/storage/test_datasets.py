"""Taking, reading and deleting datasets, and what retention leaves of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import Condition, Dataset, Operand
from maniac_core.domain.ids import uuid_id
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, Statement, StorageError
from maniac_core.storage.stores import datasets as module
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.retention import RetentionStore

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
Fill = Callable[..., Awaitable[None]]


@pytest.fixture
async def tenant(database: Database, keys: KeyStore) -> tuple[Caller, Container]:
    """A project with a container."""
    await keys.create(
        name="k", secret_hash=b"h", prefix="mk-", project="default", organization="default"
    )
    row = await keys.resolve(b"h")
    assert row is not None
    store = ContainerStore(database)
    wanted = Container(
        key=0,
        id=uuid_id(),
        project_id="",
        organization_id="",
        label="support",
        initial_model="m",
        created=1,
    )
    await store.add(row.caller.project, wanted)
    made = await store.find_by_label(row.caller.project, "support")
    assert made is not None
    return row.caller, made


@pytest.fixture
def fill(
    completions: CompletionStore, make_record: RecordFactory, tenant: tuple[Caller, Container]
) -> Fill:
    """Return a function that captures records `c{n}` of the container at second n."""
    caller, container = tenant

    async def run(*numbers: int, **changes: Any) -> None:
        for number in numbers:
            fields = {
                "id": f"c{number}",
                "created": number,
                "caller": caller,
                "container": container.key,
                "input": b'{"messages":[{"role":"user","content":"%d"}]}' % number,
            }
            await completions.capture(make_record(**{**fields, **changes}))

    return run


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few records take several windows, transactions and batches."""
    monkeypatch.setattr(module, "_WINDOW", 3)
    monkeypatch.setattr(module, "_WINDOW_WITH_BODIES", 2)
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "_SIZES", 3)
    monkeypatch.setattr(module, "_BATCH_BYTES", 200)


class Tenant:
    """Datasets of the project and container."""

    def __init__(self, database: Database, tenant: tuple[Caller, Container]) -> None:
        self.store = DatasetStore(database)
        self.project = tenant[0].project
        self.container = tenant[1].key

    async def take(self, size: int, *conditions: Condition) -> Dataset:
        """Take a dataset."""
        wanted = Dataset(id=uuid_id(), name="d", container="", requested_size=size, created=size)
        await self.store.create(self.project, self.container, wanted, conditions)
        made = await self.store.get(self.project, wanted.id)
        assert made is not None
        return made

    async def ids(self, dataset: Dataset) -> list[str]:
        """Return the completions of a dataset."""
        return [item.completion.id async for batch in self.store.items(dataset) for item in batch]

    async def visible(self) -> tuple[int, int]:
        """Return how many datasets are listed, and counted."""
        listed = await self.store.list(self.project, None, Page())
        return len(listed), await self.store.count(self.project, None)


@pytest.fixture
def datasets(database: Database, tenant: tuple[Caller, Container]) -> Tenant:
    return Tenant(database, tenant)


class Interfering:
    """A database in which something happens right before a statement."""

    def __init__(
        self, database: Database, name: str, count: int, act: Callable[[], Awaitable[None]]
    ) -> None:
        self._database = database
        self._name = name
        self._count = count
        self._act = act

    async def _note(self, name: str) -> None:
        if name == self._name:
            self._count -= 1
            if self._count == 0:
                await self._act()

    def text_condition(self, _: object) -> None:
        """There is no index of texts."""

    async def fetch_all(self, name: str, params: Mapping[str, Any]) -> Any:
        """Read."""
        await self._note(name)
        return await self._database.fetch_all(name, params)

    async def fetch_one(self, name: str, params: Mapping[str, Any] | None = None) -> Any:
        """Read the first row."""
        await self._note(name)
        return await self._database.fetch_one(name, params or {})

    async def write(self, statements: Sequence[Statement]) -> Any:
        """Execute."""
        for statement in statements:
            await self._note(statement.name)
        return await self._database.write(statements)


def contains(text: str) -> Condition:
    return Condition(key="input.text", operator="contains", operands=(Operand("text", text),))


async def test_the_newest_are_taken_in_order(datasets: Tenant, fill: Fill) -> None:
    """At most as many as asked for, the newest first, across windows and transactions."""
    await fill(3, 1, 2, 5, 4, 6, 7)
    part = await datasets.take(5)
    whole = await datasets.take(100)

    assert (part.size, part.requested_size) == (5, 5)
    assert await datasets.ids(part) == ["c7", "c6", "c5", "c4", "c3"]
    assert (whole.size, whole.requested_size) == (7, 100)
    assert await datasets.ids(whole) == [f"c{n}" for n in range(7, 0, -1)]


async def test_only_content_of_the_container_is_taken(
    datasets: Tenant, fill: Fill, tenant: tuple[Caller, Container]
) -> None:
    """Neither what was not stored, nor what was refused, nor what is elsewhere; what has no answer is taken."""
    await fill(1)
    await fill(2, store=False)
    await fill(3, status="rejected")
    await fill(4, container=None)
    await fill(5, container=tenant[1].key + 1)
    await fill(6, status="failed", output=None)

    assert await datasets.ids(await datasets.take(10)) == ["c6", "c1"]


async def test_the_hash_is_that_of_the_content(
    datasets: Tenant, fill: Fill, read_table: ReadTable
) -> None:
    """The same filters on the same completions give the same hash, over the items' own in order."""
    await fill(1, 2, 3, 4, 5)
    first, second = await datasets.take(4), await datasets.take(4)
    filtered = await datasets.take(4, contains("3"))
    nothing = await datasets.take(4, contains("no such"))
    rows = read_table("SELECT content_hash FROM completions ORDER BY created DESC")
    expected = hashlib.sha256(b"".join(bytes(row["content_hash"]) for row in rows[:4])).digest()

    assert first.id != second.id
    assert bytes(first.content_hash) == bytes(second.content_hash) == expected
    assert filtered.size == 1
    assert filtered.content_hash != first.content_hash
    assert (nothing.size, bytes(nothing.content_hash)) == (0, hashlib.sha256().digest())
    assert await datasets.ids(nothing) == []


async def test_a_dataset_keeps_what_it_has(datasets: Tenant, fill: Fill) -> None:
    """Captures that follow change nothing of it."""
    await fill(1, 2)
    made = await datasets.take(10)
    await fill(3)

    assert await datasets.store.get(datasets.project, made.id) == made
    assert await datasets.ids(made) == ["c2", "c1"]


async def test_captures_meanwhile_are_not_taken(
    database: Database, datasets: Tenant, fill: Fill
) -> None:
    """A snapshot is of one moment: a request that began earlier, and ended during it, is not in it."""
    await fill(10, 11, 12, 13, 14)

    async def capture_late() -> None:
        await fill(5)

    datasets.store = DatasetStore(Interfering(database, "find_window_end", 2, capture_late))  # type: ignore[arg-type]
    made = await datasets.take(10)

    assert await datasets.ids(made) == ["c14", "c13", "c12", "c11", "c10"]


@pytest.fixture(params=["match_completions", "add_dataset_items", "complete_dataset"])
def failing(request: pytest.FixtureRequest, database: Database) -> DatasetStore:
    """A store whose statement of that name fails."""

    async def fail() -> None:
        raise StorageError("gone")

    return DatasetStore(Interfering(database, str(request.param), 1, fail))  # type: ignore[arg-type]


async def test_a_half_taken_dataset_is_never_seen(
    failing: DatasetStore,
    datasets: Tenant,
    fill: Fill,
    read_table: ReadTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever stops it, nothing is listed or found; its leftovers go once nobody can be working on them."""
    await fill(1, 2, 3, 4, 5)
    wanted = Dataset(id=uuid_id(), name="d", container="", requested_size=5)
    with pytest.raises(StorageError):
        await failing.create(datasets.project, datasets.container, wanted, [])

    assert await datasets.visible() == (0, 0)
    assert await datasets.store.get(datasets.project, wanted.id) is None
    await datasets.store.clean_up()
    assert len(read_table("SELECT * FROM datasets")) == 1
    monkeypatch.setattr(module, "now_s", lambda: 1 << 40)
    await datasets.store.clean_up()
    assert read_table("SELECT * FROM datasets") == []
    assert read_table("SELECT * FROM dataset_items") == []


async def test_a_cancelled_caller_leaves_nothing_to_see(
    database: Database, datasets: Tenant, fill: Fill
) -> None:
    """A call that is cancelled in the middle makes no dataset."""
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    await fill(1, 2, 3, 4, 5)
    store = DatasetStore(Interfering(database, "add_dataset_items", 2, hang))  # type: ignore[arg-type]
    wanted = Dataset(id=uuid_id(), name="d", container="", requested_size=5)
    task = asyncio.create_task(store.create(datasets.project, datasets.container, wanted, []))
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await datasets.visible() == (0, 0)


async def test_deleting_one_leaves_the_others(
    datasets: Tenant, fill: Fill, read_table: ReadTable
) -> None:
    """Its items go with it, another project cannot delete it, and a second time there is nothing to delete."""
    await fill(1, 2, 3, 4, 5)
    kept, gone = await datasets.take(5), await datasets.take(5)

    assert not await datasets.store.delete(datasets.project + 1, gone.id)
    assert await datasets.store.delete(datasets.project, gone.id)
    assert not await datasets.store.delete(datasets.project, gone.id)
    assert await datasets.store.get(datasets.project, gone.id) is None
    assert {row["dataset"] for row in read_table("SELECT dataset FROM dataset_items")} == {kept.key}
    assert await datasets.ids(kept) == ["c5", "c4", "c3", "c2", "c1"]


async def test_lists_are_paged_by_container(datasets: Tenant, fill: Fill) -> None:
    """Newest first, from a dataset on, of a container or of all."""
    await fill(1)
    made = [await datasets.take(size) for size in (1, 2, 3)]
    store, project = datasets.store, datasets.project
    after = await store.list(project, datasets.container, Page(after=made[2].id, limit=1))

    assert [one.id for one in await store.list(project, None, Page())] == [
        one.id for one in reversed(made)
    ]
    assert [one.id for one in after] == [made[1].id]
    assert await store.list(project, None, Page(after="no such")) == []
    assert await store.list(project, datasets.container + 1, Page()) == []
    assert await store.count(project, datasets.container) == 3
    assert await store.list(project + 1, None, Page()) == []


async def test_items_come_in_batches_of_bounded_size(datasets: Tenant, fill: Fill) -> None:
    """Small bodies come together, and one that is larger than a batch comes alone."""
    await fill(1, 2)
    await fill(3, input=b'{"messages":[{"role":"user","content":"%s"}]}' % (b"x" * 500))
    await fill(4)
    made = await datasets.take(10)
    batches = [[item.completion.id for item in batch] async for batch in datasets.store.items(made)]

    assert batches == [["c4"], ["c3"], ["c2"], ["c1"]]


async def _expire(retention: RetentionStore, before: int) -> int:
    seqs = await retention.find_expired(before=before, first=1, last=1 << 62)
    return await retention.delete(before=before, seqs=seqs)


async def test_datasets_outlive_the_retention_of_bodies(
    database: Database, datasets: Tenant, fill: Fill, read_table: ReadTable
) -> None:
    """What a dataset took stays whole; the other old content goes, is in no later dataset, and the ledger stays."""
    await fill(1, 2, 3, 4, 5)
    taken = await datasets.take(
        2, Condition(key="created", operator="less_than", operands=(Operand("number", 4),))
    )
    retention = RetentionStore(database)
    deleted = await _expire(retention, before=5)
    left = [
        row["created"]
        for row in read_table("SELECT created FROM completion_bodies ORDER BY created")
    ]
    items = [item async for batch in datasets.store.items(taken) for item in batch]
    later = await datasets.take(10)

    assert deleted == 2
    assert left == [2, 3, 5]
    assert [item.completion.id for item in items] == ["c3", "c2"]
    assert all(item.input and item.completion.output for item in items)
    assert await datasets.ids(later) == ["c5", "c3", "c2"]
    assert len(read_table("SELECT seq FROM completions")) == 5
    for one in (taken, later):
        await datasets.store.delete(datasets.project, one.id)
    assert await _expire(retention, before=5) == 2
    assert [row["created"] for row in read_table("SELECT created FROM completion_bodies")] == [5]


async def test_content_that_goes_meanwhile_is_left_out(
    database: Database, datasets: Tenant, fill: Fill
) -> None:
    """What expires between being found and being taken is not in the dataset, which stays without gaps."""
    await fill(1, 2, 3, 4, 5, 6)

    async def expire() -> None:
        await _expire(RetentionStore(database), before=4)

    datasets.store = DatasetStore(Interfering(database, "add_dataset_items", 1, expire))  # type: ignore[arg-type]
    made = await datasets.take(10)

    assert await datasets.ids(made) == ["c6", "c5", "c4"]
    assert made.size == 3
